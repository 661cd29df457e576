//! The signing keys of a server as its auth Secret stores them, and how that is changed.
//!
//! A key is named by its JWK thumbprint (RFC 7638, RFC 8037), a hash of its public half: whoever
//! knows the name knows which key it is.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::keyring::{BadSecret, KEYSET_ENTRY};

/// What a key is made of.
pub type Seed = Zeroizing<[u8; 32]>;

/// The signing keys of a server, in no order. Not `Debug`: they are secrets.
#[derive(Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Keyset {
    keys: Vec<Stored>,
}

#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    kid: String,
    alg: String,
    seed: String,
}

impl Keyset {
    /// Reads the entry of an auth Secret.
    ///
    /// # Errors
    /// If it is none, or a key in it does not have the name that is its own.
    pub fn read(json: &[u8]) -> Result<Self, BadSecret> {
        let malformed = BadSecret::Malformed(KEYSET_ENTRY);
        let keyset: Self = serde_json::from_slice(json).map_err(|_| malformed)?;
        for (kid, seed) in keyset.seeds() {
            let seed = seed.ok_or(malformed)?;
            if self::kid(&public(&seed).ok_or(malformed)?) != kid {
                return Err(malformed);
            }
        }
        Ok(keyset)
    }

    /// Adds the key of a seed, and says its name.
    pub fn add(&mut self, seed: &Seed) -> String {
        // Any 32 bytes are a seed.
        let kid = kid(&public(seed).unwrap_or_default());
        self.keys.push(Stored {
            kid: kid.clone(),
            alg: "EdDSA".into(),
            seed: hex::encode(seed.as_slice()),
        });
        kid
    }

    /// Takes the keys of another in.
    pub fn extend(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
    }

    /// Drops every key but those.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.keys.retain(|key| keep(&key.kid));
    }

    /// The names of the keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.kid)
    }

    /// The keys: names and seeds.
    pub(super) fn seeds(&self) -> impl Iterator<Item = (&str, Option<Seed>)> {
        self.keys.iter().map(|key| (&*key.kid, seed(&key.seed)))
    }

    /// The entry of an auth Secret.
    pub fn to_json(&self) -> Zeroizing<String> {
        // Texts in lists: it can be written.
        Zeroizing::new(serde_json::to_string(self).unwrap_or_default())
    }
}

fn seed(hex: &str) -> Option<Seed> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(hex, bytes.as_mut()).ok()?;
    Some(bytes)
}

fn public(seed: &Seed) -> Option<[u8; 32]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()?;
    pair.public_key().as_ref().try_into().ok()
}

/// The thumbprint of a public key: the hash of its JWK with the members that must be there, in
/// order, without blanks.
pub(super) fn kid(public: &[u8; 32]) -> String {
    let x = B64.encode(public);
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    B64.encode(Sha256::digest(jwk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.
    #[test]
    fn a_key_has_the_name_that_the_standard_gives_it() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let mut keyset = Keyset::default();
        let kid = keyset.add(&self::seed(seed).unwrap());
        assert_eq!(kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(keyset.kids().collect::<Vec<_>>(), [&*kid]);
        let read = Keyset::read(keyset.to_json().as_bytes()).unwrap();
        assert_eq!(*read.to_json(), *keyset.to_json());
    }

    #[test]
    fn a_key_by_another_name_is_none() {
        let mut keyset = Keyset::default();
        let kid = keyset.add(&Zeroizing::new([1; 32]));
        let renamed = keyset.to_json().replace(&kid, &"A".repeat(43));
        assert_eq!(
            Keyset::read(renamed.as_bytes()).err(),
            Some(BadSecret::Malformed("keyset.json"))
        );
        keyset.retain(|other| other != kid);
        assert_eq!(keyset.kids().count(), 0);
    }
}

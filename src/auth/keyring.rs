//! What a server keeps secret: the pepper of its key verifiers and the keys that sign its tokens.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{api_key::Pepper, seal::SealKeys};

/// Entry of the auth Secret that holds the pepper, as 64 hex digits.
pub const PEPPER_ENTRY: &str = "pepper";
/// Entry of the auth Secret that holds the signing keys, as JSON.
pub const KEYSET_ENTRY: &str = "keyset.json";

/// Why an auth Secret is not one. Names the entry, never its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadSecret {
    /// An entry is missing.
    #[error("entry {0:?} is missing")]
    Missing(&'static str),
    /// An entry is there and cannot be read.
    #[error("entry {0:?} is malformed")]
    Malformed(&'static str),
}

/// A key as it is stored. The first of a keyset signs.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKey {
    kid: String,
    alg: String,
    seed: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKeyset {
    keys: Vec<StoredKey>,
}

/// A key that tokens may be signed with.
struct SigningKey {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// What seals statements, and dies with it.
    seals: SealKeys,
}

/// The secrets of one server.
pub struct Keyring {
    pepper: Pepper,
    signing: SigningKey,
    retired: Vec<SigningKey>,
}

impl Keyring {
    /// The entries of a new auth Secret, made of 64 random bytes.
    ///
    /// # Errors
    /// None in practice: any 32 bytes are an Ed25519 seed.
    pub fn fresh_entries(
        random: &[u8; 64],
    ) -> Result<BTreeMap<&'static str, Zeroizing<String>>, BadSecret> {
        let (pepper, seed) = random.split_at(32);
        let seed = Zeroizing::new(hex::encode(seed));
        let kid = SigningKey::new(String::new(), &seed)?.1;
        let keyset = StoredKeyset {
            keys: vec![StoredKey {
                kid,
                alg: "EdDSA".into(),
                seed: seed.to_string(),
            }],
        };
        let json =
            serde_json::to_string(&keyset).map_err(|_| BadSecret::Malformed(KEYSET_ENTRY))?;
        Ok(BTreeMap::from([
            (PEPPER_ENTRY, Zeroizing::new(hex::encode(pepper))),
            (KEYSET_ENTRY, Zeroizing::new(json)),
        ]))
    }

    /// Reads the entries of an auth Secret.
    ///
    /// # Errors
    /// Names the entry that is missing or malformed. There is no default for either: a server
    /// without a pepper accepts nothing.
    pub fn from_entries<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, BadSecret> {
        let pepper = entry(PEPPER_ENTRY).ok_or(BadSecret::Missing(PEPPER_ENTRY))?;
        let keyset = entry(KEYSET_ENTRY).ok_or(BadSecret::Missing(KEYSET_ENTRY))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(pepper, &mut bytes).map_err(|_| BadSecret::Malformed(PEPPER_ENTRY))?;
        let stored: StoredKeyset =
            serde_json::from_slice(keyset).map_err(|_| BadSecret::Malformed(KEYSET_ENTRY))?;
        let mut keys = stored
            .keys
            .iter()
            .map(|k| SigningKey::new(k.kid.clone(), &k.seed).map(|(key, _)| key))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        Ok(Self {
            pepper: Pepper::new(bytes),
            signing: keys.next().ok_or(BadSecret::Malformed(KEYSET_ENTRY))?,
            retired: keys.collect(),
        })
    }

    /// What tells the content of one auth Secret from another's. Of 512 random bits, so it tells
    /// nothing about them.
    pub fn fingerprint<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> String {
        let hash = [PEPPER_ENTRY, KEYSET_ENTRY]
            .iter()
            .fold(Sha256::new(), |hash, name| {
                let content = entry(name).unwrap_or_default();
                hash.chain_update(content.len().to_be_bytes())
                    .chain_update(content)
            });
        hex::encode(hash.finalize())
    }

    /// The secret that makes verifiers.
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// Id and key that new tokens are signed with.
    pub(super) fn signing(&self) -> (&str, &EncodingKey) {
        (&self.signing.kid, &self.signing.encoding)
    }

    /// The key of an id, to verify with.
    pub(super) fn verifying(&self, kid: &str) -> Option<&DecodingKey> {
        self.all()
            .find(|key| key.kid == kid)
            .map(|key| &key.decoding)
    }

    /// What new statements are sealed with.
    pub(super) fn sealing(&self) -> &SealKeys {
        &self.signing.seals
    }

    /// What statements may have been sealed with.
    pub(super) fn opening(&self) -> impl Iterator<Item = &SealKeys> {
        self.all().map(|key| &key.seals)
    }

    fn all(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.signing).chain(&self.retired)
    }
}

impl SigningKey {
    /// Makes a key of its seed in hex, and the id that a new key of this seed gets: the first 16
    /// hex digits of the hash of its public half.
    fn new(kid: String, seed: &str) -> Result<(Self, String), BadSecret> {
        let malformed = |()| BadSecret::Malformed(KEYSET_ENTRY);
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(seed, bytes.as_mut()).map_err(|_| malformed(()))?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(bytes.as_ref()).map_err(|_| malformed(()))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| malformed(()))?;
        let public = pair.public_key().as_ref();
        let mut id = hex::encode(Sha256::digest(public));
        id.truncate(16);
        let seals = SealKeys::derive(&kid, &bytes).ok_or_else(|| malformed(()))?;
        let key = Self {
            kid,
            seals,
            encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
            decoding: DecodingKey::from_ed_der(public),
        };
        Ok((key, id))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(kid {}, ..)", self.signing.kid)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A keyring that differs by its seed.
    pub(crate) fn keyring(seed: u8) -> Keyring {
        let entries = Keyring::fresh_entries(&[seed; 64]).unwrap();
        Keyring::from_entries(|name| entries.get(name).map(|text| text.as_bytes())).unwrap()
    }

    #[test]
    fn reads_what_it_makes() {
        assert_eq!(keyring(1).signing.kid, keyring(1).signing.kid);
        assert_ne!(keyring(1).signing.kid, keyring(2).signing.kid);
    }

    #[test]
    fn names_the_entry_that_is_wrong() {
        let good = Keyring::fresh_entries(&[3; 64]).unwrap();
        let with = |name: &'static str, text: Option<&'static str>| {
            let read = |entry: &str| match (entry == name, text) {
                (true, replaced) => replaced.map(str::as_bytes),
                (false, _) => good.get(entry).map(|text| text.as_bytes()),
            };
            Keyring::from_entries(read).unwrap_err()
        };
        assert_eq!(with("pepper", None), BadSecret::Missing("pepper"));
        assert_eq!(with("pepper", Some("")), BadSecret::Malformed("pepper"));
        assert_eq!(with("keyset.json", None), BadSecret::Missing("keyset.json"));
        for text in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kid":"a","alg":"EdDSA","seed":"00"}]}"#,
        ] {
            assert_eq!(
                with("keyset.json", Some(text)),
                BadSecret::Malformed("keyset.json")
            );
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", keyring(0xab));
        assert!(!shown.contains("abab"), "{shown}");
    }
}

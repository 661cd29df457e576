//! What a server keeps secret: the pepper of its key verifiers and the keys that sign its tokens.
//!
//! The auth Secret holds keys; the server's status says which of them count, and as what. A key
//! that only one of the two knows is none, so whoever can write one of them mints nothing. In its
//! life a key is next, current, previous, and gone: see [`Role`].

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    api_key::Pepper,
    keyset::{self, Keyset, Seed},
    seal::SealKeys,
};

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

/// A key that tokens may be signed with.
struct SigningKey {
    kid: String,
    public: [u8; 32],
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// What seals statements, and dies with it.
    seals: SealKeys,
}

/// What a key is for now. Each verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It will sign: it is known beforehand, so that nobody meets a token of a key that he does
    /// not know.
    Next,
    /// It signs.
    Current,
    /// It signed, and verifies until then.
    Previous(Timestamp),
}

/// A key that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub kid: String,
    /// What it is for.
    pub role: Role,
}

/// What an auth Secret holds.
pub struct Material {
    pepper: Pepper,
    fingerprint: String,
    keys: Vec<Arc<SigningKey>>,
}

impl Material {
    /// Reads the entries of an auth Secret.
    ///
    /// # Errors
    /// Names the entry that is missing or malformed. There is no default for either: a server
    /// without a pepper accepts nothing.
    pub fn read<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, BadSecret> {
        let pepper = entry(PEPPER_ENTRY).ok_or(BadSecret::Missing(PEPPER_ENTRY))?;
        let keyset = entry(KEYSET_ENTRY).ok_or(BadSecret::Missing(KEYSET_ENTRY))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(pepper, &mut bytes).map_err(|_| BadSecret::Malformed(PEPPER_ENTRY))?;
        let malformed = BadSecret::Malformed(KEYSET_ENTRY);
        let keyset = Keyset::read(keyset)?;
        let keys = keyset
            .seeds()
            .map(|(_, seed)| SigningKey::new(&seed?).map(Arc::new))
            .collect::<Option<_>>();
        Ok(Self {
            pepper: Pepper::new(bytes),
            fingerprint: Keyring::fingerprint(entry),
            keys: keys.ok_or(malformed)?,
        })
    }

    /// See [`Keyring::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What can be done with the keys that count, if one of them may sign: the current one, or
    /// without it the next.
    pub fn keyring(&self, known: &[Known]) -> Option<Keyring> {
        let find = |known: &Known| {
            let key = self.keys.iter().find(|key| key.kid == known.kid)?;
            let until = match known.role {
                Role::Previous(until) => Some(until),
                Role::Next | Role::Current => None,
            };
            let key = Arc::clone(key);
            Some((known.role, Held { key, until }))
        };
        let mut held: Vec<_> = known.iter().filter_map(find).collect();
        let at = [Role::Current, Role::Next]
            .iter()
            .find_map(|wanted| held.iter().position(|(role, _)| role == wanted))?;
        let (_, signing) = held.remove(at);
        Some(Keyring {
            pepper: self.pepper.clone(),
            signing,
            others: held.into_iter().map(|(_, held)| held).collect(),
        })
    }
}

/// A key, and how long it verifies.
struct Held {
    key: Arc<SigningKey>,
    until: Option<Timestamp>,
}

/// The secrets of one server.
pub struct Keyring {
    pepper: Pepper,
    signing: Held,
    others: Vec<Held>,
}

impl Keyring {
    /// The entries of an auth Secret.
    pub fn entries(
        pepper: &[u8; 32],
        keyset: &Keyset,
    ) -> BTreeMap<&'static str, Zeroizing<String>> {
        BTreeMap::from([
            (PEPPER_ENTRY, Zeroizing::new(hex::encode(pepper))),
            (KEYSET_ENTRY, keyset.to_json()),
        ])
    }

    /// Reads an auth Secret by itself: its first key signs, the others verify. For whoever wants
    /// the pepper, or made the Secret.
    ///
    /// # Errors
    /// As [`Material::read`], and if there is no key.
    pub fn from_entries<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, BadSecret> {
        let material = Material::read(entry)?;
        let known = material.keys.iter().enumerate().map(|(n, key)| Known {
            kid: key.kid.clone(),
            role: if n == 0 { Role::Current } else { Role::Next },
        });
        let known: Vec<_> = known.collect();
        let keyring = material.keyring(&known);
        keyring.ok_or(BadSecret::Malformed(KEYSET_ENTRY))
    }

    /// What tells the identity of one auth Secret from another's: a hash of its pepper, which
    /// stays. Of 256 random bits, so it tells nothing about them.
    pub fn fingerprint<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>) -> String {
        let pepper = entry(PEPPER_ENTRY).unwrap_or_default();
        hex::encode(Sha256::digest(pepper))
    }

    /// The secret that makes verifiers.
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// Name and public half of each key that verifies at that time.
    pub fn public(&self, now: Timestamp) -> impl Iterator<Item = (&str, &[u8; 32])> {
        let verifies = move |held: &&Held| held.until.is_none_or(|until| now < until);
        let all = self.all().filter(verifies);
        all.map(|held| (&*held.key.kid, &held.key.public))
    }

    /// Name and key that new tokens are signed with.
    pub(super) fn signing(&self) -> (&str, &EncodingKey) {
        (&self.signing.key.kid, &self.signing.key.encoding)
    }

    /// The key of a name, to verify with, and how long it may be.
    pub(super) fn verifying(&self, kid: &str) -> Option<(&DecodingKey, Option<Timestamp>)> {
        let held = self.all().find(|held| held.key.kid == kid)?;
        Some((&held.key.decoding, held.until))
    }

    /// What new statements are sealed with.
    pub(super) fn sealing(&self) -> &SealKeys {
        &self.signing.key.seals
    }

    /// What statements may have been sealed with. They end before their keys do.
    pub(super) fn opening(&self) -> impl Iterator<Item = &SealKeys> {
        self.all().map(|held| &held.key.seals)
    }

    fn all(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.signing).chain(&self.others)
    }
}

impl SigningKey {
    fn new(seed: &Seed) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()?;
        let pkcs8 = pair.to_pkcs8v1().ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let kid = keyset::kid(&public);
        Some(Self {
            seals: SealKeys::derive(&kid, seed)?,
            encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
            decoding: DecodingKey::from_ed_der(&public),
            public,
            kid,
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(kid {}, ..)", self.signing.key.kid)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The keyset of these seeds.
    pub(crate) fn keyset(seeds: &[u8]) -> Keyset {
        let mut keyset = Keyset::default();
        for seed in seeds {
            keyset.add(&Zeroizing::new([*seed; 32]));
        }
        keyset
    }

    /// What a Secret of that pepper and those seeds holds.
    pub(crate) fn material(pepper: u8, seeds: &[u8]) -> Material {
        let entries = Keyring::entries(&[pepper; 32], &keyset(seeds));
        Material::read(|name| entries.get(name).map(|text| text.as_bytes())).unwrap()
    }

    /// A keyring that differs by its seed.
    pub(crate) fn keyring(seed: u8) -> Keyring {
        let entries = Keyring::entries(&[seed; 32], &keyset(&[seed]));
        Keyring::from_entries(|name| entries.get(name).map(|text| text.as_bytes())).unwrap()
    }

    /// The key of a seed in a role.
    pub(crate) fn known(seed: u8, role: Role) -> Known {
        let kid = keyset(&[seed]).kids().next().unwrap().to_owned();
        Known { kid, role }
    }

    #[test]
    fn reads_what_it_makes() {
        assert_eq!(keyring(1).signing().0, keyring(1).signing().0);
        assert_ne!(keyring(1).signing().0, keyring(2).signing().0);
    }

    #[test]
    fn a_key_counts_if_secret_and_status_know_it() {
        let material = material(9, &[1, 2, 3]);
        let at = Timestamp::from_second(1_795_369_358).unwrap();
        let roles = [
            known(1, Role::Previous(at)),
            known(2, Role::Current),
            known(4, Role::Next),
        ];
        let ring = material.keyring(&roles).unwrap();
        let kid = |seed| known(seed, Role::Next).kid;
        assert_eq!(ring.signing().0, kid(2));
        let verifies = |seed| ring.verifying(&kid(seed)).map(|(_, until)| until);
        assert_eq!(verifies(1), Some(Some(at)));
        assert_eq!(verifies(2), Some(None));
        assert_eq!((verifies(3), verifies(4)), (None, None));
        let shown = |now| ring.public(now).map(|(kid, _)| kid).collect::<Vec<_>>();
        let before = at - jiff::SignedDuration::from_secs(1);
        assert_eq!(shown(before), [kid(2), kid(1)]);
        assert_eq!(shown(at), [kid(2)]);
    }

    /// The current key was revoked: the next one is known everywhere, and signs.
    #[test]
    fn without_the_current_key_the_next_one_signs_and_a_previous_one_never() {
        let material = material(9, &[1, 2]);
        let until = Timestamp::MAX;
        let roles = [known(1, Role::Previous(until)), known(2, Role::Next)];
        let ring = material.keyring(&roles).unwrap();
        assert_eq!(ring.signing().0, roles[1].kid);
        assert!(material.keyring(&roles[..1]).is_none());
        assert!(material.keyring(&[]).is_none());
    }

    #[test]
    fn names_the_entry_that_is_wrong() {
        let good = Keyring::entries(&[3; 32], &keyset(&[3]));
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

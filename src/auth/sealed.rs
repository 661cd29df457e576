//! Values that stand encrypted where others may read: in Git, and in a ZenSecret.
//!
//! A sealed value is an armored age file (age-encryption.org/v1) for the X25519 recipient of one
//! server. Its content begins with a line that names the entry it is for:
//!
//! ```text
//! zenop.dev/sealed/1 <name of the ZenSecret>/<entry>
//! <the value, to the end>
//! ```
//!
//! So whoever may write a ZenSecret, and read those of others, cannot have another's value shown by
//! copying its ciphertext. The keys that open are kept in a Secret as `age-keygen` writes them: with
//! that Secret and the age program every value can be had back without zenop.

use std::{cell::Cell, fmt, fmt::Write as _, io::Read, str::FromStr};

use age::{
    DecryptError, Decryptor,
    armor::ArmoredReader,
    secrecy::{ExposeSecret, SecretString},
    x25519,
};
use age_core::format::{FileKey, Stanza};
use bech32::{Bech32, Hrp};
use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest text of a sealed value that is read, in bytes.
pub const MOST_TEXT: usize = 128 * 1024;

/// The longest value that can be sealed, in bytes: with what is around it, it fits [`MOST_TEXT`].
pub const MOST_VALUE: usize = 90 * 1024;

/// How often a key is tried for one text. Who writes it says for how many recipients it is.
const MOST_TRIES: u32 = 256;

/// The entry of the Secret `<server>-sealing` that holds the keys which open.
pub const OPENING_KEYS_ENTRY: &str = "keys.txt";

const FORMAT: &str = "zenop.dev/sealed/1";

/// Which entry of which ZenSecret a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// `metadata.name` of the ZenSecret.
    pub object: &'a str,
    /// Name of the entry.
    pub entry: &'a str,
}

impl Place<'_> {
    fn line(&self) -> String {
        format!("{FORMAT} {}/{}\n", self.object, self.entry)
    }
}

/// Whether a text can be the name of an entry, as Kubernetes takes it for a key of a Secret
/// (`IsConfigMapKey` of apimachinery).
pub fn is_entry_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    (1..=253).contains(&text.len())
        && text.bytes().all(plain)
        && text != "."
        && !text.starts_with("..")
}

/// Whom a value is sealed for: the public key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(String);

impl FromStr for Recipient {
    type Err = BadRecipient;

    fn from_str(text: &str) -> Result<Self, BadRecipient> {
        let read: x25519::Recipient = text.parse().map_err(|_| BadRecipient)?;
        Ok(Self(read.to_string()))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "not an age recipient: it begins with age1 and has 62 characters, as in status.sealing.recipient \
     of the ZenServer"
)]
pub struct BadRecipient;

/// Why a value was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotSealed {
    /// It is longer than [`MOST_VALUE`].
    #[error("the value has {0} bytes, and at most {MOST_VALUE} can be sealed")]
    TooLong(usize),
    /// The system gave no random bytes.
    #[error("the value could not be encrypted")]
    Failed,
}

/// Seals a value for one entry of one object. Twice the same value gives two texts.
///
/// # Errors
/// If the value is too long.
pub fn seal(to: &Recipient, place: &Place<'_>, value: &[u8]) -> Result<String, NotSealed> {
    if value.len() > MOST_VALUE {
        return Err(NotSealed::TooLong(value.len()));
    }
    let recipient: x25519::Recipient = to.0.parse().map_err(|_| NotSealed::Failed)?;
    let content = Zeroizing::new([place.line().as_bytes(), value].concat());
    age::encrypt_and_armor(&recipient, &content).map_err(|_| NotSealed::Failed)
}

/// Why a value is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotOpened {
    /// It is none, or was altered.
    #[error("it is no age file, or was altered")]
    Malformed,
    /// It is for none of the keys.
    #[error("it was sealed for a key that this server does not have")]
    UnknownKey,
    /// It is for another entry or object, or was not made by us.
    #[error("it was sealed for another entry or object")]
    Elsewhere,
}

/// The keys of a server that open what was sealed for it, the oldest first.
#[derive(Default)]
pub struct OpeningKeys(Vec<OpeningKey>);

struct OpeningKey {
    created: Timestamp,
    identity: x25519::Identity,
}

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {0} is neither a comment nor an age secret key that follows its `# created:` line")]
pub struct BadKeys(pub usize);

impl OpeningKeys {
    /// Reads what [`OpeningKeys::to_text`] writes: `age-keygen`'s format, each key after a line
    /// `# created: <time>`.
    ///
    /// # Errors
    /// Names the line that cannot be read.
    pub fn read(text: &str) -> Result<Self, BadKeys> {
        let (mut keys, mut created) = (Vec::new(), None);
        for (n, line) in text.lines().enumerate() {
            let bad = BadKeys(n + 1);
            if let Some(time) = line.strip_prefix("# created: ") {
                created = Some(time.parse().map_err(|_| bad)?);
            } else if !line.is_empty() && !line.starts_with('#') {
                keys.push(OpeningKey {
                    created: created.take().ok_or(bad)?,
                    identity: line.parse().map_err(|_| bad)?,
                });
            }
        }
        Ok(Self(keys))
    }

    /// With another key, made of these random bytes, for which values are sealed from now on.
    pub fn add(&mut self, random: &[u8; 32], now: Timestamp) {
        // The prefix is a constant that is one.
        let prefix = Hrp::parse_unchecked("age-secret-key-");
        let text = bech32::encode::<Bech32>(prefix, random).map(Zeroizing::new);
        let identity = text.ok().and_then(|text| {
            let text = Zeroizing::new(text.to_uppercase());
            text.parse().ok()
        });
        self.0.extend(identity.map(|identity| OpeningKey {
            created: now,
            identity,
        }));
    }

    /// All of them, to be kept.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for OpeningKey { created, identity } in &self.0 {
            let (public, secret): (_, SecretString) = (identity.to_public(), identity.to_string());
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "# created: {created}\n# public key: {public}\n{}\n",
                secret.expose_secret()
            );
        }
        text
    }

    /// Whom values are sealed for, and since when: the youngest key.
    pub fn current(&self) -> Option<(Recipient, Timestamp)> {
        let key = self.0.last()?;
        Some((Recipient(key.identity.to_public().to_string()), key.created))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is of this recipient.
    pub fn has(&self, recipient: &str) -> bool {
        let mut all = self.0.iter().map(|key| key.identity.to_public());
        all.any(|public| public.to_string() == recipient)
    }

    /// The value that was sealed for an entry, in time that is bounded whatever the text is.
    ///
    /// # Errors
    /// Why there is none, in words that show nothing of it.
    pub fn open(&self, place: &Place<'_>, text: &str) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        if text.len() > MOST_TEXT {
            return Err(NotOpened::Malformed);
        }
        let tries = Cell::new(MOST_TRIES);
        let keys: Vec<_> = self
            .0
            .iter()
            .rev()
            .map(|key| Bounded(&key.identity, &tries))
            .collect();
        let file = Decryptor::new_buffered(ArmoredReader::new(text.as_bytes()));
        let file = file.map_err(|_| NotOpened::Malformed)?;
        let content = file.decrypt(keys.iter().map(|key| key as &dyn age::Identity));
        let mut content = content.map_err(|why| match why {
            DecryptError::NoMatchingKeys => NotOpened::UnknownKey,
            _ => NotOpened::Malformed,
        })?;
        let mut opened = Zeroizing::new(Vec::with_capacity(text.len()));
        let read = content.read_to_end(&mut opened);
        read.map_err(|_| NotOpened::Malformed)?;
        let line = place.line();
        let value = opened.strip_prefix(line.as_bytes());
        value
            .map(|value| Zeroizing::new(value.to_vec()))
            .ok_or(NotOpened::Elsewhere)
    }
}

impl fmt::Debug for OpeningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKeys({})", self.0.len())
    }
}

/// A key that is not tried more often than all of them together may be.
struct Bounded<'a>(&'a x25519::Identity, &'a Cell<u32>);

impl age::Identity for Bounded<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let Some(left) = self.1.get().checked_sub(1) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        self.1.set(left);
        self.0.unwrap_stanza(stanza)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place {
        object: "mlflow-login",
        entry: "password",
    };

    fn keys(seeds: &[u8]) -> OpeningKeys {
        let mut keys = OpeningKeys::default();
        for seed in seeds {
            keys.add(&[*seed; 32], Timestamp::UNIX_EPOCH);
        }
        keys
    }

    fn sealed(keys: &OpeningKeys, value: &[u8]) -> String {
        let (recipient, _) = keys.current().unwrap();
        seal(&recipient, &PLACE, value).unwrap()
    }

    #[test]
    fn opens_with_every_key_that_is_kept_and_for_its_entry_alone() {
        let (old, both) = (keys(&[1]), keys(&[1, 2]));
        let (of_old, of_new) = (sealed(&old, b"v1"), sealed(&both, b"v2"));
        assert_eq!(**both.open(&PLACE, &of_old).unwrap(), *b"v1");
        assert_eq!(**both.open(&PLACE, &of_new).unwrap(), *b"v2");
        assert_eq!(
            old.open(&PLACE, &of_new).unwrap_err(),
            NotOpened::UnknownKey
        );
        for place in [
            Place {
                entry: "user",
                ..PLACE
            },
            Place {
                object: "mlflow",
                ..PLACE
            },
            Place {
                object: "mlflow-login/password",
                entry: "",
            },
        ] {
            let opened = both.open(&place, &of_new);
            assert_eq!(opened.unwrap_err(), NotOpened::Elsewhere, "{place:?}");
        }
    }

    #[test]
    fn keys_are_kept_as_age_keygen_writes_them() {
        let kept = keys(&[1, 2]);
        let text = kept.to_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "# created: 1970-01-01T00:00:00Z");
        assert!(lines[1].starts_with("# public key: age1"), "{}", lines[1]);
        assert!(lines[2].starts_with("AGE-SECRET-KEY-1"));
        let read = OpeningKeys::read(&text).unwrap();
        assert_eq!(read.to_text(), text);
        assert_eq!(read.len(), 2);
        assert!(read.has(&keys(&[1]).current().unwrap().0.to_string()));
        for (bad, line) in [
            ("AGE-SECRET-KEY-1", 1),
            ("# created: now\n", 1),
            ("# created: 1970-01-01T00:00:00Z\nage1xyz", 2),
            (&text.replace("# created: 1970-01-01T00:00:00Z\n", ""), 2),
        ] {
            assert_eq!(OpeningKeys::read(bad).unwrap_err(), BadKeys(line), "{bad}");
        }
        assert!(OpeningKeys::read("").unwrap().is_empty());
    }

    #[test]
    fn who_asks_for_much_work_gets_none() {
        let many = keys(&[7; 300]);
        let (recipient, _) = keys(&[9]).current().unwrap();
        let text = seal(&recipient, &PLACE, b"v").unwrap();
        assert_eq!(many.open(&PLACE, &text).unwrap_err(), NotOpened::Malformed);
        let long = "x".repeat(MOST_TEXT + 1);
        assert_eq!(many.open(&PLACE, &long).unwrap_err(), NotOpened::Malformed);
        let most = vec![0; MOST_VALUE];
        assert!(sealed(&keys(&[1]), &most).len() <= MOST_TEXT);
        let more = seal(&recipient, &PLACE, &vec![0; MOST_VALUE + 1]);
        assert_eq!(more, Err(NotSealed::TooLong(MOST_VALUE + 1)));
    }

    #[test]
    fn a_recipient_is_one_or_refused() {
        let recipient = keys(&[1]).current().unwrap().0;
        assert_eq!(recipient.to_string().parse(), Ok(recipient));
        for bad in [
            "",
            "age1",
            "age1qqqq",
            "ssh-ed25519 AAAA",
            "AGE-SECRET-KEY-1",
        ] {
            assert_eq!(bad.parse::<Recipient>(), Err(BadRecipient), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn gives_back_what_was_sealed(value in prop::collection::vec(any::<u8>(), 0..3000)) {
            let keys = keys(&[1]);
            prop_assert_eq!(&**keys.open(&PLACE, &sealed(&keys, &value)).unwrap(), &*value);
        }

        #[test]
        fn reads_anything(text in "(-----BEGIN AGE ENCRYPTED FILE-----\n)?.{0,300}") {
            prop_assert!(keys(&[1]).open(&PLACE, &text).is_err());
        }

        #[test]
        fn what_was_altered_is_refused(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
            let keys = keys(&[1]);
            let text = sealed(&keys, b"a value of some length");
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(altered) = String::from_utf8(bytes) {
                let opened = keys.open(&PLACE, &altered);
                // White space around the armor is nothing.
                prop_assert!(opened.is_err() || opened.is_ok_and(|v| &**v == b"a value of some length"));
            }
        }
    }
}

//! What a user proves to be itself with: a password, and before that a token that lets it choose
//! one. Neither is stored.
//!
//! A password is guessable, so what stands for it is slow to try: Argon2id (RFC 9106) in its PHC
//! form, keyed with
//!
//! ```text
//! HMAC-SHA-256(pepper, "zenop/password/1" ‖ user id)
//! ```
//!
//! so that who reads it cannot try without the pepper, and who writes or copies one mints nothing.
//! An activation token is 256 random bits; one keyed hash stands for it.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    api_key::{Pepper, Print},
    principal::Refused,
};

/// No password is shorter, in bytes.
pub const SHORTEST_PASSWORD: usize = 8;
/// No password is longer, in bytes. More would only cost time.
pub const LONGEST_PASSWORD: usize = 1024;

/// A password that may be somebody's.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

/// Why a text may not be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WeakPassword {
    /// Shorter than [`SHORTEST_PASSWORD`].
    #[error("a password has at least 8 bytes")]
    Short,
    /// Longer than [`LONGEST_PASSWORD`].
    #[error("a password has at most 1024 bytes")]
    Long,
    /// Of one character only, or white space.
    #[error("a password is not one character again and again")]
    Trivial,
}

impl Password {
    /// What a client gives for one, to be compared. Whether it may be chosen is not asked.
    pub fn presented(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Password {
    type Err = WeakPassword;

    /// A password that may be chosen.
    fn from_str(text: &str) -> Result<Self, WeakPassword> {
        let first = text.chars().next();
        match text.len() {
            len if len < SHORTEST_PASSWORD => Err(WeakPassword::Short),
            len if len > LONGEST_PASSWORD => Err(WeakPassword::Long),
            _ if text.chars().all(|c| Some(c) == first) => Err(WeakPassword::Trivial),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A token that lets a user choose a password, once.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ActivationToken(String);

impl ActivationToken {
    /// A token of 256 random bits.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// Its text: 64 hex digits.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl FromStr for ActivationToken {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == 64 && text.bytes().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refused::BadActivation),
        }
    }
}

impl fmt::Debug for ActivationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationToken(..)")
    }
}

/// What is stored for a user, as JSON: one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Credential {
    /// It has a password.
    Password(Verifier),
    /// It may choose one.
    Activation(Activation),
}

/// What stands for a password. Slow to try by intent: off the async threads only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    phc: String,
    set: Timestamp,
}

/// What stands for an activation token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    sha256: String,
    expires: Timestamp,
}

impl Credential {
    /// What is stored, by user. What cannot be read is left out: nobody logs in with it.
    pub fn read_all<'a>(
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> HashMap<Uuid, Arc<Self>> {
        let read = |(user, json): (&str, &[u8])| {
            let credential = serde_json::from_slice(json).ok()?;
            Some((user.parse().ok()?, Arc::new(credential)))
        };
        entries.filter_map(read).collect()
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// All verifiers are made so; no other is tried, whatever it asks for.
const PREFIX: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

impl Verifier {
    /// What stands for a password of a user from now on. Takes some 20 ms and 19 MiB. A salt is
    /// used once.
    ///
    /// # Errors
    /// None in practice.
    pub fn new(
        pepper: &Pepper,
        user: Uuid,
        password: &Password,
        salt: [u8; 16],
    ) -> Result<Self, argon2::password_hash::Error> {
        let secret = pepper.of_password(user);
        let phc = argon2(&secret)?.hash_password_with_salt(password.0.as_bytes(), &salt)?;
        Ok(Self {
            phc: phc.to_string(),
            set: Timestamp::UNIX_EPOCH,
        })
    }

    /// The same, set at that time.
    #[must_use]
    pub fn at(self, set: Timestamp) -> Self {
        Self { set, ..self }
    }

    /// One that no password fits, to be as slow for a user who is not there.
    pub fn decoy() -> Self {
        let [salt, hash] = ["A".repeat(22), "A".repeat(43)];
        Self {
            phc: format!("{PREFIX}{salt}${hash}"),
            set: Timestamp::UNIX_EPOCH,
        }
    }

    /// Whether a password of a user is this one. As slow as [`Verifier::new`], whatever comes out.
    pub fn fits(&self, pepper: &Pepper, user: Uuid, password: &Password) -> bool {
        let secret = pepper.of_password(user);
        // Longer ones cannot have been chosen.
        password.0.len() <= LONGEST_PASSWORD
            && self.phc.starts_with(PREFIX)
            && argon2(&secret)
                .and_then(|argon2| argon2.verify_password(password.0.as_bytes(), self.phc.as_str()))
                .is_ok()
    }

    /// When the password was set.
    pub const fn set(&self) -> Timestamp {
        self.set
    }

    /// What a token carries to be bound to this password. Of a hash with a salt, so it tells
    /// nothing.
    pub fn print(&self) -> Print {
        Print::of(&Sha256::digest(&self.phc).into())
    }
}

fn argon2(secret: &[u8; 32]) -> Result<Argon2<'_>, argon2::password_hash::Error> {
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let argon2 = Argon2::new_with_secret(secret, algorithm, version, Params::DEFAULT);
    Ok(argon2?)
}

impl Activation {
    /// What stands for a token of a user until then.
    pub fn new(pepper: &Pepper, user: Uuid, token: &ActivationToken, expires: Timestamp) -> Self {
        Self {
            sha256: hex::encode(pepper.of_activation(user, token.text())),
            expires,
        }
    }

    /// Whether this stands for that token, whenever it ends.
    pub fn is_of(&self, pepper: &Pepper, user: Uuid, token: &ActivationToken) -> bool {
        let mut stored = [0; 32];
        let read = hex::decode_to_slice(&self.sha256, &mut stored).is_ok();
        let wanted = pepper.of_activation(user, token.text());
        bool::from(stored.ct_eq(&wanted) & Choice::from(u8::from(read)))
    }

    /// From when on the token is refused.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier(set {}, ..)", self.set)
    }
}

impl fmt::Debug for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activation(until {}, ..)", self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: Uuid = Uuid::from_u128(1);
    const BO: Uuid = Uuid::from_u128(2);

    fn pepper(seed: u8) -> Pepper {
        Pepper::new([seed; 32])
    }

    fn password(text: &str) -> Password {
        text.parse().unwrap()
    }

    fn verifier() -> Verifier {
        let password = password("correct horse");
        Verifier::new(&pepper(1), ANA, &password, [7; 16]).unwrap()
    }

    #[test]
    fn a_password_fits_its_verifier_its_user_and_its_pepper() {
        let verifier = verifier();
        let fits =
            |seed, user, text: &str| verifier.fits(&pepper(seed), user, &Password::presented(text));
        assert!(fits(1, ANA, "correct horse"));
        assert!(!fits(1, ANA, "correct horse "));
        assert!(!fits(1, ANA, ""));
        assert!(!fits(1, BO, "correct horse"));
        assert!(!fits(2, ANA, "correct horse"));
    }

    #[test]
    fn what_is_stored_reads_back_and_shows_nothing() {
        for credential in [
            Credential::Password(verifier()),
            Credential::Activation(Activation::new(
                &pepper(1),
                ANA,
                &ActivationToken::from_random(&[3; 32]),
                Timestamp::UNIX_EPOCH,
            )),
        ] {
            let json = serde_json::to_string(&credential).unwrap();
            assert!(
                !json.contains("correct") && !json.contains("0303"),
                "{json}"
            );
            assert_eq!(
                serde_json::from_str::<Credential>(&json).unwrap(),
                credential
            );
            assert!(!format!("{credential:?}").contains("argon2id"));
        }
    }

    #[test]
    fn another_kind_of_hash_is_not_tried() {
        for phc in ["$argon2id$v=19$m=4194304,t=9,p=1$AAAA$AAAA", "$2b$12$x", ""] {
            let verifier = Verifier {
                phc: phc.into(),
                set: Timestamp::UNIX_EPOCH,
            };
            assert!(!verifier.fits(&pepper(1), ANA, &Password::presented("x")));
        }
        let decoy = Verifier::decoy();
        assert!(!decoy.fits(&pepper(1), ANA, &Password::presented("x")));
    }

    #[test]
    fn weak_passwords_are_refused() {
        let refused = |text: &str| text.parse::<Password>().err();
        assert_eq!(refused(""), Some(WeakPassword::Short));
        assert_eq!(refused("1234567"), Some(WeakPassword::Short));
        assert_eq!(refused("        "), Some(WeakPassword::Trivial));
        assert_eq!(refused(&"ab".repeat(513)), Some(WeakPassword::Long));
        assert_eq!(refused(&"ab".repeat(512)), None);
        assert_eq!(refused("12345678"), None);
    }

    #[test]
    fn an_activation_is_of_one_token_and_user() {
        let token = ActivationToken::from_random(&[3; 32]);
        let activation = Activation::new(&pepper(1), ANA, &token, Timestamp::UNIX_EPOCH);
        let other = ActivationToken::from_random(&[4; 32]);
        assert!(activation.is_of(&pepper(1), ANA, &token.text().parse().unwrap()));
        assert!(!activation.is_of(&pepper(1), BO, &token));
        assert!(!activation.is_of(&pepper(2), ANA, &token));
        assert!(!activation.is_of(&pepper(1), ANA, &other));
        for text in ["", "0", &"0".repeat(65), &"G".repeat(64)] {
            assert!(text.parse::<ActivationToken>().is_err(), "{text}");
        }
    }
}

//! API keys: their text, and the verifier that stands for them.
//!
//! The text is ZenML's: `ZENKEY_` and padded base64 of `{"id":"<uuid>","key":"<64 hex digits>"}`.
//! A key is 256 random bits, so one fast keyed hash is the right cost for it: there is nothing
//! to guess. What is stored is
//!
//! ```text
//! HMAC-SHA-256(pepper, "zenop/api-key/1" ‖ account id ‖ key id ‖ SHA-256(key))
//! ```
//!
//! which is of no use without the pepper: who reads it learns nothing, who writes one mints
//! nothing, who copies one to another key or account has a verifier that nothing matches.

use std::{collections::HashSet, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::bcrypt::BcryptHash;

/// What every key's text begins with.
pub const PREFIX: &str = "ZENKEY_";
/// No key's text is longer; more is refused unread.
pub const MAX_TEXT: usize = 512;

/// The key part of an API key: 64 lower-case hex digits.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeySecret(String);

impl KeySecret {
    /// A key of 256 random bits.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// What a verifier is made of.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.0.as_bytes()).into())
    }

    pub(super) fn digits(&self) -> &str {
        &self.0
    }

    /// How many of its 32 bytes differ from one another: few, if somebody typed it.
    pub fn different_bytes(&self) -> usize {
        let pairs = self.0.as_bytes().chunks(2);
        pairs.collect::<HashSet<_>>().len()
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

/// SHA-256 of a key's 64 digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl fmt::Display for KeyDigest {
    /// As `spec.source.verifier.sha256` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

impl FromStr for KeyDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl KeyDigest {
    /// As `spec.source.verifier.sha256` of a ZenAPIKey has it. Safe to show: there is nothing to
    /// guess behind it.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// Why a text is not an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It does not begin with [`PREFIX`].
    #[error("an API key begins with ZENKEY_")]
    Prefix,
    /// Longer than [`MAX_TEXT`].
    #[error("too long for an API key")]
    Length,
    /// What follows is not padded base64.
    #[error("not padded base64 after ZENKEY_")]
    Base64,
    /// Not the JSON object of an id and a key.
    #[error("no id and key inside")]
    Content,
}

/// An API key as a client presents it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Which ZenAPIKey it claims to be of.
    pub id: Uuid,
    /// What proves it.
    pub secret: KeySecret,
}

#[derive(Serialize, Deserialize)]
struct Content<'a> {
    id: Uuid,
    #[serde(borrow)]
    key: &'a str,
}

impl ApiKey {
    /// The text that a client is given. Wiped when dropped.
    pub fn text(&self) -> Zeroizing<String> {
        let json = Zeroizing::new(format!(
            r#"{{"id":"{}","key":"{}"}}"#,
            self.id, self.secret.0
        ));
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 200));
        text.push_str(PREFIX);
        STANDARD.encode_string(json.as_bytes(), &mut text);
        text
    }
}

impl FromStr for ApiKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_TEXT {
            return Err(Malformed::Length);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(Malformed::Prefix)?;
        let json = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| Malformed::Base64)?);
        let content: Content<'_> = serde_json::from_slice(&json).map_err(|_| Malformed::Content)?;
        let hex_digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if content.key.len() != 64 || !content.key.bytes().all(hex_digits) {
            return Err(Malformed::Content);
        }
        Ok(Self {
            id: content.id,
            secret: KeySecret(content.key.to_owned()),
        })
    }
}

/// The secret of a server that makes verifiers of its keys.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Pepper([u8; 32]);

impl Pepper {
    /// 256 random bits.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The verifier of a key of an account.
    pub fn verifier(&self, account: Uuid, key: Uuid, digest: KeyDigest) -> Verifier {
        let mac = self.keyed();
        Verifier(
            mac.chain_update(b"zenop/api-key/1")
                .chain_update(account.as_bytes())
                .chain_update(key.as_bytes())
                .chain_update(digest.0)
                .finalize()
                .into_bytes()
                .into(),
        )
    }

    /// What stands for anything else that only this server may have written. `purpose` is a label
    /// of its own for each kind of thing, and `parts` have fixed lengths.
    pub(super) fn proof(&self, purpose: &[u8], parts: &[&[u8]]) -> Verifier {
        let begun = self.keyed().chain_update(purpose);
        let mac = parts.iter().fold(begun, |mac, part| mac.chain_update(part));
        Verifier(mac.finalize().into_bytes().into())
    }

    /// What shows that an object of a kind was given an id that is not its own.
    pub fn identity(&self, kind: &str, object: Uuid, id: Uuid) -> Verifier {
        let mac = self.keyed().chain_update(b"zenop/identity/1");
        let mac = mac
            .chain_update(object.as_bytes())
            .chain_update(id.as_bytes());
        Verifier(mac.chain_update(kind).finalize().into_bytes().into())
    }

    /// What shows that the record of a deleted object was written by who has the pepper.
    pub fn seal(&self, record: &[u8]) -> Verifier {
        let mac = self.keyed().chain_update(b"zenop/record/1");
        Verifier(mac.chain_update(record).finalize().into_bytes().into())
    }

    /// What says that we accept a key of which only this hash is known. It binds the hash to account
    /// and key: who writes another one into a status mints nothing.
    pub fn slow_verifier(&self, account: Uuid, key: Uuid, hash: &BcryptHash) -> Verifier {
        let hash = hash.to_string();
        self.proof(
            b"zenop/api-key-bcrypt/1",
            &[account.as_bytes(), key.as_bytes(), hash.as_bytes()],
        )
    }

    /// The secret that the ZenML server behind the sidecar has for a purpose: drawn once with the
    /// pepper, and as lasting.
    pub fn of_upstream(&self, purpose: &str) -> Zeroizing<String> {
        let mac = self.keyed().chain_update(b"zenop/upstream/1");
        let mac = mac.chain_update(purpose);
        Zeroizing::new(hex::encode(mac.finalize().into_bytes()))
    }

    /// The secret that a user's password is hashed with.
    pub(super) fn of_password(&self, user: Uuid) -> [u8; 32] {
        let mac = self.keyed().chain_update(b"zenop/password/1");
        let mac = mac.chain_update(user.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// What stands for a user's activation token.
    pub(super) fn of_activation(&self, user: Uuid, token: &str) -> [u8; 32] {
        let mac = self.keyed().chain_update(b"zenop/activation/1");
        let mac = mac.chain_update(user.as_bytes()).chain_update(token);
        mac.finalize().into_bytes().into()
    }

    /// What the page that began a session proves by that it made a request: its CSRF token.
    pub fn csrf_token(&self, session: Uuid) -> String {
        let mac = self.keyed().chain_update(b"zenop/csrf/1");
        let mac = mac.chain_update(session.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// Whether a CSRF token is that of a session, in time that does not depend on where it differs.
    pub fn is_csrf_token(&self, session: Uuid, token: &str) -> bool {
        bool::from(self.csrf_token(session).as_bytes().ct_eq(token.as_bytes()))
    }

    /// What a form of our own pages carries, so that nobody else can make one: it is of one session,
    /// of one kind, and about one thing.
    pub fn form_token(&self, session: &[u8; 32], about: Uuid, form: &str) -> String {
        let parts: [&[u8]; 3] = [session, about.as_bytes(), form.as_bytes()];
        self.proof(b"zenop/page-form/1", &parts).to_hex()
    }

    /// Whether a text is the token of such a form, in time that does not depend on where it differs.
    pub fn is_form_token(&self, session: &[u8; 32], about: Uuid, form: &str, token: &str) -> bool {
        let right = self.form_token(session, about, form);
        bool::from(right.as_bytes().ct_eq(token.as_bytes()))
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn keyed(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("any length")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// What stands for a key in a status. Compared in constant time only.
#[derive(Clone, Copy, Debug)]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// As it is written in a status.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Eight hex digits to tell keys apart by. Keyed by the pepper, so it tells nothing more.
    pub fn fingerprint(self) -> String {
        let mut hex = self.to_hex();
        hex.truncate(8);
        hex
    }

    /// What a token carries to be bound to this key.
    pub fn print(self) -> Print {
        Print::of(&self.0)
    }

    /// Whether two are the same, in time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// 53 bits of a verifier, as many as a JSON number holds everywhere. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Print(u64);

impl Print {
    pub(super) fn of(bytes: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11)
    }

    pub(super) const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl FromStr for Verifier {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEPPER: Pepper = Pepper::new([7; 32]);

    fn key() -> ApiKey {
        ApiKey {
            id: Uuid::from_u128(1),
            secret: KeySecret::from_random(&[0xfa; 32]),
        }
    }

    #[test]
    fn reads_the_key_that_zenml_recorded() {
        // zenml-wire.md 8.2, made by the real server.
        let text = "ZENKEY_eyJpZCI6Ijk3OTMwNTU4LTNhZjMtNDM5NS05YmVkLTc4YTZkNjQ5YzFiNyIsImtleSI6ImZhNGVmYTRlZmE0ZWZhNGVmYTRlZmE0ZWZhNGVmYTRlZmE0ZWZhNGVmYTRlZmE0ZWZhNGVmYTRlZmE0ZWZhNGUifQ==";
        let key: ApiKey = text.parse().unwrap();
        assert_eq!(key.id.to_string(), "97930558-3af3-4395-9bed-78a6d649c1b7");
        assert_eq!(*key.text(), text);
    }

    #[test]
    fn names_what_is_malformed() {
        let good = key().text();
        let encode = |json: &str| format!("{PREFIX}{}", STANDARD.encode(json));
        let cases = [
            (
                good.trim_start_matches(PREFIX).to_owned(),
                Malformed::Prefix,
            ),
            (
                good.trim_end_matches('=').to_owned() + "!",
                Malformed::Base64,
            ),
            (format!("{} ", *good), Malformed::Base64),
            (format!("{}\0", *good), Malformed::Base64),
            (format!("{PREFIX}{}", "A".repeat(600)), Malformed::Length),
            (encode("{}"), Malformed::Content),
            (encode(r#"{"id":"x","key":"00"}"#), Malformed::Content),
            (
                encode(&format!(
                    r#"{{"id":"{}","key":"{}"}}"#,
                    Uuid::nil(),
                    "F".repeat(64)
                )),
                Malformed::Content,
            ),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<ApiKey>().map(|_| ()), Err(why), "{text}");
        }
    }

    #[test]
    fn a_digest_is_of_the_digits_and_not_of_what_they_stand_for() {
        // printf %064d 0 | sha256sum
        let zeros = KeySecret::from_random(&[0; 32]);
        assert_eq!(
            zeros.digest().to_hex(),
            "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", key(), PEPPER);
        assert!(!shown.contains("fafa") && !shown.contains('7'), "{shown}");
    }

    #[test]
    fn a_verifier_fits_one_pepper_account_and_key() {
        let (a, k) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let digest = key().secret.digest();
        let same = PEPPER.verifier(a, k, digest);
        let others = [
            PEPPER.verifier(k, k, digest),
            PEPPER.verifier(a, a, digest),
            PEPPER.verifier(a, k, KeySecret::from_random(&[1; 32]).digest()),
            Pepper::new([8; 32]).verifier(a, k, digest),
        ];
        assert!(bool::from(same.matches(&PEPPER.verifier(a, k, digest))));
        assert!(others.iter().all(|o| !bool::from(same.matches(o))));
    }

    proptest! {
        #[test]
        fn reading_garbage_never_panics(text in ".{0,600}", tail in ".{0,300}") {
            let _ = text.parse::<ApiKey>();
            let _ = format!("{PREFIX}{tail}").parse::<ApiKey>();
            let _ = format!("{PREFIX}{}", STANDARD.encode(tail)).parse::<ApiKey>();
        }

        #[test]
        fn text_reads_back(id: u128, bytes: [u8; 32]) {
            let key = ApiKey { id: Uuid::from_u128(id), secret: KeySecret::from_random(&bytes) };
            let back: ApiKey = key.text().parse().unwrap();
            prop_assert_eq!(back.id, key.id);
            prop_assert!(back.secret.digest() == key.secret.digest());
        }
    }
}

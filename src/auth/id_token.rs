//! ID tokens of an OIDC provider: who a person is there (OpenID Connect Core 1.0, 3.1.3.7).
//!
//! 1. The key is one of the provider's, by the id that the token names.
//! 2. The algorithm is an asymmetric one, and that of the key: the provider's public key is never
//!    taken for a shared secret.
//! 3. Issuer, audience, times and nonce are those of the login that is under way.
//!
//! What comes out is the subject, and nothing else: names and addresses can be chosen at many
//! providers, and are given to another person some day.

use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// No token is longer; more is refused unread.
const MAX_TOKEN: usize = 16 << 10;
/// How many keys of a provider are looked at.
const MOST_KEYS: usize = 64;
/// How far the provider's clock may be from ours, in seconds.
const SKEW: i64 = 60;
/// OpenID Connect Core 1.0, 2: no subject is longer.
const MAX_SUBJECT: usize = 255;

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The public keys of a provider (RFC 7517).
#[derive(Clone, Debug)]
pub struct ProviderKeys(Vec<Jwk>);

impl ProviderKeys {
    /// The keys of a set that signatures may be checked with. What is not one is left out.
    /// `None` if it is no set.
    pub fn parse(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().take(MOST_KEYS);
        let keys = keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Some(Self(keys.filter(is_for_signatures).collect()))
    }

    /// The key that a token names; where it names none, the only one.
    fn find(&self, kid: Option<&str>) -> Option<&Jwk> {
        match (kid, &*self.0) {
            (Some(kid), keys) => keys
                .iter()
                .find(|k| k.common.key_id.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

fn is_for_signatures(key: &Jwk) -> bool {
    let kind = !matches!(
        key.algorithm,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)
    );
    kind && !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
}

/// What a token must be of.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Us, as the provider knows us.
    pub client: &'a str,
    /// What this login drew.
    pub nonce: &'a str,
    /// The time of day.
    pub now: Timestamp,
}

/// Why a token tells of nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadIdToken {
    /// No key that is known is the one that it names. The provider may have new ones.
    #[error("unknown key")]
    UnknownKey,
    /// It is not signed by that key.
    #[error("bad signature")]
    Signature,
    /// Of another provider, for somebody else, of another login, or of another time.
    #[error("not for this login: {0}")]
    Claim(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Whether it is for us alone, or for several and made for us.
    fn is_for(&self, client: &str) -> bool {
        let party = self.azp.as_deref().is_none_or(|party| party == client);
        party
            && match &self.aud {
                Audience::One(one) => one == client,
                Audience::Many(all) => {
                    let ours = all.iter().any(|one| one == client);
                    ours && (all.len() == 1 || self.azp.is_some())
                }
            }
    }

    fn check(&self, expected: &Expected<'_>) -> Result<(), BadIdToken> {
        let now = expected.now.as_second();
        let nonce = self.nonce.as_deref().unwrap_or_default();
        let same_nonce = nonce.as_bytes().ct_eq(expected.nonce.as_bytes());
        let checks = [
            ("iss", self.iss == expected.issuer),
            ("aud", self.is_for(expected.client)),
            ("exp", now < self.exp.saturating_add(SKEW)),
            ("iat", self.iat <= now.saturating_add(SKEW)),
            (
                "nbf",
                self.nbf.is_none_or(|from| from <= now.saturating_add(SKEW)),
            ),
            ("nonce", same_nonce.into()),
            ("sub", (1..=MAX_SUBJECT).contains(&self.sub.len())),
        ];
        let wrong = checks.into_iter().find(|(_, holds)| !holds);
        wrong.map_or(Ok(()), |(claim, _)| Err(BadIdToken::Claim(claim)))
    }
}

/// The subject that a token is of.
///
/// # Errors
/// Why it is of nobody.
pub fn verify(
    keys: &ProviderKeys,
    token: &str,
    expected: &Expected<'_>,
) -> Result<String, BadIdToken> {
    if token.len() > MAX_TOKEN {
        return Err(BadIdToken::Signature);
    }
    let header = decode_header(token).map_err(|_| BadIdToken::Signature)?;
    if header.crit.is_some() || !ALGORITHMS.contains(&header.alg) {
        return Err(BadIdToken::Signature);
    }
    let key = keys.find(header.kid.as_deref());
    let key = key.ok_or(BadIdToken::UnknownKey)?;
    let own = key.common.key_algorithm;
    if own.is_some_and(|own| own != KeyAlgorithm::from(header.alg)) {
        return Err(BadIdToken::Signature);
    }
    let decoding = DecodingKey::from_jwk(key).map_err(|_| BadIdToken::Signature)?;
    let decoded = decode::<Claims>(token, &decoding, &validation(header.alg));
    let claims = decoded.map_err(|_| BadIdToken::Signature)?.claims;
    claims.check(expected)?;
    Ok(claims.sub)
}

/// The library checks claims only where they are there, and by its own clock. We check them.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

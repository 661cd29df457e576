//! Hashes of API keys as ZenML's own database has them: bcrypt of the 64 hex digits in the key's text.
//!
//! bcrypt is the wrong cost for 256 random bits, yet it is all that is known of a key that was made
//! by ZenML. So it is paid once: what a key proved to be is remembered as the verifier that it would
//! have had, and compared like any other from then on.

use std::{fmt, str::FromStr, sync::OnceLock};

use subtle::Choice;
use thiserror::Error;

use super::api_key::{KeySecret, Verifier};

/// The highest cost that is computed: at 14, about a second.
pub const MAX_COST: u8 = 14;
/// The lowest that bcrypt knows.
const MIN_COST: u8 = 4;

/// A bcrypt hash, as `$2b$12$` and 53 characters. No secret: there is nothing to guess behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BcryptHash(Box<str>);

/// Why a text is not a hash that is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no bcrypt hash of cost 4 to 14, $2b$12$ and 53 characters")]
pub struct NoHash;

impl FromStr for BcryptHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let mut parts = text.split('$');
        let (Some(""), Some(version), Some(cost), Some(rest), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(NoHash);
        };
        let is_cost = cost.len() == 2
            && cost.bytes().all(|c| c.is_ascii_digit())
            && cost
                .parse()
                .is_ok_and(|cost: u8| (MIN_COST..=MAX_COST).contains(&cost));
        let inside = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'/';
        let is_rest = rest.len() == 53 && rest.bytes().all(inside);
        let good = matches!(version, "2a" | "2b" | "2y") && is_cost && is_rest;
        good.then(|| Self(text.into())).ok_or(NoHash)
    }
}

impl fmt::Display for BcryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BcryptHash {
    /// Whether this is the hash of a key. Takes a fifth of a second at ZenML's cost of 12: not for a
    /// thread that others wait for.
    pub fn is_of(&self, secret: &KeySecret) -> bool {
        bcrypt::verify(secret.digits(), &self.0).unwrap_or(false)
    }
}

/// A generation of which only a bcrypt hash is known.
#[derive(Debug)]
pub struct Slow {
    /// The hash.
    pub hash: BcryptHash,
    /// What stands for the key, once somebody proved to hold it.
    proven: OnceLock<Verifier>,
}

impl Slow {
    /// One that nobody proved to hold yet.
    pub const fn new(hash: BcryptHash) -> Self {
        Self {
            hash,
            proven: OnceLock::new(),
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.get().is_some()
    }

    pub(super) fn prove(&self, verifier: Verifier) {
        // Whoever came first proved the same key.
        let _ = self.proven.set(verifier);
    }

    pub(super) fn learn(&self, other: &Self) {
        if let Some(proven) = other.proven.get() {
            self.prove(*proven);
        }
    }

    pub(super) fn matches(&self, claimed: &Verifier) -> Choice {
        self.proven
            .get()
            .map_or(Choice::from(0), |proven| proven.matches(claimed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 64 times `5a`: passlib 1.7.4 with bcrypt 4.0.1, as ZenML 0.98.0 hashes a key.
    const OF_5A: &str = "$2b$12$EHZSNrwSi60skCjA25aRFOGpWkNs4sG7AKx/pRcWaui2EJ0wbdgJS";

    #[test]
    fn reads_the_hash_that_zenml_makes() {
        let hash: BcryptHash = OF_5A.parse().unwrap();
        assert_eq!(hash.to_string(), OF_5A);
        assert!(hash.is_of(&KeySecret::from_random(&[0x5a; 32])));
        assert!(!hash.is_of(&KeySecret::from_random(&[0x5b; 32])));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        let rest = "a".repeat(53);
        for cost in ["04", "12", "14"] {
            for version in ["2a", "2b", "2y"] {
                assert!(
                    format!("${version}${cost}${rest}")
                        .parse::<BcryptHash>()
                        .is_ok()
                );
            }
        }
        let bad = [
            String::new(),
            format!("$2b$15${rest}"),
            format!("$2b$31${rest}"),
            format!("$2b$03${rest}"),
            format!("$2b$+9${rest}"),
            format!("$2b$012${rest}"),
            format!("$2x$12${rest}"),
            format!("2b$12${rest}"),
            format!("$2b$12${rest}a"),
            format!("$2b$12${rest}$"),
            format!("$2b$12${}!", "a".repeat(52)),
        ];
        for text in bad {
            assert_eq!(text.parse::<BcryptHash>(), Err(NoHash), "{text}");
        }
    }
}

//! Keys that were made elsewhere.

use uuid::Uuid;

use crate::{
    api::{SourceType, ZenAPIKey},
    auth::{
        api_key::{ApiKey, KeyDigest, KeySecret, Pepper, Verifier},
        bcrypt::{BcryptHash, NoHash},
    },
    reconcile::{
        plan::Live,
        source::{Missing, entry, unusable},
    },
};

/// A random key of 32 bytes has fewer different ones once in 10^24.
const FEWEST_DIFFERENT_BYTES: usize = 16;

/// A key that was made elsewhere.
#[derive(Debug)]
pub(super) struct Given {
    pub id: Uuid,
    pub hash: Hash,
    pub secret: Option<KeySecret>,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Hash {
    Sha256(KeyDigest),
    Bcrypt(BcryptHash),
}

impl Hash {
    /// What stands for the key in status.
    pub(super) fn verifier(&self, pepper: &Pepper, account: Uuid, key: Uuid) -> Verifier {
        match self {
            Self::Sha256(digest) => pepper.verifier(account, key, *digest),
            Self::Bcrypt(hash) => pepper.slow_verifier(account, key, hash),
        }
    }
}

/// The key that `spec.source` speaks of; `None` where we make it ourselves.
///
/// # Errors
/// Why there is none, in words that do not show what was read.
pub(super) fn given(key: &ZenAPIKey, secret: Option<&Live>) -> Result<Option<Given>, Missing> {
    let source = &key.spec.source;
    match source.source_type {
        SourceType::Generated => Ok(None),
        SourceType::Verifier => verifier(key).map(Some),
        SourceType::ValueFrom => value_from(key, secret).map(Some),
    }
}

fn verifier(key: &ZenAPIKey) -> Result<Given, Missing> {
    let unusable = |what: &str| Missing::Unusable(format!("spec.source.verifier: {what}"));
    let source = key.spec.source.verifier.as_ref();
    let source = source.ok_or_else(|| unusable("must be set"))?;
    let id = source
        .key_id
        .parse()
        .map_err(|_| unusable("keyId must be a UUID"))?;
    let hash = match (&source.sha256, &source.bcrypt) {
        (Some(sha256), None) => {
            let digest = sha256.parse();
            Hash::Sha256(digest.map_err(|_| unusable("sha256 must be 64 hex digits"))?)
        }
        (None, Some(bcrypt)) => {
            let hash = bcrypt.parse();
            Hash::Bcrypt(hash.map_err(|why: NoHash| unusable(&why.to_string()))?)
        }
        _ => return Err(unusable("set sha256 or bcrypt")),
    };
    Ok(Given {
        id,
        hash,
        secret: None,
    })
}

fn value_from(key: &ZenAPIKey, secret: Option<&Live>) -> Result<Given, Missing> {
    let Some(from) = &key.spec.source.value_from else {
        return Err(Missing::Unusable(
            "spec.source.valueFrom must be set".into(),
        ));
    };
    let from = &from.secret_key_ref;
    let unusable = |what: &str| unusable(from, what);
    let text = entry(secret, from)?;
    let text = std::str::from_utf8(&text).map_err(|_| unusable("is not text"))?;
    let key: ApiKey = text.trim().parse().map_err(|why| {
        unusable(&format!(
            "{why}; make one with kubectl zen key new --offline"
        ))
    })?;
    if key.secret.different_bytes() < FEWEST_DIFFERENT_BYTES {
        return Err(unusable(
            "the key is not random; make one with kubectl zen key new --offline",
        ));
    }
    Ok(Given {
        id: key.id,
        hash: Hash::Sha256(key.secret.digest()),
        secret: Some(key.secret),
    })
}

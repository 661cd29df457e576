//! Keys that were made elsewhere.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    api::{SourceType, ZenAPIKey},
    auth::api_key::{ApiKey, KeyDigest, KeySecret},
    reconcile::plan::Live,
};

/// A random key of 32 bytes has fewer different ones once in 10^24.
const FEWEST_DIFFERENT_BYTES: usize = 16;

/// A key that was made elsewhere.
#[derive(Debug)]
pub(super) struct Given {
    pub id: Uuid,
    pub digest: KeyDigest,
    pub secret: Option<KeySecret>,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is not there yet.
    Absent(String),
    /// It is there and cannot be used.
    Unusable(String),
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
    let digest = source
        .sha256
        .parse()
        .map_err(|_| unusable("sha256 must be 64 hex digits"))?;
    Ok(Given {
        id,
        digest,
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
    let Some(secret) = secret else {
        let message = format!(
            "waits for Secret {} of this namespace to be created",
            from.name
        );
        return Err(Missing::Absent(message));
    };
    if secret.body.get("type").and_then(Value::as_str)
        == Some("kubernetes.io/service-account-token")
    {
        return Err(Missing::Unusable(format!(
            "Secret {} holds a Kubernetes token; keys are not read from such Secrets",
            from.name
        )));
    }
    let encoded = secret
        .body
        .get("data")
        .and_then(|data| data.get(&from.key)?.as_str());
    let Some(encoded) = encoded else {
        let message = format!("waits for entry {} in Secret {}", from.key, from.name);
        return Err(Missing::Absent(message));
    };
    let unusable = |what: &str| {
        Missing::Unusable(format!(
            "entry {} of Secret {}: {what}",
            from.key, from.name
        ))
    };
    let text = Zeroizing::new(STANDARD.decode(encoded).unwrap_or_default());
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
        digest: key.secret.digest(),
        secret: Some(key.secret),
    })
}

//! What is read out of Secrets that others keep.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    error::Invalid,
    plan::{Live, Verdict},
};
use crate::api::{SecretKeyRef, reason};

/// How often the sources of keys and passwords are looked at.
const LOOK: SignedDuration = SignedDuration::from_secs(30);

/// When what comes from others' Secrets is to be looked at again.
pub(super) fn next_look(now: Timestamp) -> Timestamp {
    now.saturating_add(LOOK).unwrap_or(Timestamp::MAX)
}

/// Why nothing is to be had from a source, in words that do not show what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is not there yet.
    Absent(String),
    /// It is there and cannot be used.
    Unusable(String),
}

impl Missing {
    /// What to report. No watch shows others' Secrets, so it is looked at again.
    pub(super) fn into_invalid(self) -> Invalid {
        let verdict = match self {
            Self::Absent(message) => Verdict::Waiting {
                reason: reason::SOURCE_NOT_FOUND,
                message,
            },
            Self::Unusable(message) => Verdict::Stalled {
                reason: reason::SOURCE_INVALID,
                message,
            },
        };
        Invalid {
            verdict,
            facts: Vec::new(),
            unwatched: true,
        }
    }
}

/// An entry of a Secret as it was read.
///
/// # Errors
/// If there is no such entry, or the Secret holds the token of a service account: whoever may
/// name a Secret here need not be one who may have that.
pub(super) fn entry(
    secret: Option<&Live>,
    from: &SecretKeyRef,
) -> Result<Zeroizing<Vec<u8>>, Missing> {
    let SecretKeyRef { name, key } = from;
    let Some(secret) = secret else {
        let message = format!("waits for Secret {name} of this namespace to be created");
        return Err(Missing::Absent(message));
    };
    let kind = secret.body.get("type").and_then(Value::as_str);
    if kind == Some("kubernetes.io/service-account-token") {
        return Err(Missing::Unusable(format!(
            "Secret {name} holds a Kubernetes token; nothing is read from such Secrets"
        )));
    }
    value(secret, key)
        .ok_or_else(|| Missing::Absent(format!("waits for entry {key} in Secret {name}")))
}

/// The value of an entry of a Secret.
pub(super) fn value(secret: &Live, key: &str) -> Option<Zeroizing<Vec<u8>>> {
    let encoded = secret.body.get("data")?.get(key)?.as_str()?;
    Some(Zeroizing::new(STANDARD.decode(encoded).unwrap_or_default()))
}

/// That an entry cannot be used, and why.
pub(super) fn unusable(from: &SecretKeyRef, why: &str) -> Missing {
    Missing::Unusable(format!("entry {} of Secret {}: {why}", from.key, from.name))
}

//! A token that lets a user choose a password: made, put into a Secret, taken away once used.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::{
    api::{ActivationStatus, label, whole_seconds},
    auth::{
        api_key::Pepper,
        credential::{Activation, ActivationToken, Credential},
    },
    reconcile::plan::{Child, Live},
};

/// Entry of the Secret that holds the token.
const TOKEN: &str = "token";

/// How far a user is on the way to a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody asked for a token.
    None,
    /// A token is to be made, or to be put where it is to be.
    Issue(ActivationStatus),
    /// The token waits to be used.
    Pending(ActivationStatus),
    /// It was used.
    Used(ActivationStatus),
    /// Its time is over.
    Expired(ActivationStatus),
}

/// What a decision about a token needs.
pub(super) struct Situation<'a> {
    pub secret: &'a str,
    pub ttl: SignedDuration,
    pub recorded: Option<&'a ActivationStatus>,
    pub stored: Option<&'a Credential>,
    /// Whether the Secret is there with the token that is stored.
    pub delivered: bool,
    pub now: Timestamp,
}

/// A token is made when its place was not recorded yet. It was used once a password was set after
/// that; and it is made again where Secret or hash were lost before.
pub(super) fn stage(seen: &Situation<'_>) -> Stage {
    let recorded = seen.recorded.filter(|r| r.secret_name == seen.secret);
    let Some(recorded) = recorded.cloned() else {
        let expires = seen.now.checked_add(seen.ttl).unwrap_or(Timestamp::MAX);
        return Stage::Issue(ActivationStatus {
            secret_name: seen.secret.to_owned(),
            issued_time: whole_seconds(seen.now),
            expires_at: whole_seconds(expires),
            used: false,
        });
    };
    let chosen = match seen.stored {
        Some(Credential::Password(verifier)) => verifier.set() >= recorded.issued_time.0,
        _ => false,
    };
    if recorded.used || chosen {
        return Stage::Used(ActivationStatus {
            used: true,
            ..recorded
        });
    }
    if recorded.expires_at.0 <= seen.now {
        return Stage::Expired(recorded);
    }
    match seen.delivered {
        true => Stage::Pending(recorded),
        false => Stage::Issue(recorded),
    }
}

/// The token in a Secret of ours.
pub(super) fn held(secret: Option<&Live>) -> Option<ActivationToken> {
    let encoded = secret?.body.get("data")?.get(TOKEN)?.as_str()?;
    let text = STANDARD.decode(encoded).ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

/// What is stored for a token.
pub(super) fn credential(
    pepper: &Pepper,
    user: Uuid,
    token: &ActivationToken,
    status: &ActivationStatus,
) -> Credential {
    Credential::Activation(Activation::new(pepper, user, token, status.expires_at.0))
}

/// The Secret with a token.
pub(super) fn child(
    name: &str,
    token: &ActivationToken,
    user: Uuid,
    username: &str,
    url: &str,
    live: Option<Live>,
) -> Child {
    let entry = |text: &str| STANDARD.encode(text);
    let body = json!({
        "type": "Opaque",
        "metadata": {"labels": {label::NAME: "zenuser", label::COMPONENT: "activation"}},
        "data": {
            TOKEN: entry(token.text()),
            "user-id": entry(&user.to_string()),
            "username": entry(username),
            "url": entry(url),
        },
    });
    Child {
        resource: kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
        name: name.to_owned(),
        body,
        live,
        create_only: false,
        adopts: false,
        kept: false,
    }
}

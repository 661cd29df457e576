//! What others provide for a key, and whether it may be used now.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    Observed,
    timing::{plus, signed},
};
use crate::{
    api::{KeyPolicy, ZenAPIKey, ZenServer, ZenServiceAccount, condition, reason},
    auth::keyring::Keyring,
    reconcile::{
        error::Invalid,
        plan::{Fact, Verdict},
        service_account::identity,
    },
};

/// A key is said to expire soon so long before its end, or for the last fifth of its life if that
/// is shorter.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Account, server, and what of it is needed.
#[derive(Debug)]
pub(super) struct Parties {
    pub account: Arc<ZenServiceAccount>,
    /// The id that verifiers are bound to.
    pub account_id: Uuid,
    pub server: Arc<ZenServer>,
    pub keyring: Arc<Keyring>,
    pub url: String,
}

impl Parties {
    /// All that others provide.
    ///
    /// # Errors
    /// What is waited for.
    pub(super) fn of(key: &ZenAPIKey, seen: &Observed) -> Result<Self, Invalid> {
        let name = &key.spec.service_account_ref.name;
        let Some((account, holds_name)) = &seen.account else {
            let message =
                format!("waits for ZenServiceAccount {name} of this namespace to be created");
            return Err(waiting(reason::ACCOUNT_NOT_FOUND, message));
        };
        if !holds_name {
            let message =
                format!("waits for ZenServiceAccount {name}, whose name an older account has");
            return Err(waiting(reason::NAME_CONFLICT, message));
        }
        let server_name = &account.spec.server_ref.name;
        let Some(server) = &seen.server else {
            let message =
                format!("waits for ZenServer {server_name} of this namespace to be created");
            return Err(waiting(reason::SERVER_NOT_FOUND, message));
        };
        let url = server.status.as_ref().and_then(|status| status.url.clone());
        match (&seen.keyring, url) {
            (Some(keyring), Some(url)) => {
                let Some(account_id) = identity(account, keyring.pepper()) else {
                    let message = format!("waits for ZenServiceAccount {name} to be set up");
                    return Err(waiting(reason::ACCOUNT_NOT_FOUND, message));
                };
                Ok(Self {
                    account: Arc::clone(account),
                    account_id,
                    server: Arc::clone(server),
                    keyring: Arc::clone(keyring),
                    url,
                })
            }
            _ => {
                let message = format!(
                    "waits for the auth Secret of ZenServer {server_name}; \
                     see kubectl describe zenserver {server_name}"
                );
                Err(waiting(reason::SERVER_NOT_READY, message))
            }
        }
    }

    pub(super) fn policy(&self) -> &KeyPolicy {
        &self.server.spec.policy.keys
    }

    /// When a generation of the key that was made then dies.
    pub(super) fn end(&self, key: &ZenAPIKey, made: Timestamp) -> Option<Timestamp> {
        end(key, &self.account, self.policy(), made)
    }
}

/// When a generation of a key that was made then dies. The sidecar decides the same.
pub(super) fn end(
    key: &ZenAPIKey,
    account: &ZenServiceAccount,
    policy: &KeyPolicy,
    made: Timestamp,
) -> Option<Timestamp> {
    let fixed = key.spec.expires_at.as_ref().map(|end| end.0);
    let ttl = key.spec.ttl;
    let ttl = ttl.or(policy.default_ttl.filter(|_| fixed.is_none()));
    let account = account.spec.expires_at.as_ref().map(|end| end.0);
    let after = |ttl| plus(made, signed(ttl));
    [fixed, account, ttl.map(after), policy.max_ttl.map(after)]
        .into_iter()
        .flatten()
        .min()
}

/// What is waited for, and cannot be used until then.
pub(super) fn waiting(reason: &'static str, message: String) -> Invalid {
    let inactive = Fact {
        condition: condition::ACTIVE,
        holds: false,
        reason,
        message: message.clone(),
    };
    Invalid {
        verdict: Verdict::Waiting { reason, message },
        facts: vec![inactive],
        unwatched: false,
    }
}

/// Whether the key may log in, in words; and when time alone will change that. The sidecar
/// decides the same by itself.
pub(super) fn activity(
    key: &ZenAPIKey,
    account: &ZenServiceAccount,
    ends: Option<Timestamp>,
    now: Timestamp,
) -> (Fact, Option<Timestamp>) {
    let name = account.name_any();
    let begins = |from: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        from.map(|from| from.0).filter(|from| now < *from)
    };
    let (own, theirs) = (
        begins(key.spec.valid_from.as_ref()),
        begins(account.spec.valid_from.as_ref()),
    );
    let account_over = account
        .spec
        .expires_at
        .as_ref()
        .is_some_and(|end| end.0 <= now);
    let (reason, message) = if !key.spec.active {
        (reason::DEACTIVATED, "spec.active is false".to_owned())
    } else if !account.spec.active {
        let message = format!("ZenServiceAccount {name} is deactivated");
        (reason::ACCOUNT_DEACTIVATED, message)
    } else if account_over {
        let message = format!("spec.expiresAt of ZenServiceAccount {name} is over");
        (reason::ACCOUNT_NOT_VALID, message)
    } else if ends.is_some_and(|end| end <= now) {
        let message = "its time is over; set a later spec.expiresAt, rotate it, or make a new key";
        (reason::EXPIRED, message.to_owned())
    } else if let Some(from) = own {
        (reason::NOT_YET_VALID, format!("may log in from {from} on"))
    } else if let Some(from) = theirs {
        let message = format!("ZenServiceAccount {name} may log in from {from} on");
        (reason::ACCOUNT_NOT_VALID, message)
    } else {
        (reason::ACTIVE, "may log in".to_owned())
    };
    let fact = Fact {
        condition: condition::ACTIVE,
        holds: reason == reason::ACTIVE,
        reason,
        message,
    };
    let end = ends.filter(|end| now < *end);
    (fact, [own, theirs, end].into_iter().flatten().min())
}

/// When a key that was made and dies then begins to be said to expire soon.
pub(super) fn warned_from(made: Timestamp, ends: Timestamp) -> Timestamp {
    let life = ends.duration_since(made);
    let fifth = SignedDuration::from_secs(life.as_secs() / 5);
    plus(ends, -SOON.min(fifth))
}

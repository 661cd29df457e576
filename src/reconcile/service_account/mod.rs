//! ZenServiceAccount: nothing is made for one; its status says who it is and how its keys are.
//!
//! It promises: of accounts of one server with the same name the oldest has it, the others say
//! `NameConflict`, and have it when the oldest is gone.

mod decide;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use self::decide::{Name, name_holder};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    plan::{Fact, Plan, Verdict},
};
use crate::api::{
    KeyCount, ZenAPIKey, ZenServiceAccount, ZenServiceAccountStatus, condition, reason,
    whole_seconds,
};

pub use decide::holds_name;

/// What a decision about an account needs.
#[derive(Debug)]
pub struct Observed {
    server_exists: bool,
    name: Name,
    keys: Vec<Arc<ZenAPIKey>>,
}

/// An account that can be used.
#[derive(Debug)]
pub struct Valid {
    id: String,
    name: String,
    activity: Fact,
    /// When time alone changes whether it is active.
    changes: Option<Timestamp>,
    keys: KeySummary,
}

#[derive(Debug, PartialEq)]
struct KeySummary {
    count: KeyCount,
    next_expiry: Option<Timestamp>,
}

impl Reconciled for ZenServiceAccount {
    type State = ZenServiceAccountStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = ();

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        let ours = |key: &ZenAPIKey| {
            key.namespace().as_ref() == Some(&namespace)
                && key.spec.service_account_ref.name == self.name_any()
        };
        Ok(Observed {
            server_exists: read
                .server(&namespace, &self.spec.server_ref.name)
                .is_some(),
            name: name_holder(self, &read.views().accounts),
            keys: read.views().keys.state_filter(ours),
        })
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        let name = self.zenml_name().to_owned();
        if let Name::HeldBy(holder) = &seen.name {
            let message = format!(
                "the name {name:?} belongs to the older ZenServiceAccount {holder}; \
                 set spec.name to another, or delete that one"
            );
            return Err(Invalid {
                facts: vec![
                    inactive(reason::NAME_CONFLICT, "an older account has its name"),
                    Fact {
                        condition: condition::NAME_CONFLICT,
                        holds: true,
                        reason: reason::NAME_CONFLICT,
                        message: message.clone(),
                    },
                ],
                verdict: Verdict::Stalled {
                    reason: reason::NAME_CONFLICT,
                    message,
                },
                unwatched: false,
            });
        }
        if !seen.server_exists {
            let server = &self.spec.server_ref.name;
            let message = format!("waits for ZenServer {server} of this namespace to be created");
            return Err(Invalid {
                facts: vec![inactive(
                    reason::SERVER_NOT_FOUND,
                    "its server does not exist",
                )],
                verdict: Verdict::Waiting {
                    reason: reason::SERVER_NOT_FOUND,
                    message,
                },
                unwatched: false,
            });
        }
        let id = self.uid().unwrap_or_default();
        let keys = summary(&id, &seen.keys, now);
        let (activity, changes) = activity(self, now);
        Ok(Valid {
            id,
            name,
            activity,
            changes,
            keys,
        })
    }

    fn plan(valid: Valid, _: &mut impl Fresh) -> Plan<ZenServiceAccountStatus> {
        Plan {
            record: None,
            children: Vec::new(),
            prune: Vec::new(),
            restarts: Vec::new(),
            verdict: Verdict::Ready {
                message: format!("account {:?} is set up", valid.name),
            },
            facts: vec![valid.activity],
            notes: Vec::new(),
            deadline: [valid.keys.next_expiry, valid.changes]
                .into_iter()
                .flatten()
                .min(),
            status: ZenServiceAccountStatus {
                account_id: Some(valid.id),
                next_expiry_time: valid.keys.next_expiry.map(whole_seconds),
                keys: valid.keys.count,
                ..ZenServiceAccountStatus::default()
            },
        }
    }
}

/// Whether the account may log in, and when time alone changes that. The sidecar decides the same
/// by itself.
fn activity(account: &ZenServiceAccount, now: Timestamp) -> (Fact, Option<Timestamp>) {
    let spec = &account.spec;
    let ends = spec.expires_at.as_ref().map(|end| end.0);
    let begins = spec.valid_from.as_ref().map(|from| from.0);
    let fact = if !spec.active {
        inactive(reason::DEACTIVATED, "spec.active is false")
    } else if ends.is_some_and(|end| end <= now) {
        inactive(reason::EXPIRED, "spec.expiresAt is over; set a later one")
    } else if let Some(from) = begins.filter(|from| now < *from) {
        inactive(reason::NOT_YET_VALID, &format!("may log in from {from} on"))
    } else {
        Fact {
            condition: condition::ACTIVE,
            holds: true,
            reason: reason::ACTIVE,
            message: "may log in with its keys".into(),
        }
    };
    let changes = [begins, ends].into_iter().flatten();
    (fact, changes.filter(|at| now < *at).min())
}

fn inactive(reason: &'static str, message: &str) -> Fact {
    Fact {
        condition: condition::ACTIVE,
        holds: false,
        reason,
        message: message.into(),
    }
}

fn summary(account: &str, keys: &[Arc<ZenAPIKey>], now: Timestamp) -> KeySummary {
    let usable = |key: &&Arc<ZenAPIKey>| {
        let status = key.status.as_ref();
        key.spec.active
            && key.metadata.deletion_timestamp.is_none()
            && status
                .is_some_and(|s| s.generation.is_some() && s.account_id.as_deref() == Some(account))
            && end(key).is_none_or(|end| now < end)
    };
    let active: Vec<_> = keys.iter().filter(usable).collect();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    KeySummary {
        count: KeyCount {
            active: count(active.len()),
            total: count(keys.len()),
        },
        next_expiry: active.iter().filter_map(|key| end(key)).min(),
    }
}

/// When a key dies: as its spec says now, and as its own pass found out.
fn end(key: &ZenAPIKey) -> Option<Timestamp> {
    let found = key.status.as_ref().and_then(|s| s.expires_at.as_ref());
    let ends = [key.spec.expires_at.as_ref(), found];
    ends.into_iter().flatten().map(|end| end.0).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(active: bool, account: &str, expires: Option<i64>) -> Arc<ZenAPIKey> {
        let mut key: ZenAPIKey = serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "metadata": {"name": "k"},
            "spec": {"serviceAccountRef": {"name": "ci"}, "active": active},
            "status": {"generation": 1, "accountId": account},
        }))
        .unwrap();
        key.spec.expires_at = expires.map(|s| Time(at(s)));
        Arc::new(key)
    }

    #[test]
    fn counts_keys_that_may_log_in_now() {
        let keys = [
            key(true, "a", None),
            key(true, "a", Some(200)),
            key(true, "a", Some(150)),
            key(true, "a", Some(100)),
            key(false, "a", Some(120)),
            key(true, "another", None),
        ];
        let expected = KeySummary {
            count: KeyCount {
                active: 3,
                total: 6,
            },
            next_expiry: Some(at(150)),
        };
        assert_eq!(summary("a", &keys, at(100)), expected);
    }
}

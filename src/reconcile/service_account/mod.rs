//! ZenServiceAccount: nothing is made for one; its status says who it is and how its keys are.
//!
//! It promises: of accounts of one server with the same name the oldest has it, the others say
//! `NameConflict`, and have it when the oldest is gone.

mod identity;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use self::identity::{Identity, has_past, is_set_up};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    namesake::{Name, name_holder},
    plan::{Doomed, Fact, Note, Plan, Verdict},
    record::{
        farewell::Wish,
        revival::{Lookup, lookup},
    },
};
use crate::{
    api::{
        KeyCount, ZenAPIKey, ZenServiceAccount, ZenServiceAccountStatus, condition, reason,
        whole_seconds,
    },
    auth::keyring::Keyring,
};

pub use identity::identity;

/// What a decision about an account needs.
#[derive(Debug)]
pub struct Observed {
    server_exists: bool,
    name: Name,
    keys: Vec<Arc<ZenAPIKey>>,
    /// Where its id may be another than its UID.
    keyring: Option<Arc<Keyring>>,
    past: Lookup,
    /// The record that it continues, if that is still there.
    spent: Option<Doomed>,
}

/// An account that can be used.
#[derive(Debug)]
pub struct Valid {
    identity: Identity,
    is_restored: bool,
    spent: Option<Doomed>,
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
        let server = read.server(&namespace, &self.spec.server_ref.name);
        let restored_from = self.status.as_ref().and_then(|s| s.restored_from.as_ref());
        let mut keyring = None;
        let mut past = Lookup::New;
        if let Some(server) = server.as_ref().filter(|_| has_past(self)) {
            keyring = read.keyring(server).await?;
            if let Some(keyring) = keyring.as_ref().filter(|_| !is_set_up(self)) {
                past = lookup(self, self.spec.deletion_policy, read, keyring).await?;
            }
        }
        Ok(Observed {
            keyring,
            past,
            spent: restored_from.and_then(|uid| read.record(&namespace, uid)),
            server_exists: server.is_some(),
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
        let identity = self.identify(&seen, now)?;
        let keys = summary(&identity.id, &seen.keys, now);
        let (activity, changes) = activity(self, now);
        let is_restored = matches!(seen.past, Lookup::Continues(_));
        let spent = match seen.past {
            Lookup::Continues(revival) => Some(revival.spent),
            _ => seen.spent,
        };
        Ok(Valid {
            identity,
            is_restored,
            spent,
            name,
            activity,
            changes,
            keys,
        })
    }

    fn plan(valid: Valid, _: &mut impl Fresh) -> Plan<ZenServiceAccountStatus> {
        let status = ZenServiceAccountStatus {
            account_id: Some(valid.identity.id),
            id_proof: valid.identity.proof,
            restored_from: valid.identity.restored_from,
            next_expiry_time: valid.keys.next_expiry.map(whole_seconds),
            keys: valid.keys.count,
            ..ZenServiceAccountStatus::default()
        };
        Plan {
            // Before the record goes of which it is made.
            record: valid.is_restored.then(|| status.clone()),
            children: Vec::new(),
            entries: Vec::new(),
            prune: valid.spent.into_iter().collect(),
            restarts: Vec::new(),
            verdict: Verdict::Ready {
                message: format!("account {:?} is set up", valid.name),
            },
            facts: vec![valid.activity],
            notes: valid.is_restored.then(restored).into_iter().collect(),
            deadline: [valid.keys.next_expiry, valid.changes]
                .into_iter()
                .flatten()
                .min(),
            status,
        }
    }

    fn wish(&self, read: &Reader) -> Option<Wish> {
        let namespace = self.namespace().unwrap_or_default();
        Some(Wish {
            policy: self.spec.deletion_policy,
            server: read.server(&namespace, &self.spec.server_ref.name),
            secret: None,
            is_made: is_set_up(self),
        })
    }

    fn continues(&self, spec: &Value) -> bool {
        spec.get("serverRef") == serde_json::to_value(&self.spec.server_ref).ok().as_ref()
    }
}

/// What is told of an account that continues a deleted one.
fn restored() -> Note {
    Note {
        warning: false,
        reason: "Restored",
        action: "Restore",
        message: "continues the deleted account of this name: its keys are accepted again".into(),
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

//! How long it takes until this server refuses what somebody took back, in whatever way.
//!
//! Kubernetes writes down when a spec changed, and when an object was marked for deletion, in whole
//! seconds, rounded down. So what is measured is never less than what it took, and at most a second
//! more. It is read when a usable credential turns unusable, and not kept: a list that shows again
//! what was known measures nothing, while one that shows what a broken watch missed does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

use super::project;
use crate::auth::directory::{Account, Key};

/// Finer than a second tells nothing but that a change took less.
const BUCKETS: [f64; 10] = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// What this server saw taken back.
pub(super) struct Revocations {
    seconds: Histogram,
    now: fn() -> Timestamp,
}

impl Revocations {
    pub(super) fn new(now: fn() -> Timestamp) -> Self {
        Self {
            seconds: Histogram::new(BUCKETS),
            now,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "zenop_revocation_watch_seconds",
            "From a change of the spec of an account or key that ends it, or its marking for \
             deletion, whoever made it, until this server refuses: at most a second too long, as \
             Kubernetes writes times down in whole seconds, and as right as the two clocks. An \
             object that is deleted at once has no such time and is not counted",
            self.seconds.clone(),
        );
    }

    /// A key was replaced, or is gone.
    pub(super) fn key(&self, old: Option<Key>, new: Option<&Key>, meta: &ObjectMeta) {
        let now = (self.now)();
        let ended = old.is_some_and(|old| match new {
            Some(new) => old.is_ended_by(new, now),
            None => is_marked(meta) && old.is_active(now),
        });
        self.observe(ended, meta, now);
    }

    /// An account was replaced, or is gone.
    pub(super) fn account(&self, old: Option<Account>, new: Option<&Account>, meta: &ObjectMeta) {
        let now = (self.now)();
        let ended = old.is_some_and(|old| match new {
            Some(new) => old.is_active(now) && !new.is_active(now),
            None => is_marked(meta) && old.is_active(now),
        });
        self.observe(ended, meta, now);
    }

    fn observe(&self, ended: bool, meta: &ObjectMeta, now: Timestamp) {
        if let Some(at) = project::taken_back(meta).filter(|_| ended) {
            let took = now.duration_since(at).as_secs_f64();
            self.seconds.observe(took.max(0.0));
        }
    }
}

/// Only then is there a time. A status that was wiped ends a key too, and nobody took it back.
fn is_marked(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use prometheus_client::encoding::text::encode;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::kube::{Change, KubeStore};

    const UID: &str = "11111111-0000-4000-8000-000000000001";

    fn now() -> Timestamp {
        "2026-06-01T12:00:01.5Z".parse().unwrap()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "there is no other moment to begin with"
    )]
    fn instant() -> Instant {
        Instant::now()
    }

    /// A key whose spec was changed last 1.5 seconds ago, and whose status and labels since.
    fn key(change: &Value) -> Box<crate::api::ZenAPIKey> {
        let entry = |manager: &str, time: &str, fields: Value| {
            json!({"manager": manager, "operation": "Apply", "apiVersion": "zenop.dev/v1alpha1",
                   "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let mut of_status = entry("zenop", "2026-06-01T12:00:01Z", json!({"f:status": {}}));
        of_status["subresource"] = json!("status");
        let mut object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
            "metadata": {
                "name": "k", "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [
                    entry("flux", "2026-06-01T11:00:00Z", json!({"f:spec": {"f:name": {}}})),
                    entry("kubectl", "2026-06-01T12:00:00Z", json!({"f:spec": {"f:active": {}}})),
                    entry("other", "2026-06-01T12:00:01Z", json!({"f:metadata": {}})),
                    of_status,
                ],
            },
            "spec": {"serviceAccountRef": {"name": "ci"}},
            "status": {"keyId": UID, "accountId": UID, "generations": [
                {"generation": 1, "state": "Current", "verifier": "ab".repeat(32),
                 "createdTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        json_patch(&mut object, change);
        Box::new(serde_json::from_value(object).unwrap())
    }

    fn json_patch(object: &mut Value, change: &Value) {
        match change {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| json_patch(&mut object[name], value)),
            value => *object = value.clone(),
        }
    }

    /// What is measured when these are seen one after the other: how many, and their sum.
    fn seen(changes: Vec<Change<crate::api::ZenAPIKey>>) -> (String, String) {
        let store = KubeStore::new(instant, now);
        let mut registry = Registry::default();
        store.register(&mut registry);
        changes.into_iter().for_each(|change| store.keys(change));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        (
            value("zenop_revocation_watch_seconds_count"),
            value("zenop_revocation_watch_seconds_sum"),
        )
    }

    #[test]
    fn a_key_that_is_taken_back_is_measured_once_by_its_spec() {
        use Change::{All, Gone, Put};
        let as_it_was = || key(&json!({}));
        let off = || key(&json!({"spec": {"active": false}}));
        let expired = || key(&json!({"spec": {"expiresAt": "2026-06-01T12:00:00Z"}}));
        let marked = || key(&json!({"metadata": {"deletionTimestamp": "2026-06-01T12:00:01Z"}}));
        let wiped = || key(&json!({"status": null}));
        let retired = || key(&json!({"status": {"generations": []}}));
        let once = ("1".to_owned(), "1.5".to_owned());
        let never = ("0".to_owned(), "0.0".to_owned());
        let cases = [
            (vec![Put(as_it_was()), Put(off())], &once),
            (vec![Put(as_it_was()), Put(expired())], &once),
            (
                vec![Put(as_it_was()), Put(off()), Put(off()), All(vec![*off()])],
                &once,
            ),
            // A watch that was broken: it was accepted until now.
            (vec![All(vec![*as_it_was()]), All(vec![*off()])], &once),
            (vec![All(vec![*off()]), Put(off()), Put(expired())], &never),
            (
                vec![All(vec![*as_it_was()]), All(vec![*as_it_was()])],
                &never,
            ),
            (vec![Put(as_it_was()), Put(wiped())], &never),
            (vec![Put(as_it_was()), Put(retired())], &never),
            (
                vec![Put(as_it_was()), Gone(Box::new(as_it_was().metadata))],
                &never,
            ),
            (vec![Put(off()), Put(as_it_was())], &never),
        ];
        for (n, (changes, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(&seen(changes), wanted, "case {n}");
        }
        let half = ("1".to_owned(), "0.5".to_owned());
        let gone = Gone(Box::new(marked().metadata));
        assert_eq!(seen(vec![Put(as_it_was()), Put(marked()), gone]), half);
    }
}

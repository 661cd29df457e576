//! Restarts of workloads that use a key.
//!
//! A workload has the current key once it was restarted after the key was delivered and every pod
//! is of that restart. Several keys that are rotated at about the same time share one restart.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::core::{ApiResource, Selector};
use serde_json::Value;

use super::timing::{plus, signed};
use crate::{
    api::{Consumer, ConsumerKind, ConsumerStatus, Rotation, annotation},
    reconcile::{
        Reader,
        error::CallError,
        plan::{Live, Restart},
    },
};

/// How many workloads of one key are restarted at a time.
const AT_ONCE: usize = 4;
/// When to look again at a roll-out that has begun; one that lasts is looked at each time it has
/// lasted a quarter longer, and at the latest after a minute.
const LOOK: SignedDuration = SignedDuration::from_secs(3);
const LONGEST_LOOK: SignedDuration = SignedDuration::from_mins(1);
/// A restart of another key counts if it came so long after ours was delivered: times are whole
/// seconds.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// A workload as it was when we looked.
#[derive(Debug)]
pub(super) struct Workload {
    kind: ConsumerKind,
    waits: bool,
    live: Live,
}

/// The current key, as consumers must have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered<'a> {
    pub uid: &'a str,
    pub generation: i64,
    pub at: Timestamp,
}

/// What to do about consumers, and how they are then.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rollout {
    pub restarts: Vec<Restart>,
    pub status: Vec<ConsumerStatus>,
    /// Whether each one that is waited for has the current key.
    pub rolled: bool,
    pub next: Option<Timestamp>,
}

/// *Reads* the workloads that these consumers name or select.
pub(super) async fn observe(
    consumers: &[Consumer],
    namespace: &str,
    read: &Reader,
) -> Result<Vec<Workload>, CallError> {
    let mut found: Vec<Workload> = Vec::new();
    for consumer in consumers {
        let resource = resource(consumer.kind);
        let lives = match (&consumer.name, &consumer.selector) {
            (Some(name), _) => read
                .live(&resource, namespace, name)
                .await?
                .into_iter()
                .collect(),
            // A selector that cannot be read selects nothing.
            (None, Some(selector)) => match Selector::try_from(selector.clone()) {
                Ok(selector) if !selector.selects_all() => {
                    read.selected(&resource, namespace, &selector.to_string())
                        .await?
                }
                _ => Vec::new(),
            },
            (None, None) => Vec::new(),
        };
        for live in lives {
            match found.iter_mut().find(|known| known.live.uid == live.uid) {
                Some(known) => known.waits |= consumer.wait,
                None => found.push(Workload {
                    kind: consumer.kind,
                    waits: consumer.wait,
                    live,
                }),
            }
        }
    }
    Ok(found)
}

/// Decides.
pub(super) fn roll_out(
    workloads: &[Workload],
    key: Delivered<'_>,
    rotation: &Rotation,
    now: Timestamp,
) -> Rollout {
    let mut out = Rollout {
        rolled: true,
        ..Rollout::default()
    };
    let state = |w: &Workload| (restarted_for(w, key), is_complete(&w.live.body, w.kind));
    let rolling = workloads
        .iter()
        .filter(|w| state(w) == (true, false))
        .count();
    let mut room = AT_ONCE.saturating_sub(rolling);
    let mut look = |at: Timestamp| out.next = Some(out.next.map_or(at, |next| next.min(at)));
    for workload in workloads {
        let (mut restarted, complete) = state(workload);
        let rolled = restarted && complete;
        if !restarted {
            let rested = restarted_at(workload)
                .map_or(now, |at| plus(at, signed(rotation.min_restart_interval)));
            if rested <= now && room > 0 {
                room -= 1;
                restarted = true;
                out.restarts.push(restart(workload, key, now));
                look(plus(now, LOOK));
            } else if rested > now {
                look(rested.max(plus(now, LOOK)));
            }
            // Without room others are rolling, and are looked at.
        } else if !complete {
            look(plus(now, patience(workload, now)));
        }
        out.rolled &= rolled || !workload.waits;
        out.status.push(ConsumerStatus {
            kind: workload.kind,
            name: workload.name(),
            generation: if restarted { key.generation } else { 0 },
            rolled,
        });
    }
    out.status.sort_by(|a, b| a.name.cmp(&b.name));
    out.status.truncate(64);
    out
}

impl Workload {
    fn name(&self) -> String {
        let name = self.live.body.pointer("/metadata/name");
        name.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let template = self
            .live
            .body
            .pointer("/spec/template/metadata/annotations")?;
        template.get(name)?.as_str()
    }
}

fn restarted_for(workload: &Workload, key: Delivered<'_>) -> bool {
    let mark = format!("{}{}", annotation::RESTARTED_FOR, key.uid);
    let own = workload
        .annotation(&mark)
        .and_then(|g| g.parse::<i64>().ok());
    own.is_some_and(|own| own >= key.generation)
        || restarted_at(workload).is_some_and(|at| at >= plus(key.at, MARGIN))
}

fn restarted_at(workload: &Workload) -> Option<Timestamp> {
    workload.annotation(annotation::RESTARTED_AT)?.parse().ok()
}

/// Until the next look at a workload that is rolling: a pod that cannot start may take days.
fn patience(workload: &Workload, now: Timestamp) -> SignedDuration {
    let since = restarted_at(workload).map_or(SignedDuration::ZERO, |at| now.duration_since(at));
    (since / 4).clamp(LOOK, LONGEST_LOOK)
}

fn restart(workload: &Workload, key: Delivered<'_>, now: Timestamp) -> Restart {
    Restart {
        resource: resource(workload.kind),
        name: workload.name(),
        uid: workload.live.uid.clone(),
        resource_version: workload.live.resource_version.clone(),
        annotations: BTreeMap::from([
            (annotation::RESTARTED_AT.to_owned(), now.to_string()),
            (
                format!("{}{}", annotation::RESTARTED_FOR, key.uid),
                key.generation.to_string(),
            ),
        ]),
    }
}

/// Whether every pod is of the present template: what `kubectl rollout status` waits for.
fn is_complete(body: &Value, kind: ConsumerKind) -> bool {
    let number = |path: &str| body.pointer(path).and_then(Value::as_i64);
    let status = |name: &str| number(&format!("/status/{name}")).unwrap_or(0);
    if number("/metadata/generation") > number("/status/observedGeneration") {
        return false;
    }
    let wanted = number("/spec/replicas").unwrap_or(1);
    match kind {
        ConsumerKind::Deployment => {
            status("updatedReplicas") >= wanted
                && status("replicas") <= status("updatedReplicas")
                && status("availableReplicas") >= status("updatedReplicas")
        }
        ConsumerKind::StatefulSet => {
            status("updatedReplicas") >= wanted && status("readyReplicas") >= wanted
        }
        ConsumerKind::DaemonSet => {
            let wanted = status("desiredNumberScheduled");
            status("updatedNumberScheduled") >= wanted && status("numberAvailable") >= wanted
        }
    }
}

fn resource(kind: ConsumerKind) -> ApiResource {
    match kind {
        ConsumerKind::Deployment => ApiResource::erase::<Deployment>(&()),
        ConsumerKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        ConsumerKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const KEY: Delivered<'_> = Delivered {
        uid: "u",
        generation: 2,
        at: Timestamp::constant(NOW - 10, 0),
    };

    fn workload(n: usize, restarted: Option<(&str, i64)>, complete: bool) -> Workload {
        let annotations = restarted.map(|(uid, second)| {
            json!({
                "zenop.dev/restarted-at": Timestamp::from_second(second).unwrap().to_string(),
                (format!("zenop.dev/key.{uid}")): "2",
            })
        });
        Workload {
            kind: ConsumerKind::Deployment,
            waits: true,
            live: Live {
                uid: n.to_string(),
                resource_version: "1".into(),
                controller: None,
                body: json!({
                    "metadata": {"name": format!("w{n}"), "generation": 1},
                    "spec": {"replicas": 1, "template": {"metadata": {"annotations": annotations}}},
                    "status": {
                        "observedGeneration": 1, "replicas": 1, "availableReplicas": 1,
                        "updatedReplicas": i32::from(complete),
                    },
                }),
            },
        }
    }

    fn decide(workloads: &[Workload]) -> (Vec<String>, bool, Option<i64>) {
        let now = Timestamp::from_second(NOW).unwrap();
        let out = roll_out(workloads, KEY, &Rotation::default(), now);
        let names = out.restarts.iter().map(|r| r.name.clone()).collect();
        (names, out.rolled, out.next.map(|at| at.as_second() - NOW))
    }

    #[test]
    fn four_are_restarted_at_a_time() {
        let all: Vec<_> = (0..6).map(|n| workload(n, None, true)).collect();
        assert_eq!(decide(&all).0, ["w0", "w1", "w2", "w3"]);
        let mut some: Vec<_> = (0..6).map(|n| workload(n, None, true)).collect();
        some[0] = workload(0, Some(("u", NOW - 5)), false);
        some[1] = workload(1, Some(("u", NOW - 5)), true);
        assert_eq!(
            decide(&some),
            (vec!["w2".into(), "w3".into(), "w4".into()], false, Some(3))
        );
    }

    #[test]
    fn all_is_done_when_every_pod_is_new() {
        assert_eq!(decide(&[]), (vec![], true, None));
        let done = workload(0, Some(("u", NOW - 5)), true);
        assert_eq!(decide(&[done]), (vec![], true, None));
        let rolling = workload(0, Some(("u", NOW - 5)), false);
        assert_eq!(decide(&[rolling]), (vec![], false, Some(3)));
    }

    #[test]
    fn a_roll_out_that_does_not_end_is_looked_at_ever_more_seldom() {
        let next = |ago: i64| decide(&[workload(0, Some(("u", NOW - ago)), false)]).2;
        let looks = [0, 5, 20, 40, 200, 100_000].map(next);
        assert_eq!(looks, [3, 3, 5, 10, 50, 60].map(Some));
        // Those that wait for room are not looked at for themselves.
        let stuck = |n| workload(n, Some(("u", NOW - 100_000)), false);
        let mut all: Vec<_> = (0..4).map(stuck).collect();
        all.push(workload(4, None, true));
        assert_eq!(decide(&all), (vec![], false, Some(60)));
    }

    #[test]
    fn keys_share_a_restart_and_a_workload_rests_between_two() {
        let after = workload(0, Some(("another", NOW - 5)), true);
        assert_eq!(decide(&[after]), (vec![], true, None));
        // Before our key was delivered: its pods may have the old one.
        let before = workload(0, Some(("another", NOW - 60)), true);
        assert_eq!(decide(&[before]), (vec![], false, Some(240)));
    }
}

//! When a replaced key stops being accepted.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::timing::{plus, signed};
use crate::api::{KeyGeneration, KeyState, KeyUse, Retirement, Rotation, whole_seconds};

/// How long replaced keys live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    retain: SignedDuration,
    max: SignedDuration,
    /// Until nobody used it for so long.
    idle: Option<SignedDuration>,
    /// Until every consumer was restarted.
    waits: bool,
}

impl Retention {
    pub(super) fn of(rotation: &Rotation) -> Self {
        let unused = rotation.retirement == Retirement::WhenUnused;
        Self {
            retain: signed(rotation.retain_for),
            max: signed(rotation.max_retain),
            idle: unused.then_some(signed(rotation.idle_for)),
            waits: rotation.consumers.iter().any(|consumer| consumer.wait),
        }
    }

    /// When a key that is replaced now is over, if nothing ends it before.
    pub(super) fn end(&self, now: Timestamp) -> Time {
        whole_seconds(plus(now, self.longest()))
    }

    fn longest(&self) -> SignedDuration {
        if self.waits || self.idle.is_some() {
            self.max
        } else {
            self.retain
        }
    }

    /// The generations that are still accepted; and when one of them may go, though its time is
    /// not over. `rolled`: every consumer that is waited for has the current key.
    pub(super) fn retire(
        &self,
        generations: &[KeyGeneration],
        usage: &[KeyUse],
        rolled: bool,
        now: Timestamp,
    ) -> (Vec<KeyGeneration>, Option<Timestamp>) {
        let used: HashMap<i64, Timestamp> = usage
            .iter()
            .map(|u| (u.generation, u.last_used_time.0))
            .collect();
        let mut kept = Vec::new();
        let mut next: Option<Timestamp> = None;
        for generation in generations {
            let replaced = replaced_at(generations, generation);
            let (KeyState::Previous, Some(replaced)) = (generation.state, replaced) else {
                kept.push(generation.clone());
                continue;
            };
            let last_use = used.get(&generation.generation).copied();
            let goes = self.goes(replaced, last_use, rolled);
            if goes.is_some_and(|goes| goes <= now) {
                continue;
            }
            let recorded = generation.valid_until.as_ref().map(|end| end.0);
            // Shortened where the spec was, never lengthened.
            let latest = match goes {
                // Known now, so that it goes though nobody looks then.
                Some(goes) if self.idle.is_none() => goes,
                _ => plus(replaced, self.longest()),
            };
            let end = recorded.map_or(latest, |recorded| recorded.min(latest));
            if end <= now {
                continue;
            }
            next = [next, goes].into_iter().flatten().min();
            kept.push(KeyGeneration {
                valid_until: Some(whole_seconds(end)),
                ..generation.clone()
            });
        }
        (kept, next)
    }

    /// When a key may go that was replaced then. `None`: not while a consumer has it.
    fn goes(
        &self,
        replaced: Timestamp,
        last_use: Option<Timestamp>,
        rolled: bool,
    ) -> Option<Timestamp> {
        if self.waits && !rolled {
            return None;
        }
        let retained = plus(replaced, self.retain);
        let unused = self
            .idle
            .map(|idle| plus(last_use.map_or(replaced, |used| used.max(replaced)), idle));
        Some(unused.map_or(retained, |unused| unused.max(retained)))
    }
}

/// When the generation after this one was made.
fn replaced_at(all: &[KeyGeneration], generation: &KeyGeneration) -> Option<Timestamp> {
    let after = all
        .iter()
        .filter(|g| g.generation > generation.generation && g.state != KeyState::Prepared);
    let successor = after.min_by_key(|g| g.generation)?;
    Some(successor.created_time.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(START + minute * 60).unwrap()
    }

    fn generation(number: i64, state: KeyState, made: i64, end: Option<i64>) -> KeyGeneration {
        KeyGeneration {
            generation: number,
            state,
            verifier: format!("{number:064x}"),
            bcrypt: None,
            created_time: Some(Time(at(made))),
            valid_until: end.map(|end| Time(at(end))),
        }
    }

    fn left(rotation: Value, used: Option<i64>, rolled: bool, now: i64) -> (Vec<i64>, Option<i64>) {
        let retention = Retention::of(&serde_json::from_value(rotation).unwrap());
        let all = [
            generation(1, KeyState::Previous, -1000, Some(10_080)),
            generation(2, KeyState::Current, 0, None),
        ];
        let usage: Vec<_> = used
            .map(|used| KeyUse {
                generation: 1,
                last_used_time: Time(at(used)),
                from: None,
            })
            .into_iter()
            .collect();
        let (kept, next) = retention.retire(&all, &usage, rolled, at(now));
        let minutes = |at: Timestamp| (at.as_second() - START) / 60;
        (
            kept.iter().map(|g| g.generation).collect(),
            next.map(minutes),
        )
    }

    #[test]
    fn a_replaced_key_goes_after_its_time() {
        let rotation = json!({"retainFor": "60m"});
        assert_eq!(
            left(rotation.clone(), None, true, 59),
            (vec![1, 2], Some(60))
        );
        assert_eq!(left(rotation, Some(59), true, 60), (vec![2], None));
    }

    #[test]
    fn a_key_in_use_goes_once_nobody_uses_it() {
        let rotation = json!({"retainFor": "60m", "retirement": "WhenUnused", "idleFor": "15m"});
        for (used, now, expected) in [
            (None, 59, (vec![1, 2], Some(60))),
            (None, 60, (vec![2], None)),
            (Some(55), 60, (vec![1, 2], Some(70))),
            (Some(55), 70, (vec![2], None)),
            // Used before it was replaced: that says nothing.
            (Some(-5), 60, (vec![2], None)),
        ] {
            assert_eq!(
                left(rotation.clone(), used, true, now),
                expected,
                "{used:?} {now}"
            );
        }
    }

    #[test]
    fn a_key_waits_for_consumers() {
        let consumers = json!([{"kind": "Deployment", "name": "trainer"}]);
        let rotation = json!({"retainFor": "60m", "consumers": consumers});
        assert_eq!(left(rotation.clone(), None, false, 600), (vec![1, 2], None));
        assert_eq!(left(rotation, None, true, 600), (vec![2], None));
    }

    #[test]
    fn a_key_in_use_goes_when_a_shortened_cap_is_past() {
        let rotation = json!({"maxRetain": "60m", "retirement": "WhenUnused"});
        assert_eq!(left(rotation, Some(119), true, 120), (vec![2], None));
    }

    #[test]
    fn a_shortened_time_counts_and_a_lengthened_one_does_not() {
        let short: Rotation = serde_json::from_value(json!({"retainFor": "120m"})).unwrap();
        for (recorded, ends) in [(180, 120), (90, 90)] {
            let all = [
                generation(1, KeyState::Previous, -1000, Some(recorded)),
                generation(2, KeyState::Current, 0, None),
            ];
            let (kept, _) = Retention::of(&short).retire(&all, &[], true, at(1));
            assert_eq!(kept[0].valid_until, Some(Time(at(ends))));
        }
    }
}

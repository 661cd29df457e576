//! How many devices somebody was asked to decide about lately. Who is sent link after link is being
//! worn down, and gets a question more (attacks.md V23).
//!
//! Held in memory, by each replica for itself: it is a hint to a person, and no lock.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use parking_lot::Mutex;
use uuid::Uuid;

/// How many people are remembered. Each takes a kilobyte at the most.
const AT_MOST: u64 = 10_000;
const WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// How many are usual.
const USUAL: usize = 5;
/// How many are remembered of each.
const KEPT: usize = 32;

/// The devices that each was shown.
pub(in crate::http) struct Bursts(Cache<Uuid, Arc<Mutex<VecDeque<Shown>>>>);

#[derive(Clone, Copy)]
struct Shown {
    device: Uuid,
    at: Timestamp,
}

impl Bursts {
    pub(in crate::http) fn new() -> Self {
        let kept = Duration::from_secs(WITHIN.as_secs().unsigned_abs());
        let cache = Cache::builder().max_capacity(AT_MOST).time_to_idle(kept);
        Self(cache.build())
    }

    /// Notes that somebody was shown a device. Whether there were more lately than is usual.
    pub(in crate::http) fn shown(&self, account: Uuid, device: Uuid, now: Timestamp) -> bool {
        let shown = self.0.get_with(account, Arc::default);
        let mut shown = shown.lock();
        shown.retain(|of| now.duration_since(of.at) < WITHIN);
        if !shown.iter().any(|of| of.device == device) {
            if shown.len() == KEPT {
                shown.pop_front();
            }
            shown.push_back(Shown { device, at: now });
        }
        shown.len() > USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    /// attacks.md V23.
    #[test]
    fn v23_more_than_five_in_ten_minutes_are_many() {
        let bursts = Bursts::new();
        let shown =
            |device, minutes| bursts.shown(Uuid::nil(), Uuid::from_u128(device), at(minutes));
        assert!((0..5).all(|n| !shown(n, 0)));
        assert!((0..5).all(|n| !shown(n, 1)), "the same again are no others");
        assert!(shown(5, 2));
        assert!(!bursts.shown(Uuid::max(), Uuid::nil(), at(2)), "of another");
        assert!(shown(5, 9));
        assert!(!shown(6, 12), "over");
        assert!((100..1000).all(|n| shown(n, 12) || n < 104));
    }
}

//! What is remembered of devices that wait: when each polled last, and how often a wrong user code
//! was tried for it.
//!
//! Nothing depends on it but manners: a restart forgets it, a replica knows its own part of it, and
//! the oldest are forgotten first when there are too many. Whoever is not known may poll at once.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use uuid::Uuid;

/// How many are remembered. Each takes about 200 bytes.
const AT_MOST: u64 = 50_000;
/// No code lives longer.
const KEPT: Duration = Duration::from_mins(30);
/// How much longer who polls too fast must wait from then on (RFC 8628, 3.5).
const SLOWER: SignedDuration = SignedDuration::from_secs(5);
/// A client that waits for the interval between its requests may be seen a little earlier: the
/// network was slower the time before.
const EARLY: SignedDuration = SignedDuration::from_secs(1);

/// Devices that wait, by their id.
#[derive(Clone, Debug)]
pub(super) struct Polls(Cache<Uuid, Arc<Mutex<Known>>>);

#[derive(Debug, Default)]
struct Known {
    last: Option<Timestamp>,
    /// How much longer than others it must wait.
    more: SignedDuration,
    wrong_codes: u32,
}

impl Polls {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(AT_MOST)
            .time_to_idle(KEPT)
            .eviction_policy(EvictionPolicy::lru());
        Self(cache.build())
    }

    /// Whether a device that polls now waited for `interval`, and for what it was told to wait
    /// beyond. If not, it must wait for longer from now on.
    pub(super) fn is_patient(
        &self,
        device: Uuid,
        now: Timestamp,
        interval: SignedDuration,
    ) -> bool {
        let known = self.known(device);
        let mut known = known.lock();
        let Some(last) = known.last.replace(now) else {
            return true;
        };
        let waited = now.duration_since(last).saturating_add(EARLY);
        let patient = waited >= interval.saturating_add(known.more);
        if !patient {
            known.more = known.more.saturating_add(SLOWER);
        }
        patient
    }

    /// A wrong user code was tried. Returns how many there were, with this one.
    pub(super) fn wrong_code(&self, device: Uuid) -> u32 {
        let known = self.known(device);
        let mut known = known.lock();
        known.wrong_codes = known.wrong_codes.saturating_add(1);
        known.wrong_codes
    }

    /// How many wrong user codes were tried.
    pub(super) fn wrong_codes(&self, device: Uuid) -> u32 {
        self.0
            .get(&device)
            .map_or(0, |known| known.lock().wrong_codes)
    }

    fn known(&self, device: Uuid) -> Arc<Mutex<Known>> {
        self.0.get_with(device, Arc::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn polls_at(moments: &[i64]) -> Vec<bool> {
        let polls = Polls::new();
        let interval = SignedDuration::from_secs(5);
        let poll = |moment: &i64| polls.is_patient(Uuid::nil(), at(*moment), interval);
        moments.iter().map(poll).collect()
    }

    #[test]
    fn the_first_poll_comes_at_once_and_each_other_after_the_interval() {
        assert_eq!(polls_at(&[0, 5000, 9_950, 14_000]), [true; 4]);
    }

    /// attacks.md D16: five seconds more for all later polls.
    #[test]
    fn d16_who_is_too_fast_waits_longer_ever_after() {
        let polls = polls_at(&[0, 1000, 6000, 21_000, 36_000, 46_000]);
        assert_eq!(polls, [true, false, false, true, true, false]);
    }

    /// attacks.md D17: at no number of polls is anything else to be had.
    #[test]
    fn d17_impatience_never_ends_well_and_takes_no_room() {
        let polls = Polls::new();
        let interval = SignedDuration::from_secs(5);
        let fast = (1..1000).map(|n| polls.is_patient(Uuid::nil(), at(n), interval));
        assert_eq!(fast.filter(|patient| *patient).count(), 1);
        polls.0.run_pending_tasks();
        assert_eq!(polls.0.entry_count(), 1);
    }
}

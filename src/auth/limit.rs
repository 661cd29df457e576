//! How often somebody may fail, or ask at all: rates, and the count that is kept of each.
//!
//! 1. A count is of failures in slots of a sixth of the rate's period. Within any period there are
//!    never more failures than the rate allows; the price is that the last sixth may wait longer.
//! 2. Over the limit, an attempt is refused unseen, and not counted: who keeps on trying is let
//!    in again as soon as who stopped.
//! 3. What is counted is not the thing but its place in a table of fixed size (`http/limiter.rs`), so
//!    a flood of new names and addresses can neither grow it nor push anybody out of it.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// Slots of a period. Counts are of one more, as the oldest is half over.
const SLOTS: i64 = 6;
const COUNTS: usize = 7;

/// In which time failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Period {
    const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    /// ZenML's words.
    const fn word(self) -> &'static str {
        match self {
            Self::Minute => "Minute",
            Self::Hour => "Hourly",
            Self::Day => "Daily",
        }
    }
}

/// So many in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u16,
    period: Period,
}

/// One rate, or two that both hold: `10/m,1000/d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates([Option<Rate>; 2]);

impl Rates {
    /// The share of one of so many replicas, of which at least one serves. At least one of each.
    #[must_use]
    pub fn shared_by(self, replicas: u16) -> Self {
        let share = |rate: Rate| Rate {
            count: rate.count.div_ceil(replicas.max(1)),
            ..rate
        };
        Self(self.0.map(|rate| rate.map(share)))
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, factor: u16) -> Self {
        let more = |rate: Rate| Rate {
            count: rate.count.saturating_mul(factor),
            ..rate
        };
        Self(self.0.map(|rate| rate.map(more)))
    }
}

impl FromStr for Rates {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (first, second) = match text.split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (text, None),
        };
        Ok(Self([Some(rate(first)?), second.map(rate).transpose()?]))
    }
}

fn rate(text: &str) -> Result<Rate, NoRate> {
    let (count, period) = text.split_once('/').ok_or(NoRate)?;
    let period = match period {
        "m" => Period::Minute,
        "h" => Period::Hour,
        "d" => Period::Day,
        _ => return Err(NoRate),
    };
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or(NoRate)?;
    Ok(Rate { count, period })
}

/// It is not written as a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a rate such as 10/m or 10/m,1000/d")]
pub struct NoRate;

/// Too many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} request limit exceeded.", .period.word())]
pub struct Exceeded {
    /// Of which period.
    pub period: Period,
    /// When an attempt is looked at again, in whole seconds from now. At least one.
    pub retry_after: u32,
}

/// The failures of one, by the rates of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally([Window; 2]);

impl Tally {
    /// # Errors
    /// If no more attempts are to be looked at now.
    pub fn check(&self, rates: Rates, now: Timestamp) -> Result<(), Exceeded> {
        let over = self.0.iter().zip(rates.0).filter_map(|(window, rate)| {
            let rate = rate?;
            let retry_after = window.full_for(rate, now)?;
            Some(Exceeded {
                period: rate.period,
                retry_after,
            })
        });
        over.max_by_key(|over| over.retry_after).map_or(Ok(()), Err)
    }

    /// Counts one more, if it is within the rates.
    ///
    /// # Errors
    /// If it is not. It then does not count.
    pub fn admit(&mut self, rates: Rates, now: Timestamp) -> Result<(), Exceeded> {
        self.check(rates, now)?;
        self.fail(rates, now);
        Ok(())
    }

    /// Counts a failure.
    pub fn fail(&mut self, rates: Rates, now: Timestamp) {
        for (window, rate) in self.0.iter_mut().zip(rates.0) {
            if let Some(rate) = rate {
                window.count(rate.period, now);
            }
        }
    }

    /// Takes back a failure that was counted at a time and was none.
    pub fn take_back(&mut self, rates: Rates, at: Timestamp) {
        for (window, rate) in self.0.iter_mut().zip(rates.0) {
            if let Some(rate) = rate {
                window.take_back(rate.period, at);
            }
        }
    }

    /// Forgets every failure.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Failures by slot: `counts[i]` of the slot `newest - i`.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    newest: i64,
    counts: [u16; COUNTS],
}

impl Window {
    /// The counts as they are at a slot. A clock that was set back finds them as they were.
    fn at(&self, slot: i64) -> [u16; COUNTS] {
        let age = usize::try_from(slot.saturating_sub(self.newest)).unwrap_or(0);
        let mut counts = [0; COUNTS];
        for (to, from) in counts.iter_mut().skip(age).zip(self.counts) {
            *to = from;
        }
        counts
    }

    fn count(&mut self, period: Period, now: Timestamp) {
        let slot = slot(period, now);
        self.counts = self.at(slot);
        self.newest = self.newest.max(slot);
        if let Some(count) = self.counts.first_mut() {
            *count = count.saturating_add(1);
        }
    }

    /// What is past the window counts no more, so there is nothing to take back.
    fn take_back(&mut self, period: Period, at: Timestamp) {
        let age = usize::try_from((self.newest - slot(period, at)).max(0));
        if let Some(count) = age.ok().and_then(|age| self.counts.get_mut(age)) {
            *count = count.saturating_sub(1);
        }
    }

    /// For how many seconds it is full, if it is.
    fn full_for(&self, rate: Rate, now: Timestamp) -> Option<u32> {
        let slot = slot(rate.period, now);
        let counts = self.at(slot);
        let mut left: u32 = counts.iter().map(|count| u32::from(*count)).sum();
        let mut free = None;
        // Slots go one by one, the oldest first.
        for (gone, count) in (1..).zip(counts.iter().rev()) {
            if left < u32::from(rate.count) {
                break;
            }
            left -= u32::from(*count);
            free = Some(gone);
        }
        let length = rate.period.seconds() / SLOTS;
        let end = (slot + free?) * length;
        let wait = Timestamp::from_second(end).ok()?.duration_since(now);
        let seconds = wait.as_secs() + i64::from(wait > SignedDuration::from_secs(wait.as_secs()));
        Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX))
    }
}

fn slot(period: Period, now: Timestamp) -> i64 {
    now.as_second().div_euclid(period.seconds() / SLOTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn rates(text: &str) -> Rates {
        text.parse().unwrap()
    }

    #[test]
    fn a_rate_is_a_number_and_a_period() {
        let day = Rate {
            count: 1000,
            period: Period::Day,
        };
        let minute = Rate {
            count: 5,
            period: Period::Minute,
        };
        assert_eq!(rates("5/m,1000/d"), Rates([Some(minute), Some(day)]));
        assert_eq!(rates("1000/d"), Rates([Some(day), None]));
        for text in [
            "",
            "5",
            "/m",
            "0/m",
            "-1/m",
            "5/s",
            "5/m,",
            "5/m,5/h,5/d",
            "65536/m",
            "5 /m",
        ] {
            assert_eq!(text.parse::<Rates>(), Err(NoRate), "{text}");
        }
        assert_eq!(rates("10/m,1000/d").shared_by(3), rates("4/m,334/d"));
        assert_eq!(rates("10/m").shared_by(50), rates("1/m"));
        assert_eq!(rates("5/m,9/d").times(2), rates("10/m,18/d"));
        assert_eq!(
            rates("10/m").shared_by(0),
            rates("10/m"),
            "none is ready yet"
        );
    }

    #[test]
    fn five_a_minute_are_five() {
        let (mut tally, rates) = (Tally::default(), rates("5/m,1000/d"));
        for n in 0..5 {
            tally.check(rates, at(n)).unwrap();
            tally.fail(rates, at(n));
        }
        let over = tally.check(rates, at(5)).unwrap_err();
        assert_eq!(over.to_string(), "Minute request limit exceeded.");
        assert_eq!(over.retry_after, 65, "a period from the slot of the first");
        assert!(tally.check(rates, at(69)).is_err());
        tally.check(rates, at(70)).unwrap();
        tally.clear();
        tally.check(rates, at(5)).unwrap();
    }

    #[test]
    fn the_day_counts_too() {
        let (mut tally, rates) = (Tally::default(), rates("5/m,20/d"));
        let mut failed = 0;
        let mut now = 0;
        let over = loop {
            match tally.check(rates, at(now)) {
                Ok(()) => {
                    tally.fail(rates, at(now));
                    failed += 1;
                }
                Err(over) if over.period == Period::Day => break over,
                Err(over) => now += i64::from(over.retry_after),
            }
        };
        assert_eq!(failed, 20);
        assert_eq!(over.to_string(), "Daily request limit exceeded.");
        assert!(over.retry_after > 86_000, "{over:?}");
        tally
            .check(rates, at(now + i64::from(over.retry_after)))
            .unwrap();
    }

    proptest! {
        /// Whatever the times: never more than the rate within a period, and who is told when to
        /// come again is let in then.
        #[test]
        fn no_period_has_more_failures_than_the_rate(
            gaps in prop::collection::vec(0..40_i64, 1..200),
            limit in 1..20_u16,
        ) {
            let rates = rates(&format!("{limit}/m"));
            let (mut tally, mut now, mut failed) = (Tally::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                match tally.check(rates, at(now)) {
                    Ok(()) => {
                        tally.fail(rates, at(now));
                        failed.push(now);
                    }
                    Err(over) => {
                        let wait = i64::from(over.retry_after);
                        prop_assert!((1..=70).contains(&wait));
                        prop_assert!(tally.check(rates, at(now + wait - 1)).is_err());
                        prop_assert!(tally.check(rates, at(now + wait)).is_ok());
                    }
                }
            }
            for (n, begin) in failed.iter().enumerate() {
                let within = failed[n..].iter().filter(|at| **at - begin < 60).count();
                prop_assert!(within <= usize::from(limit), "{within} from {begin}");
            }
        }

        /// A clock that goes back frees nobody.
        #[test]
        fn a_clock_set_back_frees_nobody(back in 0..100_000_i64) {
            let (mut tally, rates) = (Tally::default(), rates("3/m"));
            for _ in 0..3 {
                tally.fail(rates, at(0));
            }
            prop_assert!(tally.check(rates, at(-back)).is_err());
        }
    }
}

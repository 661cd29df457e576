//! What to do about the Lease: a machine that is told what was read and written, and when. It waits for nothing and asks
//! nobody.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    LONGEST, Timings,
    record::{Lease, Record, object, stamp},
};

/// What to do next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Read the Lease.
    Read,
    /// Make it.
    Create(Lease),
    /// Overwrite it, at the version that it carries.
    Replace(Lease),
    /// Nothing more for now.
    Rest(Rest),
}

/// Why there is nothing more to do for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// We lead, since this write.
    Renewed,
    /// Somebody else may lead until then, or for longer if the Lease changes.
    Wait(Instant),
    /// We led, and could not renew in time.
    Expired,
    /// We led, and somebody wrote another holder (or none) into the Lease.
    Taken(String),
    /// We have given the Lease back, or never had it.
    Left,
}

/// One process's part in the election.
#[derive(Debug)]
pub(super) struct Election {
    name: String,
    identity: String,
    timings: Timings,
    /// The Lease as last read or written; `None`: there is none.
    lease: Option<Lease>,
    /// Whether to trust `lease`. Only a saving: a write on an old version is refused.
    current: bool,
    /// Until when another's claim may last, as far as we saw. It outlives a Lease that is deleted.
    busy_until: Option<Instant>,
    /// What we last wrote, or tried to: a write may be done though we never saw the answer.
    ours: Option<Record>,
    /// We lead: when the last write that succeeded was started.
    renewed: Option<Instant>,
    leaving: bool,
}

impl Election {
    pub fn new(name: String, identity: String, timings: Timings) -> Self {
        Self {
            name,
            identity,
            timings,
            lease: None,
            current: false,
            busy_until: None,
            ours: None,
            renewed: None,
            leaving: false,
        }
    }

    /// When our claim ends, if we have one.
    pub fn held_until(&self) -> Option<Instant> {
        self.renewed
            .map(|start| start + self.timings.renew_deadline)
    }

    /// The Lease was read. `at` is when the answer was there: what it shows was written before, so counting from then we
    /// never wait too short.
    pub fn read(&mut self, lease: Option<Lease>, at: Instant) {
        let before = self.lease.as_ref().map(|lease| &lease.spec);
        if let Some(now) = lease.as_ref().map(|lease| &lease.spec)
            && before != Some(now)
        {
            self.busy_until = Some(at + self.claim_of(now));
        }
        self.lease = lease;
        self.current = true;
    }

    /// Our write, started then, was answered with this by now.
    ///
    /// An answer after the claim that it gives has ended (we were stopped meanwhile) gives none.
    pub fn written(&mut self, lease: Lease, started: Instant, now: Instant) {
        self.lease = Some(lease);
        self.current = true;
        if !self.leaving && now < started + self.timings.renew_deadline {
            self.renewed = Some(started);
        }
    }

    /// Time has passed or a write failed: read before the next one.
    pub fn doubt(&mut self) {
        self.current = false;
    }

    /// We want to stop: from now on, steps only give back what we hold.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.renewed = None;
    }

    /// What to do, given the time on our own clock and the time of day.
    pub fn step(&mut self, now: Instant, day: Timestamp) -> Step {
        if self.held_until().is_some_and(|until| until <= now) {
            return Step::Rest(Rest::Expired);
        }
        if self.leaving && self.ours.is_none() {
            return Step::Rest(Rest::Left);
        }
        if !self.current {
            return Step::Read;
        }
        if self.leaving {
            self.give_back(day)
        } else if self.renewed.is_some() {
            self.renew(day)
        } else {
            self.take(now, day)
        }
    }

    fn renew(&mut self, day: Timestamp) -> Step {
        match self.holder() {
            // The Lease was deleted, but not given to anybody.
            _ if self.lease.is_none() => self.write_ours(day),
            Some(holder) if holder == self.identity => self.write_ours(day),
            holder => Step::Rest(Rest::Taken(holder.unwrap_or_default().to_owned())),
        }
    }

    fn take(&mut self, now: Instant, day: Timestamp) -> Step {
        let found = self.lease.as_ref().map(|lease| &lease.spec);
        if found.is_some() && found == self.ours.as_ref() {
            return self.write_ours(day);
        }
        if let Some(until) = self.busy_until.filter(|until| now < *until) {
            return Step::Rest(Rest::Wait(until));
        }
        let transitions = found.map_or(0, |found| {
            found.lease_transitions.unwrap_or(0).saturating_add(1)
        });
        self.ours = Some(Record {
            acquire_time: Some(stamp(day, None)),
            lease_transitions: Some(transitions),
            ..Record::default()
        });
        self.write_ours(day)
    }

    /// Writes us as the holder, since when and for the how manyeth time as we have it.
    fn write_ours(&mut self, day: Timestamp) -> Step {
        let before = self
            .lease
            .as_ref()
            .and_then(|lease| lease.spec.renew_time.as_deref());
        let record = Record {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.timings.lease_seconds()),
            renew_time: Some(stamp(day, before)),
            ..self.ours.clone().unwrap_or_default()
        };
        self.ours = Some(record.clone());
        let lease = object(self.lease.as_ref(), &self.name, record);
        match self.lease {
            Some(_) => Step::Replace(lease),
            None => Step::Create(lease),
        }
    }

    fn give_back(&self, day: Timestamp) -> Step {
        let Some(lease) = self
            .lease
            .as_ref()
            .filter(|_| self.holder() == Some(&self.identity))
        else {
            return Step::Rest(Rest::Left);
        };
        let record = Record {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(RELEASED_SECONDS),
            acquire_time: Some(stamp(day, None)),
            renew_time: Some(stamp(day, lease.spec.renew_time.as_deref())),
            lease_transitions: lease.spec.lease_transitions,
        };
        Step::Replace(object(Some(lease), &self.name, record))
    }

    /// Who holds the Lease, as far as we know.
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().and_then(|lease| lease.spec.holder())
    }

    /// How long somebody may act as the leader after writing this.
    fn claim_of(&self, record: &Record) -> Duration {
        let seconds = record.lease_duration_seconds.unwrap_or(0);
        let stated = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST);
        // A name removed by hand is not a Lease given back: the holder may not have seen it yet.
        if record.holder().is_none() && seconds <= RELEASED_SECONDS {
            return Duration::ZERO;
        }
        // Never shorter than our own duration, whatever somebody wrote into the Lease.
        stated.max(self.timings.lease_duration)
    }
}

/// The duration by which, as in client-go, a Lease shows that its holder gave it back.
const RELEASED_SECONDS: i32 = 1;

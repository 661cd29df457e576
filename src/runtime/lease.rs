//! Leader election on a `coordination.k8s.io/v1` Lease, with client-go's semantics.
//!
//! One process of many leads. It writes its name into the Lease and renews that every `retry_period`; the others take the
//! Lease over once it has not changed for `lease_duration`. Three rules make that safe:
//!
//! 1. Every write carries the `resourceVersion` that it was decided on, so of two that race one is refused.
//! 2. Nobody compares timestamps of different machines. Whether the Lease changes is seen by reading it, and how long it has
//!    not is measured on one's own monotonic clock. What the Lease says about time is an opaque text to us.
//! 3. Leadership is a [`Claim`] that ends by itself, `renew_deadline` after the *start* of the last write that succeeded,
//!    and is asked at the moment of use. As `renew_deadline` is shorter than `lease_duration`, it ends before anybody else
//!    can begin, also when the leader is cut off, stuck or stopped and nothing of it runs.
//!
//! A write that starts while the claim is held may still be on its way when the claim ends. It is safe as long as it takes
//! less than `lease_duration - renew_deadline`: give writes that timeout. Like client-go's, this is not fencing: who suspends
//! a whole machine between asking the claim and sending the write must rely on the write's `resourceVersion`.
//!
//! By hand: deleting the Lease changes nothing, the leader makes it anew. Emptying or replacing its `holderIdentity` ends the
//! leader's process; the next one leads when the Lease has not changed for its duration.

mod decide;
mod elector;
mod record;
#[cfg(test)]
mod simulation;

use std::{sync::Arc, time::Duration, time::Instant};

use parking_lot::Mutex;
use thiserror::Error;

use super::clock;

pub use elector::{Elector, Leader};

/// The longest `lease_duration`. A Lease that asks for more (edited by hand) is taken over after this.
pub const LONGEST: Duration = Duration::from_mins(10);

/// Which Lease to hold, and under what name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease. It is made if it does not exist.
    pub name: String,
    /// Who we are, for people: the pod's name. A random suffix is added, so that a restarted pod is somebody else.
    pub identity: String,
    /// How fast.
    pub timings: Timings,
}

/// How long a Lease lasts and how often it is renewed. All processes of one Lease should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

impl Timings {
    /// - `lease_duration`: how long others wait, without a change of the Lease, before they take it. In the Lease it is
    ///   rounded up to seconds.
    /// - `renew_deadline`: how long a leader leads after its last renewal.
    /// - `retry_period`: how long between two attempts, at most. Up to a fifth is taken off by chance.
    ///
    /// # Errors
    /// Unless `0 < retry_period < renew_deadline < lease_duration <=` [`LONGEST`].
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, InvalidTimings> {
        if retry_period.is_zero() {
            return Err(InvalidTimings::NoRetryPeriod);
        }
        if retry_period >= renew_deadline {
            return Err(InvalidTimings::RenewDeadline(renew_deadline, retry_period));
        }
        if renew_deadline >= lease_duration {
            return Err(InvalidTimings::LeaseDuration(
                lease_duration,
                renew_deadline,
            ));
        }
        if lease_duration > LONGEST {
            return Err(InvalidTimings::TooLong(lease_duration));
        }
        Ok(Self {
            lease_duration,
            renew_deadline,
            retry_period,
        })
    }

    /// How long one call may take, so that two fit before the claim ends.
    fn call_timeout(&self) -> Duration {
        (self.renew_deadline / 2).min(Duration::from_secs(5))
    }

    /// How long to wait at least between two attempts, whatever happens to the Lease.
    fn shortest_pause(&self) -> Duration {
        self.retry_period / 10
    }

    /// `lease_duration` as the Lease has it.
    fn lease_seconds(&self) -> i32 {
        let up = u64::from(self.lease_duration.subsec_nanos() > 0);
        i32::try_from(self.lease_duration.as_secs() + up).unwrap_or(i32::MAX)
    }
}

impl Default for Timings {
    /// client-go's: 15, 10 and 2 seconds.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Why timings would not be safe or not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidTimings {
    /// It would never stop asking.
    #[error("the retry period must not be zero")]
    NoRetryPeriod,
    /// There would be no second attempt.
    #[error("the renew deadline ({0:?}) must be longer than the retry period ({1:?})")]
    RenewDeadline(Duration, Duration),
    /// Two could lead at once.
    #[error("the lease duration ({0:?}) must be longer than the renew deadline ({1:?})")]
    LeaseDuration(Duration, Duration),
    /// Others would not wait for so long.
    #[error("the lease duration ({0:?}) must not be longer than {LONGEST:?}")]
    TooLong(Duration),
}

/// Why a leader is none any more. The process should exit: it may have been a leader in the middle of something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// No renewal succeeded in time.
    #[error("the lease was not renewed within {0:?}: {1}")]
    Expired(Duration, String),
    /// The Lease has another holder, by the hand of somebody.
    #[error("the lease was given to {0:?}")]
    Taken(String),
}

/// The right to act as the leader. Ask it at the moment of every write; an old answer is worth nothing.
///
/// Clones are the same claim.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<Mutex<Option<Instant>>>);

impl Claim {
    /// Whether we lead right now. False by itself when the last renewal is too old, whether or not anybody noticed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0
            .lock()
            .is_some_and(|until| clock::monotonic() < until)
    }

    fn hold_until(&self, until: Option<Instant>) {
        *self.0.lock() = until;
    }
}

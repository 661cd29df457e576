//! What can go wrong in a pass, by step; and one function that says what follows from it.

use std::time::Duration;

use thiserror::Error;

use super::plan::{Fact, Verdict};

/// A call to the API server that did not do what it should.
#[derive(Debug, Error)]
pub enum CallError {
    /// It did not answer in time.
    #[error("{what}: no answer within {} s", after.as_secs())]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long we waited.
        after: Duration,
    },
    /// It refused, or the answer was lost.
    #[error("{what}: {}", brief(source))]
    Failed {
        /// What was asked.
        what: String,
        /// Why.
        source: kube::Error,
    },
}

/// The reason that the server gives, without its message: that may quote what we sent.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.reason.is_empty() => format!("HTTP {}", status.code),
        kube::Error::Api(status) => format!("{} (HTTP {})", status.reason, status.code),
        kube::Error::SerdeError(_) => "an answer that cannot be read".to_owned(),
        kube::Error::HyperError(_) | kube::Error::Service(_) => "no connection".to_owned(),
        _ => "the call could not be made".to_owned(),
    }
}

impl CallError {
    /// The HTTP status that the server answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed {
                source: kube::Error::Api(status),
                ..
            } => Some(status.code),
            _ => None,
        }
    }

    /// Whether the object was not as we had seen it.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
}

/// Why an object cannot be as its spec says, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Waiting or stalled, with reason and remedy.
    pub verdict: Verdict,
    /// Conditions of the kind that follow.
    pub facts: Vec<Fact>,
    /// Whether it may end by something that no watch shows, such as the deletion of an object
    /// that is not ours. Then it is looked at again and again, with growing delays.
    pub unwatched: bool,
}

/// Why a plan was not carried out to its end.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An object of that name is somebody else's. It was left alone.
    #[error("{kind} {name} belongs to {owner}")]
    Foreign {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// We are not, or not surely, the leader. Nothing was written.
    #[error("not the leader any more")]
    NotLeader,
    /// The server's auth Secret, with which it is sealed, cannot be read.
    #[error("the server has no auth Secret that can be used")]
    NoPepper,
    /// An object cannot be written as JSON.
    #[error("cannot serialise {0}")]
    Unserialisable(&'static str),
}

/// Why a pass ended early.
#[derive(Debug, Error)]
pub enum PassError {
    /// While reading.
    #[error("reading: {0}")]
    Observe(#[source] CallError),
    /// While writing.
    #[error("writing: {0}")]
    Apply(#[source] ApplyError),
    /// It took longer than a pass may.
    #[error("the pass took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What kind of failure it is; everything that follows depends on this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody else's object is in the way.
    Conflict,
    /// We saw an old state; the next look will do.
    Stale,
    /// The API server is in trouble.
    Transient,
    /// We may not write any more.
    NotLeader,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// When to try again.
    pub retry: Duration,
    /// Whether the log should show it as a warning.
    pub warn: bool,
    /// Whether status should say so.
    pub report: bool,
}

/// Bounds of the retry delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// After the first failure.
    pub base: Duration,
    /// After many.
    pub cap: Duration,
}

impl Default for Delays {
    /// 1 s to 5 min.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
        }
    }
}

impl PassError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Apply(ApplyError::Foreign { .. }) => Class::Conflict,
            Self::Apply(ApplyError::NotLeader) => Class::NotLeader,
            Self::Apply(ApplyError::Call(call)) if call.is_conflict() || call.is_not_found() => {
                Class::Stale
            }
            Self::Observe(_) | Self::Apply(_) | Self::TimedOut(_) => Class::Transient,
        }
    }
}

/// How long to wait after so many looks in a row (from 1) that found no way on. `spread`, from 0
/// to 1, keeps objects apart that failed together.
pub fn backoff(failures: u32, spread: f64, delays: Delays) -> Duration {
    let doubled = delays
        .base
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled
        .min(delays.cap)
        .mul_f64(0.75 + spread.clamp(0.0, 1.0) / 4.0)
}

/// What follows from the `failures`-th failure in a row (from 1) of a class; `spread` as in
/// [`backoff`].
pub fn reaction(class: Class, failures: u32, spread: f64, delays: Delays) -> Reaction {
    let backoff = backoff(failures, spread, delays);
    match class {
        Class::Conflict => Reaction {
            retry: backoff,
            warn: failures == 1,
            report: true,
        },
        // The watch is about to show what we missed; do not wait long for it.
        Class::Stale => Reaction {
            retry: backoff / 10,
            warn: false,
            report: failures > 8,
        },
        Class::Transient => Reaction {
            retry: backoff,
            warn: true,
            report: failures > 2,
        },
        Class::NotLeader => Reaction {
            retry: delays.cap,
            warn: true,
            report: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_stay() {
        let after = |n| {
            reaction(Class::Transient, n, 1.0, Delays::default())
                .retry
                .as_secs()
        };
        assert_eq!(
            [1, 2, 3, 9, 10, 99, u32::MAX].map(after),
            [1, 2, 4, 256, 300, 300, 300]
        );
    }

    #[test]
    fn spread_never_makes_it_longer() {
        let delay = |spread| reaction(Class::Transient, 5, spread, Delays::default()).retry;
        assert!(delay(0.0) < delay(0.5) && delay(0.5) < delay(1.0) && delay(7.0) == delay(1.0));
    }

    #[test]
    fn a_stale_look_is_repeated_soon_and_silently() {
        let first = reaction(Class::Stale, 1, 1.0, Delays::default());
        assert!(first.retry <= Duration::from_millis(100) && !first.warn && !first.report);
    }
}

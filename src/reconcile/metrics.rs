//! What the operator counts. Labels are closed sets: no object's name is one.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::error::Class;

/// The metrics of all controllers.
#[derive(Clone, Debug)]
pub struct Metrics {
    passes: Family<Pass, Counter>,
    seconds: Family<Kind, Histogram>,
    writes: Family<Write, Counter>,
    invalid: Family<Kind, Counter>,
    told: Family<Told, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    kind: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    what: Written,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Done,
    Conflict,
    Stale,
    Transient,
    NotLeader,
}

/// What a pass wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Written {
    /// A child was created or updated.
    Child,
    /// A child was deleted.
    Deletion,
    /// A workload was restarted.
    Restart,
    /// A status.
    Status,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            passes: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 14))
            }),
            writes: Family::default(),
            invalid: Family::default(),
            told: Family::default(),
        };
        registry.register(
            "zenop_reconcile_passes",
            "Passes by kind and outcome",
            metrics.passes.clone(),
        );
        registry.register(
            "zenop_reconcile_seconds",
            "How long passes took",
            metrics.seconds.clone(),
        );
        registry.register(
            "zenop_reconcile_writes",
            "Writes to the API server",
            metrics.writes.clone(),
        );
        registry.register(
            "zenop_invalid_objects",
            "Objects that could not be read and were skipped",
            metrics.invalid.clone(),
        );
        registry.register(
            "zenop_events",
            "Events by kind and reason, such as KeyRotated",
            metrics.told.clone(),
        );
        metrics
    }

    pub(super) fn told(&self, kind: &'static str, reason: &'static str) {
        self.told.get_or_create(&Told { kind, reason }).inc();
    }

    pub(super) fn pass(&self, kind: &'static str, failure: Option<Class>, took: Duration) {
        let outcome = match failure {
            None => Outcome::Done,
            Some(Class::Conflict) => Outcome::Conflict,
            Some(Class::Stale) => Outcome::Stale,
            Some(Class::Transient) => Outcome::Transient,
            Some(Class::NotLeader) => Outcome::NotLeader,
        };
        self.passes.get_or_create(&Pass { kind, outcome }).inc();
        self.seconds
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
    }

    pub(super) fn wrote(&self, kind: &'static str, what: Written) {
        self.writes.get_or_create(&Write { kind, what }).inc();
    }

    pub(super) fn invalid(&self, kind: &'static str) {
        self.invalid.get_or_create(&Kind { kind }).inc();
    }
}

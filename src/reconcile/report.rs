//! Status: made once at the end of a pass, written only when it says something new.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::plan::{Fact, Verdict};
use crate::api::{KindStatus, condition, reason, whole_seconds};

/// The conditions that only one kind has.
#[derive(Clone, Copy, Debug)]
pub enum Facts<'a> {
    /// These.
    Told(&'a [Fact]),
    /// Those that are there: nothing was found out about them.
    Kept,
}

/// The status that tells a verdict and facts, over the values of `status`. Transition times of
/// conditions whose status did not change are those of `before`.
pub fn report<S: KindStatus>(
    mut status: S,
    before: &[Condition],
    verdict: &Verdict,
    facts: Facts<'_>,
    generation: i64,
    now: Timestamp,
) -> S {
    let (told, kept) = match facts {
        Facts::Told(facts) => (facts, &[][..]),
        Facts::Kept => (&[][..], before),
    };
    let mut conditions: Vec<Condition> = summary(verdict)
        .into_iter()
        .chain(told.iter().cloned())
        .map(|fact| dated(fact, before, generation, now))
        .chain(kept.iter().filter(|c| !is_summary(&c.type_)).cloned())
        .collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    status.report(generation, conditions);
    status
}

fn is_summary(kind: &str) -> bool {
    [condition::READY, condition::RECONCILING, condition::STALLED].contains(&kind)
}

/// kstatus: `Reconciling` and `Stalled` are there only while they hold.
fn summary(verdict: &Verdict) -> Vec<Fact> {
    let fact = |condition, holds, reason, message: &String| Fact {
        condition,
        holds,
        reason,
        message: message.clone(),
    };
    match verdict {
        Verdict::Ready { message } => vec![fact(condition::READY, true, reason::READY, message)],
        Verdict::Waiting { reason, message } => vec![
            fact(condition::READY, false, reason, message),
            fact(condition::RECONCILING, true, reason, message),
        ],
        Verdict::Stalled { reason, message } => vec![
            fact(condition::READY, false, reason, message),
            fact(condition::STALLED, true, reason, message),
        ],
    }
}

fn dated(fact: Fact, before: &[Condition], generation: i64, now: Timestamp) -> Condition {
    let status = if fact.holds { "True" } else { "False" };
    let same = before
        .iter()
        .find(|c| c.type_ == fact.condition && c.status == status);
    Condition {
        type_: fact.condition.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.to_owned(),
        message: fact.message,
        observed_generation: Some(generation),
        last_transition_time: same
            .map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::ZenServerStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_verdict_later_is_the_same_status() {
        let verdict = Verdict::Ready {
            message: "all good".into(),
        };
        let first = report(
            ZenServerStatus::default(),
            &[],
            &verdict,
            Facts::Told(&[]),
            1,
            at(10),
        );
        let again = report(
            first.clone(),
            &first.conditions,
            &verdict,
            Facts::Told(&[]),
            1,
            at(99),
        );
        assert_eq!(first, again);
    }

    #[test]
    fn a_changed_verdict_is_dated_and_leaves_no_old_condition() {
        let stalled = Verdict::Stalled {
            reason: reason::CONFLICT,
            message: "x".into(),
        };
        let ready = Verdict::Ready {
            message: "y".into(),
        };
        let first = report(
            ZenServerStatus::default(),
            &[],
            &stalled,
            Facts::Told(&[]),
            1,
            at(10),
        );
        let then = report(
            first.clone(),
            &first.conditions,
            &ready,
            Facts::Told(&[]),
            2,
            at(99),
        );
        let shown: Vec<_> = then
            .conditions
            .iter()
            .map(|c| (&*c.type_, &*c.status))
            .collect();
        assert_eq!(shown, [("Ready", "True")]);
        assert_eq!(then.conditions[0].last_transition_time, Time(at(99)));
        assert_eq!(then.observed_generation, 2);
    }

    #[test]
    fn what_was_not_looked_at_stays_as_it_was() {
        let fact = Fact {
            condition: condition::ACTIVE,
            holds: true,
            reason: reason::ACTIVE,
            message: "may log in".into(),
        };
        let ready = Verdict::Ready {
            message: "y".into(),
        };
        let waiting = Verdict::Waiting {
            reason: reason::API_ERROR,
            message: "x".into(),
        };
        let status = ZenServerStatus::default();
        let first = report(status, &[], &ready, Facts::Told(&[fact]), 1, at(10));
        let then = report(
            first.clone(),
            &first.conditions,
            &waiting,
            Facts::Kept,
            1,
            at(99),
        );
        let shown: Vec<_> = then.conditions.iter().map(|c| &*c.type_).collect();
        assert_eq!(shown, ["Active", "Ready", "Reconciling"]);
        assert_eq!(then.conditions[0], first.conditions[0]);
    }
}

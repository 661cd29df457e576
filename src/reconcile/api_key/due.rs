//! Whether a key is to be replaced, and whether that is late.

use jiff::Timestamp;

use super::{
    Valid,
    decide::Step,
    parties::Parties,
    timing::{Calendar, Moment, plus, signed},
};
use crate::{
    api::{KeyState, SourceType, ZenAPIKey, ZenAPIKeyStatus, annotation, condition, label, reason},
    reconcile::{driver::spread, foreign::is_set, plan::Fact},
};
use kube::ResourceExt;

/// Whether the current key is to be replaced now.
pub(super) fn is_due(
    key: &ZenAPIKey,
    calendar: &Calendar,
    parties: &Parties,
    old: &ZenAPIKeyStatus,
    now: Timestamp,
) -> bool {
    // What nobody takes care of lives to its end, and no longer.
    let by_time = !key.labels().contains_key(label::RETAINED)
        && due_at(key, calendar, parties, old).is_some_and(|due| due <= now);
    let open = is_set(key, annotation::FORCE) || calendar.in_window(now) <= now;
    (is_asked(key, old) || by_time) && !is_over(key, now) && open
}

/// Whether the trigger has a value that was not acted on.
fn is_asked(key: &ZenAPIKey, status: &ZenAPIKeyStatus) -> bool {
    let trigger = &key.spec.rotation.trigger;
    trigger.is_some() && *trigger != status.last_handled_trigger && status.generation.is_some()
}

/// Whether its end is fixed and past: then it is not made again.
fn is_over(key: &ZenAPIKey, now: Timestamp) -> bool {
    key.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now)
}

/// When the current key is due, whatever windows there are.
fn due_at(
    key: &ZenAPIKey,
    calendar: &Calendar,
    parties: &Parties,
    status: &ZenAPIKeyStatus,
) -> Option<Timestamp> {
    let current = status
        .generations
        .iter()
        .find(|g| g.state == KeyState::Current)?;
    let made = current
        .created_time
        .as_ref()
        .or(status.last_rotated_time.as_ref())?
        .0;
    let can = key.spec.source.source_type == SourceType::Generated;
    calendar
        .due(Moment {
            made,
            ends: parties.end(key, made),
            within: parties.policy().require_rotation_within,
            spread: spread(key),
        })
        .filter(|_| can)
}

impl Valid {
    /// Whether a rotation is due and does not happen, and why.
    pub(super) fn overdue(
        &self,
        made: Option<Timestamp>,
        times: &mut Vec<Timestamp>,
    ) -> Option<Fact> {
        let made = made?;
        let fact = |reason, message| {
            Some(Fact {
                condition: condition::ROTATION_OVERDUE,
                holds: true,
                reason,
                message,
            })
        };
        let is_current = matches!(self.step, Step::Keep { .. });
        let due = due_at(&self.object, &self.calendar, &self.parties, &self.old);
        if let Some(due) = due.filter(|due| *due <= self.now && is_current && self.paused) {
            let message = format!(
                "the key was due for rotation at {due} and is paused; remove the annotation \
                 zenop.dev/paused"
            );
            return fact(reason::PAUSED, message);
        }
        let within = self.parties.policy().require_rotation_within?;
        let latest = plus(made, signed(within));
        if self.now < latest {
            times.push(latest);
            return None;
        }
        if !is_current {
            return None;
        }
        let server = self.parties.server.name_any();
        if self.object.spec.source.source_type != SourceType::Generated {
            let message = format!(
                "ZenServer {server} requires a rotation every {within}: change the key at its \
                 source"
            );
            return fact(reason::ROTATION_OVERDUE, message);
        }
        let message = format!(
            "ZenServer {server} requires a rotation every {within}, and no window of \
             spec.rotation.windows was open; annotate the key with zenop.dev/force=true"
        );
        fact(reason::OUTSIDE_WINDOW, message)
    }

    pub(super) fn next_rotation(&self, status: &ZenAPIKeyStatus) -> Option<Timestamp> {
        if self.paused || is_over(&self.object, self.now) {
            return None;
        }
        let by_time = due_at(&self.object, &self.calendar, &self.parties, status);
        let asked = is_asked(&self.object, status).then_some(self.now);
        let due = asked.or(by_time)?;
        let forced = is_set(&self.object, annotation::FORCE);
        Some(if forced {
            due
        } else {
            self.calendar.in_window(due.max(self.now)).max(due)
        })
    }

    /// The trigger that the key of this pass was made for: recorded with it, before it is
    /// delivered, so that another value that comes in between asks for another key.
    pub(super) fn handled_trigger(&self) -> Option<String> {
        let trigger = &self.object.spec.rotation.trigger;
        match &self.step {
            Step::Draw { .. } | Step::Take { .. } => {
                trigger.clone().or(self.old.last_handled_trigger.clone())
            }
            Step::Keep { .. } | Step::Confirm { .. } => self.old.last_handled_trigger.clone(),
        }
    }
}

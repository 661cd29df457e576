//! What status says of a key.

use jiff::Timestamp;

use super::{
    Valid,
    parties::{activity, warned_from},
};
use crate::{
    api::{
        ConsumerStatus, DeliveryStatus, KeyGeneration, KeyState, ZenAPIKeyStatus, condition,
        reason, whole_seconds,
    },
    reconcile::plan::{Fact, Verdict},
};

impl Valid {
    pub(super) fn verdict(&self, status: &ZenAPIKeyStatus) -> Verdict {
        let paused = if self.paused {
            "; paused: nothing is changed"
        } else {
            ""
        };
        let Some(current) = status.generation else {
            return Verdict::Waiting {
                reason: reason::PAUSED,
                message: "paused before a key was made; remove the annotation zenop.dev/paused"
                    .into(),
            };
        };
        let message = match &self.secret_name {
            Some(name) => format!("Secret {name} holds the key (generation {current}){paused}"),
            None => format!("the key is accepted (generation {current}){paused}"),
        };
        Verdict::Ready { message }
    }

    /// The conditions that only keys have, and when time alone will change one.
    pub(super) fn facts(&self, status: &ZenAPIKeyStatus) -> (Vec<Fact>, Option<Timestamp>) {
        let ends = status.expires_at.as_ref().map(|end| end.0);
        let (active, changes) = activity(&self.object, &self.parties.account, ends, self.now);
        let mut facts = vec![active];
        let mut times: Vec<_> = changes.into_iter().collect();
        if let (Some(name), Some(current)) = (&self.secret_name, status.generation) {
            facts.push(Fact {
                condition: condition::SECRET_PUBLISHED,
                holds: true,
                reason: reason::PUBLISHED,
                message: format!("Secret {name} holds the key (generation {current})"),
            });
        }
        if self.paused {
            facts.push(Fact {
                condition: condition::PAUSED,
                holds: true,
                reason: reason::PAUSED,
                message: "nothing is made, rotated or published; expiry and revocation go on. \
                          Remove the annotation zenop.dev/paused to go on"
                    .into(),
            });
        }
        let current = status
            .generations
            .iter()
            .find(|g| g.state == KeyState::Current);
        let made = current.and_then(|g| Some(g.created_time.as_ref()?.0));
        if let (Some(made), Some(ends)) = (made, ends) {
            let rotated = status
                .next_rotation_time
                .as_ref()
                .is_some_and(|at| at.0 < ends);
            let from = warned_from(made, ends);
            if from <= self.now && self.now < ends && !rotated {
                facts.push(Fact {
                    condition: condition::EXPIRING_SOON,
                    holds: true,
                    reason: reason::EXPIRING_SOON,
                    message: format!(
                        "the key dies at {ends}; set a later spec.expiresAt, or have it rotated \
                         by spec.rotation"
                    ),
                });
            } else if !rotated {
                times.push(from);
            }
        }
        facts.extend(self.overdue(made, &mut times));
        (facts, times.into_iter().filter(|at| self.now < *at).min())
    }

    /// Status with these generations.
    pub(super) fn status(
        &self,
        generations: Vec<KeyGeneration>,
        consumers: Vec<ConsumerStatus>,
    ) -> ZenAPIKeyStatus {
        let current = generations.iter().find(|g| g.state == KeyState::Current);
        let number = current.map(|g| g.generation);
        let fingerprint = current.and_then(|g| Some(g.verifier.get(..8)?.to_owned()));
        let made = current.and_then(|g| g.created_time.clone());
        let rotated = made.or(self.old.last_rotated_time.clone());
        let published = self.secret_name.clone().map(|name| DeliveryStatus { name });
        let ends = rotated
            .as_ref()
            .and_then(|made| self.parties.end(&self.object, made.0));
        let mut status = ZenAPIKeyStatus {
            key_id: Some(self.key.to_string()),
            id_proof: self.id_proof(),
            restored_from: self.past.restored_from(&self.old),
            account_id: Some(self.account.to_string()),
            generation: number,
            fingerprint,
            last_rotated_time: number.and(rotated),
            expires_at: number.and(ends).map(whole_seconds),
            secret_ref: number.and(published),
            last_handled_trigger: self.handled_trigger(),
            consumers,
            generations,
            ..ZenAPIKeyStatus::default()
        };
        status.next_rotation_time = self.next_rotation(&status).map(whole_seconds);
        status
    }
}

//! What to do about a key, from what is recorded and what its Secret holds.

use jiff::Timestamp;

use crate::{
    api::{KeyGeneration, KeyState, OnSecretLoss, condition, reason},
    auth::api_key::{KeySecret, Verifier},
    reconcile::{
        error::Invalid,
        plan::{Fact, Verdict},
    },
};

/// No status has more generations.
const MAX_GENERATIONS: usize = 8;

/// What a Secret of ours holds.
#[derive(Debug)]
pub(super) enum Held {
    /// No key of this object.
    Nothing,
    /// A key, and what would stand for it in status.
    Key {
        secret: KeySecret,
        verifier: Verifier,
    },
}

/// All that the decision depends on.
pub(super) struct Situation<'a> {
    /// What is recorded for this account.
    pub generations: &'a [KeyGeneration],
    /// The highest number that was ever recorded.
    pub last: Option<i64>,
    /// What the Secret of the wanted name holds; `None` if there is no such Secret.
    pub delivered: Option<Held>,
    /// What the Secret of the name before holds.
    pub former: Option<Held>,
    pub on_loss: OnSecretLoss,
    pub secret: &'a str,
    pub now: Timestamp,
}

/// What to do. `generations` are those that stay recorded.
#[derive(Debug)]
pub(super) enum Step {
    /// The current key is known: keep it delivered.
    Keep {
        key: KeySecret,
        generations: Vec<KeyGeneration>,
    },
    /// The Secret was written, and we died: say so.
    Confirm {
        key: KeySecret,
        generation: i64,
        generations: Vec<KeyGeneration>,
    },
    /// Draw a key.
    Issue {
        generation: i64,
        lost: bool,
        generations: Vec<KeyGeneration>,
    },
}

/// Decides.
///
/// # Errors
/// Where only a person knows what is right.
pub(super) fn step(situation: Situation<'_>) -> Result<Step, Invalid> {
    let Situation {
        generations,
        last,
        delivered,
        former,
        on_loss,
        secret,
        now,
    } = situation;
    let accepted: Vec<KeyGeneration> = generations
        .iter()
        .filter(|g| g.valid_until.as_ref().is_none_or(|end| now < end.0))
        .cloned()
        .collect();
    let secret_exists = delivered.is_some();
    let candidates = [delivered, former];
    for held in candidates.into_iter().flatten() {
        let Held::Key {
            secret: key,
            verifier,
        } = held
        else {
            continue;
        };
        match recorded(&accepted, &verifier) {
            Some((KeyState::Current, _)) => {
                return Ok(Step::Keep {
                    key,
                    generations: without_prepared(accepted),
                });
            }
            Some((KeyState::Prepared, generation)) => {
                return Ok(Step::Confirm {
                    key,
                    generation,
                    generations: accepted,
                });
            }
            Some((KeyState::Previous, _)) | None => {}
        }
    }
    let current = accepted.iter().any(|g| g.state == KeyState::Current);
    let kept = without_prepared(accepted);
    if last.is_none() && secret_exists {
        return Err(status_lost(secret));
    }
    if current && on_loss == OnSecretLoss::Fail {
        return Err(secret_lost(secret));
    }
    // A number that was prepared and never confirmed is used again: nobody holds that key.
    let confirmed = generations.iter().filter(|g| g.state != KeyState::Prepared);
    let prepared = generations
        .iter()
        .find(|g| g.state == KeyState::Prepared)
        .map(|g| g.generation);
    let next = prepared.unwrap_or_else(|| {
        confirmed
            .map(|g| g.generation)
            .max()
            .or(last)
            .unwrap_or(0)
            .saturating_add(1)
    });
    Ok(Step::Issue {
        generation: next,
        lost: current,
        generations: newest(kept),
    })
}

/// Which recorded generation a verifier is of.
fn recorded(accepted: &[KeyGeneration], held: &Verifier) -> Option<(KeyState, i64)> {
    let is = |g: &&KeyGeneration| {
        g.verifier
            .parse::<Verifier>()
            .is_ok_and(|verifier| verifier.matches(held).into())
    };
    accepted.iter().find(is).map(|g| (g.state, g.generation))
}

fn without_prepared(mut generations: Vec<KeyGeneration>) -> Vec<KeyGeneration> {
    generations.retain(|g| g.state != KeyState::Prepared);
    generations
}

/// Leaves room for one more.
fn newest(mut generations: Vec<KeyGeneration>) -> Vec<KeyGeneration> {
    generations.sort_by_key(|g| std::cmp::Reverse(g.generation));
    generations.truncate(MAX_GENERATIONS - 1);
    generations.reverse();
    generations
}

fn status_lost(secret: &str) -> Invalid {
    stalled(
        reason::STATUS_LOST,
        format!(
            "Secret {secret} exists, yet status does not say that we made a key: nothing is \
             replaced unasked. Restore the status from a backup, or delete the Secret for a new key"
        ),
    )
}

fn secret_lost(secret: &str) -> Invalid {
    stalled(
        reason::SECRET_LOST,
        format!(
            "Secret {secret} is gone or altered and spec.delivery.onSecretLoss is Fail: restore \
             it from a backup, or set onSecretLoss to Rotate for a new key"
        ),
    )
}

fn stalled(reason: &'static str, message: String) -> Invalid {
    let unpublished = Fact {
        condition: condition::SECRET_PUBLISHED,
        holds: false,
        reason,
        message: message.clone(),
    };
    Invalid {
        verdict: Verdict::Stalled { reason, message },
        facts: vec![unpublished],
        unwatched: true,
    }
}

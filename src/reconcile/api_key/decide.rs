//! What to do about a key, from what is recorded, what its Secret holds, and what is wanted.

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

/// A key of this object that was found in a Secret, and what would stand for it in status.
#[derive(Clone, Debug)]
pub(super) struct HeldKey {
    pub secret: KeySecret,
    pub verifier: Verifier,
}

/// What key is wanted.
#[derive(Debug)]
pub(super) enum Wanted {
    /// One that we draw; another one if a rotation is due.
    Drawn {
        /// Why, if it is.
        due: bool,
    },
    /// This one, which was made elsewhere. Its text may be unknown.
    Given {
        secret: Option<KeySecret>,
        verifier: Verifier,
    },
    /// None for now: whatever is there stays.
    Nothing,
}

/// All that the decision depends on.
pub(super) struct Situation<'a> {
    /// What is recorded for this account.
    pub generations: &'a [KeyGeneration],
    /// The highest number that was ever recorded.
    pub last: Option<i64>,
    /// The keys of this object in the Secrets of the wanted name and of the one before.
    pub held: &'a [HeldKey],
    /// Whether there is a Secret of the wanted name.
    pub secret_exists: bool,
    pub wanted: Wanted,
    pub on_loss: OnSecretLoss,
    pub secret: &'a str,
    pub now: Timestamp,
}

/// Why there is a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There was none.
    First,
    /// The Secret of the one before is gone or altered.
    Lost,
    /// It was due, or its source changed.
    Rotation,
}

/// What to do. `generations` are those that stay recorded.
#[derive(Debug)]
pub(super) enum Step {
    /// The current key is known: keep it delivered. No text: it was never known, or is not to be
    /// touched now.
    Keep {
        secret: Option<KeySecret>,
        generations: Vec<KeyGeneration>,
    },
    /// The Secret was written, and we died: say so.
    Confirm {
        secret: KeySecret,
        generation: i64,
        generations: Vec<KeyGeneration>,
    },
    /// Draw a key.
    Draw {
        generation: i64,
        why: Why,
        generations: Vec<KeyGeneration>,
    },
    /// Take a key that was made elsewhere.
    Take {
        secret: Option<KeySecret>,
        verifier: Verifier,
        generation: i64,
        why: Why,
        generations: Vec<KeyGeneration>,
    },
}

/// Decides.
///
/// # Errors
/// Where only a person knows what is right.
pub(super) fn step(situation: Situation<'_>) -> Result<Step, Invalid> {
    let accepted = accepted(situation.generations, situation.now);
    match situation.wanted {
        // What was begun is still to be known when it goes on.
        Wanted::Nothing => Ok(Step::Keep {
            secret: None,
            generations: situation
                .generations
                .iter()
                .filter(|g| g.state == KeyState::Prepared || accepted.contains(g))
                .cloned()
                .collect(),
        }),
        Wanted::Given {
            ref secret,
            verifier,
        } => Ok(take(&situation, accepted, secret.clone(), verifier)),
        Wanted::Drawn { due } => draw(&situation, accepted, due),
    }
}

fn draw(
    situation: &Situation<'_>,
    accepted: Vec<KeyGeneration>,
    due: bool,
) -> Result<Step, Invalid> {
    // The new one first: while it is confirmed, the Secret may hold the old one beside it.
    for state in [KeyState::Prepared, KeyState::Current] {
        let recorded = accepted.iter().filter(|g| g.state == state);
        let found = recorded.into_iter().find_map(|g| {
            let held = situation
                .held
                .iter()
                .find(|held| is_of(g, &held.verifier))?;
            Some((g.generation, held.secret.clone()))
        });
        match found {
            Some((generation, secret)) if state == KeyState::Prepared => {
                return Ok(Step::Confirm {
                    secret,
                    generation,
                    generations: accepted,
                });
            }
            // One that was begun is carried through.
            Some(_) if due || is_begun(situation.generations) => {
                return Ok(Step::Draw {
                    generation: next_number(situation),
                    why: Why::Rotation,
                    generations: newest(without_prepared(accepted)),
                });
            }
            Some((_, secret)) => {
                return Ok(Step::Keep {
                    secret: Some(secret),
                    generations: accepted,
                });
            }
            None => {}
        }
    }
    let current = accepted.iter().any(|g| g.state == KeyState::Current);
    if situation.last.is_none() && situation.secret_exists {
        return Err(status_lost(situation.secret));
    }
    if current && situation.on_loss == OnSecretLoss::Fail {
        return Err(secret_lost(situation.secret));
    }
    Ok(Step::Draw {
        generation: next_number(situation),
        why: if current { Why::Lost } else { Why::First },
        generations: newest(without_prepared(accepted)),
    })
}

fn take(
    situation: &Situation<'_>,
    accepted: Vec<KeyGeneration>,
    secret: Option<KeySecret>,
    verifier: Verifier,
) -> Step {
    let known = accepted.iter().find(|g| is_of(g, &verifier));
    match known.map(|g| (g.state, g.generation)) {
        Some((KeyState::Current, _)) => Step::Keep {
            secret,
            generations: without_prepared(accepted),
        },
        prepared => {
            let generation = match prepared {
                Some((KeyState::Prepared, generation)) => generation,
                _ => next_number(situation),
            };
            let current = accepted.iter().any(|g| g.state == KeyState::Current);
            // One that is taken again, such as one before the current, is another generation.
            let mut generations = without_prepared(accepted);
            generations.retain(|g| !is_of(g, &verifier));
            Step::Take {
                secret,
                verifier,
                generation,
                why: if current { Why::Rotation } else { Why::First },
                generations: newest(generations),
            }
        }
    }
}

/// What is recorded and not over.
fn accepted(generations: &[KeyGeneration], now: Timestamp) -> Vec<KeyGeneration> {
    let valid = |g: &&KeyGeneration| g.valid_until.as_ref().is_none_or(|end| now < end.0);
    generations.iter().filter(valid).cloned().collect()
}

/// Whether a generation was prepared and never confirmed, however long ago.
fn is_begun(generations: &[KeyGeneration]) -> bool {
    generations.iter().any(|g| g.state == KeyState::Prepared)
}

/// A number that was prepared and never confirmed is used again: nobody holds that key.
fn next_number(situation: &Situation<'_>) -> i64 {
    let all = situation.generations.iter();
    let prepared = all.clone().find(|g| g.state == KeyState::Prepared);
    prepared.map(|g| g.generation).unwrap_or_else(|| {
        all.map(|g| g.generation)
            .max()
            .or(situation.last)
            .unwrap_or(0)
            .saturating_add(1)
    })
}

/// Whether a verifier is the one that is recorded.
pub(super) fn is_of(generation: &KeyGeneration, held: &Verifier) -> bool {
    let recorded = generation.verifier.parse::<Verifier>();
    recorded.is_ok_and(|verifier| verifier.matches(held).into())
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
             replaced unasked. Restore the status from a backup, take over the Secret's key with \
             spec.adoption, or delete the Secret for a new key"
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

/// What a person must mend before a key can be issued or delivered.
pub(super) fn stalled(reason: &'static str, message: String) -> Invalid {
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

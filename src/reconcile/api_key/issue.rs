//! A new generation: its key, and what status says before and after it is delivered.

use jiff::SignedDuration;

use super::{
    Valid,
    decide::{Step, Why},
    retire::Retention,
    timing::plus,
};
use crate::{
    api::{KeyGeneration, KeyState, whole_seconds},
    auth::api_key::{ApiKey, KeySecret, Verifier},
    reconcile::{Fresh, plan::Note},
};

/// A prepared generation that nobody confirms dies after this time.
const PREPARED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// A key to deliver, and what status says before and after.
pub(super) struct Issue {
    /// What to deliver; none where the text is not known or nothing is to be touched.
    pub key: Option<ApiKey>,
    pub prepared: Option<Vec<KeyGeneration>>,
    pub confirmed: Vec<KeyGeneration>,
    pub note: Option<Note>,
    /// Whether there is another current key than before.
    pub is_new: bool,
}

pub(super) fn issue(valid: &Valid, fresh: &mut impl Fresh) -> Issue {
    match &valid.step {
        Step::Keep {
            secret,
            generations,
        } => Issue {
            key: secret.as_ref().and_then(|secret| valid.deliverable(secret)),
            prepared: None,
            confirmed: generations.clone(),
            note: None,
            is_new: false,
        },
        Step::Confirm {
            secret,
            generation,
            generations,
        } => Issue {
            key: valid.deliverable(secret),
            prepared: None,
            confirmed: valid.confirmed(generations, *generation),
            note: Some(told(format!(
                "confirmed generation {generation} {}",
                valid.place()
            ))),
            is_new: true,
        },
        Step::Draw {
            generation,
            why,
            generations,
        } => {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            fresh.fill(bytes.as_mut());
            let drawn = KeySecret::from_random(&bytes);
            let pepper = valid.parties.keyring.pepper();
            let verifier = pepper.verifier(valid.account, valid.key, drawn.digest());
            let begun = valid.begin(&verifier, None, *generation, generations);
            valid.issued(begun, *generation, *why, Some(&drawn))
        }
        Step::Take {
            secret,
            verifier,
            generation,
            why,
            generations,
        } => {
            let given = valid.object.spec.source.verifier.as_ref();
            let bcrypt = given.and_then(|given| given.bcrypt.clone());
            let begun = valid.begin(verifier, bcrypt, *generation, generations);
            valid.issued(begun, *generation, *why, secret.as_ref())
        }
    }
}

impl Valid {
    /// These generations, and the new one before its key is delivered.
    fn begin(
        &self,
        verifier: &Verifier,
        bcrypt: Option<String>,
        number: i64,
        generations: &[KeyGeneration],
    ) -> Vec<KeyGeneration> {
        let mut prepared = generations.to_vec();
        prepared.push(KeyGeneration {
            generation: number,
            state: KeyState::Prepared,
            verifier: verifier.to_hex(),
            bcrypt,
            created_time: Some(whole_seconds(self.now)),
            valid_until: Some(whole_seconds(plus(self.now, PREPARED_FOR))),
        });
        prepared
    }

    fn issued(
        &self,
        prepared: Vec<KeyGeneration>,
        number: i64,
        why: Why,
        secret: Option<&KeySecret>,
    ) -> Issue {
        let key = secret.and_then(|secret| self.deliverable(secret));
        Issue {
            confirmed: self.confirmed(&prepared, number),
            // Where nothing is delivered, there is nothing to be recorded before.
            prepared: key.is_some().then_some(prepared),
            key,
            note: Some(self.note(number, why)),
            is_new: true,
        }
    }

    /// The key, if it is to be delivered.
    fn deliverable(&self, secret: &KeySecret) -> Option<ApiKey> {
        let key = ApiKey {
            id: self.key,
            secret: secret.clone(),
        };
        self.secret_name.as_ref().map(|_| key)
    }

    /// The generations once `current` is delivered.
    fn confirmed(&self, generations: &[KeyGeneration], current: i64) -> Vec<KeyGeneration> {
        let retention = Retention::of(&self.object.spec.rotation);
        let confirm = |generation: &KeyGeneration| match generation.state {
            _ if generation.generation == current => Some(KeyGeneration {
                state: KeyState::Current,
                valid_until: None,
                ..generation.clone()
            }),
            KeyState::Current => Some(KeyGeneration {
                state: KeyState::Previous,
                valid_until: Some(retention.end(self.now)),
                ..generation.clone()
            }),
            KeyState::Previous => Some(generation.clone()),
            // Drawn and forgotten: nobody holds it.
            KeyState::Prepared => None,
        };
        generations.iter().filter_map(confirm).collect()
    }

    fn note(&self, number: i64, why: Why) -> Note {
        let place = self.place();
        match why {
            Why::First => told(format!(
                "issued generation {number} of {} {place}",
                self.name
            )),
            Why::Rotation => Note {
                reason: "KeyRotated",
                action: "Rotate",
                ..told(format!(
                    "issued generation {number} {place}; the one before is accepted for another {}",
                    self.object.spec.rotation.retain_for
                ))
            },
            Why::Lost => Note {
                warning: true,
                reason: "KeyReplaced",
                ..told(format!(
                    "the delivered key was gone or altered: issued generation {number} {place}; \
                     the one before is accepted for another {}",
                    self.object.spec.rotation.retain_for
                ))
            },
        }
    }

    fn place(&self) -> String {
        match &self.secret_name {
            Some(name) => format!("in Secret {name}"),
            None => "made elsewhere".to_owned(),
        }
    }
}

fn told(message: String) -> Note {
    Note {
        warning: false,
        reason: "KeyIssued",
        action: "Issue",
        message,
    }
}

//! ZenAPIKey: a key is made, delivered as a Secret, and what stands for it recorded in status.
//!
//! It promises: one current key, whatever crashes. A generation is made in three writes, each of
//! which can be the last one before a crash:
//!
//! 1. its verifier is *recorded* in status as prepared: accepted, but gone in ten minutes;
//! 2. the *Secret* is written;
//! 3. it is *confirmed* in status as current, and the one before it as previous.
//!
//! The next pass compares the Secret's key with what is recorded. It fits the prepared one: go on
//! with 3. It does not, or there is no Secret: whoever drew that key forgot it, so it is dropped
//! and another drawn. All writes of status name the version that was read, so of two who do this
//! at the same time one is refused before anything follows.

mod decide;
mod secret;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{ResourceExt, core::ApiResource};
use uuid::Uuid;

use self::{
    decide::{Held, Step, step},
    secret::{DeliveredSecret, delivered, held_key},
};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    foreign::Claim,
    plan::{Child, Doomed, Fact, Live, Note, Plan, Verdict},
    service_account::holds_name,
};
use crate::{
    api::{
        DeliveryStatus, KeyGeneration, KeyState, ZenAPIKey, ZenAPIKeyStatus, ZenServer,
        ZenServiceAccount, condition, reason,
    },
    auth::{
        api_key::{ApiKey, KeySecret},
        keyring::Keyring,
    },
};

/// A prepared generation that nobody confirms dies after this time.
const PREPARED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// A replaced generation is accepted for this time.
const RETAIN_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What a decision about a key needs.
#[derive(Debug)]
pub struct Observed {
    account: Option<(Arc<ZenServiceAccount>, bool)>,
    server: Option<Arc<ZenServer>>,
    keyring: Option<Arc<Keyring>>,
    secret: Option<Live>,
    /// The Secret of the name before the last change of the name.
    former: Option<Live>,
    others: Vec<(Doomed, Option<i64>)>,
}

/// A key that can be issued and delivered.
#[derive(Debug)]
pub struct Valid {
    now: Timestamp,
    name: String,
    key: Uuid,
    account: Uuid,
    url: String,
    keyring: Arc<Keyring>,
    activity: Fact,
    expires: Option<Timestamp>,
    secret_name: String,
    secret: Option<Live>,
    others: Vec<(Doomed, Option<i64>)>,
    step: Step,
    old: ZenAPIKeyStatus,
}

impl Reconciled for ZenAPIKey {
    type State = ZenAPIKeyStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = ();

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        let account = read.account(&namespace, &self.spec.service_account_ref.name);
        let server = account
            .as_ref()
            .and_then(|account| read.server(&namespace, &account.spec.server_ref.name));
        let keyring = match &server {
            Some(server) => read.keyring(server).await?,
            None => None,
        };
        let resource = ApiResource::erase::<Secret>(&());
        let name = self.secret_name();
        let secret = read.live(&resource, &namespace, &name).await?;
        let former = match former_secret(self) {
            Some(former) if former != name => read.live(&resource, &namespace, &former).await?,
            _ => None,
        };
        let account = account.map(|account| {
            let holds = holds_name(&account, &read.views().accounts);
            (account, holds)
        });
        let others = read.other_secrets(&namespace, &self.uid().unwrap_or_default(), &name);
        Ok(Observed {
            account,
            server,
            keyring,
            secret,
            former,
            others,
        })
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        let (account, keyring, url) = parties(self, &seen)?;
        let uid = self.uid().unwrap_or_default();
        let (Ok(key), Ok(account_id)) = (uid.parse(), account.uid().unwrap_or_default().parse())
        else {
            return Err(waiting(reason::PROGRESSING, "waits for its UID".into()));
        };
        let secret_name = self.secret_name();
        let claim = Claim {
            kind: "ZenAPIKey",
            name: &self.name_any(),
            uid: &uid,
            remedy: "set spec.delivery.secretName to another name",
        };
        claim.check("Secret", &secret_name, seen.secret.as_ref())?;
        let old = self.status.clone().unwrap_or_default();
        let held = |live: Option<&Live>| -> Option<Held> {
            let ours = live.filter(|live| live.is_controlled_by(&uid))?;
            Some(held_key(ours, key, account_id, keyring.pepper()))
        };
        let same_account = old.account_id.as_deref() == Some(&account_id.to_string());
        let step = step(decide::Situation {
            generations: if same_account { &old.generations } else { &[] },
            last: old
                .generations
                .iter()
                .map(|g| g.generation)
                .max()
                .or(old.generation),
            delivered: held(seen.secret.as_ref()),
            former: held(seen.former.as_ref()),
            on_loss: self.spec.delivery.on_secret_loss,
            secret: &secret_name,
            now,
        })?;
        Ok(Valid {
            now,
            name: self.name_any(),
            key,
            account: account_id,
            url,
            activity: activity(self, &account, now),
            expires: self.spec.expires_at.as_ref().map(|end| end.0),
            secret_name,
            secret: seen.secret,
            others: seen.others,
            step,
            old: if same_account {
                old
            } else {
                ZenAPIKeyStatus::default()
            },
            keyring,
        })
    }

    fn plan(valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenAPIKeyStatus> {
        let issue = issue(&valid, fresh);
        let record = issue
            .prepared
            .as_ref()
            .map(|prepared| valid.status(prepared.clone()));
        let status = valid.status(issue.confirmed.clone());
        let current = status.generation.unwrap_or_default();
        let message = format!(
            "Secret {} holds the key (generation {current})",
            valid.secret_name
        );
        let until_end = status
            .generations
            .iter()
            .filter_map(|g| Some(g.valid_until.as_ref()?.0));
        Plan {
            record,
            children: vec![valid.child(&issue.key, current)],
            prune: doomed(&valid.others, &status.generations),
            verdict: Verdict::Ready {
                message: message.clone(),
            },
            facts: vec![
                valid.activity.clone(),
                Fact {
                    condition: condition::SECRET_PUBLISHED,
                    holds: true,
                    reason: reason::PUBLISHED,
                    message,
                },
            ],
            notes: issue.note.into_iter().collect(),
            deadline: until_end
                .chain(valid.expires.filter(|end| valid.now < *end))
                .min(),
            status,
        }
    }
}

/// The Secret that status says holds the key.
fn former_secret(key: &ZenAPIKey) -> Option<String> {
    Some(key.status.as_ref()?.secret_ref.as_ref()?.name.clone())
}

/// Account, secrets and address of the server: all that others provide.
fn parties(
    key: &ZenAPIKey,
    seen: &Observed,
) -> Result<(Arc<ZenServiceAccount>, Arc<Keyring>, String), Invalid> {
    let name = &key.spec.service_account_ref.name;
    let Some((account, holds_name)) = &seen.account else {
        let message = format!("waits for ZenServiceAccount {name} of this namespace to be created");
        return Err(waiting(reason::ACCOUNT_NOT_FOUND, message));
    };
    if !holds_name {
        let message =
            format!("waits for ZenServiceAccount {name}, whose name an older account has");
        return Err(waiting(reason::NAME_CONFLICT, message));
    }
    let server_name = &account.spec.server_ref.name;
    let Some(server) = &seen.server else {
        let message = format!("waits for ZenServer {server_name} of this namespace to be created");
        return Err(waiting(reason::SERVER_NOT_FOUND, message));
    };
    let url = server.status.as_ref().and_then(|status| status.url.clone());
    match (&seen.keyring, url) {
        (Some(keyring), Some(url)) => Ok((Arc::clone(account), Arc::clone(keyring), url)),
        _ => {
            let message = format!(
                "waits for the auth Secret of ZenServer {server_name}; \
                 see kubectl describe zenserver {server_name}"
            );
            Err(waiting(reason::SERVER_NOT_READY, message))
        }
    }
}

fn waiting(reason: &'static str, message: String) -> Invalid {
    let inactive = Fact {
        condition: condition::ACTIVE,
        holds: false,
        reason,
        message: message.clone(),
    };
    Invalid {
        verdict: Verdict::Waiting { reason, message },
        facts: vec![inactive],
        unwatched: false,
    }
}

/// Whether the key may log in, in words. The sidecar decides the same by itself.
fn activity(key: &ZenAPIKey, account: &ZenServiceAccount, now: Timestamp) -> Fact {
    let expired = key.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
    let (holds, reason, message) = if !key.spec.active {
        (
            false,
            reason::DEACTIVATED,
            "spec.active is false".to_owned(),
        )
    } else if expired {
        (
            false,
            reason::EXPIRED,
            "spec.expiresAt is over; set a later one or make a new key".into(),
        )
    } else if !account.spec.active {
        let name = account.name_any();
        (
            false,
            reason::ACCOUNT_DEACTIVATED,
            format!("ZenServiceAccount {name} is deactivated"),
        )
    } else {
        (true, reason::ACTIVE, "may log in".to_owned())
    };
    Fact {
        condition: condition::ACTIVE,
        holds,
        reason,
        message,
    }
}

/// A key to deliver, and what status says before and after.
struct Issue {
    key: ApiKey,
    prepared: Option<Vec<KeyGeneration>>,
    confirmed: Vec<KeyGeneration>,
    note: Option<Note>,
}

fn issue(valid: &Valid, fresh: &mut impl Fresh) -> Issue {
    let note = |warning, reason, message| Note {
        warning,
        reason,
        action: "Issue",
        message,
    };
    let (name, secret) = (&valid.name, &valid.secret_name);
    match &valid.step {
        Step::Keep { key, generations } => Issue {
            key: valid.key_of(key),
            prepared: None,
            confirmed: generations.clone(),
            note: None,
        },
        Step::Confirm {
            key,
            generation,
            generations,
        } => Issue {
            key: valid.key_of(key),
            prepared: None,
            confirmed: confirmed(generations, *generation, valid.now),
            note: Some(note(
                false,
                "KeyIssued",
                format!("confirmed generation {generation} in Secret {secret}"),
            )),
        },
        Step::Issue {
            generation,
            lost,
            generations,
        } => {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            fresh.fill(bytes.as_mut());
            let drawn = KeySecret::from_random(&bytes);
            let verifier =
                valid
                    .keyring
                    .pepper()
                    .verifier(valid.account, valid.key, drawn.digest());
            let mut prepared = generations.clone();
            prepared.push(KeyGeneration {
                generation: *generation,
                state: KeyState::Prepared,
                verifier: verifier.to_hex(),
                created_time: Some(time(valid.now, SignedDuration::ZERO)),
                valid_until: Some(time(valid.now, PREPARED_FOR)),
            });
            let issued = if *lost {
                note(
                    true,
                    "KeyReplaced",
                    format!(
                        "Secret {secret} was gone or altered: issued generation {generation}; \
                     the one before is accepted for another hour"
                    ),
                )
            } else {
                note(
                    false,
                    "KeyIssued",
                    format!("issued generation {generation} of {name} in Secret {secret}"),
                )
            };
            Issue {
                key: valid.key_of(&drawn),
                confirmed: confirmed(&prepared, *generation, valid.now),
                prepared: Some(prepared),
                note: Some(issued),
            }
        }
    }
}

/// The generations once `current` is in the Secret.
fn confirmed(generations: &[KeyGeneration], current: i64, now: Timestamp) -> Vec<KeyGeneration> {
    let confirm = |generation: &KeyGeneration| match generation.state {
        _ if generation.generation == current => Some(KeyGeneration {
            state: KeyState::Current,
            valid_until: None,
            ..generation.clone()
        }),
        KeyState::Current => Some(KeyGeneration {
            state: KeyState::Previous,
            valid_until: Some(time(now, RETAIN_FOR)),
            ..generation.clone()
        }),
        KeyState::Previous => Some(generation.clone()),
        // Drawn and forgotten: nobody holds it.
        KeyState::Prepared => None,
    };
    generations.iter().filter_map(confirm).collect()
}

/// The API keeps seconds.
fn time(now: Timestamp, after: SignedDuration) -> Time {
    let then = now.saturating_add(after).unwrap_or(now);
    Time(Timestamp::from_second(then.as_second()).unwrap_or(then))
}

/// Secrets of other names that we made for this key, once the generation in them is over.
fn doomed(others: &[(Doomed, Option<i64>)], accepted: &[KeyGeneration]) -> Vec<Doomed> {
    let is_accepted = |number: Option<i64>| accepted.iter().any(|g| Some(g.generation) == number);
    let over = others
        .iter()
        .filter(|(_, generation)| !is_accepted(*generation));
    over.map(|(doomed, _)| doomed.clone()).collect()
}

impl Valid {
    fn key_of(&self, secret: &KeySecret) -> ApiKey {
        ApiKey {
            id: self.key,
            secret: secret.clone(),
        }
    }

    fn child(&self, key: &ApiKey, generation: i64) -> Child {
        let secret = DeliveredSecret {
            url: &self.url,
            key,
            generation,
        };
        delivered(&self.secret_name, &secret, self.secret.clone())
    }

    /// Status with these generations.
    fn status(&self, generations: Vec<KeyGeneration>) -> ZenAPIKeyStatus {
        let current = generations.iter().find(|g| g.state == KeyState::Current);
        let number = current.map(|g| g.generation);
        let fingerprint = current.and_then(|g| Some(g.verifier.get(..8)?.to_owned()));
        let same = number == self.old.generation;
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        let rotated = if same {
            self.old.last_rotated_time.clone()
        } else {
            Some(Time(now))
        };
        let published = DeliveryStatus {
            name: self.secret_name.clone(),
        };
        ZenAPIKeyStatus {
            key_id: Some(self.key.to_string()),
            account_id: Some(self.account.to_string()),
            generation: number,
            fingerprint,
            last_rotated_time: number.and(rotated),
            secret_ref: number.and(Some(published)),
            generations,
            ..ZenAPIKeyStatus::default()
        }
    }
}

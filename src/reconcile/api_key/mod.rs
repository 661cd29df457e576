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
//! and another drawn. A key that was made elsewhere goes the same way, and is found there again.
//! All writes of status name the version that was read, so of two who do this at the same time one
//! is refused before anything follows.

mod consumers;
mod decide;
mod due;
mod issue;
mod parties;
mod past;
mod place;
mod retire;
mod secret;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod timing;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};
use serde_json::Value;
use uuid::Uuid;

use self::{
    consumers::{Delivered, Rollout, Workload, roll_out},
    decide::{HeldKey, Situation, Step, Wanted, stalled, step},
    due::is_due,
    issue::issue,
    parties::{Parties, waiting},
    past::Past,
    place::{Siblings, adoptable, siblings},
    retire::Retention,
    secret::{Names, Template, held_keys},
    source::{Given, given},
    timing::Calendar,
};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    foreign::is_set,
    namesake::holds_name,
    plan::{Doomed, Live, Plan},
    record::{farewell::Wish, revival::server_of},
    source::{Missing, next_look},
};
use crate::{
    api::{
        DeliveryMode, KeyGeneration, KeyState, SourceType, ZenAPIKey, ZenAPIKeyStatus, ZenServer,
        ZenServiceAccount, annotation, reason,
    },
    auth::{
        api_key::{ApiKey, Pepper},
        keyring::Keyring,
    },
};

/// What a decision about a key needs.
#[derive(Debug, Default)]
pub struct Observed {
    account: Option<(Arc<ZenServiceAccount>, bool)>,
    server: Option<Arc<ZenServer>>,
    keyring: Option<Arc<Keyring>>,
    secret: Option<Live>,
    /// The Secret of the name before the last change of the name.
    former: Option<Live>,
    others: Vec<(Doomed, Option<i64>)>,
    /// The Secret that `spec.source` names.
    source: Option<Live>,
    siblings: Siblings,
    workloads: Option<Vec<Workload>>,
    past: Past,
}

/// A key that can be issued and delivered.
#[derive(Debug)]
pub struct Valid {
    now: Timestamp,
    name: String,
    uid: String,
    own_id: Uuid,
    key: Uuid,
    account: Uuid,
    past: Past,
    parties: Parties,
    object: ZenAPIKey,
    template: Template,
    calendar: Calendar,
    held: Vec<HeldKey>,
    secret_name: Option<String>,
    secret: Option<Live>,
    others: Vec<(Doomed, Option<i64>)>,
    workloads: Option<Vec<Workload>>,
    paused: bool,
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
        let uid = self.uid().unwrap_or_default();
        let mut seen = Observed {
            keyring,
            server,
            ..Observed::default()
        };
        if self.is_delivered() {
            let name = self.secret_name();
            seen.secret = read.live(&resource, &namespace, &name).await?;
            if let Some(former) = former_secret(self).filter(|former| *former != name) {
                seen.former = read.live(&resource, &namespace, &former).await?;
            }
            seen.others = read.other_secrets(&namespace, &uid, &name);
        } else {
            seen.others = read.other_secrets(&namespace, &uid, "");
        }
        if let Some(from) = &self.spec.source.value_from {
            let name = &from.secret_key_ref.name;
            seen.source = read.live(&resource, &namespace, name).await?;
        }
        seen.past = past::observe(self, &seen, read).await?;
        seen.past.claim(&mut seen.secret);
        seen.siblings = siblings(self, &seen, read);
        if needs_consumers(self) {
            let consumers = &self.spec.rotation.consumers;
            seen.workloads = Some(consumers::observe(consumers, &namespace, read).await?);
        }
        seen.account = account.map(|account| {
            let holds = holds_name(&*account, &read.views().accounts);
            (account, holds)
        });
        Ok(seen)
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        let parties = Parties::of(self, &seen)?;
        let uid = self.uid().unwrap_or_default();
        let Ok(own_id) = uid.parse::<Uuid>() else {
            return Err(waiting(reason::PROGRESSING, "waits for its UID".into()));
        };
        let account = parties.account_id;
        self.check_end(&parties, now)?;
        let invalid = |message| stalled(reason::INVALID_SPEC, message);
        let template = Template::parse(&self.spec.delivery.secret_template).map_err(invalid)?;
        let calendar = Calendar::parse(&self.spec.rotation).map_err(invalid)?;
        let recorded = self.recorded(&seen.past, account, now)?;
        let last = recorded.as_ref().and_then(last_number);
        let mut old = recorded
            .filter(|old| is_of(old, account))
            .unwrap_or_default();
        let paused = is_set(self, annotation::PAUSED);
        let given = match paused {
            true => None,
            false => given(self, seen.source.as_ref()).map_err(missing)?,
        };
        let adopted = adoptable(self, &seen, &old);
        let pepper = parties.keyring.pepper();
        let recorded = old.key_id.as_ref().and_then(|id| id.parse().ok());
        let found = given.as_ref().or(adopted.as_ref());
        let known = recorded.filter(|id| past::has_id(self, &seen.past, own_id, *id, pepper));
        let key = found.map_or(known.unwrap_or(own_id), |found| found.id);
        if recorded.is_some_and(|recorded| recorded != key) {
            // Keys are found by their id: nobody can log in with those of another.
            old.generations.clear();
        }
        let secret_name = self.is_delivered().then(|| self.secret_name());
        self.check_place(&seen, &parties, &old, key, adopted.is_some())?;
        if paused && old.key_id.is_none() {
            let message = "paused before a key was made for this account; remove the annotation \
                           zenop.dev/paused";
            return Err(waiting(reason::PAUSED, message.into()));
        }
        let held = held(&seen, &uid, key, account, pepper);
        let given = given.or(adopted);
        let wanted = match given {
            _ if paused => Wanted::Nothing,
            Some(Given { hash, secret, .. }) => Wanted::Given {
                verifier: hash.verifier(pepper, account, key),
                secret,
            },
            None => Wanted::Drawn {
                due: is_due(self, &calendar, &parties, &old, now),
            },
        };
        let step = step(Situation {
            generations: &old.generations,
            last,
            held: &held,
            secret_exists: seen.past.knows(seen.secret.as_ref()),
            wanted,
            on_loss: self.spec.delivery.on_secret_loss,
            secret: secret_name.as_deref().unwrap_or_default(),
            now,
        })?;
        Ok(Valid {
            now,
            name: self.name_any(),
            uid,
            own_id,
            key,
            account,
            past: seen.past,
            parties,
            object: self.clone(),
            template,
            calendar,
            held,
            secret_name,
            secret: seen.secret,
            others: seen.others,
            workloads: seen.workloads,
            paused,
            step,
            old,
        })
    }

    fn plan(valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenAPIKeyStatus> {
        let issue = issue(&valid, fresh);
        let first = valid.past.is_new().then(|| valid.old.generations.clone());
        let record = issue
            .prepared
            .or(first)
            .map(|recorded| valid.status(recorded, valid.old.consumers.clone()));
        let rollout = valid.rollout(&issue.confirmed, issue.is_new);
        let retention = Retention::of(&valid.object.spec.rotation);
        let (generations, retires) = retention.retire(
            &issue.confirmed,
            &valid.old.usage,
            rollout.rolled,
            valid.now,
        );
        let status = valid.status(generations, rollout.status);
        let (facts, changes) = valid.facts(&status);
        let child = issue.key.map(|key| valid.child(&key, &status));
        let mut deadlines: Vec<Timestamp> = [retires, changes, rollout.next]
            .into_iter()
            .flatten()
            .collect();
        let ends = status
            .generations
            .iter()
            .filter_map(|g| Some(g.valid_until.as_ref()?.0));
        deadlines.extend(ends);
        deadlines.extend(valid.next_looks(&status, issue.is_new));
        Plan {
            record,
            entries: Vec::new(),
            prune: [
                valid.doomed(&status.generations),
                valid.past.spent(child.is_some()),
            ]
            .concat(),
            children: child.into_iter().collect(),
            restarts: rollout.restarts,
            verdict: valid.verdict(&status),
            facts,
            notes: valid.past.note().into_iter().chain(issue.note).collect(),
            deadline: deadlines.into_iter().filter(|at| valid.now < *at).min(),
            status,
        }
    }

    fn wish(&self, read: &Reader) -> Option<Wish> {
        Some(past::wish(self, read))
    }

    async fn last_server(&self, read: &Reader) -> Result<Option<Arc<ZenServer>>, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        let account = &self.spec.service_account_ref.name;
        server_of::<ZenServiceAccount>(&namespace, account, read).await
    }

    fn continues(&self, spec: &Value) -> bool {
        past::continues(self, spec)
    }
}

impl ZenAPIKey {
    fn is_delivered(&self) -> bool {
        self.spec.delivery.mode == DeliveryMode::Secret
    }
}

/// Whether consumers may have to be restarted or waited for: after a rotation, until all are done.
fn needs_consumers(key: &ZenAPIKey) -> bool {
    let Some(status) = &key.status else {
        return false;
    };
    let current = status.generation.unwrap_or(0);
    let done = !status.consumers.is_empty()
        && status
            .consumers
            .iter()
            .all(|c| c.rolled && c.generation >= current);
    !key.spec.rotation.consumers.is_empty() && current > 1 && !done
}

/// The Secret that status says holds the key.
fn former_secret(key: &ZenAPIKey) -> Option<String> {
    Some(key.status.as_ref()?.secret_ref.as_ref()?.name.clone())
}

/// The keys of this id in the Secrets that are ours.
fn held(seen: &Observed, uid: &str, key: Uuid, account: Uuid, pepper: &Pepper) -> Vec<HeldKey> {
    let secrets = [&seen.secret, &seen.former].into_iter().flatten();
    let is_ours = |live: &&Live| seen.past.is_claimed() || live.is_controlled_by(uid);
    let ours = secrets.filter(is_ours);
    ours.flat_map(|live| held_keys(live, key, account, pepper))
        .collect()
}

/// Whether a status speaks of this account, and not of one before it of the same name.
fn is_of(status: &ZenAPIKeyStatus, account: Uuid) -> bool {
    status.account_id.as_deref() == Some(&account.to_string())
}

fn last_number(status: &ZenAPIKeyStatus) -> Option<i64> {
    let numbers = status.generations.iter().map(|g| g.generation);
    numbers.max().or(status.generation)
}

fn missing(why: Missing) -> Invalid {
    match why {
        Missing::Absent(_) => why.into_invalid(),
        Missing::Unusable(message) => stalled(reason::SOURCE_INVALID, message),
    }
}

impl Valid {
    fn rollout(&self, generations: &[KeyGeneration], is_new: bool) -> Rollout {
        let kept = Rollout {
            rolled: !is_new && !needs_consumers(&self.object),
            status: self.old.consumers.clone(),
            ..Rollout::default()
        };
        let current = generations.iter().find(|g| g.state == KeyState::Current);
        match (current, &self.workloads) {
            (Some(current), Some(workloads)) if !is_new && !self.paused => {
                let at = current.created_time.as_ref().map_or(self.now, |at| at.0);
                let key = Delivered {
                    uid: &self.uid,
                    generation: current.generation,
                    at,
                };
                roll_out(workloads, key, &self.object.spec.rotation, self.now)
            }
            _ => kept,
        }
    }

    /// When to look again though nothing happened.
    fn next_looks(&self, status: &ZenAPIKeyStatus, is_new: bool) -> Vec<Timestamp> {
        let soon = timing::plus(self.now, jiff::SignedDuration::from_millis(1));
        let rotation = status.next_rotation_time.as_ref().map(|at| at.0);
        let has_consumers = !self.object.spec.rotation.consumers.is_empty();
        let rolls = (is_new && has_consumers && status.generation > Some(1)).then_some(soon);
        let source = self.object.spec.source.source_type == SourceType::ValueFrom;
        let source = source.then(|| next_look(self.now));
        [rotation, rolls, source].into_iter().flatten().collect()
    }

    /// Secrets of other names that we made for this key, once the generation in them is over, or
    /// at once where it is not delivered any more.
    fn doomed(&self, accepted: &[KeyGeneration]) -> Vec<Doomed> {
        if self.paused {
            return Vec::new();
        }
        let stays = |number: Option<i64>| {
            self.secret_name.is_some() && accepted.iter().any(|g| Some(g.generation) == number)
        };
        let over = self.others.iter().filter(|(_, number)| !stays(*number));
        over.map(|(doomed, _)| doomed.clone()).collect()
    }

    fn child(&self, key: &ApiKey, status: &ZenAPIKeyStatus) -> super::plan::Child {
        let account = &self.parties.account;
        let names = Names {
            url: self.parties.url.clone(),
            key_name: self.object.zenml_name().to_owned(),
            account: account.zenml_name().to_owned(),
            account_id: self.account.to_string(),
            server: self.parties.server.name_any(),
            namespace: account.namespace().unwrap_or_default(),
        };
        let previous = self.previous(&status.generations);
        let secret = secret::DeliveredSecret {
            key,
            previous: previous.as_ref(),
            generation: status.generation.unwrap_or_default(),
            names: &names,
        };
        let name = self.secret_name.as_deref().unwrap_or_default();
        self.template.delivered(name, &secret, self.secret.clone())
    }

    /// The newest of the keys before the current one that is accepted and whose text is known.
    fn previous(&self, generations: &[KeyGeneration]) -> Option<ApiKey> {
        let accepted = generations.iter().filter(|g| g.state == KeyState::Previous);
        let newest = accepted.max_by_key(|g| g.generation)?;
        let held = self
            .held
            .iter()
            .find(|held| decide::is_of(newest, &held.verifier))?;
        self.template.includes_previous().then(|| ApiKey {
            id: self.key,
            secret: held.secret.clone(),
        })
    }
}

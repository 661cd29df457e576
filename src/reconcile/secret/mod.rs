//! ZenSecret: values that come from other Secrets or are drawn, delivered in one Secret.
//!
//! It promises: the Secret holds all entries, or is not touched. What was drawn is written down in a
//! Secret of its own first (`generated.rs`) and is the same ever after: a pass that is cut off at any
//! place is repeated with what is there. Nothing is drawn anew because something was lost.

mod entries;
mod farewell;
mod generated;
mod names;
mod rendered;
mod sources;
mod target;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::{
    entries::{Entry, Known, MOST_BYTES, Wanted, resolve},
    generated::{Generated, is_marked},
    rendered::{Filling, Template, Unfilled},
    target::{Drift, Target},
};
pub use self::{
    names::{SecretName, SecretNames},
    sources::Sources,
};
use super::{
    Fresh, Reader, Reconciled,
    driver::Tools,
    error::{CallError, Invalid, PassError},
    foreign::{Claim, is_set, may_adopt},
    namesake::Name,
    plan::{Doomed, Fact, Live, Note, Plan, Verdict},
    references::{Delivered, Leads, delivered},
    source::next_look,
};
use crate::{
    api::{
        Adoption, EntryStatus, HOLD_FINALIZER, ZenSecret, ZenSecretStatus, ZenServer, annotation,
        condition, reason, whole_seconds,
    },
    auth::{keyring::Keyring, sealed::OpeningKeys},
};

/// What a decision about a secret needs.
#[derive(Debug)]
pub struct Observed {
    server: Option<Arc<ZenServer>>,
    name: Name,
    keyring: Option<Arc<Keyring>>,
    /// What opens the entries that are sealed.
    opening: Option<Arc<OpeningKeys>>,
    /// By name, the Secrets that values come from.
    sources: BTreeMap<String, Option<Live>>,
    generated: Option<Live>,
    target: Option<Live>,
    /// What its templates refer to.
    foreign: Leads,
    values: Delivered,
    /// Other Secrets that we made for it.
    others: Vec<Doomed>,
}

/// A secret of which every value is known, or can be drawn.
#[derive(Debug)]
pub struct Valid {
    object: ZenSecret,
    id: Uuid,
    keyring: Arc<Keyring>,
    entries: Vec<Entry>,
    templates: Templates,
    generated: Option<Live>,
    target: Option<Live>,
    drift: Drift,
    others: Vec<Doomed>,
    now: Timestamp,
}

/// The entries that are made of values.
#[derive(Debug)]
enum Templates {
    /// They can be made.
    Filled(Vec<Template>),
    /// What they refer to is not there: those that were made before stay, with these values.
    Waiting {
        kept: BTreeMap<String, Zeroizing<Vec<u8>>>,
        reason: &'static str,
        message: String,
    },
}

impl Reconciled for ZenSecret {
    type State = ZenSecretStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = ();

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        let server = read.server(&namespace, &self.spec.server_ref.name);
        let keyring = match &server {
            Some(server) => read.keyring(server).await?,
            None => None,
        };
        let secrets = ApiResource::erase::<Secret>(&());
        let mut sources = BTreeMap::new();
        for from in self.spec.data.iter().filter_map(|e| e.value_from.as_ref()) {
            let name = &from.secret_key_ref.name;
            if !sources.contains_key(name) {
                let source = read.live(&secrets, &namespace, name).await?;
                sources.insert(name.clone(), source);
            }
        }
        let (target, generated) = (self.secret_name(), self.generated_name());
        let others = read.other_secrets(&namespace, &self.uid().unwrap_or_default(), target);
        let others = others.into_iter().map(|(doomed, _)| doomed);
        let draws = self.spec.data.iter().any(|entry| entry.generate.is_some());
        let seals = self.spec.data.iter().any(|entry| entry.encrypted.is_some());
        let opening = match &server {
            Some(server) if seals => read.opening_keys(server).await?,
            Some(_) | None => None,
        };
        let texts = self.spec.target.secret_template.data.values();
        let texts = texts.map(String::as_str);
        let foreign = Leads::look_up(read.views(), self, Some(self.zenml_name()), texts);
        let values = delivered(read, foreign.secrets()).await?;
        Ok(Observed {
            server,
            name: read.views().secret_names.holder(self),
            keyring,
            opening,
            sources,
            target: read.live(&secrets, &namespace, target).await?,
            generated: match draws {
                true => read.live(&secrets, &namespace, &generated).await?,
                false => None,
            },
            foreign,
            values,
            others: others
                .filter(|other| !draws || other.name != generated)
                .collect(),
        })
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        if let Name::HeldBy(holder) = &seen.name {
            return Err(self.name_conflict(holder));
        }
        let server_name = &self.spec.server_ref.name;
        if seen.server.is_none() {
            let message =
                format!("waits for ZenServer {server_name} of this namespace to be created");
            return Err(waiting(reason::SERVER_NOT_FOUND, message));
        }
        let uid = self.uid().unwrap_or_default();
        let (Some(keyring), Ok(id)) = (seen.keyring.clone(), uid.parse::<Uuid>()) else {
            let message = format!(
                "waits for the Secrets of ZenServer {server_name}; \
                 see kubectl describe zenserver {server_name}"
            );
            return Err(waiting(reason::SERVER_NOT_READY, message));
        };
        if is_set(self, annotation::PAUSED) {
            return Err(self.paused());
        }
        let adopts = |live: &Live| may_adopt(self, self.spec.adoption, live);
        let adopted = seen.target.as_ref().is_some_and(adopts);
        self.check_place(&seen, adopted)?;
        let drawn = Generated::read(seen.generated.as_ref());
        let pepper = keyring.pepper();
        let values = target::values(seen.target.as_ref());
        let print = |name: &str, value: &[u8]| pepper.value_fingerprint(id, name, value);
        let known = Known {
            sources: &seen.sources,
            opening: seen.opening.as_deref(),
            generated: &drawn,
            delivered: &values,
            adopted,
            print: &print,
            now,
        };
        let entries = resolve(self, &known)?;
        let filling = Filling {
            secret: self,
            entries: &entries,
            foreign: &seen.foreign,
            values: &seen.values,
            pepper,
        };
        let templates = match filling.templates() {
            Ok(templates) => Templates::Filled(templates),
            // Nothing can be added to it later.
            Err(unfilled) if self.spec.immutable => return Err(unfilled.into_invalid()),
            Err(unfilled @ Unfilled::Never(_)) => return Err(unfilled.into_invalid()),
            Err(Unfilled::Waits { reason, message }) => Templates::Waiting {
                kept: target::kept(self, seen.target.as_ref(), &values, &print),
                reason,
                message,
            },
        };
        let made = templates.made(&entries);
        let drift = target::drift(self, &entries, &made, &values, seen.target.as_ref(), &print)?;
        Ok(Valid {
            object: self.clone(),
            id,
            keyring,
            entries,
            templates,
            generated: seen.generated,
            target: seen.target,
            drift,
            others: seen.others,
            now,
        })
    }

    const FINALIZER: &'static str = HOLD_FINALIZER;

    fn is_to_be_held(&self, read: &Reader) -> Option<bool> {
        Some(farewell::is_to_be_held(self, read))
    }

    async fn depart(&self, tools: &Tools, _: Timestamp) -> Result<Option<Fact>, PassError> {
        farewell::depart(self, tools).await
    }

    fn complete(&self, status: &mut ZenSecretStatus, read: &Reader) {
        status.used_by = farewell::used_by(farewell::users(self, read));
    }

    fn plan(mut valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenSecretStatus> {
        let drawn = valid.draw(fresh);
        let status = valid.status();
        let generated = Generated::of(&valid.entries);
        let rendered = valid.templates.made(&valid.entries);
        let pepper = valid.keyring.pepper();
        let of_rendered = rendered.iter().map(|(name, value)| {
            let print = pepper.value_fingerprint(valid.id, name, value);
            (name.clone(), print)
        });
        let prints = status.keys.iter();
        let prints = prints.map(|key| (key.name.clone(), key.fingerprint.clone()));
        let target = Target {
            object: &valid.object,
            entries: &valid.entries,
            prints: &prints.chain(of_rendered).collect(),
            rendered: &rendered,
        };
        let delivers = !matches!(valid.drift, Drift::Left(_));
        let children = generated
            .child(&valid.object, valid.generated.clone())
            .into_iter()
            .chain(delivers.then(|| target.child(valid.target.clone())));
        Plan {
            record: None,
            children: children.collect(),
            entries: Vec::new(),
            prune: match delivers {
                true => valid.others.clone(),
                false => Vec::new(),
            },
            restarts: Vec::new(),
            verdict: valid.verdict(&status),
            facts: valid.facts(),
            notes: valid.notes(&drawn),
            deadline: valid.deadline(),
            status,
        }
    }
}

impl Templates {
    /// What they make of values, so far as these are known.
    fn made(&self, entries: &[Entry]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        match self {
            Self::Waiting { kept, .. } => kept.clone(),
            Self::Filled(templates) => {
                let made = templates
                    .iter()
                    .filter_map(|template| Some((template.name.clone(), template.bytes(entries)?)));
                made.collect()
            }
        }
    }
}

impl ZenSecret {
    /// Whether it takes from no Secret that it writes to, and writes to none of somebody else.
    fn check_place(&self, seen: &Observed, adopted: bool) -> Result<(), Invalid> {
        let (target, generated) = (self.secret_name(), self.generated_name());
        if seen.sources.contains_key(target) || target == generated {
            let message = format!(
                "Secret {target}, in which the values are put, is one that they come from: set \
                 spec.target.secretName to another name"
            );
            return Err(stalled(reason::INVALID_SPEC, message));
        }
        let (name, uid) = (self.name_any(), self.uid().unwrap_or_default());
        let claim = |remedy| Claim {
            kind: "ZenSecret",
            name: &name,
            uid: &uid,
            remedy,
        };
        // As a backup has it: with our mark, and without its owner.
        let kept = seen.generated.as_ref();
        let restored = self.spec.adoption != Adoption::Never;
        let kept = kept.filter(|kept| !(restored && kept.controller.is_none() && is_marked(kept)));
        claim("make a ZenSecret of another name").check("Secret", &generated, kept)?;
        let remedy =
            "set spec.target.secretName to another name, or take it over with spec.adoption";
        claim(remedy).check("Secret", target, seen.target.as_ref().filter(|_| !adopted))
    }

    fn name_conflict(&self, holder: &str) -> Invalid {
        let message = format!(
            "the name {:?} belongs to the older ZenSecret {holder} of the same scope; set spec.name \
             to another, or delete that one",
            self.zenml_name()
        );
        Invalid {
            facts: vec![Fact {
                condition: condition::NAME_CONFLICT,
                holds: true,
                reason: reason::NAME_CONFLICT,
                message: message.clone(),
            }],
            verdict: Verdict::Stalled {
                reason: reason::NAME_CONFLICT,
                message,
            },
            unwatched: false,
        }
    }

    /// What was delivered stays as it is.
    fn paused(&self) -> Invalid {
        let message = "nothing is made, drawn or repaired; remove the annotation zenop.dev/paused \
                       to go on"
            .to_owned();
        let status = self.status.as_ref();
        let verdict = match status.and_then(|status| status.secret_name.as_ref()) {
            Some(name) => Verdict::Ready {
                message: format!("Secret {name} was delivered, and is not looked at while paused"),
            },
            None => Verdict::Waiting {
                reason: reason::PAUSED,
                message: message.clone(),
            },
        };
        Invalid {
            facts: vec![Fact {
                condition: condition::PAUSED,
                holds: true,
                reason: reason::PAUSED,
                message,
            }],
            verdict,
            unwatched: false,
        }
    }

    /// What status says of an entry.
    fn recorded(&self, name: &str) -> Option<&EntryStatus> {
        let keys = self.status.iter().flat_map(|status| &status.keys);
        keys.into_iter().find(|entry| entry.name == name)
    }
}

impl Valid {
    /// Draws what is to be drawn, and says which entries that were.
    fn draw(&mut self, fresh: &mut impl Fresh) -> Vec<String> {
        let mut drawn = Vec::new();
        for entry in &mut self.entries {
            if let Wanted::Drawn(how) = &entry.wanted {
                let value = how.draw(fresh);
                drawn.push(entry.name.clone());
                entry.wanted = Wanted::Known(value);
            }
        }
        drawn
    }

    fn status(&self) -> ZenSecretStatus {
        let old = self.object.status.clone().unwrap_or_default();
        if matches!(self.drift, Drift::Left(_)) {
            return old;
        }
        let pepper = self.keyring.pepper();
        let keys: Vec<EntryStatus> = self
            .entries
            .iter()
            .map(|entry| {
                let value = entry.value();
                let fingerprint = pepper.value_fingerprint(self.id, &entry.name, value);
                let before = self.object.recorded(&entry.name);
                let same = before.filter(|before| before.fingerprint == fingerprint);
                EntryStatus {
                    name: entry.name.clone(),
                    source: entry.source,
                    last_changed_time: same.map_or_else(
                        || whole_seconds(self.now),
                        |before| before.last_changed_time.clone(),
                    ),
                    trigger: entry.trigger.clone(),
                    fingerprint,
                }
            })
            .collect();
        let is_gone = |before: &EntryStatus| keys.iter().all(|key| key.name != before.name);
        let removed = old.keys.iter().any(is_gone);
        let changes = keys.iter().map(|key| key.last_changed_time.clone());
        let changes = changes.chain(removed.then(|| whole_seconds(self.now)));
        let last = changes.chain(old.last_changed_time).max_by_key(|at| at.0);
        ZenSecretStatus {
            secret_name: Some(self.object.secret_name().to_owned()),
            key_count: i32::try_from(keys.len()).unwrap_or(i32::MAX),
            last_changed_time: last,
            keys,
            ..ZenSecretStatus::default()
        }
    }

    fn verdict(&self, status: &ZenSecretStatus) -> Verdict {
        if let Drift::Left(what) = &self.drift {
            return Verdict::Stalled {
                reason: reason::DRIFTED,
                message: self.drifted(what),
            };
        }
        if let Templates::Waiting {
            reason, message, ..
        } = &self.templates
        {
            return Verdict::Waiting {
                reason,
                message: message.clone(),
            };
        }
        Verdict::Ready {
            message: format!(
                "Secret {} holds {}",
                self.object.secret_name(),
                match status.key_count {
                    1 => "1 entry".to_owned(),
                    n => format!("{n} entries"),
                }
            ),
        }
    }

    fn drifted(&self, what: &str) -> String {
        format!(
            "{what}; it was left alone (driftPolicy: Report): undo that, or set \
             spec.driftPolicy to Repair"
        )
    }

    fn facts(&self) -> Vec<Fact> {
        let left = match &self.drift {
            Drift::Left(what) => Some(what),
            Drift::None | Drift::Repaired(_) => None,
        };
        let fact = |what: &String| Fact {
            condition: condition::DRIFTED,
            holds: true,
            reason: reason::DRIFTED,
            message: self.drifted(what),
        };
        left.map(fact).into_iter().collect()
    }

    fn notes(&self, drawn: &[String]) -> Vec<Note> {
        let repaired = match &self.drift {
            Drift::Repaired(what) => Some(Note {
                warning: true,
                reason: "SecretRepaired",
                action: "Repair",
                message: format!("{what}; it was made as it was"),
            }),
            Drift::None | Drift::Left(_) => None,
        };
        let rotated: Vec<_> = drawn
            .iter()
            .filter(|name| self.object.recorded(name).is_some())
            .cloned()
            .collect();
        let rotated = (!rotated.is_empty()).then(|| Note {
            warning: false,
            reason: "ValueRotated",
            action: "Rotate",
            message: format!("drew another value for {}", rotated.join(", ")),
        });
        repaired.into_iter().chain(rotated).collect()
    }

    fn deadline(&self) -> Option<Timestamp> {
        // A value that is about to be written shows in no status that we wait for.
        let again = match self.templates {
            Templates::Waiting { reason, .. } if reason == reason::PROGRESSING => {
                Some(next_look(self.now))
            }
            Templates::Waiting { .. } | Templates::Filled(_) => None,
        };
        let due = self.entries.iter().filter_map(|entry| entry.due);
        due.chain(again).min()
    }
}

fn waiting(reason: &'static str, message: String) -> Invalid {
    Invalid {
        verdict: Verdict::Waiting { reason, message },
        facts: Vec::new(),
        unwatched: false,
    }
}

/// It may end where values come from, which no watch shows.
fn stalled(reason: &'static str, message: String) -> Invalid {
    Invalid {
        verdict: Verdict::Stalled { reason, message },
        facts: Vec::new(),
        unwatched: true,
    }
}

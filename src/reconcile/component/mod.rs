//! ZenComponent: references that are judged as secrets come and go, and the attributes they make.
//!
//! It promises: to judge, nothing but status of ZenSecrets is read. Values are read when each reference
//! leads to one, from the Secrets that the operator delivered, and put into one Secret of the
//! component, which holds all attributes or is left as it was. Any order of apply works: what is
//! missing is waited for.

mod attributes;
mod json;
mod judge;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

pub(super) use self::attributes::Attributes;
use self::judge::{Judgement, Seen, judge};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    foreign::{Claim, is_set, may_adopt},
    plan::{Child, Doomed, Fact, Live, Note, Plan, Verdict},
    references::{Delivered, Found, delivered, find},
    source::next_look,
};
use crate::{
    api::{
        KindStatus, ZenComponent, ZenComponentStatus, ZenServer, annotation, condition, label,
        reason,
    },
    auth::{keyring::Keyring, sealed::is_entry_name},
};

/// The entry of the Secret with all attributes.
const WHOLE: &str = "attributes.json";
/// All that the Secret holds, in bytes. A Kubernetes Secret holds 1 MiB.
const MOST_BYTES: usize = 1_000_000;
/// When to look again for a value that is about to be written.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// What a decision about a component needs.
#[derive(Debug)]
pub struct Observed {
    server: Option<Arc<ZenServer>>,
    keyring: Option<Arc<Keyring>>,
    attributes: Result<Attributes, String>,
    references: Vec<Seen>,
    values: Delivered,
    target: Option<Live>,
    /// Other Secrets that we made for it.
    others: Vec<Doomed>,
}

/// A component whose references were judged.
#[derive(Debug)]
pub struct Valid {
    object: ZenComponent,
    status: ZenComponentStatus,
    judgement: Judgement,
    /// The Secret, or why there is none now.
    made: Result<Child, Held>,
    others: Vec<Doomed>,
}

/// Why the Secret is left as it is.
#[derive(Debug)]
struct Held {
    verdict: Verdict,
    facts: Vec<Fact>,
    /// When to look again.
    again: Option<Timestamp>,
}

impl Reconciled for ZenComponent {
    type State = ZenComponentStatus;
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
        let attributes = Attributes::of(&self.spec);
        let places = attributes.iter().flat_map(Attributes::places);
        let look_up = |place: &attributes::Place| Seen {
            found: match place.reference() {
                Some(reference) => find(read.views(), self, reference),
                None => Found::Nothing,
            },
            place: place.clone(),
        };
        let references: Vec<_> = places.map(look_up).collect();
        let secrets = references.iter().map(|one| one.found.secret());
        // Not one is read before all are there.
        let secrets: Option<Vec<_>> = secrets.collect();
        let values = delivered(read, secrets.unwrap_or_default()).await?;
        let resource = ApiResource::erase::<Secret>(&());
        let target = self.secret_name();
        let others = read.other_secrets(&namespace, &self.uid().unwrap_or_default(), &target);
        Ok(Observed {
            server,
            keyring,
            attributes,
            references,
            values,
            target: read.live(&resource, &namespace, &target).await?,
            others: others.into_iter().map(|(doomed, _)| doomed).collect(),
        })
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        let server_name = &self.spec.server_ref.name;
        let Some(server) = &seen.server else {
            let message =
                format!("waits for ZenServer {server_name} of this namespace to be created");
            return Err(waiting(reason::SERVER_NOT_FOUND, message));
        };
        let Some(keyring) = &seen.keyring else {
            let message = format!(
                "waits for the Secrets of ZenServer {server_name}; \
                 see kubectl describe zenserver {server_name}"
            );
            return Err(waiting(reason::SERVER_NOT_READY, message));
        };
        if is_set(self, annotation::PAUSED) {
            return Err(self.paused());
        }
        let attributes = seen.attributes.map_err(|message| Invalid {
            verdict: Verdict::Stalled {
                reason: reason::INVALID_SPEC,
                message,
            },
            facts: Vec::new(),
            unwatched: false,
        })?;
        let level = self.spec.validation_level;
        let level = level.unwrap_or(server.spec.policy.secret_validation);
        let judgement = judge(&seen.references, level);
        let made = Making {
            object: self,
            attributes: &attributes,
            references: &seen.references,
            values: &seen.values,
            keyring,
            now,
        };
        let made = match judgement.is_resolved {
            true => made.secret(seen.target),
            false => Err(unresolved(&judgement)),
        };
        let before = self.status.clone().unwrap_or_default();
        let status = ZenComponentStatus {
            secret_name: match &made {
                Ok(child) => Some(child.name.clone()),
                Err(_) => before.secret_name,
            },
            references: seen.references.iter().map(|r| r.status(level)).collect(),
            reference_count: i32::try_from(seen.references.len()).unwrap_or(i32::MAX),
            ..ZenComponentStatus::default()
        };
        Ok(Valid {
            object: self.clone(),
            status,
            judgement,
            made,
            others: seen.others,
        })
    }

    fn plan(valid: Valid, _: &mut impl Fresh) -> Plan<ZenComponentStatus> {
        let mut facts = vec![valid.judgement.fact.clone()];
        let (children, verdict, deadline) = match &valid.made {
            Ok(child) => {
                let message = format!("Secret {} holds the resolved attributes", child.name);
                (vec![child.clone()], Verdict::Ready { message }, None)
            }
            Err(held) => {
                facts.extend(held.facts.iter().cloned());
                (Vec::new(), held.verdict.clone(), held.again)
            }
        };
        Plan {
            record: None,
            prune: match children.is_empty() {
                true => Vec::new(),
                false => valid.others.clone(),
            },
            children,
            entries: Vec::new(),
            restarts: Vec::new(),
            notes: valid.notes(&verdict),
            status: valid.status,
            verdict,
            facts,
            deadline,
        }
    }
}

impl ZenComponent {
    /// What was delivered stays as it is.
    fn paused(&self) -> Invalid {
        let message = "nothing is judged or made; remove the annotation zenop.dev/paused to go on";
        let status = self.status.as_ref();
        let verdict = match status.and_then(|status| status.secret_name.as_ref()) {
            Some(name) => Verdict::Ready {
                message: format!("Secret {name} was delivered, and is not looked at while paused"),
            },
            None => Verdict::Waiting {
                reason: reason::PAUSED,
                message: message.to_owned(),
            },
        };
        Invalid {
            facts: vec![Fact {
                condition: condition::PAUSED,
                holds: true,
                reason: reason::PAUSED,
                message: message.to_owned(),
            }],
            verdict,
            unwatched: false,
        }
    }
}

impl Valid {
    fn notes(&self, verdict: &Verdict) -> Vec<Note> {
        let before = self.object.status.as_ref();
        let said = |condition: &str, status: &str, reason: Option<&str>| {
            let all = before.iter().flat_map(|status| status.conditions());
            all.into_iter().any(|c| {
                c.type_ == condition && c.status == status && reason.is_none_or(|r| c.reason == r)
            })
        };
        let warning = |reason, message: &String| Note {
            warning: true,
            reason,
            action: "Validate",
            message: message.clone(),
        };
        let fact = &self.judgement.fact;
        match verdict {
            Verdict::Stalled { reason, message }
                if !said(condition::STALLED, "True", Some(*reason)) =>
            {
                vec![warning(reason, message)]
            }
            // While it is being set up, nobody is to be alarmed.
            Verdict::Waiting { .. }
                if !fact.holds && said(condition::REFERENCES_RESOLVED, "True", None) =>
            {
                vec![warning(fact.reason, &fact.message)]
            }
            _ => Vec::new(),
        }
    }
}

/// That references lead to no value. It ends by a change that is watched.
fn unresolved(judgement: &Judgement) -> Held {
    let verdict = judgement.verdict.clone();
    let verdict = verdict.unwrap_or_else(|| Verdict::Ready {
        message: format!("{}; no Secret is made", judgement.fact.message),
    });
    Held {
        verdict,
        facts: Vec::new(),
        again: None,
    }
}

/// What the Secret is made of.
struct Making<'a> {
    object: &'a ZenComponent,
    attributes: &'a Attributes,
    references: &'a [Seen],
    values: &'a Delivered,
    keyring: &'a Keyring,
    now: Timestamp,
}

impl Making<'_> {
    fn secret(&self, live: Option<Live>) -> Result<Child, Held> {
        self.check_place(live.as_ref())?;
        let values = self.texts()?;
        let values = values.iter().map(|(path, value)| (*path, value.as_str()));
        let tree = self.attributes.resolved(values);
        let mut entries = entries(&tree);
        let whole = Value::Object(tree).to_string();
        entries.insert(WHOLE.to_owned(), Zeroizing::new(whole));
        let size: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > MOST_BYTES {
            return Err(self.too_large(size));
        }
        let data: Map<String, Value> = entries
            .iter()
            .map(|(name, value)| (name.clone(), json!(STANDARD.encode(value.as_bytes()))))
            .collect();
        let labels = json!({(label::NAME): "zencomponent", (label::COMPONENT): "attributes"});
        Ok(Child {
            resource: ApiResource::erase::<Secret>(&()),
            name: self.object.secret_name(),
            body: json!({"type": "Opaque", "metadata": {"labels": labels}, "data": data}),
            adopts: live.as_ref().is_some_and(|live| live.controller.is_none()),
            kept: false,
            live,
            create_only: false,
        })
    }

    fn check_place(&self, live: Option<&Live>) -> Result<(), Held> {
        let object = self.object;
        let adopts = |live: &&Live| may_adopt(object, object.spec.adoption, live);
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        let claim = Claim {
            kind: "ZenComponent",
            name: &name,
            uid: &uid,
            remedy: "set spec.target.secretName to another name, or take it over with spec.adoption",
        };
        let foreign = live.filter(|live| !adopts(live));
        let checked = claim.check("Secret", &object.secret_name(), foreign);
        checked.map_err(|invalid| Held {
            verdict: invalid.verdict,
            facts: invalid.facts,
            again: Some(next_look(self.now)),
        })
    }

    /// The value of each reference, by its path.
    fn texts(&self) -> Result<Vec<(&str, Zeroizing<String>)>, Held> {
        let (mut texts, mut size) = (Vec::new(), 0_usize);
        for one in self.references {
            let (Some(reference), Found::Value(secret)) = (one.reference(), &one.found) else {
                continue;
            };
            let path = one.place.path.as_str();
            let value = self
                .values
                .value(secret, reference.key, self.keyring.pepper());
            let value = value.map_err(|message| self.not_yet(message))?;
            let Ok(text) = std::str::from_utf8(&value) else {
                return Err(stalled(format!(
                    "{path}: the value of {reference} is no text (UTF-8), and attributes are: put a \
                     text into the secret, such as its base64"
                )));
            };
            size = size.saturating_add(text.len());
            if size > MOST_BYTES {
                return Err(self.too_large(size));
            }
            texts.push((path, Zeroizing::new(text.to_owned())));
        }
        Ok(texts)
    }

    fn not_yet(&self, message: String) -> Held {
        Held {
            verdict: Verdict::Waiting {
                reason: reason::PROGRESSING,
                message,
            },
            facts: Vec::new(),
            again: self.now.checked_add(SOON).ok(),
        }
    }

    fn too_large(&self, size: usize) -> Held {
        stalled(format!(
            "the resolved attributes of {} are {size} bytes or more, and may be {MOST_BYTES}: refer \
             to less",
            self.object.name_any()
        ))
    }
}

/// An entry for each attribute; a text as it is, anything else as JSON. Those whose names Kubernetes
/// does not take are in the whole alone.
fn entries(tree: &Map<String, Value>) -> BTreeMap<String, Zeroizing<String>> {
    tree.iter()
        .filter(|(name, _)| is_entry_name(name))
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (name.clone(), Zeroizing::new(text))
        })
        .collect()
}

fn stalled(message: String) -> Held {
    Held {
        verdict: Verdict::Stalled {
            reason: reason::SOURCE_INVALID,
            message,
        },
        facts: Vec::new(),
        again: None,
    }
}

fn waiting(reason: &'static str, message: String) -> Invalid {
    Invalid {
        verdict: Verdict::Waiting { reason, message },
        facts: Vec::new(),
        unwatched: false,
    }
}

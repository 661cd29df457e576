//! The environment of the ZenML server: what zenop sets, and what the ZenServer says, with the values
//! that it refers to.
//!
//! What is secret is in a Secret of its own. Until each reference leads to a value, pods stay as they
//! are; another value makes them anew.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    children::{auth_secret_resource, with_labels},
    mounts::Mounts,
};
use crate::{
    api::{ZenServer, condition, reason},
    auth::{
        api_key::Pepper,
        keyring::Keyring,
        reference::{Piece, embedded},
        upstream,
    },
    reconcile::{
        plan::{Child, Doomed, Fact, Live, Verdict},
        references::{Delivered, Leads, Missing},
    },
};

/// The longest value of a variable, in bytes: Linux takes 128 KiB for one with its name
/// (`MAX_ARG_STRLEN` of execve(2)).
const MOST_BYTES: usize = 120 * 1024;

/// When to look again at what no watch shows.
pub(super) const LATER: SignedDuration = SignedDuration::from_secs(30);

/// When to look again for a value that is about to be written.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// What pods mount that others keep: kind, name and content of each.
pub(super) type Contents<'a> = Vec<(&'a str, &'a str, &'a Value)>;

/// What the environment is made of.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub server: &'a ZenServer,
    pub leads: &'a Leads,
    pub values: &'a Delivered,
    /// None until the server has its auth Secret.
    pub keyring: Option<&'a Keyring>,
    pub live: Option<&'a Live>,
    /// What else makes the pods anew when it changes.
    pub mounts: &'a Mounts,
    pub now: Timestamp,
}

/// What becomes of the environment.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The Secret with what is secret in it.
    pub secret: Option<Child>,
    /// The variables, as a container has them.
    pub variables: Vec<Value>,
    /// Differs where the Secret differs.
    pub print: String,
    /// Why there is none now: the pods stay as they are.
    pub waits: Option<Verdict>,
    /// Whether each reference leads to a value, if there are any.
    pub fact: Option<Fact>,
    /// When to look again.
    pub deadline: Option<Timestamp>,
    /// A Secret that nobody needs any more.
    pub doomed: Option<Doomed>,
}

impl Making<'_> {
    pub(super) fn environment(self) -> Environment {
        if self.server.spec.image.is_none() {
            return Environment {
                doomed: self.doomed(),
                ..Environment::default()
            };
        }
        let uid = self.server.uid().and_then(|uid| uid.parse::<Uuid>().ok());
        let (Some(keyring), Some(uid)) = (self.keyring, uid) else {
            let message = "waits for its own Secrets".to_owned();
            let waits = Verdict::Waiting {
                reason: reason::PROGRESSING,
                message,
            };
            return self.held(waits, None);
        };
        if let Some(waits) = self.mounts.waits(self.server) {
            return Environment {
                deadline: self.now.checked_add(LATER).ok(),
                ..self.held(waits, None)
            };
        }
        match self.secret_values(keyring.pepper()) {
            Err(why) => why.environment(self),
            Ok(values) => self.made(uid, keyring.pepper(), &values),
        }
    }

    /// The Secret of a server that has no ZenML server any more.
    fn doomed(&self) -> Option<Doomed> {
        let uid = self.server.uid()?;
        let live = self.live.filter(|live| live.is_controlled_by(&uid))?;
        Some(Doomed {
            resource: auth_secret_resource(),
            name: self.server.environment_secret_name(),
            uid: live.uid.clone(),
            version: Some(live.resource_version.clone()),
        })
    }

    fn held(self, waits: Verdict, fact: Option<Fact>) -> Environment {
        // Whatever else is waited for is watched.
        let is_about_to_be =
            matches!(&waits, Verdict::Waiting { reason, .. } if *reason == reason::PROGRESSING);
        Environment {
            waits: Some(waits),
            fact,
            deadline: is_about_to_be
                .then(|| self.now.checked_add(SOON).ok())
                .flatten(),
            ..Environment::default()
        }
    }

    fn made(
        self,
        uid: Uuid,
        pepper: &Pepper,
        values: &BTreeMap<&str, Zeroizing<String>>,
    ) -> Environment {
        let name = self.server.environment_secret_name();
        let encoded = |text: &Zeroizing<String>| Value::from(STANDARD.encode(text.as_bytes()));
        let data: Map<String, Value> = values
            .iter()
            .map(|(name, text)| ((*name).to_owned(), encoded(text)))
            .collect();
        // Base64 has no line end, and a name no colon.
        let mut all: Zeroizing<String> = Zeroizing::new(
            data.iter()
                .map(|(name, text)| format!("{name}:{text}\n"))
                .collect(),
        );
        for (kind, name, content) in self.mounts.contents() {
            all.push_str(&format!("{kind} {name}:{content}\n"));
        }
        let from_secret = |variable: &str| json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": variable}}});
        let plain = |(name, value): (&str, &str)| match value {
            // The API server drops what is empty: it would be missed at each pass.
            "" => json!({"name": name}),
            _ => json!({"name": name, "value": value}),
        };
        let own = upstream::PLAIN.into_iter().map(plain);
        let said = self.server.environment();
        let said = said.filter(|(name, _)| !values.contains_key(name));
        let said = said.map(|(name, value)| plain((name, &value)));
        let secret = values.keys().map(|variable| from_secret(variable));
        let mut body = with_labels(json!({"type": "Opaque"}));
        if let Value::Object(fields) = &mut body {
            fields.insert("data".into(), data.into());
        }
        let count = self.leads.count();
        Environment {
            variables: own.chain(said).chain(secret).collect(),
            secret: Some(Child {
                resource: auth_secret_resource(),
                name: name.clone(),
                body,
                live: self.live.cloned(),
                create_only: false,
                adopts: false,
                kept: false,
            }),
            print: pepper.value_fingerprint(uid, "environment", all.as_bytes()),
            waits: None,
            fact: (count > 0).then(|| Fact {
                condition: condition::REFERENCES_RESOLVED,
                holds: true,
                reason: reason::RESOLVED,
                message: format!(
                    "the ZenML server's environment: each of {count} references leads to a value"
                ),
            }),
            deadline: (!self.mounts.is_empty())
                .then(|| self.now.checked_add(LATER).ok())
                .flatten(),
            doomed: None,
        }
    }

    /// The variables that are secret.
    fn secret_values(&self, pepper: &Pepper) -> Result<BTreeMap<&str, Zeroizing<String>>, Why> {
        let mut all: BTreeMap<&str, Zeroizing<String>> = upstream::SECRET
            .into_iter()
            .map(|(name, purpose)| (name, pepper.of_upstream(purpose)))
            .collect();
        for (name, value) in self.server.environment() {
            let place = || match name.starts_with("ZENML_STORE_") {
                true => format!("spec.database ({name})"),
                false => format!("spec.podTemplate.env[{name}]"),
            };
            let pieces = embedded(&value).map_err(|fault| {
                Why::stalled(reason::MALFORMED_REFERENCE, format!("{}, {fault}", place()))
            })?;
            if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
                continue;
            }
            let mut text = Zeroizing::new(String::new());
            for piece in pieces {
                let reference = match piece {
                    Piece::Text(plain) => {
                        text.push_str(plain);
                        continue;
                    }
                    Piece::Reference(reference) => reference,
                };
                let value = self.leads.value(reference, self.values, pepper);
                let value = value.map_err(|missing| Why::missing(&place(), missing))?;
                match std::str::from_utf8(&value) {
                    Ok(value) if !value.contains('\0') => text.push_str(value),
                    _ => {
                        let message = format!(
                            "{}: the value of {reference} is no text (UTF-8 without NUL), and \
                             variables are",
                            place()
                        );
                        return Err(Why::stalled(reason::SOURCE_INVALID, message));
                    }
                }
                if text.len() > MOST_BYTES {
                    let message = format!(
                        "{} is longer than {MOST_BYTES} bytes, which Linux does not take",
                        place()
                    );
                    return Err(Why::stalled(reason::SOURCE_INVALID, message));
                }
            }
            all.insert(name, text);
        }
        Ok(all)
    }
}

/// Why there is no environment.
struct Why {
    is_stalled: bool,
    reason: &'static str,
    message: String,
}

impl Why {
    fn stalled(reason: &'static str, message: String) -> Self {
        Self {
            is_stalled: true,
            reason,
            message,
        }
    }

    fn missing(place: &str, Missing { reason, message }: Missing) -> Self {
        Self {
            is_stalled: false,
            reason,
            message: format!("{place}: {message}"),
        }
    }

    fn environment(self, making: Making<'_>) -> Environment {
        let Self {
            is_stalled,
            reason,
            message,
        } = self;
        let fact = Fact {
            condition: condition::REFERENCES_RESOLVED,
            holds: false,
            reason,
            message: message.clone(),
        };
        let waits = match is_stalled {
            true => Verdict::Stalled { reason, message },
            false => Verdict::Waiting { reason, message },
        };
        making.held(waits, Some(fact))
    }
}

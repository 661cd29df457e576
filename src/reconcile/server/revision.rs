//! Which template the pods of a server have: the one that was made for what its author asked, until the
//! author asks for something else. A new release of zenop would make them otherwise, and restarts nobody.
//!
//! The template stands in an annotation of the Deployment, and its hash in status: one that somebody else
//! wrote there is not taken for ours.

use serde::{Deserialize, Serialize};
use serde_json::{Value, from_str, from_value, json, to_value};

use super::children::Parts;
use crate::{
    api::{UpdatePolicy, ZenServer, ZenServerSpec, ZenServerStatus, annotation, condition, reason},
    reconcile::{
        apply::short_hash,
        plan::{Child, Fact, Live},
    },
};

/// A template of pods, and what it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    /// The release of zenop that made it.
    pub version: String,
    /// What was asked for, as a hash.
    asked: String,
    /// The last `update.trigger` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
    pub template: Value,
}

impl Revision {
    /// The template that a Deployment has, if it is the one that status remembers.
    pub(super) fn of(server: &ZenServer, deployment: Option<&Live>) -> Option<Self> {
        let annotations = deployment?.body.pointer("/metadata/annotations")?;
        let text = annotations.get(annotation::REVISION)?.as_str()?;
        let recorded = server.status.as_ref()?.template_revision.as_deref()?;
        (short_hash(text) == recorded).then(|| from_str(text).ok())?
    }

    /// What tells it from others.
    pub(super) fn name(&self) -> String {
        short_hash(&self.text())
    }

    /// What stands in the annotation.
    pub(super) fn text(&self) -> String {
        json!(self).to_string()
    }
}

/// Whether nothing happens to pods or database before `update.trigger` says so.
pub(super) fn is_held(server: &ZenServer, now: Option<&Revision>) -> bool {
    let update = &server.spec.update;
    update.policy == UpdatePolicy::Manual && now.is_some_and(|now| now.trigger == update.trigger)
}

/// The template that the pods are to have, and whether there is another one for them.
pub(super) struct Turn {
    pub revision: Revision,
    pub fact: Option<Fact>,
}

impl Turn {
    /// Status with what the pods are made from: as long as the Deployment is left alone, what they were.
    pub(super) fn told(
        &self,
        server: &ZenServer,
        children: &[Child],
        status: ZenServerStatus,
    ) -> ZenServerStatus {
        let before = server.status.as_ref();
        let (revision, version) = match children.iter().any(|it| it.resource.kind == "Deployment") {
            true => (
                Some(self.revision.name()),
                Some(self.revision.version.clone()),
            ),
            false => (
                before.and_then(|status| status.template_revision.clone()),
                before.and_then(|status| status.version.clone()),
            ),
        };
        ZenServerStatus {
            template_revision: revision,
            version,
            ..status
        }
    }
}

/// Decides about the template that this release makes, beside the one that is there.
pub(super) fn turn(parts: &Parts<'_>, now: Option<Revision>) -> Turn {
    let (server, update) = (parts.server, &parts.server.spec.update);
    let made = Revision {
        version: parts.settings.version.clone(),
        asked: asked(parts),
        trigger: update.trigger.clone(),
        template: parts.pod_template(),
    };
    // Pods wait for their database, and are not changed for it twice.
    let migrates = parts.migration.image != server.spec.image;
    let stays = |now: &Revision| match update.policy {
        _ if migrates => true,
        UpdatePolicy::Always => now.template == made.template,
        UpdatePolicy::OnSpecChange => now.asked == made.asked,
        UpdatePolicy::Manual => is_held(server, Some(now)),
    };
    match now.filter(stays) {
        Some(now) => Turn {
            fact: (now.template != made.template).then(|| available(server, &now, &made)),
            revision: now,
        },
        None => Turn {
            revision: made,
            fact: None,
        },
    }
}

fn available(server: &ZenServer, now: &Revision, made: &Revision) -> Fact {
    let what = match now.asked == made.asked {
        true => format!(
            "release {} of zenop makes the pods otherwise than {}",
            made.version, now.version
        ),
        false => "the pods are not yet as the spec says".to_owned(),
    };
    let when = match server.spec.update.policy {
        UpdatePolicy::Manual => "another update.trigger changes them",
        _ => {
            "they follow when image, database or podTemplate change, or with another update.trigger"
        }
    };
    Fact {
        condition: condition::UPDATE_AVAILABLE,
        holds: true,
        reason: reason::HELD_BACK,
        message: format!("{what}: {when}"),
    }
}

/// What a sidecar sees for itself, what is not in its pod, and how many there are.
const NOT_IN_PODS: [&str; 11] = [
    "auth",
    "cors",
    "expose",
    "migration",
    "networkPolicy",
    "policy",
    "replicas",
    "sealing",
    "secureHeaders",
    "suspend",
    "url",
];

/// What pods are made of, whichever release makes them: their author's words, and what these lead to.
fn asked(parts: &Parts<'_>) -> String {
    let mut said = to_value(&parts.server.spec).unwrap_or_default();
    if let Value::Object(fields) = &mut said {
        fields.retain(|name, _| !NOT_IN_PODS.contains(&&**name));
    }
    // What a later release can say and this author does not is left out.
    let unsaid = from_value::<ZenServerSpec>(json!({})).and_then(to_value);
    let unsaid = unsaid.unwrap_or_default();
    let said = beyond(said, &unsaid);
    let (environment, image) = (&parts.environment.print, &parts.migration.image);
    let (secret, spreads) = (parts.client_secret(), parts.spreads);
    short_hash(&json!([said, environment, image, secret, spreads]).to_string())
}

/// What a value says beyond the default.
fn beyond(said: Value, unsaid: &Value) -> Value {
    let Value::Object(fields) = said else {
        return said;
    };
    let more = fields.into_iter().filter_map(|(name, value)| {
        let unsaid = unsaid.get(&name).unwrap_or(&Value::Null);
        let more = beyond(value, unsaid);
        let is_nothing = more == *unsaid || more.as_object().is_some_and(serde_json::Map::is_empty);
        (!is_nothing).then_some((name, more))
    });
    Value::Object(more.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f21_what_the_author_does_not_say_is_not_asked_for() {
        let unsaid = json!({"a": 1, "b": {"c": 2, "d": []}, "e": null});
        let said = json!({"a": 1, "b": {"c": 3, "d": []}, "e": null, "f": {"g": null}});
        assert_eq!(beyond(said, &unsaid), json!({"b": {"c": 3}}));
        assert_eq!(beyond(unsaid.clone(), &unsaid), json!({}));
    }
}

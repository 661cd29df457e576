//! The Secret in which is kept what was drawn. What is made of it may be changed, deleted or renamed.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::entries::Entry;
use crate::{
    api::{ZenSecret, annotation, label},
    reconcile::{
        plan::{Child, Live},
        source::value,
    },
};

/// What was drawn, by entry.
#[derive(Default)]
pub(super) struct Generated(BTreeMap<String, Drawn>);

/// A value that was drawn.
pub(super) struct Drawn {
    pub value: Zeroizing<Vec<u8>>,
    pub at: Timestamp,
    /// The trigger that asked for it.
    pub trigger: Option<String>,
}

/// What the annotation says of an entry.
#[derive(Serialize, Deserialize)]
struct Mark {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
}

/// Whether a Secret says that it keeps what was drawn.
pub(super) fn is_marked(secret: &Live) -> bool {
    marks_of(secret).is_some()
}

fn marks_of(secret: &Live) -> Option<BTreeMap<String, Mark>> {
    let annotations = secret.body.pointer("/metadata/annotations")?;
    serde_json::from_str(annotations.get(annotation::GENERATED)?.as_str()?).ok()
}

impl Generated {
    /// What a Secret of ours says. An entry without its mark was put there by somebody else.
    pub(super) fn read(secret: Option<&Live>) -> Self {
        let Some(secret) = secret else {
            return Self::default();
        };
        let marks = marks_of(secret);
        let drawn = marks.into_iter().flatten().filter_map(|(name, mark)| {
            let drawn = Drawn {
                value: value(secret, &name)?,
                at: mark.at,
                trigger: mark.trigger,
            };
            Some((name, drawn))
        });
        Self(drawn.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Drawn> {
        self.0.get(name)
    }

    /// What is to be kept of these entries.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let drawn = entries.iter().filter_map(|entry| {
            let drawn = Drawn {
                value: Zeroizing::new(entry.value().to_vec()),
                at: entry.drawn?,
                trigger: entry.trigger.clone(),
            };
            Some((entry.name.clone(), drawn))
        });
        Self(drawn.collect())
    }

    /// The Secret, if there is anything to keep.
    pub(super) fn child(&self, of: &ZenSecret, live: Option<Live>) -> Option<Child> {
        if self.0.is_empty() {
            return None;
        }
        let mark = |drawn: &Drawn| Mark {
            at: drawn.at,
            trigger: drawn.trigger.clone(),
        };
        let marks: BTreeMap<_, _> = self.0.iter().map(|(n, d)| (n, mark(d))).collect();
        let data: Map<String, Value> = self
            .0
            .iter()
            .map(|(name, drawn)| (name.clone(), json!(STANDARD.encode(&drawn.value))))
            .collect();
        let body = json!({
            "type": "Opaque",
            "metadata": {
                "labels": {(label::NAME): "zensecret", (label::COMPONENT): "generated"},
                "annotations": {(annotation::GENERATED): serde_json::to_string(&marks).unwrap_or_default()},
            },
            "data": data,
        });
        Some(Child {
            resource: ApiResource::erase::<Secret>(&()),
            name: of.generated_name(),
            body,
            adopts: live.as_ref().is_some_and(|live| live.controller.is_none()),
            kept: false,
            live,
            create_only: false,
        })
    }
}

//! The Secret that is made of a ZenSecret, and what others did to it.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{entries::Entry, stalled};
use crate::{
    api::{DriftPolicy, ZenSecret, annotation, label, reason},
    reconcile::{
        error::Invalid,
        plan::{Child, Live},
        source::value,
    },
};

/// What others did to the Secret, in words, and what follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drift {
    /// Nothing.
    None,
    /// It is made as it was.
    Repaired(String),
    /// It is left alone.
    Left(String),
}

/// What a Secret holds.
pub(super) fn values(secret: Option<&Live>) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let Some(secret) = secret else {
        return BTreeMap::new();
    };
    let data = secret.body.get("data").and_then(Value::as_object);
    let names = data.into_iter().flat_map(Map::keys);
    names
        .filter_map(|name| Some((name.clone(), value(secret, name)?)))
        .collect()
}

/// What somebody did to the Secret since it was written. `print` tells values of an entry apart.
///
/// # Errors
/// If it may not change, and what it would be made of is not what it was.
pub(super) fn drift(
    secret: &ZenSecret,
    entries: &[Entry],
    rendered: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    held: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    live: Option<&Live>,
    print: &dyn Fn(&str, &[u8]) -> String,
) -> Result<Drift, Invalid> {
    let uid = secret.uid().unwrap_or_default();
    let ours = live.filter(|live| live.is_controlled_by(&uid));
    let written = ours.map(prints_of);
    let status = secret.status.as_ref();
    let name = secret.secret_name();
    let delivered = status.filter(|status| status.secret_name.as_deref() == Some(name));
    let before = written.clone().unwrap_or_else(|| {
        let keys = delivered.iter().flat_map(|status| &status.keys);
        keys.map(|key| (key.name.clone(), key.fingerprint.clone()))
            .collect()
    });
    if secret.spec.immutable {
        unchanged(entries, rendered, &before, print)?;
    }
    let what = match (live, written) {
        (None, _) => delivered.map(|_| format!("somebody deleted Secret {name}")),
        (Some(_), None) => None,
        (Some(_), Some(written)) => {
            let differs = |(entry, was): &(&String, &String)| {
                let value = held.get(*entry);
                value.is_none_or(|value| print(entry, value) != **was)
            };
            let edited: Vec<_> = written.iter().filter(differs).collect();
            let edited: Vec<_> = edited.iter().map(|(entry, _)| entry.as_str()).collect();
            match (written.is_empty(), edited.is_empty()) {
                (true, _) => Some(format!("somebody changed the annotations of Secret {name}")),
                (false, true) => None,
                (false, false) => {
                    let edited = edited.join(", ");
                    Some(format!("somebody changed {edited} in Secret {name}"))
                }
            }
        }
    };
    Ok(match (what, secret.spec.drift_policy) {
        (None, _) => Drift::None,
        (Some(what), DriftPolicy::Repair) => Drift::Repaired(what),
        (Some(what), DriftPolicy::Report) => Drift::Left(what),
    })
}

/// What stands for the values that we wrote into a Secret, with the values and not after them: a
/// crash in between would look like somebody's change.
fn prints_of(secret: &Live) -> BTreeMap<String, String> {
    let annotations = secret.body.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(annotation::FINGERPRINTS)?.as_str());
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// What a Secret of ours holds of entries that were made of values, and nobody changed since.
pub(super) fn kept(
    secret: &ZenSecret,
    live: Option<&Live>,
    held: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    print: &dyn Fn(&str, &[u8]) -> String,
) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let uid = secret.uid().unwrap_or_default();
    let ours = live.filter(|live| live.is_controlled_by(&uid));
    let written = ours.map(prints_of).unwrap_or_default();
    let templates = secret.spec.target.secret_template.data.keys();
    templates
        .filter_map(|name| {
            let value = held.get(name)?;
            let is_ours = written.get(name)? == &print(name, value);
            is_ours.then(|| (name.clone(), value.clone()))
        })
        .collect()
}

fn unchanged(
    entries: &[Entry],
    rendered: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    before: &BTreeMap<String, String>,
    print: &dyn Fn(&str, &[u8]) -> String,
) -> Result<(), Invalid> {
    let own = entries.iter().map(|entry| (&entry.name, entry.value()));
    let made = rendered
        .iter()
        .map(|(name, value)| (name, value.as_slice()));
    let is_other = |(name, value): &(&String, &[u8])| {
        let before = before.get(*name);
        before.is_some_and(|before| *before != print(name, value))
    };
    let Some((changed, _)) = own.chain(made).find(is_other) else {
        return Ok(());
    };
    let message = format!(
        "spec.immutable is true, and the value of {changed} is another now where it comes from: \
         put it back there, or make a new ZenSecret"
    );
    Err(stalled(reason::IMMUTABLE, message))
}

/// What the Secret is made of.
pub(super) struct Target<'a> {
    pub object: &'a ZenSecret,
    pub entries: &'a [Entry],
    /// By entry, what stands for its value.
    pub prints: &'a BTreeMap<String, String>,
    /// Entries that are made of values.
    pub rendered: &'a BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Target<'_> {
    /// The Secret as it must be.
    pub(super) fn child(&self, live: Option<Live>) -> Child {
        let template = &self.object.spec.target.secret_template;
        let mut labels: Map<String, Value> = template
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        for (key, value) in [(label::NAME, "zensecret"), (label::COMPONENT, "values")] {
            labels.insert(key.to_owned(), json!(value));
        }
        let prints = serde_json::to_string(self.prints).unwrap_or_default();
        let mut annotations = template.annotations.clone();
        annotations.insert(annotation::FINGERPRINTS.to_owned(), prints);
        let metadata = json!({"labels": labels, "annotations": annotations});
        let data: Map<String, Value> = self
            .entries
            .iter()
            .map(|entry| (&entry.name, entry.value()))
            .chain(
                self.rendered
                    .iter()
                    .map(|(name, value)| (name, value.as_slice())),
            )
            .map(|(name, value)| (name.clone(), json!(STANDARD.encode(value))))
            .collect();
        let mut body = json!({"type": template.secret_type, "metadata": metadata, "data": data});
        if let (true, Some(body)) = (self.object.spec.immutable, body.as_object_mut()) {
            body.insert("immutable".to_owned(), json!(true));
        }
        Child {
            resource: ApiResource::erase::<Secret>(&()),
            name: self.object.secret_name().to_owned(),
            body,
            adopts: live.as_ref().is_some_and(|live| live.controller.is_none()),
            kept: false,
            live,
            create_only: false,
        }
    }
}

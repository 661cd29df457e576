//! The record of a deleted account or key: what is needed to have it back. It is kept in a Secret, sealed by the
//! operator, and holds no key's text.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::common::{GROUP, VERSION, annotation, label};

/// A deleted object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was deleted.
    pub deleted: Time,
    /// Until when it can be had back; `None`: the operator makes it again.
    pub until: Option<Time>,
    /// The labels that people gave it, but for those by which a GitOps tool would prune it again.
    pub labels: BTreeMap<String, String>,
    /// The same of its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its spec.
    pub spec: Value,
    /// Its status. What the operator reports is of no use later; what it recorded is.
    pub status: Value,
}

/// Marks by which a tool knows what it may prune, by what they begin with.
const TRACKING: [&str; 12] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "applyset.kubernetes.io/",
    "argocd.argoproj.io/",
    "config.k8s.io/",
    "config.kubernetes.io/",
    "helm.sh/",
    "helm.toolkit.fluxcd.io/",
    "kubectl.kubernetes.io/",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
    "objectset.rio.cattle.io/",
];
/// Marks of ours that speak of the object that was deleted.
const SPENT: [&str; 3] = [label::RETAINED, annotation::RESTORE, annotation::FORCE];

impl Record {
    /// The entry of the Secret that holds the record.
    pub const ENTRY: &'static str = "record.json";
    /// The entry that shows who wrote it.
    pub const SEAL: &'static str = "seal";

    /// The name of the Secret that holds the record of the object with this UID.
    pub fn secret_name(uid: &str) -> String {
        format!("zenop-record-{uid}")
    }

    /// The labels and annotations of an object that stay with it when it is made again.
    pub fn lasting(all: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let lasts = |(name, value): &(&String, &String)| {
            // What the sidecar made for ZenML's API stays its own.
            let is_ours = *name == label::MANAGED_BY && *value == label::MANAGED_BY_API;
            let is_tracking = TRACKING.iter().any(|mark| name.starts_with(mark));
            is_ours || !is_tracking && !SPENT.contains(&name.as_str())
        };
        let all = all.into_iter().flatten().filter(lasts);
        all.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The object that continues this one, to be created.
    pub fn successor(&self) -> Value {
        let mut labels = self.labels.clone();
        if self.until.is_none() {
            labels.insert(label::RETAINED.into(), "true".into());
        }
        let mut annotations = self.annotations.clone();
        annotations.insert(annotation::RESTORE.into(), self.uid.clone());
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": self.kind,
            "metadata": ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: (!labels.is_empty()).then_some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            "spec": self.spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_would_prune_by_is_left_out() {
        let marks = [
            ("app.kubernetes.io/instance", "prod"),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("argocd.argoproj.io/tracking-id", "x"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
            ("kustomize.toolkit.fluxcd.io/name", "x"),
            ("zenop.dev/force", "true"),
            ("zenop.dev/restore", "x"),
            ("team", "forecasting"),
            ("zenop.dev/paused", "true"),
        ];
        let marks = marks.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let lasting = Record::lasting(Some(&BTreeMap::from(marks)));
        let names: Vec<_> = lasting.keys().map(String::as_str).collect();
        assert_eq!(names, ["team", "zenop.dev/paused"]);

        let ours = BTreeMap::from([(
            label::MANAGED_BY.to_owned(),
            label::MANAGED_BY_API.to_owned(),
        )]);
        assert_eq!(Record::lasting(Some(&ours)), ours);
    }
}

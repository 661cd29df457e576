//! Whose an object is: made by the API and changed by nobody else, or declared.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::{FIELD_MANAGER, MADE_BY_API};
use crate::api::label;

/// No owner's name is shown longer.
const MAX_NAME: usize = 128;

/// Whether an object is somebody else's: it was not made here, a GitOps tool says that it keeps
/// it, or another field manager wrote its spec.
pub(super) fn is_declared(meta: &ObjectMeta) -> bool {
    let label = meta.labels.iter().flatten();
    let ours = label
        .into_iter()
        .any(|(key, value)| key == label::MANAGED_BY && value == MADE_BY_API);
    !ours || gitops(meta).is_some() || !other_managers(meta).is_empty()
}

/// Who keeps a declared object as it is: the GitOps tool, else who wrote its spec.
pub(super) fn owner(meta: &ObjectMeta) -> Option<String> {
    gitops(meta).or_else(|| {
        let managers = other_managers(meta);
        (!managers.is_empty()).then(|| managers.join(", "))
    })
}

/// Whether somebody else says what this field of the spec is to be, and may say it again: who
/// applies it, or who keeps the object, unless the field `is_default`: a tool that writes whole
/// objects is noted for what the schema filled in too.
pub(super) fn is_kept(meta: &ObjectMeta, field: &str, is_default: bool) -> bool {
    let has_tool = gitops(meta).is_some() && !is_default;
    let field = format!("f:{field}");
    let mut entries = meta.managed_fields.iter().flatten();
    entries.any(|entry| {
        let fields = entry.fields_v1.as_ref();
        let has_it = fields.and_then(|fields| fields.0.get("f:spec")?.get(&field));
        let applies = entry.operation.as_deref() == Some("Apply");
        let is_other = entry.manager.as_deref() != Some(FIELD_MANAGER);
        has_it.is_some() && is_other && (applies || has_tool)
    })
}

fn gitops(meta: &ObjectMeta) -> Option<String> {
    let label = |key: &str| entry(meta.labels.as_ref(), key);
    let annotation = |key: &str| entry(meta.annotations.as_ref(), key);
    let flux = |kind: &str, domain: &str| {
        let name = label(&format!("{domain}/name"))?;
        let namespace = label(&format!("{domain}/namespace")).unwrap_or_default();
        Some(format!("Flux {kind} {namespace}/{name}"))
    };
    let argo = || {
        let tracked = annotation("argocd.argoproj.io/tracking-id");
        let tracked = tracked.and_then(|id| Some(id.split_once(':')?.0.to_owned()));
        let app = tracked.or_else(|| label("argocd.argoproj.io/instance"))?;
        Some(format!("Argo CD Application {app}"))
    };
    let helm = || {
        let release = annotation("meta.helm.sh/release-name")?;
        let namespace = annotation("meta.helm.sh/release-namespace").unwrap_or_default();
        Some(format!("Helm release {namespace}/{release}"))
    };
    flux("Kustomization", "kustomize.toolkit.fluxcd.io")
        .or_else(|| flux("HelmRelease", "helm.toolkit.fluxcd.io"))
        .or_else(argo)
        .or_else(helm)
}

/// Who wrote some of the spec, but for us.
fn other_managers(meta: &ObjectMeta) -> Vec<String> {
    let wrote_spec = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.get("f:spec").is_some())
    };
    let mut names: Vec<String> = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(wrote_spec)
        .filter_map(|entry| entry.manager.as_deref())
        .filter(|manager| *manager != FIELD_MANAGER)
        .map(printable)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn entry(of: Option<&BTreeMap<String, String>>, key: &str) -> Option<String> {
    of?.get(key).map(|value| printable(value))
}

/// What anybody who may write a label or an annotation says is shown without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meta(labels: &Value, annotations: &Value, managers: &[(&str, Value)]) -> ObjectMeta {
        let entry = |(manager, fields): &(&str, Value)| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "zenop.dev/v1alpha1",
                   "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let managers: Vec<Value> = managers.iter().map(entry).collect();
        let meta = json!({"labels": labels, "annotations": annotations, "managedFields": managers});
        serde_json::from_value(meta).unwrap()
    }

    fn ours() -> Value {
        json!({label::MANAGED_BY: MADE_BY_API})
    }

    #[test]
    fn what_the_api_made_is_its_own_until_somebody_else_writes_the_spec() {
        let spec = || json!({"f:spec": {"f:active": {}}});
        let status = json!({"f:status": {}});
        let label = json!({"f:metadata": {"f:labels": {}}});
        let own = [
            (FIELD_MANAGER, spec()),
            ("zenop", status),
            ("kubectl-label", label),
        ];
        assert!(!is_declared(&meta(&ours(), &json!({}), &own)));
        let taken = [
            (FIELD_MANAGER, spec()),
            ("kubectl-edit", spec()),
            ("kubectl-edit", spec()),
            ("a\u{1b}[31m\n", spec()),
        ];
        let taken = meta(&ours(), &json!({}), &taken);
        assert!(is_declared(&taken));
        assert_eq!(owner(&taken).unwrap(), "a[31m, kubectl-edit");
        let foreign = meta(&json!({}), &json!({}), &[(FIELD_MANAGER, spec())]);
        assert!(is_declared(&foreign));
        assert_eq!(owner(&foreign), None);
    }

    #[test]
    fn who_applies_a_field_or_keeps_its_object_keeps_it() {
        let epoch = || json!({"f:spec": {"f:sessionEpoch": {}}});
        let flux = json!({"kustomize.toolkit.fluxcd.io/name": "apps"});
        let none = json!({});
        let is_kept = |labels: &Value, managers: &[(&str, Value)], applies, is_default| {
            let mut meta = meta(labels, &none, managers);
            for entry in meta.managed_fields.iter_mut().flatten().filter(|_| applies) {
                entry.operation = Some("Apply".into());
            }
            super::is_kept(&meta, "sessionEpoch", is_default)
        };
        assert!(is_kept(&none, &[("kubectl", epoch())], true, true));
        assert!(is_kept(
            &flux,
            &[("kustomize-controller", epoch())],
            false,
            false
        ));
        assert!(!is_kept(
            &flux,
            &[("kustomize-controller", epoch())],
            false,
            true
        ));
        assert!(!is_kept(&none, &[("zenop-cli", epoch())], false, false));
        assert!(!is_kept(&flux, &[(FIELD_MANAGER, epoch())], false, false));
        let other = json!({"f:spec": {"f:active": {}}});
        assert!(!is_kept(
            &flux,
            &[("kustomize-controller", other)],
            true,
            false
        ));
    }

    #[test]
    fn the_gitops_tool_is_named() {
        let flux =
            |kind: &str| json!({format!("{kind}/name"): "apps", format!("{kind}/namespace"): "f"});
        let none = json!({});
        let cases = [
            (
                flux("kustomize.toolkit.fluxcd.io"),
                none.clone(),
                "Flux Kustomization f/apps",
            ),
            (
                flux("helm.toolkit.fluxcd.io"),
                none.clone(),
                "Flux HelmRelease f/apps",
            ),
            (
                none.clone(),
                json!({"argocd.argoproj.io/tracking-id": "apps:zenop.dev/ZenAPIKey:ml/ci"}),
                "Argo CD Application apps",
            ),
            (
                json!({"argocd.argoproj.io/instance": "apps"}),
                none.clone(),
                "Argo CD Application apps",
            ),
            (
                none,
                json!({"meta.helm.sh/release-name": "apps", "meta.helm.sh/release-namespace": "ml"}),
                "Helm release ml/apps",
            ),
        ];
        for (labels, annotations, wanted) in cases {
            let applied = [("kustomize-controller", json!({"f:spec": {}}))];
            let meta = meta(&labels, &annotations, &applied);
            assert!(is_declared(&meta));
            assert_eq!(owner(&meta).unwrap(), wanted);
        }
    }
}

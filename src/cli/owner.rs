//! Who else manages an object: a change made here would be undone by Flux, Argo CD or Helm.

use std::{collections::BTreeMap, fmt};

use kube::api::ObjectMeta;

/// A tool that applies an object from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A Kustomization or HelmRelease of Flux, by `namespace/name` where that is known.
    Flux(&'static str, Option<String>),
    /// An Application of Argo CD, by name where that is known.
    Argo(Option<String>),
    /// A Helm release, by `namespace/name` where that is known.
    Helm(Option<String>),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tool, name) = match self {
            Self::Flux(kind, name) => (format!("Flux ({kind})"), name),
            Self::Argo(name) => ("Argo CD (Application)".to_owned(), name),
            Self::Helm(name) => ("Helm (release)".to_owned(), name),
        };
        match name {
            Some(name) => write!(f, "{tool} {name}"),
            None => f.write_str(&tool),
        }
    }
}

impl Owner {
    /// Where the change belongs, in words.
    pub fn place(&self) -> &'static str {
        match self {
            Self::Flux("HelmRelease", _) => "in the chart or the values of the HelmRelease",
            Self::Flux(..) | Self::Argo(_) => "in its manifest in Git",
            Self::Helm(_) => "in the chart or its values, followed by helm upgrade",
        }
    }

    /// When the tool undoes what was changed here.
    pub const fn undoes(&self) -> &'static str {
        match self {
            Self::Helm(_) => "the next helm upgrade may undo this",
            Self::Flux(..) | Self::Argo(_) => "its next sync may undo this within minutes",
        }
    }
}

/// The tool that manages an object, by the marks it leaves: labels and annotations first, which
/// name the application, then the field managers.
pub fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let none = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&none);
    let annotations = metadata.annotations.as_ref().unwrap_or(&none);
    if flux_leaves_it_alone(annotations) {
        return None;
    }
    flux(labels)
        .or_else(|| argo(labels, annotations))
        .or_else(|| helm(labels, annotations))
        .or_else(|| field_manager(metadata))
}

type Texts = BTreeMap<String, String>;

fn flux_leaves_it_alone(annotations: &Texts) -> bool {
    let is = |name: &str, value: &str| annotations.get(name).is_some_and(|v| v == value);
    is("kustomize.toolkit.fluxcd.io/reconcile", "disabled")
        || is("kustomize.toolkit.fluxcd.io/ssa", "Ignore")
}

fn flux(labels: &Texts) -> Option<Owner> {
    let kinds = [
        ("kustomize.toolkit.fluxcd.io", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease"),
    ];
    kinds.into_iter().find_map(|(prefix, kind)| {
        let name = labels.get(&format!("{prefix}/name"))?;
        let namespace = labels.get(&format!("{prefix}/namespace"));
        Some(Owner::Flux(kind, Some(qualified(namespace, name))))
    })
}

fn argo(labels: &Texts, annotations: &Texts) -> Option<Owner> {
    // application:group/kind:namespace/name
    let tracked = annotations
        .get("argocd.argoproj.io/tracking-id")
        .and_then(|id| id.split(':').next());
    let labelled = labels.get("argocd.argoproj.io/instance").map(|s| &**s);
    let name = tracked.or(labelled)?;
    Some(Owner::Argo(Some(name.to_owned())))
}

fn helm(labels: &Texts, annotations: &Texts) -> Option<Owner> {
    let managed = labels
        .get("app.kubernetes.io/managed-by")
        .is_some_and(|by| by == "Helm");
    let release = annotations.get("meta.helm.sh/release-name");
    let namespace = annotations.get("meta.helm.sh/release-namespace");
    let name = release.map(|name| qualified(namespace, name));
    (managed || name.is_some()).then_some(Owner::Helm(name))
}

fn field_manager(metadata: &ObjectMeta) -> Option<Owner> {
    let fields = metadata.managed_fields.iter().flatten();
    let mut managers = fields.filter(|entry| {
        let owned = entry.fields_v1.as_ref();
        owned.is_some_and(|fields| fields.0.get("f:spec").is_some())
    });
    managers.find_map(|entry| match entry.manager.as_deref()? {
        "kustomize-controller" => Some(Owner::Flux("Kustomization", None)),
        "helm-controller" => Some(Owner::Flux("HelmRelease", None)),
        "argocd-controller" | "argocd-application-controller" => Some(Owner::Argo(None)),
        "helm" => Some(Owner::Helm(None)),
        _ => None,
    })
}

fn qualified(namespace: Option<&String>, name: &str) -> String {
    namespace.map_or_else(
        || name.to_owned(),
        |namespace| format!("{namespace}/{name}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(metadata: serde_json::Value) -> Option<String> {
        owner(&serde_json::from_value(metadata).unwrap()).map(|owner| owner.to_string())
    }

    #[test]
    fn the_marks_of_each_tool_name_it() {
        let cases = [
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
                Some("Flux (Kustomization) flux-system/apps"),
            ),
            (
                json!({"labels": {"helm.toolkit.fluxcd.io/name": "zen", "app.kubernetes.io/managed-by": "Helm"}}),
                Some("Flux (HelmRelease) zen"),
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "team:zenop.dev/ZenAPIKey:ml/ci"}}),
                Some("Argo CD (Application) team"),
            ),
            (
                json!({"labels": {"argocd.argoproj.io/instance": "team"}}),
                Some("Argo CD (Application) team"),
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {"meta.helm.sh/release-name": "zen", "meta.helm.sh/release-namespace": "ml"}}),
                Some("Helm (release) ml/zen"),
            ),
            (
                json!({"managedFields": [{"manager": "argocd-controller", "fieldsV1": {"f:spec": {}}}]}),
                Some("Argo CD (Application)"),
            ),
            (
                json!({"managedFields": [{"manager": "kustomize-controller", "fieldsV1": {"f:spec": {}}}]}),
                Some("Flux (Kustomization)"),
            ),
        ];
        for (metadata, told) in cases {
            assert_eq!(of(metadata.clone()).as_deref(), told, "{metadata}");
        }
    }

    #[test]
    fn what_people_and_the_operator_do_is_not_a_tools() {
        let cases = [
            json!({}),
            json!({"labels": {"app.kubernetes.io/managed-by": "zenop", "app.kubernetes.io/instance": "ci"}}),
            json!({"managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]}),
            // It wrote a label only.
            json!({"managedFields": [{"manager": "helm", "fieldsV1": {"f:metadata": {}}}]}),
            json!({
                "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"},
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
            }),
        ];
        for metadata in cases {
            assert_eq!(of(metadata.clone()), None, "{metadata}");
        }
    }
}

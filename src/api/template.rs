//! What a Secret that we make may say beside its values, by a person's wish.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Which labels a template may set, in CEL. GitOps tools delete what has their labels and is not in
/// Git.
pub(super) const LABELS: (&str, &str) = (
    "!has(self.labels) || self.labels.all(k, !k.startsWith('zenop.dev/') && !k.startsWith('app.kubernetes.io/') && !k.startsWith('argocd.argoproj.io/') && !k.startsWith('kustomize.toolkit.fluxcd.io/') && !k.startsWith('helm.toolkit.fluxcd.io/'))",
    "labels must not be zenop's own (zenop.dev/, app.kubernetes.io/) nor a GitOps tool's",
);

/// Which annotations a template may set, in CEL.
pub(super) const ANNOTATIONS: (&str, &str) = (
    "!has(self.annotations) || self.annotations.all(k, !k.startsWith('zenop.dev/') && !k.startsWith('argocd.argoproj.io/') && !k.startsWith('kustomize.toolkit.fluxcd.io/') && !k.startsWith('kubernetes.io/') && !k.startsWith('kubectl.kubernetes.io/'))",
    "annotations must not be zenop's own (zenop.dev/) nor a tool's",
);

/// Which type a template may set, in CEL.
pub(super) const TYPE: (&str, &str) = (
    "!self.type.matches('(^|[.])kubernetes[.]io/')",
    "type must not be one that Kubernetes gives a meaning to, such as kubernetes.io/service-account-token: a Secret of that type would get a token",
);

/// The type of a Secret that has none.
pub(super) fn opaque() -> String {
    "Opaque".to_owned()
}

/// Labels.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    texts(32, 63)
}

/// Annotations.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    texts(32, 4096)
}

/// At most so many texts, each of at most so many characters.
pub(super) fn texts(count: u32, length: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": count,
        "additionalProperties": {"type": "string", "maxLength": length},
    })
}

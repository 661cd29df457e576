//! ZenAPIKey: one key of one account.

mod delivery;
mod rotation;
mod source;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use delivery::{Delivery, DeliveryMode, OnSecretLoss, SecretKeys, SecretTemplate};
pub use rotation::{Consumer, ConsumerKind, Retirement, Rotation, RotationWindow, Weekday};
pub use source::{SecretKeyRef, Source, SourceType, ValueFrom, VerifierSource};
pub use status::{
    ConsumerStatus, DeliveryStatus, KeyGeneration, KeyState, KeyUse, UsedFrom, ZenAPIKeyStatus,
};

use super::{
    ApiDuration,
    common::{Adoption, DeletionPolicy, LocalRef, yes},
};

/// One API key of one service account, delivered as a Secret.
///
/// It promises: the key's text is in the delivered Secret and nowhere else. There is one current
/// key, whatever crashes; a key that is not in the Secret is dead within ten minutes. Set
/// `active` to false, or delete the object, and the key and every token from it are refused at
/// once. The Secret is ready for `envFrom`: the `zenml` client needs nothing else.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenAPIKey",
    plural = "zenapikeys",
    shortname = "zkey",
    category = "zen",
    namespaced,
    status = "ZenAPIKeyStatus",
    derive = "PartialEq",
    validation = ("has(self.spec.delivery.secretName) || self.metadata.name.size() <= 249", "the name must have at most 249 characters, or spec.delivery.secretName be set"),
    doc = "ZenAPIKey is one key of one ZenServiceAccount, delivered as a Secret that the zenml client can use as it is. Set spec.active to false and it is refused at once.",
    selectable = ".spec.serviceAccountRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].status",
        description = "Whether the key may log in now"
    ),
    printcolumn(
        name = "Account",
        type_ = "string",
        json_path = ".spec.serviceAccountRef.name"
    ),
    printcolumn(
        name = "Gen",
        type_ = "integer",
        json_path = ".status.generation",
        description = "Generation of the current key"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the current key dies"
    ),
    printcolumn(
        name = "LastUsed",
        type_ = "date",
        json_path = ".status.lastUsedTime",
        description = "When any of its keys was last used, to 5 minutes"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        priority = 1,
        json_path = ".status.secretRef.name"
    ),
    printcolumn(
        name = "NextRotation",
        type_ = "string",
        priority = 1,
        json_path = ".status.nextRotationTime"
    ),
    printcolumn(
        name = "Fingerprint",
        type_ = "string",
        priority = 1,
        json_path = ".status.fingerprint"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.serviceAccountRef == oldSelf.serviceAccountRef", "serviceAccountRef cannot change; make a new key"),
    validation = ("!has(self.validFrom) || !has(self.expiresAt) || self.validFrom < self.expiresAt", "validFrom must be before expiresAt"),
    validation = ("!has(self.expiresAt) || !has(self.ttl)", "set expiresAt or ttl, not both"),
    validation = ("!has(self.ttl) || duration(self.ttl) >= duration('5m') && duration(self.ttl) <= duration('87600h')", "ttl must be between 5m and 87600h"),
    validation = ("self.source.type != 'Verifier' || self.delivery.mode == 'None'", "a key of which only the hash is known cannot be delivered: set delivery.mode to None"),
    validation = ("self.source.type == 'Generated' || !has(self.rotation.interval) && !has(self.rotation.schedule) && !has(self.rotation.trigger)", "only a Generated key is rotated by interval, schedule or trigger; the others when their source changes"),
    validation = ("self.source.type != 'Generated' || self.delivery.mode == 'Secret'", "a Generated key must be delivered: set delivery.mode to Secret"),
    validation = ("self.source.type == oldSelf.source.type", "source.type cannot change; make a new key"),
    validation = ("!has(self.source.verifier) || !has(oldSelf.source.verifier) || self.source.verifier.keyId == oldSelf.source.verifier.keyId", "source.verifier.keyId cannot change; make a new key"),
    validation = ("!has(self.expiresAt) || self.expiresAt < timestamp('9999-01-01T00:00:00Z')", "expiresAt must be before the year 9999; leave it out for a key that never expires")
)]
pub struct ZenAPIKeySpec {
    /// The ZenServiceAccount of this namespace that the key belongs to. Cannot change.
    /// Example: `{name: ci}`.
    pub service_account_ref: LocalRef,

    /// The key's name in ZenML. May change; the key stays the same. Default: `metadata.name`.
    /// Example: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,

    /// What the key is for. Example: `Key of the nightly training pipeline`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,

    /// Whether the key may log in. `false` refuses it and every token from it at once; `true`
    /// restores both.
    #[serde(default = "yes")]
    pub active: bool,

    /// From when on the key may log in. Default: at once. Example: `2026-12-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Time>,

    /// When the key and every token from it die. Default: never.
    /// Example: `2027-03-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// How long each generation of the key lives, counted from its making; `rotation` makes the
    /// next one in time. Default: the server's `policy.keys.defaultTTL`. Example: `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<ApiDuration>,

    /// Where the key comes from.
    #[serde(default)]
    pub source: Source,

    /// How the key reaches those who use it.
    #[serde(default)]
    pub delivery: Delivery,

    /// When the key is replaced, and how long the old one lives on.
    #[serde(default)]
    pub rotation: Rotation,

    /// Whether an existing Secret of the wanted name may become ours, with the key in it: what a
    /// restore from a backup needs.
    #[serde(default)]
    pub adoption: Adoption,

    /// What becomes of the key when this object is deleted, by a person or by a GitOps tool's
    /// prune. `Retain` needs an end: `expiresAt`, `ttl`, or one of account or server.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl ZenAPIKey {
    /// Name of the Secret that the key is delivered to.
    pub fn secret_name(&self) -> String {
        self.spec
            .delivery
            .secret_name
            .clone()
            .unwrap_or_else(|| format!("{}-key", self.metadata.name.as_deref().unwrap_or_default()))
    }

    /// The key's name in ZenML: `spec.name`, else `metadata.name`.
    pub fn zenml_name(&self) -> &str {
        self.spec
            .name
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}

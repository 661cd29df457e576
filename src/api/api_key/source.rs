//! Where a key comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::OBJECT_NAME;

/// Where a key comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(self.type == 'ValueFrom') == has(self.valueFrom)", "source.valueFrom belongs to type ValueFrom"),
    validation = ("(self.type == 'Verifier') == has(self.verifier)", "source.verifier belongs to type Verifier")
)]
pub struct Source {
    /// `Generated`: the operator draws it. `ValueFrom`: it is in a Secret that another tool
    /// keeps. `Verifier`: only its hash is known here. Cannot change.
    #[serde(rename = "type", default)]
    pub source_type: SourceType,

    /// For `ValueFrom`: the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,

    /// For `Verifier`: id and hash, as `kubectl zen key new --offline` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<VerifierSource>,
}

/// The ways in which a key comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceType {
    /// Drawn by the operator.
    #[default]
    Generated,
    /// In a Secret that another tool keeps.
    ValueFrom,
    /// Made elsewhere; only its hash is here.
    Verifier,
}

/// A place where a key is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom {
    /// An entry of a Secret of this namespace: a whole key, `ZENKEY_…`. When it changes, the key
    /// is rotated, within a minute. Example: `{name: vault-zenml, key: api-key}`.
    pub secret_key_ref: SecretKeyRef,
}

/// An entry of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// Name of the entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What stands for a key that was made elsewhere.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.sha256) != has(self.bcrypt)", "set sha256 or bcrypt"))]
pub struct VerifierSource {
    /// The id in the key's text. Cannot change. Example: `7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11`.
    #[schemars(
        length(min = 36, max = 36),
        regex(pattern = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
    )]
    pub key_id: String,

    /// SHA-256 of the 64 hex digits in the key's text, in hex. Safe in Git: the key is 256 random
    /// bits. Another value rotates the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,

    /// Instead of `sha256`, for a key that ZenML made: its hash as ZenML's database has it, of a cost
    /// of at most 14. Its first login at each sidecar takes as long as that hash. Another value
    /// rotates the key. Example: `$2b$12$` and 53 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 60, max = 60),
        regex(pattern = r"^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$")
    )]
    pub bcrypt: Option<String>,
}

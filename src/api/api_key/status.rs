//! What is recorded of a key.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConsumerKind;
use crate::api::common::{conditions, kind_status, unobserved};

/// What the operator saw and did. Generations and their verifiers are facts that only it could
/// have recorded; nothing else here is ever read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenAPIKeyStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Active, SecretPublished, ExpiringSoon, RotationOverdue,
    /// Conflict, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The key's id in ZenML: the same for every generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub key_id: Option<String>,

    /// Shows that the operator gave a generated key an id that is not its UID, as it continues
    /// another: an HMAC of both under the server's pepper, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64))]
    pub id_proof: Option<String>,

    /// UID of the deleted ZenAPIKey that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub restored_from: Option<String>,

    /// The account that the key was made for. An account made again under the same name has
    /// another id, and gets a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub account_id: Option<String>,

    /// The generation of the current key: 1 for the first, one more at each replacement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub generation: Option<i64>,

    /// Eight hex digits that tell one key from another. Tells nothing about the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub fingerprint: Option<String>,

    /// The keys that are accepted now: the current one, those being made, those being retired.
    #[serde(default)]
    #[schemars(schema_with = "generations")]
    pub generations: Vec<KeyGeneration>,

    /// When the current key was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotated_time: Option<Time>,

    /// When the next one is due: of interval, schedule and the server's policy the earliest, moved
    /// into a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,

    /// When the current key dies: of `expiresAt`, `ttl`, the account's end and the server's policy
    /// the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// The value of `rotation.trigger` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub last_handled_trigger: Option<String>,

    /// The workloads that use the key, and which generation they were restarted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub consumers: Vec<ConsumerStatus>,

    /// When any generation was last used, at most 5 minutes old. Written by the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_time: Option<Time>,

    /// When each generation was last used, at most 5 minutes old. Written by the sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "uses")]
    pub usage: Vec<KeyUse>,

    /// The Secret that holds the current key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<DeliveryStatus>,
}

kind_status!(ZenAPIKeyStatus, |status| {
    status.generations.sort_by_key(|g| g.generation);
    status.last_used_time = None;
    status.usage.clear();
});

impl Default for ZenAPIKeyStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            key_id: None,
            id_proof: None,
            restored_from: None,
            account_id: None,
            generation: None,
            fingerprint: None,
            generations: Vec::new(),
            last_rotated_time: None,
            next_rotation_time: None,
            expires_at: None,
            last_handled_trigger: None,
            consumers: Vec::new(),
            last_used_time: None,
            usage: Vec::new(),
            secret_ref: None,
        }
    }
}

/// One generation of a key, as the sidecar must know it to accept it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyGeneration {
    /// Counts from 1.
    #[schemars(range(min = 1))]
    pub generation: i64,

    /// Where it is in its life.
    pub state: KeyState,

    /// `HMAC-SHA-256(pepper, server, account and key id, SHA-256 of the key)` in hex. The pepper
    /// is in the server's auth Secret: reading this breaks nothing, writing it mints nothing.
    #[schemars(length(min = 64, max = 64))]
    pub verifier: String,

    /// The bcrypt hash that the key was imported with, where that is all that is known of it;
    /// `verifier` is then made of the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 60))]
    pub bcrypt: Option<String>,

    /// When it was made; `ttl` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Time>,

    /// When it stops being accepted. Always set but for the current generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// Where a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyState {
    /// Recorded before its Secret is written; already accepted, so that nobody who reads the new
    /// Secret is refused; gone in ten minutes unless confirmed.
    Prepared,
    /// The one in the delivered Secret.
    Current,
    /// Replaced; accepted until `validUntil`.
    Previous,
}

/// The Secret that a key was delivered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryStatus {
    /// Its name, in the key's namespace.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// When a generation was last used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyUse {
    /// The generation that was used.
    #[schemars(range(min = 1))]
    pub generation: i64,

    /// When, to 5 minutes.
    pub last_used_time: Time,

    /// Where the address lay that it was used from, and never the address: behind an ingress
    /// that `auth.trustedProxies` of the server does not name, that of the ingress. Absent where it
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UsedFrom>,
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UsedFrom {
    /// In the server's own pod.
    Loopback,
    /// In a network that the Internet does not route to, as that of pods and nodes mostly is.
    Private,
    /// Anywhere else.
    Public,
}

/// A workload that uses a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// Its kind.
    pub kind: ConsumerKind,

    /// Its name, in the key's namespace.
    #[schemars(length(max = 253))]
    pub name: String,

    /// The generation that it was last restarted for.
    #[schemars(range(min = 0))]
    pub generation: i64,

    /// Whether that restart is complete: every pod was started after it.
    #[serde(default)]
    pub rolled: bool,
}

fn uses(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<KeyUse>();
    schemars::json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["generation"],
    })
}

fn generations(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<KeyGeneration>();
    schemars::json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["generation"],
    })
}

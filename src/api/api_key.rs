//! ZenAPIKey: one key of one account.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{LocalRef, conditions, kind_status, unobserved, yes};

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
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt"),
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
    validation = ("!has(self.expiresAt) || self.expiresAt < timestamp('9999-01-01T00:00:00Z')", "expiresAt must be before the year 9999; leave it out for a key that never expires")
)]
pub struct ZenAPIKeySpec {
    /// The ZenServiceAccount of this namespace that the key belongs to. Cannot change.
    /// Example: `{name: ci}`.
    pub service_account_ref: LocalRef,

    /// What the key is for. Example: `Key of the nightly training pipeline`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,

    /// Whether the key may log in. `false` refuses it and every token from it at once; `true`
    /// restores both.
    #[serde(default = "yes")]
    pub active: bool,

    /// When the key and every token from it die. Default: never.
    /// Example: `2027-03-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// How the key reaches those who use it.
    #[serde(default)]
    pub delivery: Delivery,
}

/// How a key reaches those who use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Name of the Secret, which holds `ZENML_STORE_URL` and `ZENML_STORE_API_KEY`. A Secret of
    /// that name that belongs to somebody else is left alone: condition `Conflict`. After a
    /// change of the name the Secret of the old name stays until the key it holds is replaced.
    /// Default: `metadata.name` and `-key`. Example: `zenml-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: Option<String>,

    /// What happens when the Secret is deleted or its key altered. `Rotate` makes one new key;
    /// the lost one stays valid for an hour, for those who hold it. `Fail` only reports.
    #[serde(default)]
    pub on_secret_loss: OnSecretLoss,
}

/// What to do about a lost Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnSecretLoss {
    /// Make one new key.
    #[default]
    Rotate,
    /// Report `Stalled` and do nothing.
    Fail,
}

/// What the operator saw and did. Generations and their verifiers are facts that only it could
/// have recorded; nothing else here is ever read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenAPIKeyStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Active, SecretPublished, Conflict.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The key's id in ZenML: the same for every generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub key_id: Option<String>,

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

    /// The Secret that holds the current key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<DeliveryStatus>,
}

kind_status!(ZenAPIKeyStatus, |status| status
    .generations
    .sort_by_key(|g| g.generation));

impl Default for ZenAPIKeyStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            key_id: None,
            account_id: None,
            generation: None,
            fingerprint: None,
            generations: Vec::new(),
            last_rotated_time: None,
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

impl ZenAPIKey {
    /// Name of the Secret that the key is delivered to.
    pub fn secret_name(&self) -> String {
        self.spec
            .delivery
            .secret_name
            .clone()
            .unwrap_or_else(|| format!("{}-key", self.metadata.name.as_deref().unwrap_or_default()))
    }
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

//! ZenSecret: values that are declared without being written down.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    api_key::SecretKeyRef,
    common::{Adoption, LocalRef, OBJECT_NAME, conditions, kind_status, unobserved},
    duration::ApiDuration,
    template,
};

/// Values of a ZenServer, declared without being written down: each comes from another Secret, or is
/// generated. They are delivered in one Secret.
///
/// It promises: plaintext is in Secrets alone, never here. The Secret holds all the entries or is not
/// touched. A generated value stays the same, whatever happens to the Secret, until
/// `generate.rotation` asks for another.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenSecret",
    plural = "zensecrets",
    shortname = "zsec",
    category = "zen",
    namespaced,
    status = "ZenSecretStatus",
    derive = "PartialEq",
    doc = "ZenSecret declares values without writing them down: each comes from another Secret or is generated. They are delivered in one Secret.",
    selectable = ".spec.serverRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keyCount",
        description = "How many entries are delivered"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "The Secret that holds the values"
    ),
    printcolumn(
        name = "Changed",
        type_ = "date",
        json_path = ".status.lastChangedTime",
        description = "When a value last changed"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Server",
        type_ = "string",
        priority = 1,
        json_path = ".spec.serverRef.name"
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
    validation = ("self.serverRef == oldSelf.serverRef", "serverRef cannot change; make a new secret"),
    validation = ("!oldSelf.immutable || (self.immutable && self.data == oldSelf.data)", "an immutable secret cannot change; make a new one")
)]
pub struct ZenSecretSpec {
    /// The ZenServer of this namespace that the secret belongs to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// What is in the secret. Example: `[{key: cookie, generate: {length: 48}}]`.
    #[schemars(schema_with = "entries")]
    pub data: Vec<SecretEntry>,

    /// The Secret that is made of it.
    #[serde(default)]
    pub target: SecretTarget,

    /// Whether nothing of it may change once it was delivered: not `data`, not the Secret, not a
    /// value, whatever happens where it came from. Cannot be taken back.
    #[serde(default)]
    pub immutable: bool,

    /// What happens when somebody changes or deletes the Secret. `Repair`: it is made as it was, within
    /// seconds. `Report`: it is left alone, and condition `Drifted` names what differs.
    #[serde(default)]
    pub drift_policy: DriftPolicy,

    /// Whether a Secret of the wanted name that nobody owns may become ours, as after a restore from
    /// a backup. A generated entry that it has already keeps its value.
    #[serde(default)]
    pub adoption: Adoption,
}

/// One value, and where it comes from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.valueFrom) != has(self.generate)", "each entry needs exactly one of valueFrom, generate")
)]
pub struct SecretEntry {
    /// Name of the entry. Example: `password`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,

    /// The value is in a Secret that another tool keeps.
    /// Example: `{secretKeyRef: {name: mlflow-basic-auth, key: pass}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EntryFrom>,

    /// The operator draws the value, once. Example: `{length: 48}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

/// A place where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryFrom {
    /// An entry of a Secret of this namespace that zenop did not make. It is read every 30 seconds at
    /// the latest. Example: `{name: mlflow-basic-auth, key: pass}`.
    pub secret_key_ref: SecretKeyRef,
}

/// How a value is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generate {
    /// How many characters it has, of the next value that is drawn. Example: `48`.
    #[serde(default = "thirty_two")]
    #[schemars(range(min = 8, max = 1024))]
    pub length: i32,

    /// Of which characters it is made, the next time one is drawn.
    #[serde(default)]
    pub alphabet: Alphabet,

    /// When another is drawn. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<ValueRotation>,
}

/// Characters that a value is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Alphabet {
    /// `A-Z`, `a-z`, `0-9`: 5.95 bits each.
    #[default]
    Alphanumeric,
    /// `0-9`, `a-f`: 4 bits each.
    Hex,
    /// Those of `Alphanumeric`, and `!#%+,-.:=@^_~`: 6.2 bits each. For what insists on such.
    Symbols,
}

/// When another value is drawn.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.interval) || duration(self.interval) >= duration('1h')", "interval must be at least 1h")
)]
pub struct ValueRotation {
    /// How old a value may become, at least `1h`. Example: `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<ApiDuration>,

    /// Another text here draws another value, once. Example: `"2026-11-23"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub trigger: Option<String>,
}

/// The Secret that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTarget {
    /// Its name. A Secret of that name that belongs to somebody else is left alone: condition
    /// `Conflict`. After a change of the name the Secret of the old name goes. Default:
    /// `metadata.name`. Example: `mlflow-login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub secret_name: Option<String>,

    /// What else it says.
    #[serde(default)]
    pub secret_template: TargetTemplate,
}

/// What a Secret says beside its values.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = template::LABELS,
    validation = template::ANNOTATIONS,
    validation = template::TYPE
)]
pub struct TargetTemplate {
    /// Type of the Secret: `Opaque` or one of your own. Kubernetes lets nobody change it; choose
    /// another name with it. Example: `Opaque`.
    #[serde(rename = "type", default = "template::opaque")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(Opaque|[a-z0-9.-]+/[A-Za-z0-9._-]+)$")
    )]
    pub secret_type: String,

    /// Labels of the Secret. Example: `{team: forecasting}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template::labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the Secret. Example: `{reloader.example.org/match: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template::annotations")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for TargetTemplate {
    fn default() -> Self {
        Self {
            secret_type: template::opaque(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// What to do about a Secret that somebody changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// Make it as it was.
    #[default]
    Repair,
    /// Say so.
    Report,
}

/// What the operator saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenSecretStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Drifted, Conflict, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The Secret that holds the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,

    /// What is delivered. Who may read this knows which entries there are, and no value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "entry_statuses")]
    pub keys: Vec<EntryStatus>,

    /// How many entries are delivered.
    #[serde(default)]
    pub key_count: i32,

    /// When a value last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_changed_time: Option<Time>,
}

/// A delivered value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryStatus {
    /// Name of the entry.
    #[schemars(length(max = 253))]
    pub name: String,

    /// Sixteen hex digits to tell values apart by. Keyed by the server's pepper, so nobody can try
    /// what the value may be.
    #[schemars(length(max = 16))]
    pub fingerprint: String,

    /// Where it came from.
    pub source: EntrySource,

    /// When it became what it is.
    pub last_changed_time: Time,

    /// The last `generate.rotation.trigger` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trigger: Option<String>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EntrySource {
    /// From another Secret.
    ValueFrom,
    /// It was drawn.
    Generated,
}

kind_status!(ZenSecretStatus, |status| status
    .keys
    .sort_by(|a, b| a.name.cmp(&b.name)));

impl Default for ZenSecretStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            secret_name: None,
            keys: Vec::new(),
            key_count: 0,
            last_changed_time: None,
        }
    }
}

impl ZenSecret {
    /// The Secret that is made of it: `spec.target.secretName`, else `metadata.name`.
    pub fn secret_name(&self) -> &str {
        let target = self.spec.target.secret_name.as_deref();
        target.or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// The Secret in which the values are kept that were generated: `metadata.name` and
    /// `-generated`.
    pub fn generated_name(&self) -> String {
        format!(
            "{}-generated",
            self.metadata.name.as_deref().unwrap_or_default()
        )
    }
}

fn thirty_two() -> i32 {
    32
}

/// At least one and at most 64, each name once.
fn entries(generator: &mut SchemaGenerator) -> Schema {
    by_name(&generator.subschema_for::<SecretEntry>(), "key", 1)
}

fn entry_statuses(generator: &mut SchemaGenerator) -> Schema {
    by_name(&generator.subschema_for::<EntryStatus>(), "name", 0)
}

fn by_name(item: &Schema, name: &str, fewest: u32) -> Schema {
    json_schema!({
        "type": "array",
        "items": item,
        "minItems": fewest,
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [name],
    })
}

//! ZenSecret: values that are declared without being written down.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    api_key::SecretKeyRef,
    common::{
        Adoption, DeletionPolicy, LocalRef, OBJECT_NAME, conditions, kind_status, unobserved,
    },
    device::UserKind,
    duration::ApiDuration,
    template,
};

/// Values of a ZenServer, declared without being written down: each comes from another Secret, is
/// generated, or is written encrypted. They are delivered in one Secret, and shown by ZenML's API to
/// those who may read them.
///
/// It promises: plaintext is in Secrets alone, never here. The Secret holds all the entries or is not
/// touched. A generated value stays the same, whatever happens to the Secret, until
/// `generate.rotation` asks for another. Its name belongs to one secret of its scope: of two that
/// claim it the older has it, and the other reports `NameConflict`. What others refer to is not
/// deleted before they are.
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
    doc = "ZenSecret declares values without writing them down: each comes from another Secret, is generated or encrypted. They are delivered in one Secret, and by ZenML's API.",
    selectable = ".spec.serverRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Scope",
        type_ = "string",
        json_path = ".spec.scope",
        description = "Whether all of the server may read it, or its owner alone"
    ),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keyCount",
        description = "How many entries are delivered"
    ),
    printcolumn(
        name = "UsedBy",
        type_ = "integer",
        json_path = ".status.usedBy.count",
        description = "How many objects refer to it"
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
    validation = ("self.scope != 'User' || has(self.ownerRef)", "scope User needs ownerRef: whose it is"),
    validation = ("!has(self.target) || !has(self.target.secretTemplate) || !has(self.target.secretTemplate.data) || self.data.all(e, !(e.key in self.target.secretTemplate.data))", "an entry cannot be both in data and in target.secretTemplate.data"),
    validation = ("!oldSelf.immutable || (self.immutable && self.data == oldSelf.data)", "an immutable secret cannot change; make a new one")
)]
pub struct ZenSecretSpec {
    /// The ZenServer of this namespace that the secret belongs to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// Its name in ZenML, by which it is referred to: `{{name.key}}`. May change. One with a dot in
    /// it cannot be referred to. Default: `metadata.name`. Example: `mlflow-login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub name: Option<String>,

    /// Who may read and change it through ZenML's API. Where a name is looked up, a secret of the
    /// one who asks comes before one of the workspace.
    #[serde(default)]
    pub scope: SecretScope,

    /// Who made it; the only one who may change its scope, and with scope `User` the only one who
    /// knows of it. Example: `{name: ana}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_ref: Option<OwnerRef>,

    /// What is in the secret. Example: `[{key: cookie, generate: {length: 48}}]`.
    #[serde(default)]
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

    /// What becomes of the Secret when this object is deleted. `Delete`: it goes too. `Retain`: it
    /// stays, belongs to nobody, and a ZenSecret of the same name may take it over with
    /// `adoption: IfUnowned`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Who may read a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SecretScope {
    /// All who are logged in to the server.
    #[default]
    Workspace,
    /// Its owner alone. To all others it does not exist.
    User,
}

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct OwnerRef {
    /// The kind of identity.
    #[serde(default)]
    pub kind: UserKind,

    /// Name of the object. Example: `ana`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// Its UID, so that one who gets the name later is not taken for it. ZenML's API writes it.
    /// Left out, whoever has the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 36))]
    pub uid: Option<String>,
}

impl OwnerRef {
    /// Whether the two may be the same one: where either says no UID, the name decides.
    pub fn may_be(&self, other: &Self) -> bool {
        let both = self.uid.as_ref().zip(other.uid.as_ref());
        self.kind == other.kind && self.name == other.name && both.is_none_or(|(a, b)| a == b)
    }
}

/// One value, and where it comes from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.valueFrom), has(self.generate), has(self.encrypted)].filter(x, x).size() == 1", "each entry needs exactly one of valueFrom, generate, encrypted")
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

    /// The value, encrypted so that only the server's operator can read it: what `kubectl zen secret
    /// seal` writes. An armored age file (age-encryption.org) for `status.sealing.recipient` of the
    /// ZenServer. It is good for this entry of this object alone. Example:
    /// `-----BEGIN AGE ENCRYPTED FILE-----…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 64, max = 131_072),
        regex(pattern = r"^-----BEGIN AGE ENCRYPTED FILE-----\r?\n")
    )]
    pub encrypted: Option<String>,
}

/// A place where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryFrom {
    /// An entry of a Secret of this namespace that zenop did not make. A change there is delivered
    /// within seconds. Example: `{name: mlflow-basic-auth, key: pass}`.
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
    validation = template::TYPE,
    validation = ("!has(self.data) || self.data.all(k, size(k) <= 253 && k.matches('^[-._a-zA-Z0-9]+$'))", "the name of an entry has at most 253 letters, digits, '-', '_' and '.'")
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

    /// Further entries of the Secret, made of values: each text may hold references `{{name.key}}` to
    /// entries of `data`, of this ZenSecret or of others that it may use, anywhere in it. An entry
    /// made so cannot be referred to, and has no place in ZenML. It follows as soon as what it refers
    /// to is there.
    /// Example: `{dsn: "postgres://{{db.user}}:{{db.password}}@db/"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rendered")]
    pub data: BTreeMap<String, String>,

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
            data: BTreeMap::new(),
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

    /// Ready, Reconciling, Stalled, Drifted, Conflict, NameConflict, InUse, Paused.
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

    /// Who refers to it.
    #[serde(default)]
    pub used_by: UsedBy,
}

/// Who refers to a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// How many objects.
    #[serde(default)]
    pub count: i32,

    /// The first twenty of them by kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub refs: Vec<Referrer>,
}

/// An object that refers to a secret.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Referrer {
    /// Its kind. Example: `ZenComponent`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name. Example: `tracker`.
    #[schemars(length(max = 253))]
    pub name: String,
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
    /// It is written encrypted in the spec.
    Encrypted,
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
            used_by: UsedBy::default(),
        }
    }
}

impl ZenSecret {
    /// Whose alone it is; nobody's in scope `Workspace`.
    pub fn owner(&self) -> Option<&OwnerRef> {
        let is_private = self.spec.scope == SecretScope::User;
        self.spec.owner_ref.as_ref().filter(|_| is_private)
    }

    /// Its name in ZenML: `spec.name`, else `metadata.name`.
    pub fn zenml_name(&self) -> &str {
        let name = self.spec.name.as_deref();
        name.or(self.metadata.name.as_deref()).unwrap_or_default()
    }

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

fn entries(generator: &mut SchemaGenerator) -> Schema {
    by_name(&generator.subschema_for::<SecretEntry>(), "key")
}

/// At most 64 of at most 4096 characters each.
fn rendered(_: &mut SchemaGenerator) -> Schema {
    template::texts(64, 4096)
}

fn entry_statuses(generator: &mut SchemaGenerator) -> Schema {
    by_name(&generator.subschema_for::<EntryStatus>(), "name")
}

/// At most 64, each name once.
fn by_name(item: &Schema, name: &str) -> Schema {
    json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [name],
    })
}

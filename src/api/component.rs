//! ZenComponent: a stack component whose attributes may refer to secrets.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    common::{Adoption, LocalRef, OBJECT_NAME, conditions, kind_status, unobserved},
    secret::{OwnerRef, SecretScope},
    template,
};

/// A stack component of a ZenServer. Its attributes may refer to values of secrets, `{{name.key}}`; a
/// broken reference shows before a pipeline runs, and the resolved attributes are delivered in a
/// Secret.
///
/// It promises: to judge references nobody's value is read. A resolved value is in Secrets alone. The
/// Secret holds all attributes as the secrets are now, or is not touched. What is not there and what
/// is somebody else's alone cannot be told apart.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenComponent",
    plural = "zencomponents",
    shortname = "zcomp",
    category = "zen",
    namespaced,
    status = "ZenComponentStatus",
    derive = "PartialEq",
    doc = "ZenComponent is a stack component whose attributes may refer to values of secrets, {{name.key}}. References are judged as secrets come, change and go; the resolved attributes are delivered in a Secret.",
    selectable = ".spec.serverRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Flavor", type_ = "string", json_path = ".spec.flavor"),
    printcolumn(
        name = "Refs",
        type_ = "integer",
        json_path = ".status.referenceCount",
        description = "How many references its attributes hold"
    ),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ReferencesResolved\")].status",
        description = "Whether they lead to what they must, by the validation level"
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
        json_path = ".status.secretName",
        description = "The Secret that holds the resolved attributes"
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
    validation = ("self.serverRef == oldSelf.serverRef", "serverRef cannot change; make a new component"),
    validation = ("self.type == oldSelf.type", "type cannot change; make a new component"),
    validation = ("!has(self.attributes) || self.attributes.all(k, size(k) <= 253 && k.matches('^[-._a-zA-Z0-9]+$') && k != 'attributes.json')", "the name of an attribute has at most 253 letters, digits, '-', '_' and '.', and is not attributes.json"),
    validation = ("!has(self.attributes) || self.attributes.all(k, !self.attributes[k].contains('{{') || self.attributes[k].matches(r'^[{][{]\\s*\\S+?[.]\\S+\\s*[}][}]$'))", "a reference must be the whole value: {{name.key}}")
)]
pub struct ZenComponentSpec {
    /// The ZenServer of this namespace that the component belongs to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// What it is in a stack. Cannot change. Example: `experiment_tracker`.
    #[serde(rename = "type")]
    pub component_type: ComponentType,

    /// Which kind of it, as ZenML names them. Example: `mlflow`.
    #[schemars(length(min = 1, max = 255))]
    pub flavor: String,

    /// Its name in ZenML. Default: `metadata.name`. Example: `tracker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,

    /// Whose it is: where a name is looked up, that one's secrets come before those of the
    /// workspace. Left out, only those are looked at. Example: `{name: ana}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_ref: Option<OwnerRef>,

    /// Its configuration. A value that is a reference as a whole, `{{name.key}}`, stands for the
    /// value of a secret. Example: `{tracking_password: "{{mlflow-login.password}}"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "attributes")]
    pub attributes: BTreeMap<String, String>,

    /// More of its configuration, as the text of a JSON object: for values that are no text. Each
    /// text in it, however deep, may be a reference. No attribute may be in both.
    /// Example: `{"headers": [{"name": "x-token", "value": "{{proxy.token}}"}]}`.
    #[serde(
        rename = "attributesJSON",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 2, max = 65_536))]
    pub attributes_json: Option<String>,

    /// What references are held to. Left out: the server's `policy.secretValidation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_level: Option<ValidationLevel>,

    /// The Secret that is made of it.
    #[serde(default)]
    pub target: ComponentTarget,

    /// Whether a Secret of the wanted name that nobody owns may become ours, as after a restore from
    /// a backup.
    #[serde(default)]
    pub adoption: Adoption,
}

/// What a component is in a stack: ZenML's words of version 0.98.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "ZenML's words")]
pub enum ComponentType {
    Alerter,
    Annotator,
    ArtifactStore,
    ContainerRegistry,
    DataValidator,
    Deployer,
    ExperimentTracker,
    FeatureStore,
    ImageBuilder,
    LogStore,
    ModelDeployer,
    ModelRegistry,
    Orchestrator,
    Sandbox,
    StepOperator,
}

/// What references are held to; ZenML's `NONE`, `SECRET_EXISTS` and `SECRET_AND_KEY_EXISTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ValidationLevel {
    /// To nothing.
    None,
    /// There must be such a secret.
    SecretExists,
    /// There must be such a secret, and it must have such a key.
    #[default]
    SecretAndKeyExists,
}

/// The Secret that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentTarget {
    /// Its name. It has an entry for each attribute, and all of them in `attributes.json`. A Secret
    /// of that name that belongs to somebody else is left alone: condition `Conflict`. After a change
    /// of the name the Secret of the old name goes. Default: `metadata.name` and `-attributes`.
    /// Example: `tracker-attributes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub secret_name: Option<String>,
}

/// What the operator saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenComponentStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, ReferencesResolved, Conflict, Paused.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The Secret that holds the resolved attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,

    /// Where its attributes refer to secrets, and what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub references: Vec<ReferenceStatus>,

    /// How many references its attributes hold.
    #[serde(default)]
    pub reference_count: i32,
}

/// A reference of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceStatus {
    /// Where it stands in the attributes, as a JSON pointer (RFC 6901); the end of a long one is left
    /// out. Example: `/headers/0/value`.
    #[schemars(length(max = 512))]
    pub path: String,

    /// The secret's name in ZenML. Empty, if it cannot be read.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub secret: String,

    /// The key. Empty, if it cannot be read.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub key: String,

    /// Where the secret was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,

    /// What is there.
    pub state: ReferenceState,

    /// What is wrong with the text of a malformed one, and at which column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub fault: Option<String>,
}

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReferenceState {
    /// A value.
    Resolved,
    /// There is no such secret for this component.
    SecretMissing,
    /// The secret has no such key.
    KeyMissing,
    /// It leads to no value, and need not by the validation level.
    Unchecked,
    /// It looks like a reference, and is none.
    Malformed,
}

kind_status!(ZenComponentStatus, |_| ());

impl Default for ZenComponentStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            secret_name: None,
            references: Vec::new(),
            reference_count: 0,
        }
    }
}

impl ZenComponent {
    /// Its name in ZenML: `spec.name`, else `metadata.name`.
    pub fn zenml_name(&self) -> &str {
        let name = self.spec.name.as_deref();
        name.or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// The Secret that is made of it: `spec.target.secretName`, else `metadata.name` and
    /// `-attributes`.
    pub fn secret_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let target = self.spec.target.secret_name.clone();
        target.unwrap_or_else(|| format!("{name}-attributes"))
    }
}

/// At most 128 of at most 4096 characters each.
fn attributes(_: &mut SchemaGenerator) -> Schema {
    template::texts(128, 4096)
}

//! How a key reaches those who use it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::api::{common::OBJECT_NAME, template};

/// How a key reaches those who use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// `Secret`: in a Secret of this namespace. `None`: not at all; whoever made the key has it.
    #[serde(default)]
    pub mode: DeliveryMode,

    /// Name of the Secret, which holds `ZENML_STORE_URL` and `ZENML_STORE_API_KEY`. A Secret of
    /// that name that belongs to somebody else is left alone: condition `Conflict`. After a
    /// change of the name the Secret of the old name stays until the key it holds is replaced.
    /// Default: `metadata.name` and `-key`. Example: `zenml-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub secret_name: Option<String>,

    /// What happens when the Secret is deleted or its key altered. `Rotate` makes one new key;
    /// the lost one stays valid for an hour, for those who hold it. `Fail` only reports.
    #[serde(default)]
    pub on_secret_loss: OnSecretLoss,

    /// What else the Secret says, and under which names.
    #[serde(default)]
    pub secret_template: SecretTemplate,
}

/// Whether a key is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryMode {
    /// In a Secret of the key's namespace.
    #[default]
    Secret,
    /// Not by us.
    None,
}

/// The delivered Secret's form.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = template::LABELS,
    validation = template::ANNOTATIONS,
    validation = template::TYPE,
    validation = ("!has(self.data) || !(self.keys.url in self.data) && !(self.keys.key in self.data) && !(self.keys.previousKey in self.data)", "data must not name an entry that keys names"),
    validation = ("self.keys.url != self.keys.key && self.keys.url != self.keys.previousKey && self.keys.key != self.keys.previousKey", "the names in keys must differ")
)]
pub struct SecretTemplate {
    /// Type of the Secret: `Opaque` or one of your own. Example: `Opaque`.
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

    /// Names of the entries. Example: `{url: ZENML_STORE_URL, key: ZENML_STORE_API_KEY}`.
    #[serde(default)]
    pub keys: SecretKeys,

    /// Whether the key before the current one is in the Secret too, under `keys.previousKey`, as
    /// long as it is accepted.
    #[serde(default)]
    pub include_previous: bool,

    /// Further entries: text in which `{{url}}`, `{{key}}`, `{{keyId}}`, `{{keyName}}`,
    /// `{{generation}}`, `{{account}}`, `{{accountId}}`, `{{server}}` and `{{namespace}}` are
    /// replaced. Example: `{zenml.env: "ZENML_STORE_URL={{url}}"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "data")]
    pub data: BTreeMap<String, String>,
}

impl Default for SecretTemplate {
    fn default() -> Self {
        Self {
            secret_type: template::opaque(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            keys: SecretKeys::default(),
            include_previous: false,
            data: BTreeMap::new(),
        }
    }
}

/// Names of the delivered Secret's entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeys {
    /// Of the server's address.
    #[serde(default = "url_entry")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub url: String,

    /// Of the key.
    #[serde(default = "key_entry")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,

    /// Of the key before it.
    #[serde(default = "previous_entry")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub previous_key: String,
}

impl Default for SecretKeys {
    fn default() -> Self {
        Self {
            url: url_entry(),
            key: key_entry(),
            previous_key: previous_entry(),
        }
    }
}

fn url_entry() -> String {
    "ZENML_STORE_URL".to_owned()
}

fn key_entry() -> String {
    "ZENML_STORE_API_KEY".to_owned()
}

fn previous_entry() -> String {
    "ZENML_STORE_API_KEY_PREVIOUS".to_owned()
}

fn data(_: &mut SchemaGenerator) -> Schema {
    template::texts(16, 8192)
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

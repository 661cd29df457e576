//! What a ZenServer's author adds to its pods.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What is added to the pods of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// The environment of the ZenML server, as its documentation names it. What zenop sets itself
    /// cannot be set here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "variables")]
    pub env: Vec<Variable>,
}

/// A variable of the ZenML server's environment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(self.name in ['ZENML_SERVER', 'ZENML_SERVER_AUTH_SCHEME', 'ZENML_SERVER_JWT_SECRET_KEY', 'ZENML_SERVER_JWT_TOKEN_ALGORITHM', 'ZENML_SERVER_JWT_TOKEN_ISSUER', 'ZENML_SERVER_JWT_TOKEN_AUDIENCE', 'ZENML_SERVER_AUTO_ACTIVATE', 'ZENML_SERVER_ROOT_URL_PATH', 'ZENML_DEFAULT_USER_NAME', 'ZENML_DEFAULT_USER_PASSWORD', 'ZENML_STORE_TYPE', 'ZENML_STORE_URL', 'ZENML_STORE_USERNAME', 'ZENML_STORE_PASSWORD', 'ZENML_STORE_SSL', 'ZENML_STORE_SSL_CA', 'ZENML_STORE_SSL_VERIFY_SERVER_CERT', 'DISABLE_DATABASE_MIGRATION', 'ZENML_SECRETS_STORE_TYPE', 'ZENML_SECRETS_STORE_ENCRYPTION_KEY'])", "this variable is set by zenop itself"),
    validation = ("!self.name.matches('(PASSWORD|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY|ENCRYPTION_KEY|API_KEY)$') || self.value.contains('{{')", "a value of such a name belongs in a ZenSecret: refer to it, as {{name.key}}"),
    validation = ("!self.value.matches('://[^/@{]*:[^/@{]+@')", "a password belongs in a ZenSecret: refer to it, as in smtp://{{mail.user}}:{{mail.password}}@host")
)]
pub struct Variable {
    /// Its name. Example: `ZENML_LOGGING_VERBOSITY`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,

    /// Its value; references `{{name.key}}` in it stand for values of the workspace's ZenSecrets of
    /// this server. Example: `mysql://{{db.user}}:{{db.password}}@mysql.db.svc/zenml`.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// At most 64, each name once.
fn variables(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<Variable>(),
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

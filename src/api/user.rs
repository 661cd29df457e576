//! ZenUser: a human identity of a server.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    api_key::SecretKeyRef,
    common::{LocalRef, conditions, kind_status, unobserved, yes},
    duration::ApiDuration,
};

/// A human identity of a ZenServer: what ZenML calls a user.
///
/// It promises: while `active` is true and a password was set, or the server's provider knows it, its holder may log in; set it to
/// false and every token of the user is refused at once. What stands for the password is in the
/// Secret `<server>-passwords`, never here. Its name belongs to one user of a server: of two that
/// claim it the older has it, the other reports `NameConflict` and may not log in. A user who is
/// deleted and made again under the same name is another user.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenUser",
    plural = "zenusers",
    shortname = "zusr",
    category = "zen",
    namespaced,
    status = "ZenUserStatus",
    derive = "PartialEq",
    doc = "ZenUser is a human identity of a ZenServer. Set spec.active to false and all its tokens are refused at once.",
    selectable = ".spec.serverRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].status",
        description = "Whether the user may log in now"
    ),
    printcolumn(name = "Admin", type_ = "boolean", json_path = ".spec.isAdmin"),
    printcolumn(
        name = "Method",
        type_ = "string",
        json_path = ".status.method",
        description = "How the user comes to a password"
    ),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(
        name = "LastLogin",
        type_ = "date",
        json_path = ".status.lastAuthenticatedTime",
        description = "When the user last authenticated, to 5 minutes"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
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
    validation = ("self.serverRef == oldSelf.serverRef", "serverRef cannot change; make a new user"),
    validation = ("[has(self.passwordFrom), has(self.activation), has(self.external)].filter(x, x).size() == 1", "exactly one of passwordFrom, activation, external")
)]
pub struct ZenUserSpec {
    /// The ZenServer of this namespace that the user belongs to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// The user's name in ZenML, to log in with. May change; the user stays the same. Default:
    /// `metadata.name`. Example: `ana@example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,

    /// A name for people. Example: `Ana Ruiz`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub full_name: String,

    /// The user's mail address. Only the user itself is shown it. Example: `ana@example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254))]
    pub email: Option<String>,

    /// Whether the user agreed to share its mail address with ZenML: what the user answered when
    /// ZenML's dashboard or client asked. Left out, it is asked. The answer of a user who is
    /// declared has to be declared too. It is shown to ZenML's programs; nothing is sent anywhere.
    /// Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_opted_in: Option<bool>,

    /// Whether the user may log in. `false` refuses every token already issued, at once; `true`
    /// restores them.
    #[serde(default = "yes")]
    pub active: bool,

    /// Whether the user may manage users, service accounts and API keys through ZenML's API.
    #[serde(default)]
    pub is_admin: bool,

    /// Where the password is. It is read every 30 seconds at the latest; another one there ends
    /// every token of the user. Example: `{secretKeyRef: {name: ana, key: password}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_from: Option<PasswordFrom>,

    /// Let the user choose a password, once, with a token. Example: `{secretName: ana-activation}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<UserActivation>,

    /// Who the user is at the provider of its server (`auth.scheme: External`). It has no password.
    /// Example: `{issuer: "https://sso.example.org", subject: 00u1x2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalPerson>,

    /// Raise it to sign the user out everywhere: tokens of an earlier epoch are refused at once.
    /// Example: `1`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub session_epoch: i64,
}

/// A person of an OIDC provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPerson {
    /// The provider's address, as in the ZenServer. Example: `https://sso.example.org`.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https?://[^/?#@\s\x00-\x1f]+(/[^?#\s\x00-\x1f]*)?$")
    )]
    pub issuer: String,

    /// The person's id there, which is nobody else's ever: the claim `sub`. No name and no mail
    /// address, which change hands. Who tries to log in and is not known is shown it.
    /// Example: `00u1x2`.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
}

/// A place where a password is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordFrom {
    /// An entry of a Secret of this namespace: the password, 8 to 1024 bytes; a line end after it
    /// does not count. Example: `{name: ana, key: password}`.
    pub secret_key_ref: SecretKeyRef,
}

/// How a user comes to choose a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserActivation {
    /// The Secret in which the token is put, until it was used. Another name here makes a new
    /// token and forgets the password. Left out, no token is made: ZenML's API tells one to who
    /// makes or deactivates the user there. Example: `ana-activation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub secret_name: Option<String>,

    /// How long the token may be used. Example: `72h`.
    #[serde(default = "three_days")]
    pub ttl: ApiDuration,
}

fn three_days() -> ApiDuration {
    ApiDuration(Duration::from_hours(72))
}

/// What the operator saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenUserStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Active, NameConflict, Conflict.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The user's id in ZenML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub user_id: Option<String>,

    /// How the user comes to a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<LoginMethod>,

    /// When the password was last set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_set_time: Option<Time>,

    /// The token that was made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationStatus>,

    /// When the user last logged in or made a request, at most 5 minutes old. Written by the
    /// sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_authenticated_time: Option<Time>,
}

/// How a user comes to a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoginMethod {
    /// From a Secret.
    Password,
    /// It chooses one, with a token.
    Activation,
    /// It has none: a provider says who it is.
    External,
}

/// An activation token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivationStatus {
    /// The Secret that it was put in.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// When it was made.
    pub issued_time: Time,
    /// From when on it is refused.
    pub expires_at: Time,
    /// Whether it was used.
    #[serde(default)]
    pub used: bool,
}

kind_status!(ZenUserStatus, |status| status.last_authenticated_time =
    None);

impl Default for ZenUserStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            user_id: None,
            method: None,
            password_set_time: None,
            activation: None,
            last_authenticated_time: None,
        }
    }
}

impl ZenUser {
    /// The user's name in ZenML: `spec.name`, else `metadata.name`.
    pub fn zenml_name(&self) -> &str {
        self.spec
            .name
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}

//! ZenDevice: a device that somebody authorized.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{LocalRef, conditions, kind_status, unobserved};

/// A device, say a laptop, that somebody logged in from with `zenml login`.
///
/// It promises: while it is neither locked nor over, the token that its client got acts as who
/// approved it; lock it or delete it, and that token is refused at once. One device belongs to one
/// client and one user or account, so two people on one machine have a device each. It is made by
/// approval: an object that somebody else makes gives nobody access, as only the server can write
/// `authorization.proof`. What may be edited is `trusted`, `locked`, `expiresAt`, `description`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenDevice",
    plural = "zendevices",
    shortname = "zdev",
    category = "zen",
    namespaced,
    status = "ZenDeviceStatus",
    derive = "PartialEq",
    doc = "ZenDevice is a device that somebody authorized with zenml login. Made by approval. Set spec.locked to true and its token is refused at once.",
    selectable = ".spec.serverRef.name",
    selectable = ".spec.userRef.name",
    selectable = ".spec.authorization.deviceId",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Trusted", type_ = "boolean", json_path = ".spec.trusted"),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the device is over"
    ),
    printcolumn(
        name = "LastUsed",
        type_ = "date",
        json_path = ".status.lastUsedTime",
        description = "When its token was last used, to 5 minutes"
    ),
    printcolumn(
        name = "OS",
        type_ = "string",
        json_path = ".spec.authorization.os",
        description = "As its client said"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Host",
        type_ = "string",
        priority = 1,
        json_path = ".spec.authorization.hostname",
        description = "As its client said"
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
    validation = ("self.clientId == oldSelf.clientId && self.userRef == oldSelf.userRef && self.serverRef == oldSelf.serverRef", "a device cannot move to another client, user or server"),
    validation = ("!has(oldSelf.expiresAt) || (has(self.expiresAt) && self.expiresAt <= oldSelf.expiresAt) || (has(self.authorization) && has(oldSelf.authorization) && self.authorization.deviceId != oldSelf.authorization.deviceId)", "a device may only be shortened; to extend it, approve it again"),
    validation = ("!has(oldSelf.authorization) || has(self.authorization)", "an authorization cannot be taken away; delete or lock the device")
)]
pub struct ZenDeviceSpec {
    /// The ZenServer of this namespace that the device logs in to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// The id that the client gave itself: one for each configuration directory of ZenML. Cannot
    /// change. Example: `3c1d0b2e-7c0f-4a5e-9f0d-1b2a3c4d5e6f`.
    #[schemars(regex(
        pattern = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
    ))]
    #[schemars(length(max = 36))]
    pub client_id: String,

    /// Whom the device acts as. Cannot change. Example: `{name: ana}`.
    pub user_ref: UserRef,

    /// Whether it lives for `auth.device.trustedTTL` of the server, instead of `untrustedTTL`.
    #[serde(default)]
    pub trusted: bool,

    /// Whether its token is refused. `false` restores it, if it is not over.
    #[serde(default)]
    pub locked: bool,

    /// When the device is over, if that is earlier than the server's policy says. May only be
    /// shortened. Example: `2026-12-21T10:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// What the device is. Example: `The laptop in the lab`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,

    /// What was approved. Written by the server alone; without it the device may do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// Whom a device acts as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRef {
    /// The kind of identity.
    #[serde(default)]
    pub kind: UserKind,

    /// Name of the object. Example: `ana`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A kind of identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UserKind {
    /// A person.
    #[default]
    ZenUser,
    /// A service account.
    ZenServiceAccount,
}

/// What was approved.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.deviceId != oldSelf.deviceId || (self.accountId == oldSelf.accountId && self.approvedTime == oldSelf.approvedTime && self.proof == oldSelf.proof && (has(self.denied) && self.denied) == (has(oldSelf.denied) && oldSelf.denied))", "an approval cannot change; approve again"),
    validation = ("!has(self.denied) || !self.denied || !has(self.redemption)", "what was denied is not redeemed"),
    validation = ("self.deviceId != oldSelf.deviceId || !has(oldSelf.redemption) || (has(self.redemption) && self.redemption == oldSelf.redemption)", "a token is given out once")
)]
pub struct Authorization {
    /// The device's id in ZenML, which its token names. Another approval brings another.
    #[schemars(length(max = 36))]
    pub device_id: String,

    /// The id in ZenML of who approved it. One who is made again under the same name has another.
    #[schemars(length(max = 36))]
    pub account_id: String,

    /// When it was approved, or denied.
    pub approved_time: Time,

    /// Whether it was denied: the object then stands for no device, and says only that this one is
    /// never to be approved. It goes soon after `expiresAt`, when its code is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,

    /// What proves that the server wrote this. Bound to its auth Secret; no secret.
    #[schemars(length(min = 64, max = 64))]
    pub proof: String,

    /// When its client fetched the token, which it can once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redemption: Option<Redemption>,

    /// The name of its machine, as its client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub hostname: Option<String>,

    /// Its operating system, as its client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub os: Option<String>,

    /// Its release of ZenML, as its client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_version: Option<String>,

    /// Its release of Python, as its client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub python_version: Option<String>,

    /// The address that it asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub ip_address: Option<String>,
}

/// When a client fetched its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Redemption {
    /// When the token was fetched.
    pub time: Time,

    /// Which attempt it was, so that one that was not answered is known again.
    #[schemars(length(max = 36))]
    pub id: String,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DevicePhase {
    /// Approved; its client did not fetch the token yet.
    Approved,
    /// Its token counts.
    Active,
    /// Its token is refused until it is unlocked.
    Locked,
    /// Its time is over. It is removed a day later.
    Expired,
    /// It was denied. It is removed soon after its code is over.
    Denied,
}

/// What the operator saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenDeviceStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Active.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// How it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DevicePhase>,

    /// When it is over, by its own spec and the server's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// When its token was last used, at most 5 minutes old. Written by the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_time: Option<Time>,
}

kind_status!(ZenDeviceStatus, |status| status.last_used_time = None);

impl Default for ZenDeviceStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            state: None,
            expires_at: None,
            last_used_time: None,
        }
    }
}

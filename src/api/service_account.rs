//! ZenServiceAccount: a non-human identity of a server.
#![expect(clippy::duplicated_attributes, reason = "print columns of one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{DeletionPolicy, LocalRef, conditions, kind_status, unobserved, yes};

/// A non-human identity of a ZenServer: what ZenML calls a service account.
///
/// It promises: while `active` is true its keys may log in; set it to false and every key and
/// every token of it is refused at once. Its name belongs to one account of a server: of two
/// that claim it the older has it, the other reports `NameConflict` and may not log in. An
/// account that is deleted and made again under the same name is another account: old keys and
/// tokens stay dead, unless it is restored within the server's `policy.undoWindow`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenServiceAccount",
    plural = "zenserviceaccounts",
    shortname = "zsa",
    category = "zen",
    namespaced,
    status = "ZenServiceAccountStatus",
    derive = "PartialEq",
    doc = "ZenServiceAccount is a non-human identity of a ZenServer. Set spec.active to false and all its keys and tokens are refused at once.",
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
        description = "Whether the account may log in now"
    ),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keys.active",
        description = "Keys that may log in now"
    ),
    printcolumn(
        name = "NextExpiry",
        type_ = "string",
        json_path = ".status.nextExpiryTime",
        description = "When the next key expires"
    ),
    printcolumn(
        name = "LastAuth",
        type_ = "date",
        json_path = ".status.lastAuthenticatedTime",
        description = "When it last authenticated, to 5 minutes"
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
    validation = ("self.serverRef == oldSelf.serverRef", "serverRef cannot change; make a new account"),
    validation = ("!has(self.expiresAt) || self.expiresAt < timestamp('9999-01-01T00:00:00Z')", "expiresAt must be before the year 9999; leave it out for an account that never expires"),
    validation = ("!has(self.validFrom) || !has(self.expiresAt) || self.validFrom < self.expiresAt", "validFrom must be before expiresAt")
)]
pub struct ZenServiceAccountSpec {
    /// The ZenServer of this namespace that the account belongs to. Cannot change.
    /// Example: `{name: prod}`.
    pub server_ref: LocalRef,

    /// The account's name in ZenML. May change; the account stays the same. Default:
    /// `metadata.name`. Example: `CI of the forecasting team`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,

    /// What the account is for. Example: `Nightly training of the forecasting team`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,

    /// Whether the account may log in. `false` refuses every key and every token already
    /// issued, at once; `true` restores them.
    #[serde(default = "yes")]
    pub active: bool,

    /// Whether the account may manage service accounts and API keys through ZenML's API.
    #[serde(default)]
    pub is_admin: bool,

    /// From when on the account may log in. Default: at once. Example: `2026-12-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Time>,

    /// When the account's keys and tokens die. Of account and key the earlier end counts. Default:
    /// never. Example: `2027-03-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// What becomes of the account when this object is deleted, by a person or by a GitOps tool's
    /// prune. `Retain`: it keeps its id, and its keys go on.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What the operator saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenServiceAccountStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Active, NameConflict.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The account's id in ZenML: its UID, or that of the deleted account that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub account_id: Option<String>,

    /// Shows that the operator gave the account an id that is not its UID: an HMAC of both under
    /// the server's pepper, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64))]
    pub id_proof: Option<String>,

    /// UID of the deleted account that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub restored_from: Option<String>,

    /// How many keys it has.
    #[serde(default)]
    pub keys: KeyCount,

    /// When the first of its active keys expires. Absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_expiry_time: Option<Time>,

    /// When it last logged in or made a request, at most 5 minutes old. Written by the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_authenticated_time: Option<Time>,
}

kind_status!(ZenServiceAccountStatus, |status| status
    .last_authenticated_time =
    None);

impl Default for ZenServiceAccountStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            account_id: None,
            id_proof: None,
            restored_from: None,
            keys: KeyCount::default(),
            next_expiry_time: None,
            last_authenticated_time: None,
        }
    }
}

/// The keys of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyCount {
    /// Keys that may log in: active, issued, not expired.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub active: i32,
    /// All ZenAPIKeys of the account.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub total: i32,
}

impl ZenServiceAccount {
    /// The account's name in ZenML: `spec.name`, else `metadata.name`.
    pub fn zenml_name(&self) -> &str {
        self.spec
            .name
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}

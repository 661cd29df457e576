//! When a key is replaced, and how long the old one lives on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    ApiDuration,
    common::{OBJECT_NAME, yes},
};

/// When a key is replaced, and how long the old one lives on.
///
/// A rotation is due by `interval` or `schedule`, by the server's policy, or when `trigger`
/// changes. The new key is accepted before it is delivered, and the old one after: a client that
/// reads the Secret is refused at no moment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.interval) || !has(self.schedule)", "set interval or schedule, not both"),
    validation = ("!has(self.interval) || duration(self.interval) >= duration('10m') && duration(self.interval) <= duration('87600h')", "interval must be between 10m and 87600h"),
    validation = ("!has(self.timeZone) || has(self.schedule)", "timeZone belongs to schedule"),
    validation = ("duration(self.retainFor) <= duration('8760h')", "retainFor must be at most 8760h"),
    validation = ("duration(self.maxRetain) >= duration(self.retainFor) && duration(self.maxRetain) <= duration('8760h')", "maxRetain must be at least retainFor, and at most 8760h"),
    validation = ("duration(self.idleFor) >= duration('10m')", "idleFor must be at least 10m: last use is known to 5 minutes"),
    validation = ("duration(self.minRestartInterval) <= duration('24h')", "minRestartInterval must be at most 24h")
)]
pub struct Rotation {
    /// How old a key may become, give or take 10 % that depend on the object, so that many keys
    /// are not rotated at one moment. Example: `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<ApiDuration>,

    /// When the key is rotated, as a crontab line of five fields; up to a tenth of the time to the
    /// next, at most an hour, later. Example: `0 3 1 * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,

    /// IANA time zone of `schedule`. Default: `UTC`. Example: `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,

    /// Any text. When it changes, the key is rotated, once. Example: `2026-11-quarterly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub trigger: Option<String>,

    /// How long the old key is accepted. `0s` refuses it at once. Example: `1h`.
    #[serde(default = "retain_for")]
    pub retain_for: ApiDuration,

    /// Whether the old key goes after `retainFor`, or once nobody used it for `idleFor`.
    #[serde(default)]
    pub retirement: Retirement,

    /// For `WhenUnused`: how long nobody must have used the old key. Example: `15m`.
    #[serde(default = "idle_for")]
    pub idle_for: ApiDuration,

    /// When the old key goes at the latest, used or not, consumers restarted or not.
    /// Example: `168h`.
    #[serde(default = "max_retain")]
    pub max_retain: ApiDuration,

    /// When rotations may happen. Default: always. The annotation `zenop.dev/force: "true"` lets
    /// one that is due pass outside them. A lost Secret is replaced at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<RotationWindow>,

    /// Workloads of this namespace to restart once the new key is delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub consumers: Vec<Consumer>,

    /// How much time lies between two restarts of one workload, whichever keys ask for them.
    /// Example: `5m`.
    #[serde(default = "min_restart_interval")]
    pub min_restart_interval: ApiDuration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            interval: None,
            schedule: None,
            time_zone: None,
            trigger: None,
            retain_for: retain_for(),
            retirement: Retirement::default(),
            idle_for: idle_for(),
            max_retain: max_retain(),
            windows: Vec::new(),
            consumers: Vec::new(),
            min_restart_interval: min_restart_interval(),
        }
    }
}

/// When an old key stops being accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retirement {
    /// After `retainFor`; where consumers are waited for, not before they were restarted.
    #[default]
    AfterRetain,
    /// After `retainFor`, and once nobody used it for `idleFor`; at the latest after `maxRetain`.
    WhenUnused,
}

/// A span of time of each week. It begins on one of its days; one that ends before it begins ends
/// the day after.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.start != self.end", "start and end must differ"))]
pub struct RotationWindow {
    /// Days on which it begins. Default: every day. Example: `[Mon, Tue, Wed, Thu]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,

    /// Time of day at which it begins. Example: `09:00`.
    #[schemars(
        length(min = 5, max = 5),
        regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    )]
    pub start: String,

    /// Time of day at which it ends. Example: `16:00`.
    #[schemars(
        length(min = 5, max = 5),
        regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    )]
    pub end: String,

    /// IANA time zone. Default: `UTC`. Example: `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "they are days")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Workloads that use a key. They are restarted as `kubectl rollout restart` does, four at a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.name) != has(self.selector)", "set name or selector"))]
pub struct Consumer {
    /// Kind of the workloads.
    pub kind: ConsumerKind,

    /// Name of one workload. Example: `trainer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: Option<String>,

    /// Labels of the workloads. Example: `{matchLabels: {uses-zenml: "true"}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector")]
    pub selector: Option<LabelSelector>,

    /// Whether the old key waits until every pod was started anew, at most for `maxRetain`.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// Kinds of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the kinds of apps/v1")]
pub enum ConsumerKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

fn selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "Labels of the workloads. Example: `{matchLabels: {uses-zenml: \"true\"}}`.",
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that a workload has.",
                "type": "object", "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "description": "What else holds of its labels.",
                "type": "array", "maxItems": 16,
                "items": {
                    "type": "object", "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "Name of a label.",
                            "type": "string", "maxLength": 317,
                        },
                        "operator": {
                            "description": "How the label and the values go together.",
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "For In and NotIn.",
                            "type": "array", "maxItems": 16,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                },
            },
        },
    })
}

fn retain_for() -> ApiDuration {
    ApiDuration::from_secs(3600)
}

fn idle_for() -> ApiDuration {
    ApiDuration::from_secs(15 * 60)
}

fn max_retain() -> ApiDuration {
    ApiDuration::from_secs(7 * 24 * 3600)
}

fn min_restart_interval() -> ApiDuration {
    ApiDuration::from_secs(5 * 60)
}

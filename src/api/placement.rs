//! On which nodes a server's pods run, and what they take of them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a container takes of its node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)", "requests must not be more than limits")
)]
pub struct Resources {
    /// What it is sure to get. Example: `{cpu: 500m, memory: 2Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "amounts")]
    pub requests: BTreeMap<String, Amount>,

    /// What it gets at the most. Example: `{memory: 4Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "amounts")]
    pub limits: BTreeMap<String, Amount>,
}

/// An amount of something, as a number or as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// `2`.
    Number(u32),
    /// `500m`, `2Gi`.
    Text(String),
}

fn amounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "minimum": 0, "maximum": 1_000_000, "maxLength": 16,
            "pattern": r"^([0-9]{1,9}(m|k|M|G|T|Ki|Mi|Gi|Ti)?|[0-9]{1,6}\.[0-9]{1,3})$",
        },
    })
}

/// A taint that does not matter.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.operator != 'Exists' || !has(self.value)", "operator Exists has no value"),
    validation = ("has(self.key) || self.operator == 'Exists'", "without a key operator must be Exists"),
    validation = ("!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'", "tolerationSeconds is for effect NoExecute")
)]
pub struct Toleration {
    /// The taint's key. Default: any. Example: `dedicated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key")]
    pub key: Option<String>,

    /// `Equal` or `Exists`.
    #[serde(default)]
    pub operator: TolerationOperator,

    /// The taint's value, for `Equal`. Example: `ml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub value: Option<String>,

    /// The taint's effect. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// How long a pod stays on a node that gets such a taint. Default: for ever. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub toleration_seconds: Option<i64>,
}

/// How a taint is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// By its value.
    #[default]
    Equal,
    /// Not by its value.
    Exists,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No pod comes.
    NoSchedule,
    /// Pods rather go elsewhere.
    PreferNoSchedule,
    /// Those that are there go.
    NoExecute,
}

/// How a server's pods are spread over places of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// By how many pods places may differ. Example: `1`.
    #[schemars(range(min = 1, max = 50))]
    pub max_skew: i32,

    /// The label of nodes that tells the places apart. Example: `topology.kubernetes.io/zone`.
    #[schemars(schema_with = "key")]
    pub topology_key: String,

    /// What becomes of a pod for which there is no such place.
    pub when_unsatisfiable: Unsatisfiable,
}

/// What becomes of a pod for which there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It goes where it is least wrong.
    ScheduleAnyway,
}

/// Near which nodes and pods, or far from which, as Kubernetes has it; nodes are told apart by their
/// labels, pods are those of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// On which nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,

    /// Near which pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<PodAffinity>,

    /// Far from which pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAffinity>,
}

/// On which nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// On no others.
    #[serde(
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub required: Option<NodeSelector>,

    /// Rather there.
    #[serde(
        rename = "preferredDuringSchedulingIgnoredDuringExecution",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 16))]
    pub preferred: Vec<PreferredNodes>,
}

/// Nodes, of which one of the terms holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// The terms.
    #[schemars(length(min = 1, max = 16))]
    pub node_selector_terms: Vec<NodeTerm>,
}

/// Nodes, of which all expressions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerm {
    /// The expressions. Example: `[{key: kubernetes.io/arch, operator: In, values: [amd64]}]`.
    #[schemars(length(min = 1, max = 16))]
    pub match_expressions: Vec<NodeExpression>,
}

/// Nodes that are rather taken, and how much rather.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodes {
    /// How much. Example: `50`.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// Which nodes.
    pub preference: NodeTerm,
}

/// What a label of nodes must be like.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(self.operator in ['Exists', 'DoesNotExist']) == (!has(self.values) || size(self.values) == 0)", "operators In, NotIn, Gt and Lt have values, Exists and DoesNotExist have none")
)]
pub struct NodeExpression {
    /// The label. Example: `kubernetes.io/arch`.
    #[schemars(schema_with = "key")]
    pub key: String,

    /// How it is compared.
    pub operator: NodeOperator,

    /// With what. Example: `[amd64]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "values")]
    pub values: Vec<String>,
}

/// How a label of nodes is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// It is one of the values.
    In,
    /// It is none of them, or there is no such label.
    NotIn,
    /// There is such a label.
    Exists,
    /// There is none.
    DoesNotExist,
    /// It is a number greater than the value.
    Gt,
    /// It is a number less than the value.
    Lt,
}

/// Near which pods, or far from which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinity {
    /// Nowhere else.
    #[serde(
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 16))]
    pub required: Vec<PodTerm>,

    /// Rather there.
    #[serde(
        rename = "preferredDuringSchedulingIgnoredDuringExecution",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 16))]
    pub preferred: Vec<PreferredPods>,
}

/// Pods that are rather near or far, and how much rather.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredPods {
    /// How much. Example: `50`.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// Which pods.
    pub pod_affinity_term: PodTerm,
}

/// Pods of the namespace, and what counts as near.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTerm {
    /// Which pods.
    pub label_selector: PodLabels,

    /// The label of nodes that those near each other share. Example: `kubernetes.io/hostname`.
    #[schemars(schema_with = "key")]
    pub topology_key: String,
}

/// Labels of pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodLabels {
    /// All of them. Example: `{app: cache}`.
    #[schemars(schema_with = "super::template::labels")]
    pub match_labels: BTreeMap<String, String>,
}

fn key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 316,
        "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    })
}

fn values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32, "items": {"type": "string", "maxLength": 63},
    })
}

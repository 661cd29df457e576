//! A node that only pretends, for tests that want pods to turn Ready without running them.

use anyhow::Result;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
    core::v1::{Node, NodeCondition, Pod},
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, from_value, json};

use super::apply;

const NODE: &str = "kwok";

/// What kwok does with pods.
pub const STAGES: &str = include_str!("kwok.yaml");

/// Makes the node, and a policy that puts every new pod on it: that spares a scheduler.
pub async fn prepare(client: &Client) -> Result<()> {
    let name = "zenop-cluster-kwok";
    apply::<Node>(client, NODE, node()).await?;
    apply::<MutatingAdmissionPolicy>(client, name, policy()).await?;
    let binding = json!({ "metadata": {}, "spec": { "policyName": name } });
    apply::<MutatingAdmissionPolicyBinding>(client, name, binding).await
}

/// Whether kwok has taken the node, and new pods are put on it. Those that came before would be Pending for ever.
pub async fn takes_pods(client: &Client) -> bool {
    let Ok(node) = Api::<Node>::all(client.clone()).get(NODE).await else {
        return false;
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready =
        |condition: &NodeCondition| condition.type_ == "Ready" && condition.status == "True";
    conditions.iter().any(ready) && is_bound(client).await.unwrap_or(false)
}

/// The API server takes a moment to learn of a new policy: try it on a pod that is never made.
async fn is_bound(client: &Client) -> Result<bool> {
    let pod = json!({
        "metadata": { "name": "probe" },
        "spec": { "containers": [{ "name": "probe", "image": "probe" }] },
    });
    let params = PostParams {
        dry_run: true,
        ..Default::default()
    };
    let made = Api::<Pod>::default_namespaced(client.clone())
        .create(&params, &from_value(pod)?)
        .await?;
    Ok(made.spec.is_some_and(|spec| spec.node_name.is_some()))
}

fn node() -> Value {
    let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "10000" });
    json!({
        "metadata": { "labels": { "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux" } },
        "status": {
            "allocatable": room,
            "capacity": room,
        },
    })
}

fn policy() -> Value {
    json!({
        "metadata": {},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [
                { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] },
            ] },
            "matchConditions": [{ "name": "unbound", "expression": "!has(object.spec.nodeName)" }],
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": { "expression": format!("Object{{spec: Object.spec{{nodeName: '{NODE}'}}}}") },
            }],
        },
    })
}

//! Kinds of others, with as much of a schema as it takes.

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{Patch, PatchParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{from_value, json};
use tokio::time::timeout;
use zenop::api::{Certificate, HTTPRoute};

use super::PATIENCE;

/// Installs the kind of the Gateway API's routes.
pub async fn install_routes(client: &Client) -> Result<()> {
    install(client, HTTPRoute::crd()).await
}

/// Installs the kind by which cert-manager is asked.
pub async fn install_certificates(client: &Client) -> Result<()> {
    install(client, Certificate::crd()).await
}

async fn install(client: &Client, mut crd: CustomResourceDefinition) -> Result<()> {
    let name = crd.name_any();
    for version in &mut crd.spec.versions {
        version.schema = from_value(json!({"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        }}))?;
        version.subresources = from_value(json!({"status": {}}))?;
    }
    // Without it no kind of a group of Kubernetes' own is taken.
    crd.annotations_mut().insert(
        "api-approved.kubernetes.io".into(),
        "unapproved, for a test".into(),
    );
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let (parameters, patch) = (PatchParams::apply("test").force(), Patch::Apply(&crd));
    api.patch(&name, &parameters, &patch).await?;
    let established = await_condition(api, &name, is_crd_established());
    timeout(PATIENCE, established).await??;
    Ok(())
}

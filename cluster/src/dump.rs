//! What is in a namespace, for a person who wants to know why a test failed.

use std::{fmt::Write, time::Duration};

use anyhow::Result;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Event, Pod, Secret},
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Discovery, Resource, ResourceExt,
    api::{DynamicObject, ListParams, ObjectList},
    discovery::Scope,
};
use tokio::time::timeout;

const OURS: &str = "zenop.dev";

/// The namespace's objects of all `zenop.dev` kinds, Deployments, Pods, Secrets (names and keys only) and events.
///
/// It takes at most ten seconds: the API server may be what failed.
pub async fn dump(client: &Client, namespace: &str) -> String {
    let mut out = format!("──── namespace {namespace} ────\n");
    let sections = async {
        section(&mut out, own_kinds(client, namespace).await);
        section(&mut out, deployments(client, namespace).await);
        section(&mut out, pods(client, namespace).await);
        section(&mut out, secrets(client, namespace).await);
        section(&mut out, events(client, namespace).await);
    };
    if timeout(Duration::from_secs(10), sections).await.is_err() {
        out.push_str("… the API server does not answer\n");
    }
    out + "────"
}

fn section(out: &mut String, text: Result<String>) {
    match text {
        Ok(text) => out.push_str(&text),
        Err(error) => {
            let _ = writeln!(out, "cannot be shown: {error:#}");
        }
    }
}

async fn list<K>(client: &Client, namespace: &str) -> Result<ObjectList<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    Ok(Api::<K>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?)
}

/// Whole objects, without what only machines read.
async fn own_kinds(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    let found = Discovery::new(client.clone()).filter(&[OURS]).run().await?;
    for (resource, capabilities) in found
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
    {
        if capabilities.scope != Scope::Namespaced {
            continue;
        }
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        for mut object in api.list(&ListParams::default()).await? {
            object.metadata.managed_fields = None;
            writeln!(
                text,
                "{} {}: {:#}",
                resource.kind,
                object.name_any(),
                serde_json::to_value(&object)?
            )?;
        }
    }
    Ok(text)
}

async fn deployments(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for object in list::<Deployment>(client, namespace).await? {
        let status = object.status.clone().unwrap_or_default();
        let (ready, all) = (
            status.ready_replicas.unwrap_or(0),
            status.replicas.unwrap_or(0),
        );
        writeln!(
            text,
            "Deployment {}: {ready} of {all} ready",
            object.name_any()
        )?;
        for condition in status.conditions.into_iter().flatten() {
            writeln!(text, "  {}", serde_json::to_value(condition)?)?;
        }
    }
    Ok(text)
}

async fn pods(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for object in list::<Pod>(client, namespace).await? {
        let status = object.status.clone().unwrap_or_default();
        writeln!(
            text,
            "Pod {}: {}",
            object.name_any(),
            status.phase.unwrap_or_default()
        )?;
        for container in status.container_statuses.into_iter().flatten() {
            let (ready, restarts) = (container.ready, container.restart_count);
            let state = serde_json::to_value(&container.state)?;
            writeln!(
                text,
                "  {} ready={ready} restarts={restarts} {state}",
                container.name
            )?;
        }
    }
    Ok(text)
}

/// Never a value: this goes to logs.
async fn secrets(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for object in list::<Secret>(client, namespace).await? {
        let keys: Vec<_> = object
            .data
            .iter()
            .flat_map(|data| data.keys())
            .cloned()
            .collect();
        writeln!(text, "Secret {}: {}", object.name_any(), keys.join(", "))?;
    }
    Ok(text)
}

async fn events(client: &Client, namespace: &str) -> Result<String> {
    let mut found = list::<Event>(client, namespace).await?.items;
    found.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    let mut text = String::new();
    for event in found {
        let about = event.involved_object;
        let (kind, name) = (
            about.kind.unwrap_or_default(),
            about.name.unwrap_or_default(),
        );
        let (reason, message) = (
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default(),
        );
        writeln!(text, "Event {kind}/{name} {reason}: {message}")?;
    }
    Ok(text)
}

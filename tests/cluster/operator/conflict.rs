//! What is somebody else's is left alone, said to be in the way, and not in the way any more once it has gone.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service},
};
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenServer, condition, reason};

use crate::support::{
    Site, account, entry, garbage_collector, key, message, says, server, site, stalled, with,
};

fn secret(name: &str, owner: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "ownerReferences": owner},
        "stringData": {"password": "theirs", "ZENML_STORE_API_KEY": "theirs too"},
    })
}

pub(super) async fn untouched(
    site: &Site,
    before: &kube::api::DynamicObject,
    kind: &str,
) -> Result<()> {
    let types = before.types.clone().context("no type")?;
    let resource = crate::support::site::resource(&types.api_version, kind);
    let now = site.dynamic(&resource).get(&before.name_any()).await?;
    ensure!(
        now.metadata.resource_version == before.metadata.resource_version,
        "it was written"
    );
    ensure!(now.data == before.data, "it was changed");
    Ok(())
}

/// K15.
#[tokio::test]
async fn a_foreign_secret_is_left_alone() -> Result<()> {
    site("foreign", async |site| {
        let theirs = site.apply(&secret("main-key", json!([]))).await?;
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let key: ZenAPIKey = site
            .until("main", "Conflict", stalled(reason::CONFLICT))
            .await?;
        ensure!(says(condition::CONFLICT, "True", reason::CONFLICT)(&key));
        let why = message(&key, condition::CONFLICT);
        ensure!(
            why.contains("Secret main-key") && why.contains("secretName"),
            "{why}"
        );
        ensure!(
            key.status.context("no status")?.generations.is_empty(),
            "a key was drawn"
        );
        untouched(site, &theirs, "Secret").await?;

        site.delete::<Secret>("main-key").await?;
        let key = site.key_ready("main", 1).await?;
        ensure!(
            message(&key, condition::CONFLICT).is_empty(),
            "the condition stays"
        );
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn another_name_gets_out_of_the_way_of_a_foreign_secret() -> Result<()> {
    site("foreign-name", async |site| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}});
        let map = site.apply(&map).await?;
        let owner = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "controller": true,
            "uid": map.uid(),
        }]);
        let theirs = site.apply(&secret("main-key", owner)).await?;
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let key: ZenAPIKey = site
            .until("main", "Conflict", stalled(reason::CONFLICT))
            .await?;
        let why = message(&key, condition::CONFLICT);
        ensure!(why.contains("ConfigMap theirs"), "{why}");

        let renamed = with(
            key_with_delivery(),
            "spec.delivery.secretName",
            json!("ours"),
        );
        site.apply(&renamed).await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await?;
        untouched(site, &theirs, "Secret").await?;
        let _: ConfigMap = site.api().get("theirs").await?;
        Ok(())
    })
    .await
}

fn key_with_delivery() -> Value {
    with(key("main"), "spec.delivery", json!({}))
}

#[tokio::test]
async fn a_secret_that_says_it_is_ours_is_not_taken_for_ours() -> Result<()> {
    site("forged", async |site| {
        let owner = |object: &kube::api::DynamicObject| {
            let types = object.types.clone().unwrap_or_default();
            json!([{
                "apiVersion": types.api_version, "kind": types.kind, "name": object.name_any(),
                "uid": object.uid(), "controller": true,
            }])
        };
        let server = site.apply(&server("prod")).await?;
        let key = site.apply(&key("main")).await?;
        let auth = with(
            secret("prod-auth", owner(&server)),
            "stringData",
            json!({
                "pepper": "00".repeat(32), "keyset.json": "{}",
            }),
        );
        let forged_auth = site.apply(&auth).await?;
        let forged_key = site.apply(&secret("main-key", owner(&key))).await?;

        let _operator = site.operator().await?;
        site.apply(&account("ci")).await?;
        site.until::<ZenServer>("prod", "Stalled", stalled(reason::AUTH_SECRET_INVALID))
            .await?;
        untouched(site, &forged_auth, "Secret").await?;
        site.delete::<Secret>("prod-auth").await?;

        site.until::<ZenAPIKey>("main", "Stalled", stalled(reason::STATUS_LOST))
            .await?;
        untouched(site, &forged_key, "Secret").await?;
        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_foreign_service_or_deployment_is_left_alone() -> Result<()> {
    let labels = json!({"app": "theirs"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "prod"},
        "spec": {"selector": labels, "ports": [{"port": 5432}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "prod"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "theirs", "image": "registry.invalid/theirs"}]},
        }},
    });
    site("foreign-service", async |site| {
        left_alone::<Service>(site, &service).await
    })
    .await?;
    site("foreign-deploy", async |site| {
        left_alone::<Deployment>(site, &deployment).await
    })
    .await
}

async fn left_alone<K>(site: &Site, theirs: &Value) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let kind = K::kind(&());
    let mut object = site.apply(theirs).await?;
    // Its controller writes its status once.
    site.quiet_objects().await?;
    object = site
        .dynamic(&crate::support::site::resource(
            &object.types.clone().context("no type")?.api_version,
            &kind,
        ))
        .get("prod")
        .await?;
    let _operator = site.operator().await?;
    site.apply_three().await?;
    let server: ZenServer = site
        .until("prod", "Conflict", stalled(reason::CONFLICT))
        .await?;
    let why = message(&server, condition::CONFLICT);
    ensure!(why.contains(&format!("{kind} prod")), "{why}");
    let secrets = site
        .api::<Secret>()
        .list(&kube::api::ListParams::default())
        .await?;
    ensure!(
        secrets.items.is_empty(),
        "something was made for a server that cannot be"
    );
    untouched(site, &object, &kind).await?;

    site.delete::<K>("prod").await?;
    site.key_ready("main", 1).await?;
    site.check_delivered("main", 1).await.map(drop)
}

/// K21.
#[tokio::test]
async fn of_two_keys_of_one_secret_the_second_waits() -> Result<()> {
    garbage_collector().await?;
    site("same-secret", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        let second = with(
            key("second"),
            "spec.delivery",
            json!({"secretName": "main-key"}),
        );
        site.apply(&second).await?;
        let second: ZenAPIKey = site
            .until("second", "Conflict", stalled(reason::CONFLICT))
            .await?;
        let why = message(&second, condition::CONFLICT);
        ensure!(why.contains("ZenAPIKey main"), "{why}");
        ensure!(site.check_delivered("main", 1).await? == text);

        site.delete::<ZenAPIKey>("main").await?;
        site.key_ready("second", 1).await?;
        let secret: Secret = site.api().get("main-key").await?;
        ensure!(
            entry(&secret, "ZENML_STORE_API_KEY") != Some(text),
            "it got the other's key"
        );
        site.check_delivered("second", 1).await.map(drop)
    })
    .await
}

//! The control plane: it starts, it is a real Kubernetes, and it survives its API server.

use std::{env::current_exe, panic::AssertUnwindSafe, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authorization::v1::SelfSubjectAccessReview,
        core::v1::{ConfigMap, Namespace, Secret},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::wait::{
        await_condition,
        conditions::{is_deleted, is_deployment_completed},
    },
};
use serde_json::{Value, from_value, json};
use tokio::time::{Instant, timeout};
use zenop_cluster::{
    ControlPlane, Options, TestNamespace, client_from, dump, shared, with_namespace,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn secret(name: &str) -> Result<Secret> {
    Ok(from_value(
        json!({ "metadata": { "name": name }, "stringData": { "key": "value" } }),
    )?)
}

#[tokio::test]
async fn it_answers_as_the_version_that_was_built() -> Result<()> {
    let version = shared().await?.client().await?.apiserver_version().await?;
    assert_eq!(version.git_version, "v1.37.2");
    Ok(())
}

#[tokio::test]
async fn a_namespace_takes_a_secret_and_the_audit_log_tells() -> Result<()> {
    with_namespace("audit", async |ns| {
        ns.api::<Secret>()
            .create(&PostParams::default(), &secret("told")?)
            .await?;
        let told = |event: &Value| {
            event["verb"] == "create"
                && event["objectRef"]["namespace"] == ns.name()
                && event["objectRef"]["name"] == "told"
        };
        let events = shared().await?.audit_events().await?;
        assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_an_owner_owned_goes_with_it() -> Result<()> {
    with_namespace("gc", async |ns| {
        let owner = json!({ "metadata": { "name": "owner" } });
        let owner = ns
            .api::<ConfigMap>()
            .create(&PostParams::default(), &from_value(owner)?)
            .await?;
        let mut child = secret("child")?;
        let reference: OwnerReference = owner.controller_owner_ref(&()).context("no reference")?;
        child.owner_references_mut().push(reference);
        let child = ns
            .api::<Secret>()
            .create(&PostParams::default(), &child)
            .await?;
        ns.api::<ConfigMap>()
            .delete("owner", &DeleteParams::background())
            .await?;
        let uid = child.uid().context("no uid")?;
        timeout(
            PATIENCE,
            await_condition(ns.api::<Secret>(), "child", is_deleted(&uid)),
        )
        .await??;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_service_account_may_do_no_more_than_its_rights() -> Result<()> {
    with_namespace("account", async |ns| {
        let plane = shared().await?;
        let file = plane
            .kubeconfig_for_service_account(ns.name(), "default", None)
            .await?;
        let client = client_from(&file).await?;
        let ask = json!({ "spec": { "resourceAttributes": {
            "verb": "list", "resource": "secrets", "namespace": ns.name(),
        } } });
        let reviews = Api::<SelfSubjectAccessReview>::all(client);
        let answer = reviews
            .create(&PostParams::default(), &from_value(ask)?)
            .await?;
        assert!(!answer.status.context("no status")?.allowed);
        Ok(())
    })
    .await
}

async fn await_deletion(client: Client, namespace: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client);
    let gone = |namespace: Option<&Namespace>| {
        namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    };
    timeout(PATIENCE, await_condition(namespaces, namespace, gone)).await??;
    Ok(())
}

#[tokio::test]
async fn a_failing_test_still_loses_its_namespace() -> Result<()> {
    let mut name = String::new();
    let told = with_namespace("failing", async |ns| {
        ns.name().clone_into(&mut name);
        bail!("on purpose")
    });
    assert_eq!(told.await.unwrap_err().to_string(), "on purpose");
    await_deletion(shared().await?.client().await?, &name).await
}

#[tokio::test]
async fn so_does_one_that_panics() -> Result<()> {
    let mut name = String::new();
    let told = with_namespace("panicking", async |ns| {
        ns.name().clone_into(&mut name);
        panic!("on purpose")
    });
    let panicked = AssertUnwindSafe(told).catch_unwind().await.unwrap_err();
    assert_eq!(
        panicked.downcast_ref(),
        Some(&"on purpose"),
        "another panic came out"
    );
    await_deletion(shared().await?.client().await?, &name).await
}

#[tokio::test]
async fn and_one_that_only_lets_go() -> Result<()> {
    let client = shared().await?.client().await?;
    let namespace = TestNamespace::create(&client, "dropped").await?;
    let name = namespace.name().to_owned();
    drop(namespace);
    await_deletion(client, &name).await
}

#[tokio::test]
async fn an_existing_cluster_is_used_where_the_environment_says_so() -> Result<()> {
    let plane = ControlPlane::start(Options {
        audit: true,
        ..Options::default()
    })
    .await?;
    let status = Command::new(current_exe()?)
        .args([
            "--exact",
            "what_an_owner_owned_goes_with_it",
            "a_service_account_may_do_no_more_than_its_rights",
        ])
        .env("ZENOP_TEST_KUBECONFIG", plane.kubeconfig())
        .status()?;
    ensure!(status.success(), "the tests failed on an existing cluster");
    // The server makes some too, but as itself.
    let made = |event: &Value| {
        let by_admin = event["user"]["username"] == "admin";
        by_admin && event["verb"] == "create" && event["objectRef"]["resource"] == "namespaces"
    };
    let events = plane.audit_events().await?;
    let made = events.iter().filter(|event| made(event)).count();
    assert_eq!(made, 2, "namespaces that the tests made there");
    let tests = ListParams::default().labels("zenop-cluster/test=gc");
    let left = Api::<Namespace>::all(plane.client().await?)
        .list(&tests)
        .await?;
    let being_deleted = left
        .iter()
        .all(|namespace| namespace.metadata.deletion_timestamp.is_some());
    ensure!(
        being_deleted,
        "a test left its namespace to somebody else's cluster"
    );

    let existing = ControlPlane::existing(plane.kubeconfig())?;
    assert_eq!(
        (existing.server_url(), existing.ca_pem()),
        (plane.server_url(), plane.ca_pem())
    );
    let refused = existing.restart_apiserver().await.unwrap_err().to_string();
    ensure!(
        refused.contains("ZENOP_TEST_KUBECONFIG"),
        "refused without a hint: {refused}"
    );
    Ok(())
}

#[tokio::test]
async fn the_api_server_comes_back_with_its_data_and_can_be_frozen() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let secrets = Api::<Secret>::default_namespaced(plane.client().await?);
    secrets
        .create(&PostParams::default(), &secret("kept")?)
        .await?;

    plane.stop_apiserver().await?;
    assert!(
        secrets.get("kept").await.is_err(),
        "a stopped server answered"
    );
    plane.start_apiserver().await?;
    secrets.get("kept").await?;
    plane.restart_apiserver().await?;
    secrets.get("kept").await?;

    plane.pause_apiserver().await?;
    let unanswered = timeout(Duration::from_millis(500), secrets.get("kept")).await;
    assert!(
        unanswered.is_err(),
        "a frozen server answered: {unanswered:?}"
    );
    plane.resume_apiserver().await?;
    timeout(PATIENCE, secrets.get("kept")).await??;
    Ok(())
}

#[tokio::test]
async fn with_kwok_a_deployment_becomes_available() -> Result<()> {
    let plane = ControlPlane::start(Options {
        kwok: true,
        ..Options::default()
    })
    .await?;
    let client = plane.client().await?;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let labels = json!({ "app": "idle" });
    let deployment = json!({
        "metadata": { "name": "idle" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "idle", "image": "none.invalid/idle:1" }] },
            },
        },
    });
    let started = Instant::now();
    deployments
        .create(&PostParams::default(), &from_value(deployment)?)
        .await?;
    let completed = await_condition(deployments, "idle", is_deployment_completed());
    if timeout(PATIENCE, completed).await.is_err() {
        bail!(
            "it did not become available\n{}",
            dump(&client, "default").await
        );
    }
    eprintln!("two pods Ready in {:?}", started.elapsed());
    Ok(())
}

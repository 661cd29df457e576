//! features.md F21: another release of the operator restarts no server unless its author wants it to.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenServer, annotation, condition, reason};

use crate::support::{Operator, Site, message, says, server, site, with, with_mysql};

const FIRST: &str = "registry.invalid/zenop:test";
const NEXT: &str = "registry.invalid/zenop:next";

/// What the container of a server's pods is to run.
fn runs(deployment: &Deployment, container: &str) -> Option<String> {
    let spec = deployment.spec.template.spec.as_ref()?;
    let one = spec.containers.iter().find(|one| one.name == container)?;
    one.image.clone()
}

/// What the pods are like: another one makes them anew.
fn pods(deployment: &Deployment) -> Result<Value> {
    Ok(serde_json::to_value(&deployment.spec.template)?)
}

async fn deployment(site: &Site, server: &str, image: &str) -> Result<Deployment> {
    let of = |it: &Deployment| runs(it, "sidecar").as_deref() == Some(image);
    site.until(server, "of that release", of).await
}

/// The operator of the next release.
async fn next(site: &Site) -> Result<Operator> {
    let mut launch = site.launch();
    launch.image = NEXT.to_owned();
    let operator = site.start(&launch)?;
    operator.leads().await?;
    Ok(operator)
}

fn of_policy(name: &str, policy: &str) -> Value {
    with(server(name), "spec.update", json!({"policy": policy}))
}

async fn held(site: &Site, name: &str) -> Result<ZenServer> {
    let held = says::<ZenServer>(condition::UPDATE_AVAILABLE, "True", reason::HELD_BACK);
    site.until(name, "held back", held).await
}

#[tokio::test]
async fn f21_another_release_restarts_who_wants_it() -> Result<()> {
    site("releases", async |site| {
        let operator = site.operator().await?;
        let [patient, eager] = [
            of_policy("patient", "OnSpecChange"),
            of_policy("eager", "Always"),
        ];
        let patient = with(patient, "spec.replicas", json!(2));
        site.apply(&patient).await?;
        site.apply(&eager).await?;
        let before = deployment(site, "patient", FIRST).await?;
        deployment(site, "eager", FIRST).await?;
        site.settled().await?;
        operator.crash().await?;

        let _next = next(site).await?;
        deployment(site, "eager", NEXT).await?;
        let told = held(site, "patient").await?;
        let said = message(&told, condition::UPDATE_AVAILABLE);
        ensure!(said.contains("update.trigger"), "{said}");
        site.settled().await?;
        let after = site.api::<Deployment>().get("patient").await?;
        ensure!(pods(&after)? == pods(&before)?, "its pods are made anew");
        let of = |it: &ZenServer| {
            it.status
                .as_ref()
                .and_then(|it| it.template_revision.clone())
        };
        let pinned = of(&told).context("no revision")?;

        // How many there are says nothing of what they are like.
        site.apply(&with(patient.clone(), "spec.replicas", json!(3)))
            .await?;
        let three = |it: &Deployment| it.spec.replicas == Some(3);
        let scaled = site.until("patient", "scaled", three).await?;
        ensure!(
            runs(&scaled, "sidecar").as_deref() == Some(FIRST),
            "scaling changed the release"
        );

        // What somebody else changed comes back as it was, not as this release would have it.
        let hand = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 20}}}});
        let api = site.api::<Deployment>();
        api.patch("patient", &PatchParams::default(), &Patch::Strategic(&hand))
            .await?;
        let grace = |it: &Deployment| {
            let spec = it.spec.template.spec.as_ref();
            spec.and_then(|spec| spec.termination_grace_period_seconds) == Some(30)
        };
        let mended = site.until("patient", "as it was", grace).await?;
        ensure!(
            runs(&mended, "sidecar").as_deref() == Some(FIRST),
            "mending changed the release"
        );

        // What a sidecar sees for itself is no reason either.
        let longer = with(patient.clone(), "spec.auth.tokenTTL", json!("2h"));
        site.apply(&longer).await?;
        site.settled().await?;
        deployment(site, "patient", FIRST).await?;

        let asked = with(longer, "spec.update.trigger", json!("now"));
        site.apply(&asked).await?;
        deployment(site, "patient", NEXT).await?;
        let told = |it: &ZenServer| {
            of(it).is_some_and(|of| of != pinned)
                && message(it, condition::UPDATE_AVAILABLE).is_empty()
        };
        site.until("patient", "up to date", told).await?;
        site.settled().await?;
        site.no_write(std::time::Duration::from_secs(2)).await
    })
    .await
}

#[tokio::test]
async fn f21_a_template_that_somebody_else_wrote_is_not_taken_for_ours() -> Result<()> {
    site("forged", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let made = deployment(site, "prod", FIRST).await?;
        site.settled().await?;
        let text = made
            .annotations()
            .get(annotation::REVISION)
            .context("no revision")?;
        let forged = text.replace(FIRST, "registry.invalid/theirs:1");
        let forged = json!({"metadata": {"annotations": {annotation::REVISION: forged}}});
        let api = site.api::<Deployment>();
        api.patch("prod", &PatchParams::default(), &Patch::Merge(&forged))
            .await?;
        let is_ours = |it: &Deployment| it.annotations().get(annotation::REVISION) == Some(text);
        let after = site.until("prod", "mended", is_ours).await?;
        ensure!(pods(&after)? == pods(&made)?, "its pods were made anew");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn f21_by_hand_neither_pods_nor_database_change_before_they_are_told_to() -> Result<()> {
    site("by-hand", async |site| {
        let operator = site.operator().await?;
        let of = |release: &str, trigger: &str| {
            let server = with_mysql(server("prod"), "{{db.password}}");
            let server = with(
                server,
                "spec.image",
                json!(format!("zenml-server:{release}")),
            );
            with(
                server,
                "spec.update",
                json!({"policy": "Manual", "trigger": trigger}),
            )
        };
        let login = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret", "metadata": {"name": "db"},
            "spec": {"serverRef": {"name": "prod"}, "data": [{"key": "password", "generate": {}}]},
        });
        site.apply(&login).await?;
        site.apply(&of("1", "a")).await?;
        let report = json!({"begun": true, "from": null, "to": "0.1"});
        site.migrates("prod", 0, report.clone()).await?;
        let made = deployment(site, "prod", FIRST).await?;
        site.settled().await?;
        operator.crash().await?;

        // Neither a release of the operator, nor one of ZenML.
        let _next = next(site).await?;
        held(site, "prod").await?;
        site.apply(&of("2", "a")).await?;
        let says_so = |it: &ZenServer| {
            let waits =
                says::<ZenServer>(condition::MIGRATION_SUCCEEDED, "True", reason::HELD_BACK);
            waits(it) && message(it, condition::UPDATE_AVAILABLE).contains("update.trigger")
        };
        site.until("prod", "held back", says_so).await?;
        site.settled().await?;
        let after = site.api::<Deployment>().get("prod").await?;
        ensure!(pods(&after)? == pods(&made)?, "its pods are made anew");
        let jobs = site
            .api::<Job>()
            .list(&kube::api::ListParams::default())
            .await?;
        let of_next =
            |job: &Job| serde_json::to_string(job).is_ok_and(|it| it.contains("zenml-server:2"));
        ensure!(
            !jobs.iter().any(of_next),
            "a migration that nobody asked for"
        );

        site.apply(&of("2", "b")).await?;
        site.migrates("prod", 0, report).await?;
        let both = |it: &Deployment| {
            runs(it, "sidecar").as_deref() == Some(NEXT)
                && runs(it, "zenml").as_deref() == Some("zenml-server:2")
        };
        site.until("prod", "as told", both).await?;
        let is_over = |it: &ZenServer| message(it, condition::UPDATE_AVAILABLE).is_empty();
        site.until("prod", "up to date", is_over).await.map(drop)
    })
    .await
}

//! Objects that change or go while they are worked on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::json;
use tokio::time::timeout;
use zenop::api::{ZenAPIKey, ZenServer};
use zenop_cluster::fault::{Action, Match, Rule, Verb, When};

use crate::support::{PATIENCE, garbage_collector, key, server, site, with};

#[tokio::test]
async fn a_key_edited_while_it_is_made_is_made_once_and_as_edited() -> Result<()> {
    let steps = [
        Match::verb(Verb::Patch)
            .on("zenapikeys/status")
            .named("main")
            .nth(1),
        Match::verb(Verb::Create).on("secrets").named("main-key"),
        Match::verb(Verb::Patch)
            .on("zenapikeys/status")
            .named("main")
            .nth(2),
    ];
    for (step, when) in steps
        .iter()
        .flat_map(|s| [(s, When::Before), (s, When::After)])
    {
        site("edited", async |site| {
            let hang = site.proxy.add(Rule::once(step.clone(), when, Action::Hang));
            let _operator = site.operator().await?;
            site.apply_three().await?;
            hang.acted(1, PATIENCE).await?;
            let edited = with(key("main"), "spec.description", json!("edited"));
            let edited = site.apply(&edited).await?;
            ensure!(edited.metadata.generation == Some(2));
            hang.release();
            // Ready here means: for generation 2 of the object.
            site.key_ready("main", 1).await?;
            site.quiet(Duration::from_millis(300)).await?;
            site.check_delivered("main", 1).await.map(drop)
        })
        .await
        .with_context(|| format!("{when:?} {step:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_deleted_while_it_is_made_leaves_nothing() -> Result<()> {
    garbage_collector().await?;
    site("deleted", async |site| {
        let step = Match::verb(Verb::Create).on("secrets").named("main-key");
        let hang = site.proxy.add(Rule::once(step, When::Before, Action::Hang));
        let _operator = site.operator().await?;
        site.apply_three().await?;
        hang.acted(1, PATIENCE).await?;
        let key: ZenAPIKey = site.api().get("main").await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &key.uid().context("no uid")?)
            .await?;
        hang.release();
        // It is made, for an owner that is not there; the garbage collector sees to it.
        let gone = async {
            loop {
                site.quiet(Duration::from_millis(300)).await?;
                if site.api::<Secret>().get_opt("main-key").await?.is_none() {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(PATIENCE, gone).await.context("the Secret stays")?
    })
    .await
}

#[tokio::test]
async fn a_server_edited_while_it_is_made_ends_as_edited() -> Result<()> {
    site("server-edit", async |site| {
        let step = Match::verb(Verb::Create).on("services").named("prod");
        let hang = site.proxy.add(Rule::once(step, When::Before, Action::Hang));
        let _operator = site.operator().await?;
        site.apply_three().await?;
        hang.acted(1, PATIENCE).await?;
        let mut edited = server("prod");
        edited["spec"] = json!({"url": "https://edited.example.org"});
        site.apply(&edited).await?;
        hang.release();
        let is = |server: &ZenServer| {
            let status = server.status.as_ref();
            status.and_then(|s| s.url.as_deref()) == Some("https://edited.example.org")
                && status.map(|s| s.observed_generation) == Some(2)
        };
        site.until("prod", "as edited", is).await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_secret_goes_with_its_key() -> Result<()> {
    garbage_collector().await?;
    site("gc", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let key = site.key_ready("main", 1).await?;
        ensure!(
            key.finalizers().is_empty(),
            "a finalizer may hold up a deletion"
        );
        let secret: Secret = site.api().get("main-key").await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<Secret>("main-key", &secret.uid().context("no uid")?)
            .await
    })
    .await
}

#[tokio::test]
async fn a_namespace_goes_though_nobody_works_there() -> Result<()> {
    site("namespace", async |site| {
        let operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        operator.crash().await?;
        let namespaces = Api::<Namespace>::all(site.ns.client().clone());
        let namespace = namespaces.get(site.name()).await?;
        namespaces
            .delete(site.name(), &DeleteParams::background())
            .await?;
        let uid = namespace.uid().context("no uid")?;
        let deleted = kube::runtime::wait::conditions::is_deleted(&uid);
        let gone = kube::runtime::wait::await_condition(namespaces, site.name(), deleted);
        // Seconds, but the controller that does it has the namespaces of all other tests too.
        timeout(Duration::from_secs(120), gone)
            .await
            .context("it does not go")??;
        Ok(())
    })
    .await
}

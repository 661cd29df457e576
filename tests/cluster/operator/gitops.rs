//! A tool that applies the same manifests again and again, with its own marks, changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount};

use crate::support::{Site, account, key, server, site, with};

/// What is in Git, with one trigger.
fn manifests(trigger: &str) -> Vec<Value> {
    let window = json!([{"start": "00:00", "end": "23:59"}, {"start": "23:58", "end": "00:01"}]);
    let rotation = json!({
        "interval": "720h", "trigger": trigger, "windows": window, "retirement": "WhenUnused",
        "consumers": [{"kind": "Deployment", "name": "nobody"}],
    });
    let main = with(key("main"), "spec.rotation", rotation);
    let template = json!({"includePrevious": true, "data": {"env": "A={{key}}"}});
    let main = with(main, "spec.delivery", json!({"secretTemplate": template}));
    let policy = json!({"policy": {"keys": {"defaultTTL": "8760h", "maxPerAccount": 5}}});
    let mut all = vec![
        with(server("prod"), "spec", policy),
        account("ci"),
        main,
        super::given::verifier("hash", &super::given::made(9, 1)),
    ];
    for object in &mut all {
        object["metadata"]["labels"] = json!({"argocd.argoproj.io/instance": "ml"});
        let id = json!({"argocd.argoproj.io/tracking-id": "ml:zenop"});
        object["metadata"]["annotations"] = id;
    }
    all
}

async fn sync(site: &Site, trigger: &str) -> Result<()> {
    for object in manifests(trigger) {
        site.apply_as("argocd-controller", &object).await?;
    }
    Ok(())
}

/// Somebody marks the objects, and the tool takes the marks away: as a merge, whoever's they are.
async fn heal(site: &Site, round: usize) -> Result<()> {
    for mark in [json!(round.to_string()), Value::Null] {
        let patch = json!({"metadata": {
            "labels": {"somebody.example.org/a": mark},
            "annotations": {"somebody.example.org/b": mark, "kubectl.kubernetes.io/last-applied-configuration": mark},
        }});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        site.api::<ZenServer>()
            .patch("prod", &parameters, &patch)
            .await?;
        site.api::<ZenServiceAccount>()
            .patch("ci", &parameters, &patch)
            .await?;
        for name in ["main", "hash"] {
            site.api::<ZenAPIKey>()
                .patch(name, &parameters, &patch)
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_same_manifests_change_nothing_and_a_trigger_rotates_once() -> Result<()> {
    site("gitops", async |site| {
        let _operator = site.operator().await?;
        for (generation, trigger) in [(1, "2026-11"), (2, "2026-12"), (3, "2027-01")] {
            sync(site, trigger).await?;
            site.key_ready("main", generation).await?;
            site.key_ready("hash", 1).await?;
            site.settled().await?;
            let text = site.check_delivered("main", generation).await?;
            let before: ZenAPIKey = site.api().get("main").await?;
            let mark = site.proxy.mark();
            for round in 0..3 {
                sync(site, trigger).await?;
                heal(site, round).await?;
            }
            site.settled().await?;
            site.no_write(Duration::from_secs(1)).await?;
            let writes = site
                .proxy
                .since(mark, &zenop_cluster::fault::Match::writes());
            ensure!(writes.is_empty(), "written after {trigger}: {writes:?}");
            let after: ZenAPIKey = site.api().get("main").await?;
            ensure!(before.status == after.status && before.spec == after.spec);
            ensure!(site.check_delivered("main", generation).await? == text);
        }
        Ok(())
    })
    .await
}

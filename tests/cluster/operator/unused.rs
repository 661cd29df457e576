//! `WhenUnused`: an old key that is in use stays; last uses are those that the sidecar writes.

use anyhow::{Result, ensure};
use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use zenop::{api::ZenAPIKey, runtime::clock::now};

use crate::support::{Site, accepted, key, ready, site, with};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// As the sidecar says that a generation was used so long ago.
async fn used(site: &Site, generation: i64, ago: SignedDuration) -> Result<()> {
    let at = json!((now() - ago).to_string());
    let body = json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "metadata": {"name": "main"},
        "status": {
            "usage": [{"generation": generation, "lastUsedTime": at}],
            "lastUsedTime": at,
        },
    });
    let parameters = PatchParams::apply("zenop-sidecar").force();
    let api = site.api::<ZenAPIKey>();
    api.patch_status("main", &parameters, &Patch::Apply(body))
        .await?;
    Ok(())
}

async fn left(site: &Site, generations: &[i64]) -> Result<ZenAPIKey> {
    let is = |key: &ZenAPIKey| ready(key) && accepted(key) == generations;
    site.until("main", &format!("with generations {generations:?}"), is)
        .await
}

/// Generation 2 replaced generation 1, which stays for at least a minute and at most two hours.
async fn replaced(site: &Site) -> Result<()> {
    let rotating = |trigger: &str| {
        let rotation = json!({
            "trigger": trigger, "retainFor": "1m", "retirement": "WhenUnused", "idleFor": "10m",
            "maxRetain": "2h",
        });
        with(key("main"), "spec.rotation", rotation)
    };
    site.apply_with(&rotating("a")).await?;
    site.key_ready("main", 1).await?;
    site.apply(&rotating("b")).await?;
    site.key_ready("main", 2).await?;
    site.settled().await
}

#[tokio::test]
async fn an_old_key_stays_while_it_is_used_and_then_goes() -> Result<()> {
    site("unused", async |site| {
        let _operator = site.operator().await?;
        replaced(site).await?;
        used(site, 1, MINUTE).await?;
        site.age("main", MINUTE * 30).await?;
        site.settled().await?;
        left(site, &[1, 2]).await?;
        // The new one is used; that says nothing about the old one.
        used(site, 2, SignedDuration::ZERO).await?;
        used(site, 1, MINUTE * 9).await?;
        site.age("main", MINUTE).await?;
        site.settled().await?;
        let key = left(site, &[1, 2]).await?;
        let last = key.status.and_then(|status| status.last_used_time);
        ensure!(last.is_some(), "the sidecar's word was lost");

        used(site, 1, MINUTE * 11).await?;
        site.age("main", MINUTE).await?;
        left(site, &[2]).await?;
        site.settled().await?;
        site.check_delivered("main", 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn an_old_key_that_nobody_uses_goes_and_one_in_use_not_after_its_cap() -> Result<()> {
    site("never-used", async |site| {
        let _operator = site.operator().await?;
        replaced(site).await?;
        site.age("main", MINUTE * 9).await?;
        site.settled().await?;
        left(site, &[1, 2]).await?;
        site.age("main", MINUTE * 2).await?;
        left(site, &[2]).await.map(drop)
    })
    .await?;
    site("cap", async |site| {
        let _operator = site.operator().await?;
        replaced(site).await?;
        used(site, 1, SignedDuration::ZERO).await?;
        site.age("main", MINUTE * 119).await?;
        site.settled().await?;
        left(site, &[1, 2]).await?;
        site.age("main", MINUTE * 2).await?;
        left(site, &[2]).await.map(drop)
    })
    .await
}

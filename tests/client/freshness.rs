//! A sidecar that cannot show that its view is fresh refuses, and heals by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use zenop_cluster::{ControlPlane, Options};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    support::{site, site::install, site::site_on},
};

/// Other tests run beside this one: what a machine that has time keeps at the 5 s that the schema allows, one that has
/// none keeps at this.
const STALENESS: Duration = Duration::from_secs(15);

/// attacks.md K05, features.md L6.
#[tokio::test]
async fn k05_cut_off_it_refuses_and_turns_unready_and_comes_back() -> Result<()> {
    let plane: &'static ControlPlane =
        Box::leak(Box::new(ControlPlane::start(Options::default()).await?));
    install(&plane.client().await?).await?;
    site_on(plane, "stale", async |site| {
        let address = free_address()?;
        let operator = set_up(site, address, &[("spec.auth.maxStaleness", json!("15s"))]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let token = sidecar.token(&delivered(site, "main-key").await?).await?;
        operator.crash().await?;

        // Nothing happens for longer than the view may be old, and it is known to be fresh.
        let quiet = Instant::now();
        while quiet.elapsed() < 2 * STALENESS {
            let answer = sidecar.me(&token).await?;
            ensure!(
                answer.status == 200,
                "after {:?} of silence: {answer:?}",
                quiet.elapsed()
            );
        }

        plane.pause_apiserver().await?;
        let paused = Instant::now();
        let refuses = async || {
            sidecar
                .me(&token)
                .await
                .is_ok_and(|answer| answer.status == 503)
        };
        sidecar.until("stale", refuses).await?;
        let after = paused.elapsed();
        println!("cut off: refused after {} ms", after.as_millis());
        ensure!(sidecar.get("/ready", None).await?.status == 503);
        plane.resume_apiserver().await?;
        sidecar.becomes_ready().await?;
        ensure!(sidecar.me(&token).await?.status == 200);

        plane.restart_apiserver().await?;
        sidecar.becomes_ready().await?;
        ensure!(sidecar.me(&token).await?.status == 200);
        Ok(())
    })
    .await
}

/// attacks.md K20: no pepper, no fallback.
#[tokio::test]
async fn k20_without_the_auth_secret_that_the_operator_made_nothing_is_accepted() -> Result<()> {
    site("pepper", async |site| {
        let address = free_address()?;
        let operator = set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let key = delivered(site, "main-key").await?;
        sidecar.token(&key).await?;
        operator.crash().await?;

        let secrets = site.api::<Secret>();
        let kept = secrets.get("prod-auth").await?;
        let weak = json!({"stringData": {"pepper": "00".repeat(32)}});
        secrets
            .patch("prod-auth", &PatchParams::default(), &Patch::Merge(&weak))
            .await?;
        let refuses = async || {
            sidecar
                .login(&key)
                .await
                .is_ok_and(|answer| answer.status == 503)
        };
        sidecar.until("unready", refuses).await?;
        ensure!(sidecar.get("/ready", None).await?.status == 503);

        let restored = json!({"data": kept.data.context("data")?});
        secrets
            .patch(
                "prod-auth",
                &PatchParams::default(),
                &Patch::Merge(&restored),
            )
            .await?;
        sidecar.becomes_ready().await?;
        sidecar.token(&key).await?;
        Ok(())
    })
    .await
}

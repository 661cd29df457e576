//! What is taken back is refused by every replica, tokens already issued included.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use zenop::api::{UsedFrom, ZenAPIKey, ZenServiceAccount, annotation};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    support::{PATIENCE, Site, account, key, site, with},
};

/// It says where its metrics are.
const LOG: &str = "error,kube_client=off,zenop::runtime::admin=info";

/// Two replicas, a key, and a token of each that both accept.
struct Scene {
    replicas: [Sidecar; 2],
    key: String,
    tokens: [String; 2],
}

async fn scene(site: &Site) -> Result<Scene> {
    let addresses = [free_address()?, free_address()?];
    let replicas = [
        Sidecar::start_with(site, addresses[0], LOG).await?,
        Sidecar::start_with(site, addresses[1], LOG).await?,
    ];
    let key = delivered(site, "main-key").await?;
    let tokens = [
        replicas[0].token(&key).await?,
        replicas[1].token(&key).await?,
    ];
    let scene = Scene {
        replicas,
        key,
        tokens,
    };
    scene.answer(200).await?;
    Ok(scene)
}

impl Scene {
    /// Waits until both replicas answer both tokens so, and the key at login too.
    async fn answer(&self, status: u16) -> Result<()> {
        for replica in &self.replicas {
            for token in &self.tokens {
                self.becomes(async || Ok(replica.me(token).await?.status == status))
                    .await?;
            }
            self.becomes(async || Ok(replica.login(&self.key).await?.status == status))
                .await?;
        }
        Ok(())
    }

    async fn becomes(&self, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
        timeout(PATIENCE, async {
            while !holds().await? {}
            Ok(())
        })
        .await?
    }
}

/// Applies, and waits until both replicas refuse; prints how long that took.
async fn refused_after(site: &Site, scene: &Scene, what: &str, change: &Value) -> Result<()> {
    site.apply(change).await?;
    let answered = Instant::now();
    scene.answer(401).await?;
    println!(
        "{what}: refused by two replicas {} ms after the API server's answer",
        answered.elapsed().as_millis()
    );
    Ok(())
}

#[tokio::test]
async fn deactivation_and_expiry_reach_every_replica_and_can_be_undone() -> Result<()> {
    site("revoked", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let scene = scene(site).await?;
        let past = Timestamp::now() - SignedDuration::from_hours(1);
        let cases = [
            (
                "key deactivated",
                with(key("main"), "spec.active", json!(false)),
                key("main"),
            ),
            (
                "account deactivated",
                with(account("ci"), "spec.active", json!(false)),
                account("ci"),
            ),
            (
                "key expired",
                with(key("main"), "spec.expiresAt", json!(past.to_string())),
                key("main"),
            ),
        ];
        for (what, taken_back, restored) in &cases {
            refused_after(site, &scene, what, taken_back).await?;
            let answer = scene.replicas[0].me(&scene.tokens[0]).await?;
            ensure!(answer.body.contains("CredentialsNotValid"), "{answer:?}");
            site.apply(restored).await?;
            scene.answer(200).await?;
        }
        for replica in &scene.replicas {
            let metrics = replica.metrics().await?;
            let value = |name: &str| {
                let name = format!("zenop_revocation_watch_seconds_{name} ");
                metrics
                    .lines()
                    .find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
            };
            ensure!(value("count") == Some(cases.len() as f64), "{metrics}");
            let sum = value("sum").context("no sum")?;
            ensure!(sum < 60.0, "{sum}");
            println!(
                "by the watch: {sum:.3} s for {} revocations, up to a second each too much",
                cases.len()
            );
        }
        Ok(())
    })
    .await
}

/// attacks.md K07, features.md A13.
#[tokio::test]
async fn k07_an_account_made_again_under_the_same_name_revives_nothing() -> Result<()> {
    site("remade", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let scene = scene(site).await?;
        site.delete::<ZenServiceAccount>("ci").await?;
        scene.answer(401).await?;
        site.apply(&account("ci")).await?;
        site.key_ready("main", 2).await?;
        scene.answer(401).await?;
        let new = delivered(site, "main-key").await?;
        ensure!(new != scene.key, "the same key was delivered again");
        scene
            .becomes(async || Ok(scene.replicas[0].login(&new).await?.status == 200))
            .await
    })
    .await
}

#[tokio::test]
async fn a_deleted_key_is_dead_and_stays_dead_under_the_same_name() -> Result<()> {
    site("deleted", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let scene = scene(site).await?;
        let uid = site
            .api::<ZenAPIKey>()
            .get("main")
            .await?
            .metadata
            .uid
            .unwrap_or_default();
        site.delete::<ZenAPIKey>("main").await?;
        scene.answer(401).await?;
        site.until_gone::<ZenAPIKey>("main", &uid).await?;
        site.until_gone::<k8s_openapi::api::core::v1::Secret>("main-key", &uid)
            .await
            .ok();
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        scene.answer(401).await
    })
    .await
}

/// features.md A6, B18, K5: written once, by the sidecars, and kept by the operator.
#[tokio::test]
async fn the_last_use_is_written_down_once() -> Result<()> {
    site("used", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let scene = scene(site).await?;
        let used = |key: &ZenAPIKey| {
            let status = key.status.as_ref();
            status.is_some_and(|s| s.last_used_time.is_some())
        };
        let key = site.until("main", "says when it was used", used).await?;
        let used = |account: &ZenServiceAccount| {
            account
                .status
                .as_ref()
                .is_some_and(|s| s.last_authenticated_time.is_some())
        };
        let first = site.until("ci", "says when it was used", used).await?;
        scene.answer(200).await?;
        // The operator writes its own part again, and leaves this one.
        site.apply(&with(account("ci"), "spec.description", json!("changed")))
            .await?;
        let seen = |account: &ZenServiceAccount| {
            account
                .status
                .as_ref()
                .is_some_and(|s| Some(s.observed_generation) == account.metadata.generation)
        };
        let then = site.until("ci", "was seen by the operator", seen).await?;
        let time =
            |account: &ZenServiceAccount| account.status.clone().unwrap().last_authenticated_time;
        ensure!(
            time(&first) == time(&then),
            "written twice within five minutes"
        );
        let usage = |key: ZenAPIKey| key.status.map(|s| (s.last_used_time, s.usage));
        let again = site.api::<ZenAPIKey>().get("main").await?;
        ensure!(
            usage(again) == usage(key.clone()),
            "written twice within five minutes"
        );
        let (last, usage) = usage(key).unwrap();
        ensure!(
            usage.len() == 1
                && usage[0].generation == 1
                && usage[0].from == Some(UsedFrom::Loopback)
                && Some(&usage[0].last_used_time) == last.as_ref()
        );
        Ok(())
    })
    .await
}

/// What is deleted is held by a finalizer until the operator comes. Nobody waits for that.
#[tokio::test]
async fn a_deletion_counts_while_the_operator_is_down_unless_the_key_is_retained() -> Result<()> {
    site("held", async |site| {
        let window = [("spec.policy.undoWindow", json!("1h"))];
        let operator = set_up(site, free_address()?, &window).await?;
        let scene = scene(site).await?;
        operator.crash().await?;
        let deleted: ZenAPIKey = site.api().get("main").await?;
        let uid = deleted.uid().unwrap_or_default();
        site.delete::<ZenAPIKey>("main").await?;
        scene.answer(401).await?;
        let held: ZenAPIKey = site.api().get("main").await?;
        ensure!(held.metadata.deletion_timestamp.is_some(), "it is not held");

        // Had back, the same text is accepted, and the tokens from before.
        let operator = site.operator().await?;
        site.until_gone::<ZenAPIKey>("main", &uid).await?;
        let annotations = json!({(annotation::RESTORE): uid});
        let restored = with(key("main"), "metadata.annotations", annotations);
        site.apply(&restored).await?;
        scene.answer(200).await?;

        // Retained, it is accepted while it waits, as its spec says.
        let retained = with(restored, "spec.deletionPolicy", json!("Retain"));
        let retained = with(retained, "spec.ttl", json!("100h"));
        site.apply(&retained).await?;
        let is = |key: &ZenAPIKey| key.status.as_ref().is_some_and(|s| s.expires_at.is_some());
        site.until("main", "of a limited life", is).await?;
        operator.crash().await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.apply(&with(retained.clone(), "spec.active", json!(false)))
            .await?;
        scene.answer(401).await?;
        site.apply(&retained).await?;
        scene.answer(200).await?;
        let held: ZenAPIKey = site.api().get("main").await?;
        ensure!(held.metadata.deletion_timestamp.is_some(), "it is not held");
        let uid = held.uid().unwrap_or_default();
        let _operator = site.operator().await?;
        site.until_gone::<ZenAPIKey>("main", &uid).await?;
        scene.answer(200).await
    })
    .await
}

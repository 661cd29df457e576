//! What cannot be known any more is reported, and never guessed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenAPIKeyStatus, ZenServer, reason};
use zenop_cluster::fault::{Action, Match, Rule, Verb, When};

use crate::support::{PATIENCE, Site, account, key, server, site, site::resource, stalled};

async fn write_status(site: &Site, name: &str, status: Value) -> Result<()> {
    let api = site.dynamic(&resource("zenop.dev/v1alpha1", "ZenAPIKey"));
    let mut object: DynamicObject = api.get(name).await?;
    object.data["status"] = status;
    api.replace_status(name, &PostParams::default(), &object)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_wiped_status_rotates_nothing() -> Result<()> {
    for running in [true, false] {
        site("wiped", async |site| {
            let operator = site.operator().await?;
            site.apply_three().await?;
            let before = site.key_ready("main", 1).await?;
            let text = site.check_delivered("main", 1).await?;
            let secret: Secret = site.api().get("main-key").await?;
            let operator = if running {
                operator
            } else {
                operator.stop().await?;
                write_status(site, "main", json!({})).await?;
                site.operator().await?
            };
            if running {
                write_status(site, "main", json!({})).await?;
            }
            site.until::<ZenAPIKey>("main", "Stalled", stalled(reason::STATUS_LOST))
                .await?;
            let now: Secret = site.api().get("main-key").await?;
            ensure!(
                now.resource_version() == secret.resource_version(),
                "the Secret was written"
            );

            let backup: ZenAPIKeyStatus = before.status.context("no status")?;
            write_status(site, "main", serde_json::to_value(backup)?).await?;
            site.key_ready("main", 1).await?;
            ensure!(site.check_delivered("main", 1).await? == text);
            operator.stop().await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wiped_status_and_a_deleted_secret_begin_anew() -> Result<()> {
    site("anew", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        write_status(site, "main", json!({})).await?;
        site.until::<ZenAPIKey>("main", "Stalled", stalled(reason::STATUS_LOST))
            .await?;
        site.delete::<Secret>("main-key").await?;
        let key = site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await?;
        ensure!(
            site.generation_of(&key, &old).await?.is_none(),
            "the old key lives"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_goes_on() -> Result<()> {
    site("malformed", async |site| {
        let operator = site.operator().await?;
        site.apply_three().await?;
        let before = site.key_ready("main", 1).await?;
        // The API server takes this time, and nothing that counts in 64 bits of nanoseconds does.
        let mut status = serde_json::to_value(before.status.context("no status")?)?;
        let good = status.clone();
        status["lastRotatedTime"] = json!("9999-12-31T23:59:59-23:00");
        write_status(site, "main", status.clone()).await?;
        operator.log.says(&["skipped", "\"main\""]).await?;

        site.apply(&key("other")).await?;
        site.key_ready("other", 1).await?;
        site.check_delivered("other", 1).await?;
        // Nobody who cannot read the status acts on it.
        site.delete::<Secret>("main-key").await?;
        site.quiet(Duration::from_millis(1500)).await?;
        ensure!(
            site.api::<Secret>().get_opt("main-key").await?.is_none(),
            "it was acted on"
        );
        operator.stop().await?;

        let second = site.operator().await?;
        second.log.says(&["skipped", "\"main\""]).await?;
        site.apply(&key("third")).await?;
        site.key_ready("third", 1).await?;
        write_status(site, "main", good).await?;
        site.key_ready("main", 2).await?;
        site.check_delivered("main", 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_secret_is_not_written_under_a_server_that_is_not_set_up() -> Result<()> {
    site("order", async |site| {
        // The account and key are there when the server's auth Secret cannot be made.
        use zenop_cluster::fault::{Action, Match, Rule, Verb, When};
        let make = Match::verb(Verb::Create).on("secrets").named("prod-auth");
        let refuse = Action::Status {
            code: 403,
            retry_after: None,
        };
        let refusal = site.proxy.add(Rule::always(make, When::Before, refuse));
        let _operator = site.operator().await?;
        for object in [account("ci"), key("main"), server("prod")] {
            site.apply(&object).await?;
        }
        refusal.acted(3, crate::support::PATIENCE).await?;
        let says =
            |server: &zenop::api::ZenServer| crate::support::waiting(reason::API_ERROR)(server);
        site.until("prod", "said why", says).await?;
        ensure!(site.api::<Secret>().get_opt("main-key").await?.is_none());
        site.proxy.clear();
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

/// The first call to make it has no answer, and is done while the second is on its way: whoever
/// comes too late finds what it had prepared before.
#[tokio::test]
async fn an_auth_secret_that_is_made_late_is_the_servers() -> Result<()> {
    site("late-auth", async |site| {
        let _operator = site.operator().await?;
        let hang = || {
            let create = Match::verb(Verb::Create).on("secrets").named("prod-auth");
            site.proxy
                .add(Rule::once(create, When::Before, Action::Hang))
        };
        let first = hang();
        site.apply_three().await?;
        first.acted(1, PATIENCE).await?;
        let second = hang();
        second.acted(1, PATIENCE).await?;
        first.release();
        site.until::<Secret>("prod-auth", "made", |_| true).await?;
        second.release();
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await?;
        let server: ZenServer = site.api().get("prod").await?;
        let auth = server.status.and_then(|status| status.auth_secret);
        ensure!(auth.is_some_and(|auth| auth.confirmed && auth.unconfirmed.is_empty()));
        site.settled().await
    })
    .await
}

//! Servers and accounts that are late, go, and come again; and names that two want.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount, condition, reason};

use crate::support::{
    Site, account, garbage_collector, key, ready, says, server, site, stalled, waiting, with,
};

#[tokio::test]
async fn a_server_may_come_late_go_and_come_again() -> Result<()> {
    garbage_collector().await?;
    site("server", async |site| {
        let _operator = site.operator().await?;
        site.apply(&account("ci")).await?;
        site.apply(&key("main")).await?;
        let no_server = || waiting(reason::SERVER_NOT_FOUND);
        site.until::<ZenServiceAccount>("ci", "waiting for its server", no_server())
            .await?;
        site.until::<ZenAPIKey>(
            "main",
            "waiting for its server",
            waiting(reason::SERVER_NOT_FOUND),
        )
        .await?;

        let first = site.apply(&server("prod")).await?;
        let key = site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        let generations = key.status.context("no status")?.generations;

        site.delete::<ZenServer>("prod").await?;
        site.until::<ZenServiceAccount>("ci", "waiting for its server", no_server())
            .await?;
        let key: ZenAPIKey = site
            .until(
                "main",
                "waiting for its server",
                waiting(reason::SERVER_NOT_FOUND),
            )
            .await?;
        ensure!(
            key.status.context("no status")?.generations == generations,
            "facts were lost"
        );
        ensure!(
            site.key_text("main-key").await? == old,
            "the Secret was touched"
        );
        site.until_gone::<Secret>("prod-auth", &first.uid().context("no uid")?)
            .await?;

        site.apply(&server("prod")).await?;
        let key = site.key_ready("main", 2).await?;
        let new = site.check_delivered("main", 2).await?;
        ensure!(old != new);
        ensure!(
            site.generation_of(&key, &old).await?.is_none(),
            "a key of the server before lives"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_made_again_at_once_waits_for_the_remains_of_the_one_before() -> Result<()> {
    garbage_collector().await?;
    site("again", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        for generation in 2..5 {
            site.delete::<ZenServer>("prod").await?;
            site.apply(&server("prod")).await?;
            site.key_ready("main", generation).await?;
            site.check_delivered("main", generation).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_account_made_again_gets_a_new_key_and_the_old_one_is_dead() -> Result<()> {
    site("account", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;

        site.delete::<ZenServiceAccount>("ci").await?;
        let gone = waiting(reason::ACCOUNT_NOT_FOUND);
        site.until::<ZenAPIKey>("main", "waiting for its account", gone)
            .await?;
        ensure!(
            site.key_text("main-key").await? == old,
            "the Secret was touched"
        );

        let account = site.apply(&account("ci")).await?;
        let key = site.key_ready("main", 2).await?;
        let new = site.check_delivered("main", 2).await?;
        ensure!(old != new);
        let status = key.status.clone().context("no status")?;
        ensure!(
            status.account_id == account.uid(),
            "{:?}",
            status.account_id
        );
        ensure!(
            status.generations.len() == 1,
            "a generation of the account before is accepted"
        );
        ensure!(
            site.generation_of(&key, &old).await?.is_none(),
            "the old key lives"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_made_again_gets_a_new_key() -> Result<()> {
    garbage_collector().await?;
    site("rekey", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let first = site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.apply(&key("main")).await?;
        let is = |key: &ZenAPIKey| ready(key) && key.uid() != first.uid();
        let again: ZenAPIKey = site.until("main", "Ready again", is).await?;
        ensure!(site.check_delivered("main", 1).await? != old);
        ensure!(again.status.context("no status")?.key_id == again.metadata.uid);
        Ok(())
    })
    .await
}

/// Seniority is counted in seconds: waits until the next one has begun.
pub async fn another_second() -> Result<()> {
    let now = zenop::runtime::clock::now();
    let next = Timestamp::from_second(now.as_second() + 1)?;
    tokio::time::sleep(Duration::try_from(next.duration_since(now))?).await;
    Ok(())
}

/// Accounts `elder` and `younger`, who both want to be called `shared`, each with a key.
async fn two_of_a_name(site: &Site) -> Result<()> {
    site.apply(&server("prod")).await?;
    for name in ["elder", "younger"] {
        site.apply(&with(account(name), "spec.name", json!("shared")))
            .await?;
        let key = with(key(name), "spec.serviceAccountRef.name", json!(name));
        site.apply(&key).await?;
        another_second().await?;
    }
    site.until::<ZenServiceAccount>("elder", "Ready", ready)
        .await?;
    site.key_ready("elder", 1).await?;
    let account: ZenServiceAccount = site
        .until("younger", "NameConflict", stalled(reason::NAME_CONFLICT))
        .await?;
    ensure!(says(
        condition::NAME_CONFLICT,
        "True",
        reason::NAME_CONFLICT
    )(&account));
    ensure!(says(condition::ACTIVE, "False", reason::NAME_CONFLICT)(
        &account
    ));
    site.until::<ZenAPIKey>("younger", "NameConflict", waiting(reason::NAME_CONFLICT))
        .await?;
    Ok(())
}

#[tokio::test]
async fn of_two_accounts_of_a_name_the_younger_waits_until_the_elder_is_renamed() -> Result<()> {
    site("name", async |site| {
        let _operator = site.operator().await?;
        two_of_a_name(site).await?;
        site.apply(&with(account("elder"), "spec.name", json!("another")))
            .await?;
        let younger: ZenServiceAccount = site.until("younger", "Ready", ready).await?;
        ensure!(
            younger.status.context("no status")?.conditions.len() == 2,
            "conditions stay"
        );
        site.key_ready("younger", 1).await?;
        site.key_ready("elder", 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_two_accounts_of_a_name_the_younger_waits_until_the_elder_is_gone() -> Result<()> {
    site("name", async |site| {
        let _operator = site.operator().await?;
        two_of_a_name(site).await?;
        site.delete::<ZenServiceAccount>("elder").await?;
        site.until::<ZenServiceAccount>("younger", "Ready", ready)
            .await?;
        site.key_ready("younger", 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_name_given_up_while_its_conflict_is_being_reported_is_not_missed() -> Result<()> {
    use zenop_cluster::fault::{Action, Match, Rule, Verb, When};
    site("name-race", async |site| {
        let report = Match::verb(Verb::Patch)
            .on("zenserviceaccounts/status")
            .named("younger");
        let hang = site
            .proxy
            .add(Rule::once(report, When::Before, Action::Hang));
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&with(account("elder"), "spec.name", json!("shared")))
            .await?;
        another_second().await?;
        site.apply(&with(account("younger"), "spec.name", json!("shared")))
            .await?;
        hang.acted(1, crate::support::PATIENCE).await?;
        site.apply(&with(account("elder"), "spec.name", json!("another")))
            .await?;
        // The operator has seen the new name once it reports on it.
        let renamed =
            |account: &ZenServiceAccount| account.metadata.generation == Some(2) && ready(account);
        site.until("elder", "Ready under its new name", renamed)
            .await?;
        hang.release();
        site.until::<ZenServiceAccount>("younger", "Ready", ready)
            .await?;
        Ok(())
    })
    .await
}

//! An API server that restarts, freezes, is away, or cuts watches short.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use tokio::time::sleep;
use zenop_cluster::{
    Options,
    fault::{Action, Match, Rule, Verb, When},
};

use crate::support::{PATIENCE, key, site, site::own_plane, site_on};

#[tokio::test]
async fn an_api_server_may_restart_freeze_and_be_away() -> Result<()> {
    let plane = own_plane(Options::default()).await?;
    site_on(plane, "away", async |site| {
        // A lead that outlasts what is to come, however slow the machine.
        let mut launch = site.launch();
        let times = ["--lease-duration", "300s", "--renew-deadline", "200s"];
        launch.arguments = times.map(String::from).into();
        let operator = site.start(&launch)?;
        operator.leads().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;

        plane.restart_apiserver().await?;
        site.apply(&key("after-restart")).await?;
        site.key_ready("after-restart", 1).await?;

        // Work is under way when it freezes, for longer than a call may take.
        let step = Match::verb(Verb::Create)
            .on("secrets")
            .named("before-freeze-key");
        let hold = site.proxy.add(Rule::once(step, When::Before, Action::Hang));
        site.apply(&key("before-freeze")).await?;
        hold.acted(1, PATIENCE).await?;
        plane.pause_apiserver().await?;
        hold.release();
        sleep(Duration::from_secs(5)).await;
        plane.resume_apiserver().await?;
        site.key_ready("before-freeze", 1).await?;
        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 2).await?;

        plane.stop_apiserver().await?;
        sleep(Duration::from_secs(2)).await;
        plane.start_apiserver().await?;
        site.apply(&key("after-stop")).await?;
        site.key_ready("after-stop", 1).await?;
        ensure!(operator.runs(), "it did not live through that");
        operator.stop().await?;

        // Away for longer than a lead lasts: this one must give up, and the next one goes on.
        let mut launch = site.launch();
        let times = ["--lease-duration", "9s", "--renew-deadline", "6s"];
        launch.arguments = times.map(String::from).into();
        let second = site.start(&launch)?;
        second.leads().await?;
        plane.stop_apiserver().await?;
        ensure!(
            !second.ended().await?.success(),
            "it ended as if all were well"
        );
        plane.start_apiserver().await?;
        // An API server that starts is slow, and this one is to live; it waits as long before it leads.
        let times = ["--lease-duration", "30s", "--renew-deadline", "25s"];
        launch.arguments = times.map(String::from).into();
        let third = site.start(&launch)?;
        third.leads().await?;
        site.apply(&key("last")).await?;
        site.key_ready("last", 1).await?;
        for (name, generation) in [
            ("main", 2),
            ("after-restart", 1),
            ("before-freeze", 1),
            ("last", 1),
        ] {
            site.check_delivered(name, generation).await?;
        }
        third.stop().await
    })
    .await
}

#[tokio::test]
async fn watches_that_break_off_lose_nothing() -> Result<()> {
    site("cut", async |site| {
        // Every watch ends in the middle of its second event.
        let watches = Match::verb(Verb::Watch);
        let cut = Rule::always(watches, When::After, Action::Cut { after: 1 });
        let cut = site.proxy.add(cut);
        let operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 2).await?;
        for name in ["a", "b", "c"] {
            site.apply(&key(name)).await?;
        }
        for name in ["a", "b", "c"] {
            site.key_ready(name, 1).await?;
            site.check_delivered(name, 1).await?;
        }
        ensure!(cut.count() > 5, "only {} watches were cut", cut.count());
        operator.stop().await
    })
    .await
}

#[tokio::test]
async fn watches_that_are_refused_are_made_again() -> Result<()> {
    for code in [410, 429, 500, 403] {
        site("refused", async |site| {
            let refuse = Action::Status {
                code,
                retry_after: None,
            };
            let rule = Rule {
                times: 12,
                ..Rule::always(Match::verb(Verb::Watch), When::Before, refuse)
            };
            let rule = site.proxy.add(rule);
            let lists = Rule {
                times: 3,
                ..Rule::always(
                    Match::verb(Verb::List),
                    When::Before,
                    Action::Status {
                        code: 500,
                        retry_after: None,
                    },
                )
            };
            site.proxy.add(lists);
            let operator = site.operator().await?;
            site.apply_three().await?;
            site.key_ready("main", 1).await?;
            site.check_delivered("main", 1).await?;
            ensure!(
                rule.count() >= 9,
                "only {} watches were refused",
                rule.count()
            );
            operator.stop().await
        })
        .await?;
    }
    Ok(())
}

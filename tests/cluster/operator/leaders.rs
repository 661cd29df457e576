//! Two operators, of which one works: whatever happens to it, no key is made twice.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use zenop_cluster::fault::{Action, Match, Rule, Verb, When};

use crate::support::{Launch, PATIENCE, Site, site};

/// An operator of that name, in an election with short times.
fn member(site: &Site, identity: &str) -> Launch {
    let mut launch = site.launch();
    launch.identity = identity.into();
    let times = [
        "--lease-duration",
        "4s",
        "--renew-deadline",
        "3s",
        "--retry-period",
        "300ms",
    ];
    launch.arguments = times.map(String::from).into();
    launch
}

/// How many Secrets of the key were made.
fn made(site: &Site) -> usize {
    let record = site.proxy.record();
    let made = record.iter().filter(|entry| {
        let call = &entry.call;
        call.verb == Verb::Create && call.name == "main-key" && entry.status == Some(201)
    });
    made.count()
}

#[tokio::test]
async fn the_next_leader_goes_on_where_a_killed_one_was() -> Result<()> {
    let moments = [
        (
            Match::verb(Verb::Create).on("secrets").named("main-key"),
            When::After,
        ),
        (
            Match::verb(Verb::Create).on("secrets").named("main-key"),
            When::Before,
        ),
    ];
    for (step, when) in moments {
        site("failover", async |site| {
            let first = site.start(&member(site, "first"))?;
            first.leads().await?;
            let second = site.start(&member(site, "second"))?;
            let kill = Action::Call(Arc::new(first.killer()));
            let rule = site.proxy.add(Rule::once(step.clone(), when, kill));
            site.apply_three().await?;
            rule.acted(1, PATIENCE).await?;
            first.ended().await?;
            second.leads().await?;
            site.key_ready("main", 1).await?;
            site.settled().await?;
            site.check_delivered("main", 1).await?;
            ensure!(made(site) == 1, "{} Secrets were made", made(site));
            second.stop().await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_that_slept_wakes_up_and_does_no_harm() -> Result<()> {
    site("sleep", async |site| {
        let first = site.start(&member(site, "first"))?;
        first.leads().await?;
        let second = site.start(&member(site, "second"))?;
        let step = Match::verb(Verb::Create).on("secrets").named("main-key");
        let hang = site.proxy.add(Rule::once(step, When::Before, Action::Hang));
        site.apply_three().await?;
        hang.acted(1, PATIENCE).await?;
        first.signal(Signal::STOP)?;
        second.leads().await?;
        site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        // What the first one had under way arrives now; then it wakes up.
        hang.release();
        first.signal(Signal::CONT)?;
        ensure!(
            !first.ended().await?.success(),
            "it ended as if all were well"
        );
        site.settled().await?;
        ensure!(
            site.check_delivered("main", 1).await? == text,
            "another key"
        );
        ensure!(made(site) == 1, "{} Secrets were made", made(site));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_operators_at_once_make_one_key() -> Result<()> {
    // By mistake each has a Lease of its own: both lead.
    site("two", async |site| {
        let mut launches = [member(site, "first"), member(site, "second")];
        site.any_lease().await?;
        launches[1].lease = "another".into();
        let operators = [site.start(&launches[0])?, site.start(&launches[1])?];
        for operator in &operators {
            operator.leads().await?;
        }
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.settled().await?;
        site.check_delivered("main", 1).await?;
        ensure!(made(site) == 1, "{} Secrets were made", made(site));
        site.delete::<k8s_openapi::api::core::v1::Secret>("main-key")
            .await?;
        site.key_ready("main", 2).await?;
        site.settled().await?;
        site.check_delivered("main", 2).await?;
        ensure!(made(site) == 2, "{} Secrets were made", made(site));
        Ok(())
    })
    .await
}

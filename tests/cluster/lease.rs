//! Leader election with real Leases: two holders, a paused one, one that is cut off, hands in the Lease, and an API server
//! that fails.

mod hands;
mod process;
mod support;
mod trouble;

use std::{collections::HashSet, thread, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use serde_json::{from_value, json};
use tokio::{sync::oneshot, time::timeout};
use zenop::runtime::{
    clock::monotonic,
    lease::{Elector, LeaseConfig, Lost, Timings},
};
use zenop_cluster::{client_from, shared, with_namespace};

use support::{
    Candidate, DEADLINE, LEASE, Ledger, NAME, RETRY, SLACK, config, held_by, lease_when, leases,
    renewals, slow, spec, two,
};
use trouble::{Fault, Faults, Forwarder, Line};

#[tokio::test]
async fn one_of_two_leads_and_after_its_crash_the_other() -> Result<()> {
    with_namespace("lease-crash", async |ns| {
        let (first, mut second) = two(&ns).await?;
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);
        // Longer than the Lease would last without renewals.
        let lease = renewals(&ns, 10).await?;
        assert!(held_by(&first)(&lease) && first.claim.is_held());
        assert_eq!(spec(&lease)["leaseDurationSeconds"], 2);
        assert_eq!(spec(&lease)["leaseTransitions"], 0);

        let crashed = monotonic();
        first.crash();
        let led = second.leads().await?.duration_since(crashed);
        assert!(led <= LEASE + RETRY + SLACK, "it took {led:?}");
        let taken = lease_when(&ns, held_by(&second)).await?;
        assert_eq!(spec(&taken)["leaseTransitions"], 1);
        assert!(spec(&taken)["acquireTime"].as_str() > spec(&lease)["acquireTime"].as_str());
        assert_eq!(
            spec(&renewals(&ns, 1).await?)["acquireTime"],
            spec(&taken)["acquireTime"]
        );

        let book = ledger.close();
        assert_eq!([book[0].len(), book[1].len()], [1, 1]);
        println!("failover after a crash: {led:?}");
        Ok(second.stop().await?)
    })
    .await
}

#[tokio::test]
async fn many_start_at_once_and_one_leads() -> Result<()> {
    with_namespace("lease-rush", async |ns| {
        let start = |_| Candidate::start(ns.client().clone(), config(ns.name(), "same"));
        let candidates: Vec<_> = (0..5).map(start).collect();
        let identities: HashSet<_> = candidates.iter().map(|c| c.identity.clone()).collect();
        assert_eq!(identities.len(), 5);
        let claims = candidates.iter().map(|candidate| candidate.claim.clone());
        let ledger = Ledger::keep(claims.collect());
        lease_when(&ns, |lease| spec(lease)["holderIdentity"] != "").await?;
        renewals(&ns, 5).await?;
        let held = candidates
            .iter()
            .filter(|candidate| candidate.claim.is_held());
        assert_eq!(held.count(), 1);
        // One after the other goes, whether it leads or not, and there is always one in the end.
        for candidate in candidates {
            candidate.stop().await?;
        }
        assert!(ledger.close().iter().any(|spans| !spans.is_empty()));
        let lease = leases(&ns).get(NAME).await?;
        assert_eq!(spec(&lease)["holderIdentity"], "");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_given_back_is_taken_at_once_with_the_default_timings() -> Result<()> {
    with_namespace("lease-release", async |ns| {
        let config = |identity: &str| LeaseConfig {
            timings: Timings::default(),
            ..config(ns.name(), identity)
        };
        let mut first = Candidate::start(ns.client().clone(), config("first"));
        first.leads().await?;
        let mut second = Candidate::start(ns.client().clone(), config("second"));
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);
        // It has seen the other hold the Lease, so that it waits.
        renewals(&ns, 1).await?;

        let asked = monotonic();
        let (stopped, led) = tokio::join!(first.stop(), second.leads());
        stopped?;
        let took = led?.duration_since(asked);
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        println!("failover after a release: {took:?}");
        ledger.close();

        second.stop().await?;
        let lease = leases(&ns).get(NAME).await?;
        assert_eq!(spec(&lease)["holderIdentity"], "");
        assert_eq!(spec(&lease)["leaseDurationSeconds"], 1);
        assert_eq!(spec(&lease)["leaseTransitions"], 1);
        Ok(())
    })
    .await
}

/// Nobody competes, so the Lease is still in its name: only the clock tells that the claim has ended.
#[tokio::test]
async fn a_blocked_runtime_does_not_hold_its_claim() -> Result<()> {
    with_namespace("lease-blocked", async |ns| {
        let (tell, told) = oneshot::channel();
        let config = config(ns.name(), "blocked");
        let holder = thread::spawn(move || -> Result<Lost> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let client = kube::Client::try_from(support::access().await?)?;
                let (elector, claim) = Elector::new(client, config);
                let leader = elector.acquire(std::future::pending());
                let leader = leader.await.context("it leads")?;
                let _ = tell.send(claim.clone());
                tokio::spawn(async move {
                    let blocked = monotonic();
                    while blocked.elapsed() < DEADLINE + RETRY {
                        thread::sleep(Duration::from_millis(10));
                    }
                    assert!(!claim.is_held());
                });
                let lost = leader.run(std::future::pending()).await;
                lost.err().context("it is lost")
            })
        });
        let claim = told.await?;
        let ledger = Ledger::keep(vec![claim.clone()]);
        let lost = tokio::task::spawn_blocking(|| holder.join().expect("no panic")).await??;
        assert!(matches!(lost, Lost::Expired(DEADLINE, _)), "{lost}");
        assert!(!claim.is_held());
        let [(from, to)] = ledger.close()[0][..] else {
            panic!("it held its claim more than once")
        };
        assert!(
            to - from <= DEADLINE,
            "it held its claim for {:?}",
            to - from
        );
        Ok(())
    })
    .await
}

async fn the_one_cut_off_stops_before_the_other_begins(line: Line) -> Result<()> {
    with_namespace("lease-cut", async |ns| {
        let forwarder = Forwarder::start().await?;
        let client = forwarder.client().await?;
        let mut first = Candidate::start(client, config(ns.name(), "first"));
        first.leads().await?;
        let mut second = Candidate::start(ns.client().clone(), config(ns.name(), "second"));
        renewals(&ns, 2).await?;
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);

        let cut = monotonic();
        forwarder.line.send_replace(line);
        let lost = first.ended().await.unwrap_err();
        assert!(matches!(lost, Lost::Expired(DEADLINE, _)), "{lost}");
        let ended = monotonic();
        assert!(ended - cut <= DEADLINE + SLACK);
        second.leads().await?;

        // What was kept on the line arrives now, too late.
        forwarder.line.send_replace(Line::Open);
        let lease = renewals(&ns, 3).await?;
        assert!(held_by(&second)(&lease) && second.claim.is_held());

        let book = ledger.close();
        let last = book[0].last().unwrap().1;
        assert!(
            ended - last < SLACK,
            "it noticed {:?} too late",
            ended - last
        );
        let gap = book[1][0].0 - last;
        println!("{line:?}: the claims are {gap:?} apart");
        assert!(gap >= LEASE - DEADLINE);
        Ok(second.stop().await?)
    })
    .await
}

#[tokio::test]
async fn a_holder_whose_calls_vanish_stops_before_the_other_begins() -> Result<()> {
    the_one_cut_off_stops_before_the_other_begins(Line::Silent).await
}

#[tokio::test]
async fn a_holder_that_cannot_connect_stops_before_the_other_begins() -> Result<()> {
    the_one_cut_off_stops_before_the_other_begins(Line::Cut).await
}

#[tokio::test]
async fn errors_do_not_end_a_lead_before_its_deadline() -> Result<()> {
    with_namespace("lease-faults", async |ns| {
        let faults = Faults::default();
        // On the way to the lead too: neither an error nor a lost answer costs the length of a lease.
        faults.soon([Fault::Refused(500), Fault::Garbled, Fault::Denied(504)]);
        let begun = monotonic();
        let mut first = Candidate::start(faults.client().await?, config(ns.name(), "first"));
        first.leads().await?;
        assert!(begun.elapsed() < 4 * RETRY + SLACK);
        let second = Candidate::start(ns.client().clone(), config(ns.name(), "second"));
        renewals(&ns, 2).await?;
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);
        for fault in [
            Fault::Refused(409),
            Fault::Denied(409),
            Fault::Refused(429),
            Fault::Refused(500),
            Fault::Denied(500),
            Fault::Refused(503),
            Fault::Denied(504),
            Fault::Refused(401),
            Fault::Refused(403),
            Fault::Garbled,
            Fault::Unanswered,
        ] {
            // The write, and where another follows the read of the next attempt.
            faults.soon([fault]);
            while faults.left() > 0 {
                renewals(&ns, 1).await?;
            }
            renewals(&ns, 1).await?;
        }
        assert!(first.claim.is_held());
        let book = ledger.close();
        assert_eq!([book[0].len(), book[1].len()], [1, 0]);
        second.stop().await?;
        // Giving back meets a renewal that was on its way.
        faults.soon([Fault::Refused(409)]);
        first.stop().await?;
        let lease = leases(&ns).get(NAME).await?;
        assert_eq!(spec(&lease)["holderIdentity"], "");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn errors_beyond_the_deadline_end_it_and_say_why() -> Result<()> {
    with_namespace("lease-down", async |ns| {
        let faults = Faults::default();
        let mut candidate = Candidate::start(faults.client().await?, slow(&ns, "me"));
        candidate.leads().await?;
        let claim = candidate.claim.clone();
        let ledger = Ledger::keep(vec![claim.clone()]);
        faults.always(Some(Fault::Refused(500)));
        let lost = candidate.ended().await.unwrap_err();
        let ended = monotonic();
        assert!(!claim.is_held());
        let last = ledger.close()[0].last().unwrap().1;
        assert!(
            ended - last < SLACK / 2,
            "it noticed {:?} too late",
            ended - last
        );
        let said = lost.to_string();
        assert!(
            said.starts_with("the lease was not renewed within 1.5s: "),
            "{said}"
        );
        assert!(said.contains("injected 500"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_cannot_even_stop_properly_stops_in_time() -> Result<()> {
    with_namespace("lease-deaf", async |ns| {
        let faults = Faults::default();
        let mut leader = Candidate::start(faults.client().await?, config(ns.name(), "leader"));
        leader.leads().await?;
        let standby = Candidate::start(faults.client().await?, config(ns.name(), "standby"));
        renewals(&ns, 2).await?;
        faults.always(Some(Fault::Unanswered));
        for candidate in [leader, standby] {
            let claim = candidate.claim.clone();
            timeout(DEADLINE + SLACK, candidate.stop()).await??;
            assert!(!claim.is_held());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn three_verbs_are_enough() -> Result<()> {
    with_namespace("lease-rights", async |ns| {
        let role: Role = from_value(json!({
            "metadata": { "name": "elector" },
            "rules": [
                { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
                {
                    "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [NAME],
                    "verbs": ["get", "update"],
                },
            ],
        }))?;
        let binding: RoleBinding = from_value(json!({
            "metadata": { "name": "elector" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "elector" },
            "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": ns.name() }],
        }))?;
        ns.api().create(&PostParams::default(), &role).await?;
        ns.api().create(&PostParams::default(), &binding).await?;
        let plane = shared().await?;
        let kubeconfig = plane.kubeconfig_for_service_account(ns.name(), "default", None);
        let client = client_from(&kubeconfig.await?).await?;
        let mut first = Candidate::start(client.clone(), config(ns.name(), "first"));
        first.leads().await?;
        let mut second = Candidate::start(client, config(ns.name(), "second"));
        renewals(&ns, 3).await?;
        let asked = monotonic();
        first.stop().await?;
        // Without the right to watch it takes a round of asking.
        let took = second.leads().await?.duration_since(asked);
        assert!(took <= RETRY + SLACK, "it took {took:?}");
        Ok(second.stop().await?)
    })
    .await
}

//! People who edit the Lease.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use zenop::runtime::{clock::monotonic, lease::Lost};
use zenop_cluster::{TestNamespace, with_namespace};

use super::support::{
    Candidate, LEASE, Lease, Ledger, NAME, SLACK, config, create, held_by, lease_when, leases,
    renewals, slow, spec, two,
};

async fn patch(ns: &TestNamespace, spec: Value) -> Result<Lease> {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let api = leases(ns);
    Ok(api.patch(NAME, &PatchParams::default(), &patch).await?)
}

#[tokio::test]
async fn a_deleted_lease_is_made_anew_by_its_holder() -> Result<()> {
    with_namespace("lease-deleted", async |ns| {
        let (first, second) = two(&ns).await?;
        let before = renewals(&ns, 2).await?;
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);
        let api = leases(&ns);
        for _ in 0..3 {
            api.delete(NAME, &DeleteParams::default()).await?;
            let again = lease_when(&ns, held_by(&first)).await?;
            assert_ne!(again.metadata.uid, before.metadata.uid);
            assert_eq!(spec(&again)["acquireTime"], spec(&before)["acquireTime"]);
        }
        renewals(&ns, 5).await?;
        let book = ledger.close();
        assert_eq!([book[0].len(), book[1].len()], [1, 0]);
        second.stop().await?;
        Ok(first.stop().await?)
    })
    .await
}

async fn the_leader_is_replaced_by_hand(holder: &str) -> Result<()> {
    with_namespace("lease-edited", async |ns| {
        let mut first = Candidate::start(ns.client().clone(), slow(&ns, "first"));
        first.leads().await?;
        let mut second = Candidate::start(ns.client().clone(), config(ns.name(), "second"));
        renewals(&ns, 2).await?;
        let claim = first.claim.clone();
        let ledger = Ledger::keep(vec![claim.clone(), second.claim.clone()]);
        patch(&ns, json!({ "holderIdentity": holder })).await?;
        let edited = monotonic();
        assert_eq!(first.ended().await, Err(Lost::Taken(holder.into())));
        assert!(!claim.is_held());
        second.leads().await?;
        assert!(edited.elapsed() >= LEASE - SLACK);
        let book = ledger.close();
        assert!(book[0].last().unwrap().1 < book[1][0].0);
        Ok(second.stop().await?)
    })
    .await
}

#[tokio::test]
async fn whose_name_is_taken_out_ends_and_nobody_rushes_in() -> Result<()> {
    the_leader_is_replaced_by_hand("").await
}

#[tokio::test]
async fn whose_name_is_replaced_ends_and_nobody_rushes_in() -> Result<()> {
    the_leader_is_replaced_by_hand("somebody").await
}

#[tokio::test]
async fn other_edits_are_written_over_and_labels_stay() -> Result<()> {
    with_namespace("lease-scribbled", async |ns| {
        let (first, second) = two(&ns).await?;
        let before = renewals(&ns, 2).await?;
        let ledger = Ledger::keep(vec![first.claim.clone(), second.claim.clone()]);
        patch(
            &ns,
            json!({
                "leaseDurationSeconds": 1, "leaseTransitions": 99, "acquireTime": null,
                "renewTime": "9999-12-31T23:59:59.999999Z",
            }),
        )
        .await?;
        let labels = Patch::Merge(json!({ "metadata": { "labels": { "team": "blue" } } }));
        leases(&ns)
            .patch(NAME, &PatchParams::default(), &labels)
            .await?;
        let restored = lease_when(&ns, |lease| {
            let (now, then) = (spec(lease), spec(&before));
            ["leaseDurationSeconds", "leaseTransitions", "acquireTime"]
                .iter()
                .all(|field| now[field] == then[field])
        });
        assert_eq!(restored.await?.metadata.labels.unwrap()["team"], "blue");
        renewals(&ns, 5).await?;
        let book = ledger.close();
        assert_eq!([book[0].len(), book[1].len()], [1, 0]);
        second.stop().await?;
        Ok(first.stop().await?)
    })
    .await
}

#[tokio::test]
async fn whatever_stands_in_a_lease_it_can_be_taken() -> Result<()> {
    let ancient = "0000-01-01T00:00:00.000000Z";
    let far = "9999-12-31T23:59:59.999999Z";
    let name = "x".repeat(5000);
    let cases = [
        (json!({}), 1, false),
        (
            json!({ "holderIdentity": "", "leaseDurationSeconds": 1 }),
            1,
            false,
        ),
        (json!({ "holderIdentity": "ghost" }), 1, true),
        (
            json!({ "holderIdentity": name, "leaseDurationSeconds": 1, "renewTime": far }),
            1,
            true,
        ),
        (
            json!({ "holderIdentity": "\u{1F9DF}\n", "acquireTime": far, "renewTime": ancient }),
            1,
            true,
        ),
        (
            json!({ "holderIdentity": "ghost", "leaseTransitions": i32::MAX }),
            i32::MAX,
            true,
        ),
        (
            json!({ "holderIdentity": "ghost", "strategy": "OldestEmulationVersion", "preferredHolder": "me" }),
            1,
            true,
        ),
    ];
    let taken = cases.map(|(found, transitions, waits)| {
        with_namespace("lease-garbage", async move |ns| {
            let created = create(&ns, found.clone()).await;
            created.with_context(|| found.to_string())?;
            let begun = monotonic();
            let mut candidate = Candidate::start(ns.client().clone(), config(ns.name(), "me"));
            candidate.leads().await?;
            assert_eq!(begun.elapsed() >= LEASE, waits, "{found}");
            let lease = lease_when(&ns, held_by(&candidate)).await?;
            assert_eq!(spec(&lease)["leaseTransitions"], transitions);
            renewals(&ns, 1).await?;
            Ok(candidate.stop().await?)
        })
    });
    try_join_all(taken).await?;
    Ok(())
}

//! What the API server itself refuses of devices, and what the operator tells of them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use zenop::api::{DevicePhase, ZenDevice};

use crate::support::{Site, account, server, site, with};

fn device(change: &Value) -> Value {
    let mut device = json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice", "metadata": {"name": "dev-1"},
        "spec": {
            "serverRef": {"name": "prod"}, "clientId": "3c1d0b2e-7c0f-4a5e-9f0d-1b2a3c4d5e6f",
            "userRef": {"name": "ana"},
        },
    });
    let spec = device["spec"].as_object_mut().unwrap();
    spec.extend(change.as_object().unwrap().clone());
    device
}

fn approved(id: &str, more: &Value) -> Value {
    let mut authorization = json!({
        "deviceId": id, "accountId": "a", "approvedTime": "2026-01-01T00:00:00Z",
        "proof": "0".repeat(64),
    });
    let fields = authorization.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    authorization
}

async fn refused(site: &Site, object: &Value, why: &str) -> Result<()> {
    match site.apply(object).await {
        Ok(_) => bail!("taken: {object}"),
        Err(error) => {
            let told = format!("{error:?}");
            ensure!(told.contains(why), "{object}: {told}");
            Ok(())
        }
    }
}

/// api.md, CEL D1 and D2, and what an authorization may become.
#[tokio::test]
async fn a_device_stays_whose_it_is_and_is_given_out_once() -> Result<()> {
    site("dev-rules", async |site| {
        let redeemed = json!({"redemption": {"time": "2026-01-01T00:00:00Z", "id": "r"}});
        let until = json!("2026-12-21T10:00:00Z");
        let change = json!({
            "authorization": approved("d1", &redeemed), "expiresAt": until, "trusted": true,
        });
        site.apply(&device(&change)).await?;
        let moved = "a device cannot move to another client, user or server";
        let with = |path: &str, value: Value| with(device(&change), path, value);
        let other = json!("00000000-0000-4000-8000-000000000000");
        refused(site, &with("spec.clientId", other), moved).await?;
        refused(site, &with("spec.userRef.name", json!("bob")), moved).await?;
        let kind = json!("ZenServiceAccount");
        refused(site, &with("spec.userRef.kind", kind), moved).await?;
        refused(site, &with("spec.serverRef.name", json!("x")), moved).await?;
        let longer = json!("2026-12-21T10:00:01Z");
        let shortened = "a device may only be shortened";
        refused(site, &with("spec.expiresAt", longer.clone()), shortened).await?;
        let forged = approved(
            "d1",
            &json!({"accountId": "b", "redemption": redeemed["redemption"]}),
        );
        let changed = "an approval cannot change";
        refused(site, &with("spec.authorization", forged), changed).await?;
        let again = approved("d1", &json!({"redemption": {"time": until, "id": "s"}}));
        let once = "a token is given out once";
        refused(site, &with("spec.authorization", again), once).await?;
        // Another approval begins anew.
        let anew = with("spec.authorization", approved("d2", &json!({})));
        let anew = crate::support::with(anew, "spec.expiresAt", longer);
        site.apply(&anew).await?;
        let shape = "should match";
        refused(site, &with("spec.clientId", json!("x")), shape).await
    })
    .await
}

/// api.md, CEL V3.
#[tokio::test]
async fn a_server_gives_devices_sound_lifetimes() -> Result<()> {
    site("dev-server", async |site| {
        let bad = [
            (
                json!({"trustedTTL": "1h", "untrustedTTL": "2h"}),
                "untrustedTTL <= trustedTTL",
            ),
            (json!({"untrustedTTL": "0s"}), "0 < untrustedTTL"),
            (json!({"trustedTTL": "2161h"}), "<= 2160h"),
            (json!({"codeTTL": "59s"}), "codeTTL must be"),
            (json!({"codeTTL": "31m"}), "codeTTL must be"),
            (json!({"pollInterval": "0s"}), "pollInterval must be"),
            (
                json!({"maxFailedAttempts": 0}),
                "greater than or equal to 1",
            ),
        ];
        for (terms, why) in bad {
            let bad = with(server("prod"), "spec.auth", json!({"device": terms}));
            refused(site, &bad, why).await?;
        }
        let edges = json!({
            "trustedTTL": "2160h", "untrustedTTL": "2160h", "codeTTL": "30m", "pollInterval": "1s",
        });
        let good = with(server("prod"), "spec.auth", json!({"device": edges}));
        site.apply(&good).await.map(drop)
    })
    .await
}

/// The operator tells how a device is, by its own spec and by the server's policy, at once when
/// either changes.
#[tokio::test]
async fn a_device_is_as_its_spec_and_its_server_say() -> Result<()> {
    site("dev-state", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&account("ci")).await?;
        // What the API server believes, to the second.
        let made = site.apply(&account("clock")).await?;
        let now = made.metadata.creation_timestamp.context("not made")?.0;
        let redeemed = json!({
            "approvedTime": zenop::api::whole_seconds(now),
            "redemption": {"time": zenop::api::whole_seconds(now), "id": "r"},
        });
        let change = |locked: bool, trusted: bool| {
            let of = approved("d1", &redeemed);
            device(&json!({"authorization": of, "locked": locked, "trusted": trusted}))
        };
        let is = async |phase: DevicePhase, hours: i64| {
            let end = now + jiff::SignedDuration::from_hours(hours);
            let end = zenop::api::whole_seconds(end);
            let is = |device: &ZenDevice| {
                let status = device.status.as_ref();
                status.is_some_and(|s| s.state == Some(phase) && s.expires_at == Some(end.clone()))
            };
            let told = format!("{phase:?} for {hours} h");
            site.until("dev-1", &told, is).await.context(told).map(drop)
        };
        site.apply(&change(false, false)).await?;
        is(DevicePhase::Active, 24).await?;
        site.apply(&change(false, true)).await?;
        is(DevicePhase::Active, 720).await?;
        site.apply(&change(true, true)).await?;
        is(DevicePhase::Locked, 720).await?;
        let policy = json!({"devices": {"trustAllowed": false}});
        site.apply(&with(server("prod"), "spec.policy", policy))
            .await?;
        is(DevicePhase::Locked, 24).await?;
        site.apply(&change(false, true)).await?;
        is(DevicePhase::Active, 24).await?;
        operator.stop().await
    })
    .await
}

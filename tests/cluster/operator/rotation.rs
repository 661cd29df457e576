//! Keys are rotated when they are due, once, and the old one goes when it is to go.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use zenop::{
    api::{KeyState, ZenAPIKey, ZenAPIKeyStatus, condition, reason},
    runtime::clock::now,
};

use crate::support::{Site, accepted, entry, key, message, ready, says, server, site, with};

fn rotating(rotation: Value) -> Value {
    with(key("main"), "spec.rotation", rotation)
}

fn annotated(mut object: Value, name: &str) -> Value {
    object["metadata"]["annotations"] = json!({name: "true"});
    object
}

fn status(key: &ZenAPIKey) -> Result<&ZenAPIKeyStatus> {
    key.status.as_ref().context("no status")
}

/// A window of today or tomorrow that is closed for another two hours, or that is open.
fn window(open: bool) -> Value {
    let time = |hours: i64| {
        let zoned = now().to_zoned(TimeZone::UTC) + hours.hours();
        zoned.strftime("%H:%M").to_string()
    };
    let (start, end) = if open { (-2, 2) } else { (2, 4) };
    json!([{"start": time(start), "end": time(end)}])
}

/// Waits until these generations are accepted.
async fn left(site: &Site, generations: &[i64]) -> Result<ZenAPIKey> {
    let what = format!("with generations {generations:?}");
    let is = |key: &ZenAPIKey| ready(key) && accepted(key) == generations;
    site.until("main", &what, is).await
}

#[tokio::test]
async fn a_trigger_rotates_once_for_each_value() -> Result<()> {
    site("trigger", async |site| {
        let operator = site.operator().await?;
        let trigger = |value: &str| rotating(json!({"trigger": value}));
        site.apply_with(&trigger("a")).await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;

        site.apply(&trigger("b")).await?;
        let key = site.key_ready("main", 2).await?;
        ensure!(status(&key)?.last_handled_trigger.as_deref() == Some("b"));
        let new = site.check_delivered("main", 2).await?;
        ensure!(new != old);
        ensure!(site.generation_of(&key, &old).await? == Some((KeyState::Previous, 1)));
        let told = site.told("KeyRotated").await?;
        ensure!(told.note.is_some_and(|note| note.contains("generation 2")));
        let metrics = operator.metrics().await?;
        let counted = r#"zenop_events_total{kind="ZenAPIKey",reason="KeyRotated"} 1"#;
        ensure!(metrics.contains(counted), "{metrics}");

        // The same value, another edit, no value, the next process: nothing.
        site.apply(&trigger("b")).await?;
        let edited = with(trigger("b"), "spec.description", json!("edited"));
        site.apply(&edited).await?;
        site.key_ready("main", 2).await?;
        site.apply(&rotating(json!({}))).await?;
        site.key_ready("main", 2).await?;
        site.settled().await?;
        operator.stop().await?;
        let operator = site.operator().await?;
        site.settled().await?;
        ensure!(site.check_delivered("main", 2).await? == new);

        // One that comes while nobody looks, and one that was there before.
        operator.stop().await?;
        site.apply(&trigger("a")).await?;
        let _operator = site.operator().await?;
        let key = site.key_ready("main", 3).await?;
        site.settled().await?;
        site.check_delivered("main", 3).await?;
        ensure!(accepted(&key) == [1, 2, 3], "several old ones are accepted");
        ensure!(site.generation_of(&key, &old).await? == Some((KeyState::Previous, 1)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_is_rotated_when_its_time_has_come() -> Result<()> {
    let hours = SignedDuration::from_hours;
    let policy = |policy: Value| with(server("prod"), "spec", json!({"policy": {"keys": policy}}));
    let monthly = json!({"rotation": {"schedule": "0 3 1 * *", "timeZone": "Europe/Berlin"}});
    let cases = [
        // What the key and the server say; too young, and old enough.
        (
            json!({"rotation": {"interval": "100h"}}),
            json!({}),
            hours(89),
            hours(22),
        ),
        (monthly, json!({}), hours(0), hours(32 * 24)),
        // It would die before its interval is over.
        (
            json!({"rotation": {"interval": "1000h"}, "ttl": "100h"}),
            json!({}),
            hours(88),
            hours(3),
        ),
        (
            json!({}),
            json!({"requireRotationWithin": "100h"}),
            hours(79),
            hours(22),
        ),
    ];
    for (spec, keys, young, old) in cases {
        site("time", async |site| {
            let _operator = site.operator().await?;
            let mut main = key("main");
            for (name, value) in spec.as_object().into_iter().flatten() {
                main["spec"][name] = value.clone();
            }
            site.apply_with(&main).await?;
            site.apply(&policy(keys.clone())).await?;
            let planned = |key: &ZenAPIKey| {
                ready(key)
                    && key
                        .status
                        .as_ref()
                        .is_some_and(|s| s.next_rotation_time.is_some())
            };
            let first = site.until("main", "with a next rotation", planned).await?;
            let next = |key: &ZenAPIKey| -> Result<Timestamp> {
                Ok(status(key)?.next_rotation_time.clone().context("none")?.0)
            };
            ensure!(next(&first)? > now());
            site.age("main", young).await?;
            site.settled().await?;
            site.check_delivered("main", 1).await?;

            site.age("main", old).await?;
            let second = site.key_ready("main", 2).await?;
            ensure!(next(&second)? > now());
            site.settled().await?;
            site.check_delivered("main", 2).await.map(drop)
        })
        .await
        .with_context(|| format!("{spec} {keys}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn windows_hold_a_rotation_back_and_force_passes() -> Result<()> {
    site("windows", async |site| {
        let operator = site.operator().await?;
        let policy = json!({"policy": {"keys": {"requireRotationWithin": "100h"}}});
        let closed = |t: &str| rotating(json!({"trigger": t, "windows": window(false)}));
        site.apply_with(&closed("a")).await?;
        site.apply(&with(server("prod"), "spec", policy)).await?;
        site.key_ready("main", 1).await?;
        site.apply(&closed("b")).await?;
        let waits = |key: &ZenAPIKey| {
            let next = key
                .status
                .as_ref()
                .and_then(|s| s.next_rotation_time.clone());
            let wait = next.map(|next| next.0.duration_since(now()).as_secs());
            ready(key) && wait.is_some_and(|wait| (6000..=7200).contains(&wait))
        };
        site.until("main", "to be rotated when the window opens", waits)
            .await?;
        site.settled().await?;
        site.check_delivered("main", 1).await?;

        // A lost one is made anew at once; it was made for that trigger.
        site.delete::<Secret>("main-key").await?;
        let key = site.key_ready("main", 2).await?;
        ensure!(status(&key)?.last_handled_trigger.as_deref() == Some("b"));

        // Older than the server allows: somebody should know.
        site.age("main", SignedDuration::from_hours(101)).await?;
        let overdue = says(condition::ROTATION_OVERDUE, "True", reason::OUTSIDE_WINDOW);
        let key: ZenAPIKey = site.until("main", "overdue", overdue).await?;
        ensure!(message(&key, condition::ROTATION_OVERDUE).contains("zenop.dev/force=true"));
        ensure!(site.told("OutsideWindow").await?.type_.as_deref() == Some("Warning"));
        site.settled().await?;
        site.check_delivered("main", 2).await?;
        operator.measures("zenop_rotation_overdue 1").await?;

        site.apply(&annotated(closed("b"), "zenop.dev/force"))
            .await?;
        let key = site.key_ready("main", 3).await?;
        ensure!(message(&key, condition::ROTATION_OVERDUE).is_empty());
        site.settled().await?;
        site.check_delivered("main", 3).await?;
        operator.measures("zenop_rotation_overdue 0").await?;

        site.apply(&rotating(json!({"trigger": "c", "windows": window(true)})))
            .await?;
        site.key_ready("main", 4).await?;
        site.check_delivered("main", 4).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_key_before_is_in_the_secret_as_long_as_it_is_accepted() -> Result<()> {
    site("previous", async |site| {
        let _operator = site.operator().await?;
        let rotating = |trigger: &str, retain: &str| {
            let template = json!({"includePrevious": true, "keys": {"previousKey": "BEFORE"}});
            let key = rotating(json!({"trigger": trigger, "retainFor": retain}));
            with(key, "spec.delivery", json!({"secretTemplate": template}))
        };
        site.apply_with(&rotating("a", "1h")).await?;
        site.key_ready("main", 1).await?;
        let first = site.check_delivered("main", 1).await?;
        let before = |secret: &Secret| entry(secret, "BEFORE");
        ensure!(before(&site.api().get("main-key").await?).is_none());

        site.apply(&rotating("b", "1h")).await?;
        site.key_ready("main", 2).await?;
        let second = site.check_delivered("main", 2).await?;
        ensure!(before(&site.api().get("main-key").await?) == Some(first));

        // The newest of them, and none once it is over: a shorter time counts at once.
        site.apply(&rotating("c", "1h")).await?;
        site.key_ready("main", 3).await?;
        ensure!(before(&site.api().get("main-key").await?) == Some(second));
        site.apply(&rotating("c", "1s")).await?;
        left(site, &[3]).await?;
        ensure!(before(&site.api().get("main-key").await?).is_none());
        site.settled().await?;
        site.check_delivered("main", 3).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn without_overlap_the_old_key_is_dead_at_once() -> Result<()> {
    site("no-overlap", async |site| {
        let _operator = site.operator().await?;
        let rotating = |t: &str| rotating(json!({"trigger": t, "retainFor": "0s"}));
        site.apply_with(&rotating("a")).await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        site.apply(&rotating("b")).await?;
        let key = site.key_ready("main", 2).await?;
        ensure!(accepted(&key) == [2]);
        ensure!(site.generation_of(&key, &old).await?.is_none());
        site.check_delivered("main", 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_paused_key_is_not_rotated_and_is_revoked_all_the_same() -> Result<()> {
    site("paused", async |site| {
        let operator = site.operator().await?;
        let paused = |object| annotated(object, "zenop.dev/paused");
        let at = |trigger: &str, retain: &str| {
            let interval = "100h";
            rotating(json!({"trigger": trigger, "retainFor": retain, "interval": interval}))
        };
        site.apply_with(&at("a", "1h")).await?;
        site.key_ready("main", 1).await?;
        site.apply(&at("b", "1h")).await?;
        site.key_ready("main", 2).await?;
        let text = site.check_delivered("main", 2).await?;

        // A trigger, its time and a lost Secret: nothing is made.
        site.apply(&paused(at("c", "1h"))).await?;
        let is = says(condition::PAUSED, "True", reason::PAUSED);
        site.until::<ZenAPIKey>("main", "paused", is).await?;
        site.age("main", SignedDuration::from_hours(120)).await?;
        let overdue = says(condition::ROTATION_OVERDUE, "True", reason::PAUSED);
        site.until::<ZenAPIKey>("main", "overdue", overdue).await?;
        operator.measures("zenop_rotation_overdue 1").await?;
        site.delete::<Secret>("main-key").await?;
        site.settled().await?;
        ensure!(site.api::<Secret>().get_opt("main-key").await?.is_none());

        // The old key goes, the key is switched off, and comes to its end.
        left(site, &[2]).await?;
        let off = with(paused(at("c", "1h")), "spec.active", json!(false));
        site.apply(&off).await?;
        let inactive = says(condition::ACTIVE, "False", reason::DEACTIVATED);
        site.until::<ZenAPIKey>("main", "off", inactive).await?;
        let over = json!("2020-01-01T00:00:00Z");
        site.apply(&with(paused(at("c", "1h")), "spec.expiresAt", over))
            .await?;
        let expired = says(condition::ACTIVE, "False", reason::EXPIRED);
        site.until::<ZenAPIKey>("main", "expired", expired).await?;

        site.apply(&at("c", "1h")).await?;
        let key = site.key_ready("main", 3).await?;
        ensure!(message(&key, condition::PAUSED).is_empty());
        ensure!(site.check_delivered("main", 3).await? != text);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_expires_soon_is_told() -> Result<()> {
    site("expiring", async |site| {
        let operator = site.operator().await?;
        let end = now() + SignedDuration::from_hours(24 * 30);
        let expiring = with(key("main"), "spec.expiresAt", json!(end.to_string()));
        site.apply_with(&expiring).await?;
        let key = site.key_ready("main", 1).await?;
        ensure!(message(&key, condition::EXPIRING_SOON).is_empty());
        operator.measures("zenop_api_keys_expiring_soon 0").await?;

        // The last fifth of its life, or the last week.
        let soon = || says(condition::EXPIRING_SOON, "True", reason::EXPIRING_SOON);
        let end = now() + SignedDuration::from_hours(24 * 6);
        let end_text = json!(end.to_string());
        site.apply(&with(self::key("main"), "spec.expiresAt", end_text.clone()))
            .await?;
        site.age("main", SignedDuration::from_hours(24 * 40))
            .await?;
        let key: ZenAPIKey = site.until("main", "said to expire soon", soon()).await?;
        ensure!(message(&key, condition::EXPIRING_SOON).contains("spec.expiresAt"));
        ensure!(site.told("ExpiringSoon").await?.type_.as_deref() == Some("Warning"));
        operator.measures("zenop_api_keys_expiring_soon 1").await?;
        let first = format!(
            "zenop_api_keys_next_expiration_timestamp_seconds {}",
            end.as_second()
        );
        operator.measures(&first).await?;

        // One that is rotated before it dies expires for nobody.
        let rotated = json!({"interval": "1000h"});
        let rotated = with(self::key("main"), "spec.rotation", rotated);
        site.apply(&with(rotated, "spec.ttl", json!("2000h")))
            .await?;
        let calm =
            |key: &ZenAPIKey| ready(key) && message(key, condition::EXPIRING_SOON).is_empty();
        site.until("main", "not said to expire", calm).await?;

        let gone = now() + SignedDuration::from_secs(2);
        let gone = with(self::key("main"), "spec.expiresAt", json!(gone.to_string()));
        site.apply(&gone).await?;
        let expired = says(condition::ACTIVE, "False", reason::EXPIRED);
        site.until::<ZenAPIKey>("main", "expired by time alone", expired)
            .await?;
        operator.measures("zenop_api_keys_inactive 1").await
    })
    .await
}

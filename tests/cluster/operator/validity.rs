//! When keys and accounts may be used: of the two the tighter wins, and time alone changes it.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use zenop::{
    api::{ZenAPIKey, ZenServiceAccount, condition, reason},
    runtime::clock::now,
};

use crate::support::{Site, account, key, ready, says, server, site, with};

/// A moment so far from now, in whole seconds as the API keeps it.
fn at(seconds: i64) -> Timestamp {
    let second = now().as_second() + seconds;
    Timestamp::from_second(second).unwrap()
}

fn text(at: Timestamp) -> Value {
    json!(at.to_string())
}

async fn active(site: &Site, name: &str, reason: &str) -> Result<ZenAPIKey> {
    let holds = if reason == reason::ACTIVE {
        "True"
    } else {
        "False"
    };
    let is = says(condition::ACTIVE, holds, reason);
    site.until(name, reason, is).await
}

#[tokio::test]
async fn a_key_begins_and_ends_by_time_alone() -> Result<()> {
    site("begins", async |site| {
        let _operator = site.operator().await?;
        let later = with(key("main"), "spec.validFrom", text(at(6)));
        site.apply_with(&with(later, "spec.expiresAt", text(at(10))))
            .await?;
        active(site, "main", reason::NOT_YET_VALID).await?;
        let mark = site.proxy.mark();
        active(site, "main", reason::ACTIVE).await?;
        active(site, "main", reason::EXPIRED).await?;
        let counted = |account: &ZenServiceAccount| {
            let keys = account
                .status
                .as_ref()
                .map(|s| (s.keys.active, s.keys.total));
            ready(account) && keys == Some((0, 1))
        };
        site.until("ci", "without an active key", counted).await?;
        let reads = zenop_cluster::fault::Match::work()
            .on("secrets")
            .named("main-key");
        let looks = site.proxy.since(mark, &reads).len();
        ensure!(looks <= 6, "{looks} looks for two changes");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_account_and_key_the_tighter_wins() -> Result<()> {
    site("tighter", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let day = |days: i64| at(days * 24 * 3600);
        let (soon, late) = (day(30), day(60));
        site.apply(&with(account("ci"), "spec.expiresAt", text(soon)))
            .await?;
        for (name, end) in [("late", late), ("never", late), ("soon", day(20))] {
            let own = match name {
                "never" => key(name),
                _ => with(key(name), "spec.expiresAt", text(end)),
            };
            site.apply(&own).await?;
        }
        let ends = |end: Timestamp| {
            move |key: &ZenAPIKey| {
                let status = key.status.as_ref();
                ready(key)
                    && status
                        .and_then(|s| s.expires_at.as_ref())
                        .is_some_and(|t| t.0 == end)
            }
        };
        let of_soon: ZenAPIKey = site.api().get("soon").await?;
        let own = of_soon.spec.expires_at.map_or(soon, |end| end.0);
        for (name, end) in [("late", soon), ("never", soon), ("soon", own)] {
            site.until(name, &format!("ending at {end}"), ends(end))
                .await?;
        }
        let next = |account: &ZenServiceAccount| {
            let status = account.status.as_ref();
            let next = status.and_then(|s| s.next_expiry_time.clone());
            ready(account) && next.is_some_and(|next| next.0 == own)
        };
        site.until("ci", "with its next expiry", next).await?;
        let table = site.kubectl(&["get", "zenserviceaccount", "ci"]).await?;
        ensure!(table.contains(&own.to_string()), "{table}");

        // The account begins later than its keys, ends, and is switched off and on.
        let starting = with(account("ci"), "spec.validFrom", text(day(1)));
        site.apply(&starting).await?;
        active(site, "never", reason::ACCOUNT_NOT_VALID).await?;
        let over = with(
            account("ci"),
            "spec.expiresAt",
            json!("2020-01-01T00:00:00Z"),
        );
        site.apply(&over).await?;
        active(site, "never", reason::ACCOUNT_NOT_VALID).await?;
        site.apply(&with(account("ci"), "spec.active", json!(false)))
            .await?;
        active(site, "never", reason::ACCOUNT_DEACTIVATED).await?;
        site.apply(&account("ci")).await?;
        active(site, "never", reason::ACTIVE).await?;
        site.check_delivered("never", 1).await.map(drop)
    })
    .await
}

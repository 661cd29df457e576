//! Keys that were made elsewhere: in another tool's Secret, or known by their hash alone.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    api::{KeyState, ZenAPIKey, condition, reason},
    auth::api_key::{ApiKey, KeySecret},
};

use crate::support::{
    Site, accepted, account, key, message, ready, says, server, site, stalled, waiting, with,
};

/// A key that anybody could have made; `seed` tells one from another.
pub fn made(id: u128, seed: u8) -> ApiKey {
    let byte = |n: usize| (n as u8).wrapping_mul(7).wrapping_add(seed);
    ApiKey {
        id: Uuid::from_u128(id),
        secret: KeySecret::from_random(&std::array::from_fn(byte)),
    }
}

pub fn theirs(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault"},
        "stringData": {"api-key": text},
    })
}

pub fn value_from(name: &str, secret: &str) -> Value {
    let from = json!({"secretKeyRef": {"name": secret, "key": "api-key"}});
    let source = json!({"type": "ValueFrom", "valueFrom": from});
    with(key(name), "spec.source", source)
}

pub fn verifier(name: &str, made: &ApiKey) -> Value {
    let verifier = json!({
        "keyId": made.id.to_string(), "sha256": made.secret.digest().to_hex(),
    });
    let source = json!({"type": "Verifier", "verifier": verifier});
    let key = with(key(name), "spec.source", source);
    with(key, "spec.delivery", json!({"mode": "None"}))
}

/// Makes the operator look at its source now, and not within half a minute.
async fn poke(site: &Site, main: &Value, times: u8) -> Result<()> {
    let poked = with(main.clone(), "spec.description", json!(times.to_string()));
    site.apply(&poked).await.map(drop)
}

#[tokio::test]
async fn a_key_comes_from_another_tools_secret() -> Result<()> {
    site("given", async |site| {
        let _operator = site.operator().await?;
        let main = value_from("main", "vault");
        site.apply_with(&main).await?;
        let missing = waiting(reason::SOURCE_NOT_FOUND);
        let waits: ZenAPIKey = site.until("main", "without a source", missing).await?;
        ensure!(message(&waits, condition::READY).contains("Secret vault"));

        // It comes, and is looked for without being asked.
        let first = made(7, 1);
        let their_secret = site.apply(&theirs(&format!("{}\n", *first.text()))).await?;
        let key = site.key_ready("main", 1).await?;
        ensure!(key.status.as_ref().and_then(|s| s.key_id.clone()) == Some(first.id.to_string()));
        ensure!(site.check_delivered("main", 1).await? == *first.text());
        site.settled().await?;
        let vault: Secret = site.api().get("vault").await?;
        ensure!(vault.metadata.resource_version == their_secret.metadata.resource_version);

        // The tool rotates it.
        let second = made(7, 2);
        site.apply(&theirs(&second.text())).await?;
        poke(site, &main, 1).await?;
        let key = site.key_ready("main", 2).await?;
        ensure!(site.check_delivered("main", 2).await? == *second.text());
        let old = site.generation_of(&key, &first.text()).await?;
        ensure!(old == Some((KeyState::Previous, 1)));
        site.told("KeyRotated").await?;

        // It goes back to the one before: that is another generation, and only one is current.
        site.apply(&theirs(&first.text())).await?;
        poke(site, &main, 2).await?;
        let key = site.key_ready("main", 3).await?;
        ensure!(site.check_delivered("main", 3).await? == *first.text());
        ensure!(accepted(&key) == [2, 3], "{:?}", accepted(&key));

        // Somebody alters what we deliver: repaired, with the same key.
        site.delete::<Secret>("main-key").await?;
        poke(site, &main, 3).await?;
        site.key_ready("main", 3).await?;
        site.settled().await?;
        ensure!(site.check_delivered("main", 3).await? == *first.text());

        // The tool's Secret goes: the key stays as it is.
        site.delete::<Secret>("vault").await?;
        poke(site, &main, 4).await?;
        let gone = waiting(reason::SOURCE_NOT_FOUND);
        let key: ZenAPIKey = site.until("main", "without a source again", gone).await?;
        ensure!(accepted(&key) == [2, 3] && site.key_text("main-key").await? == *first.text());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_of_another_id_ends_those_before_it() -> Result<()> {
    site("another-id", async |site| {
        let _operator = site.operator().await?;
        let main = value_from("main", "vault");
        site.apply(&theirs(&made(7, 1).text())).await?;
        site.apply_with(&main).await?;
        site.key_ready("main", 1).await?;
        site.apply(&theirs(&made(8, 1).text())).await?;
        poke(site, &main, 1).await?;
        let key = site.key_ready("main", 2).await?;
        ensure!(site.check_delivered("main", 2).await? == *made(8, 1).text());
        // Nobody would find a key by an id that is not recorded: none is said to be accepted.
        ensure!(accepted(&key) == [2], "{:?}", accepted(&key));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_no_good_key_is_refused_and_not_shown() -> Result<()> {
    site("bad-source", async |site| {
        let _operator = site.operator().await?;
        let main = value_from("main", "vault");
        site.apply_with(&main).await?;
        let weak = ApiKey {
            id: Uuid::from_u128(7),
            secret: KeySecret::from_random(&[0x5a; 32]),
        };
        let good = made(7, 1).text().to_string();
        let cut = good.get(..good.len() - 12).context("too short")?.to_owned();
        let bad = [
            (weak.text().to_string(), "not random"),
            (cut, "kubectl zen key new --offline"),
            ("hunter2-hunter2-hunter2".to_owned(), "ZENKEY_"),
            (String::new(), "ZENKEY_"),
            (format!("ZENKEY_{}", "A".repeat(20_000)), "too long"),
        ];
        for (n, (text, why)) in bad.iter().enumerate() {
            site.apply(&theirs(text)).await?;
            poke(site, &main, n as u8).await?;
            let is = |key: &ZenAPIKey| {
                stalled(reason::SOURCE_INVALID)(key)
                    && message(key, condition::STALLED).contains(why)
            };
            let key: ZenAPIKey = site.until("main", why, is).await?;
            let said = serde_json::to_string(&key)?;
            ensure!(text.is_empty() || !said.contains(text), "it shows what it read");
            ensure!(!said.contains(&"5a".repeat(8)), "it shows what it read");
            ensure!(accepted(&key).is_empty());
        }
        ensure!(site.api::<Secret>().get_opt("main-key").await?.is_none());
        site.told("SourceInvalid").await?;

        // A token of Kubernetes is not for us, whatever is beside it.
        let token = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
            "stringData": {"api-key": good},
        });
        site.apply(&token).await?;
        site.apply(&value_from("tempted", "token")).await?;
        let refused = stalled(reason::SOURCE_INVALID);
        let key: ZenAPIKey = site.until("tempted", "refused", refused).await?;
        ensure!(message(&key, condition::STALLED).contains("Kubernetes token"));
        // An entry that is not there, and the right one in the end.
        site.apply(&theirs(&good)).await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_hash_is_enough_and_is_not_delivered() -> Result<()> {
    site("hash", async |site| {
        let operator = site.operator().await?;
        let (first, second) = (made(9, 1), made(9, 2));
        site.apply_with(&verifier("main", &first)).await?;
        let key = site.key_ready("main", 1).await?;
        let is = site.generation_of(&key, &first.text()).await?;
        ensure!(is == Some((KeyState::Current, 1)));
        ensure!(says(condition::ACTIVE, "True", reason::ACTIVE)(&key));
        ensure!(message(&key, condition::SECRET_PUBLISHED).is_empty());
        ensure!(site.api::<Secret>().get_opt("main-key").await?.is_none());
        ensure!(key.status.as_ref().is_some_and(|s| s.secret_ref.is_none()));

        site.apply(&verifier("main", &second)).await?;
        let key = site.key_ready("main", 2).await?;
        let is = [&first, &second].map(|made| made.text().to_string());
        let states = [
            site.generation_of(&key, &is[0]).await?,
            site.generation_of(&key, &is[1]).await?,
        ];
        ensure!(states == [Some((KeyState::Previous, 1)), Some((KeyState::Current, 2))]);

        // The server wants it rotated, which only its maker can do.
        let policy = json!({"policy": {"keys": {"requireRotationWithin": "100h"}}});
        site.apply(&with(server("prod"), "spec", policy)).await?;
        site.age("main", jiff::SignedDuration::from_hours(101))
            .await?;
        let overdue = says(
            condition::ROTATION_OVERDUE,
            "True",
            reason::ROTATION_OVERDUE,
        );
        let key: ZenAPIKey = site.until("main", "overdue", overdue).await?;
        ensure!(message(&key, condition::ROTATION_OVERDUE).contains("at its source"));
        site.told("RotationOverdue").await?;
        operator.measures("zenop_rotation_overdue 1").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_id_that_an_older_key_has_is_refused() -> Result<()> {
    site("same-id", async |site| {
        let _operator = site.operator().await?;
        site.apply_with(&key("main")).await?;
        let generated = site.key_ready("main", 1).await?;
        let stolen: ApiKey = site.check_delivered("main", 1).await?.parse()?;
        super::parties::another_second().await?;

        // With the text of another key, in a Secret or as a hash, of this account or another.
        site.apply(&account("other")).await?;
        site.apply(&theirs(&stolen.text())).await?;
        let of = |key: Value| with(key, "spec.serviceAccountRef.name", json!("other"));
        site.apply(&of(value_from("thief", "vault"))).await?;
        site.apply(&verifier("copy", &stolen)).await?;
        for name in ["thief", "copy"] {
            let refused = stalled(reason::KEY_ID_CONFLICT);
            let key: ZenAPIKey = site.until(name, "refused", refused).await?;
            ensure!(message(&key, condition::STALLED).contains("older ZenAPIKey main"));
            ensure!(accepted(&key).is_empty());
        }
        let is = |key: &ZenAPIKey| ready(key) && key.status == generated.status;
        site.until("main", "as it was", is).await.map(drop)
    })
    .await
}

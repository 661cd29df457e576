//! How long what is taken back is still accepted, as a distribution: a figure, not a limit, as it
//! depends on the machine.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use zenop::api::ZenAPIKey;

use crate::{
    devices::{begin, client, devices, pair, token},
    door::{Sidecar, delivered},
    support::{PATIENCE, Site, account, key, site, with},
};

const TRIALS: usize = 200;

/// How something is taken back.
#[derive(Clone, Copy, Debug)]
enum Way {
    KeyDeactivated,
    AccountDeactivated,
    KeyExpired,
    KeyDeleted,
    DeviceLocked,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::KeyDeactivated,
        Self::AccountDeactivated,
        Self::KeyExpired,
        Self::KeyDeleted,
        Self::DeviceLocked,
    ];

    /// What to apply to take back, or to restore. `None`: delete and make again.
    fn change(self, device: &Value, taken_back: bool) -> Option<Value> {
        let set = |object, path, value| match taken_back {
            true => with(object, path, value),
            false => object,
        };
        match self {
            Self::KeyDeactivated => Some(set(key("main"), "spec.active", json!(false))),
            Self::AccountDeactivated => Some(set(account("ci"), "spec.active", json!(false))),
            Self::KeyExpired => {
                let past = json!("2020-01-01T00:00:00Z");
                Some(set(key("main"), "spec.expiresAt", past))
            }
            Self::KeyDeleted => None,
            Self::DeviceLocked => Some(with(device.clone(), "spec.locked", json!(taken_back))),
        }
    }
}

#[tokio::test]
async fn how_long_what_is_revoked_is_accepted() -> Result<()> {
    site("trials", async |site| {
        let (_operator, replicas, text) = pair(site).await?;
        let (device, of_device) = device(site, &replicas, &text).await?;
        let mut of_key = issued(&replicas, &text).await?;
        let mut took = Vec::new();
        for trial in 0..TRIALS {
            let way = Way::ALL[trial % Way::ALL.len()];
            let tokens = match way {
                Way::DeviceLocked => vec![of_device.clone()],
                _ => of_key.clone(),
            };
            answer(&replicas, &tokens, 200).await?;
            took.push((way, trial_of(site, &replicas, &tokens, &device, way).await?));
            match way.change(&device, false) {
                Some(change) => drop(site.apply(&change).await?),
                None => of_key = made_again(site, &replicas, &tokens).await?,
            }
        }
        report(took);
        Ok(())
    })
    .await
}

/// A device that the account approved, and its token.
async fn device(site: &Site, replicas: &[Sidecar; 2], key: &str) -> Result<(Value, String)> {
    let [a, b] = replicas;
    let begun = begin(a, client(1)).await?;
    begun.approve(a, key).await?.expect(200)?;
    let granted = begun.decided(b).await?.expect(200)?;
    let all = devices(site).await?;
    ensure!(all.len() == 1, "{all:?}");
    let object = json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice",
        "metadata": {"name": all[0].name_any()},
        "spec": {
            "serverRef": {"name": "prod"}, "clientId": begun.client.to_string(),
            "userRef": {"kind": "ZenServiceAccount", "name": "ci"},
        },
    });
    Ok((object, token(&granted)?))
}

/// A token of each replica.
async fn issued(replicas: &[Sidecar; 2], key: &str) -> Result<Vec<String>> {
    try_join_all(replicas.iter().map(|replica| replica.token(key))).await
}

/// Microseconds from the API server's answer until the last request that was accepted.
async fn trial_of(
    site: &Site,
    replicas: &[Sidecar; 2],
    tokens: &[String],
    device: &Value,
    way: Way,
) -> Result<u128> {
    let over = AtomicBool::new(false);
    let trying = replicas.iter().flat_map(|replica| {
        let over = &over;
        tokens
            .iter()
            .map(move |token| last_accepted(replica, token, over))
    });
    let revoke = async {
        match way.change(device, true) {
            Some(change) => drop(site.apply(&change).await?),
            None => site.delete::<ZenAPIKey>("main").await?,
        }
        let answered = Instant::now();
        answer(replicas, tokens, 401).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(answered)
    };
    let (answered, accepted) = tokio::try_join!(revoke, try_join_all(trying))?;
    let last = accepted.into_iter().flatten().max();
    Ok(last.map_or(0, |at| at.saturating_duration_since(answered).as_micros()))
}

/// The key under its old name: another key, and tokens of it. The old ones stay dead.
async fn made_again(site: &Site, replicas: &[Sidecar; 2], old: &[String]) -> Result<Vec<String>> {
    site.apply(&key("main")).await?;
    site.key_ready("main", 1).await?;
    let text = delivered(site, "main-key").await?;
    for replica in replicas {
        replica
            .until("aware of the new key", async || {
                replica.login(&text).await.is_ok_and(|a| a.status == 200)
            })
            .await?;
    }
    answer(replicas, old, 401).await?;
    issued(replicas, &text).await
}

/// Waits until both replicas answer all tokens so.
async fn answer(replicas: &[Sidecar; 2], tokens: &[String], status: u16) -> Result<()> {
    for (replica, token) in replicas
        .iter()
        .flat_map(|replica| tokens.iter().map(move |token| (replica, token)))
    {
        let answered = async {
            while replica.me(token).await?.status != status {}
            anyhow::Ok(())
        };
        timeout(PATIENCE, answered).await??;
    }
    Ok(())
}

/// When a replica last accepted a token.
async fn last_accepted(
    replica: &Sidecar,
    token: &str,
    over: &AtomicBool,
) -> Result<Option<Instant>> {
    let mut last = None;
    while !over.load(Ordering::Relaxed) {
        if replica.me(token).await?.status == 200 {
            last = Some(Instant::now());
        }
    }
    Ok(last)
}

fn report(took: Vec<(Way, u128)>) {
    let line = |what: &str, mut took: Vec<u128>| {
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100] as f64 / 1000.0;
        println!(
            "{what}: {} trials, accepted after the API server's answer for p50 {:.1} ms, \
             p90 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            took.len(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
    };
    for way in Way::ALL {
        let of_way = took.iter().filter(|(w, _)| *w as u8 == way as u8);
        line(&format!("{way:?}"), of_way.map(|(_, took)| *took).collect());
    }
    line(
        "all, by two replicas, of tokens that were issued before",
        took.into_iter().map(|(_, took)| took).collect(),
    );
}

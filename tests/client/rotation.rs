//! features.md B6-B8: a key that rotates under its users, without one failed login.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    support::{PATIENCE, Site, key, site, with},
};

const ROTATIONS: usize = 50;
/// Who reads the Secret for every login, as a new process does.
const FRESH: usize = 3;
/// Who reads it once for a few logins, as a process that runs does.
const HOLDING: usize = 3;
const LOGINS_WITH_ONE_KEY: usize = 5;

/// What the clients did so far.
#[derive(Default)]
struct Tally {
    /// Logins of each client.
    logins: [AtomicUsize; FRESH + HOLDING],
    refused: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Tally {
    fn all(&self) -> Vec<usize> {
        self.logins
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .collect()
    }

    /// Waits until every client has logged in again.
    async fn goes_on(&self) -> Result<()> {
        let before = self.all();
        timeout(PATIENCE, async {
            while self
                .all()
                .iter()
                .zip(&before)
                .any(|(now, before)| now <= before)
            {
                tokio::task::yield_now().await;
            }
        })
        .await?;
        Ok(())
    }
}

/// Logs in without a pause, each time at another replica.
async fn client(site: &Site, doors: &[Sidecar; 2], n: usize, tally: &Tally) -> Result<()> {
    let with_one_key = if n < FRESH { 1 } else { LOGINS_WITH_ONE_KEY };
    let mut turn = n;
    while !tally.over.load(Ordering::Relaxed) {
        let key = delivered(site, "main-key").await?;
        for _ in 0..with_one_key {
            turn += 1;
            let answer = doors[turn % 2].login(&key).await?;
            if answer.status != 200 {
                tally
                    .refused
                    .lock()
                    .unwrap()
                    .push(format!("client {n}: {answer:?}"));
            }
            tally.logins[n].fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[tokio::test]
async fn fifty_rotations_fail_no_login() -> Result<()> {
    site("rotating", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let addresses = [free_address()?, free_address()?];
        let doors = [
            Sidecar::start(site, addresses[0]).await?,
            Sidecar::start(site, addresses[1]).await?,
        ];
        let first = delivered(site, "main-key").await?;
        let tally = Arc::new(Tally::default());
        let clients = (0..FRESH + HOLDING).map(|n| client(site, &doors, n, &tally));
        let rotations = async {
            let rotate = |n: usize| {
                let spec = json!({"trigger": n.to_string(), "retainFor": "10m"});
                with(key("main"), "spec.rotation", spec)
            };
            tally.goes_on().await?;
            for n in 1..=ROTATIONS {
                site.apply(&rotate(n)).await?;
                site.key_ready("main", i64::try_from(n)? + 1).await?;
                tally.goes_on().await?;
            }
            // The old one lived as long as it had to; now nobody needs it.
            let last = with(rotate(ROTATIONS), "spec.rotation.retainFor", json!("0s"));
            site.apply(&last).await?;
            tally.goes_on().await?;
            tally.over.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        };
        tokio::try_join!(rotations, try_join_all(clients))?;
        let refused = tally.refused.lock().unwrap().clone();
        let logins: usize = tally.all().iter().sum();
        println!(
            "{ROTATIONS} rotations, {logins} logins, {} refused",
            refused.len()
        );
        ensure!(refused.is_empty(), "{refused:#?}");
        ensure!(delivered(site, "main-key").await? != first);
        timeout(PATIENCE, async {
            while doors[0].login(&first).await?.status != 401 {}
            anyhow::Ok(())
        })
        .await?
    })
    .await
}

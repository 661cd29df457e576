//! features.md F19, H7: the keys that sign tokens rotate under real sidecars and their clients.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use futures::future::try_join_all;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use zenop::api::{SigningKeyState, SigningKeyStatus, ZenServer};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    support::{Site, site},
};

const ROTATIONS: usize = 4;
const CLIENTS: usize = 3;
const JWKS: &str = "/.well-known/jwks.json";
const MAX_AGE: Duration = Duration::from_secs(1);

fn kid(token: &str) -> Result<String> {
    let header = token.split('.').next().context("no header")?;
    let header: Value = serde_json::from_slice(&B64.decode(header)?)?;
    Ok(header["kid"].as_str().context("no kid")?.to_owned())
}

async fn published(sidecar: &Sidecar) -> Result<HashSet<String>> {
    let keys = sidecar.get(JWKS, None).await?.expect(200)?.json()?;
    let keys = keys["keys"].as_array().context("no keys")?.iter();
    Ok(keys
        .filter_map(|key| key["kid"].as_str().map(str::to_owned))
        .collect())
}

/// The keys of the server in a state.
fn of(server: &ZenServer, state: SigningKeyState) -> Vec<&SigningKeyStatus> {
    let keys = server.status.iter().flat_map(|status| &status.signing_keys);
    keys.filter(|key| key.state == state && key.published_time.is_some())
        .collect()
}

/// The key that signs once it is another one.
async fn signs(site: &Site, other_than: &str) -> Result<String> {
    let is = |server: &ZenServer| {
        let current = of(server, SigningKeyState::Current);
        current.len() == 1
            && current[0].kid != other_than
            && of(server, SigningKeyState::Next).len() == 1
    };
    let server = site.until("prod", "signing with another key", is).await?;
    Ok(of(&server, SigningKeyState::Current)[0].kid.clone())
}

async fn set(site: &Site, jwt: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"auth": {"jwt": jwt}}}));
    let api = site.api::<ZenServer>();
    api.patch("prod", &PatchParams::default(), &patch).await?;
    Ok(())
}

#[derive(Default)]
struct Tally {
    asked: AtomicUsize,
    refused: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// Logs in at one replica, and uses the token, and the first one of each key, at the other. It
/// keeps the JWKS for as long as it may, and never meets a key that is not in it.
async fn client(doors: &[Sidecar; 2], key: &str, n: usize, tally: &Tally) -> Result<Vec<String>> {
    let mut firsts: Vec<String> = Vec::new();
    let mut kept = (Instant::now(), published(&doors[n % 2]).await?);
    let mut turn = n;
    while !tally.over.load(Ordering::Relaxed) {
        turn += 1;
        let [one, other] = [&doors[turn % 2], &doors[(turn + 1) % 2]];
        if kept.0.elapsed() >= MAX_AGE {
            kept = (Instant::now(), published(other).await?);
        }
        let token = one.token(key).await?;
        ensure!(kept.1.contains(&kid(&token)?), "signed before it was known");
        let is_known = |first: &String| kid(first).ok() == kid(&token).ok();
        if !firsts.iter().any(is_known) {
            firsts.push(token.clone());
        }
        for token in firsts.iter().chain([&token]) {
            let answer = other.me(token).await?;
            if answer.status != 200 {
                tally.refused.lock().unwrap().push(format!("{answer:?}"));
            }
            tally.asked.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(firsts)
}

#[tokio::test]
async fn f19_j19_rotations_of_the_signing_key_refuse_no_token_and_a_revocation_does() -> Result<()>
{
    site("signing", async |site| {
        let auth = json!({"maxStaleness": "10s", "jwt": {"jwksMaxAge": "1s"}});
        let operator = set_up(site, free_address()?, &[("spec.auth", auth)]).await?;
        let doors = [
            Sidecar::start(site, free_address()?).await?,
            Sidecar::start(site, free_address()?).await?,
        ];
        let key = delivered(site, "main-key").await?;
        let first = signs(site, "").await?;
        let tally = Tally::default();
        let clients = (0..CLIENTS).map(|n| client(&doors, &key, n, &tally));
        let rotations = async {
            let mut current = first.clone();
            let mut seen = HashSet::from([first.clone()]);
            for n in 0..ROTATIONS {
                set(site, json!({"trigger": n.to_string()})).await?;
                current = signs(site, &current).await?;
                ensure!(seen.insert(current.clone()), "a key signs again");
            }
            // Everybody gets a token of the last one.
            let asked = tally.asked.load(Ordering::Relaxed);
            while tally.asked.load(Ordering::Relaxed) < asked + 20 * CLIENTS {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tally.over.store(true, Ordering::Relaxed);
            anyhow::Ok(current)
        };
        // Whichever fails ends it: who waits for the others would wait for ever.
        let (current, mut clients) = tokio::try_join!(rotations, try_join_all(clients))?;
        let firsts = clients.remove(0);
        let refused = tally.refused.lock().unwrap().clone();
        let asked = tally.asked.load(Ordering::Relaxed);
        println!(
            "{ROTATIONS} rotations, {asked} requests, {} refused",
            refused.len()
        );
        ensure!(refused.is_empty(), "{refused:#?}");
        ensure!(
            firsts.len() == ROTATIONS + 1,
            "{} keys signed",
            firsts.len()
        );
        site.told("SigningKeyRotated").await?;

        revoked(site, &doors, &key, &current, &firsts).await?;
        // Nobody has to be asked for it.
        operator.crash().await?;
        let [.., third, _, _] = &firsts[..] else {
            anyhow::bail!("too few")
        };
        set(site, json!({"revoked": [kid(third)?]})).await?;
        refuses(&doors, third).await
    })
    .await
}

/// Waits until both refuse a token.
async fn refuses(doors: &[Sidecar; 2], token: &str) -> Result<()> {
    let begun = Instant::now();
    for door in doors {
        let refused = async || {
            door.me(token)
                .await
                .is_ok_and(|answer| answer.status == 401)
        };
        door.until("without the key", refused).await?;
    }
    let took = begun.elapsed();
    println!("refused after {} ms", took.as_millis());
    ensure!(took < Duration::from_secs(60), "{took:?}");
    Ok(())
}

async fn revoked(
    site: &Site,
    doors: &[Sidecar; 2],
    key: &str,
    current: &str,
    firsts: &[String],
) -> Result<()> {
    let last = firsts.last().context("none")?;
    ensure!(kid(last)? == current);
    let server = site.api::<ZenServer>().get("prod").await?;
    let next = of(&server, SigningKeyState::Next)[0].kid.clone();
    set(site, json!({"revoked": [current]})).await?;
    refuses(doors, last).await?;
    ensure!(signs(site, current).await? == next, "the next key signs");
    site.told("SigningKeyRevoked").await?;
    for door in doors {
        let token = door.token(key).await?;
        ensure!(kid(&token)? == next);
        for token in firsts.iter().rev().skip(1).chain([&token]) {
            door.me(token).await?.expect(200)?;
        }
        ensure!(!published(door).await?.contains(current));
    }
    // Taken off the list, it is as dead: it was deleted.
    let gone = |server: &ZenServer| {
        let status = server.status.as_ref();
        status.is_some_and(|s| s.signing_keys.iter().all(|key| key.kid != current))
    };
    site.until("prod", "without the key", gone).await?;
    set(site, json!({"revoked": []})).await?;
    site.settled().await?;
    for door in doors {
        door.me(last).await?.expect(401)?;
    }
    Ok(())
}

//! Stories of secrets.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::Secret,
    rbac::v1::{Role, RoleBinding},
};
use kube::runtime::{
    WatchStreamExt,
    watcher::{Config, Event, watcher},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use zenop::{
    api::ZenSecret,
    auth::sealed::{Place, seal},
};

use super::story::Story;
use crate::support::{Site, entry, ready, secret, server, with};

/// Sees every value that was written down as drawn.
pub struct Drawn {
    seen: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Drawn {
    pub fn of(site: &Site) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let config = Config::default().fields("metadata.name=token-generated");
        let mut events = watcher(site.api::<Secret>(), config)
            .default_backoff()
            .boxed();
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(secret) | Event::InitApply(secret)) = event else {
                    continue;
                };
                let value = entry(&secret, "drawn").unwrap_or_default();
                book.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(value);
            }
        });
        Self { seen, task }
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A Secret that another tool keeps.
pub fn vault() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault"},
        "stringData": {"pass": "theirs"},
    })
}

fn drawn(trigger: &str) -> Value {
    json!({"key": "drawn", "generate": {"rotation": {"trigger": trigger}}})
}

/// A secret of a given and a drawn value.
pub fn declared(trigger: &str) -> Value {
    let given =
        json!({"key": "given", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "pass"}}});
    secret("token", json!([given, drawn(trigger)]))
}

/// The same with another value drawn, and nothing else.
pub fn another() -> Value {
    secret("token", json!([drawn("2")]))
}

/// The same under another name.
pub fn moved() -> Value {
    let renamed = with(declared("1"), "spec.name", json!("of another name"));
    with(renamed, "spec.target", json!({"secretName": "elsewhere"}))
}

/// A secret of each kind of value.
pub async fn come(site: &Site) -> Result<()> {
    site.apply(&vault()).await?;
    let to = site.sealing(|_| true).await?.recipient.parse()?;
    let place = Place {
        object: "token",
        entry: "sealed",
    };
    let sealed = json!({"key": "sealed", "encrypted": seal(&to, &place, b"from Git")?});
    let mut token = declared("1");
    token["spec"]["data"]
        .as_array_mut()
        .context("no data")?
        .push(sealed);
    site.apply(&token).await?;
    site.until("token", "Ready", ready::<ZenSecret>)
        .await
        .map(drop)
}

/// Another key to seal for.
pub async fn reseal(site: &Site) -> Result<()> {
    let first = site.sealing(|_| true).await?.recipient;
    let asked = with(server("prod"), "spec.sealing", json!({"trigger": "2"}));
    site.apply(&asked).await?;
    site.sealing(|sealing| sealing.recipient != first && sealing.keys == 2)
        .await
        .map(drop)
}

/// Waits until the server's pods may read the values in these Secrets, and the operator is done. That
/// right comes a moment after the Secrets.
pub async fn granted(site: &Site, names: &[&str]) -> Result<()> {
    const ROLE: &str = "prod.secrets";
    let named = |role: &Role| -> Vec<String> {
        let rules = role.rules.iter().flatten();
        rules
            .flat_map(|rule| rule.resource_names.clone().unwrap_or_default())
            .collect()
    };
    if names.is_empty() && site.api::<Role>().get_opt(ROLE).await?.is_none() {
        return Ok(());
    }
    let what = format!("of {names:?}");
    site.until(ROLE, &what, |role| named(role) == names).await?;
    site.until::<RoleBinding>(ROLE, "there", |_| true).await?;
    site.settled().await
}

/// That what was drawn is delivered, and nothing was drawn that nobody asked for.
pub async fn well(site: &Site, drawn: &Drawn, story: Story) -> Result<()> {
    let (name, times) = match story {
        Story::Secret => ("token", 1),
        Story::Draw => ("token", 2),
        Story::Move => ("elsewhere", 1),
        _ => return Ok(()),
    };
    let of = async |name: &str| {
        let secret: Secret = site.api().get(name).await?;
        entry(&secret, "drawn").context("no drawn value")
    };
    let (kept, delivered) = (of("token-generated").await?, of(name).await?);
    ensure!(
        kept == delivered,
        "another value is delivered than was kept"
    );
    let seen = drawn.seen.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        seen.contains(&kept) && seen.len() == times,
        "{} values were drawn",
        seen.len()
    );
    Ok(())
}

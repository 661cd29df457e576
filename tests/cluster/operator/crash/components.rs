//! Stories of components and of secrets that they refer to.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::api::{ZenComponent, ZenSecret, condition, reason};

use super::secrets::vault;
use crate::support::{Site, component, entry, ready, says, secret, with};

/// What a component refers to.
pub fn login(key: &str) -> Value {
    let from = json!({"secretKeyRef": {"name": "vault", "key": key}});
    let login = secret("login", json!([{"key": "pass", "valueFrom": from}]));
    let login = with(login, "spec.deletionPolicy", json!("Retain"));
    let template = json!({"data": {"dsn": "x:{{login.pass}}@db"}});
    with(login, "spec.target", json!({"secretTemplate": template}))
}

/// A component that refers to it.
pub fn tracker() -> Value {
    component("tracker", json!({"password": "{{login.pass}}"}))
}

/// The Secret of another tool with two values.
pub fn values() -> Value {
    with(vault(), "stringData.other", json!("another"))
}

async fn is_ready(site: &Site, value: &str) -> Result<()> {
    let held = |secret: &ZenSecret| {
        let used = secret.status.as_ref().is_some_and(|s| s.used_by.count == 1);
        ready(secret) && used && !secret.finalizers().is_empty()
    };
    site.until("login", "held", held).await?;
    let is = |secret: &Secret| entry(secret, "password").as_deref() == Some(value);
    site.until("tracker-attributes", "with the value", is)
        .await?;
    site.until("tracker", "Ready", ready::<ZenComponent>)
        .await
        .map(drop)
}

/// A component comes, and then what it refers to.
pub async fn come(site: &Site) -> Result<()> {
    for object in [tracker(), values(), login("pass")] {
        site.apply(&object).await?;
    }
    is_ready(site, "theirs").await
}

/// The value becomes another.
pub async fn change(site: &Site) -> Result<()> {
    site.apply(&login("other")).await?;
    is_ready(site, "another").await
}

/// The secret is deleted in use, and then the component.
pub async fn part(site: &Site) -> Result<()> {
    is_ready(site, "theirs").await?;
    let login: ZenSecret = site.api().get("login").await?;
    site.delete::<ZenSecret>("login").await?;
    let in_use = says::<ZenSecret>(condition::IN_USE, "True", reason::IN_USE);
    site.until("login", "in use", in_use).await?;
    let made: Secret = site.api().get("tracker-attributes").await?;
    site.delete::<ZenComponent>("tracker").await?;
    let uid = login.uid().context("no uid")?;
    site.until_gone::<ZenSecret>("login", &uid).await?;
    let uid = made.uid().context("no uid")?;
    site.until_gone::<Secret>("tracker-attributes", &uid)
        .await?;
    let left: Secret = site.api().get("login").await?;
    ensure!(left.owner_references().is_empty(), "still owned");
    ensure!(
        entry(&left, "dsn").as_deref() == Some("x:theirs@db"),
        "another value"
    );
    Ok(())
}

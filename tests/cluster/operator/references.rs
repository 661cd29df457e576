//! Secrets that others refer to, and that are made of others: features.md D13, D15, E, on a real API server.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use zenop::api::{ZenComponent, ZenSecret, condition, reason};

use super::components::{login, vault};
use crate::support::{
    Site, component, entry, message, ready, says, secret, server, site, stalled, waiting, with,
};

fn held(secret: &ZenSecret) -> bool {
    !secret.finalizers().is_empty()
}

fn template(object: Value, data: Value) -> Value {
    with(
        object,
        "spec.target",
        json!({"secretTemplate": {"data": data}}),
    )
}

async fn uid_of(site: &Site, name: &str) -> Result<String> {
    let secret: ZenSecret = site.api().get(name).await?;
    secret.uid().context("no uid")
}

/// A Secret with an entry as wanted.
async fn holds(site: &Site, name: &str, key: &str, wanted: &str) -> Result<()> {
    let is = |secret: &Secret| entry(secret, key).as_deref() == Some(wanted);
    site.until(name, &format!("with {key} as wanted"), is)
        .await
        .map(drop)
}

#[tokio::test]
async fn d15_a_secret_in_use_waits_to_be_deleted() -> Result<()> {
    site("in-use", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana"}))).await?;
        site.apply(&login("login", &["user"])).await?;
        let fresh: ZenSecret = site.until("login", "Ready", ready).await?;
        ensure!(!held(&fresh), "a finalizer though nobody refers to it");
        for name in ["tracker", "alerter"] {
            site.apply(&component(name, json!({"a": "{{login.user}}"})))
                .await?;
        }
        site.until("login", "held", held).await?;
        let uid = uid_of(site, "login").await?;
        site.delete::<ZenSecret>("login").await?;
        let in_use = says::<ZenSecret>(condition::IN_USE, "True", reason::IN_USE);
        let waits = site.until("login", "in use", in_use).await?;
        let said = message(&waits, condition::IN_USE);
        ensure!(
            said.contains("ZenComponent alerter, ZenComponent tracker refer to it"),
            "{said}"
        );
        site.told(reason::IN_USE).await?;

        // Meanwhile it is kept as it is to be, and those who refer to it do not notice.
        site.apply(&vault(json!({"user": "ben"}))).await?;
        holds(site, "tracker-attributes", "a", "ben").await?;
        site.delete::<ZenComponent>("tracker").await?;
        let alone = |secret: &ZenSecret| {
            message(secret, condition::IN_USE).contains("while ZenComponent alerter refer to it")
        };
        site.until("login", "used by one", alone).await?;
        site.apply(&component("alerter", json!({"a": "plain"})))
            .await?;
        site.until_gone::<ZenSecret>("login", &uid).await?;

        // Nobody refers to it any more: nothing holds it.
        site.apply(&login("other", &["user"])).await?;
        site.apply(&component("alerter", json!({"a": "{{other.user}}"})))
            .await?;
        site.until("other", "held", held).await?;
        site.apply(&component("alerter", json!({"a": "plain"})))
            .await?;
        site.until("other", "free", |secret: &ZenSecret| !held(secret))
            .await?;

        // One who must, may: whoever refers to it is told.
        site.apply(&component("alerter", json!({"a": "{{other.user}}"})))
            .await?;
        site.until("other", "held", held).await?;
        let uid = uid_of(site, "other").await?;
        site.delete::<ZenSecret>("other").await?;
        let in_use = says::<ZenSecret>(condition::IN_USE, "True", reason::IN_USE);
        site.until("other", "in use", in_use).await?;
        site.kubectl(&["annotate", "zensecret", "other", "zenop.dev/force=true"])
            .await?;
        site.until_gone::<ZenSecret>("other", &uid).await?;
        let missing = waiting::<ZenComponent>(reason::SECRET_MISSING);
        site.until("alerter", "told", missing).await.map(drop)
    })
    .await
}

/// Two secrets that refer to each other, and a component that refers to both.
async fn knot(site: &Site) -> Result<[String; 2]> {
    site.apply(&server("prod")).await?;
    site.apply(&vault(json!({"user": "ana"}))).await?;
    let one = template(login("one", &["user"]), json!({"x": "{{two.user}}"}));
    let two = template(login("two", &["user"]), json!({"x": "{{one.user}}"}));
    let both = component("both", json!({"a": "{{one.user}}", "b": "{{two.user}}"}));
    for object in [&one, &two, &both] {
        site.apply(object).await?;
    }
    for name in ["one", "two"] {
        let used = |secret: &ZenSecret| {
            let status = secret.status.as_ref();
            held(secret) && ready(secret) && status.is_some_and(|s| s.used_by.count == 2)
        };
        site.until(name, "used by two", used).await?;
        holds(site, name, "x", "ana").await?;
    }
    Ok([uid_of(site, "one").await?, uid_of(site, "two").await?])
}

/// A prune deletes in any order.
#[tokio::test]
async fn d15_what_is_deleted_together_goes_together() -> Result<()> {
    site("together", async |site| {
        let _operator = site.operator().await?;
        let uids = knot(site).await?;
        site.delete::<ZenSecret>("one").await?;
        let in_use = says::<ZenSecret>(condition::IN_USE, "True", reason::IN_USE);
        site.until("one", "in use", in_use).await?;
        site.delete::<ZenSecret>("two").await?;
        site.delete::<ZenComponent>("both").await?;
        for (name, uid) in ["one", "two"].iter().zip(&uids) {
            site.until_gone::<ZenSecret>(name, uid).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn d15_the_end_of_a_namespace_waits_for_no_reference() -> Result<()> {
    site("ends", async |site| {
        // One whose rights do not go with the namespace.
        let mut launch = site.launch();
        launch.kubeconfig = site.plane.kubeconfig().to_owned();
        launch.lease_namespace = "default".to_owned();
        launch.lease = site.name().to_owned();
        let operator = site.start(&launch)?;
        operator.leads().await?;
        let uids = knot(site).await?;
        let data = json!([{"key": "token", "generate": {}}]);
        let kept = with(secret("kept", data), "spec.deletionPolicy", json!("Retain"));
        site.apply(&kept).await?;
        site.until("kept", "held", held).await?;
        let kept = uid_of(site, "kept").await?;
        let namespaces: Api<Namespace> = Api::all(site.ns.client().clone());
        let parameters = DeleteParams::default();
        namespaces.delete(site.name(), &parameters).await?;
        for (name, uid) in ["one", "two"].iter().zip(&uids) {
            site.until_gone::<ZenSecret>(name, uid).await?;
        }
        site.until_gone::<ZenSecret>("kept", &kept).await
    })
    .await
}

#[tokio::test]
async fn d14_what_is_retained_comes_back_with_its_values() -> Result<()> {
    site("retained", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let data = json!([{"key": "token", "generate": {}}]);
        let kept = with(
            secret("token", data),
            "spec.deletionPolicy",
            json!("Retain"),
        );
        site.apply(&kept).await?;
        let first: ZenSecret = site.until("token", "Ready", ready).await?;
        ensure!(held(&first));
        let value = |secret: &Secret| entry(secret, "token").unwrap_or_default();
        let before = value(&site.api().get("token").await?);
        site.delete::<ZenSecret>("token").await?;
        site.until_gone::<ZenSecret>("token", &first.uid().context("no uid")?)
            .await?;
        for name in ["token", "token-generated"] {
            let left: Secret = site.api().get(name).await?;
            ensure!(
                left.owner_references().is_empty(),
                "{name} belongs to somebody"
            );
            let heir = format!("{}/token", site.name());
            ensure!(left.annotations().get("zenop.dev/adopt") == Some(&heir));
            ensure!(
                !left.labels().contains_key("app.kubernetes.io/managed-by"),
                "{:?}",
                left.labels()
            );
        }

        // One that does not ask for it, does not get it; one that does, does.
        site.apply(&kept).await?;
        site.until(
            "token",
            "in conflict",
            stalled::<ZenSecret>(reason::CONFLICT),
        )
        .await?;
        site.apply(&with(kept.clone(), "spec.adoption", json!("IfUnowned")))
            .await?;
        let second: ZenSecret = site.until("token", "Ready", ready).await?;
        let after: Secret = site.api().get("token").await?;
        ensure!(value(&after) == before, "another value was drawn");
        ensure!(after.owner_references()[0].uid == second.uid().context("no uid")?);
        ensure!(!after.annotations().contains_key("zenop.dev/adopt"));
        let generated: Secret = site.api().get("token-generated").await?;
        ensure!(value(&generated) == before);

        // With `Delete` all of it goes.
        site.apply(&with(kept, "spec.deletionPolicy", json!("Delete")))
            .await?;
        site.until("token", "free", |secret: &ZenSecret| !held(secret))
            .await?;
        site.settled().await
    })
    .await
}

#[tokio::test]
async fn d13_entries_are_made_of_values_and_follow_them() -> Result<()> {
    site("templates", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana", "pass": "first"}))).await?;
        let dsn = json!({
            "dsn": "postgres://{{db.user}}:{{ db.pass }}@db/", "own": "x={{app.token}}", "plain": "text",
        });
        let app = template(secret("app", json!([{"key": "token", "generate": {}}])), dsn);
        site.apply(&app).await?;

        // What is declared is there; what is made of others follows.
        let missing = waiting::<ZenSecret>(reason::SECRET_MISSING);
        let waits = site.until("app", "waiting", missing).await?;
        let said = message(&waits, condition::READY);
        ensure!(said.starts_with("spec.target.secretTemplate.data[dsn]: {{db.user}}: there is no secret db"), "{said}");
        let made: Secret = site.api().get("app").await?;
        ensure!(entry(&made, "token").is_some() && entry(&made, "dsn").is_none());
        site.apply(&login("db", &["user", "pass"])).await?;
        holds(site, "app", "dsn", "postgres://ana:first@db/").await?;
        let app_ready: ZenSecret = site.until("app", "Ready", ready).await?;
        let made: Secret = site.api().get("app").await?;
        let token = entry(&made, "token").context("no token")?;
        ensure!(entry(&made, "own") == Some(format!("x={token}")));
        ensure!(entry(&made, "plain").as_deref() == Some("text"));
        let keys = app_ready.status.as_ref().map(|s| s.keys.len());
        ensure!(keys == Some(1), "what is made of values cannot be referred to: {keys:?}");
        let used = |secret: &ZenSecret| {
            let refs = secret.status.iter().flat_map(|s| &s.used_by.refs);
            refs.map(|r| (&*r.kind, &*r.name)).eq([("ZenSecret", "app")])
        };
        site.until("db", "used", used).await?;

        // A change, and what somebody else changes.
        site.apply(&vault(json!({"user": "ana", "pass": "second"}))).await?;
        holds(site, "app", "dsn", "postgres://ana:second@db/").await?;
        let edited = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"dsn": "x"},
        });
        site.apply_as("somebody", &edited).await?;
        holds(site, "app", "dsn", "postgres://ana:second@db/").await?;
        site.until("app", "Ready", ready::<ZenSecret>).await?;

        // What it is made of goes: what was made stays.
        site.apply(&login("db", &["user"])).await?;
        site.until("app", "without the key", waiting::<ZenSecret>(reason::KEY_MISSING)).await?;
        holds(site, "app", "dsn", "postgres://ana:second@db/").await?;
        site.apply(&login("db", &["user", "pass"])).await?;
        site.until("app", "Ready", ready::<ZenSecret>).await?;

        let cannot = [
            (json!({"token": "x"}), "cannot be both"),
            (json!({"a b": "x"}), "name of an entry"),
        ];
        for (data, why) in cannot {
            let refused = site.apply(&template(app.clone(), data)).await.err().context("taken")?;
            ensure!(format!("{refused:#}").contains(why), "{refused:#}");
        }
        let stalls = [
            ("https://{{db.user}}:{{db", reason::MALFORMED_REFERENCE, "data[dsn], column 21: {{ has no }}"),
            ("{{app.own}}", reason::KEY_MISSING, "an entry of the template cannot be referred to"),
        ];
        for (text, reason, why) in stalls {
            site.apply(&template(app.clone(), json!({"dsn": text, "own": "y"}))).await?;
            let told = |secret: &ZenSecret| {
                stalled(reason)(secret) && message(secret, condition::STALLED).contains(why)
            };
            site.until("app", why, told).await?;
        }
        let bare = secret("app", json!([{"key": "token", "generate": {}}]));
        site.apply(&bare).await?;
        site.until("app", "Ready", ready::<ZenSecret>).await?;
        let made: Secret = site.api().get("app").await?;
        ensure!(made.data.is_some_and(|data| data.len() == 1));
        site.settled().await
    })
    .await
}

/// What all may read is made of nobody's own.
#[tokio::test]
async fn e5_a_template_reaches_what_its_readers_may_read() -> Result<()> {
    site("reach", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana"}))).await?;
        let private = |object: Value| {
            let object = with(object, "spec.scope", json!("User"));
            with(object, "spec.ownerRef", json!({"name": "ana"}))
        };
        site.apply(&private(login("own", &["user"]))).await?;
        let made = |name: &str| {
            let it = secret(name, json!([{"key": "token", "generate": {}}]));
            template(it, json!({"x": "{{own.user}}"}))
        };
        site.apply(&private(made("anas"))).await?;
        holds(site, "anas", "x", "ana").await?;
        let shared = with(made("shared"), "spec.ownerRef", json!({"name": "ana"}));
        site.apply(&shared).await?;
        site.until(
            "shared",
            "without",
            waiting::<ZenSecret>(reason::SECRET_MISSING),
        )
        .await
        .map(drop)
    })
    .await
}

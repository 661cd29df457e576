//! Two tenants, one operator of the whole cluster: nobody reaches into another's namespace (attacks.md S01, S02, K08).

use anyhow::{Context, Result, ensure};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};
use zenop::{
    api::{ZenAPIKey, ZenServiceAccount, condition, reason},
    auth::api_key::ApiKey,
};

use crate::{
    door::{Sidecar, delivered, free_address},
    support::{
        Launch, Operator, Site, account,
        helm::{RELEASE, SYSTEM, installed},
        key, message, ready, server,
        site::resource,
        site_on, waiting, with,
    },
};

/// An operator with the chart's rights everywhere: what keeps tenants apart is not that it could not.
async fn operator(site: &Site) -> Result<Operator> {
    let rights = site
        .plane
        .kubeconfig_for_service_account(SYSTEM, RELEASE, None)
        .await?;
    let launch = Launch {
        kubeconfig: rights,
        watch: None,
        lease_namespace: SYSTEM.to_owned(),
        ..site.launch()
    };
    let operator = site.start(&launch)?;
    operator.leads().await?;
    Ok(operator)
}

/// Server `prod` with account `ci` and key `main`, and its sidecar.
async fn tenant(site: &Site) -> Result<Sidecar> {
    let address = free_address()?;
    let url = json!(format!("http://{address}"));
    site.apply(&with(server("prod"), "spec.url", url)).await?;
    site.apply(&account("ci")).await?;
    site.apply(&key("main")).await?;
    site.key_ready("main", 1).await?;
    Sidecar::start(site, address).await
}

fn value_from(name: &str, reference: Value) -> Value {
    let source = json!({"type": "ValueFrom", "valueFrom": {"secretKeyRef": reference}});
    with(key(name), "spec.source", source)
}

/// References that say where they point to. `victim` is a namespace.
fn pointing(victim: &str) -> Vec<Value> {
    let there = |name: &str| json!({"name": name, "namespace": victim});
    let path = |kind: &str, name: &str| format!("../../{victim}/{kind}/{name}");
    let consumer = json!([{"kind": "Deployment", "name": path("deployments", "prod")}]);
    vec![
        with(key("bad"), "spec.serviceAccountRef", there("treasury")),
        with(account("bad"), "spec.serverRef", there("vault")),
        value_from(
            "bad",
            json!({"name": "hoard", "key": "api-key", "namespace": victim}),
        ),
        // A name becomes part of a path.
        value_from(
            "bad",
            json!({"name": path("secrets", "hoard"), "key": "api-key"}),
        ),
        value_from("bad", json!({"name": "main-key?x", "key": "api-key"})),
        value_from("bad", json!({"name": "..", "key": "api-key"})),
        with(
            key("bad"),
            "spec.serviceAccountRef.name",
            json!(format!("{victim}/treasury")),
        ),
        with(
            account("bad"),
            "spec.serverRef.name",
            json!(format!("{victim}/vault")),
        ),
        with(
            key("bad"),
            "spec.delivery",
            json!({"secretName": path("secrets", "mine")}),
        ),
        with(key("bad"), "spec.rotation", json!({"consumers": consumer})),
    ]
}

#[tokio::test]
async fn a_reference_has_no_place_for_a_namespace() -> Result<()> {
    site_on(installed().await?, "pointing", async |site| {
        for object in pointing("victim") {
            let refused = site.apply(&object).await;
            ensure!(refused.is_err(), "it was taken: {object}");
        }
        // An older client's POST does not fail on a field that is not known: it is dropped.
        for object in pointing("victim").iter().take(3) {
            let kind = object["kind"].as_str().context("no kind")?;
            let api: Api<DynamicObject> = site.dynamic(&resource("zenop.dev/v1alpha1", kind));
            let mut object = object.clone();
            object["metadata"] = json!({"generateName": "pruned-"});
            let object: DynamicObject = serde_json::from_value(object)?;
            let kept = api.create(&PostParams::default(), &object).await?;
            let kept = kept.data["spec"].to_string();
            ensure!(
                !kept.contains("namespace") && !kept.contains("victim"),
                "{kept}"
            );
        }
        Ok(())
    })
    .await
}

/// What an object of the attacker waits for, without the name it waits for.
async fn waits(site: &Site, object: &Value, name: &str, why: &str) -> Result<String> {
    site.apply(object).await?;
    let own = object["metadata"]["name"].as_str().context("no name")?;
    let said = if object["kind"] == "ZenAPIKey" {
        let key: ZenAPIKey = site.until(own, "waiting", waiting(why)).await?;
        let status = key.status.as_ref();
        ensure!(status.is_none_or(|s| s.key_id.is_none() && s.generations.is_empty()));
        message(&key, condition::READY)
    } else {
        let account: ZenServiceAccount = site.until(own, "waiting", waiting(why)).await?;
        message(&account, condition::READY)
    };
    ensure!(said.contains(name), "{said}");
    Ok(said.replace(name, "…"))
}

/// What exists in the other namespace alone is to the attacker as what exists nowhere.
async fn neither_found_nor_guessed(attacker: &Site) -> Result<()> {
    let of = |path: &str, kind: fn(&str) -> Value| {
        let path = path.to_owned();
        move |own: &str, name: &str| with(kind(own), &path, json!(name))
    };
    let secret = |own: &str, name: &str| value_from(own, json!({"name": name, "key": "api-key"}));
    type Make = Box<dyn Fn(&str, &str) -> Value>;
    let cases: [(Make, &str, &str); 3] = [
        (
            Box::new(of("spec.serviceAccountRef.name", key)),
            "treasury",
            reason::ACCOUNT_NOT_FOUND,
        ),
        (
            Box::new(of("spec.serverRef.name", account)),
            "vault",
            reason::SERVER_NOT_FOUND,
        ),
        (Box::new(secret), "hoard", reason::SOURCE_NOT_FOUND),
    ];
    for (make, theirs, why) in &cases {
        let there = waits(
            attacker,
            &make(&format!("to-{theirs}"), theirs),
            theirs,
            why,
        )
        .await?;
        let nowhere = make(&format!("no-{theirs}"), "nowhere");
        let nowhere = waits(attacker, &nowhere, "nowhere", why).await?;
        ensure!(
            there == nowhere,
            "it tells what exists elsewhere: {there} / {nowhere}"
        );
    }
    // Something that works, made afterwards: those before were not merely not looked at yet.
    attacker.apply(&key("later")).await?;
    attacker.key_ready("later", 1).await?;
    for (make, theirs, why) in &cases {
        waits(
            attacker,
            &make(&format!("to-{theirs}"), theirs),
            theirs,
            why,
        )
        .await?;
    }
    Ok(())
}

/// Keys of the attacker that say that they are the victim's.
async fn claims(attacker: &Site, victim: &Site, stolen: &ApiKey) -> Result<Vec<String>> {
    // A key of the same id, whose text the attacker knows.
    let forged = ApiKey {
        id: stolen.id,
        secret: zenop::auth::api_key::KeySecret::from_random(&std::array::from_fn(|n| n as u8)),
    };
    let verifier =
        json!({"keyId": forged.id.to_string(), "sha256": forged.secret.digest().to_hex()});
    let forged_key = with(
        key("forged"),
        "spec.source",
        json!({"type": "Verifier", "verifier": verifier}),
    );
    attacker
        .apply(&with(forged_key, "spec.delivery", json!({"mode": "None"})))
        .await?;
    attacker.key_ready("forged", 1).await?;
    // A status that says that it was made for the victim's account, from whoever may write one.
    let account: ZenServiceAccount = victim.api().get("treasury").await?;
    let uid = account.uid().context("no uid")?;
    let own = delivered(attacker, "later-key").await?;
    attacker
        .edit_status("later", |status| status["accountId"] = json!(uid))
        .await?;
    Ok(vec![forged.text().to_string(), own])
}

#[tokio::test]
async fn what_is_in_another_namespace_is_neither_used_nor_seen() -> Result<()> {
    let plane = installed().await?;
    site_on(plane, "victim", async |victim| {
        site_on(plane, "attacker", async |attacker| {
            let _operator = operator(victim).await?;
            let door = tenant(victim).await?;
            let other = tenant(attacker).await?;
            victim.apply(&account("treasury")).await?;
            victim.apply(&server("vault")).await?;
            let of = |key: Value| with(key, "spec.serviceAccountRef.name", json!("treasury"));
            victim.apply(&of(key("gold"))).await?;
            victim
                .until::<ZenServiceAccount>("treasury", "Ready", ready)
                .await?;
            victim.key_ready("gold", 1).await?;
            let gold = delivered(victim, "gold-key").await?;
            let hoard = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hoard"},
                "stringData": {"api-key": gold},
            });
            victim.apply(&hoard).await?;

            neither_found_nor_guessed(attacker).await?;
            let mut theirs = claims(attacker, victim, &gold.parse()?).await?;
            theirs.push(delivered(attacker, "main-key").await?);
            for key in &theirs {
                door.login(key).await?.expect(401)?;
                door.me(key).await?.expect(401)?;
            }
            let token = other.token(&theirs[2]).await?;
            other.me(&token).await?.expect(200)?;
            door.me(&token).await?.expect(401)?;
            // The victim's own are as they were, and good for nothing there.
            door.login(&gold).await?.expect(200)?;
            other.login(&gold).await?.expect(401)?;
            Ok(())
        })
        .await
    })
    .await
}

//! Every command of the real `zenml` CLI for service accounts and API keys, by an administrator.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use zenop::api::{ZenAPIKey, ZenServiceAccount, label};

use crate::{
    door::{Sidecar, free_address, set_up},
    support::{Site, account, key, site, with},
    zenml::zenml,
};

/// An administrator at a command line.
struct Scene<'a> {
    site: &'a Site,
    sidecar: Sidecar,
    /// Every key that was ever shown.
    shown: BTreeSet<String>,
}

impl Scene<'_> {
    /// Runs a command that succeeds and shows no key; what it prints.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let text = self.succeeds(arguments).await?;
        ensure!(
            !text.contains("ZENKEY_"),
            "{arguments:?} shows a key: {text}"
        );
        Ok(text)
    }

    /// Runs a command that shows a new key.
    async fn draws(&mut self, arguments: &[&str]) -> Result<String> {
        let text = self.succeeds(arguments).await?;
        let at = text
            .find("ZENKEY_")
            .with_context(|| format!("no key in {text}"))?;
        let is_key = |c: &char| c.is_ascii_alphanumeric() || "_+/=".contains(*c);
        let key: String = text[at..].chars().take_while(is_key).collect();
        ensure!(
            self.shown.insert(key.clone()),
            "{arguments:?} shows an old key"
        );
        Ok(key)
    }

    async fn succeeds(&self, arguments: &[&str]) -> Result<String> {
        let outcome = zenml(self.site, "main-key", arguments).await?;
        ensure!(outcome.success, "{arguments:?}: {}", outcome.text);
        Ok(outcome.text)
    }

    /// Runs a command that fails and says this.
    async fn fails(&self, arguments: &[&str], told: &[&str]) -> Result<()> {
        let outcome = zenml(self.site, "main-key", arguments).await?;
        let text = &outcome.text;
        ensure!(!outcome.success, "{arguments:?} succeeds: {text}");
        for told in told {
            ensure!(
                text.contains(told),
                "{arguments:?} does not say {told:?}: {text}"
            );
        }
        Ok(())
    }

    async fn logs_in(&self, key: &str, may: bool) -> Result<()> {
        let wanted = if may { 200 } else { 401 };
        let answer = self.sidecar.login(key).await?;
        ensure!(
            answer.status == wanted,
            "login: {answer:?}, wanted {wanted}"
        );
        Ok(())
    }
}

#[tokio::test]
async fn an_administrator_manages_accounts_and_keys_with_the_zenml_cli() -> Result<()> {
    site("commands", async |site| {
        let address = free_address()?;
        let operator = set_up(site, address, &[]).await?;
        site.apply(&with(account("ci"), "spec.isAdmin", json!(true)))
            .await?;
        let sidecar = Sidecar::start_with(site, address, "trace").await?;
        let mut scene = Scene {
            site,
            sidecar,
            shown: BTreeSet::new(),
        };
        accounts(&mut scene).await?;
        keys(&mut scene).await?;
        scene.run(&["service-account", "delete", "bot2"]).await?;
        scene
            .fails(&["service-account", "describe", "bot2"], &["bot2"])
            .await?;
        for key in &scene.shown {
            scene.logs_in(key, false).await?;
        }
        ensure!(
            site.api::<ZenAPIKey>()
                .list(&ListParams::default())
                .await?
                .items
                .len()
                == 1
        );
        declared(&scene).await?;
        operator.stop().await?;
        nothing_holds_a_key(&scene).await
    })
    .await
}

async fn accounts(scene: &mut Scene<'_>) -> Result<()> {
    let created = ["service-account", "create", "bot1", "-d", "first bot"];
    let begun = Instant::now();
    let first = scene.draws(&created).await?;
    println!("service-account create with a key: {:?}", begun.elapsed());
    scene.logs_in(&first, true).await?;
    let list = scene.run(&["service-account", "list"]).await?;
    ensure!(list.contains("bot1") && list.contains("ci"), "{list}");
    let described = scene.run(&["service-account", "describe", "bot1"]).await?;
    ensure!(described.contains("first bot"), "{described}");
    scene
        .fails(&created, &["Found existing service account with this name"])
        .await?;

    let update = ["service-account", "update", "bot1", "--name", "bot2"];
    scene
        .run(
            &[
                &update[..],
                &["--description", "second bot", "--active", "false"],
            ]
            .concat(),
        )
        .await?;
    scene.logs_in(&first, false).await?;
    scene
        .run(&["service-account", "update", "bot2", "--active", "true"])
        .await?;
    scene.logs_in(&first, true).await?;
    let described = scene.run(&["service-account", "describe", "bot2"]).await?;
    ensure!(described.contains("second bot"), "{described}");

    let api = scene.site.api::<ZenServiceAccount>();
    let made = api.list(&ListParams::default()).await?.items;
    let bot = made
        .iter()
        .find(|a| a.zenml_name() == "bot2")
        .context("no object")?;
    ensure!(
        bot.labels()
            .get(label::MANAGED_BY)
            .is_some_and(|by| by == "zenop-api")
    );
    ensure!(bot.name_any().starts_with("bot1-"), "{}", bot.name_any());
    Ok(())
}

async fn keys(scene: &mut Scene<'_>) -> Result<()> {
    let of = |rest: &[&'static str]| [&["service-account", "api-key", "bot2"], rest].concat();
    let first = scene.draws(&of(&["create", "k1", "-d", "a key"])).await?;
    scene.logs_in(&first, true).await?;
    scene
        .fails(&of(&["create", "k1"]), &["Found an existing API key"])
        .await?;
    let list = scene.run(&of(&["list"])).await?;
    ensure!(list.contains("k1") && list.contains("default"), "{list}");
    scene
        .run(&of(&[
            "update",
            "k1",
            "--name",
            "k2",
            "--description",
            "the key",
        ]))
        .await?;
    let described = scene.run(&of(&["describe", "k2"])).await?;
    ensure!(described.contains("the key"), "{described}");

    scene
        .run(&of(&["update", "k2", "--active", "false"]))
        .await?;
    scene.logs_in(&first, false).await?;
    scene
        .run(&of(&["update", "k2", "--active", "true"]))
        .await?;
    scene.logs_in(&first, true).await?;

    let second = scene
        .draws(&of(&["rotate", "k2", "--retain", "60"]))
        .await?;
    scene.logs_in(&first, true).await?;
    scene.logs_in(&second, true).await?;
    let third = scene.draws(&of(&["rotate", "k2"])).await?;
    scene.logs_in(&third, true).await?;
    scene.logs_in(&second, false).await?;

    scene.run(&of(&["delete", "k2", "--yes"])).await?;
    scene.logs_in(&third, false).await?;
    scene.fails(&of(&["describe", "k2"]), &["k2"]).await
}

/// What Git owns is refused with the owner's name, and stays as it is.
async fn declared(scene: &Scene<'_>) -> Result<()> {
    let flux = json!({
        "kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    let owned = with(key("main"), "metadata.labels", flux);
    scene.site.apply(&owned).await?;
    let namespace = scene.site.name();
    let of = |rest: &[&'static str]| [&["service-account", "api-key", "ci"], rest].concat();
    let by_flux = format!(
        "declared in Kubernetes as ZenAPIKey {namespace}/main, managed by Flux Kustomization \
         flux-system/apps: change it there"
    );
    for command in [
        of(&["update", "main", "--active", "false"]),
        of(&["rotate", "main"]),
        of(&["delete", "main", "--yes"]),
    ] {
        scene.fails(&command, &[&by_flux]).await?;
    }
    let by_user = format!(
        "declared in Kubernetes as ZenServiceAccount {namespace}/ci, managed by user: change it"
    );
    for command in [
        &["service-account", "update", "ci", "--active", "false"][..],
        &["service-account", "delete", "ci"],
    ] {
        scene.fails(command, &[&by_user]).await?;
    }
    scene.run(&["status"]).await.map(drop)
}

/// features.md B4, L1: not in an object, an event or a log at trace level.
async fn nothing_holds_a_key(scene: &Scene<'_>) -> Result<()> {
    let (all, site) = (ListParams::default(), scene.site);
    let places = [
        (
            "accounts",
            json!(site.api::<ZenServiceAccount>().list(&all).await?.items).to_string(),
        ),
        (
            "keys",
            json!(site.api::<ZenAPIKey>().list(&all).await?.items).to_string(),
        ),
        (
            "events",
            json!(site.api::<Event>().list(&all).await?.items).to_string(),
        ),
        (
            "Secrets",
            json!(site.api::<Secret>().list(&all).await?.items).to_string(),
        ),
        ("sidecar's log", scene.sidecar.log()),
        ("operator's log", site.logs()),
    ];
    ensure!(
        places[4].1.contains("CreateKey"),
        "the audit line is not logged"
    );
    ensure!(
        scene.shown.len() == 4,
        "{} keys were shown",
        scene.shown.len()
    );
    for key in &scene.shown {
        let encoded = key.trim_start_matches("ZENKEY_");
        let content: serde_json::Value = serde_json::from_slice(&STANDARD.decode(encoded)?)?;
        let digits = content["key"].as_str().context("no key inside")?;
        for (place, text) in &places {
            ensure!(
                !text.contains(encoded) && !text.contains(digits),
                "a key is in the {place}"
            );
        }
    }
    Ok(())
}

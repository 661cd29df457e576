//! Every write of a sidecar is lost, refused or answered wrongly once (faults.md F1 to F7): the
//! client, which repeats its request, ends where it would have without that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenServiceAccount};
use zenop_cluster::fault::{Action, Match, Proxy, Rule, Verb, When};

use crate::{
    door::{Answer, Sidecar, delivered, free_address, set_up},
    support::{PATIENCE, Site, account, site, with},
};

/// A sidecar whose calls pass a proxy that does harm.
struct Scene<'a> {
    site: &'a Site,
    proxy: Proxy,
    sidecar: Sidecar,
    token: String,
}

impl Scene<'_> {
    /// Does the harm to one write, and sends a request until it is answered well, as the client
    /// does.
    async fn send(
        &self,
        (verb, resource): (Verb, &str),
        (when, action): (When, Action),
        (method, path): (&str, &str),
        body: &Value,
    ) -> Result<Answer> {
        let rule = Rule::once(Match::verb(verb).on(resource), when, action);
        let harm = self.proxy.add(rule);
        let mut answer = self.sidecar.send(method, path, &self.token, body).await?;
        for _ in 0..3 {
            if answer.status == 503 {
                answer = self.sidecar.send(method, path, &self.token, body).await?;
            }
        }
        harm.acted(1, PATIENCE).await?;
        self.proxy.clear();
        // Deleted the first time, though nobody said so.
        if method == "DELETE" && answer.status == 404 {
            return Ok(answer);
        }
        answer.expect(200)
    }

    async fn accounts(&self) -> Result<usize> {
        let api = self.site.api::<ZenServiceAccount>();
        Ok(api.list(&ListParams::default()).await?.items.len() - 1)
    }

    async fn keys(&self) -> Result<Vec<ZenAPIKey>> {
        let api = self.site.api::<ZenAPIKey>();
        let mut keys = api.list(&ListParams::default()).await?.items;
        keys.retain(|key| key.name_any() != "main");
        Ok(keys)
    }
}

fn text(answer: &Answer) -> Result<String> {
    let key = answer.json()?["body"]["key"].clone();
    Ok(key.as_str().context("no key")?.to_owned())
}

fn harms() -> Vec<(When, Action)> {
    let refused = |code| Action::Status {
        code,
        retry_after: Some(1),
    };
    vec![
        (When::Before, Action::Drop),
        (When::After, Action::Drop),
        (When::Before, refused(409)),
        (When::Before, refused(429)),
        (When::Before, refused(500)),
        (When::After, refused(500)),
        (When::After, Action::Delay(Duration::from_secs(5))),
    ]
}

#[tokio::test]
async fn whatever_happens_to_a_write_it_is_done_once() -> Result<()> {
    site("harm", async |site| {
        let address = free_address()?;
        let operator = set_up(site, address, &[]).await?;
        site.apply(&with(account("ci"), "spec.isAdmin", json!(true)))
            .await?;
        let proxy = Proxy::start(site.plane).await?;
        let rights = site
            .plane
            .service_account_token(site.name(), "prod")
            .await?;
        let kubeconfig = proxy.kubeconfig(site.plane, &rights)?;
        let log = "error,kube_client=off";
        let sidecar = Sidecar::launch(site.name(), &kubeconfig, address, log)?;
        sidecar.becomes_ready().await?;
        let token = sidecar.token(&delivered(site, "main-key").await?).await?;
        let scene = Scene {
            site,
            proxy,
            sidecar,
            token,
        };
        for harm in harms() {
            whole_life(&scene, &harm)
                .await
                .with_context(|| format!("{harm:?}"))?;
        }
        operator.stop().await
    })
    .await
}

async fn whole_life(scene: &Scene<'_>, harm: &(When, Action)) -> Result<()> {
    let (accounts, keys) = ("zenserviceaccounts", "zenapikeys");
    let (named, nothing) = (json!({"name": "k"}), json!({}));
    let send = |write, request, body| scene.send(write, harm.clone(), request, body);
    let new = json!({"name": "bot", "active": true});
    let made = send((Verb::Create, accounts), ("POST", ""), &new).await?;
    let of = format!(
        "/{}/api_keys",
        made.json()?["id"].as_str().context("no id")?
    );
    let made = send((Verb::Create, keys), ("POST", &of), &named).await?;
    let first = text(&made)?;
    scene.sidecar.login(&first).await?.expect(200)?;
    ensure!(scene.accounts().await? == 1 && scene.keys().await?.len() == 1);

    let rotate = format!("{of}/k/rotate");
    let rotated = send((Verb::Patch, keys), ("PUT", &rotate), &nothing).await?;
    scene.sidecar.login(&text(&rotated)?).await?.expect(200)?;
    scene.sidecar.login(&first).await?.expect(401)?;
    let off = json!({"active": false});
    send((Verb::Patch, accounts), ("PUT", "/bot"), &off).await?;
    scene.sidecar.login(&text(&rotated)?).await?.expect(401)?;

    let key = format!("{of}/k");
    send((Verb::Delete, keys), ("DELETE", &key), &Value::Null).await?;
    ensure!(scene.keys().await?.is_empty());
    send((Verb::Delete, accounts), ("DELETE", "/bot"), &Value::Null).await?;
    ensure!(scene.accounts().await? == 0);
    Ok(())
}

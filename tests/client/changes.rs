//! Accounts and keys made through two sidecars at once, without an operator, and against others
//! who change the same objects.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenServiceAccount};

use crate::{
    door::{Answer, Sidecar, delivered, free_address, set_up},
    support::{Operator, Site, account, site, with},
};

/// Two replicas, and the token of an administrator.
struct Scene {
    replicas: [Sidecar; 2],
    operator: Operator,
    token: String,
}

impl Scene {
    async fn new(site: &Site) -> Result<Self> {
        let addresses = [free_address()?, free_address()?];
        let operator = set_up(site, addresses[0], &[]).await?;
        site.apply(&with(account("ci"), "spec.isAdmin", json!(true)))
            .await?;
        let replicas = [
            Sidecar::start(site, addresses[0]).await?,
            Sidecar::start(site, addresses[1]).await?,
        ];
        let token = replicas[0]
            .token(&delivered(site, "main-key").await?)
            .await?;
        Ok(Self {
            replicas,
            operator,
            token,
        })
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Result<Answer> {
        self.replicas[0]
            .send(method, path, &self.token, &body)
            .await
    }

    /// Sends the same to both replicas at once, four times each; the good answers.
    async fn race(&self, path: &str, body: &Value) -> Result<Vec<Answer>> {
        let both = self.replicas.iter().cycle().take(8);
        let answers = both.map(|replica| replica.send("POST", path, &self.token, body));
        let mut answers = try_join_all(answers).await?;
        let refused = |answer: &Answer| answer.status == 409;
        ensure!(
            answers.iter().filter(|a| refused(a)).count() == 7,
            "{answers:?}"
        );
        answers.retain(|answer| !refused(answer));
        Ok(answers)
    }

    /// An account `bot` with a key `k`; the path of its keys, and the key.
    async fn bot(&self) -> Result<(String, String)> {
        let body = json!({"name": "bot", "active": true});
        let made = self.send("POST", "", body).await?.expect(200)?.json()?;
        let keys = format!("/{}/api_keys", made["id"].as_str().context("no id")?);
        let made = self.send("POST", &keys, json!({"name": "k"})).await?;
        Ok((keys, text(&made.expect(200)?)?))
    }
}

fn text(answer: &Answer) -> Result<String> {
    let key = answer.json()?["body"]["key"].clone();
    Ok(key.as_str().context("no key")?.to_owned())
}

async fn api_keys(site: &Site) -> Result<Vec<ZenAPIKey>> {
    let mut keys = site.api().list(&ListParams::default()).await?.items;
    keys.retain(|key: &ZenAPIKey| key.name_any() != "main");
    Ok(keys)
}

#[tokio::test]
async fn of_eight_creations_at_once_one_is_made() -> Result<()> {
    site("race", async |site| {
        let scene = Scene::new(site).await?;
        let made = scene
            .race("", &json!({"name": "Bot No. 1", "active": true}))
            .await?;
        let id = made[0].json()?["id"].clone();
        let keys = format!("/{}/api_keys", id.as_str().context("no id")?);
        let known = async || {
            let answer = scene.replicas[1].send("GET", &keys, &scene.token, &Value::Null);
            answer.await.is_ok_and(|answer| answer.status == 200)
        };
        scene.replicas[1]
            .until("aware of the account", known)
            .await?;
        let made = scene.race(&keys, &json!({"name": "k"})).await?;
        let key = text(&made[0])?;
        scene.replicas[0].login(&key).await?.expect(200)?;
        ensure!(api_keys(site).await?.len() == 1);
        let accounts = site.api::<ZenServiceAccount>();
        ensure!(accounts.list(&ListParams::default()).await?.items.len() == 2);
        scene.operator.stop().await
    })
    .await
}

#[tokio::test]
async fn without_the_operator_no_key_is_made_and_none_is_lost() -> Result<()> {
    site("away", async |site| {
        let scene = Scene::new(site).await?;
        let (keys, first) = scene.bot().await?;
        let Scene {
            replicas: [sidecar, _],
            operator,
            token,
        } = scene;
        operator.stop().await?;
        let send = async |method: &str, path: &str| {
            sidecar
                .send(method, path, &token, &json!({"name": "late"}))
                .await
        };
        let answer = send("POST", &keys).await?.expect(500)?;
        ensure!(answer.body.contains("Is it running?"), "{answer:?}");
        ensure!(api_keys(site).await?.len() == 1, "the key is left behind");
        let before = api_keys(site).await?[0].spec.clone();
        send("PUT", &format!("{keys}/k/rotate"))
            .await?
            .expect(500)?;
        let mut after = api_keys(site).await?[0].spec.clone();
        ensure!(after.source == before.source, "the hash is left behind");
        // What was a default is said now, and no different.
        after.rotation = before.rotation.clone();
        ensure!(after == before, "{after:?} was {before:?}");
        sidecar.login(&first).await?.expect(200)?;

        let operator = site.operator().await?;
        let late = text(&send("POST", &keys).await?.expect(200)?)?;
        for key in [&first, &late] {
            sidecar.login(key).await?.expect(200)?;
        }
        operator.stop().await
    })
    .await
}

/// Once somebody else wrote the spec, it is theirs.
#[tokio::test]
async fn what_others_took_over_is_theirs() -> Result<()> {
    site("taken", async |site| {
        let scene = Scene::new(site).await?;
        let (keys, key) = scene.bot().await?;
        let object = api_keys(site).await?[0].name_any();
        let parameters = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..PatchParams::default()
        };
        // Metadata is anybody's.
        let labelled = json!({"metadata": {"labels": {"team": "ml"}}});
        let api = site.api::<ZenAPIKey>();
        api.patch(&object, &parameters, &Patch::Merge(&labelled))
            .await?;
        let update = json!({"description": "changed"});
        scene
            .send("PUT", &format!("{keys}/k"), update.clone())
            .await?
            .expect(200)?;
        let edited = json!({"spec": {"description": "edited"}});
        api.patch(&object, &parameters, &Patch::Merge(&edited))
            .await?;
        let path = format!("{keys}/k");
        for (method, path, status) in [
            ("PUT", path.clone(), 409),
            ("PUT", format!("{path}/rotate"), 409),
            ("DELETE", path, 409),
            ("DELETE", "/bot".to_owned(), 403),
        ] {
            let answer = scene
                .send(method, &path, update.clone())
                .await?
                .expect(status)?;
            let told = format!(
                "The API key 'k' is declared in Kubernetes as ZenAPIKey {}/{object}, managed by \
                 kubectl-edit: change it there.",
                site.name()
            );
            ensure!(answer.body.contains(&told), "{answer:?}");
        }
        scene.replicas[0].login(&key).await?.expect(200)?;
        scene.operator.stop().await
    })
    .await
}

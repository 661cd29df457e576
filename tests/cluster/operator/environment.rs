//! The environment of the ZenML server with values of secrets in it, on a real API server.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, EnvVar, Secret},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenSecret, ZenServer, annotation, condition, reason};

use zenop_cluster::fault::Match;

use super::components::{login, vault};
use crate::support::{
    PATIENCE, Site, entry, garbage_collector, message, ready, says, server, site, stalled, waiting,
    with, with_zenml,
};

/// A server with a ZenML server behind it that has this environment.
fn served(env: Value) -> Value {
    with(
        with_zenml(server("prod")),
        "spec.podTemplate",
        json!({"env": env}),
    )
}

fn mail() -> Value {
    json!([
        {"name": "MAIL_URL", "value": "smtp://{{db.user}}:{{ db.pass }}@mail"},
        {"name": "ZENML_LOGGING_VERBOSITY", "value": "WARN"},
    ])
}

fn containers(deployment: &Deployment) -> &[Container] {
    let spec = deployment.spec.template.spec.as_ref();
    spec.map_or(&[], |spec| &spec.containers)
}

fn zenml(deployment: &Deployment) -> Option<&Container> {
    containers(deployment)
        .iter()
        .find(|one| one.name == "zenml")
}

/// What stands for the environment's secret part in the pods.
fn print(deployment: &Deployment) -> Option<&String> {
    let template = &deployment.spec.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(annotation::ENVIRONMENT)
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a EnvVar> {
    container.env.iter().flatten().find(|one| one.name == name)
}

/// The server waits for what it refers to, and says so in both of its conditions.
async fn waits(site: &Site, why: &str) -> Result<String> {
    let unresolved = says::<ZenServer>(condition::REFERENCES_RESOLVED, "False", why);
    let both = |server: &ZenServer| unresolved(server) && waiting(why)(server);
    let server = site.until("prod", "waiting for a value", both).await?;
    Ok(message(&server, condition::REFERENCES_RESOLVED))
}

async fn stored(site: &Site, url: &str) -> Result<Secret> {
    let is = |secret: &Secret| entry(secret, "MAIL_URL").as_deref() == Some(url);
    site.until("prod-environment", "with the values", is).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn it_is_made_of_values_and_follows_them() -> Result<()> {
    garbage_collector().await?;
    site("environment", async |site| {
        let _operator = site.operator().await?;
        site.apply(&served(mail())).await?;
        let said = waits(site, reason::SECRET_MISSING).await?;
        ensure!(
            said.contains("spec.podTemplate.env[MAIL_URL]: {{db.user}}: there is no secret db"),
            "{said}"
        );
        ensure!(
            site.api::<Deployment>().get_opt("prod").await?.is_none(),
            "pods without a database"
        );

        // Any order of apply works; what is there already is not enough.
        site.apply(&vault(json!({"user": "ana", "pass": "s3cret"})))
            .await?;
        site.apply(&login("db", &["user"])).await?;
        waits(site, reason::KEY_MISSING).await?;
        site.apply(&login("db", &["user", "pass"])).await?;
        let resolved = says::<ZenServer>(condition::REFERENCES_RESOLVED, "True", reason::RESOLVED);
        site.until("prod", "with all values", &resolved).await?;
        stored(site, "smtp://ana:s3cret@mail").await?;
        site.migrates("prod", 0, json!({"begun": true})).await?;
        let has_zenml = |deployment: &Deployment| zenml(deployment).is_some();
        let deployment = site.until("prod", "with a ZenML server", has_zenml).await?;
        let container = zenml(&deployment).context("no container")?;
        let url = variable(container, "MAIL_URL").context("no URL")?;
        let from = url
            .value_from
            .as_ref()
            .and_then(|from| from.secret_key_ref.as_ref());
        ensure!(url.value.is_none() && from.is_some_and(|from| from.name == "prod-environment"));
        let verbosity = variable(container, "ZENML_LOGGING_VERBOSITY").context("no verbosity")?;
        ensure!(verbosity.value.as_deref() == Some("WARN"), "{verbosity:?}");
        let arguments = container.args.iter().flatten();
        ensure!(
            arguments.into_iter().any(|one| one == "--host=127.0.0.1"),
            "open to the network"
        );
        let whole = serde_json::to_string(&deployment)?;
        ensure!(
            !whole.contains("s3cret"),
            "a value stands in the Deployment"
        );
        let before = print(&deployment).cloned();
        ensure!(before.is_some());

        // Another value makes the pods anew; it is asked for by nobody.
        site.apply(&vault(json!({"user": "ana", "pass": "other"})))
            .await?;
        stored(site, "smtp://ana:other@mail").await?;
        let is_new =
            |deployment: &Deployment| print(deployment).is_some_and(|p| Some(p) != before.as_ref());
        site.until("prod", "with another print", is_new).await?;

        // A value that goes leaves the pods as they are.
        let generation = site
            .api::<Deployment>()
            .get("prod")
            .await?
            .metadata
            .generation;
        site.apply(&served(
            json!([{"name": "MAIL_URL", "value": "{{db.nope}}"}]),
        ))
        .await?;
        waits(site, reason::KEY_MISSING).await?;
        ensure!(
            site.api::<Deployment>()
                .get("prod")
                .await?
                .metadata
                .generation
                == generation
        );
        site.apply(&served(json!([{"name": "MAIL_URL", "value": "{{db"}])))
            .await?;
        site.until::<ZenServer>(
            "prod",
            "told of half a reference",
            stalled(reason::MALFORMED_REFERENCE),
        )
        .await?;
        site.apply(&served(mail())).await?;
        site.until("prod", "with all values", &resolved).await?;

        // It uses the secret, which therefore waits to be deleted.
        let uid = site
            .api::<ZenSecret>()
            .get("db")
            .await?
            .uid()
            .context("no uid")?;
        site.delete::<ZenSecret>("db").await?;
        let in_use = says::<ZenSecret>(condition::IN_USE, "True", reason::IN_USE);
        let held = site.until("db", "in use", in_use).await?;
        let said = message(&held, condition::IN_USE);
        ensure!(said.contains("ZenServer prod"), "{said}");

        // Without a ZenML server nothing of its environment stays.
        let environment = site.api::<Secret>().get("prod-environment").await?;
        let environment = environment.uid().context("no uid")?;
        site.apply(&server("prod")).await?;
        site.until_gone::<Secret>("prod-environment", &environment)
            .await?;
        site.until_gone::<ZenSecret>("db", &uid).await?;
        let alone = |deployment: &Deployment| containers(deployment).len() == 1;
        site.until("prod", "without a ZenML server", alone).await?;
        site.until::<ZenServer>("prod", "without references", |server| {
            message(server, condition::REFERENCES_RESOLVED).is_empty()
        })
        .await
        .map(drop)
    })
    .await
}

#[tokio::test]
async fn what_zenop_sets_itself_is_derived_and_made_again() -> Result<()> {
    site("derived", async |site| {
        let _operator = site.operator().await?;
        site.apply(&with_zenml(server("prod"))).await?;
        let made = stored_secrets(site, None).await?;
        ensure!(
            entry(&made, "ZENML_STORE_URL").is_none(),
            "what is plain is no secret"
        );
        let values: Vec<_> = ["ZENML_SERVER_JWT_SECRET_KEY", "ZENML_DEFAULT_USER_PASSWORD"]
            .into_iter()
            .chain(["ZENML_SECRETS_STORE_ENCRYPTION_KEY"])
            .map(|name| entry(&made, name).context(name))
            .collect::<Result<_>>()?;
        ensure!(
            values.iter().all(|value| value.len() == 64),
            "not 256 bits in hex"
        );
        ensure!(values[0] != values[1] && values[1] != values[2] && values[0] != values[2]);

        // Lost: what it encrypted can still be read.
        let uid = made.uid().context("no uid")?;
        site.delete::<Secret>("prod-environment").await?;
        let again = stored_secrets(site, Some(&uid)).await?;
        ensure!(again.data == made.data, "other secrets than before");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_the_api_server_writes_otherwise_is_not_written_again() -> Result<()> {
    site("otherwise", async |site| {
        let _operator = site.operator().await?;
        let server = served(json!([{"name": "EMPTY", "value": ""}]));
        let extra = json!([{"name": "beside", "image": "beside:1"}]);
        let server = with(server, "spec.podTemplate.extraContainers", extra);
        let server = with(
            server,
            "spec.database",
            json!({"type": "SQLite", "sqlite": {"size": "1024Mi"}}),
        );
        site.apply(&server).await?;
        let report = json!({"begun": true, "from": null, "to": "0.1"});
        site.migrates("prod", 0, report).await?;
        let has = |it: &Deployment| zenml(it).is_some_and(|it| variable(it, "EMPTY").is_some());
        site.until("prod", "made", has).await?;
        site.settled().await?;

        let mark = site.proxy.mark();
        let touched = json!({"metadata": {"annotations": {"touched": "by hand"}}});
        let api = site.api::<ZenServer>();
        api.patch("prod", &PatchParams::default(), &Patch::Merge(&touched))
            .await?;
        site.proxy
            .wait_for(mark, &Match::work(), 1, PATIENCE)
            .await?;
        site.settled().await?;
        let writes = site.proxy.since(mark, &Match::writes());
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await
}

/// The Secret, once it is another than that.
async fn stored_secrets(site: &Site, than: Option<&str>) -> Result<Secret> {
    let is_other = |secret: &Secret| than.is_none() || secret.metadata.uid.as_deref() != than;
    site.until("prod-environment", "made", is_other).await
}

#[tokio::test]
async fn what_cannot_be_is_refused() -> Result<()> {
    site("refused", async |site| {
        let _operator = site.operator().await?;
        let one = |name: &str, value: &str| {
            let mut env = mail();
            if let Some(all) = env.as_array_mut() {
                all.push(json!({"name": name, "value": value}));
            }
            served(env)
        };
        let env_alone = with(server("prod"), "spec.podTemplate", json!({"env": mail()}));
        for (object, why) in [
            (
                env_alone,
                "podTemplate.env is the environment of the ZenML server: it needs image",
            ),
            (
                one("ZENML_STORE_URL", "sqlite:////tmp/x"),
                "set by zenop itself",
            ),
            (
                one("ZENML_SERVER_AUTH_SCHEME", "NO_AUTH"),
                "set by zenop itself",
            ),
            (
                one("ZENML_SERVER_JWT_SECRET_KEY", "{{db.pass}}"),
                "set by zenop itself",
            ),
            (one("SLACK_TOKEN", "xoxb"), "belongs in a ZenSecret"),
            (
                one("A_URL", "mysql://u:p@h/d"),
                "a password belongs in a ZenSecret",
            ),
            (one("NO-NAME", "x"), "should match"),
        ] {
            match site.apply(&object).await {
                Ok(_) => bail!("taken: {object}"),
                Err(error) => ensure!(format!("{error:#}").contains(why), "{error:#}"),
            }
        }
        // What only looks like it is taken.
        let fine = one("SLACK_TOKEN", "{{slack.token}}");
        site.apply(&fine).await?;
        site.apply(&one("A_URL", "https://h/d:e@f")).await?;
        ensure!(
            !ready(&site.api::<ZenServer>().get("prod").await?),
            "ready without values"
        );
        Ok(())
    })
    .await
}

//! From one release of ZenML to the next in real pods, with data in it: docs/guides/upgrade.md.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    site::{Laptop, Site},
    zenml::PODS,
};

const BEFORE: &str = "zenop.dev/zenml-server:0.97.0";
const NOW: &str = "zenop.dev/zenml-server:0.98.0";

/// Who asks the server again and again, until told to stop.
pub struct Asking {
    client: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Asking {
    pub fn begin(site: &Site) -> Result<Self> {
        let laptop = Laptop::with_key(site, "ci-main-key")?;
        let asks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/asks.py");
        let mut client = laptop
            .command(site, "python3")?
            .arg(asks)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(client.stdout.take().context("no output")?).lines();
        let begun = lines.next().context("it does not ask")??;
        ensure!(begun == "asking", "{begun}");
        Ok(Self { client, lines })
    }

    /// Fails if one of its requests failed, or if one of its six clients made none.
    pub fn end(mut self) -> Result<()> {
        drop(self.client.stdin.take());
        let told: Value = serde_json::from_str(&self.lines.next().context("it says nothing")??)?;
        self.client.wait()?;
        let asked = told["asked"].as_u64();
        ensure!(told["failed"] == json!([]) && asked >= Some(6), "{told}");
        Ok(())
    }
}

/// The server's database, as its administrator sees it.
fn sql(site: &Site, statement: &str) -> Result<String> {
    let mariadb = ["mariadb", "--socket=/tmp/mariadb.sock", "--user=root"];
    let form = ["--batch", "--skip-column-names", "zenml", "--execute"];
    let exec = ["exec", "deployment/mysql", "--"];
    let told = site.kubectl(&[&exec[..], &mariadb, &form, &[statement]].concat())?;
    Ok(told.trim().to_owned())
}

/// What is stored, and the schema that it is stored in.
fn holds(site: &Site, schema: &str) -> Result<()> {
    let stored = sql(
        site,
        "SELECT server_name, version_num FROM server_settings, alembic_version",
    )?;
    ensure!(stored == format!("kept\t{schema}"), "{stored}");
    Ok(())
}

fn wants(site: &Site, image: &str) -> Result<()> {
    let patch = json!({"spec": {"image": image}}).to_string();
    site.kubectl(&["patch", "zenserver/prod", "--type=merge", "-p", &patch])
        .map(drop)
}

fn until(site: &Site, path: &str, value: &str) -> Result<()> {
    let wanted = format!("--for=jsonpath={{{path}}}={value}");
    site.kubectl(&["wait", "zenserver/prod", &wanted, "--timeout=5m"])
        .map(drop)
}

fn pods(site: &Site) -> Result<String> {
    site.kubectl(&["get", "pods", "-l", PODS, "-o", "name"])
}

#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing_and_one_that_succeeds_loses_nothing() -> Result<()> {
    let images = [
        "ZENOP_ZENML_IMAGE",
        "ZENOP_BEFORE_IMAGE",
        "ZENOP_MARIADB_IMAGE",
    ];
    let site = Site::start(&images).await?;
    site.tells_all(story(&site)).await
}

async fn story(site: &Site) -> Result<()> {
    site.password("mysql-login", "password")?;
    site.apply(include_str!("mysql.yaml"))?;
    site.rolled_out("mysql")?;
    site.apply_example("people.yaml")?;
    site.password("ana-password", "password")?;
    let server = include_str!("server-on-mysql.yaml").replace(NOW, BEFORE);
    site.apply(&server)?;
    site.ready(&["zenserver/prod", "zenapikey/ci-main"])?;
    sql(site, "UPDATE server_settings SET server_name = 'kept'")?;
    holds(site, "0.97.0")?;

    // In the way of what the release wants to add.
    sql(site, "ALTER TABLE user ADD COLUMN oidc_claims TEXT")?;
    let before = pods(site)?;
    wants(site, NOW)?;
    let reason = r#".status.conditions[?(@.type=="MigrationSucceeded")].reason"#;
    until(site, reason, "MigrationFailed")?;
    holds(site, "0.97.0")?;
    ensure!(pods(site)? == before, "the pods did not stay");
    let logs = site.kubectl(&["logs", "job/prod-migration"])?;
    for told in [
        "verified it",
        "putting back",
        "the database is at 0.97.0 again",
    ] {
        ensure!(logs.contains(told), "{told}: {logs}");
    }
    Asking::begin(site)?.end()?;

    // Tried again, and nobody notices.
    sql(site, "ALTER TABLE user DROP COLUMN oidc_claims")?;
    let asking = Asking::begin(site)?;
    site.kubectl(&["delete", "job/prod-migration"])?;
    until(site, ".status.database.image", NOW)?;
    for pod in before.lines() {
        site.kubectl(&["wait", "--for=delete", pod, "--timeout=5m"])?;
    }
    site.rolled_out("prod")?;
    asking.end()?;
    site.ready(&["zenserver/prod"])?;
    holds(site, "0.98.0")?;
    let told = site.kubectl_zen(&["server", "logs", "prod", "--tail=3"])?;
    for container in ["/sidecar", "/zenml", "/migration"] {
        ensure!(told.contains(container), "{container}: {told}");
    }
    Ok(())
}

//! The real ZenML server in real pods, behind the sidecar, as the guide has it: docs/guides/zenml-on-your-cluster.md.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    site::{Laptop, NAMESPACE, Site, said},
    upgrade::Asking,
};

/// Where the ZenML server listens, in its pod alone.
const SERVER_PORT: u16 = 8237;
const SIDECAR_PORT: u16 = 8080;
/// The server's pods, without that of its migration.
pub const PODS: &str = "app.kubernetes.io/name=zenserver,app.kubernetes.io/instance=prod";

/// Whether something in the node's network may connect there. Fails if that is not to be said.
fn connects(site: &Site, address: &str, port: u16) -> Result<bool> {
    let script = "import socket, sys\n\
                  try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n\
                  except ConnectionRefusedError: print('refused')\n\
                  else: print('connected')";
    let mut python = site.node.command("python3")?;
    let told = said(python.args(["-c", script, address, &port.to_string()]))?;
    Ok(told.trim() == "connected")
}

/// `zenml login`, approved with a key once it shows its link.
fn log_in(site: &Site, laptop: &Laptop, key: &str) -> Result<String> {
    // The link comes by one of the two.
    let both = r#"exec timeout 180 "$@" 2>&1"#;
    let mut login = laptop.command(site, "sh")?;
    let mut login = login
        .args(["-c", both, "sh", &site.zenml, "login", &site.url])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = String::new();
    let mut approved = false;
    for line in BufReader::new(login.stdout.take().context("no output")?).lines() {
        let line = line?;
        if let Some(at) = line.find("http").filter(|_| line.contains("device_id="))
            && !approved
        {
            let link = line.get(at..).unwrap_or_default().trim();
            let mut approve = site.node.command(env!("CARGO_BIN_EXE_kubectl-zen"))?;
            let words = ["device", "approve", link, "--key", key, "-n", NAMESPACE];
            told += &said(approve.args(words))?;
            approved = true;
        }
        told += &line;
        told.push('\n');
    }
    let status = login.wait()?;
    ensure!(status.success() && approved, "{told}");
    Ok(told)
}

/// The one pod of the server: its name and its address.
fn pod(site: &Site) -> Result<(String, String)> {
    let line = site.kubectl(&[
        "get",
        "pods",
        "-l",
        PODS,
        "--field-selector=status.phase=Running",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
    ])?;
    let first = line.lines().next().context("no pod runs")?;
    let (name, address) = first.split_once(' ').context("a pod has no address")?;
    Ok((name.to_owned(), address.to_owned()))
}

fn uvicorn_runs_as(site: &Site, pod: &str) -> Result<String> {
    let script = "import os; print(os.getuid())";
    site.kubectl(&["exec", pod, "-c", "zenml", "--", "python", "-c", script])
}

#[tokio::test]
async fn a_team_works_with_zenml_in_pods_that_may_do_little() -> Result<()> {
    let site = Site::start(&["ZENOP_ZENML_IMAGE"]).await?;
    site.tells_all(story(&site)).await
}

async fn story(site: &Site) -> Result<()> {
    site.password("ana-password", "password")?;
    site.apply_example("server.yaml")?;
    site.apply_example("people.yaml")?;
    site.ready(&[
        "zenserver/prod",
        "zenuser/ana",
        "zenserviceaccount/ci",
        "zenapikey/ci-main",
        "zensecret/tracker",
    ])?;

    // By key: components, a stack, a pipeline, a step that reads a secret.
    let laptop = Laptop::with_key(site, "ci-main-key")?;
    let mut python = laptop.command(site, &site.python()?)?;
    let pipeline = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/client/python/pipeline.py"
    );
    let told = said(python.args([pipeline, "tracker", "token"]))?;
    let told: Value = serde_json::from_str(told.lines().last().context("no answer")?)?;
    ensure!(
        told["status"] == "completed" && told["output"] == 80 && told["runs"] == 1,
        "{told}"
    );
    let runs = laptop.zenml(site, &["pipeline", "runs", "list"])?;
    ensure!(runs.contains("through_the_door"), "{runs}");

    // By device.
    let another = Laptop::new()?;
    log_in(site, &another, "ci-main")?;
    let stacks = another.zenml(site, &["stack", "list"])?;
    ensure!(stacks.contains("mine"), "{stacks}");

    // The only way to the server is by the sidecar.
    let (before, address) = pod(site)?;
    ensure!(
        connects(site, &address, SIDECAR_PORT)?,
        "nobody reaches pods"
    );
    ensure!(
        !connects(site, &address, SERVER_PORT)?,
        "the ZenML server is reached past the sidecar"
    );
    let user = uvicorn_runs_as(site, &before)?;
    ensure!(user.trim() == "1000", "the server is user {user}");

    site.kubectl(&["delete", "pod", &before, "--wait=false"])?;
    site.kubectl(&["wait", "--for=delete", "pod", &before, "--timeout=2m"])?;
    site.rolled_out("prod")?;
    let (after, _) = pod(site)?;
    ensure!(after != before, "the pod is still there");
    // With all that it knew.
    let runs = laptop.zenml(site, &["pipeline", "runs", "list"])?;
    ensure!(runs.contains("through_the_door"), "{runs}");
    Ok(())
}

#[tokio::test]
async fn nobody_notices_that_two_pods_on_mysql_roll() -> Result<()> {
    let site = Site::start(&["ZENOP_ZENML_IMAGE", "ZENOP_MARIADB_IMAGE"]).await?;
    site.tells_all(roll(&site)).await
}

async fn roll(site: &Site) -> Result<()> {
    site.password("mysql-login", "password")?;
    site.apply(include_str!("mysql.yaml"))?;
    site.rolled_out("mysql")?;
    site.apply_example("people.yaml")?;
    site.password("ana-password", "password")?;
    site.apply(include_str!("server-on-mysql.yaml"))?;
    site.ready(&["zenserver/prod", "zenapikey/ci-main"])?;

    let asking = Asking::begin(site)?;
    let patch = r#"[{"op": "add", "path": "/spec/podTemplate/env/-",
                     "value": {"name": "ZENML_LOGGING_VERBOSITY", "value": "WARN"}}]"#;
    let before = site.kubectl(&["get", "pods", "-l", PODS, "-o", "name"])?;
    site.kubectl(&["patch", "zenserver/prod", "--type=json", "-p", patch])?;
    for pod in before.lines() {
        site.kubectl(&["wait", "--for=delete", pod, "--timeout=5m"])?;
    }
    site.rolled_out("prod")?;
    asking.end()
}

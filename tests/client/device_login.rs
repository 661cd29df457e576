//! The unmodified `zenml` client logs in by the device flow and manages its devices.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{process::Command, time::timeout};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    link::decided,
    support::{PATIENCE, site},
    zenml::{Outcome, client},
};

/// The client of one person at one machine.
pub struct Laptop {
    home: tempfile::TempDir,
}

impl Laptop {
    pub fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        Ok(Self { home })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(client()?);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "2000")
            .env("PYTHONUNBUFFERED", "1")
            // It opens the link in a browser.
            .env("BROWSER", "true")
            .env("ZENML_ANALYTICS_OPT_IN", "false")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    pub async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let output = self.command(arguments)?.output().await?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Outcome {
            success: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.run(arguments).await?;
        ensure!(outcome.success, "{arguments:?}: {}", outcome.text);
        Ok(outcome.text)
    }

    /// `zenml login`, approved by somebody with a key once it shows its link.
    async fn log_in(&self, sidecar: &Sidecar, key: &str, trusted: bool) -> Result<()> {
        let approve = async |link: &str| {
            let (device, code) = parts(link)?;
            let decision = json!({"user_code": code, "trusted_device": trusted});
            let path = format!("/{device}/verify");
            let answer = sidecar.on_device("PUT", &path, key, &decision).await?;
            answer.expect(200).map(drop)
        };
        let outcome = self.log_in_by(sidecar, approve).await?;
        ensure!(outcome.success, "{}", outcome.text);
        Ok(())
    }

    /// `zenml login`, about which somebody decides once it shows its link.
    pub async fn log_in_by(
        &self,
        sidecar: &Sidecar,
        decide: impl AsyncFn(&str) -> Result<()>,
    ) -> Result<Outcome> {
        let url = format!("http://{}", sidecar.address);
        let mut process = self
            .command(&["login", &url])?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (said, link) = decided(&mut process, decide).await?;
        let status = timeout(PATIENCE, process.wait()).await??;
        ensure!(link.is_some(), "{said}");
        Ok(Outcome {
            success: status.success(),
            text: said,
        })
    }
}

/// The id and the code of a link.
pub fn parts(link: &str) -> Result<(String, String)> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c));
    let part = |name: &str| {
        let (_, rest) = link.split_once(name)?;
        rest.split(end).next().map(str::to_owned)
    };
    let found = part("device_id=").zip(part("user_code="));
    found.with_context(|| format!("no link: {link}"))
}

#[tokio::test]
async fn logs_in_by_device_and_manages_its_devices() -> Result<()> {
    site("dev-zenml", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let key = delivered(site, "main-key").await?;
        let laptop = Laptop::new()?;
        laptop.log_in(&sidecar, &key, true).await?;
        let status = laptop.ok(&["status"]).await?;
        ensure!(status.contains("ci"), "{status}");

        let shown = sidecar
            .get("/api/v1/devices", Some(&key))
            .await?
            .expect(200)?;
        let shown = shown.json()?;
        ensure!(shown["items"][0]["body"]["os"] == "Linux", "{shown}");
        ensure!(
            shown["items"][0]["body"]["trusted_device"] == true,
            "{shown}"
        );
        let id = shown["items"][0]["id"].as_str().context("no id")?;
        let device = |verb| ["authorized-device", verb, id];
        let list = laptop.ok(&["authorized-device", "list"]).await?;
        ensure!(list.contains("active"), "{list}");
        let told = laptop.ok(&device("describe")).await?;
        ensure!(told.contains(id), "{told}");

        laptop.ok(&device("lock")).await?;
        let refused = laptop.run(&["service-account", "list"]).await?;
        ensure!(!refused.success, "{}", refused.text);
        // Its own token is over, so somebody else of that account unlocks it.
        let unlock = json!({"locked": false});
        let path = format!("/{id}");
        sidecar
            .on_device("PUT", &path, &key, &unlock)
            .await?
            .expect(200)?;
        laptop.log_in(&sidecar, &key, false).await?;
        let shown = sidecar
            .get("/api/v1/devices", Some(&key))
            .await?
            .expect(200)?
            .json()?;
        ensure!(
            shown["total"] == 1,
            "one device of one client and person: {shown}"
        );
        let id = shown["items"][0]["id"].as_str().context("no id")?;
        let device = |verb| ["authorized-device", verb, id];
        laptop.ok(&device("unlock")).await?;
        laptop
            .ok(&[&device("delete")[..], &["--yes"]].concat())
            .await?;
        let refused = laptop.run(&["service-account", "list"]).await?;
        ensure!(!refused.success, "{}", refused.text);
        Ok(())
    })
    .await
}

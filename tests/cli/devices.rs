//! Devices: approved by the link that a client shows, listed, told, locked, unlocked, deleted.

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use serde_json::json;
use zenop::api::ZenDevice;

use crate::{
    door::{self, Sidecar, free_address},
    support::site,
    zen::Zen,
};

const CLIENT: &str = "client_id=7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11";

#[tokio::test]
async fn a_device_is_approved_by_its_link_and_ended_by_its_name() -> Result<()> {
    site("cli-device", async |site| {
        let address = free_address()?;
        let _operator = door::set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let zen = Zen::new(site);
        let begun = sidecar.post("/device_authorization", CLIENT).await?;
        let begun = begun.expect(200)?.json()?;
        let text = |name: &str| begun[name].as_str().context("no text");
        // Where the link leads counts for nothing: the key is shown to its own server alone.
        let link = text("verification_uri_complete")?;
        let (_, query) = link.split_once('?').context("no query")?;
        let link = format!("https://evil.invalid/?{query}");

        zen.fails(2, &["device", "approve", "https://x/", "--key", "main"])
            .await?;
        zen.fails(3, &["device", "approve", &link, "--key", "nosuch"])
            .await?;
        let nobody = ["--server-url", "http://127.0.0.1:1"];
        let nowhere = [&["device", "approve", &link, "--key", "main"][..], &nobody].concat();
        zen.fails(1, &nowhere).await?;
        let approved = zen
            .ok(&["device", "approve", &link, "--key", "main"])
            .await?;
        ensure!(approved.contains("host lab, system Linux"), "{approved}");
        ensure!(!approved.contains("ZENKEY_"), "{approved}");
        let other = link.replace("user_code=", "user_code=x");
        let refused = zen
            .fails(1, &["device", "approve", &other, "--key", "main"])
            .await?;
        ensure!(refused.contains("invalid user code"), "{refused}");

        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        let form = format!(
            "grant_type={grant}&{CLIENT}&device_code={}",
            text("device_code")?
        );
        let granted = sidecar.post("/login", &form).await?.expect(200)?.json()?;
        let token = granted["access_token"].as_str().context("no token")?;
        let is = async |status: u16| {
            let told = format!("answering {status}");
            let answers = async || sidecar.me(token).await.is_ok_and(|a| a.status == status);
            sidecar.until(&told, answers).await
        };
        is(200).await?;

        let made = site.api::<ZenDevice>().list(&ListParams::default()).await?;
        let name = made.items[0].metadata.name.as_deref().context("no name")?;
        site.until(name, "active", |device: &ZenDevice| {
            json!(device.status)["state"] == "Active"
        })
        .await?;
        let list = zen.ok(&["device", "list", "--user", "ci"]).await?;
        ensure!(list.contains(name) && list.contains("Active"), "{list}");
        let told = zen.ok(&["device", "describe", name]).await?;
        for part in ["ZenServiceAccount ci", "lab", "Linux", "Active"] {
            ensure!(told.contains(part), "{part}: {told}");
        }
        let said = zen.ok(&["device", "lock", name]).await?;
        ensure!(said.contains("locked"), "{said}");
        is(401).await?;
        let said = zen.ok(&["device", "lock", name]).await?;
        ensure!(said.contains("is locked already"), "{said}");
        zen.ok(&["device", "unlock", name]).await?;
        is(200).await?;
        zen.ok(&["device", "delete", name, "--yes"]).await?;
        is(401).await?;
        zen.fails(3, &["device", "lock", name]).await?;
        Ok(())
    })
    .await
}

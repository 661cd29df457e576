//! A person at a real browser decides about the unmodified `zenml` client, on a real Kubernetes.

use anyhow::{Context, Result, ensure};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use zenop::api::{DevicePhase, ZenDevice, ZenUser};

use crate::{
    device_login::Laptop,
    door::{Sidecar, free_address, set_up},
    driver::{Browser, Setup},
    support::{Site, site, user_with_password, with},
    users::{PASSWORD, declare_ana},
};

/// Opens a page of devices at a replica, and logs in if asked to.
async fn open(browser: &Browser, at: &Sidecar, path: &str) -> Result<()> {
    browser
        .open(&format!("http://{}/devices{path}", at.address))
        .await?;
    if browser.count("#username").await? > 0 {
        browser.fill("#username", "ana").await?;
        browser.fill("#password", PASSWORD).await?;
        browser.follow("main button[type=submit]").await?;
    }
    Ok(())
}

/// Opens a link at a replica, logs in if asked to, and decides.
async fn decide(browser: &Browser, at: &Sidecar, link: &str, decision: &str) -> Result<String> {
    let (_, path) = link.split_once("/devices").context("no link")?;
    open(browser, at, path).await?;
    let shown = browser.text("h1").await?;
    if shown == "Is this you?" {
        browser.follow(&format!("button[value={decision}]")).await?;
    }
    browser.text("h1").await
}

/// `zenml login` at one replica, approved in a browser at another.
async fn log_in(laptop: &Laptop, browser: &Browser, one: &Sidecar, other: &Sidecar) -> Result<()> {
    let approved = async |link: &str| {
        let told = decide(browser, other, link, "approve").await?;
        ensure!(told == "Approved", "{told}");
        Ok(())
    };
    let outcome = laptop.log_in_by(one, approved).await?;
    ensure!(outcome.success, "{}", outcome.text);
    Ok(())
}

/// D19, D29, V16: at one replica the client waits, at the other the person decides; a third, that
/// was started later, knows of it.
#[tokio::test]
async fn d19_the_client_is_approved_and_denied_in_a_browser_at_another_replica() -> Result<()> {
    site("pages", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        declare_ana(site).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let browser = Browser::start(Setup::default()).await?;

        let laptop = Laptop::new()?;
        log_in(&laptop, &browser, &one, &other).await?;
        let status = laptop.ok(&["status"]).await?;
        ensure!(status.contains("ana"), "{status}");

        let stranger = Laptop::new()?;
        let link = std::cell::RefCell::new(String::new());
        let denied = async |shown: &str| {
            shown.clone_into(&mut link.borrow_mut());
            let told = decide(&browser, &other, shown, "deny").await?;
            ensure!(told == "Denied", "{told}");
            Ok(())
        };
        let outcome = stranger.log_in_by(&one, denied).await?;
        ensure!(
            !outcome.success && outcome.text.contains("access_denied"),
            "{}",
            outcome.text
        );
        // The one that was approved goes on.
        laptop.ok(&["status"]).await?;

        let of_ana = ListParams::default().fields("spec.userRef.name=ana");
        let objects = site.api::<ZenDevice>().list(&of_ana).await?.items;
        ensure!(objects.len() == 2, "{objects:#?}");
        let denial = objects.iter().find(|d| d.name_any().starts_with("denied-"));
        let name = denial.context("no denial")?.name_any();
        let is_denied = |device: &ZenDevice| {
            let status = device.status.as_ref();
            status.is_some_and(|s| s.state == Some(DevicePhase::Denied))
        };
        site.until(&name, "shown as denied", is_denied).await?;

        let link = link.into_inner();
        let third = Sidecar::start(site, free_address()?).await?;
        let told = decide(&browser, &third, &link, "approve").await?;
        ensure!(told == "This code cannot be used", "{told}");
        let token = third.session("ana", PASSWORD).await?;
        let (device, code) = crate::device_login::parts(&link)?;
        let decision = json!({"user_code": code, "trusted_device": false});
        let path = format!("/{device}/verify");
        let refused = third.on_device("PUT", &path, &token, &decision).await?;
        ensure!(refused.expect(400)?.body.contains("not pending"));
        Ok(())
    })
    .await
}

/// What the page says after the form to sign out everywhere.
async fn sign_out(browser: &Browser, at: &Sidecar) -> Result<String> {
    open(browser, at, "").await?;
    browser.until("h1", "Your devices").await?;
    browser.click(".all summary").await?;
    browser.follow(".all button").await?;
    browser.text("main").await
}

async fn epoch(site: &Site) -> Result<i64> {
    let ana: ZenUser = site.api().get("ana").await?;
    Ok(ana.spec.session_epoch)
}

/// C13: at every replica, the real client too; what Git says of the user goes on as before, and of
/// an epoch that Git sets the page tells the truth.
#[tokio::test]
async fn c13_a_declared_user_signs_out_everywhere_in_a_browser() -> Result<()> {
    site("sign-out", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        declare_ana(site).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let browser = Browser::start(Setup::default()).await?;
        let laptop = Laptop::new()?;
        log_in(&laptop, &browser, &one, &other).await?;
        laptop.ok(&["authorized-device", "list"]).await?;
        let token = one.session("ana", PASSWORD).await?;

        let told = sign_out(&browser, &other).await?;
        ensure!(told.contains("You are signed out everywhere"), "{told}");
        let over = |token: String| {
            let one = &one;
            async move || one.me(&token).await.is_ok_and(|a| a.status == 401)
        };
        one.until("one that refuses her", over(token)).await?;
        let refused = laptop.run(&["authorized-device", "list"]).await?;
        ensure!(!refused.success, "{}", refused.text);
        ensure!(epoch(site).await? == 1);
        // The next sync of who declared her.
        declare_ana(site).await?;
        ensure!(epoch(site).await? == 1);

        let token = one.session("ana", PASSWORD).await?;
        let set = with(user_with_password("ana"), "spec.sessionEpoch", json!(5));
        site.apply_as("kustomize-controller", &set).await?;
        one.until("one that knows of it", over(token)).await?;
        let told = sign_out(&browser, &other).await?;
        ensure!(told.contains("signed out, for now"), "{told}");
        ensure!(told.contains("set to 6 there"), "{told}");
        ensure!(told.contains("managed by"), "{told}");
        ensure!(epoch(site).await? == 6);
        Ok(())
    })
    .await
}

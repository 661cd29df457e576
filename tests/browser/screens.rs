//! Every page as it looks, on a phone and on a desk, by day and by night: into `target/pages`, for
//! people to look at; and what a machine can tell of whether people can read it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::scene::Scene;

/// Name, width, height, whether it is a phone, and the colours.
const LOOKS: [(&str, u32, u32, bool, &str); 4] = [
    ("phone-light", 390, 780, true, "light"),
    ("phone-dark", 390, 780, true, "dark"),
    ("desk-light", 1100, 760, false, "light"),
    ("desk-dark", 1100, 760, false, "dark"),
];

/// The ratio of contrast of each text to what is behind it, of those that are below 4.5 (WCAG 2.2
/// AA); inputs without a label; and whether the page is wider than the screen.
const FAULTS: &str = r"
const faults = [];
const light = c => { const v = c.map(x => { x /= 255; return x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 }); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c.slice(0, 3) } return [255, 255, 255] };
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.textContent.trim() || !e.checkVisibility()) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${texts.currentNode.textContent.trim()}`);
}
for (const e of document.querySelectorAll('input:not([type=hidden])')) if (!e.labels.length) faults.push(`no label: ${e.name}`);
for (const e of document.querySelectorAll('a, button, summary, input:not([type=hidden])')) {
  const r = e.getBoundingClientRect();
  if (e.checkVisibility() && r.width && (r.width < 20 || r.height < 20) && !e.closest('.skip')) faults.push(`too small to hit: ${e.textContent || e.name}`);
}
if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
if (document.querySelectorAll('h1').length !== 1) faults.push('not one heading');
if (document.querySelectorAll('main').length !== 1) faults.push('not one main');
if (!document.documentElement.lang || !document.title) faults.push('no language or title');
return faults";

fn folder() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn shoot(scene: &Scene, name: &str) -> Result<()> {
    for (look, width, height, mobile, colours) in LOOKS {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile,
        });
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
        scene
            .browser
            .chromium("Emulation.setDeviceMetricsOverride", size)
            .await?;
        scene
            .browser
            .chromium("Emulation.setEmulatedMedia", media)
            .await?;
        let faults = scene.browser.script(FAULTS).await?;
        ensure!(faults == json!([]), "{name}, {look}: {faults:#}");
        let file = folder()?.join(format!("{name}-{look}.png"));
        scene.browser.screenshot(&file).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_page_can_be_read() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.device(1).await?;
    scene.open(&asked.link).await?;
    shoot(&scene, "login").await?;
    scene.browser.fill("#username", "ana").await?;
    scene.browser.fill("#password", "wrong").await?;
    scene.browser.follow("main button[type=submit]").await?;
    shoot(&scene, "login-wrong").await?;
    scene.browser.fill("#password", "password of ana").await?;
    scene.browser.follow("main button[type=submit]").await?;
    shoot(&scene, "verify").await?;
    scene.browser.follow("button[value=approve]").await?;
    shoot(&scene, "approved").await?;
    scene.polled(&asked).await?;
    let denied = scene.device(2).await?;
    scene.open(&denied.link).await?;
    scene.browser.follow("button[value=deny]").await?;
    shoot(&scene, "denied").await?;
    scene.open(&denied.link).await?;
    shoot(&scene, "unusable").await?;
    scene.open("/devices/verify").await?;
    shoot(&scene, "code").await?;
    for n in 3..9 {
        scene.open(&scene.device(n).await?.link).await?;
    }
    shoot(&scene, "verify-many").await?;
    scene.browser.follow("button[value=approve]").await?;
    shoot(&scene, "verify-many-unsure").await?;
    scene.browser.click("label[for=sure]").await?;
    scene.browser.click("label[for=trusted]").await?;
    scene.browser.follow("button[value=approve]").await?;
    scene.open("/devices").await?;
    scene.browser.follow("button[value=lock]").await?;
    shoot(&scene, "devices").await?;
    scene.browser.click(".all summary").await?;
    shoot(&scene, "devices-all").await?;
    for _ in 0..6 {
        scene.open("/devices/verify?user_code=wrong").await?;
    }
    shoot(&scene, "limited").await?;
    scene.browser.follow("nav button").await?;
    shoot(&scene, "signed-out").await?;
    scene.open("/login?done=everywhere").await?;
    shoot(&scene, "signed-out-everywhere").await
}

//! `list` and `describe`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenServiceAccount};

use crate::{
    support::{Site, account, key, ready, site, with},
    zen::{Out, Zen, set_up},
};

/// Two accounts; two keys of `ci`, one of `other`.
async fn scene(site: &Site) -> Result<()> {
    site.apply(&account("other")).await?;
    let ttl = with(key("main"), "spec.ttl", json!("720h"));
    site.apply(&ttl).await?;
    site.apply(&key("second")).await?;
    let others = with(key("third"), "spec.serviceAccountRef.name", json!("other"));
    site.apply(&others).await?;
    for name in ["main", "second", "third"] {
        site.key_ready(name, 1).await?;
    }
    for name in ["ci", "other"] {
        site.until(name, "Ready", ready::<ZenServiceAccount>)
            .await?;
    }
    site.settled().await
}

fn heads(table: &str) -> Vec<&str> {
    let line = table.lines().next().unwrap_or_default();
    line.split_whitespace().collect()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let names = items.iter().map(|item| item["metadata"]["name"].as_str());
    names.flatten().collect()
}

#[tokio::test]
async fn lists_are_as_kubectl_get_shows_them_and_read_back() -> Result<()> {
    site("cli-list", async |site| {
        let (_operator, zen) = set_up(site).await?;
        let none = zen.run(&["key", "list"]).await?;
        ensure!(none.code == 0 && none.out.is_empty(), "{none:?}");
        ensure!(
            none.err.contains("No zenapikeys found in namespace"),
            "{none:?}"
        );
        scene(site).await?;

        for (noun, kind) in [("key", "zenapikeys"), ("sa", "zenserviceaccounts")] {
            for wide in [&[][..], &["-o", "wide"][..]] {
                let ours = zen.ok(&[&[noun, "list"], wide].concat()).await?;
                let theirs = site.kubectl(&[&["get", kind], wide].concat()).await?;
                ensure!(heads(&ours) == heads(&theirs), "{ours}\n{theirs}");
                ensure!(ours.lines().count() == theirs.lines().count(), "{ours}");
            }
        }
        let table = zen.ok(&["key", "list"]).await?;
        let line = table.lines().find(|line| line.starts_with("main "));
        let cells: Vec<_> = line
            .context("no main")?
            .split("   ")
            .map(str::trim)
            .collect();
        let cells: Vec<_> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
        ensure!(
            cells[..6] == ["main", "True", "True", "ci", "1", "in 29d"],
            "{cells:?}"
        );
        let accounts = zen.ok(&["sa", "list"]).await?;
        ensure!(
            accounts.contains("in 29d"),
            "when the next key expires: {accounts}"
        );

        let list = zen.run(&["key", "list", "-o", "json"]).await?.json()?;
        ensure!(names(&list) == ["main", "second", "third"], "{list}");
        let read: Vec<ZenAPIKey> = serde_json::from_value(list["items"].clone())?;
        ensure!(read.iter().all(|key| key.metadata.managed_fields.is_none()));
        ensure!(zen.run(&["key", "list", "-o", "yaml"]).await?.yaml()? == list);
        let names_only = zen.ok(&["sa", "list", "-o", "name"]).await?;
        ensure!(
            names_only == "zenserviceaccount.zenop.dev/ci\nzenserviceaccount.zenop.dev/other\n"
        );
        let of_other = zen
            .ok(&["key", "list", "--sa", "other", "-o", "name"])
            .await?;
        ensure!(of_other == "zenapikey.zenop.dev/third\n", "{of_other}");
        let no_server = zen
            .ok(&["sa", "list", "--server", "test", "-o", "name"])
            .await?;
        ensure!(no_server.is_empty());
        everywhere(site, &zen).await
    })
    .await
}

async fn everywhere(site: &Site, zen: &Zen) -> Result<()> {
    let all = zen.ok(&["key", "list", "-A"]).await?;
    ensure!(heads(&all)[..2] == ["NAMESPACE", "NAME"], "{all}");
    let ours = all.lines().filter(|line| line.starts_with(site.name()));
    ensure!(ours.count() == 3, "{all}");
    Ok(())
}

#[tokio::test]
async fn a_description_tells_of_generations_conditions_and_events() -> Result<()> {
    site("cli-describe", async |site| {
        let (_operator, zen) = set_up(site).await?;
        // A terminal obeys escapes: what others write must hold none.
        let evil = with(key("main"), "spec.description", json!("red \u{1b}[31m"));
        site.apply(&evil).await?;
        site.key_ready("main", 1).await?;
        site.until("ci", "Ready", ready::<ZenServiceAccount>)
            .await?;
        site.settled().await?;

        let used = json!([{
            "generation": 1, "lastUsedTime": "2026-01-01T00:00:00Z", "from": "Private",
        }]);
        site.edit_status("main", |status| status["usage"] = used.clone())
            .await?;
        let said = zen.ok(&["key", "describe", "main"]).await?;
        for part in [
            "Service account:",
            "Secret:",
            "main-key",
            "Accepted keys:",
            "Current",
            "FROM",
            "Private",
            "Conditions:",
            "Ready",
            "Events:",
            "Rotation:",
            "on demand; the old key is accepted for 1h",
        ] {
            ensure!(said.contains(part), "no {part:?} in\n{said}");
        }
        ensure!(!said.contains('\u{1b}'), "{said}");
        let account = zen.ok(&["sa", "describe", "ci"]).await?;
        ensure!(account.contains("1 of 1 may log in"), "{account}");

        let object = zen
            .run(&["key", "describe", "main", "-o", "yaml"])
            .await?
            .yaml()?;
        let read: ZenAPIKey = serde_json::from_value(object.clone())?;
        ensure!(read.secret_name() == "main-key");
        ensure!(
            zen.run(&["key", "describe", "main", "-o", "json"])
                .await?
                .json()?
                == object
        );
        let two = zen
            .run(&["key", "describe", "absent", "main", "-o", "name"])
            .await?;
        ensure!(
            two.code == 3 && two.out == "zenapikey.zenop.dev/main\n",
            "{two:?}"
        );

        let seen = zen.at_terminal(&["key", "list"], Out::Terminal, "").await?;
        ensure!(seen.err.contains("\u{1b}[1mNAME\u{1b}[0m"), "{seen:?}");
        Ok(())
    })
    .await
}

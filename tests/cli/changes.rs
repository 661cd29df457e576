//! `--dry-run`.

use anyhow::{Result, ensure};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use zenop::api::{ZenAPIKey, ZenServiceAccount};

use crate::{
    support::{Site, key, site, with},
    zen::{Ran, set_up},
};

/// Every account and key with its version.
async fn versions(site: &Site) -> Result<Vec<(String, Option<String>)>> {
    let all = ListParams::default();
    let accounts = site.api::<ZenServiceAccount>().list(&all).await?;
    let keys = site.api::<ZenAPIKey>().list(&all).await?;
    let accounts = accounts
        .iter()
        .map(|o| (o.name_any(), o.resource_version()));
    let keys = keys.iter().map(|o| (o.name_any(), o.resource_version()));
    Ok(accounts.chain(keys).collect())
}

#[tokio::test]
async fn a_dry_run_changes_nothing() -> Result<()> {
    site("cli-dry", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        let idle = with(key("idle"), "spec.active", json!(false));
        site.apply(&idle).await?;
        site.settled().await?;
        let before = versions(site).await?;
        for (mode, mark) in [
            ("client", " (dry run)\n"),
            ("server", " (server dry run)\n"),
        ] {
            let dry = format!("--dry-run={mode}");
            let commands: &[&[&str]] = &[
                &["sa", "create", "new"],
                &["sa", "deactivate", "ci"],
                &["sa", "delete", "ci"],
                &["key", "create", "new", "--service-account", "ci"],
                &["key", "rotate", "main", "--wait"],
                &["key", "activate", "idle", "--wait"],
                &["key", "deactivate", "main", "--wait"],
                &["key", "delete", "main", "--wait"],
            ];
            for command in commands {
                let said = zen.ok(&[command, &[&*dry][..]].concat()).await?;
                ensure!(said.ends_with(mark), "{command:?}: {said}");
            }
        }
        ensure!(versions(site).await? == before, "something changed");

        // What it would be is shown; what the API server would refuse is refused.
        let rotate = ["key", "rotate", "main", "--retain", "2h", "-o", "json"];
        for dry in ["--dry-run=client", "--dry-run=server"] {
            let shown = zen.run(&[&rotate[..], &[dry][..]].concat()).await?.json()?;
            ensure!(shown["spec"]["rotation"]["retainFor"] == "2h", "{shown}");
            ensure!(shown["spec"]["rotation"]["trigger"].is_string(), "{shown}");
        }
        let bad = [
            "key",
            "create",
            "bad",
            "--sa",
            "ci",
            "--ttl",
            "1s",
            "--dry-run=server",
        ];
        let said = zen.fails(1, &bad).await?;
        ensure!(said.contains("ttl must be between 5m and 87600h"), "{said}");
        ensure!(versions(site).await? == before, "something changed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_dry_run_is_a_file_for_git() -> Result<()> {
    site("cli-file", async |site| {
        let (_operator, zen) = set_up(site).await?;
        let create = [
            "key", "create", "main", "--sa", "ci", "--ttl", "90d", "--description", "it's: a key",
            "--dry-run=client", "-o", "yaml",
        ];
        let ran: Ran = zen.run(&create).await?;
        let file = ran.yaml()?;
        // What has a default is left to the API server.
        ensure!(
            file == json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
                "metadata": {"name": "main", "namespace": site.name()},
                "spec": {
                    "serviceAccountRef": {"name": "ci"}, "ttl": "2160h", "description": "it's: a key",
                },
            }),
            "{file}"
        );
        site.apply(&file).await?;
        site.key_ready("main", 1).await?;
        Ok(())
    })
    .await
}

//! Exit codes, and what is said with them.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    support::{account, key, server, site, with},
    zen::{Zen, set_up},
};

#[tokio::test]
async fn every_failure_has_its_code_and_a_remedy() -> Result<()> {
    site("cli-exits", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        let cases: &[(i32, &[&str], &str)] = &[
            (2, &["key", "rotat"], "similar subcommand"),
            (2, &["key", "create", "x"], "--service-account"),
            (
                2,
                &["key", "create", "x", "--sa", "ci", "--ttl", "30"],
                "such as 30d",
            ),
            (
                2,
                &[
                    "key",
                    "create",
                    "x",
                    "--sa",
                    "ci",
                    "--ttl",
                    "1d",
                    "--expires-at",
                    "2027-01-01",
                ],
                "cannot be used with",
            ),
            (3, &["key", "describe", "x"], "\"x\" not found"),
            (3, &["key", "rotate", "x"], "\"x\" not found"),
            (3, &["sa", "delete", "x", "--yes"], "\"x\" not found"),
            (
                4,
                &["key", "create", "main", "--sa", "ci"],
                "exists already",
            ),
            (
                5,
                &["key", "create", "y", "--sa", "nobody", "--timeout", "2s"],
                "ServiceAccountNotFound",
            ),
        ];
        for (code, command, part) in cases {
            let said = zen.fails(*code, command).await?;
            ensure!(said.contains(part), "{command:?}: {said}");
        }

        // What only a person can mend is not waited for.
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken-key"},
            "stringData": {"mine": "x"},
        });
        site.apply(&secret).await?;
        let said = zen
            .fails(1, &["key", "create", "taken", "--sa", "ci"])
            .await?;
        ensure!(
            said.contains("needs a person") && said.contains("taken-key"),
            "{said}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn silence_of_the_operator_is_told() -> Result<()> {
    site("cli-silence", async |site| {
        let zen = Zen::new(site);
        let said = zen.fails(3, &["sa", "create", "ci"]).await?;
        ensure!(said.contains("has no ZenServer"), "{said}");
        site.apply(&server("prod")).await?;
        site.apply(&server("test")).await?;
        let said = zen.fails(2, &["sa", "create", "ci"]).await?;
        ensure!(said.contains("--server with one of prod, test"), "{said}");
        site.apply(&account("ci")).await?;
        let create = ["key", "create", "main", "--sa", "ci", "--timeout", "1s"];
        let said = zen.fails(5, &create).await?;
        ensure!(said.contains("is zenop running"), "{said}");
        let said = zen
            .fails(3, &["key", "show", "main", "--unsafe-output"])
            .await?;
        ensure!(said.contains("in no Secret yet"), "{said}");
        // It is dead to the servers all the same.
        let said = zen
            .fails(
                5,
                &["key", "deactivate", "main", "--wait", "--timeout", "1s"],
            )
            .await?;
        ensure!(
            said.contains("Active=False") && said.contains("without the operator"),
            "{said}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_may_not_and_what_cannot_be_reached_differ() -> Result<()> {
    site("cli-rights", async |site| {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"},
        });
        site.apply(&account).await?;
        let plane = site.plane;
        let nobody = plane
            .kubeconfig_for_service_account(site.name(), "nobody", None)
            .await?;
        let said = Zen::with(site, &nobody).fails(6, &["key", "list"]).await?;
        ensure!(said.contains("forbidden"), "{said}");

        let folder = tempfile::tempdir()?;
        let nowhere = folder.path().join("nowhere");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {}}],
        });
        fs::write(&nowhere, text.to_string())?;
        let said = Zen::with(site, &nowhere).fails(1, &["key", "list"]).await?;
        ensure!(said.contains("cannot be reached"), "{said}");
        let said = Zen::with(site, &nowhere)
            .fails(1, &["key", "list", "--context", "y"])
            .await?;
        ensure!(said.contains("kubeconfig"), "{said}");
        let absent = folder.path().join("absent");
        let said = Zen::with(site, &absent).fails(1, &["key", "list"]).await?;
        ensure!(said.contains("absent"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_of_somebody_elses_secret_is_not_shown() -> Result<()> {
    site("cli-foreign", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        // A status that names the Secret of another key.
        let forged = with(
            key("forged"),
            "spec.delivery",
            json!({"secretName": "other"}),
        );
        let paused = json!({"zenop.dev/paused": "true"});
        site.apply(&with(forged, "metadata.annotations", paused))
            .await?;
        let patch = kube::api::Patch::Merge(json!({"status": {"secretRef": {"name": "main-key"}}}));
        let api = site.api::<zenop::api::ZenAPIKey>();
        api.patch_status("forged", &kube::api::PatchParams::default(), &patch)
            .await?;
        let said = zen
            .run(&["key", "show", "forged", "--unsafe-output"])
            .await?;
        ensure!(said.code == 3 && !said.out.contains("ZENKEY_"), "{said:?}");
        Ok(())
    })
    .await
}

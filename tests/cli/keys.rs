//! A key's life: made, shown, rotated, deactivated, deleted.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zenop::api::{ZenAPIKey, ZenServiceAccount, condition};

use crate::{
    support::{key, says, site, with},
    zen::{Out, key_in, set_up},
};

#[tokio::test]
async fn a_key_is_made_and_shown_to_a_terminal_only() -> Result<()> {
    site("cli-create", async |site| {
        let (_operator, zen) = set_up(site).await?;
        let made = zen
            .ok(&["sa", "create", "robot", "--description", "x", "--wait"])
            .await?;
        ensure!(
            made == "zenserviceaccount.zenop.dev/robot created\n",
            "{made}"
        );
        let robot: ZenServiceAccount = site.api().get("robot").await?;
        ensure!(robot.spec.server_ref.name == "prod" && robot.spec.description == "x");

        let made = zen
            .run(&[
                "key",
                "create",
                "main",
                "--service-account",
                "ci",
                "--ttl",
                "90d",
                "--rotate-every",
                "30d",
                "--retain",
                "2h",
                "--secret-name",
                "creds",
            ])
            .await?;
        ensure!(made.code == 0, "{made:?}");
        ensure!(
            made.out.starts_with("zenapikey.zenop.dev/main created\n"),
            "{made:?}"
        );
        ensure!(
            made.out.contains("- secretRef:\n          name: creds\n"),
            "{made:?}"
        );
        let object = site.key_ready("main", 1).await?;
        let rotation = &object.spec.rotation;
        ensure!(object.spec.ttl.map(|t| t.to_string()).as_deref() == Some("2160h"));
        ensure!(rotation.interval.map(|t| t.to_string()).as_deref() == Some("720h"));
        ensure!(rotation.retain_for.to_string() == "2h");
        let text = site.check_delivered("main", 1).await?;

        // Neither a pipe nor a file: a terminal.
        let refused = zen.fails(2, &["key", "show", "main"]).await?;
        ensure!(refused.contains("--unsafe-output"), "{refused}");
        let shown = zen
            .at_terminal(&["key", "show", "main"], Out::Terminal, "")
            .await?;
        ensure!(shown.code == 0 && key_in(&shown.err)? == text, "{shown:?}");
        let piped = zen
            .at_terminal(&["key", "show", "main"], Out::Pipe, "")
            .await?;
        ensure!(piped.code == 2 && piped.out.is_empty(), "{piped:?}");
        let forced = zen.ok(&["key", "show", "main", "--unsafe-output"]).await?;
        ensure!(forced == format!("{text}\n"));

        // Refused before anything is made.
        let create = ["key", "create", "second", "--sa", "ci", "--show"];
        zen.fails(2, &create).await?;
        ensure!(site.api::<ZenAPIKey>().get_opt("second").await?.is_none());
        let seen = zen.at_terminal(&create, Out::Terminal, "").await?;
        ensure!(seen.code == 0, "{seen:?}");
        ensure!(key_in(&seen.err)? == site.check_delivered("second", 1).await?);
        let third = ["key", "create", "third", "--sa", "ci", "-o", "json"];
        let third = zen.run(&third).await?.json()?;
        ensure!(third["status"]["generation"] == 1, "{third}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rotation_is_asked_for_and_waited_for() -> Result<()> {
    site("cli-rotate", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        let said = zen
            .run(&["key", "rotate", "main", "--retain", "2h", "--wait"])
            .await?;
        ensure!(said.code == 0, "{said:?}");
        ensure!(
            said.out == "zenapikey.zenop.dev/main rotated: generation 2 is in its Secret\n",
            "{said:?}"
        );
        let new = site.check_delivered("main", 2).await?;
        ensure!(old != new);
        let seen: ZenAPIKey = site.api().get("main").await?;
        ensure!(seen.spec.rotation.retain_for.to_string() == "2h");
        ensure!(
            site.generation_of(&seen, &old).await?.is_some(),
            "the old key is refused"
        );
        let fields = seen.metadata.managed_fields.context("no managers")?;
        let manager = |name: &str| fields.iter().any(|f| f.manager.as_deref() == Some(name));
        ensure!(manager("zenop-cli") && manager("user"), "{fields:?}");

        // Each time anew; and the old one may go at once.
        zen.ok(&["key", "rotate", "main", "--retain", "0s", "--wait"])
            .await?;
        let newest = site.check_delivered("main", 3).await?;
        let gone = |key: &ZenAPIKey| {
            let generations = key.status.iter().flat_map(|s| &s.generations);
            generations.filter(|g| g.generation == 2).count() == 0
        };
        site.until("main", "rid of generation 2", gone).await?;
        ensure!(newest != new);

        let paused = json!({"zenop.dev/paused": "true"});
        site.apply(&with(key("main"), "metadata.annotations", paused))
            .await?;
        let said = zen.run(&["key", "rotate", "main"]).await?;
        ensure!(said.code == 0 && said.err.contains("is paused"), "{said:?}");
        let said = zen
            .fails(5, &["key", "rotate", "main", "--wait", "--timeout", "1s"])
            .await?;
        ensure!(said.matches("is paused").count() == 2, "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn keys_made_elsewhere_are_not_rotated_here() -> Result<()> {
    site("cli-elsewhere", async |site| {
        let zen = crate::zen::Zen::new(site);
        let from = json!({"type": "ValueFrom", "valueFrom": {
            "secretKeyRef": {"name": "vault", "key": "api-key"}}});
        site.apply(&with(key("from"), "spec.source", from)).await?;
        let hash = json!({"type": "Verifier", "verifier": {
            "keyId": "7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11", "sha256": "0".repeat(64)}});
        let hash = with(key("hash"), "spec.source", hash);
        site.apply(&with(hash, "spec.delivery", json!({"mode": "None"})))
            .await?;
        let said = zen.fails(4, &["key", "rotate", "from"]).await?;
        ensure!(said.contains("entry api-key of Secret vault"), "{said}");
        let said = zen.fails(4, &["key", "rotate", "hash"]).await?;
        ensure!(said.contains("key new --offline"), "{said}");
        let said = zen
            .fails(3, &["key", "show", "hash", "--unsafe-output"])
            .await?;
        ensure!(said.contains("only its hash"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deactivation_is_confirmed_and_undone() -> Result<()> {
    site("cli-active", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.apply(&key("second")).await?;
        site.key_ready("main", 1).await?;
        site.key_ready("second", 1).await?;

        // The second key of an emergency is not spared because the first is gone.
        let said = zen
            .run(&["key", "deactivate", "gone", "main", "second", "--wait"])
            .await?;
        ensure!(said.code == 3, "{said:?}");
        let done = "zenapikey.zenop.dev/main deactivated\nzenapikey.zenop.dev/second deactivated\n";
        ensure!(said.out == done, "{said:?}");
        let inactive = says::<ZenAPIKey>(condition::ACTIVE, "False", "Deactivated");
        for name in ["main", "second"] {
            ensure!(inactive(&site.api().get(name).await?), "{name}");
        }
        let again = zen.ok(&["key", "deactivate", "main"]).await?;
        ensure!(
            again == "zenapikey.zenop.dev/main is deactivated already\n",
            "{again}"
        );
        let back = zen.ok(&["key", "activate", "main", "--wait"]).await?;
        ensure!(back == "zenapikey.zenop.dev/main activated\n", "{back}");
        let active = says::<ZenAPIKey>(condition::ACTIVE, "True", "Active");
        ensure!(active(&site.api().get("main").await?));

        zen.ok(&["sa", "deactivate", "ci", "--wait"]).await?;
        let inactive = says::<ZenServiceAccount>(condition::ACTIVE, "False", "Deactivated");
        ensure!(inactive(&site.api().get("ci").await?));
        let shown = zen
            .run(&["sa", "activate", "ci", "-o", "json"])
            .await?
            .json()?;
        ensure!(shown["spec"]["active"] == true, "{shown}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deletion_is_asked_about() -> Result<()> {
    site("cli-delete", async |site| {
        let (_operator, zen) = set_up(site).await?;
        for name in ["main", "second"] {
            site.apply(&key(name)).await?;
            site.key_ready(name, 1).await?;
        }
        let there =
            async |name: &str| anyhow::Ok(site.api::<ZenAPIKey>().get_opt(name).await?.is_some());
        let refused = zen.fails(2, &["key", "delete", "main"]).await?;
        ensure!(refused.contains("--yes"), "{refused}");
        for answer in ["n", ""] {
            let seen = zen
                .at_terminal(&["key", "delete", "main"], Out::Terminal, answer)
                .await?;
            ensure!(
                seen.code == 1 && seen.err.contains("was not deleted"),
                "{seen:?}"
            );
            ensure!(seen.err.contains("refused at once"), "{seen:?}");
        }
        ensure!(there("main").await?);
        let seen = zen
            .at_terminal(&["key", "delete", "main"], Out::Terminal, "y")
            .await?;
        ensure!(seen.code == 0, "{seen:?}");
        ensure!(!there("main").await?);

        let protection = json!({"zenop.dev/deletion-protection": "true"});
        site.apply(&with(key("second"), "metadata.annotations", protection))
            .await?;
        let refused = zen.fails(4, &["key", "delete", "second", "--yes"]).await?;
        ensure!(
            refused.contains("zenop.dev/deletion-protection"),
            "{refused}"
        );
        site.apply(&key("second")).await?;
        let deleted = zen
            .ok(&["key", "delete", "second", "--yes", "--wait"])
            .await?;
        ensure!(
            deleted == "zenapikey.zenop.dev/second deleted\n",
            "{deleted}"
        );
        ensure!(!there("second").await?);
        zen.ok(&["sa", "delete", "ci", "-y"]).await?;
        ensure!(
            site.api::<ZenServiceAccount>()
                .get_opt("ci")
                .await?
                .is_none()
        );
        Ok(())
    })
    .await
}

//! Users: made, told, signed out, switched off and on, given a new start, deleted.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use zenop::api::ZenUser;

use crate::{
    support::{entry, password_of, server, site},
    zen::Zen,
};

#[tokio::test]
async fn a_user_comes_and_goes() -> Result<()> {
    site("cli-user", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        let alone = zen.fails(3, &["user", "create", "ana"]).await?;
        ensure!(alone.contains("has no ZenServer"), "{alone}");
        site.apply(&server("prod")).await?;

        let made = zen
            .run(&["user", "create", "ana", "--admin", "--wait"])
            .await?;
        ensure!(made.code == 0, "{made:?}");
        ensure!(made.out == "zenuser.zenop.dev/ana created\n", "{made:?}");
        ensure!(made.err.contains("Secret ana-activation"), "{made:?}");
        let secret: Secret = site.api().get("ana-activation").await?;
        let token = entry(&secret, "token").context("no token")?;
        ensure!(!made.out.contains(&token) && !made.err.contains(&token));

        site.apply(&password_of("ben", "correct horse")).await?;
        let from = [
            "--password-from",
            "ben-password/password",
            "--email",
            "ben@example.org",
        ];
        zen.ok(&[&["user", "create", "ben", "--wait"][..], &from].concat())
            .await?;
        for wrong in [
            &["--password-from", "no-entry"][..],
            &["--activation-secret", "s"],
        ] {
            zen.fails(
                2,
                &[&["user", "create", "eve"][..], &from[..2], wrong].concat(),
            )
            .await?;
        }
        let list = zen.ok(&["user", "list", "--server", "prod"]).await?;
        ensure!(list.contains("ana") && list.contains("Password"), "{list}");
        let told = zen.ok(&["user", "describe", "ben"]).await?;
        for part in ["ben@example.org", "Secret ben-password, entry password"] {
            ensure!(told.contains(part), "{part}: {told}");
        }
        let file = ["--dry-run=client", "-o", "yaml"];
        let file = zen
            .ok(&[&["user", "create", "cy"][..], &file].concat())
            .await?;
        ensure!(file.contains("secretName: cy-activation"), "{file}");

        let said = zen.ok(&["user", "sign-out", "ben"]).await?;
        ensure!(said.contains("signed out everywhere"), "{said}");
        let ben: ZenUser = site.api().get("ben").await?;
        ensure!(ben.spec.session_epoch == 1);
        zen.ok(&["user", "deactivate", "ben", "--wait"]).await?;
        zen.ok(&["user", "activate", "ben", "--wait"]).await?;

        let said = zen.ok(&["user", "reset", "ben"]).await?;
        let name = said.split_whitespace().last().context("no name")?;
        let starts = |user: &ZenUser| {
            let status = user.status.as_ref().and_then(|s| s.activation.as_ref());
            status.is_some_and(|of| of.secret_name == name && !of.used)
        };
        site.until("ben", "with a new token", starts).await?;
        let has_token = |secret: &Secret| entry(secret, "token").is_some();
        site.until(name, "with a token", has_token).await?;
        let ben: ZenUser = site.api().get("ben").await?;
        ensure!(json!(ben.spec)["passwordFrom"].is_null());

        zen.ok(&["user", "delete", "ben", "--yes", "--wait"])
            .await?;
        zen.fails(3, &["user", "sign-out", "ben"]).await?;
        Ok(())
    })
    .await
}

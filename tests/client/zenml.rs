//! The unmodified `zenml` client from PyPI.

use std::process::Stdio;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::process::Command;

pub use crate::program::{cached, client};
use crate::{
    door::{Sidecar, free_address, set_up},
    support::{Site, entry, site},
};

/// What a command of the client ends with.
pub struct Outcome {
    pub success: bool,
    pub text: String,
}

/// Runs it with nothing but the entries of a delivered Secret.
pub async fn zenml(site: &Site, secret: &str, arguments: &[&str]) -> Result<Outcome> {
    let secret = site.api::<Secret>().get(secret).await?;
    let variables = ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"]
        .map(|name| (name, entry(&secret, name).unwrap()));
    zenml_with(&variables, arguments).await
}

/// Runs it with nothing but these variables.
pub async fn zenml_with(variables: &[(&str, String)], arguments: &[&str]) -> Result<Outcome> {
    let home = tempfile::tempdir()?;
    let output = Command::new(client()?)
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("COLUMNS", "400")
        .env("ZENML_ANALYTICS_OPT_IN", "false")
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Outcome {
        success: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

#[tokio::test]
async fn needs_nothing_but_the_two_variables_and_is_refused_once_the_key_is_deactivated()
-> Result<()> {
    site("zenml", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let _sidecar = Sidecar::start(site, address).await?;
        let commands: [(&[&str], &str); 6] = [
            (&["status"], "ci"),
            (&["service-account", "list"], "ci"),
            (&["service-account", "describe", "ci"], "ci"),
            (&["service-account", "api-key", "ci", "list"], "main"),
            (
                &["service-account", "api-key", "ci", "describe", "main"],
                "main",
            ),
            (&["stack", "list"], "default"),
        ];
        for (command, shown) in commands {
            let outcome = zenml(site, "main-key", command).await?;
            ensure!(
                outcome.success && outcome.text.contains(shown),
                "{command:?}: {}",
                outcome.text
            );
            ensure!(
                !outcome.text.contains("ZENKEY_"),
                "{command:?} shows a key: {}",
                outcome.text
            );
        }
        // Who is no administrator is refused in words.
        let refused = zenml(site, "main-key", &["service-account", "create", "another"]).await?;
        ensure!(
            !refused.success && refused.text.contains("admin"),
            "{}",
            refused.text
        );

        site.apply(&json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "metadata": {"name": "main"},
            "spec": {"serviceAccountRef": {"name": "ci"}, "active": false},
        }))
        .await?;
        let refused = zenml(site, "main-key", &["service-account", "describe", "ci"]).await?;
        ensure!(!refused.success, "{}", refused.text);
        ensure!(refused.text.contains("not active"), "{}", refused.text);
        Ok(())
    })
    .await
}

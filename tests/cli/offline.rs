//! `key new --offline`: neither Git nor the cluster ever has the key.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zenop::{
    api::ZenAPIKey,
    auth::api_key::{ApiKey, KeySecret},
};

use crate::{
    door::{Sidecar, free_address, set_up},
    support::{ready, site},
    zen::{Out, Zen, key_in},
};

/// A kubeconfig that is not there: no cluster is asked.
async fn offline(folder: &Path, arguments: &[&str]) -> Result<std::process::Output> {
    let output = tokio::process::Command::new(crate::zen::PROGRAM)
        .args(["key", "new", "--offline"])
        .args(arguments)
        .env("KUBECONFIG", folder.join("absent"))
        .current_dir(folder)
        .output()
        .await?;
    Ok(output)
}

#[tokio::test]
async fn the_file_is_private_and_the_manifest_holds_the_hash_of_the_digits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = offline(folder.path(), &["--sa", "ci"]).await?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(refused.status.code() == Some(2) && refused.stdout.is_empty());
    ensure!(
        said.contains("--key-file") && !said.contains("ZENKEY_"),
        "{said}"
    );

    let arguments = [
        "--sa",
        "ci",
        "--name",
        "x",
        "-n",
        "ml",
        "--key-file",
        "x.key",
    ];
    let made = offline(folder.path(), &arguments).await?;
    ensure!(made.status.success());
    ensure!(
        made.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let file = folder.path().join("x.key");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let text = fs::read_to_string(&file)?;
    let key: ApiKey = text.trim_end().parse()?;

    let manifest = String::from_utf8(made.stdout)?;
    ensure!(!manifest.contains("ZENKEY_"));
    let object: ZenAPIKey = serde_yaml_ng::from_str(&manifest)?;
    ensure!(object.metadata.name.as_deref() == Some("x"));
    ensure!(object.metadata.namespace.as_deref() == Some("ml"));
    let verifier = object.spec.source.verifier.context("no verifier")?;
    ensure!(verifier.key_id == key.id.to_string());
    // The digits from the text itself, without our own reader.
    let inside = text.trim_end().trim_start_matches("ZENKEY_");
    let inside = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, inside)?;
    let inside: serde_json::Value = serde_json::from_slice(&inside)?;
    let digits = inside["key"].as_str().context("no key")?;
    ensure!(digits.len() == 64);
    ensure!(verifier.sha256 == Some(hex::encode(Sha256::digest(digits))));

    // Drawn anew each time, and no file is replaced.
    let again = offline(folder.path(), &arguments).await?;
    ensure!(again.status.code() == Some(4), "{again:?}");
    ensure!(fs::read_to_string(&file)? == text);
    let zeros = KeySecret::from_random(&[0; 32]).digest();
    ensure!(key.secret.digest() != zeros);
    Ok(())
}

#[tokio::test]
async fn the_key_of_an_applied_manifest_logs_in() -> Result<()> {
    site("cli-offline", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let zen = Zen::new(site);
        let new = [
            "key",
            "new",
            "--offline",
            "--service-account",
            "ci",
            "--name",
            "laptop",
        ];
        let made = zen.at_terminal(&new, Out::Pipe, "").await?;
        ensure!(made.code == 0 && !made.out.contains("ZENKEY_"), "{made:?}");
        let key = key_in(&made.err)?;
        // As a person does it.
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("laptop.yaml");
        fs::write(&file, &made.out)?;
        site.kubectl(&["apply", "-f", file.to_str().context("a path")?])
            .await?;
        site.until("laptop", "Ready", ready::<ZenAPIKey>).await?;
        let logs_in = async || sidecar.login(&key).await.is_ok_and(|a| a.status == 200);
        sidecar.until("open to the key", logs_in).await?;

        zen.ok(&["key", "deactivate", "laptop", "--wait"]).await?;
        let refused = async || sidecar.login(&key).await.is_ok_and(|a| a.status == 401);
        sidecar.until("closed to the key", refused).await?;

        // Without an account it is accepted as well, and says what it waits for.
        let made = zen
            .at_terminal(&["key", "new", "--offline"], Out::Pipe, "")
            .await?;
        ensure!(
            made.err.contains("Fill in spec.serviceAccountRef.name"),
            "{made:?}"
        );
        site.apply(&made.yaml()?).await?;
        let json = ["key", "new", "--offline", "-o", "json", "--ttl", "90d"];
        let made = zen.at_terminal(&json, Out::Pipe, "").await?.json()?;
        ensure!(made["spec"]["ttl"] == json!("2160h"), "{made}");
        Ok(())
    })
    .await
}

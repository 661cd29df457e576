//! As a plugin of the real kubectl.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{
    support::{Site, key, site},
    zen::{PROGRAM, Zen, set_up},
};

async fn kubectl(site: &Site, first: &Path, arguments: &[&str]) -> Result<Output> {
    let bin = site
        .plane
        .bin()
        .context("the tests' own cluster brings kubectl")?;
    let ours = Path::new(PROGRAM).parent().context("a folder")?;
    let old = std::env::var_os("PATH").unwrap_or_default();
    let old = std::env::split_paths(&old);
    let path = [first, ours, bin]
        .into_iter()
        .map(Path::to_owned)
        .chain(old);
    let output = Command::new(bin.join("kubectl"))
        .args(arguments)
        .env("PATH", std::env::join_paths(path)?)
        .env("KUBECONFIG", site.plane.kubeconfig())
        .output();
    Ok(output.await?)
}

#[tokio::test]
async fn kubectl_finds_it_and_completes_its_words() -> Result<()> {
    site("cli-plugin", async |site| {
        let (_operator, zen) = set_up(site).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        let folder = tempfile::tempdir()?;
        let run = async |arguments: &[&str]| kubectl(site, folder.path(), arguments).await;

        let listed = run(&["zen", "key", "list", "-n", site.name(), "-o", "name"]).await?;
        ensure!(listed.stdout == b"zenapikey.zenop.dev/main\n", "{listed:?}");
        let absent = run(&["zen", "-n", site.name(), "key", "describe", "x"]).await?;
        ensure!(absent.status.code() == Some(3), "{absent:?}");

        let script = folder.path().join("kubectl_complete-zen");
        fs::write(&script, zen.ok(&["completion", "kubectl"]).await?)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let words = run(&["__complete", "zen", "key", "ro"]).await?;
        let words = String::from_utf8(words.stdout)?;
        ensure!(words.lines().next() == Some("rotate"), "{words}");
        let flags = run(&["__complete", "zen", "key", "list", "--sel"]).await?;
        let flags = String::from_utf8(flags.stdout)?;
        ensure!(flags.lines().next() == Some("--selector"), "{flags}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_scripts_are_of_their_shells() -> Result<()> {
    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef kubectl-zen"),
        ("fish", "complete -c kubectl-zen"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["completion", shell])
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success() && text.contains(part),
            "{shell}: {text}"
        );
        if shell == "bash" {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("script");
            fs::write(&file, &text)?;
            let checked = Command::new("bash").arg("-n").arg(&file).output().await?;
            ensure!(checked.status.success(), "{checked:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() -> Result<()> {
    site("cli-pipe", async |site| {
        let zen = Zen::new(site);
        zen.ok(&["key", "list"]).await?;
        let line = format!("{PROGRAM} completion bash | true");
        let ended = Command::new("bash").args(["-c", &line]).output().await?;
        ensure!(ended.stderr.is_empty(), "{ended:?}");
        Ok(())
    })
    .await
}

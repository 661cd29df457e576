//! The `zenop-cluster` command, as a person uses it.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};

/// A folder for the command's notes, with the tools that the user's real cache has. Dropping it takes the cluster down.
struct Cache(PathBuf);

impl Cache {
    fn make() -> Result<Self> {
        let built = command(&["tools", "control-plane", "helm"]).output()?;
        let built = String::from_utf8(built.stdout)?;
        let tool = built.lines().last().context("no tools")?;
        let cache = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        match fs::remove_dir_all(&cache.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&cache.0)?,
        }
        symlink(
            Path::new(tool).parent().context("no folder")?,
            cache.0.join("bin"),
        )?;
        Ok(cache)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(command(args).env("ZENOP_CACHE", &self.0).output()?)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zenop-cluster"));
    command.args(args);
    command
}

fn stdout(output: Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn run_gives_a_command_kubectl_and_helm_and_passes_on_its_exit_code() -> Result<()> {
    let script = "kubectl get namespace default -o name && helm list -q && exit 7";
    let output = command(&["run", "--", "sh", "-c", script]).output()?;
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8(output.stdout)?, "namespace/default\n");
    Ok(())
}

#[test]
fn up_stays_until_down_and_serves_run_existing() -> Result<()> {
    let cache = Cache::make()?;
    ensure!(
        !cache.run(&["status"])?.status.success(),
        "up before it was started"
    );
    let said = stdout(cache.run(&["up"])?)?;
    let kubeconfig = stdout(cache.run(&["kubeconfig"])?)?;
    ensure!(
        said.contains(kubeconfig.trim()),
        "up does not say how to use it: {said}"
    );
    assert_eq!(
        stdout(cache.run(&["status"])?)?.trim_end(),
        said.trim_end().trim_end_matches(STOP).trim_end()
    );
    assert_eq!(
        stdout(cache.run(&["up"])?)?,
        said,
        "a second up started another one"
    );

    let kubectl = [
        "run",
        "--existing",
        "--",
        "kubectl",
        "get",
        "namespace",
        "default",
        "-o",
        "name",
    ];
    let existing = command(&kubectl)
        .env("KUBECONFIG", kubeconfig.trim())
        .output()?;
    assert_eq!(stdout(existing)?, "namespace/default\n");

    stdout(cache.run(&["down"])?)?;
    let folder = Path::new(kubeconfig.trim()).parent().context("no folder")?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure!(!cache.run(&["status"])?.status.success(), "still up");
    stdout(cache.run(&["down"])?)?;
    Ok(())
}

const STOP: &str = "Stop it with: zenop-cluster down";

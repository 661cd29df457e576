//! What the node level needs from the machine's distribution.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{self, path_with},
    progress::Step,
    supervisor::CNI_FOLDERS,
};

/// Each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 6] = [
    ("runc", "runc"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];
const PLUGINS: (&str, &str) = ("ptp", "containernetworking-plugins");

/// Installs what is missing, where there is apt-get, with progress on stderr.
///
/// # Errors
///
/// If we are not root on Linux, or something is missing and cannot be installed. The message names it.
pub async fn ensure() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "real containers need Linux");
    ensure!(
        rustix::process::geteuid().is_root(),
        "real containers need root: run it with sudo, or without the node"
    );
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::start(format!("installing {}", missing.join(" ")));
    let work = async {
        // The lists of packages may be absent or old: fetch them only if it takes that.
        if apt_get(&[&["install"][..], &missing].concat())
            .await
            .is_err()
        {
            apt_get(&["update"]).await?;
            apt_get(&[&["install"][..], &missing].concat()).await?;
        }
        Ok(())
    };
    let done: Result<()> = tokio::select! {
        done = work => done,
        () = step.tick() => Ok(()),
    };
    done.with_context(|| format!("real containers need these packages: {}", missing.join(" ")))?;
    step.done();
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let path = path_with(Path::new("/usr/bin"));
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let has = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let mut packages: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    let (plugin, package) = PLUGINS;
    if !CNI_FOLDERS
        .iter()
        .any(|folder| Path::new(folder).join(plugin).is_file())
    {
        packages.push(package);
    }
    packages
}

async fn apt_get(args: &[&str]) -> Result<()> {
    let output = process::tied("apt-get".as_ref())
        .args(["--yes", "--quiet", "--no-install-recommends"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .await
        .context("running apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

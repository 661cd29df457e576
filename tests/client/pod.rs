//! Containers of pods that the operator made, run as processes where no node is: their programs are those of the real
//! ZenML server from PyPI.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Secret};
use serde_json::{Value, from_slice};
use tokio::process::Command;
use zenop::api::VOLUME_PATH;

use crate::{
    support::{Site, entry},
    zenml::cached,
};

/// Which release of ZenML an image holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The one before.
    Before,
    Now,
}

impl Release {
    /// Its schema.
    pub fn revision(self) -> &'static str {
        match self {
            Self::Before => "0.97.0",
            Self::Now => "0.98.0",
        }
    }

    /// Where its Python finds it.
    fn path(self) -> Result<Option<PathBuf>> {
        let place = "zenml-server-0.97.0/zenml";
        let before = || cached("ZENOP_ZENML_BEFORE", place, "make zenml-before");
        match self {
            Self::Before => Ok(before()?.parent().map(Path::to_owned)),
            Self::Now => Ok(None),
        }
    }
}

/// A container's process, with its home and its volume in a folder.
pub async fn contained(
    site: &Site,
    container: &Container,
    home: &Path,
    release: Release,
) -> Result<Command> {
    let values: Secret = site.api().get("prod-environment").await?;
    let python = cached(
        "ZENOP_ZENML_SERVER",
        "zenml-server-0.98.0/bin/python",
        "make zenml-server",
    )?;
    let program = container.command.iter().flatten().next();
    let place = home.display().to_string();
    let moved = |text: &str| {
        let text = text.replace(VOLUME_PATH, &place);
        text.replace("/dev/termination-log", &format!("{place}/report"))
    };
    let mut command = Command::new(python.with_file_name(program.context("no command")?));
    command
        .args(
            container
                .args
                .iter()
                .flatten()
                .map(|argument| moved(argument)),
        )
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    if let Some(path) = release.path()? {
        command.env("PYTHONPATH", path);
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &*variable.name) {
            (_, "HOME" | "ZENML_CONFIG_PATH") => place.clone(),
            (Some(value), _) => moved(value),
            (None, name) => entry(&values, name).with_context(|| format!("no {name}"))?,
        };
        command.env(&variable.name, value);
    }
    Ok(command)
}

/// The process of the migration of server `prod` that is to run.
pub async fn migration(site: &Site, home: &Path, release: Release) -> Result<Command> {
    let job = site.migration("prod").await?;
    let pod = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let container = pod.and_then(|pod| pod.containers.first());
    let container = container.context("no container")?;
    contained(site, container, home, release).await
}

/// Runs it to its end, and lets the Job end in the same way. Returns its exit code and report.
pub async fn migrate(site: &Site, home: &Path, release: Release) -> Result<(i32, Value)> {
    let mut command = migration(site, home, release).await?;
    let output = command.kill_on_drop(true).output().await?;
    let code = output.status.code().context("killed")?;
    let said = [output.stdout, output.stderr].concat();
    let report = std::fs::read(home.join("report"))
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&said)))?;
    let report: Value = from_slice(&report)?;
    site.migrates("prod", code, report.clone()).await?;
    Ok((code, report))
}

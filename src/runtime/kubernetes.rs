//! Clients of the API server.

use std::time::Duration;

use anyhow::Context;
use kube::{Client, Config};

/// The clients of a process.
pub struct Clients {
    /// For watches: connections that stay silent for long.
    pub watching: Client,
    /// For calls. Never repeats one by itself: kube would repeat a POST that was carried out, and
    /// sleep for as long as the server likes.
    pub calling: Client,
}

/// Connects as the environment says: KUBECONFIG, else the pod's service account.
///
/// # Errors
/// If there is no configuration, or it cannot be read.
pub async fn clients() -> anyhow::Result<Clients> {
    let mut config = Config::infer().await.context(
        "no Kubernetes configuration: run in a pod, or set KUBECONFIG to the path of one",
    )?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let watching = Client::try_from(config.clone()).context("connecting to Kubernetes")?;
    config.read_timeout = Some(Duration::from_secs(15));
    config.write_timeout = Some(Duration::from_secs(15));
    config.reset_reader_on_write = true;
    let calling = Client::try_from(config).context("connecting to Kubernetes")?;
    Ok(Clients { watching, calling })
}

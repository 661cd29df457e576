//! The sidecar: follows one server's identities, and answers clients.

use anyhow::bail;

use super::config::SidecarConfig;

/// Runs until asked to stop.
pub async fn run(config: SidecarConfig) -> anyhow::Result<()> {
    bail!("no HTTP yet for {}", config.server)
}

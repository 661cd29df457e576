//! The one control plane that all tests of a process share.

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;

use crate::{ControlPlane, Options, control_plane::named_by};

/// The environment variable that names the kubeconfig of a cluster to use instead of starting one.
pub const EXISTING: &str = "ZENOP_TEST_KUBECONFIG";

static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();

/// The process's shared control plane, with an audit log, started by whoever asks first and torn down when the process
/// ends. Usable from many tests at once, each with a runtime of its own.
///
/// If `ZENOP_TEST_KUBECONFIG` is set, it is the cluster that that kubeconfig names.
///
/// # Errors
///
/// If it could not be started. The reason is the same for all who ask.
pub async fn shared() -> Result<&'static ControlPlane> {
    let started = SHARED
        .get_or_init(|| async { start().await.map_err(|error| format!("{error:#}")) })
        .await;
    started
        .as_ref()
        .map_err(|reason| anyhow!("no Kubernetes to test with: {reason}"))
}

/// The shared control plane if it runs already.
pub(crate) fn running() -> Option<&'static ControlPlane> {
    SHARED.get()?.as_ref().ok()
}

async fn start() -> Result<ControlPlane> {
    match named_by(EXISTING) {
        Some(kubeconfig) => ControlPlane::existing(&kubeconfig),
        None => {
            ControlPlane::start(Options {
                audit: true,
                helm: true,
                ..Options::default()
            })
            .await
        }
    }
}

//! Log lines, by `RUST_LOG`, to standard error.

use tracing_subscriber::EnvFilter;

use super::config::LogFormat;

/// Starts logging. Default: our own lines from `info` on, others' from `warn` on, but for the Kubernetes client, which
/// logs every broken connection beside us.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off,zenop=info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Fails only when a test set one up before.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.try_init(),
    };
}

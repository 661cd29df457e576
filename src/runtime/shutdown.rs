//! The wish to stop: SIGTERM or Ctrl-C.

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Tells many that it is time to stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Stops at SIGTERM or Ctrl-C; a second signal ends the process at once.
    pub fn on_signals() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            for asked_before in [false, true] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if asked_before {
                    std::process::exit(130);
                }
                tracing::info!("stopping");
                let _ = sender.send(true);
            }
        });
        Ok(Self(receiver))
    }

    /// Returns once it is time to stop.
    pub async fn wait(mut self) {
        // An error means that nobody can ask any more; then nobody does.
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

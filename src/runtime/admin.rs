//! `/livez`, `/readyz` and `/metrics`, on a port of their own.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::future::BoxFuture;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

/// Whether the process can do its work, and if not, why.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Asks whether something else can do its work, and if not, why.
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Serves until the process ends. Alive means that the loop turns: it answers.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    registry: Registry,
    ready: Readiness,
    others: Vec<(&'static str, Probe)>,
) -> anyhow::Result<()> {
    let registry = Arc::new(registry);
    let metrics = move || {
        let registry = Arc::clone(&registry);
        async move { metrics(&registry) }
    };
    let readyz = move || {
        let ready = Arc::clone(&ready);
        async move { told(ready()) }
    };
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    let router = others.into_iter().fold(router, |router, (path, probe)| {
        let asked = move || {
            let probe = Arc::clone(&probe);
            async move { told(probe().await) }
        };
        router.route(path, get(asked))
    });
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening for probes on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "probes and metrics");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

fn told(how: Result<(), String>) -> (StatusCode, String) {
    match how {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn metrics(registry: &Registry) -> axum::response::Response {
    let mut text = String::new();
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, openmetrics)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

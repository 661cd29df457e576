//! The sidecar: follows one server's identities, and answers clients.

use std::sync::Arc;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::{
    admin,
    certificate::Files,
    clock,
    config::SidecarConfig,
    kubernetes::{Clients, clients},
    outside::Web,
    shutdown::Shutdown,
    upstream::Zenml,
};
use crate::{
    auth::scheme::{DEFAULT_USER, Scheme},
    http::{App, Ground, Limits, Options, Upstream, serve, serve_tls},
    store::{
        Store,
        kube::{KubeDevices, KubeRegistrar, KubeStore, ServerName},
    },
};

/// Runs until asked to stop: then takes no new connection, and ends what is under way.
pub async fn run(config: SidecarConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let files = config.tls_cert_file.zip(config.tls_key_file);
    let certificate = match files.map(|(certificate, key)| Files { certificate, key }) {
        Some(files) => Some(files.follow().await?),
        None => None,
    };
    let Clients { watching, calling } = clients().await?;
    let store = KubeStore::new(clock::monotonic, clock::now);
    let server = ServerName {
        namespace: config.namespace,
        name: config.server,
    };
    let registrar = KubeRegistrar::new(calling.clone(), &server);
    let devices = KubeDevices::new(calling.clone(), &server);
    tokio::spawn(Arc::clone(&store).run(watching, calling, server));
    tokio::spawn(warn_if_open(Arc::clone(&store)));
    let upstream = config.upstream.as_deref().map(Zenml::at).transpose()?;
    let upstream = upstream.map(Arc::new);
    let mut registry = Registry::default();
    store.register(&mut registry);
    let ground = Ground {
        store: store.clone(),
        registrar: Arc::new(registrar.clone()),
        devices: Arc::new(devices),
        vault: Arc::new(registrar),
        outside: Arc::new(Web::new(config.client_secret_file)),
        upstream: upstream.clone().map(|zenml| zenml as Arc<dyn Upstream>),
        clock: clock::now,
        draw: clock::fill_random,
    };
    let app = App::new(ground, &mut registry, Options::default());
    let probes = upstream.iter().flat_map(|zenml| {
        [
            ("/upstream/livez", zenml.probe("/health")),
            ("/upstream/readyz", zenml.probe("/ready")),
        ]
    });
    let (ready, probes) = (readiness(store), probes.collect());
    admin::serve(config.admin_listen, registry, ready, probes).await?;
    let people = app.clone();
    tokio::spawn(async move { people.keep_people().await });
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listening for clients on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "serving");
    let (router, limits, end) = (app.router(), Limits::default(), shutdown.wait());
    match certificate {
        Some(certificate) => serve_tls(listener, certificate, router, limits, end).await,
        None => serve(listener, router, limits, end).await,
    }
    Ok(())
}

/// Says loudly, at the start and whenever it comes to be so, that nobody is asked who they are.
async fn warn_if_open(store: Arc<KubeStore>) {
    let mut changed = store.changed();
    let mut told = false;
    loop {
        let settings = store.settings();
        let open = settings.is_some_and(|settings| settings.scheme == Scheme::NoAuth);
        if open && !told {
            tracing::error!(
                "INSECURE: auth.scheme is NoAuth. Whoever reaches this server is the user \
                 {DEFAULT_USER:?}, without any credential."
            );
        }
        told = open;
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Ready means that decisions can be made: everything was listed, and is fresh.
fn readiness(store: Arc<KubeStore>) -> admin::Readiness {
    Arc::new(move || store.view().map(drop).map_err(|why| why.to_string()))
}

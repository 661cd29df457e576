//! The operator: watches always, reconciles while it leads.

mod routes;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use futures::{
    FutureExt, Stream,
    future::{BoxFuture, join_all},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Resource,
    core::NamespaceResourceScope,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::routes::Routes;
use super::{
    admin, clock,
    config::OperatorConfig,
    kubernetes::{Clients, clients},
    lease::{Claim, Elector, LeaseConfig, Timings},
    shutdown::Shutdown,
};
use crate::{
    api::{Certificate, HTTPRoute, label},
    reconcile::{
        Fresh, Reader, Reconciled,
        apply::{Gate, Writer},
        census::Census,
        driver::{self, Tools},
        echo::Echoes,
        elsewhere::Elsewhere,
        error::Delays,
        events::Teller,
        made::{self, Place},
        metrics::Metrics,
        queue::Pace,
        reader::Views,
        record::keeper,
        references::Referrers,
        secret::{SecretNames, Sources},
        server::{self, readable},
        watch::{Seen, keeper, metadata, objects, watch as follow},
    },
};

/// How long work under way may take to end once we are asked to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Randomness of the operating system.
struct SystemRandom;

impl Fresh for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        clock::fill_random(bytes);
    }
}

/// Runs until asked to stop, or until the lead is lost.
pub async fn run(config: OperatorConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let Clients { watching, calling } = clients().await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let watches = Watches::start(&watching, config.watch_namespace.as_deref(), &metrics);
    let census = Census::new(
        watches.views.keys.clone(),
        watches.views.servers.clone(),
        config.metrics_per_key,
        clock::now,
    );
    registry.register_collector(Box::new(census));
    let readiness = watches.readiness();
    admin::serve(config.admin_listen, registry, readiness, Vec::new()).await?;
    // Who does not know the cluster yet has no business to lead.
    tokio::select! {
        () = watches.synced() => {}
        () = shutdown.clone().wait() => return Ok(()),
    }
    let (elector, claim) = elector(&config, calling.clone())?;
    let Some(leader) = elector.acquire(shutdown.clone().wait()).await else {
        return Ok(());
    };
    let mut controllers = tokio::spawn(controllers(&config, &watches, calling, claim, metrics));
    let work = async {
        tokio::select! {
            // They end by a panic only. Then so do we, and begin again.
            _ = &mut controllers => tracing::error!("the controllers ended"),
            () = shutdown.wait() => {
                watches.routes.close();
                // What does not end by then is cut off; a crash at that place would be no worse.
                let _ = tokio::time::timeout(DRAIN, controllers).await;
            }
        }
    };
    leader
        .run(work)
        .await
        .context("lost the lead; the next process takes over")
}

fn elector(config: &OperatorConfig, client: Client) -> anyhow::Result<(Elector, Claim)> {
    let lease = &config.lease;
    let timings = Timings::new(
        lease.lease_duration,
        lease.renew_deadline,
        lease.retry_period,
    )?;
    Ok(Elector::new(
        client,
        LeaseConfig {
            namespace: lease.lease_namespace.clone(),
            name: lease.lease_name.clone(),
            identity: config.identity.clone(),
            timings,
        },
    ))
}

/// The views, and what tells controllers of changes in them.
#[derive(Clone)]
struct Watches {
    views: Views,
    routes: Arc<Routes>,
    echoes: Arc<Echoes>,
    synced: watch::Receiver<bool>,
}

impl Watches {
    fn start(client: &Client, namespace: Option<&str>, metrics: &Metrics) -> Self {
        let (servers, server_writer) = reflector::store();
        let (accounts, account_writer) = reflector::store();
        let (keys, key_writer) = reflector::store();
        let (devices, device_writer) = reflector::store();
        let (users, user_writer) = reflector::store();
        let (declared, declared_writer) = reflector::store();
        let (components, component_writer) = reflector::store();
        let views = Views {
            servers,
            accounts,
            keys,
            devices,
            users,
            declared,
            secret_names: SecretNames::default(),
            sources: Sources::default(),
            components,
            referrers: Referrers::default(),
            secrets: made::View::default(),
            elsewhere: Elsewhere::default(),
        };
        let echoes = Arc::new(Echoes::default());
        let routes = Arc::new(Routes::new(views.clone(), Arc::clone(&echoes)));
        let start = Start {
            client,
            namespace,
            metrics,
        };
        let r = || Arc::clone(&routes);
        let (to_server, to_account, to_key) = (r(), r(), r());
        let (to_device, to_user, to_secret) = (r(), r(), r());
        let to_component = r();
        let needed = vec![
            start.kind(server_writer, move |seen| to_server.server(&seen)),
            start.kind(account_writer, move |seen| to_account.account(&seen)),
            start.kind(key_writer, move |seen| to_key.key(&seen)),
            start.kind(device_writer, move |seen| to_device.device(&seen)),
            start.kind(user_writer, move |seen| to_user.user(&seen)),
            start.kind(declared_writer, move |seen| to_secret.secret(&seen)),
            start.kind(component_writer, move |seen| to_component.component(&seen)),
            start.made::<Secret>(&views.secrets, r()),
        ];
        start.others(&views.sources, r());
        start.made::<Service>(&made::View::default(), r());
        start.made::<ServiceAccount>(&made::View::default(), r());
        start.made::<Role>(&made::View::default(), r());
        start.made::<RoleBinding>(&made::View::default(), r());
        start.made::<Deployment>(&made::View::default(), r());
        start.made::<Job>(&made::View::default(), r());
        start.made::<ConfigMap>(&made::View::default(), r());
        start.made::<PodDisruptionBudget>(&made::View::default(), r());
        start.made::<NetworkPolicy>(&made::View::default(), r());
        start.made::<Ingress>(&made::View::default(), r());
        start.made_elsewhere::<HTTPRoute>(&views.elsewhere, r());
        start.made_elsewhere::<Certificate>(&views.elsewhere, r());
        let (synced_sender, synced) = watch::channel(false);
        tokio::spawn(when_synced(needed, synced_sender));
        Self {
            views,
            routes,
            echoes,
            synced,
        }
    }

    /// Returns once everything was listed.
    async fn synced(&self) {
        if self
            .synced
            .clone()
            .wait_for(|synced| *synced)
            .await
            .is_err()
        {
            // The views' writers ended, which they do with the process only.
            std::future::pending::<()>().await;
        }
    }

    fn readiness(&self) -> admin::Readiness {
        let synced = self.synced.clone();
        Arc::new(move || match *synced.borrow() {
            true => Ok(()),
            false => Err("not everything was listed yet".to_owned()),
        })
    }
}

/// Says so once all of `listed` have become true.
async fn when_synced(listed: Vec<watch::Receiver<bool>>, synced: watch::Sender<bool>) {
    for mut one in listed {
        if one.wait_for(|listed| *listed).await.is_err() {
            // That watch ended, which it does with the process only.
            return;
        }
    }
    synced.send_replace(true);
    // Kept, so that those who wait are not told that nobody will say.
    synced.closed().await;
}

/// Starts watches. Each says when all that was there at first was listed, and told.
struct Start<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    metrics: &'a Metrics,
}

impl Start<'_> {
    fn kind<K>(
        &self,
        view: reflector::store::Writer<K>,
        tell: impl Fn(Seen<K>) + Send + 'static,
    ) -> watch::Receiver<bool>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let events = objects(self.api(), watcher::Config::default().page_size(100));
        let keep = keeper(view, self.metrics.clone());
        follow_on(K::kind(&()).into_owned(), events, keep, tell)
    }

    /// Watches the metadata of what we made, and nothing else of that kind.
    fn made<K>(&self, view: &made::View, routes: Arc<Routes>) -> watch::Receiver<bool>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let (events, keep) = (metadata::<K>(self.api(), ours()), view.keeper());
        let tell = move |seen| routes.owned(&K::kind(&()), &seen);
        follow_on(K::kind(&()).into_owned(), events, keep, tell)
    }

    /// The same for a kind that not each cluster has, once it was found.
    fn made_elsewhere<K>(&self, elsewhere: &Elsewhere, routes: Arc<Routes>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let (api, elsewhere) = (self.api(), elsewhere.clone());
        tokio::spawn(async move {
            let kind = K::kind(&());
            elsewhere.seen(&kind).await;
            let (view, (listed, _)) = (made::View::default(), watch::channel(false));
            let events = metadata::<K>(api, ours());
            let tell = |seen| routes.owned(&kind, &seen);
            follow(&kind, events, view.keeper(), tell, listed).await;
        });
    }

    /// Watches the metadata of the Secrets that others keep; of those that values are taken from the
    /// version is kept, and nothing of all others.
    fn others(&self, sources: &Sources, routes: Arc<Routes>) {
        let others = format!("{}!={}", label::MANAGED_BY, label::MANAGED_BY_ZENOP);
        let config = watcher::Config::default().page_size(100).labels(&others);
        let (events, keep) = (metadata::<Secret>(self.api(), config), sources.keeper());
        let tell = move |seen: Seen<Place>| routes.source(seen.object());
        follow_on("Secret".to_owned(), events, keep, tell);
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// Which objects we made.
fn ours() -> watcher::Config {
    let ours = format!("{}={}", label::MANAGED_BY, label::MANAGED_BY_ZENOP);
    watcher::Config::default().page_size(100).labels(&ours)
}

/// Watches on its own.
fn follow_on<E, T>(
    kind: String,
    events: impl Stream<Item = watcher::Result<watcher::Event<E>>> + Send + 'static,
    keep: impl FnMut(watcher::Event<E>) -> Vec<Seen<T>> + Send + 'static,
    tell: impl Fn(Seen<T>) + Send + 'static,
) -> watch::Receiver<bool>
where
    E: Send + 'static,
    T: Send + Sync + 'static,
{
    let (listed, is_listed) = watch::channel(false);
    tokio::spawn(async move { follow(&kind, events, keep, tell, listed).await });
    is_listed
}

/// All controllers. They listen from now on, and work until the routes are closed.
fn controllers(
    config: &OperatorConfig,
    watches: &Watches,
    client: Client,
    claim: Claim,
    metrics: Metrics,
) -> BoxFuture<'static, ()> {
    let gate: Gate = Arc::new(move || claim.is_held());
    let writer = Writer::new(client.clone(), gate, Arc::clone(&watches.echoes));
    let (teller, tell) = Teller::new(writer.clone(), config.identity.clone());
    tokio::spawn(tell);
    let is_everywhere = config.watch_namespace.is_none();
    let reader = Reader::new(client, watches.views.clone(), is_everywhere);
    let tools = Tools {
        reader: Arc::new(reader),
        writer,
        teller,
        metrics,
        clock: clock::now,
        monotonic: clock::monotonic,
        delays: Delays {
            base: config.retry_base,
            cap: config.retry_cap,
        },
        resync: config.resync,
    };
    let keys = usize::from(config.concurrency);
    let settings = server::Settings {
        image: config.image.clone(),
        image_pull_policy: config.image_pull_policy.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        encrypted_at_rest: config.secrets_encrypted_at_rest,
    };
    let pace = |concurrency, gather| Pace {
        concurrency,
        gather,
    };
    // Many keys of one account change at once; it counts them together.
    let counting = pace(4, Duration::from_millis(500));
    let (routes, views) = (&watches.routes, watches.views.clone());
    let few = pace(4, Duration::ZERO);
    let many = pace(keys, Duration::ZERO);
    // One at a time: they store in one Secret, in the version that they saw.
    let one = pace(1, Duration::ZERO);
    let work = [
        controller(&tools, settings, views.servers, routes.servers(), few),
        controller(&tools, (), views.accounts, routes.accounts(), counting),
        controller(&tools, (), views.users, routes.users(), one),
        controller(&tools, (), views.devices, routes.devices(), few),
        controller(&tools, (), views.keys, routes.keys(), many),
        controller(&tools, (), views.declared, routes.declared(), many),
        readable::run(tools.clone(), routes.readable()).boxed(),
        controller(&tools, (), views.components, routes.components(), many),
        keeper::run(tools, routes.records(), few).boxed(),
    ];
    join_all(work).map(drop).boxed()
}

/// The controller of a kind.
fn controller<K: Reconciled>(
    tools: &Tools,
    settings: K::Settings,
    view: Store<K>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    pace: Pace,
) -> BoxFuture<'static, ()> {
    driver::run(
        tools.clone(),
        settings,
        || SystemRandom,
        view,
        triggers,
        pace,
    )
    .boxed()
}

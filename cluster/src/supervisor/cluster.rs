//! The running parts of one cluster.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::{components::Site, kwok, node, space::Space, storage};
use crate::{
    cache, kubeconfig, packages,
    process::{Process, Spec},
    progress,
    protocol::{Running, Wanted},
    tools::{self, Group},
};

/// Long enough for a machine with all cores busy.
const PATIENCE: Duration = Duration::from_secs(90);
const APISERVER: &str = "kube-apiserver";

/// A cluster, from nothing to everything.
pub struct Cluster {
    site: Site,
    wanted: Wanted,
    processes: Vec<Process>,
    /// Only with a node.
    space: Option<Space>,
}

impl Cluster {
    /// Settles what has to be settled before anything starts.
    pub fn new(folder: &Path, wanted: Wanted) -> Result<Self> {
        Ok(Self {
            site: Site::prepare(folder)?,
            wanted,
            processes: Vec::new(),
            space: None,
        })
    }

    /// Builds what is missing, starts everything, and waits until it is ready.
    pub async fn start(&mut self) -> Result<Running> {
        if self.wanted.node {
            // First, because it may have to refuse, and the tools take minutes.
            packages::ensure().await?;
        }
        self.install_tools().await?;
        cache::make(&self.logs())?;
        if self.wanted.node {
            self.open_node().await?;
        }
        self.launch(self.site.etcd())?;
        self.launch(self.site.apiserver(&self.wanted))?;
        self.apiserver_ready().await?;
        self.launch(self.site.controller_manager(&self.wanted))?;
        let client = kubeconfig::client(&self.site.kubeconfig()).await?;
        if self.wanted.options.kwok {
            kwok::prepare(&client).await?;
            self.launch(self.site.kwok())?;
        }
        if self.wanted.node {
            self.start_node(&client).await?;
        }
        self.await_all("kube-controller-manager to work", || {
            accounts_are_made(&client)
        })
        .await?;
        if self.wanted.options.kwok {
            self.await_all("kwok to take pods", || kwok::takes_pods(&client))
                .await?;
        }
        Ok(self.running())
    }

    /// Makes the node's namespaces, into which all parts go, and starts what takes long and waits for nothing.
    async fn open_node(&mut self) -> Result<()> {
        let space = Space::open(&self.site.folder).await?;
        space.script(node::SETUP).await?;
        node::write_settings(&self.site)?;
        let containerd = space.inside(node::containerd(&self.site));
        let forward = node::forward(&self.site, &space.network());
        self.space = Some(space);
        for spec in [containerd, forward] {
            self.processes.push(Process::start(spec, &self.logs())?);
        }
        Ok(())
    }

    async fn start_node(&mut self, client: &Client) -> Result<()> {
        storage::prepare(client, &self.site.folder).await?;
        for spec in node::in_network(&self.site) {
            self.launch(spec)?;
        }
        let site = self.site.clone();
        self.await_all("containerd to take an image", async || {
            node::load_pause(&site).await.is_ok()
        })
        .await?;
        let space = self.space.as_ref().context("the node has no namespaces")?;
        let kubelet = space.inside(node::kubelet(&self.site));
        self.processes.push(Process::start(kubelet, &self.logs())?);
        self.await_all("the node to be Ready", || node::is_ready(client))
            .await?;
        let log = self.logs().join("coredns.log");
        self.await_all("CoreDNS to answer", async || node::dns_answers(&log))
            .await
    }

    /// Kills everything and waits until it is gone.
    pub async fn stop(&mut self) {
        join_all(self.processes.iter_mut().map(Process::kill)).await;
        if let Some(space) = &mut self.space {
            space.close().await;
        }
    }

    /// Kills kube-apiserver, as a crash would.
    pub async fn stop_apiserver(&mut self) -> Result<()> {
        let index = self.apiserver_index()?;
        self.processes.swap_remove(index).kill().await;
        Ok(())
    }

    /// Starts kube-apiserver again and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        if self.apiserver_index().is_ok() {
            bail!("{APISERVER} already runs");
        }
        self.launch(self.site.apiserver(&self.wanted))?;
        self.apiserver_ready().await
    }

    /// Freezes kube-apiserver.
    pub fn pause_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::CONT)
    }

    /// Tells people about parts that ended without being told to.
    pub fn report_ended(&mut self) {
        self.processes.retain_mut(|process| {
            let Some(status) = process.ended() else {
                return true;
            };
            progress::say(format_args!(
                "{} ended: {status}{}",
                process.spec.name,
                process.last_words()
            ));
            false
        });
    }

    async fn install_tools(&self) -> Result<()> {
        let mut groups = vec![Group::ControlPlane];
        groups.extend(self.wanted.options.helm.then_some(Group::Helm));
        groups.extend(self.wanted.options.kwok.then_some(Group::Kwok));
        groups.extend(self.wanted.node.then_some(Group::Node));
        let wanted: Vec<_> = groups.into_iter().flat_map(Group::tools).collect();
        tools::install(&wanted, &self.site.bin).await
    }

    fn launch(&mut self, spec: Spec) -> Result<()> {
        let spec = match &self.space {
            Some(space) => space.in_network(spec),
            None => spec,
        };
        self.processes.push(Process::start(spec, &self.logs())?);
        Ok(())
    }

    fn logs(&self) -> PathBuf {
        self.site.folder.join("logs")
    }

    fn running(&self) -> Running {
        Running {
            supervisor: std::process::id(),
            folder: self.site.folder.clone(),
            kubeconfig: self.site.kubeconfig(),
            server: self.site.server.clone(),
            ca_pem: self.site.ca_pem.clone(),
            audit_log: self.wanted.options.audit.then(|| self.site.audit_log()),
            bin: self.site.bin.clone(),
            inside: self
                .space
                .as_ref()
                .map(|space| node::inside(&self.site, space.network())),
            wanted: self.wanted.clone(),
        }
    }

    fn apiserver_index(&self) -> Result<usize> {
        let index = self
            .processes
            .iter()
            .position(|process| process.spec.name == APISERVER);
        index.with_context(|| format!("{APISERVER} is not running"))
    }

    fn signal_apiserver(&self, signal: Signal) -> Result<()> {
        let apiserver = self
            .processes
            .get(self.apiserver_index()?)
            .context("no such process")?;
        apiserver.signal(signal)
    }

    async fn apiserver_ready(&mut self) -> Result<()> {
        let mut config = kubeconfig::config(&self.site.kubeconfig()).await?;
        config.default_retry = false;
        let client = Client::try_from(config)?;
        self.await_all("kube-apiserver to be ready", || is_ready(&client))
            .await
    }

    /// Asks again and again until the answer is yes. Fails as soon as a process ends, or when patience does.
    async fn await_all(&mut self, what: &str, mut ask: impl AsyncFnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            if timeout(Duration::from_secs(5), ask()).await == Ok(true) {
                return Ok(());
            }
            for process in &mut self.processes {
                if let Some(status) = process.ended() {
                    bail!(
                        "{} ended while starting: {status}{}",
                        process.spec.name,
                        process.last_words()
                    );
                }
            }
            if started.elapsed() > PATIENCE {
                let all = self
                    .processes
                    .iter()
                    .map(|process| format!("\n{}:{}", process.spec.name, process.last_words()));
                bail!(
                    "waited {} s in vain for {what}{}",
                    PATIENCE.as_secs(),
                    all.collect::<String>()
                );
            }
            sleep(Duration::from_millis(25)).await;
        }
    }
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    client.request_text(request).await.is_ok()
}

/// The controllers run once the first namespace has its account.
async fn accounts_are_made(client: &Client) -> bool {
    Api::<ServiceAccount>::default_namespaced(client.clone())
        .get("default")
        .await
        .is_ok()
}

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

use super::{components::Site, kwok};
use crate::{
    Options, cache, kubeconfig,
    process::{Process, Spec},
    progress,
    protocol::Running,
    tools::{self, Group},
};

/// Long enough for a machine with all cores busy.
const PATIENCE: Duration = Duration::from_secs(90);
const APISERVER: &str = "kube-apiserver";

/// A cluster, from nothing to everything.
pub struct Cluster {
    site: Site,
    options: Options,
    processes: Vec<Process>,
}

impl Cluster {
    /// Settles what has to be settled before anything starts.
    pub fn new(folder: &Path, options: Options) -> Result<Self> {
        Ok(Self {
            site: Site::prepare(folder)?,
            options,
            processes: Vec::new(),
        })
    }

    /// Builds what is missing, starts everything, and waits until it is ready.
    pub async fn start(&mut self) -> Result<Running> {
        self.install_tools().await?;
        cache::make(&self.logs())?;
        self.launch(self.site.etcd())?;
        self.launch(self.site.apiserver(&self.options))?;
        self.apiserver_ready().await?;
        self.launch(self.site.controller_manager(&self.options))?;
        let client = kubeconfig::client(&self.site.kubeconfig()).await?;
        if self.options.kwok {
            kwok::prepare(&client).await?;
            self.launch(self.site.kwok())?;
        }
        self.await_all("kube-controller-manager to work", || {
            accounts_are_made(&client)
        })
        .await?;
        if self.options.kwok {
            self.await_all("kwok to take pods", || kwok::takes_pods(&client))
                .await?;
        }
        Ok(self.running())
    }

    /// Kills everything and waits until it is gone.
    pub async fn stop(&mut self) {
        join_all(self.processes.iter_mut().map(Process::kill)).await;
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
        self.launch(self.site.apiserver(&self.options))?;
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
        groups.extend(self.options.helm.then_some(Group::Helm));
        groups.extend(self.options.kwok.then_some(Group::Kwok));
        let wanted: Vec<_> = groups.into_iter().flat_map(Group::tools).collect();
        tools::install(&wanted, &self.site.bin).await
    }

    fn launch(&mut self, spec: Spec) -> Result<()> {
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
            audit_log: self.options.audit.then(|| self.site.audit_log()),
            bin: self.site.bin.clone(),
            options: self.options.clone(),
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

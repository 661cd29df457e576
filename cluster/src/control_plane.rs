//! A control plane as a value: drop it and it is gone.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams, config::Kubeconfig};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    Options, audit,
    folder::{Folder, random_hex},
    kubeconfig,
    launch::Supervisor,
    protocol::{Act, Request, Running, Wanted},
};

/// A Kubernetes API server with what belongs to it, on loopback ports.
///
/// It does not depend on the async runtime it was started on; clients do, so each test makes its own.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: PathBuf,
    server: String,
    ca_pem: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Ours. The pipe is behind a lock because requests are answered one after the other.
    Started {
        supervisor: Arc<Mutex<Supervisor>>,
        running: Box<Running>,
    },
    /// Somebody else's; the folder is for the kubeconfigs that we write.
    Existing { folder: Folder },
}

impl ControlPlane {
    /// Starts one and waits until it is ready: about four seconds, and some minutes more where its tools have yet to be
    /// built, which is shown on stderr.
    ///
    /// # Errors
    ///
    /// If a tool cannot be built or a part does not come up. The message holds the last lines of its log.
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_wanted(Wanted {
            options,
            node: false,
        })
        .await
    }

    pub(crate) async fn start_wanted(wanted: Wanted) -> Result<Self> {
        let (supervisor, running) = spawn_blocking(move || Supervisor::start(&wanted)).await??;
        Ok(Self {
            kubeconfig: running.kubeconfig.clone(),
            server: running.server.clone(),
            ca_pem: running.ca_pem.clone(),
            source: Source::Started {
                supervisor: Arc::new(Mutex::new(supervisor)),
                running: Box::new(running),
            },
        })
    }

    /// Takes the cluster that the kubeconfig's current context names. Its API server cannot be stopped or paused.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or names no cluster.
    pub fn existing(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("reading {}", kubeconfig.display()))?;
        let context = file
            .contexts
            .iter()
            .find(|context| Some(&context.name) == file.current_context.as_ref());
        let name = context
            .and_then(|context| context.context.as_ref())
            .map(|context| &context.cluster);
        let cluster = file
            .clusters
            .iter()
            .find(|cluster| Some(&cluster.name) == name);
        let cluster = cluster
            .and_then(|cluster| cluster.cluster.clone())
            .context("its current context names no cluster")?;
        Ok(Self {
            kubeconfig: kubeconfig.into(),
            ca_pem: kubeconfig::authority(&cluster)?,
            server: cluster.server.context("the cluster has no server")?,
            source: Source::Existing {
                folder: Folder::create()?,
            },
        })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new client that may do everything. It belongs to the runtime that this is awaited on.
    ///
    /// # Errors
    ///
    /// If the kubeconfig is not usable.
    pub async fn client(&self) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig).await
    }

    /// The API server's address, `https://127.0.0.1:<port>`. It stays the same over restarts.
    #[must_use]
    pub fn server_url(&self) -> &str {
        &self.server
    }

    /// The authority that signed the API server's certificate, in PEM. Empty for an existing cluster with a public one.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Writes a kubeconfig that shows this token, to this address if one is given (a proxy of the test) and else to the API
    /// server. The file goes when the control plane does.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn kubeconfig_for_token(
        &self,
        token: &str,
        server_url_override: Option<&str>,
    ) -> Result<PathBuf> {
        let path = self
            .folder()
            .join(format!("kubeconfig-{}", random_hex::<4>()?));
        kubeconfig::write(
            &path,
            server_url_override.unwrap_or(&self.server),
            &self.ca_pem,
            token,
        )?;
        Ok(path)
    }

    /// Writes a kubeconfig that acts as the ServiceAccount, which must exist. Its token is good for a day.
    ///
    /// # Errors
    ///
    /// If the account does not exist or the file cannot be written.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
        server_url_override: Option<&str>,
    ) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name).await?;
        self.kubeconfig_for_token(&token, server_url_override)
    }

    /// A token of the ServiceAccount, which must exist, good for a day.
    ///
    /// # Errors
    ///
    /// If the account does not exist.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let api = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let day = TokenRequestSpec {
            expiration_seconds: Some(24 * 60 * 60),
            ..Default::default()
        };
        let request = TokenRequest {
            spec: Some(day),
            ..Default::default()
        };
        let answer = api
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let answer = answer.with_context(|| format!("asking for a token of {namespace}/{name}"))?;
        answer
            .status
            .and_then(|status| status.token)
            .context("the token request got no token")
    }

    /// The audit log, one JSON event a line, if the options asked for it. It lags by a moment: see
    /// [`ControlPlane::audit_events`].
    #[must_use]
    pub fn audit_log(&self) -> Option<&Path> {
        self.running()
            .and_then(|running| running.audit_log.as_deref())
    }

    /// All events of the audit log, those of every request that was answered before this call included.
    ///
    /// # Errors
    ///
    /// If there is no audit log, or the API server does not answer.
    pub async fn audit_events(&self) -> Result<Vec<Value>> {
        let log = self
            .audit_log()
            .context("this control plane has no audit log")?;
        audit::events(log, &self.client().await?).await
    }

    /// A folder to put on `PATH`, with `kubectl` of the cluster's version. `None` for an existing cluster.
    #[must_use]
    pub fn bin(&self) -> Option<&Path> {
        self.running().map(|running| running.bin.as_path())
    }

    /// Where each part writes its log, as `<part>.log`. `None` for an existing cluster.
    #[must_use]
    pub fn logs(&self) -> Option<PathBuf> {
        self.running().map(|running| running.folder.join("logs"))
    }

    /// Kills kube-apiserver, as a crash would. Not for the [`shared`](crate::shared) one, as are the next four.
    ///
    /// # Errors
    ///
    /// If it does not run, or the cluster is not ours.
    pub async fn stop_apiserver(&self) -> Result<()> {
        self.ask(Request::Apiserver(Act::Stop)).await
    }

    /// Starts a stopped kube-apiserver on the same port and data, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it runs already or does not come up, or the cluster is not ours.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.ask(Request::Apiserver(Act::Start)).await
    }

    /// Kills kube-apiserver, starts it again on the same port and data, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not run or does not come up, or the cluster is not ours.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.stop_apiserver().await?;
        self.start_apiserver().await
    }

    /// Freezes kube-apiserver: connections stay open and new ones are accepted, but nothing answers.
    ///
    /// # Errors
    ///
    /// If it does not run, or the cluster is not ours.
    pub async fn pause_apiserver(&self) -> Result<()> {
        self.ask(Request::Apiserver(Act::Pause)).await
    }

    /// Lets a frozen kube-apiserver go on.
    ///
    /// # Errors
    ///
    /// If it does not run, or the cluster is not ours.
    pub async fn resume_apiserver(&self) -> Result<()> {
        self.ask(Request::Apiserver(Act::Resume)).await
    }

    /// The process that holds everything; it answers to SIGTERM by tearing down. `None` for an existing cluster.
    #[must_use]
    pub fn supervisor_id(&self) -> Option<u32> {
        self.running().map(|running| running.supervisor)
    }

    /// The temporary folder with everything in it, gone when the control plane is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match &self.source {
            Source::Started { running, .. } => &running.folder,
            Source::Existing { folder } => folder.path(),
        }
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.source {
            Source::Started { running, .. } => Some(running),
            Source::Existing { .. } => None,
        }
    }

    async fn ask(&self, request: Request) -> Result<()> {
        let Source::Started { supervisor, .. } = &self.source else {
            bail!(
                "this test stops or pauses the API server, which needs a control plane of our own: unset {}",
                crate::shared::EXISTING
            );
        };
        let supervisor = Arc::clone(supervisor);
        spawn_blocking(move || {
            supervisor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .ask(request)
        })
        .await?
    }
}

/// The kubeconfig that the environment variable names, if it is set.
pub(crate) fn named_by(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

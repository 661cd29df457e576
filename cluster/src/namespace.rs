//! A namespace for each test, gone when the test is, and shown before if the test failed.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams},
    runtime::wait::{await_condition, conditions::is_created},
};
use serde_json::{from_value, json};
use tokio::time::timeout;

use crate::{dump, kubeconfig, shared};

/// A namespace of one test. It is deleted when the last clone goes, also by a panic.
#[derive(Clone)]
pub struct TestNamespace(Arc<Inner>);

struct Inner {
    client: Client,
    name: String,
    /// For the deletion while dropping, when the test's own runtime may be ending.
    kubeconfig: Option<PathBuf>,
    deleted: AtomicBool,
}

impl TestNamespace {
    /// Makes a namespace `<hint>-<random>` and waits for its default ServiceAccount, without which no pod can be made.
    ///
    /// # Errors
    ///
    /// If the API server refuses it or the account does not appear within a minute.
    pub async fn create(client: &Client, hint: &str) -> Result<Self> {
        let object: Namespace = from_value(json!({
            "metadata": { "generateName": format!("{hint}-"), "labels": { "zenop-cluster/test": hint } },
        }))?;
        let made = Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await;
        let name = made
            .with_context(|| format!("making a namespace for {hint}"))?
            .metadata
            .name
            .context("it has no name")?;
        let kubeconfig = shared::running().map(|plane| plane.kubeconfig().to_owned());
        let namespace = Self(Arc::new(Inner {
            client: client.clone(),
            name,
            kubeconfig,
            deleted: AtomicBool::new(false),
        }));
        let accounts = namespace.api::<ServiceAccount>();
        let account = timeout(
            Duration::from_mins(1),
            await_condition(accounts, "default", is_created()),
        );
        account
            .await
            .context("the namespace got no default ServiceAccount")??;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The client that made it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The objects of a kind in it.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.0.client.clone(), &self.0.name)
    }

    async fn delete(&self) {
        delete(self.0.client.clone(), &self.0.name).await;
        self.0.deleted.store(true, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    /// A control plane of our own goes away as a whole. This is for the shared one, which may be somebody else's cluster.
    fn drop(&mut self) {
        let Some(kubeconfig) = self.kubeconfig.take().filter(|_| !*self.deleted.get_mut()) else {
            return;
        };
        let name = std::mem::take(&mut self.name);
        // The test's runtime, on which its client depends, may be ending: take a fresh one of each.
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                if let Ok(client) = kubeconfig::client(&kubeconfig).await {
                    delete(client, &name).await;
                }
            });
        };
        let _ = thread::spawn(work).join();
    }
}

/// Asks for the deletion, best effort; it goes on in the background.
async fn delete(client: Client, name: &str) {
    let api = Api::<Namespace>::all(client);
    let _ = timeout(
        Duration::from_secs(5),
        api.delete(name, &DeleteParams::background()),
    )
    .await;
}

/// Runs a test in a namespace of its own on the [`shared`](crate::shared) control plane.
///
/// When the test returns an error or panics, the namespace's objects and events are printed to stderr first (of Secrets
/// only names and keys), and the error or the panic goes on.
///
/// # Errors
///
/// What the test returns, or why there is no control plane.
pub async fn with_namespace<T, F>(hint: &str, test: T) -> Result<()>
where
    T: FnOnce(TestNamespace) -> F,
    F: Future<Output = Result<()>>,
{
    let client = shared().await?.client().await?;
    let namespace = TestNamespace::create(&client, hint).await?;
    let ended = AssertUnwindSafe(test(namespace.clone()))
        .catch_unwind()
        .await;
    if !matches!(ended, Ok(Ok(()))) {
        eprintln!("{}", dump(&client, namespace.name()).await);
    }
    namespace.delete().await;
    ended.unwrap_or_else(|panic: Box<dyn Any + Send>| resume_unwind(panic))
}

//! A namespace, a proxy before the API server, and the operators that work there.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::FutureExt;
use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{process::Command, sync::OnceCell, time::timeout};
use zenop::api::{SealingStatus, ZenServer};
use zenop_cluster::{
    ControlPlane, Options, TestNamespace, dump,
    fault::{Entry, Match, Proxy},
    shared,
};

use super::{Launch, Log, Operator, PATIENCE, helm, helm::Helm, watch::Watch};

/// What no test takes, however busy the machine is: one that waits for ever is to say so while somebody listens.
const STORY: Duration = Duration::from_mins(15);

/// Where a test works.
pub struct Site {
    pub plane: &'static ControlPlane,
    pub ns: TestNamespace,
    pub proxy: Proxy,
    kubeconfig: PathBuf,
    logs: Mutex<Vec<(String, Log)>>,
    watch: Watch,
}

/// Runs a test in a namespace of its own of the shared control plane, with our kinds and an account that has the rights
/// of the chart's operator, there alone. If it fails, everything there is
/// printed first: objects, events, what the operators asked and logged.
pub async fn site<T>(hint: &str, test: T) -> Result<()>
where
    T: AsyncFnOnce(&Site) -> Result<()>,
{
    static KINDS: OnceCell<()> = OnceCell::const_new();
    let plane = shared().await?;
    let client = plane.client().await?;
    KINDS.get_or_try_init(|| install(&client)).await?;
    site_on(plane, hint, test).await
}

/// The same on a control plane that has our kinds.
pub async fn site_on<T>(plane: &'static ControlPlane, hint: &str, test: T) -> Result<()>
where
    T: AsyncFnOnce(&Site) -> Result<()>,
{
    let client = plane.client().await?;
    let ns = TestNamespace::create(&client, hint).await?;
    let proxy = Proxy::start(plane).await?;
    let site = Site {
        plane,
        watch: Watch::keep(&ns),
        kubeconfig: proxy.kubeconfig(plane, &token(plane, ns.name()).await?)?,
        ns,
        proxy,
        logs: Mutex::default(),
    };
    // Boxed: in a test's future, of which there may be many at once, there is little room.
    let ended = AssertUnwindSafe(Box::pin(test(&site))).catch_unwind();
    let ended = match timeout(STORY, ended).await {
        Ok(ended) => ended.map(|ended| ended.and_then(|()| site.watch.verdict())),
        Err(_) => Ok(Err(anyhow!("not at its end after {STORY:?}"))),
    };
    if !matches!(ended, Ok(Ok(()))) {
        eprintln!("{}", site.tell().await);
    }
    if let Err(error) = site.let_go().await {
        eprintln!("namespace {} may stay: {error:#}", site.name());
    }
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A control plane for one test, with our kinds. It goes with the process, which is soon.
pub async fn own_plane(options: Options) -> Result<&'static ControlPlane> {
    let plane = ControlPlane::start(options).await?;
    install(&plane.client().await?).await?;
    Ok(Box::leak(Box::new(plane)))
}

/// Our kinds, as the chart has them.
pub async fn install(client: &Client) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in zenop::api::all_crds() {
        let (name, patch) = (crd.name_any(), Patch::Apply(&crd));
        api.patch(&name, &PatchParams::apply("test").force(), &patch)
            .await?;
        let established = await_condition(api.clone(), &name, is_crd_established());
        timeout(PATIENCE, established).await??;
    }
    Ok(())
}

/// Waits until the garbage collector knows our kinds: it looks for new ones every half a minute.
pub async fn garbage_collector() -> Result<()> {
    static KNOWS: OnceCell<()> = OnceCell::const_new();
    let known = async {
        site("garbage", async |site| {
            let owner = site.apply(&super::key("owner")).await?;
            let reference =
                owner.controller_owner_ref(&resource("zenop.dev/v1alpha1", "ZenAPIKey"));
            let child = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "child", "ownerReferences": [reference]},
            });
            let child = site.apply(&child).await?;
            site.delete::<zenop::api::ZenAPIKey>("owner").await?;
            let uid = child.uid().context("no uid")?;
            site.until_gone::<ConfigMap>("child", &uid).await
        })
        .await
    };
    KNOWS.get_or_try_init(|| known).await.map(drop)
}

/// The token of the operator that the chart installs for one namespace, with no right elsewhere. It is installed, but for
/// its pod.
async fn token(plane: &ControlPlane, namespace: &str) -> Result<String> {
    let rights = Helm::of(shared().await?)?.rights_in(namespace).await?;
    helm::apply(&plane.client().await?, &rights, false).await?;
    plane.service_account_token(namespace, helm::RELEASE).await
}

impl Site {
    pub fn name(&self) -> &str {
        self.ns.name()
    }

    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        self.ns.api()
    }

    /// An operator that works here alone, through the proxy.
    pub fn launch(&self) -> Launch {
        Launch {
            kubeconfig: self.kubeconfig.clone(),
            watch: Some(self.name().to_owned()),
            lease_namespace: self.name().to_owned(),
            lease: "zenop".to_owned(),
            identity: "zenop".to_owned(),
            image: "registry.invalid/zenop:test".to_owned(),
            log: "warn,zenop=debug".to_owned(),
            arguments: Vec::new(),
        }
    }

    pub fn start(&self, launch: &Launch) -> Result<Operator> {
        let operator = launch.start()?;
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push((launch.identity.clone(), operator.log.clone()));
        Ok(operator)
    }

    /// Starts an operator and waits until it leads.
    pub async fn operator(&self) -> Result<Operator> {
        let operator = self.start(&self.launch())?;
        operator.leads().await?;
        Ok(operator)
    }

    /// Lets operators here take a Lease of any name, as no chart does.
    pub async fn any_lease(&self) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "any-lease"},
            "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "any-lease"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "any-lease"},
            "subjects": [{"kind": "ServiceAccount", "name": helm::RELEASE, "namespace": self.name()}],
        });
        self.apply(&role).await?;
        self.apply(&binding).await.map(drop)
    }

    /// Everything that operators of this site logged.
    pub fn logs(&self) -> String {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(who, log): &(String, Log)| format!("──── log of {who} ────\n{}", log.text());
        logs.iter().map(one).collect()
    }

    /// Applies an object as a user would.
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject> {
        self.apply_as("user", object).await
    }

    /// Applies an object as a certain field manager.
    pub async fn apply_as(&self, manager: &str, object: &Value) -> Result<DynamicObject> {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let api = self.dynamic(&resource(text("/apiVersion"), text("/kind")));
        let parameters = PatchParams::apply(manager).force();
        let applied = api
            .patch(text("/metadata/name"), &parameters, &Patch::Apply(object))
            .await;
        applied.with_context(|| format!("applying {object}"))
    }

    pub fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.ns.client().clone(), self.name(), resource)
    }

    /// The object of a kind once it is as wanted.
    pub async fn until<K>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let wanted = |object: Option<&K>| object.is_some_and(&wanted);
        let seen = timeout(PATIENCE, await_condition(self.api::<K>(), name, wanted)).await;
        let kind = K::kind(&());
        seen.with_context(|| format!("{kind} {name}: not {what} in time"))??
            .with_context(|| format!("{kind} {name} is gone"))
    }

    /// The sealing key of server `prod` once it is as wanted.
    pub async fn sealing(&self, wanted: impl Fn(&SealingStatus) -> bool) -> Result<SealingStatus> {
        let of = |server: &ZenServer| server.status.as_ref()?.sealing.clone();
        let is = |server: &ZenServer| of(server).is_some_and(|sealing| wanted(&sealing));
        let server = self.until("prod", "with such a sealing key", is).await?;
        of(&server).context("no sealing key")
    }

    /// Waits until there is no object of that name with that UID.
    pub async fn until_gone<K>(&self, name: &str, uid: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let gone = |object: Option<&K>| object.is_none_or(|o| o.meta().uid.as_deref() != Some(uid));
        let seen = timeout(PATIENCE, await_condition(self.api::<K>(), name, gone)).await;
        seen.with_context(|| format!("{} {name} stays", K::kind(&())))??;
        Ok(())
    }

    pub async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>()
            .delete(name, &DeleteParams::background())
            .await?;
        Ok(())
    }

    /// Waits until the operators have asked and changed nothing for so long, but for the Lease and watches.
    pub async fn quiet(&self, time: Duration) -> Result<()> {
        let calm = async {
            loop {
                let mark = self.proxy.mark();
                match self.proxy.wait_for(mark, &Match::work(), 1, time).await {
                    Ok(()) => {}
                    Err(_) => return,
                }
            }
        };
        match timeout(PATIENCE, calm).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("the operator does not come to rest"),
        }
    }

    /// Waits until the operators are done: accounts count their keys half a second after they changed.
    pub async fn settled(&self) -> Result<()> {
        self.quiet(Duration::from_millis(800)).await
    }

    /// Checks that the operators write nothing for so long, but for the Lease.
    pub async fn no_write(&self, time: Duration) -> Result<()> {
        let mark = self.proxy.mark();
        let writes = Match::writes();
        match self.proxy.wait_for(mark, &writes, 1, time).await {
            Ok(()) => bail!("a write: {:?}", self.proxy.since(mark, &writes)),
            Err(_) => Ok(()),
        }
    }

    /// What kubectl says, as the administrator, in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        // An existing cluster comes with the kubectl of whoever has it.
        let program = self
            .plane
            .bin()
            .map_or("kubectl".into(), |bin| bin.join("kubectl"));
        let output = Command::new(program)
            .args(arguments)
            .args(["--namespace", self.name()])
            .env("KUBECONFIG", self.plane.kubeconfig())
            .output()
            .await?;
        let said = String::from_utf8(output.stdout)?;
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {said}{complained}"
        );
        Ok(said)
    }

    /// Waits until nobody has changed an object here for a moment.
    pub async fn quiet_objects(&self) -> Result<()> {
        use futures::StreamExt;
        use kube::runtime::watcher::{Config, watcher};
        let kinds = [("v1", "Service"), ("apps/v1", "Deployment")];
        let watches = kinds.map(|(version, kind)| {
            let resource = resource(version, kind);
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.ns.client().clone(), self.name(), &resource);
            watcher(api, Config::default()).boxed()
        });
        let mut events = futures::stream::select_all(watches);
        let calm = async {
            while timeout(Duration::from_millis(500), events.next())
                .await
                .is_ok()
            {}
        };
        timeout(PATIENCE, calm)
            .await
            .context("objects keep changing")
    }

    /// Takes off the finalizers that no operator is left to take off. The namespace would never go, and
    /// who ends namespaces would be kept busy by trying.
    async fn let_go(&self) -> Result<()> {
        for kind in ["ZenSecret", "ZenServiceAccount", "ZenAPIKey"] {
            let api = self.dynamic(&resource("zenop.dev/v1alpha1", kind));
            let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            for object in api.list_metadata(&ListParams::default()).await? {
                if !object.finalizers().is_empty() {
                    let (name, asked) = (object.name_any(), PatchParams::default());
                    let patched = api.patch_metadata(&name, &asked, &none).await;
                    // It may have gone by itself.
                    patched.map(drop).or_else(gone)?;
                }
            }
        }
        Ok(())
    }

    /// For whoever wants to know why a test failed.
    async fn tell(&self) -> String {
        let objects = dump(self.ns.client(), self.name()).await;
        let record = self.proxy.record();
        let began = record.first().map(|entry| entry.at);
        let asked: String = record
            .iter()
            .filter(|entry| entry.call.resource != "leases")
            .map(|entry| {
                let since = began.map_or(0.0, |began| (entry.at - began).as_secs_f64());
                let harmed = if entry.harmed { " (harmed)" } else { "" };
                let Entry { call, status, .. } = entry;
                format!("{since:.3} {call}: {status:?}{harmed} {}\n", call.query)
            })
            .collect();
        format!("{objects}\n──── requests ────\n{asked}{}", self.logs())
    }
}

fn gone(error: kube::Error) -> kube::Result<()> {
    match error {
        kube::Error::Api(status) if status.is_not_found() => Ok(()),
        error => Err(error),
    }
}

/// The resource of a kind, by its own name.
pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, version, kind))
}

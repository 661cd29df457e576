//! The API server, and errors that say what was being done to which object.

use std::time::Duration;

use http::header::{ACCEPT, HeaderValue};
use jiff::Timestamp;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DynamicObject, ListParams, PostParams, Request},
    config::{KubeConfigOptions, Kubeconfig},
    core::PartialObjectMeta,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    arguments::{Connection, DryRun},
    failure::{Exit, Failure, root},
    noun::Noun,
};
use crate::api::ZenServer;

/// The field manager of what people change with `kubectl zen`. It does not begin with `kubectl`:
/// tools that take such fields back shall see who changed them.
pub const FIELD_MANAGER: &str = "zenop-cli";

/// How many objects one answer may hold.
const PAGE: u32 = 500;

/// A cluster, and the namespace to work in.
#[derive(Clone)]
pub struct Cluster {
    calling: Client,
    watching: Client,
    /// Where commands work.
    pub namespace: String,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

/// An object as it is, and as we understand it.
pub struct Found<K> {
    /// With fields that we may not know.
    pub raw: DynamicObject,
    /// With those that we know.
    pub typed: K,
}

impl Cluster {
    /// Connects as the flags and the kubeconfig say.
    ///
    /// # Errors
    /// If there is no kubeconfig, or it cannot be used.
    pub async fn connect(from: &Connection, now: fn() -> Timestamp) -> Result<Self, Failure> {
        let wrong = |error: &(dyn std::error::Error + 'static)| {
            let (why, place) = (root(error), place(from));
            let remedy = "set KUBECONFIG or say --kubeconfig";
            let message = format!("no usable kubeconfig ({place}): {why}; {remedy}");
            Failure::new(Exit::Failed, message)
        };
        let mut config = configuration(from).await.map_err(|e| wrong(&e))?;
        // Each command repeats what it may repeat by itself: a POST may have been carried out.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = from.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let watching = Client::try_from(config.clone()).map_err(|e| wrong(&e))?;
        config.read_timeout = Some(Duration::from_secs(30));
        let calling = Client::try_from(config).map_err(|e| wrong(&e))?;
        Ok(Self {
            calling,
            watching,
            namespace,
            now,
        })
    }

    /// For calls on typed objects of the namespace.
    pub fn api<K: Noun>(&self) -> Api<K> {
        Api::namespaced(self.calling.clone(), &self.namespace)
    }

    /// For what is beside them: Secrets, Events, pods.
    pub fn core<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.calling.clone(), &self.namespace)
    }

    /// For watches and logs that are followed, which stay silent for long.
    pub fn watched<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.watching.clone(), &self.namespace)
    }

    /// For calls on objects with fields that we may not know.
    pub fn raw<K: Noun>(&self) -> Api<DynamicObject> {
        let resource = kube::api::ApiResource::erase::<K>(&());
        Api::namespaced_with(self.calling.clone(), &self.namespace, &resource)
    }

    /// `ZenAPIKey ml/ci-main`.
    pub fn title<K: Noun>(&self, name: &str) -> String {
        format!("{} {}/{name}", K::kind(&()), self.namespace)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// If it is not there, may not be read, or is of a form that we do not know.
    pub async fn read<K: Noun>(&self, name: &str) -> Result<Found<K>, Failure> {
        let doing = format!("reading {}", self.title::<K>(name));
        let raw = self.raw::<K>().get(name).await;
        let raw = raw.map_err(|error| Failure::of(&doing, &error))?;
        self.understood(raw)
    }

    /// The name of the namespace's only ZenServer.
    ///
    /// # Errors
    /// If there is none or several, or they may not be listed.
    pub async fn only_server(&self) -> Result<String, Failure> {
        let servers = self.core::<ZenServer>().list(&ListParams::default()).await;
        let servers = servers.map_err(|error| Failure::of("listing zenservers", &error))?;
        let names: Vec<_> = servers.iter().map(ResourceExt::name_any).collect();
        match &*names {
            [one] => Ok(one.clone()),
            [] => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "namespace {} has no ZenServer; make one with `kubectl zen server deploy`, or name \
                     another namespace with -n",
                    self.namespace
                ),
            )),
            _ => Err(Failure::usage(format!(
                "namespace {} has several ZenServers: say --server with one of {}",
                self.namespace,
                names.join(", ")
            ))),
        }
    }

    /// An object as we understand it.
    ///
    /// # Errors
    /// If it is of a form that we do not know.
    pub fn understood<K: Noun>(&self, raw: DynamicObject) -> Result<Found<K>, Failure> {
        let title = self.title::<K>(raw.metadata.name.as_deref().unwrap_or_default());
        let value = serde_json::to_value(&raw).and_then(serde_json::from_value);
        let typed = value.map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!(
                    "{title} is of another release than this kubectl-zen {}: {error}",
                    env!("CARGO_PKG_VERSION")
                ),
            )
        })?;
        Ok(Found { raw, typed })
    }

    /// Makes an object, or has the making of it tried.
    ///
    /// # Errors
    /// If there is one of that name, or it is refused.
    pub async fn create<K: Noun>(
        &self,
        mut object: DynamicObject,
        dry: DryRun,
    ) -> Result<Found<K>, Failure> {
        object.metadata.namespace = Some(self.namespace.clone());
        if dry == DryRun::Client {
            return self.understood(object);
        }
        let name = object.metadata.name.clone().unwrap_or_default();
        let title = self.title::<K>(&name);
        let parameters = PostParams {
            dry_run: dry == DryRun::Server,
            field_manager: Some(FIELD_MANAGER.into()),
        };
        let made = self.raw::<K>().create(&parameters, &object).await;
        let made = made.map_err(|error| match &error {
            kube::Error::Api(status) if status.is_already_exists() => Failure::new(
                Exit::Conflict,
                format!(
                    "{title} exists already; choose another name, or see \
                     `kubectl zen {} describe {name}`",
                    K::NOUN
                ),
            ),
            _ => Failure::of(&format!("creating {title}"), &error),
        })?;
        self.understood(made)
    }

    /// All objects of a kind that a selector and field selector leave.
    ///
    /// # Errors
    /// If they may not be listed.
    pub async fn list<K: Noun>(&self, wanted: &Selection) -> Result<Vec<DynamicObject>, Failure> {
        let api = match wanted.all_namespaces {
            true => Api::all_with(
                self.calling.clone(),
                &kube::api::ApiResource::erase::<K>(&()),
            ),
            false => self.raw::<K>(),
        };
        let mut parameters = wanted.parameters();
        let mut found = Vec::new();
        loop {
            let page = api.list(&parameters).await;
            let page = page.map_err(|error| Failure::of(&wanted.doing::<K>(), &error))?;
            let next = page.metadata.continue_.clone().unwrap_or_default();
            found.extend(page.items);
            if next.is_empty() {
                return Ok(found);
            }
            parameters.continue_token = Some(next);
        }
    }

    /// The same as the table that `kubectl get` shows: the API server makes it, from the columns
    /// in the kind's definition.
    ///
    /// # Errors
    /// If they may not be listed.
    pub async fn table<K: Noun>(&self, wanted: &Selection) -> Result<Table, Failure> {
        let namespace = (!wanted.all_namespaces).then_some(&*self.namespace);
        let request = Request::new(K::url_path(&(), namespace));
        let mut parameters = wanted.parameters();
        let mut table = Table::default();
        loop {
            let page = self.page(&request, &parameters).await;
            let page = page.map_err(|error| Failure::of(&wanted.doing::<K>(), &error))?;
            if table.column_definitions.is_empty() {
                table.column_definitions = page.column_definitions;
            }
            table.rows.extend(page.rows);
            if page.metadata.next.is_empty() {
                return Ok(table);
            }
            parameters.continue_token = Some(page.metadata.next);
        }
    }

    async fn page(&self, request: &Request, wanted: &ListParams) -> kube::Result<Table> {
        let mut request = request.list(wanted).map_err(kube::Error::BuildRequest)?;
        let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
        let table = HeaderValue::from_static(table);
        request.headers_mut().insert(ACCEPT, table);
        self.calling.request(request).await
    }
}

/// Where the kubeconfig was looked for.
fn place(from: &Connection) -> String {
    let flag = from.kubeconfig.as_ref();
    let flag = flag.map(|path| path.display().to_string());
    flag.or_else(|| std::env::var("KUBECONFIG").ok())
        .unwrap_or_else(|| "~/.kube/config".to_owned())
}

async fn configuration(from: &Connection) -> Result<Config, kube::Error> {
    let options = KubeConfigOptions {
        context: from.context.clone(),
        ..KubeConfigOptions::default()
    };
    let file = match &from.kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path)?),
        None if from.context.is_some() => Some(Kubeconfig::read()?),
        None => None,
    };
    match file {
        Some(file) => Ok(Config::from_custom_kubeconfig(file, &options).await?),
        None => Config::infer().await.map_err(kube::Error::InferConfig),
    }
}

/// An object as a person would write it: what has a default is left out.
pub fn manifest<K: Noun>(name: &str, spec: Value) -> DynamicObject {
    let resource = kube::api::ApiResource::erase::<K>(&());
    DynamicObject::new(name, &resource).data(serde_json::json!({"spec": spec}))
}

/// Which objects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of every namespace.
    pub all_namespaces: bool,
    /// With these labels.
    pub labels: Option<String>,
    /// With this field, such as `spec.serverRef.name=prod`.
    pub field: Option<String>,
}

impl Selection {
    fn parameters(&self) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.field.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        }
    }

    fn doing<K: Noun>(&self) -> String {
        format!("listing {}", K::plural(&()))
    }
}

/// What the API server makes of a list for people.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The heads.
    #[serde(default)]
    pub column_definitions: Vec<Column>,
    /// What is below them.
    #[serde(default)]
    pub rows: Vec<Row>,
    #[serde(default)]
    metadata: PageEnd,
}

/// The head of a column.
#[derive(Debug, Deserialize)]
pub struct Column {
    /// What it says.
    pub name: String,
    /// Zero for those that are always shown.
    #[serde(default)]
    pub priority: i32,
}

/// An object's line.
#[derive(Debug, Deserialize)]
pub struct Row {
    /// What is in the columns.
    pub cells: Vec<Value>,
    /// Whose it is.
    pub object: PartialObjectMeta<DynamicObject>,
}

#[derive(Debug, Default, Deserialize)]
struct PageEnd {
    #[serde(rename = "continue", default)]
    next: String,
}

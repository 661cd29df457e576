//! helm, our chart, and a control plane for what belongs to a whole cluster: definitions and ClusterRoles.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, ValidationDirective},
};
use serde::Deserialize;
use serde_json::{Value, from_value, json};
use tokio::{io::AsyncWriteExt, process::Command, sync::OnceCell};
use zenop_cluster::{ControlPlane, Options};

use super::site::resource;

/// The chart's folder.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/zenop");
/// The release, and so what the operator's ServiceAccount, roles and Lease are called.
pub const RELEASE: &str = "zenop";
/// Where [`installed`] has installed it.
pub const SYSTEM: &str = "zenop-system";

/// A control plane with the chart in it, installed by helm with its defaults, in a namespace that enforces the restricted
/// Pod Security Standard. It has no node, so the operator's pod is made and never runs.
pub async fn installed() -> Result<&'static ControlPlane> {
    static INSTALLED: OnceCell<ControlPlane> = OnceCell::const_new();
    let install = || async {
        let plane = own_plane().await?;
        restricted(&plane.client().await?, SYSTEM).await?;
        let helm = Helm::of(&plane)?;
        let install = ["install", RELEASE, CHART, "--namespace", SYSTEM];
        helm.run(&install, &json!({})).await?;
        anyhow::Ok(plane)
    };
    INSTALLED.get_or_try_init(install).await
}

/// A control plane that nobody else uses.
pub async fn own_plane() -> Result<ControlPlane> {
    let options = Options {
        audit: true,
        helm: true,
        ..Options::default()
    };
    ControlPlane::start(options).await
}

/// A namespace that enforces the restricted Pod Security Standard.
pub async fn restricted(client: &Client, name: &str) -> Result<()> {
    let namespace: Namespace = from_value(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    let (parameters, patch) = (PatchParams::apply("test"), Patch::Apply(&namespace));
    Api::<Namespace>::all(client.clone())
        .patch(name, &parameters, &patch)
        .await?;
    Ok(())
}

/// helm, for one control plane.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    pub fn of(plane: &ControlPlane) -> Result<Self> {
        // An existing cluster comes with the helm of whoever has it.
        let program = plane.bin().map_or("helm".into(), |bin| bin.join("helm"));
        Ok(Self {
            program,
            kubeconfig: plane.kubeconfig().into(),
            home: plane.folder().join("helm"),
        })
    }

    /// What it prints, with these values.
    ///
    /// # Errors
    /// With what it says, if it fails.
    pub async fn run(&self, arguments: &[&str], values: &Value) -> Result<String> {
        let arguments = [arguments, &["--values", "-"]].concat();
        self.feed(&arguments, &values.to_string()).await
    }

    /// What a command prints that takes no values.
    pub async fn run_bare(&self, arguments: &[&str]) -> Result<String> {
        self.feed(arguments, "").await
    }

    async fn feed(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", &self.home)
            .env("HELM_CONFIG_HOME", &self.home)
            .env("HELM_DATA_HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        // It fails where helm does not read it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The chart's manifests.
    pub async fn template(&self, namespace: &str, values: &Value) -> Result<String> {
        let arguments = ["template", RELEASE, CHART, "--namespace", namespace];
        self.run(&arguments, values).await
    }

    /// The operator's rights in one namespace, and its ServiceAccount: nothing of them is the cluster's.
    pub async fn rights_in(&self, namespace: &str) -> Result<Vec<DynamicObject>> {
        let values = json!({
            "watchNamespace": namespace,
            "crds": {"install": false},
            "rbac": {"aggregate": false},
        });
        let mut all = objects(&self.template(namespace, &values).await?)?;
        let kinds = ["ServiceAccount", "Role", "RoleBinding"];
        all.retain(|object| kinds.contains(&kind(object)));
        Ok(all)
    }
}

/// The objects of a stream of YAML documents.
pub fn objects(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(Value::deserialize);
    let mut all = Vec::new();
    for document in documents {
        let document = document?;
        if !document.is_null() {
            all.push(from_value(document)?);
        }
    }
    Ok(all)
}

pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

/// Applies objects, or asks the API server what it would say to them; fields that it does not know are an error.
pub async fn apply(client: &Client, objects: &[DynamicObject], dry_run: bool) -> Result<()> {
    let parameters = PatchParams {
        dry_run,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("test").force()
    };
    for object in objects {
        let types = object.types.as_ref().context("an object without a kind")?;
        let resource = resource(&types.api_version, &types.kind);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let (name, patch) = (object.name_any(), Patch::Apply(object));
        let applied = api.patch(&name, &parameters, &patch).await;
        applied.with_context(|| format!("{} {name}", types.kind))?;
    }
    Ok(())
}

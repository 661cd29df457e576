//! Kubeconfig files: one cluster, one user, one context. JSON, which every reader of YAML takes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use kube::{
    Client, Config,
    config::{Cluster, KubeConfigOptions, Kubeconfig},
};
use serde_json::{from_value, json};

use crate::certs::private;

/// The context that every kubeconfig of a local cluster has.
pub const CONTEXT: &str = "zenop";

/// Writes a kubeconfig that only its owner can read.
pub fn write(path: &Path, server: &str, ca_pem: &str, token: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{
            "name": CONTEXT,
            "cluster": cluster(server, ca_pem),
        }],
        "users": [{ "name": CONTEXT, "user": { "token": token } }],
        "contexts": [{
            "name": CONTEXT,
            "context": { "cluster": CONTEXT, "user": CONTEXT, "namespace": "default" },
        }],
    });
    private(path, &format!("{config:#}\n"))
}

/// A plain `http://` address, of a test's proxy, takes no authority; nor does a cluster with a public certificate.
fn cluster(server: &str, ca_pem: &str) -> serde_json::Value {
    if server.starts_with("http://") || ca_pem.is_empty() {
        json!({ "server": server })
    } else {
        json!({ "server": server, "certificate-authority-data": ByteString(ca_pem.into()) })
    }
}

/// A client that acts as the kubeconfig says. It belongs to the runtime that it is made on.
pub async fn client(path: &Path) -> Result<Client> {
    Ok(Client::try_from(config(path).await?)?)
}

/// The configuration that the kubeconfig describes.
pub async fn config(path: &Path) -> Result<Config> {
    let file =
        Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.with_context(|| format!("understanding {}", path.display()))
}

/// The authority that the kubeconfig names for the cluster, in PEM; empty if it names none.
pub fn authority(cluster: &Cluster) -> Result<String> {
    let bytes = match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(data), _) => {
            from_value::<ByteString>(json!(data))
                .context("decoding certificate-authority-data")?
                .0
        }
        (None, Some(path)) => fs::read(path).with_context(|| format!("reading {path}"))?,
        (None, None) => Vec::new(),
    };
    String::from_utf8(bytes).context("the cluster's authority is not PEM")
}

//! Volumes for claims, made beforehand: there is nobody on one node who could make them when they are asked for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::api::{core::v1::PersistentVolume, storage::v1::StorageClass};
use kube::Client;
use serde_json::json;

use super::{apply, node};

/// The class of claims that name none.
const CLASS: &str = "zenop-local";
const COUNT: u32 = 10;
const SIZE: &str = "10Gi";

/// Makes the class and its volumes, which are folders of the cluster's own folder. As a new disk does, they belong to
/// root: who is not root writes there by the pod's `fsGroup`.
pub async fn prepare(client: &Client, folder: &Path) -> Result<()> {
    let class = json!({
        "metadata": { "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    apply::<StorageClass>(client, CLASS, class).await?;
    for number in 1..=COUNT {
        let name = format!("{CLASS}-{number}");
        let path: PathBuf = folder.join("volumes").join(&name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let here =
            json!([{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node::NAME] }]);
        let volume = json!({
            "metadata": {},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": { "storage": SIZE },
                "local": { "path": path },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": here }] } },
                // Nobody empties it for the next one, so there is none.
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": CLASS,
            },
        });
        apply::<PersistentVolume>(client, &name, volume).await?;
    }
    Ok(())
}

//! The volumes of a ZenML server: that of its SQLite, and that which its MySQL is dumped to. They stay
//! when the server goes.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::{
    children::{push, with_labels},
    overlay,
};
use crate::{
    api::{BackupMethod, DatabaseType, VOLUME_PATH, Volume, ZenServer},
    reconcile::plan::{Child, Live},
};

/// The volume's name in pods.
const DATA: &str = "data";

/// The group that may write to it, whoever the image's user is.
const GROUP: u32 = 65532;

/// The kind of the volumes.
pub(super) fn volume_resource() -> ApiResource {
    ApiResource::erase::<PersistentVolumeClaim>(&())
}

/// The name of the volume that the server, or its migration, needs, and what is asked of it.
pub(super) fn wanted(server: &ZenServer) -> Option<(String, Volume)> {
    let spec = &server.spec;
    spec.image.as_ref()?;
    match spec.database.kind {
        DatabaseType::Sqlite => {
            let volume = spec.database.sqlite.clone().unwrap_or_default();
            Some((server.data_volume_name(), volume))
        }
        DatabaseType::Mysql => {
            let volume = spec.migration.backup_target.clone();
            let dumps = spec.migration.backup == BackupMethod::Dump;
            dumps.then(|| (server.backup_volume_name(), volume))
        }
    }
}

/// The volume.
pub(super) fn volume(server: &ZenServer, live: Option<Live>) -> Option<Child> {
    let (name, wanted) = wanted(server)?;
    let mut body = with_labels(json!({"spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": overlay::quantity(&wanted.size)}},
    }}));
    if let (Some(class), Some(Value::Object(spec))) =
        (&wanted.storage_class_name, body.get_mut("spec"))
    {
        spec.insert("storageClassName".into(), class.clone().into());
    }
    Some(Child {
        resource: volume_resource(),
        name,
        body,
        live,
        create_only: false,
        adopts: false,
        kept: true,
    })
}

/// Gives a pod's container of this index the volume.
pub(super) fn mount(template: &mut Value, container: usize, claim: &str) {
    let volume = json!({"name": DATA, "persistentVolumeClaim": {"claimName": claim}});
    push(template, "/spec/volumes", volume);
    let mounts = format!("/spec/containers/{container}/volumeMounts");
    push(
        template,
        &mounts,
        json!({"name": DATA, "mountPath": VOLUME_PATH}),
    );
    if let Some(Value::Object(context)) = template.pointer_mut("/spec/securityContext") {
        context.insert("fsGroup".into(), GROUP.into());
    }
}

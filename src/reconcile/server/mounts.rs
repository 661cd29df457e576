//! What a server's pods mount that others keep: whether it is there, and whether its owner released it.
//!
//! Whoever may make a ZenServer could else read each Secret of its namespace through the pods.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::{ResourceExt, core::ApiResource};
use serde_json::Value;

use super::{children::auth_secret_resource, environment::Contents};
use crate::{
    api::{PodVolume, SecretScope, ZenServer, label, reason},
    reconcile::{
        Reader,
        error::CallError,
        plan::{Live, Verdict},
    },
};

/// What pods mount, as it was when we looked.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    kind: &'static str,
    name: String,
    live: Option<Live>,
    /// Of a Secret: whether it was delivered for a ZenSecret that the server's environment may refer to.
    is_delivered: bool,
}

/// The kind of what a volume mounts, and its name.
fn mounted(volume: &PodVolume) -> Option<(ApiResource, &'static str, &str)> {
    if let Some(from) = &volume.config_map {
        return Some((
            ApiResource::erase::<ConfigMap>(&()),
            "ConfigMap",
            &from.name,
        ));
    }
    if let Some(from) = &volume.secret {
        return Some((auth_secret_resource(), "Secret", &from.secret_name));
    }
    let from = volume.persistent_volume_claim.as_ref()?;
    let kind = ApiResource::erase::<PersistentVolumeClaim>(&());
    Some((kind, "PersistentVolumeClaim", &from.claim_name))
}

impl Mounts {
    /// Reads what is mounted.
    ///
    /// # Errors
    /// If the API server does not say.
    pub(super) async fn observe(read: &Reader, server: &ZenServer) -> Result<Self, CallError> {
        let namespace = server.namespace().unwrap_or_default();
        let mut all = Vec::new();
        let volumes = server.spec.pod_template.volumes.iter();
        for (resource, kind, name) in volumes.filter_map(mounted) {
            let live = read.live(&resource, &namespace, name).await?;
            let is_delivered = kind == "Secret"
                && live
                    .as_ref()
                    .is_some_and(|live| is_delivered(read, server, live));
            all.push(Mount {
                kind,
                name: name.to_owned(),
                live,
                is_delivered,
            });
        }
        Ok(Self(all))
    }

    /// Whether there is anything that may change and is not watched.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why the pods cannot have it all now: they stay as they are.
    pub(super) fn waits(&self, server: &ZenServer) -> Option<Verdict> {
        self.0.iter().find_map(|mount| mount.waits(server))
    }

    /// What is in it, for what tells one content from another.
    pub(super) fn contents(&self) -> Contents<'_> {
        let all = self
            .0
            .iter()
            .filter_map(|mount| Some((mount, mount.live.as_ref()?)));
        all.flat_map(|(mount, live)| {
            let parts = ["data", "binaryData"].map(|part| live.body.get(part));
            let parts = parts.into_iter().flatten();
            parts.map(move |part| (mount.kind, &*mount.name, part))
        })
        .collect()
    }
}

impl Mount {
    fn waits(&self, server: &ZenServer) -> Option<Verdict> {
        let (kind, name, of) = (self.kind, &self.name, server.name_any());
        let said = |label: &str| {
            let labels = self.live.as_ref()?.body.pointer("/metadata/labels")?;
            labels.get(label).and_then(Value::as_str)
        };
        let is_zenops = said(label::MANAGED_BY) == Some(label::MANAGED_BY_ZENOP)
            && said(label::NAME) == Some(ZenServer::PODS);
        if is_zenops && kind != "ConfigMap" {
            return Some(Verdict::Stalled {
                reason: reason::VOLUME_NOT_RELEASED,
                message: format!(
                    "spec.podTemplate.volumes: {kind} {name} is zenop's own, for a server alone: take \
                     this volume out"
                ),
            });
        }
        let message = match (kind, &self.live) {
            ("ConfigMap", None) => {
                format!("spec.podTemplate.volumes: there is no ConfigMap {name}; make it")
            }
            ("ConfigMap", Some(_)) => return None,
            _ if self.is_delivered || said(label::VOLUME_OF) == Some(&*of) => return None,
            _ => {
                let label = label::VOLUME_OF;
                format!(
                    "spec.podTemplate.volumes waits for {kind} {name} with label {label}={of}, by which \
                     its owner releases it to this server's pods: kubectl label {} {name} {label}={of}",
                    kind.to_lowercase()
                )
            }
        };
        Some(Verdict::Waiting {
            reason: reason::VOLUME_NOT_RELEASED,
            message,
        })
    }
}

/// Whether a Secret was made of a ZenSecret of the server's workspace: what the server's environment may
/// refer to, its files may show.
fn is_delivered(read: &Reader, server: &ZenServer, live: &Live) -> bool {
    let Some(owner) = live
        .controller
        .as_ref()
        .filter(|owner| owner.kind == "ZenSecret")
    else {
        return false;
    };
    let namespace = server.namespace().unwrap_or_default();
    let key = kube::runtime::reflector::ObjectRef::new(&owner.name).within(&namespace);
    read.views().declared.get(&key).is_some_and(|secret| {
        secret.metadata.uid.as_deref() == Some(&*owner.uid)
            && secret.spec.server_ref.name == server.name_any()
            && secret.spec.scope == SecretScope::Workspace
    })
}

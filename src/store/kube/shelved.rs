//! Secrets as the sidecar follows them: without the ciphertexts in their specs, of which ten thousand
//! would be more than all else that it knows.

use std::borrow::Cow;

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::Deserialize;
use uuid::Uuid;

use super::project::id;
use crate::{
    api::{EntryStatus, OwnerRef, Referrer, SecretScope, UserKind, ZenSecret, ZenSecretStatus},
    auth::shelf::{Delivered, Owner, OwnerKind, Secret, Uses},
};

/// A ZenSecret without what is in it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shelved {
    #[serde(default)]
    pub metadata: ObjectMeta,
    pub spec: Spec,
    #[serde(default)]
    pub status: Option<ZenSecretStatus>,
}

/// What of its spec says whose it is and what it is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub scope: SecretScope,
    #[serde(default)]
    pub owner_ref: Option<OwnerRef>,
}

impl Resource for Shelved {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ZenSecret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ZenSecret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ZenSecret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ZenSecret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A secret, unless it is being deleted or the operator did not see it yet.
pub(super) fn secret(object: &Shelved) -> Option<Secret> {
    let meta = &object.metadata;
    let status = object.status.as_ref()?;
    if meta.deletion_timestamp.is_some() || status.observed_generation < 0 {
        return None;
    }
    let (spec, name) = (&object.spec, meta.name.clone()?);
    let created = meta.creation_timestamp.as_ref()?.0;
    let changed = status.last_changed_time.as_ref().map(|at| at.0);
    let entry = |key: &EntryStatus| (key.name.as_str().into(), key.fingerprint.as_str().into());
    let delivered = status.secret_name.clone().map(|secret| Delivered {
        secret,
        keys: status.keys.iter().map(entry).collect(),
    });
    let uses = &status.used_by;
    Some(Secret {
        id: id(meta.uid.as_deref())?,
        name: spec.name.clone().unwrap_or_else(|| name.clone()),
        object: name,
        private: spec.scope == SecretScope::User,
        owner: spec.owner_ref.as_ref().map(owner),
        created,
        updated: changed.map_or(created, |changed| changed.max(created)),
        generation: meta.generation.unwrap_or_default(),
        observed: status.observed_generation,
        delivered,
        used_by: Uses {
            count: usize::try_from(uses.count).unwrap_or_default(),
            first: uses.refs.iter().map(shown).collect(),
        },
    })
}

/// One whose id cannot be read is nobody.
fn owner(of: &OwnerRef) -> Owner {
    Owner {
        kind: match of.kind {
            UserKind::ZenUser => OwnerKind::User,
            UserKind::ZenServiceAccount => OwnerKind::Account,
        },
        object: of.name.clone(),
        uid: of
            .uid
            .as_ref()
            .map(|uid| uid.parse().unwrap_or(Uuid::nil())),
    }
}

fn shown(referrer: &Referrer) -> String {
    format!("{} {}", referrer.kind, referrer.name)
}

//! The record that a new object continues.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};

use super::{opened, record_of};
use crate::{
    api::{DeletionPolicy, Record, ZenServer, annotation, label},
    auth::keyring::Keyring,
    reconcile::{
        Reader, Reconciled,
        error::CallError,
        plan::{Doomed, Live},
    },
};

/// What a new object continues.
#[derive(Debug)]
pub struct Revival {
    /// The deleted object.
    pub record: Record,
    /// The Secret that holds it, which goes when it was taken over.
    pub spent: Doomed,
}

/// Whether an object that was never made continues another.
#[derive(Debug, Default)]
pub enum Lookup {
    /// It is new.
    #[default]
    New,
    /// It continues this one.
    Continues(Box<Revival>),
    /// It is to continue one of which there is no record.
    Missing,
}

/// What an object continues that was never made: what it names, or what was retained of its name.
///
/// # Errors
/// If the API server does not say.
pub async fn lookup<K: Reconciled>(
    object: &K,
    policy: DeletionPolicy,
    read: &Reader,
    keyring: &Keyring,
) -> Result<Lookup, CallError> {
    let secrets = ApiResource::erase::<Secret>(&());
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let fits = |secret: Live| {
        let record = opened(&secret, keyring.pepper())?;
        let is = record.kind == K::kind(&())
            && record.namespace == namespace
            && record.name == name
            && object.continues(&record.spec);
        let spent = Doomed {
            resource: secrets.clone(),
            name: Record::secret_name(&record.uid),
            uid: secret.uid,
            version: None,
        };
        is.then_some(Revival { record, spent })
    };
    if let Some(uid) = object.annotations().get(annotation::RESTORE) {
        let secret = Record::secret_name(uid);
        let found = read.live(&secrets, &namespace, &secret).await?;
        let found = found
            .and_then(fits)
            .filter(|found| found.record.uid == *uid);
        return Ok(found.map_or(Lookup::Missing, |found| Lookup::Continues(found.into())));
    }
    if policy == DeletionPolicy::Delete {
        return Ok(Lookup::New);
    }
    // Somebody may be faster than we who make it again.
    let selector = selector::<K>(&name);
    let found = read.selected(&secrets, &namespace, &selector).await?;
    let found = found.into_iter().filter_map(fits);
    let retained = found.filter(|found| found.record.until.is_none());
    let last = retained.max_by_key(|found| found.record.deleted.0);
    Ok(last.map_or(Lookup::New, |found| Lookup::Continues(found.into())))
}

/// The server of a deleted object of a kind and name, as its record says.
///
/// # Errors
/// If the API server does not say.
pub async fn server_of<K: Reconciled>(
    namespace: &str,
    name: &str,
    read: &Reader,
) -> Result<Option<Arc<ZenServer>>, CallError> {
    let secrets = ApiResource::erase::<Secret>(&());
    for secret in read
        .selected(&secrets, namespace, &selector::<K>(name))
        .await?
    {
        let owner = secret.controller.as_ref().filter(|o| o.kind == "ZenServer");
        let Some(server) = owner.and_then(|owner| read.server(namespace, &owner.name)) else {
            continue;
        };
        let keyring = read.keyring(&server).await?;
        if keyring.is_some_and(|keyring| opened(&secret, keyring.pepper()).is_some()) {
            return Ok(Some(server));
        }
    }
    Ok(None)
}

/// Selects the records of objects of a kind and name.
fn selector<K: Reconciled>(name: &str) -> String {
    let kind = K::kind(&());
    let (record, of) = (label::RECORD, label::RECORD_OF);
    format!(
        "{record}={},{of}={}",
        kind.to_lowercase(),
        record_of(&kind, name)
    )
}

//! From custom resources to what decisions are made of. What cannot be read is left out: it then
//! allows nothing.

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use crate::{
    api::{KeyGeneration, SecureHeaders, ZenAPIKey, ZenServer, ZenServiceAccount},
    auth::directory::{Account, Generation, Key},
    store::{HeaderSettings, Settings},
};

/// The id that an object has on the wire.
pub(super) fn id(uid: Option<&str>) -> Option<Uuid> {
    uid?.parse().ok()
}

/// An account, unless it is being deleted.
pub(super) fn account(object: &ZenServiceAccount) -> Option<Account> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let id = id(object.metadata.uid.as_deref())?;
    let name = object.zenml_name().to_owned();
    let mut account = Account::new(id, object.name_any(), name, created(object)?);
    account.description.clone_from(&object.spec.description);
    account.active = object.spec.active;
    let status = object.status.as_ref();
    account.last_recorded = status.and_then(|s| Some(s.last_authenticated_time.as_ref()?.0));
    Some(account)
}

/// A key, unless it is being deleted or was never made.
pub(super) fn key(object: &ZenAPIKey) -> Option<Key> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = object.status.as_ref()?;
    Some(Key {
        id: id(object.metadata.uid.as_deref())?,
        name: object.name_any(),
        description: object.spec.description.clone(),
        account_object: object.spec.service_account_ref.name.clone(),
        account: id(status.account_id.as_deref())?,
        active: object.spec.active,
        expires: object.spec.expires_at.as_ref().map(|end| end.0),
        generations: status.generations.iter().filter_map(generation).collect(),
        created: created(object)?,
        last_rotated: status.last_rotated_time.as_ref().map(|at| at.0),
    })
}

fn generation(recorded: &KeyGeneration) -> Option<Generation> {
    Some(Generation {
        number: recorded.generation,
        verifier: recorded.verifier.parse().ok()?,
        valid_until: recorded.valid_until.as_ref().map(|end| end.0),
    })
}

/// How a server is set up, unless it is being deleted or the operator did not see it yet.
pub(super) fn settings(object: &ZenServer) -> Option<Settings> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Settings {
        id: id(object.metadata.uid.as_deref())?,
        name: object.name_any(),
        url: object.status.as_ref()?.url.clone()?,
        created: created(object)?,
        token_ttl: object.spec.auth.token_ttl.0,
        max_staleness: object.spec.auth.max_staleness.0,
        headers: headers(&object.spec.secure_headers),
    })
}

fn headers(spec: &SecureHeaders) -> HeaderSettings {
    let SecureHeaders {
        server,
        hsts,
        xfo,
        content,
        csp,
        referrer,
        cache,
        permissions,
    } = spec.clone();
    HeaderSettings {
        server,
        hsts,
        xfo,
        content,
        csp,
        referrer,
        cache,
        permissions,
    }
}

fn created(object: &impl ResourceExt) -> Option<Timestamp> {
    object.creation_timestamp().map(|at| at.0)
}

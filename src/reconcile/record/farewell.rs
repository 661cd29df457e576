//! An object that is being deleted: its record is written, its Secret handed over, then it may go.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use super::{is_over, sealed};
use crate::{
    api::{
        ApiDuration, DeletionPolicy, FIELD_MANAGER, Record, ZenServer, annotation, label,
        whole_seconds,
    },
    reconcile::{
        Reader, Reconciled,
        apply::Owner,
        call::call,
        driver::{Tools, reference},
        error::{ApplyError, CallError, PassError},
        plan::{Live, Note},
    },
};

/// How long a deleted object waits for what it needs to be recorded. The deletion counts, and a
/// record that cannot be written is not worth more; only what is to be retained waits on.
const LET_GO_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// What is wished for an object when it is deleted.
#[derive(Debug)]
pub struct Wish {
    /// Its policy, as far as it can be kept.
    pub policy: DeletionPolicy,
    /// Its server. `None`: not known now.
    pub server: Option<Arc<ZenServer>>,
    /// The Secret that goes with it.
    pub secret: Option<String>,
    /// Whether there is anything to be had back.
    pub is_made: bool,
}

impl Wish {
    /// Whether the object is to be held when it is deleted. `None`: not known now.
    pub fn holds(&self) -> Option<bool> {
        match (self.policy, &self.server) {
            (DeletionPolicy::Retain, _) => Some(true),
            (DeletionPolicy::Delete, None) => None,
            (DeletionPolicy::Delete, Some(server)) => Some(window(server).is_some()),
        }
    }
}

fn window(server: &ZenServer) -> Option<ApiDuration> {
    server.spec.policy.undo_window
}

/// Whether our finalizer is on it.
pub fn is_held<K: Reconciled>(object: &K) -> bool {
    object.finalizers().iter().any(|f| f == K::FINALIZER)
}

/// Lets an object go that is being deleted, and writes down what is needed to have it back.
///
/// # Errors
/// If it could not be, yet.
pub async fn let_go<K: Reconciled>(
    seen: &K,
    tools: &Tools,
    now: Timestamp,
) -> Result<(), PassError> {
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    // As it is now: what was changed last is to be had back, and no older state.
    let object = tools.reader.object::<K>(&namespace, &name).await;
    let Some(object) = object.map_err(PassError::Observe)? else {
        return Ok(());
    };
    let Some(deleted) = object.meta().deletion_timestamp.clone() else {
        return Ok(());
    };
    if object.uid() != seen.uid() || !is_held(&object) {
        return Ok(());
    }
    let waits_until = deleted.0.saturating_add(LET_GO_AFTER).unwrap_or(now);
    let note = match recorded(&object, &deleted, tools, now).await {
        Ok(note) => note,
        Err(PassError::Apply(ApplyError::Call(error))) if is_namespace_ending(&error) => None,
        Err(error) if now < waits_until => return Err(error),
        // Without a pepper it is refused in any case.
        Err(error) if !is_lost(&error) && retains(&object, &tools.reader) => return Err(error),
        Err(error) => {
            tracing::warn!(namespace, name, %error, "deleted without a record");
            None
        }
    };
    release(&object, tools).await.map_err(PassError::Apply)?;
    if let Some(note) = note {
        tools.teller.tell(&reference(&object), note, now);
    }
    Ok(())
}

fn is_lost(error: &PassError) -> bool {
    matches!(error, PassError::Apply(ApplyError::NoPepper))
}

fn retains<K: Reconciled>(object: &K, read: &Reader) -> bool {
    object
        .wish(read)
        .is_some_and(|wish| wish.policy == DeletionPolicy::Retain)
}

/// The API server makes nothing in a namespace that is being deleted.
pub(super) fn is_namespace_ending(error: &CallError) -> bool {
    let CallError::Failed {
        source: kube::Error::Api(status),
        ..
    } = error
    else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|c| c.reason == "NamespaceTerminating")
}

/// Writes the record, if one is wanted, and hands the delivered Secret over to it.
async fn recorded<K: Reconciled>(
    object: &K,
    deleted: &Time,
    tools: &Tools,
    now: Timestamp,
) -> Result<Option<Note>, PassError> {
    let Some(wish) = object.wish(&tools.reader).filter(|wish| wish.is_made) else {
        return Ok(None);
    };
    let forced = object.annotations().get(annotation::FORCE);
    if forced.is_some_and(|value| value == "true") {
        return Ok(None);
    }
    let server = match &wish.server {
        Some(server) => Some(Arc::clone(server)),
        None => object
            .last_server(&tools.reader)
            .await
            .map_err(PassError::Observe)?,
    };
    let Some(server) = server.filter(|server| server.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let Some(record) = record(object, &wish, deleted, &server) else {
        return Ok(None);
    };
    if is_over(&record, now) {
        return Ok(None);
    }
    write(&record, &wish, &server, tools).await?;
    Ok(Some(note(&record)))
}

fn record<K: Reconciled>(
    object: &K,
    wish: &Wish,
    deleted: &Time,
    server: &ZenServer,
) -> Option<Record> {
    let until = match wish.policy {
        DeletionPolicy::Retain => None,
        DeletionPolicy::Delete => {
            let until = deleted.0.saturating_add(window(server)?.0);
            Some(whole_seconds(until.unwrap_or(Timestamp::MAX)))
        }
    };
    let whole = serde_json::to_value(object).ok()?;
    let part = |name: &str| whole.get(name).cloned().unwrap_or_default();
    let meta = object.meta();
    Some(Record {
        kind: K::kind(&()).into_owned(),
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        deleted: deleted.clone(),
        until,
        labels: Record::lasting(meta.labels.as_ref()),
        annotations: Record::lasting(meta.annotations.as_ref()),
        spec: part("spec"),
        status: part("status"),
    })
}

async fn write(
    record: &Record,
    wish: &Wish,
    server: &ZenServer,
    tools: &Tools,
) -> Result<(), PassError> {
    let read = &tools.reader;
    let secrets = ApiResource::erase::<Secret>(&());
    let (namespace, name) = (&record.namespace, Record::secret_name(&record.uid));
    let look = async |name: &str| {
        let live = read.live(&secrets, namespace, name).await;
        live.map_err(PassError::Observe)
    };
    let keyring = read.keyring(server).await.map_err(PassError::Observe)?;
    let keyring = keyring.ok_or(PassError::Apply(ApplyError::NoPepper))?;
    let owner = Owner::of(server);
    let child = sealed(record, keyring.pepper(), look(&name).await?);
    let written = tools.writer.apply(&owner, &child).await;
    written.map_err(PassError::Apply)?;
    let Some(secret) = &wish.secret else {
        return Ok(());
    };
    if let Some(delivered) = look(secret).await?
        && delivered.is_controlled_by(&record.uid)
        && let Some(heir) = look(&name).await?
    {
        let handed = hand_over(namespace, secret, &delivered, &name, &heir, tools).await;
        handed.map_err(PassError::Apply)?;
    }
    Ok(())
}

/// Makes the record the owner of the delivered Secret: it goes when that goes.
async fn hand_over(
    namespace: &str,
    name: &str,
    secret: &Live,
    heir_name: &str,
    heir: &Live,
    tools: &Tools,
) -> Result<(), ApplyError> {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Secret".into(),
        name: heir_name.to_owned(),
        uid: heir.uid.clone(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let patch = json!({"metadata": {
        "uid": secret.uid,
        "resourceVersion": secret.resource_version,
        "ownerReferences": [owner],
        // A watch that finds what was made for somebody who is gone has nothing to do.
        "labels": {(label::OWNER_UID): null},
    }});
    let api: Api<Secret> = Api::namespaced(tools.writer.client()?, namespace);
    let what = || format!("hand over Secret {namespace}/{name}");
    call(what, api.patch(name, &ours(), &Patch::Merge(&patch))).await?;
    Ok(())
}

/// Takes our finalizer off, if the object is as it was when we looked.
///
/// # Errors
/// If it cannot be written.
pub async fn release<K: Reconciled>(object: &K, tools: &Tools) -> Result<(), ApplyError> {
    let others = object.finalizers().iter().filter(|f| *f != K::FINALIZER);
    let others: Vec<_> = others.collect();
    set_marks(object, &json!({"finalizers": others}), tools).await?;
    Ok(())
}

/// Puts our finalizer on an object that is to be held when it is deleted, and takes it off one
/// that is not; and takes the label off what was retained once somebody takes care of it again.
/// Returns the version that is then to be written on.
///
/// # Errors
/// If it cannot be read or written.
pub async fn mark<K: Reconciled>(object: &K, tools: &Tools) -> Result<Option<String>, PassError> {
    let mut marks = serde_json::Map::new();
    let held = is_held(object);
    let holds = object.is_to_be_held(&tools.reader);
    if holds.is_some_and(|holds| holds != held) {
        let others = object.finalizers().iter().filter(|f| *f != K::FINALIZER);
        let mut finalizers: Vec<&str> = others.map(String::as_str).collect();
        finalizers.extend((!held).then_some(K::FINALIZER));
        marks.insert("finalizers".into(), json!(finalizers));
    }
    if object.labels().contains_key(label::RETAINED) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let kind = ApiResource::erase::<K>(&());
        let live = tools.reader.live(&kind, &namespace, &name).await;
        if live
            .map_err(PassError::Observe)?
            .is_some_and(|live| is_cared_for(&live))
        {
            marks.insert("labels".into(), json!({(label::RETAINED): null}));
        }
    }
    if marks.is_empty() {
        return Ok(None);
    }
    let written = set_marks(object, &Value::Object(marks), tools).await;
    Ok(written.map_err(PassError::Apply)?.resource_version())
}

/// Whether anybody but us wrote to it.
fn is_cared_for(live: &Live) -> bool {
    let managers = live.body.pointer("/metadata/managedFields");
    let managers = managers.and_then(Value::as_array).into_iter().flatten();
    let theirs = |entry: &Value| {
        let is_ours = entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER);
        !is_ours && entry.get("subresource").is_none()
    };
    managers.into_iter().any(theirs)
}

async fn set_marks<K: Reconciled>(
    object: &K,
    marks: &Value,
    tools: &Tools,
) -> Result<K, ApplyError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut metadata = json!({
        "uid": object.uid(), "resourceVersion": object.resource_version(),
    });
    if let (Value::Object(metadata), Value::Object(marks)) = (&mut metadata, marks) {
        metadata.extend(marks.clone());
    }
    let patch = json!({"metadata": metadata});
    let api: Api<K> = Api::namespaced(tools.writer.client()?, &namespace);
    let what = || format!("mark {} {namespace}/{name}", K::kind(&()));
    let written = call(what, api.patch(&name, &ours(), &Patch::Merge(&patch))).await?;
    tools.writer.echoes().wrote_status(&written);
    Ok(written)
}

pub(in crate::reconcile) fn ours() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

fn note(record: &Record) -> Note {
    let (reason, message) = match &record.until {
        None => (
            "Retained",
            "deleted, and made again, as spec.deletionPolicy is Retain".to_owned(),
        ),
        Some(until) => (
            "Recorded",
            format!(
                "deleted; until {} it can be had back: kubectl zen {} restore {}",
                until.0,
                if record.kind == "ZenAPIKey" {
                    "key"
                } else {
                    "sa"
                },
                record.uid
            ),
        ),
    };
    Note {
        warning: false,
        reason,
        action: "Delete",
        message,
    }
}

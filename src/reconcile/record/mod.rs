//! What is deleted and may be had back: `deletionPolicy: Retain`, and the server's undo window.
//!
//! A deleted object cannot be kept: Kubernetes only lets one wait for its end. So it goes, and another continues it:
//!
//! 1. [`farewell`]: a finalizer holds the deleted object until the operator wrote a *record* of it, a sealed Secret, and
//!    handed the delivered Secret over to that. Then the object goes.
//! 2. [`keeper`]: what is retained is made again at once; the record of anything else is deleted when the undo window is
//!    over, and the delivered Secret goes with it.
//! 3. [`revival`]: a new object that names a record takes its id and its generations over from it, in a write of status
//!    before anything else; then the Secret; then the record is deleted.
//!
//! Each step can be repeated. An id that is not the object's own UID is shown to be its own by an HMAC in status: nobody
//! gets another's by writing a status, and nobody gets one by a Secret that the operator did not seal.

pub mod farewell;
pub mod keeper;
pub mod revival;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::plan::{Child, Live};
use crate::{
    api::{Record, label},
    auth::api_key::{Pepper, Verifier},
};

/// The Secret that holds a record, beside what is there.
fn sealed(record: &Record, pepper: &Pepper, live: Option<Live>) -> Child {
    let text = serde_json::to_vec(record).unwrap_or_default();
    let seal = pepper.seal(&text).to_hex();
    let labels = json!({
        (label::NAME): "zenop-record",
        (label::COMPONENT): "record",
        (label::RECORD): record.kind.to_lowercase(),
        (label::RECORD_OF): record_of(&record.kind, &record.name),
    });
    Child {
        resource: ApiResource::erase::<Secret>(&()),
        name: Record::secret_name(&record.uid),
        body: json!({
            "type": "Opaque",
            "metadata": {"labels": labels},
            "data": {(Record::ENTRY): STANDARD.encode(text), (Record::SEAL): STANDARD.encode(seal)},
        }),
        live,
        create_only: false,
        adopts: false,
        kept: false,
    }
}

/// The record in a Secret, if whoever has the pepper wrote it.
fn opened(secret: &Live, pepper: &Pepper) -> Option<Record> {
    let data = |name: &str| {
        let entry = secret.body.get("data")?.get(name).and_then(Value::as_str)?;
        STANDARD.decode(entry).ok()
    };
    let text = data(Record::ENTRY)?;
    let shown: Verifier = String::from_utf8(data(Record::SEAL)?).ok()?.parse().ok()?;
    let is_ours: bool = pepper.seal(&text).matches(&shown).into();
    is_ours
        .then(|| serde_json::from_slice(&text).ok())
        .flatten()
}

/// Finds the records of objects of a kind and name: as a name may be longer than a label.
fn record_of(kind: &str, name: &str) -> String {
    let mut hash = hex::encode(Sha256::digest(format!("{kind}/{name}")));
    hash.truncate(32);
    hash
}

/// Whether the time in which it could be had back is over.
pub(super) fn is_over(record: &Record, now: Timestamp) -> bool {
    record.until.as_ref().is_some_and(|until| until.0 <= now)
}

//! Events (`events.k8s.io/v1`), each object and text once, counted from then on.
//!
//! The name of an event is made of what it says, so that telling it again finds it, after a
//! restart too, and nothing is remembered here. kube's recorder keeps every event for six
//! minutes, which for ten thousand keys is more memory than all the rest.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{apply::Writer, call::call, error::ApplyError, plan::Note};
use crate::api::FIELD_MANAGER;

/// How many events may wait to be written; more are dropped, as events are no record.
const QUEUE: usize = 1024;

/// Takes events without waiting.
#[derive(Clone)]
pub struct Teller(mpsc::Sender<(ObjectReference, Note, Timestamp)>);

impl Teller {
    /// A teller, and the task that writes what it is told.
    pub fn new(writer: Writer, instance: String) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Note, Timestamp)>(QUEUE);
        let task = async move {
            while let Some((about, note, now)) = receiver.recv().await {
                if let Err(error) = write(&writer, &instance, &about, &note, now).await {
                    tracing::debug!(%error, reason = note.reason, "event not written");
                }
            }
        };
        (Self(sender), task)
    }

    /// Tells of something that was done at `now`.
    pub fn tell(&self, about: &ObjectReference, note: Note, now: Timestamp) {
        if self.0.try_send((about.clone(), note, now)).is_err() {
            tracing::debug!("event dropped: too many at once");
        }
    }
}

async fn write(
    writer: &Writer,
    instance: &str,
    about: &ObjectReference,
    note: &Note,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let namespace = about.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(writer.client()?, &namespace);
    let event = event(instance, about, note, now);
    let name = event.metadata.name.clone().unwrap_or_default();
    let what = || format!("create Event {namespace}/{name}");
    match call(what, api.create(&PostParams::default(), &event)).await {
        Err(error) if error.is_conflict() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Ok(()),
    }
    let seen = call(|| format!("get Event {namespace}/{name}"), api.get(&name)).await?;
    let count = seen
        .series
        .map_or(2, |series| series.count.saturating_add(1));
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(now),
    };
    let patch = Patch::Merge(json!({"series": series}));
    let what = || format!("patch Event {namespace}/{name}");
    call(what, api.patch(&name, &PatchParams::default(), &patch)).await?;
    Ok(())
}

fn event(instance: &str, about: &ObjectReference, note: &Note, now: Timestamp) -> Event {
    let identity = format!("{:?}\n{}\n{}", about.uid, note.reason, note.message);
    let mut digest = hex::encode(Sha256::digest(identity));
    digest.truncate(16);
    let name = about.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{digest}", start_of(&name))),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some(note.action.into()),
        reason: Some(note.reason.into()),
        note: Some(note.message.chars().take(1000).collect()),
        regarding: Some(about.clone()),
        reporting_controller: Some(format!("zenop.dev/{FIELD_MANAGER}")),
        reporting_instance: Some(instance.chars().take(128).collect()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        ..Event::default()
    }
}

/// As much of a name as leaves room for a digest, and ends as a name must.
fn start_of(name: &str) -> &str {
    let start = name.get(..200).unwrap_or(name);
    start.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

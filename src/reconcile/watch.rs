//! Watches: one per kind, each kept as a view, each change turned into the names of the objects
//! that it concerns.
//!
//! An object that cannot be read as its kind is skipped and named; the others go on.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync;

use super::{driver::label, metrics::Metrics};

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Seen<K> {
    /// It is new or was changed.
    Changed(Arc<K>),
    /// It is gone.
    Gone(Arc<K>),
}

impl<K> Seen<K> {
    /// The object as last seen.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Changed(object) | Self::Gone(object) => object,
        }
    }
}

/// Where to send the names of objects that need a look. While nobody leads nobody listens, and
/// nothing is kept: who begins to listen looks at everything.
pub struct Triggers<K: Resource<DynamicType = ()> + 'static>(
    Mutex<Option<mpsc::UnboundedSender<ObjectRef<K>>>>,
);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for Triggers<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Triggers<K> {
    /// Asks for a look at an object.
    pub fn send(&self, object: ObjectRef<K>) {
        if let Some(sender) = &*self.0.lock() {
            // Fails only while we stop.
            let _ = sender.unbounded_send(object);
        }
    }

    /// From now on listens, beginning with every object of `store`.
    pub fn listen(&self, store: &Store<K>) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        let all = store.state();
        let all = all.iter().map(|object| ObjectRef::from_obj(&**object));
        self.listen_from(all.collect())
    }

    /// From now on listens, beginning with these.
    pub fn listen_from(
        &self,
        first: Vec<ObjectRef<K>>,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        let (sender, receiver) = mpsc::unbounded();
        *self.0.lock() = Some(sender);
        for object in first {
            self.send(object);
        }
        receiver
    }

    /// Ends what [`Self::listen`] gave: looks under way are finished, no new one begins.
    pub fn close(&self) {
        *self.0.lock() = None;
    }
}

/// Watches objects, each of which may be unreadable.
pub fn objects<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, config).default_backoff()
}

/// Watches the metadata of objects; what else is in them never leaves the API server. kube asks
/// for that only where it is not hidden by a guard, and in metadata there is little to guard
/// against.
pub fn metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<ObjectMeta>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let metadata = |event| match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(PartialObjectMeta { metadata, .. }) => Event::InitApply(metadata),
        Event::Apply(PartialObjectMeta { metadata, .. }) => Event::Apply(metadata),
        Event::Delete(PartialObjectMeta { metadata, .. }) => Event::Delete(metadata),
    };
    watcher(api, config).default_backoff().map_ok(metadata)
}

/// Keeps the view of a kind, and tells of each change once the view shows it; `listed` becomes true
/// once all that was there at first was told. Ends never: after a failure it lists again, with
/// growing delays.
pub async fn watch<E, T>(
    kind: &str,
    events: impl Stream<Item = watcher::Result<Event<E>>> + Send,
    mut keep: impl FnMut(Event<E>) -> Vec<Seen<T>> + Send,
    tell: impl Fn(Seen<T>) + Send,
    listed: sync::watch::Sender<bool>,
) {
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_whole = matches!(event, Event::InitDone);
                keep(event).into_iter().for_each(&tell);
                if is_whole {
                    listed.send_replace(true);
                }
            }
            Err(error) => tracing::warn!(kind, %error, "watch interrupted"),
        }
    }
}

/// Takes what a watch gives into a view of whole objects, and says what changed by it.
pub fn keeper<K>(
    mut view: Writer<K>,
    metrics: Metrics,
) -> impl FnMut(Event<DeserializeGuard<K>>) -> Vec<Seen<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let reader = view.as_reader();
    let mut before = Vec::new();
    move |event| {
        if matches!(event, Event::Init) {
            before = reader.state();
        }
        let Some(event) = readable(event, &reader, &metrics) else {
            return Vec::new();
        };
        view.apply_watcher_event(&event);
        changes(event, &reader, &mut before)
    }
}

/// The event without what cannot be read. An object that could be read before and cannot now is
/// treated as gone.
fn readable<K>(
    event: Event<DeserializeGuard<K>>,
    view: &Store<K>,
    metrics: &Metrics,
) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    use Event::{Apply, Delete, Init, InitApply, InitDone};
    let skip = |meta: &ObjectMeta, error: &str| {
        let kind = K::kind(&());
        metrics.invalid(label(&kind));
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        tracing::warn!(%kind, namespace, name, error, "skipped: it cannot be read as its kind");
    };
    match event {
        Init => Some(Init),
        InitDone => Some(InitDone),
        InitApply(DeserializeGuard(Ok(object))) => Some(InitApply(slim(object))),
        Apply(DeserializeGuard(Ok(object))) => Some(Apply(slim(object))),
        Delete(DeserializeGuard(Ok(object))) => Some(Delete(slim(object))),
        InitApply(DeserializeGuard(Err(bad))) => {
            skip(&bad.metadata, &bad.error);
            None
        }
        Apply(DeserializeGuard(Err(bad))) | Delete(DeserializeGuard(Err(bad))) => {
            skip(&bad.metadata, &bad.error);
            let name = ObjectRef::new(bad.metadata.name.as_deref()?)
                .within(bad.metadata.namespace.as_deref()?);
            view.get(&name).map(|old| Delete(K::clone(&old)))
        }
    }
}

/// Drops what nobody here reads, which is most of an object's size.
fn slim<K: Resource + Clone>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    // What was read has room to spare in each of its lists, a copy has none.
    object.clone()
}

/// What an event changed in the view. A list says nothing of what is gone; it is what was there
/// before and is not any more.
fn changes<K>(event: Event<K>, view: &Store<K>, before: &mut Vec<Arc<K>>) -> Vec<Seen<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Apply(object) => vec![Seen::Changed(Arc::new(object))],
        Event::Delete(object) => vec![Seen::Gone(Arc::new(object))],
        Event::InitDone => {
            let now = view.state();
            let before = std::mem::take(before);
            let mut gone: HashMap<_, _> = before.into_iter().map(|o| (o.uid(), o)).collect();
            // Only what is news: ten thousand objects need no look because a watch was lost.
            let is_news = |object: &Arc<K>| {
                let old = gone.remove(&object.uid());
                old.is_none_or(|old| old.resource_version() != object.resource_version())
            };
            let news: Vec<_> = now.into_iter().filter(is_news).collect();
            let gone = gone.into_values().map(Seen::Gone);
            gone.chain(news.into_iter().map(Seen::Changed)).collect()
        }
        Event::Init | Event::InitApply(_) => Vec::new(),
    }
}

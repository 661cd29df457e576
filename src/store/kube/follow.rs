//! Follows one collection, and knows how old what it shows may be.
//!
//! kube's own watcher swallows bookmarks, and without them a quiet watch cannot be told from a
//! dead one. Here is how freshness is shown, in rounds:
//!
//! 1. A watch begins, from the version that was seen last, and at the same time `T` the server is
//!    asked for the version of this moment, by a consistent list of at most one object.
//! 2. Two seconds before the round ends the server sends a bookmark: everything up to its version
//!    was delivered. Once that, or any event, is at least the version asked for, the view is known
//!    to show everything that happened before `T`.
//! 3. The round ends, and the next one begins. Nothing is listed again.
//!
//! A connection that fell silent is dropped when the round should be over.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// How many objects one page of a list has.
const PAGE: u32 = 500;
/// How long a call that is no watch may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after its end a silent watch is given up.
const GRACE: Duration = Duration::from_secs(2);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a collection tells.
pub(super) enum Change<K> {
    /// This is all there is.
    All(Vec<K>),
    /// This is new or was changed.
    Put(Box<K>),
    /// This is gone, or cannot be read any more.
    Gone(Box<ObjectMeta>),
    /// Everything that happened before this moment was told.
    FreshAt(Instant),
}

/// Which collection, and how long a round lasts.
pub(super) struct Collection<K> {
    pub api: Api<DeserializeGuard<K>>,
    pub fields: Option<String>,
    pub round: Box<dyn Fn() -> Duration + Send + Sync>,
    /// A monotonic clock.
    pub clock: fn() -> Instant,
}

#[derive(Debug, Error)]
enum Interrupted {
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error("the version is too old")]
    TooOld,
    #[error("no answer in time")]
    Silent,
}

/// What the server answers, without its message, which is long and says no more.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.reason, status.code),
        kube::Error::HyperError(_) | kube::Error::Service(_) => "no connection".to_owned(),
        other => other.to_string(),
    }
}

/// Tells of every change, for ever. After a failure it goes on from where it was, and lists anew
/// only when the server forgot that.
pub(super) async fn follow<K>(collection: Collection<K>, tell: impl Fn(Change<K>) + Send + Sync)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut version: Option<String> = None;
    let mut failures = 0_u32;
    loop {
        let result = match version.take() {
            None => list(&collection, &tell).await.map(Some),
            Some(from) => {
                let mut seen = from;
                let result = round(&collection, &mut seen, &tell).await;
                if !matches!(result, Err(Interrupted::TooOld)) {
                    version = Some(seen.clone());
                }
                result.map(|()| Some(seen))
            }
        };
        match result {
            Ok(at) => (version, failures) = (at, 0),
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(kind = %K::kind(&()), %error, failures, "watch interrupted");
                tokio::time::sleep(pause(failures)).await;
            }
        }
    }
}

fn pause(failures: u32) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(LONGEST_PAUSE)
}

/// Lists everything, consistently: the first page is of this moment, the others of the same.
async fn list<K>(
    collection: &Collection<K>,
    tell: &(impl Fn(Change<K>) + Send + Sync),
) -> Result<String, Interrupted>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let begun = (collection.clock)();
    let mut all = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    parameters.field_selector.clone_from(&collection.fields);
    loop {
        let page = tokio::time::timeout(CALL_TIMEOUT, collection.api.list(&parameters))
            .await
            .map_err(|_| Interrupted::Silent)??;
        all.extend(
            page.items
                .into_iter()
                .filter_map(|item| item.0.map_err(skipped::<K>).ok()),
        );
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            tell(Change::All(all));
            tell(Change::FreshAt(begun));
            return page.metadata.resource_version.ok_or(Interrupted::TooOld);
        }
    }
}

/// One round: a watch of bounded length, and one question for the version of its beginning.
async fn round<K>(
    collection: &Collection<K>,
    seen: &mut String,
    tell: &(impl Fn(Change<K>) + Send + Sync),
) -> Result<(), Interrupted>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let length = (collection.round)();
    let begun = (collection.clock)();
    let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX);
    let mut parameters = WatchParams::default().timeout(seconds);
    parameters.field_selector.clone_from(&collection.fields);
    let watch = tokio::time::timeout(CALL_TIMEOUT, collection.api.watch(&parameters, seen));
    let mut events = watch.await.map_err(|_| Interrupted::Silent)??.boxed();
    let mut question = current_version(collection).fuse();
    let mut asked: Option<u64> = None;
    let end = begun + length + GRACE;
    loop {
        tokio::select! {
            answer = &mut question => asked = answer?,
            event = tokio::time::timeout_at(end.into(), events.next()) => {
                match event.map_err(|_| Interrupted::Silent)? {
                    None => return Ok(()),
                    Some(event) => *seen = take(event?, tell)?.unwrap_or_else(|| seen.clone()),
                }
            }
        }
        if asked.is_some_and(|asked| number(seen).is_some_and(|seen| seen >= asked)) {
            asked = None;
            tell(Change::FreshAt(begun));
        }
    }
}

/// The version of this moment: a list without a version is consistent. It asks for no more than
/// the fields select: all Secrets may not be listed.
fn current_version<K>(
    collection: &Collection<K>,
) -> BoxFuture<'static, Result<Option<u64>, Interrupted>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = collection.api.clone();
    let mut parameters = ListParams::default().limit(1);
    parameters.field_selector.clone_from(&collection.fields);
    async move {
        let list = tokio::time::timeout(CALL_TIMEOUT, api.list_metadata(&parameters))
            .await
            .map_err(|_| Interrupted::Silent)??;
        Ok(list.metadata.resource_version.as_deref().and_then(number))
    }
    .boxed()
}

/// Versions of one collection are numbers that grow (KEP-5504, Kubernetes 1.35).
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Tells of one event; the version that it brings us to.
fn take<K>(
    event: WatchEvent<DeserializeGuard<K>>,
    tell: &(impl Fn(Change<K>) + Send + Sync),
) -> Result<Option<String>, Interrupted>
where
    K: Resource<DynamicType = ()>,
{
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => match object.0 {
            Ok(object) => {
                let version = object.meta().resource_version.clone();
                tell(Change::Put(Box::new(object)));
                Ok(version)
            }
            Err(bad) => {
                let meta = skipped::<K>(bad);
                let version = meta.resource_version.clone();
                tell(Change::Gone(Box::new(meta)));
                Ok(version)
            }
        },
        WatchEvent::Deleted(object) => {
            let meta = match object.0 {
                Ok(mut object) => std::mem::take(object.meta_mut()),
                Err(bad) => bad.metadata,
            };
            let version = meta.resource_version.clone();
            tell(Change::Gone(Box::new(meta)));
            Ok(version)
        }
        WatchEvent::Bookmark(bookmark) => Ok(Some(bookmark.metadata.resource_version)),
        WatchEvent::Error(status) if status.code == 410 => Err(Interrupted::TooOld),
        WatchEvent::Error(status) => Err(kube::Error::Api(status).into()),
    }
}

fn skipped<K: Resource<DynamicType = ()>>(
    bad: kube::core::error_boundary::InvalidObject,
) -> ObjectMeta {
    let (namespace, name) = (
        bad.metadata.namespace.as_deref(),
        bad.metadata.name.as_deref(),
    );
    tracing::warn!(kind = %K::kind(&()), namespace, name, error = bad.error, "skipped: it cannot be read as its kind");
    bad.metadata
}

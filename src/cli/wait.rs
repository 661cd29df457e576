//! Waiting for the operator, with a word on what it is waiting for.

use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};

use super::{
    Session,
    arguments::Patience,
    cluster::Cluster,
    failure::{Exit, Failure, root},
    noun::Noun,
};
use crate::api::condition;

/// What is waited for.
pub enum Goal<K> {
    /// A condition has a status, for the object as it is.
    Condition(&'static str, &'static str),
    /// That it is Ready, and something else besides, told in words.
    Ready(String, Box<dyn Fn(&K) -> bool + Send + Sync>),
    /// That it is not there.
    Gone,
}

impl<K: Noun> Goal<K> {
    /// A condition has a status.
    pub const fn condition(kind: &'static str, status: &'static str) -> Self {
        Self::Condition(kind, status)
    }

    /// That it is Ready.
    pub fn ready() -> Self {
        Self::Ready(String::new(), Box::new(|_| true))
    }

    fn name(&self) -> String {
        match self {
            Self::Condition(kind, status) => format!("{kind}={status}"),
            Self::Ready(more, _) if more.is_empty() => "Ready".to_owned(),
            Self::Ready(more, _) => format!("Ready and {more}"),
            Self::Gone => "gone".to_owned(),
        }
    }

    fn is_reached(&self, object: Option<&K>) -> bool {
        let holds = |object: &K, kind: &str, status: &str| {
            object.is_observed() && object.condition(kind).is_some_and(|c| c.status == status)
        };
        match (self, object) {
            (Self::Gone, object) => object.is_none(),
            (_, None) => false,
            (Self::Condition(kind, status), Some(object)) => holds(object, kind, status),
            (Self::Ready(_, also), Some(object)) => {
                holds(object, condition::READY, "True") && also(object)
            }
        }
    }

    /// What no waiting helps against.
    fn is_hopeless(&self, object: &K) -> Option<Condition> {
        let stalled = object.condition(condition::STALLED)?;
        let hopeless = matches!(self, Self::Ready(..)) && object.is_observed();
        (hopeless && stalled.status == "True").then(|| stalled.clone())
    }
}

/// Waits until an object is as wanted, and returns it; `None` if it is gone as wanted.
///
/// # Errors
/// If that takes too long, cannot happen, or the object is deleted meanwhile.
pub async fn until<K: Noun>(
    session: &Session,
    cluster: &Cluster,
    name: &str,
    goal: &Goal<K>,
    patience: &Patience,
) -> Result<Option<K>, Failure> {
    let mut seen = Seen::default();
    let follow = follow(session, cluster, name, goal, &mut seen);
    let ended = tokio::time::timeout(patience.duration(), follow).await;
    ended.unwrap_or_else(|_| {
        let title = cluster.title::<K>(name);
        Err(Failure::new(
            Exit::TimedOut,
            format!(
                "{title} is not {} after {}: {}",
                goal.name(),
                patience.timeout,
                seen.why(&cluster.namespace)
            ),
        ))
    })
}

/// What was seen so far, for whoever waited in vain.
#[derive(Default)]
struct Seen {
    found: bool,
    observed: bool,
    state: Option<String>,
    trouble: Option<String>,
}

impl Seen {
    fn why(self, namespace: &str) -> String {
        match (self.state, self.trouble) {
            (Some(state), _) if self.observed => state,
            (_, Some(trouble)) => format!("the API server cannot be watched: {trouble}"),
            _ if !self.found => "it is not there".to_owned(),
            _ => format!(
                "the operator has not looked at it yet; is zenop running, and does it watch \
                 namespace {namespace}?"
            ),
        }
    }
}

async fn follow<K: Noun>(
    session: &Session,
    cluster: &Cluster,
    name: &str,
    goal: &Goal<K>,
    seen: &mut Seen,
) -> Result<Option<K>, Failure> {
    let title = cluster.title::<K>(name);
    let watch = watcher::watch_object(cluster.watched::<K>(), name).default_backoff();
    let mut watch = pin!(watch);
    while let Some(next) = watch.next().await {
        let object = match next {
            Ok(object) => object,
            Err(error) => {
                refused(&title, &error)?;
                seen.trouble = Some(root(&error));
                continue;
            }
        };
        seen.trouble = None;
        if goal.is_reached(object.as_ref()) {
            return Ok(object);
        }
        match &object {
            None if seen.found => {
                let message = format!("{title} was deleted meanwhile");
                return Err(Failure::new(Exit::NotFound, message));
            }
            None => {}
            Some(object) => look(session, &title, goal, object, seen)?,
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("watching {title} ended"),
    ))
}

fn look<K: Noun>(
    session: &Session,
    title: &str,
    goal: &Goal<K>,
    object: &K,
    seen: &mut Seen,
) -> Result<(), Failure> {
    if let Some(stalled) = goal.is_hopeless(object) {
        let said = format!("{title} needs a person: {}", sentence(&stalled));
        return Err(Failure::new(Exit::Failed, said));
    }
    let state = state(object);
    if !seen.found || seen.state.as_ref() != Some(&state) {
        let name = goal.name();
        session
            .out
            .note(&format!("Waiting for {title} to be {name}: {state}"));
    }
    seen.found = true;
    seen.observed = object.is_observed();
    seen.state = Some(state);
    Ok(())
}

/// In words, how it is.
fn state<K: Noun>(object: &K) -> String {
    if object.meta().deletion_timestamp.is_some() {
        let finalizers = object.finalizers().join(", ");
        return format!("it is being deleted, and kept by {finalizers:?}");
    }
    match object.condition(condition::READY) {
        _ if !object.is_observed() => "the operator has not looked at it yet".to_owned(),
        Some(ready) => sentence(ready),
        None => "the operator says nothing yet".to_owned(),
    }
}

fn sentence(condition: &Condition) -> String {
    format!("{} ({})", condition.message, condition.reason)
}

/// Whether the watch can never work: the right or the kind is missing.
///
/// # Errors
/// If it is so.
pub fn refused(title: &str, error: &watcher::Error) -> Result<(), Failure> {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404) => {
                Err(Failure::of(&format!("watching {title}"), error))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

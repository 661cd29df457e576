//! Looks at every version of our objects during a test, for what must hold at any time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use futures::{StreamExt, stream::select_all};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde_json::Value;
use tokio::task::JoinHandle;
use zenop_cluster::TestNamespace;

use super::site::resource;

/// A watch of a namespace, while it is kept.
pub struct Watch {
    wrong: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub fn keep(ns: &TestNamespace) -> Self {
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let kinds = [
            "ZenServer",
            "ZenServiceAccount",
            "ZenAPIKey",
            "ZenDevice",
            "ZenUser",
            "ZenSecret",
            "ZenComponent",
        ];
        let watches = kinds.map(|kind| {
            let resource = resource("zenop.dev/v1alpha1", kind);
            let api: Api<DynamicObject> =
                Api::namespaced_with(ns.client().clone(), ns.name(), &resource);
            watcher(api, Config::default()).default_backoff().boxed()
        });
        let mut events = select_all(watches);
        let found = Arc::clone(&wrong);
        let task = tokio::spawn(async move {
            let mut before = HashMap::new();
            while let Some(event) = events.next().await {
                let (object, lists) = match event {
                    Ok(Event::Apply(object)) => (object, false),
                    Ok(Event::InitApply(object)) => (object, true),
                    _ => continue,
                };
                let uid = object.uid().unwrap_or_default();
                // A list tells nothing of the versions before it.
                let wrong = faults(&object, before.get(&uid).filter(|_| !lists));
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.extend(wrong);
                before.insert(uid, object);
            }
        });
        Self { wrong, task }
    }

    /// Whether all was well so far.
    pub fn verdict(&self) -> Result<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            wrong.is_empty(),
            "what must never be was seen:\n{}",
            wrong.join("\n")
        );
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn conditions(object: &DynamicObject) -> Vec<Condition> {
    let found = object.data.pointer("/status/conditions").cloned();
    serde_json::from_value(found.unwrap_or_default()).unwrap_or_default()
}

/// What is wrong with an object, and with how it became so.
fn faults(object: &DynamicObject, before: Option<&DynamicObject>) -> Vec<String> {
    let mut wrong = contradictions(object);
    let Some(before) = before else { return wrong };
    let old = conditions(before);
    for now in conditions(object) {
        let same = old
            .iter()
            .find(|c| c.type_ == now.type_ && c.status == now.status);
        if same.is_some_and(|same| same.last_transition_time != now.last_transition_time) {
            wrong.push(format!("{} has a new time and the old status", now.type_));
        }
    }
    let observed = |object: &DynamicObject| {
        let number = object.data.pointer("/status/observedGeneration");
        number.and_then(Value::as_i64).unwrap_or(-1)
    };
    // -1 is the status that a test wiped.
    if observed(object) < observed(before) && observed(object) != -1 {
        wrong.push("observedGeneration fell".into());
    }
    if Some(observed(object)) > object.metadata.generation {
        wrong.push("observedGeneration is one that there is not".into());
    }
    let kind = object.types.as_ref().map_or("", |types| &types.kind);
    wrong
        .iter()
        .map(|what| format!("{kind} {}: {what}", object.name_any()))
        .collect()
}

/// kstatus, and our own rules for conditions.
fn contradictions(object: &DynamicObject) -> Vec<String> {
    let conditions = conditions(object);
    let status = |kind: &str| {
        let found = conditions.iter().find(|c| c.type_ == kind);
        found.map(|c| c.status.clone())
    };
    let summary = ["Ready", "Reconciling", "Stalled"].map(status);
    let summary = summary.each_ref().map(Option::as_deref);
    let allowed = [
        [None, None, None],
        [Some("True"), None, None],
        [Some("False"), Some("True"), None],
        [Some("False"), None, Some("True")],
    ];
    let mut wrong = Vec::new();
    if !allowed.contains(&summary) {
        wrong.push(format!("Ready, Reconciling, Stalled are {summary:?}"));
    }
    for condition in &conditions {
        if condition.reason.is_empty() || condition.message.split(' ').count() < 3 {
            wrong.push(format!("{} does not say why", condition.type_));
        }
    }
    wrong
}

//! What becomes of a record: what is retained is made again; the others go when their time is over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DynamicObject, GroupVersionKind, PostParams},
    core::ApiResource,
};
use serde_json::Value;

use super::{farewell::is_namespace_ending, is_over, opened};
use crate::{
    api::{FIELD_MANAGER, GROUP, Record, VERSION},
    reconcile::{
        apply::Owner,
        call::call,
        driver::Tools,
        error::{ApplyError, PassError},
        made::Place,
        plan::{Doomed, Live},
        queue::{self, Action, Pace},
    },
};

/// When to look again at what is about to change.
const SOON: Duration = Duration::from_secs(2);
/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps records until `triggers` ends.
pub async fn run(tools: Tools, triggers: impl futures::Stream<Item = Place>, pace: Pace) {
    let clock = tools.monotonic;
    let look = |place: Place| {
        let tools = tools.clone();
        async move {
            match look(&place, &tools).await {
                Ok(action) => action,
                Err(error) => {
                    let (namespace, name) = (place.namespace(), place.name());
                    tracing::warn!(namespace, name, %error, "a record could not be followed");
                    Action::requeue(RETRY)
                }
            }
        }
    };
    queue::work(triggers, pace, clock, look).await;
}

/// What to do about a record.
enum Step {
    /// Its object is there no more: make it again.
    Make,
    /// It was taken over: it is of no use once nothing belongs to it.
    Spent,
    /// It is of no use any more.
    Delete,
    /// Look again.
    Wait(Duration),
}

async fn look(place: &Place, tools: &Tools) -> Result<Action, PassError> {
    let (read, now) = (&tools.reader, (tools.clock)());
    let secrets = ApiResource::erase::<Secret>(&());
    let secret = read.live(&secrets, place.namespace(), place.name()).await;
    let Some(secret) = secret.map_err(PassError::Observe)? else {
        return Ok(Action::await_change());
    };
    let owner = secret.controller.as_ref().filter(|o| o.kind == "ZenServer");
    let server = owner.and_then(|owner| read.server(place.namespace(), &owner.name));
    let Some(server) = server.filter(|s| s.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let Some(keyring) = read.keyring(&server).await.map_err(PassError::Observe)? else {
        return Ok(Action::requeue(RETRY));
    };
    let record = opened(&secret, keyring.pepper());
    let is_here = |r: &Record| {
        r.namespace == place.namespace() && Record::secret_name(&r.uid) == place.name()
    };
    let Some(record) = record.filter(is_here) else {
        let (namespace, name) = (place.namespace(), place.name());
        tracing::warn!(
            namespace,
            name,
            "not a record that this operator sealed; left alone"
        );
        return Ok(Action::await_change());
    };
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, &record.kind));
    let current = read.live(&kind, &record.namespace, &record.name).await;
    let current = current.map_err(PassError::Observe)?;
    let step = step(&record, current.as_ref(), now);
    if matches!(step, Step::Spent) && owns_a_secret(&record, &secret.uid, tools).await? {
        return Ok(Action::requeue(SOON * 15));
    }
    match step {
        Step::Wait(time) => return Ok(Action::requeue(time)),
        Step::Make => make(&record, &kind, tools)
            .await
            .map_err(PassError::Apply)?,
        Step::Spent | Step::Delete => {
            let doomed = Doomed {
                resource: secrets,
                name: place.name().to_owned(),
                uid: secret.uid,
                version: None,
            };
            let deleted = tools.writer.delete(&Owner::of(&*server), &doomed).await;
            deleted.map_err(PassError::Apply)?;
        }
    }
    Ok(Action::requeue(SOON))
}

fn step(record: &Record, current: Option<&Live>, now: Timestamp) -> Step {
    let retained = record.until.is_none();
    let status = |name: &str| {
        let field = current.and_then(|live| live.body.get("status")?.get(name));
        field.and_then(Value::as_str)
    };
    let is_made = status("keyId").or(status("accountId")).is_some();
    match current {
        // Its own look lets it go.
        Some(live) if live.uid == record.uid => Step::Wait(SOON),
        Some(_) if status("restoredFrom") == Some(&*record.uid) => Step::Spent,
        _ if is_over(record, now) => Step::Delete,
        None if retained => Step::Make,
        // Somebody made another of that name, which has an id of its own.
        Some(_) if retained && is_made => Step::Delete,
        Some(_) if retained => Step::Wait(SOON),
        _ => {
            let until = record.until.as_ref().map_or(now, |until| until.0);
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            Step::Wait((left + Duration::from_millis(50)).min(Duration::from_secs(3600)))
        }
    }
}

/// Whether the delivered Secret is still the record's. Whoever continues the key takes it over and
/// deletes the record; but a write of ours that was delayed may make a record anew after that.
async fn owns_a_secret(record: &Record, uid: &str, tools: &Tools) -> Result<bool, PassError> {
    let name = record.status.pointer("/secretRef/name");
    let Some(name) = name.and_then(Value::as_str) else {
        return Ok(false);
    };
    let secrets = ApiResource::erase::<Secret>(&());
    let secret = tools.reader.live(&secrets, &record.namespace, name).await;
    let secret = secret.map_err(PassError::Observe)?;
    Ok(secret.is_some_and(|secret| secret.is_controlled_by(uid)))
}

/// Makes what is retained again. Of two who do one fails, and the object's own look does the rest.
async fn make(record: &Record, kind: &ApiResource, tools: &Tools) -> Result<(), ApplyError> {
    let object: DynamicObject = serde_json::from_value(record.successor())
        .map_err(|_| ApplyError::Unserialisable("a retained object"))?;
    let client = tools.writer.client()?;
    let api: Api<DynamicObject> = Api::namespaced_with(client, &record.namespace, kind);
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        dry_run: false,
    };
    let what = || format!("create {} {}/{}", kind.kind, record.namespace, record.name);
    match call(what, api.create(&parameters, &object)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() || is_namespace_ending(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(until: Option<i64>) -> Record {
        Record {
            kind: "ZenAPIKey".into(),
            namespace: "ml".into(),
            name: "main".into(),
            uid: "old".into(),
            deleted: Time(at(0)),
            until: until.map(|second| Time(at(second))),
            labels: Default::default(),
            annotations: Default::default(),
            spec: json!({}),
            status: json!({}),
        }
    }

    fn live(uid: &str, status: Value) -> Live {
        Live {
            uid: uid.into(),
            resource_version: "1".into(),
            controller: None,
            body: json!({"status": status}),
        }
    }

    #[test]
    fn what_is_retained_is_made_again_and_a_record_goes_when_it_is_of_no_use() {
        let (dying, unmade) = (live("old", json!({"keyId": "a"})), live("new", json!({})));
        let heir = live("new", json!({"keyId": "a", "restoredFrom": "old"}));
        let other = live("new", json!({"keyId": "b"}));
        let says = |until, current: Option<&Live>| match step(&record(until), current, at(100)) {
            Step::Make => "make",
            Step::Delete => "delete",
            Step::Spent => "spent",
            Step::Wait(_) => "wait",
        };
        let cases = [
            (None, None, "make"),
            (None, Some(&dying), "wait"),
            (None, Some(&unmade), "wait"),
            (None, Some(&heir), "spent"),
            (None, Some(&other), "delete"),
            (Some(200), None, "wait"),
            (Some(200), Some(&other), "wait"),
            (Some(100), None, "delete"),
            (Some(100), Some(&dying), "wait"),
            (Some(100), Some(&heir), "spent"),
            (Some(100), Some(&other), "delete"),
        ];
        for (n, (until, current, expected)) in cases.into_iter().enumerate() {
            assert_eq!(says(until, current), expected, "case {n}");
        }
    }
}

//! A ZenSecret that is being deleted: it waits for those who refer to it, and leaves its Secrets behind
//! where that is wished for.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, Resource},
    core::ApiResource,
};
use serde_json::{Value, json};

use crate::{
    api::{DeletionPolicy, Referrer, UsedBy, ZenSecret, annotation, condition, label, reason},
    reconcile::{
        Reader,
        call::call,
        driver::Tools,
        error::{ApplyError, PassError},
        foreign::is_set,
        plan::{Fact, Live},
        record::farewell::{is_held, ours, release},
    },
};

/// How many of those who refer to it a status names.
const SHOWN: usize = 20;

/// Who refers to a secret, as the watched views show it. Who is being deleted does not.
pub(super) fn users(secret: &ZenSecret, read: &Reader) -> Vec<Referrer> {
    let views = read.views();
    views.referrers.users(secret, &views.secret_names)
}

/// What status says of them.
pub(super) fn used_by(users: Vec<Referrer>) -> UsedBy {
    UsedBy {
        count: i32::try_from(users.len()).unwrap_or(i32::MAX),
        refs: users.into_iter().take(SHOWN).collect(),
    }
}

/// Whether a secret is to be held when it is deleted.
pub(super) fn is_to_be_held(secret: &ZenSecret, read: &Reader) -> bool {
    secret.spec.deletion_policy == DeletionPolicy::Retain || !users(secret, read).is_empty()
}

/// Lets a deleted secret go, or says who still needs it.
pub(super) async fn depart(seen: &ZenSecret, tools: &Tools) -> Result<Option<Fact>, PassError> {
    let users = users(seen, &tools.reader);
    if !users.is_empty() && !is_set(seen, annotation::FORCE) {
        return Ok(Some(in_use(&users)));
    }
    // As it is now: its policy may be another than what was seen.
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    let object = tools.reader.object::<ZenSecret>(&namespace, &name).await;
    let object = object.map_err(PassError::Observe)?;
    let is_same = |object: &ZenSecret| {
        object.uid() == seen.uid() && object.meta().deletion_timestamp.is_some() && is_held(object)
    };
    let Some(object) = object.filter(is_same) else {
        return Ok(None);
    };
    if object.spec.deletion_policy == DeletionPolicy::Retain {
        leave_secrets(&object, tools).await?;
    }
    release(&object, tools).await.map_err(PassError::Apply)?;
    Ok(None)
}

fn in_use(users: &[Referrer]) -> Fact {
    let named = users.iter().take(3);
    let named: Vec<_> = named
        .map(|user| format!("{} {}", user.kind, user.name))
        .collect();
    let more = match users.len().saturating_sub(named.len()) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Fact {
        condition: condition::IN_USE,
        holds: true,
        reason: reason::IN_USE,
        message: format!(
            "deleted, and stays while {}{more} refer to it: delete those or their references, or \
             set the annotation zenop.dev/force to \"true\"",
            named.join(", ")
        ),
    }
}

/// Takes our ownership off its Secrets, so that they stay, and marks them for who comes after it.
async fn leave_secrets(secret: &ZenSecret, tools: &Tools) -> Result<(), PassError> {
    let (read, resource) = (&tools.reader, ApiResource::erase::<Secret>(&()));
    let namespace = secret.namespace().unwrap_or_default();
    let uid = secret.uid().unwrap_or_default();
    let made = read.views().secrets.of_owner(&uid);
    let mut names: Vec<String> = made.iter().map(|made| made.name().to_owned()).collect();
    // The view may be behind our last write.
    names.extend([secret.secret_name().to_owned(), secret.generated_name()]);
    names.sort_unstable();
    names.dedup();
    for name in names {
        let live = read.live(&resource, &namespace, &name).await;
        let live = live.map_err(PassError::Observe)?;
        if let Some(live) = live.filter(|live| live.is_controlled_by(&uid)) {
            let left = leave(secret, &name, &live, tools).await;
            left.map_err(PassError::Apply)?;
        }
    }
    Ok(())
}

async fn leave(
    secret: &ZenSecret,
    name: &str,
    live: &Live,
    tools: &Tools,
) -> Result<(), ApplyError> {
    let (namespace, uid) = (
        secret.namespace().unwrap_or_default(),
        secret.uid().unwrap_or_default(),
    );
    let owners = live.body.pointer("/metadata/ownerReferences");
    let owners = owners.and_then(Value::as_array).into_iter().flatten();
    let others: Vec<_> = owners
        .filter(|owner| owner.get("uid").and_then(Value::as_str) != Some(&uid))
        .collect();
    let heir = format!("{namespace}/{}", secret.name_any());
    let patch = json!({"metadata": {
        "uid": live.uid,
        "resourceVersion": live.resource_version,
        "ownerReferences": others,
        "annotations": {(annotation::ADOPT): heir},
        "labels": {
            (label::OWNER_UID): null, (label::MANAGED_BY): null, (label::PART_OF): null,
            (label::INSTANCE): null, (label::APPLIED): null,
        },
    }});
    let api: Api<Secret> = Api::namespaced(tools.writer.client()?, &namespace);
    let what = || format!("leave Secret {namespace}/{name}");
    call(what, api.patch(name, &ours(), &Patch::Merge(&patch))).await?;
    Ok(())
}

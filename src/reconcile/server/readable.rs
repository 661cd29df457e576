//! Whose values a server's pods may read: Roles that name, one by one, the Secrets which the server's
//! ZenSecrets were delivered in. Never one that a ZenSecret merely wants, as it may be somebody
//! else's.
//!
//! Many secrets may change at once. A look takes them all, and the next one begins a second later, so
//! that ten thousand cost a write or two a second while they are made, and none at rest.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{ResourceExt, core::ApiResource, runtime::reflector::ObjectRef};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::children::with_labels;
use crate::{
    api::ZenServer,
    reconcile::{
        apply::Owner,
        driver::Tools,
        error::PassError,
        made::Place,
        plan::{Child, Live},
        queue::{self, Action, Pace},
        reader::Views,
    },
};

/// How long a look waits for others to ask for the same.
const GATHER: Duration = Duration::from_millis(200);
/// How long after a look the next one of a server begins at the earliest, but for that.
const PAUSE: Duration = Duration::from_millis(800);
/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(5);
/// How many bytes of names one Role has, about. An object may have 1.5 MiB.
const SHARD: usize = 400 << 10;
/// How many Roles there are at most: for 25 MiB of names, far beyond what a namespace bears.
const MOST_SHARDS: usize = 64;

/// Grants, and takes back, until `triggers` ends.
pub async fn run(tools: Tools, triggers: impl Stream<Item = ObjectRef<ZenServer>>) {
    let clock = tools.monotonic;
    let pace = Pace {
        concurrency: 2,
        gather: GATHER,
    };
    let triggers = triggers.map(|server| Place::of(&server));
    let look = |server: Place| {
        let tools = tools.clone();
        async move {
            let action = match look(&server, &tools).await {
                Ok(action) => action,
                Err(error) => {
                    let (namespace, name) = (server.namespace(), server.name());
                    tracing::warn!(namespace, name, %error, "the right to read values was not granted");
                    Action::requeue(RETRY)
                }
            };
            tokio::time::sleep(PAUSE).await;
            action
        }
    };
    queue::work(triggers, pace, clock, look).await;
}

async fn look(server: &Place, tools: &Tools) -> Result<Action, PassError> {
    let server = tools.reader.server(server.namespace(), server.name());
    let Some(server) = server.filter(|s| s.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let granted = shards(delivered(&server, tools.reader.views()));
    for n in 0..MOST_SHARDS {
        let names = granted.get(n).map_or(&[][..], Vec::as_slice);
        let is_there = grant(&server, tools, n, names).await?;
        if !is_there && n >= granted.len() {
            break;
        }
    }
    Ok(Action::requeue(tools.resync))
}

/// Makes one Role and its binding say so. Whether there is one.
async fn grant(
    server: &Arc<ZenServer>,
    tools: &Tools,
    n: usize,
    names: &[String],
) -> Result<bool, PassError> {
    let owner = Owner::of(&**server);
    // No other server has a Role of that name: none has a dot in its name.
    let name = match n {
        0 => format!("{}.secrets", owner.name),
        n => format!("{}.secrets-{n}", owner.name),
    };
    let kinds = [
        (ApiResource::erase::<Role>(&()), rules(names)),
        (
            ApiResource::erase::<RoleBinding>(&()),
            binding(server, &name),
        ),
    ];
    for (resource, body) in kinds {
        let live = tools.reader.live(&resource, &owner.namespace, &name).await;
        let live = live.map_err(PassError::Observe)?;
        if live.is_none() && names.is_empty() {
            return Ok(false);
        }
        let child = child(resource, name.clone(), body, live);
        let applied = tools.writer.apply(&owner, &child).await;
        applied.map_err(PassError::Apply)?;
    }
    Ok(true)
}

fn child(resource: ApiResource, name: String, body: Value, live: Option<Live>) -> Child {
    Child {
        resource,
        name,
        body,
        live,
        create_only: false,
        adopts: false,
        kept: false,
    }
}

/// The Secrets with values of a server's secrets, sorted.
fn delivered(server: &ZenServer, views: &Views) -> Vec<String> {
    let (namespace, name) = (server.namespace(), server.name_any());
    let secrets = views.declared.state_filter(|secret| {
        secret.namespace() == namespace && secret.spec.server_ref.name == name
    });
    let mut names: Vec<String> = Vec::new();
    for secret in secrets {
        let generated = secret.generated_name();
        let made = views.secrets.of_owner(&secret.uid().unwrap_or_default());
        let its = made.iter().filter(|made| {
            Some(made.namespace()) == namespace.as_deref() && made.name() != generated
        });
        names.extend(its.map(|made| made.name().to_owned()));
    }
    names.sort();
    names
}

/// The names of each Role. Which one a name is in changes only when their number does.
fn shards(names: Vec<String>) -> Vec<Vec<String>> {
    let bytes: usize = names.iter().map(|name| name.len() + 3).sum();
    let count = bytes.div_ceil(SHARD).next_power_of_two().min(MOST_SHARDS);
    let mut shards = vec![Vec::new(); count];
    for name in names {
        let first = Sha256::digest(&name).first().copied().unwrap_or_default();
        if let Some(shard) = shards.get_mut(usize::from(first) % count) {
            shard.push(name);
        }
    }
    shards
}

/// A rule without names would be one of all Secrets.
fn rules(names: &[String]) -> Value {
    let rules = match names {
        [] => json!([]),
        names => json!([{
            "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names,
        }]),
    };
    with_labels(json!({"rules": rules}))
}

fn binding(server: &ZenServer, role: &str) -> Value {
    let (name, namespace) = (server.name_any(), server.namespace());
    with_labels(json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, length: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:0length$}")).collect()
    }

    #[test]
    fn without_names_there_is_no_rule() {
        assert_eq!(rules(&[])["rules"], json!([]));
        let rule = &rules(&names(2, 3))["rules"][0];
        assert_eq!(rule["resourceNames"], json!(["000", "001"]));
        assert_eq!(rule["verbs"], json!(["get"]));
    }

    #[test]
    fn every_name_is_in_one_role_that_is_not_too_long() {
        for (count, length, roles) in [(0, 1, 1), (1, 1, 1), (10_000, 50, 2), (20_000, 253, 16)] {
            let all = names(count, length);
            let shards = shards(all.clone());
            assert_eq!(shards.len(), roles, "{count} of {length}");
            let longest = shards.iter().map(|shard| rules(shard).to_string().len());
            assert!(longest.max().unwrap() < 1 << 20);
            let mut joined = shards.concat();
            joined.sort();
            assert_eq!(joined, all);
        }
    }

    #[test]
    fn another_name_moves_no_other() {
        let mut all = names(1000, 20);
        let before = shards(all.clone());
        all.push("another".into());
        let after = shards(all);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert_eq!(moved.count(), 1);
    }
}

//! Writes down when accounts, users, keys and devices were last used: at most once per object and
//! five minutes.
//!
//! Every replica sees what the others wrote, by the watch: where the recorded time is fresh,
//! nobody writes. A generation of a key that is gone is not written again, and so drops out.

use std::{fmt::Debug, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::KubeStore;
use crate::{
    api::{KeyUse, UsedFrom, ZenAPIKey, ZenDevice, ZenServiceAccount, ZenUser, whole_seconds},
    auth::{
        device::Device,
        directory::{Account, Directory, Generation, Key, Seen, User},
    },
};

/// The field manager of what the sidecar writes to statuses.
pub const FIELD_MANAGER: &str = "zenop-sidecar";
/// How old a recorded time may become.
const RESOLUTION: SignedDuration = SignedDuration::from_mins(5);
/// How often we look whose time is old.
const LOOK: Duration = Duration::from_secs(5);
/// How many of a kind are written at one look; the others wait for the next.
const AT_ONCE: usize = 50;
/// How long a write may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// An object whose recorded time is old.
struct Due {
    object: String,
    uid: Uuid,
    /// The part of its status that is ours.
    status: Value,
}

/// Writes for ever. What fails is tried again at the next look; nobody waits for it.
pub(super) async fn record(store: Arc<KubeStore>, client: Client, namespace: String) {
    let accounts: Api<ZenServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let keys: Api<ZenAPIKey> = Api::namespaced(client.clone(), &namespace);
    let devices: Api<ZenDevice> = Api::namespaced(client.clone(), &namespace);
    let users: Api<ZenUser> = Api::namespaced(client, &namespace);
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let now = (store.now)();
        let due = store.with_directory(due_accounts);
        write_all(&accounts, due).await;
        write_all(&users, store.with_directory(due_users)).await;
        let due = store.with_directory(|directory| due_keys(directory, now));
        write_all(&keys, due).await;
        let due = store.with_directory(due_devices);
        write_all(&devices, due).await;
    }
}

fn due_accounts(directory: &Directory) -> Vec<Due> {
    let describe = |account: &Account| {
        let seen = due(&account.seen, account.last_recorded)?;
        Some(seen_at(&account.object, account.uid, seen))
    };
    let due = directory.accounts().filter_map(describe);
    due.take(AT_ONCE).collect()
}

fn due_devices(directory: &Directory) -> Vec<Due> {
    let describe = |device: &Device| {
        let seen = device.seen.at()?;
        is_old(device.recorded, seen).then(|| Due {
            object: device.object.clone(),
            uid: device.uid,
            status: json!({"lastUsedTime": whole_seconds(seen)}),
        })
    };
    let due = directory.devices().filter_map(describe);
    due.take(AT_ONCE).collect()
}

fn due_users(directory: &Directory) -> Vec<Due> {
    let describe = |user: &User| {
        let seen = due(&user.seen, user.last_recorded)?;
        Some(seen_at(&user.object, user.id, seen))
    };
    let due = directory.users().filter_map(describe);
    due.take(AT_ONCE).collect()
}

fn seen_at(object: &str, uid: Uuid, seen: Timestamp) -> Due {
    Due {
        object: object.to_owned(),
        uid,
        status: json!({"lastAuthenticatedTime": whole_seconds(seen)}),
    }
}

/// Keys of accounts that are not this server's were never seen here.
fn due_keys(directory: &Directory, now: Timestamp) -> Vec<Due> {
    let describe = |key: &Key| {
        key_is_due(key, now).then(|| Due {
            object: key.object.clone(),
            uid: key.uid,
            status: usage(key),
        })
    };
    directory
        .keys()
        .filter_map(describe)
        .take(AT_ONCE)
        .collect()
}

/// Whether a time is to be written, and which.
fn due(seen: &Seen, recorded: Option<Timestamp>) -> Option<Timestamp> {
    let seen = seen.at()?;
    is_old(recorded, seen).then_some(seen)
}

/// Some generation's time is old, and the key was not written lately.
fn key_is_due(key: &Key, now: Timestamp) -> bool {
    let is_due = |g: &Generation| g.seen.at().is_some_and(|seen| is_old(g.recorded, seen));
    key.generations.iter().any(is_due) && is_old(key.last_recorded, now)
}

fn is_old(recorded: Option<Timestamp>, now: Timestamp) -> bool {
    recorded.is_none_or(|at| now.duration_since(at) >= RESOLUTION)
}

/// What is known of all generations: what we leave out is dropped.
fn usage(key: &Key) -> Value {
    let describe = |g: &Generation| {
        let used = g.recorded.max(g.seen.at())?;
        let from = match g.seen.at() == Some(used) {
            true => g.seen.from(),
            false => g.recorded_from,
        };
        Some(KeyUse {
            generation: g.number,
            last_used_time: whole_seconds(used),
            from: from.map(UsedFrom::from),
        })
    };
    let usage: Vec<KeyUse> = key.generations.iter().filter_map(describe).collect();
    json!({"usage": usage, "lastUsedTime": key.last_used().map(whole_seconds)})
}

async fn write_all<K>(api: &Api<K>, due: Vec<Due>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    for due in due {
        if let Err(error) = write(api, &due).await {
            tracing::debug!(kind = %K::kind(&()), uid = %due.uid, error, "last use not recorded");
        }
    }
}

async fn write<K>(api: &Api<K>, due: &Due) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": due.object, "uid": due.uid},
        "status": due.status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    let call = api.patch_status(&due.object, &parameters, &patch);
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::auth::{
        directory::{Lifetimes, Window},
        network::Network,
    };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(10_000 + minutes)
    }

    /// A key of two generations, recorded and seen at these minutes.
    fn key(generations: [(Option<i64>, Option<i64>); 2]) -> Key {
        let generation = |(number, (recorded, seen)): (i64, (Option<i64>, Option<i64>))| {
            let generation = Generation {
                number,
                verifier: "00".repeat(32).parse().unwrap(),
                created: None,
                valid_until: None,
                recorded: recorded.map(at),
                slow: None,
                recorded_from: recorded.map(|_| Network::Private),
                seen: crate::auth::directory::Seen::default(),
            };
            seen.inspect(|seen| generation.seen.mark(at(*seen), Some(Network::Public)));
            generation
        };
        let recorded = generations.iter().filter_map(|(recorded, _)| *recorded);
        Key {
            uid: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            proof: None,
            object: "ci".into(),
            name: "ci".into(),
            description: String::new(),
            account_object: "ci".into(),
            account: Uuid::from_u128(3),
            active: true,
            window: Window::default(),
            ttl: None,
            policy: Lifetimes::default(),
            last_recorded: recorded.max().map(at),
            generations: (1..).zip(generations).map(generation).collect(),
            created: at(-60),
            last_rotated: None,
        }
    }

    #[test]
    fn a_key_is_written_at_its_first_use_and_then_every_five_minutes() {
        let never = (None, None);
        let cases = [
            ([never, never], 0, false),
            ([(Some(0), None), never], 99, false),
            ([(None, Some(0)), never], 0, true),
            ([(Some(0), Some(0)), never], 99, false),
            ([(Some(0), Some(4)), never], 99, false),
            ([(Some(0), Some(5)), never], 5, true),
            // The second is new, yet the first was written just now, perhaps by another replica.
            ([(Some(0), Some(0)), (None, Some(1))], 1, false),
            ([(Some(0), Some(0)), (None, Some(1))], 5, true),
        ];
        for (n, (generations, now, due)) in cases.into_iter().enumerate() {
            assert_eq!(key_is_due(&key(generations), at(now)), due, "case {n}");
        }
    }

    #[test]
    fn what_another_replica_wrote_later_is_kept() {
        let written = usage(&key([(Some(7), Some(2)), (None, Some(9))]));
        assert_eq!(
            written,
            json!({
                "usage": [
                    {"generation": 1, "lastUsedTime": Time(at(7)), "from": "Private"},
                    {"generation": 2, "lastUsedTime": Time(at(9)), "from": "Public"},
                ],
                "lastUsedTime": Time(at(9)),
            })
        );
    }
}

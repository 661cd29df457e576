//! Secrets: values are sealed for the operator and written into ZenSecrets, and read where it
//! delivered them.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Resource, ResourceExt, api::Patch};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    KubeRegistrar,
    calls::{call, change, create, object, patch_parameters, remove},
    labels, names,
};
use crate::{
    api::{SecretEntry, SecretScope, ZenSecret},
    auth::{
        sealed::{self, NotSealed, Recipient, seal},
        shelf::{Owner, OwnerKind},
    },
    store::{
        kube::project,
        registrar::{Changing, NotChanged, Object},
        vault::{
            NewSecret, NewValues, NotRead, Place, Removed, SecretUpdate, Updated, Values, Vault,
        },
    },
};

/// How long a Secret is asked for that we may not read yet, or that is not there: the operator grants
/// the right a moment after it delivers, and makes anew what somebody deleted.
const GRANTED_WITHIN: Duration = Duration::from_secs(5);
/// How often.
const ASKED_EVERY: Duration = Duration::from_millis(200);
/// Of these types a Secret is never shown, whoever says that it is ours: a token in it is
/// Kubernetes' own.
const OF_KUBERNETES: &str = "kubernetes.io/";

impl KubeRegistrar {
    async fn values(&self, from: Place) -> Result<Values, NotRead> {
        let last = Mutex::new(NotRead::Unreachable);
        let asked = async {
            loop {
                let why = match call(self.secrets.get(&from.secret)).await {
                    Ok(secret) => return taken(secret, &from),
                    Err(NotChanged::Forbidden) => NotRead::Forbidden,
                    Err(NotChanged::Gone) => NotRead::Gone,
                    Err(_) => return Err(NotRead::Unreachable),
                };
                *last.lock() = why;
                tokio::time::sleep(ASKED_EVERY).await;
            }
        };
        let result = tokio::time::timeout(GRANTED_WITHIN, asked).await;
        result.unwrap_or_else(|_| Err(*last.lock()))
    }

    async fn make_secret(&self, new: NewSecret) -> Result<Object, NotChanged> {
        let owner = new.owner.uid.map(|uid| uid.to_string());
        let of = owner.as_deref().filter(|_| new.private);
        let scope = scope(new.private);
        // Of the name that is tried: a repeated attempt is known by its ciphertexts.
        let sealed = Mutex::new(Vec::new());
        let body = |object: &str| {
            // What could not be sealed is not written.
            let Ok(entries) = entries(object, &new.values, &new.recipient) else {
                return Value::Null;
            };
            let spec = json!({
                "serverRef": {"name": self.server}, "name": new.name, "scope": scope,
                "ownerRef": owner_ref(&new.owner), "data": entries,
            });
            *sealed.lock() = entries;
            json!({
                "apiVersion": ZenSecret::api_version(&()), "kind": ZenSecret::kind(&()),
                "metadata": {"name": object, "labels": labels()}, "spec": spec,
            })
        };
        let has_name = |other: &ZenSecret| {
            other.zenml_name() == new.name
                && other.spec.scope == scope
                && (!new.private || owner_ref(&new.owner) == json!(other.spec.owner_ref))
        };
        let is_it = |found: &ZenSecret, unanswered| {
            unanswered && has_name(found) && json!(found.spec.data) == json!(*sealed.lock())
        };
        let name = |attempt| names::of_secret(&self.server, of, &new.name, attempt);
        let made = create(&self.shelf, name, body, is_it, has_name).await?;
        object(&made)
    }

    async fn change_secret(
        &self,
        secret: Object,
        update: SecretUpdate,
    ) -> Result<Updated, NotChanged> {
        let new = update.values.as_ref();
        let set = new.map(|new| entries(&secret.name, &new.set, &new.recipient));
        let set = set.transpose().map_err(|_| NotChanged::Unreachable)?;
        let mut before = None;
        let live = change(&self.shelf, &secret, |live| {
            let was = json!({
                "name": live.spec.name, "scope": live.spec.scope, "data": live.spec.data,
            });
            let mut spec = Map::new();
            if let Some(name) = &update.name {
                spec.insert("name".into(), json!(name));
            }
            if let Some(private) = update.private {
                spec.insert("scope".into(), json!(scope(private)));
            }
            if let Some((new, set)) = new.zip(set.as_ref()) {
                spec.insert("data".into(), json!(merged(&live.spec.data, new, set)));
            }
            // Not answered, yet done: what was before was kept the first time.
            let is_done = spec
                .iter()
                .all(|(field, value)| was.get(field) == Some(value));
            before.get_or_insert(was);
            (!is_done).then(|| spec.into())
        })
        .await?;
        Ok(Updated {
            secret,
            generation: live.metadata.generation.unwrap_or_default(),
            version: live.resource_version().unwrap_or_default(),
            before: before.ok_or(NotChanged::Unreachable)?,
        })
    }

    /// Only at the version that the change brought.
    async fn put_back(&self, updated: Updated) -> Result<(), NotChanged> {
        let Updated {
            secret,
            version,
            before,
            ..
        } = updated;
        let live = call(self.shelf.get(&secret.name)).await?;
        // The operator writes its status in between, which is no other change.
        if live.metadata.generation != Some(updated.generation) {
            return Ok(());
        }
        let version = live.resource_version().unwrap_or(version);
        let body = json!({
            "metadata": {"uid": secret.uid, "resourceVersion": version}, "spec": before,
        });
        let (parameters, patch) = (patch_parameters(), Patch::Merge(&body));
        match call(self.shelf.patch(&secret.name, &parameters, &patch)).await {
            Ok(_) => Ok(()),
            // Another version: it is looked at once more.
            Err(NotChanged::Exists) => Err(NotChanged::Unreachable),
            Err(why) => Err(why),
        }
    }
}

impl Vault for KubeRegistrar {
    fn read(&self, from: Place) -> BoxFuture<'_, Result<Values, NotRead>> {
        self.values(from).boxed()
    }

    fn create_secret(&self, new: NewSecret) -> Changing<'_, Object> {
        self.make_secret(new).boxed()
    }

    fn update_secret(&self, secret: Object, update: SecretUpdate) -> Changing<'_, Updated> {
        self.change_secret(secret, update).boxed()
    }

    fn restore_secret(&self, updated: Updated) -> Changing<'_, ()> {
        self.put_back(updated).boxed()
    }

    fn delete_secret(&self, secret: Object) -> Changing<'_, ()> {
        async move { remove(&self.shelf, &secret).await }.boxed()
    }
}

/// What is wanted of a Secret, if it belongs to the one whose values are asked for.
fn taken(secret: Secret, from: &Place) -> Result<Values, NotRead> {
    let owners = secret.metadata.owner_references.iter().flatten();
    let controller = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true));
    let is_its = controller.is_some_and(|owner| {
        owner.kind == ZenSecret::kind(&()) && project::id(Some(&owner.uid)) == Some(from.id)
    });
    let kind = secret.type_.as_deref().unwrap_or_default();
    let is_theirs = !is_its || kind.contains(OF_KUBERNETES);
    let all = secret.data.unwrap_or_default().into_iter();
    let all = all.map(|(key, ByteString(value))| (key, Zeroizing::new(value)));
    let wanted = all.filter(|(key, _)| from.keys.contains(key));
    // All are wiped, those too that are left out.
    let values = Values(wanted.collect());
    match is_theirs {
        true => Err(NotRead::Foreign),
        false => Ok(values),
    }
}

const fn scope(private: bool) -> SecretScope {
    match private {
        true => SecretScope::User,
        false => SecretScope::Workspace,
    }
}

fn owner_ref(owner: &Owner) -> Value {
    let kind = match owner.kind {
        OwnerKind::User => "ZenUser",
        OwnerKind::Account => "ZenServiceAccount",
    };
    json!({"kind": kind, "name": owner.object, "uid": owner.uid})
}

/// Entries of an object with these values.
fn entries(object: &str, values: &Values, to: &Recipient) -> Result<Vec<SecretEntry>, NotSealed> {
    let sealed = |(key, value): (&String, &Zeroizing<Vec<u8>>)| {
        let place = sealed::Place { object, entry: key };
        Ok(SecretEntry {
            key: key.clone(),
            value_from: None,
            generate: None,
            encrypted: Some(seal(to, &place, value)?),
        })
    };
    values.0.iter().map(sealed).collect()
}

/// All entries once some are set, and others gone.
fn merged(before: &[SecretEntry], new: &NewValues, set: &[SecretEntry]) -> Vec<SecretEntry> {
    let stays = |entry: &&SecretEntry| {
        let is_set = set.iter().any(|new| new.key == entry.key);
        let goes = match &new.remove {
            Removed::Others => true,
            Removed::Keys(keys) => keys.contains(&entry.key),
        };
        !is_set && !goes
    };
    let stay = before.iter().filter(stays);
    stay.chain(set).cloned().collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ID: Uuid = Uuid::from_u128(0x5ec0_0000_0000_4000_8000_0000_0000_0001);

    fn secret(kind: &str, owner: Option<(&str, Uuid)>) -> Secret {
        let owner = owner.map(|(kind, uid)| {
            json!([{"apiVersion": "zenop.dev/v1alpha1", "kind": kind, "name": "s", "uid": uid,
                    "controller": true}])
        });
        let object = json!({
            "type": kind, "metadata": {"name": "s", "ownerReferences": owner},
            "data": {"k": "dg==", "more": "bQ=="},
        });
        serde_json::from_value(object).unwrap()
    }

    fn read(secret: Secret) -> Result<Vec<String>, NotRead> {
        let from = Place {
            id: ID,
            secret: "s".into(),
            keys: vec!["k".into(), "gone".into()],
        };
        Ok(taken(secret, &from)?.0.into_keys().collect())
    }

    #[test]
    fn of_a_secret_that_is_its_own_what_is_asked_for_is_read_and_of_others_nothing() {
        let ours = Some(("ZenSecret", ID));
        assert_eq!(read(secret("Opaque", ours)).unwrap(), ["k"]);
        let token = "kubernetes.io/service-account-token";
        for (kind, owner) in [
            ("Opaque", None),
            ("Opaque", Some(("ZenSecret", Uuid::nil()))),
            ("Opaque", Some(("ZenServer", ID))),
            (token, ours),
            ("bootstrap.kubernetes.io/token", ours),
        ] {
            let refused = read(secret(kind, owner));
            assert_eq!(refused, Err(NotRead::Foreign), "{kind} {owner:?}");
        }
    }

    #[test]
    fn what_is_set_replaces_and_what_is_not_named_keeps_its_ciphertext() {
        let entry = |key: &str, text: &str| SecretEntry {
            key: key.into(),
            value_from: None,
            generate: None,
            encrypted: Some(text.into()),
        };
        let before = [entry("a", "1"), entry("b", "2"), entry("c", "3")];
        let set = [entry("b", "new"), entry("d", "4")];
        let merge = |remove| {
            let new = NewValues {
                set: Values::default(),
                remove,
                recipient: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
                    .parse()
                    .unwrap(),
            };
            let merged = merged(&before, &new, &set).into_iter();
            let shown = merged.map(|entry| entry.key + &entry.encrypted.unwrap());
            shown.collect::<Vec<_>>()
        };
        let keys = |keys: &[&str]| Removed::Keys(keys.iter().map(|k| (*k).to_owned()).collect());
        assert_eq!(merge(keys(&["c", "x", "d"])), ["a1", "bnew", "d4"]);
        assert_eq!(merge(keys(&[])), ["a1", "c3", "bnew", "d4"]);
        assert_eq!(merge(Removed::Others), ["bnew", "d4"]);
    }
}

//! Changes custom resources for ZenML's API.
//!
//! A creation is a POST of an object whose name is made of what it is, labelled
//! `app.kubernetes.io/managed-by: zenop-api`. A change is a merge patch at the version that was
//! read, after a look at who owns the object. Each call has a time limit; one that was not
//! answered is asked after before it is repeated, so nothing is made twice.

mod calls;
mod declared;
mod devices;
mod names;
mod secrets;
mod users;

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch},
};
use serde_json::{Value, json};
use uuid::Uuid;

use self::calls::{call, change, create, object, patch_parameters, read_own, remove, told};
use super::ServerName;
use crate::{
    api::{ApiDuration, ZenAPIKey, ZenSecret, ZenServiceAccount, ZenUser, label},
    auth::credential::Credential,
    store::registrar::{
        Changing, NewAccount, NewKey, NewUser, NotChanged, Object, Registrar, Replaced,
        Replacement, SignedOut, Update, UserUpdate,
    },
};
pub use devices::KubeDevices;

/// The field manager of specs that ZenML's API makes and changes.
pub const FIELD_MANAGER: &str = "zenop-api";
/// The value of `app.kubernetes.io/managed-by` of what the API made.
pub const MADE_BY_API: &str = label::MANAGED_BY_API;

/// `spec.rotation.maxRetain` where nothing is set.
const MAX_RETAIN: Duration = Duration::from_hours(168);

/// Changes the accounts, keys, users and secrets of one server in Kubernetes.
#[derive(Clone)]
pub struct KubeRegistrar {
    accounts: Api<ZenServiceAccount>,
    keys: Api<ZenAPIKey>,
    users: Api<ZenUser>,
    shelf: Api<ZenSecret>,
    secrets: Api<Secret>,
    server: String,
    /// Name of the Secret with what stands for passwords.
    passwords: String,
}

impl KubeRegistrar {
    /// Changes what belongs to `server`. `client` repeats no call by itself.
    pub fn new(client: Client, server: &ServerName) -> Self {
        Self {
            accounts: Api::namespaced(client.clone(), &server.namespace),
            keys: Api::namespaced(client.clone(), &server.namespace),
            users: Api::namespaced(client.clone(), &server.namespace),
            shelf: Api::namespaced(client.clone(), &server.namespace),
            secrets: Api::namespaced(client, &server.namespace),
            passwords: format!("{}-passwords", server.name),
            server: server.name.clone(),
        }
    }

    async fn make_account(&self, new: NewAccount) -> Result<Object, NotChanged> {
        let body = |object: &str| {
            json!({
                "apiVersion": ZenServiceAccount::api_version(&()), "kind": ZenServiceAccount::kind(&()),
                "metadata": {"name": object, "labels": labels()},
                "spec": {
                    "serverRef": {"name": self.server}, "name": new.name,
                    "description": new.description, "active": new.active,
                },
            })
        };
        let has_name = |other: &ZenServiceAccount| other.zenml_name() == new.name;
        // One that was made just now under this name is as good as ours: it says the same.
        let is_it = |found: &ZenServiceAccount, unanswered| {
            unanswered && has_name(found) && !declared::is_declared(&found.metadata)
        };
        let name = |attempt| names::of_account(&self.server, &new.name, attempt);
        let made = create(&self.accounts, name, body, is_it, has_name).await?;
        object(&made)
    }

    async fn make_key(&self, account: Object, new: NewKey) -> Result<Object, NotChanged> {
        let siblings = self.keys_of(&account).await?;
        if siblings.iter().any(|key| key.zenml_name() == new.name) {
            return Err(NotChanged::Exists);
        }
        if siblings.len() >= new.at_most {
            return Err(NotChanged::TooMany(siblings.len()));
        }
        let id = new.id.to_string();
        let owner = json!([{
            "apiVersion": ZenServiceAccount::api_version(&()), "kind": ZenServiceAccount::kind(&()),
            "name": account.name, "uid": account.uid,
        }]);
        let body = |object: &str| {
            json!({
                "apiVersion": ZenAPIKey::api_version(&()), "kind": ZenAPIKey::kind(&()),
                "metadata": {"name": object, "labels": labels(), "ownerReferences": owner},
                "spec": {
                    "serviceAccountRef": {"name": account.name}, "name": new.name,
                    "description": new.description,
                    "source": {
                        "type": "Verifier",
                        "verifier": {"keyId": id, "sha256": new.digest.to_hex()},
                    },
                    "delivery": {"mode": "None"},
                },
            })
        };
        let is_it = |key: &ZenAPIKey, _| {
            let verifier = key.spec.source.verifier.as_ref();
            verifier.is_some_and(|verifier| verifier.key_id == id)
        };
        let has_name = |other: &ZenAPIKey| {
            other.zenml_name() == new.name && other.spec.service_account_ref.name == account.name
        };
        let uid = account.uid.to_string();
        let name = |attempt| names::of_key(&account.name, &uid, &new.name, attempt);
        let made = create(&self.keys, name, body, is_it, has_name).await?;
        object(&made)
    }

    /// The keys of an account that are not being deleted, also those that were never issued.
    async fn keys_of(&self, account: &Object) -> Result<Vec<ZenAPIKey>, NotChanged> {
        let of_account = format!("spec.serviceAccountRef.name={}", account.name);
        let parameters = ListParams::default().fields(&of_account);
        let mut keys = call(self.keys.list(&parameters)).await?.items;
        keys.retain(|key| key.metadata.deletion_timestamp.is_none());
        Ok(keys)
    }

    async fn change_key(&self, key: Object, update: Update) -> Result<(), NotChanged> {
        if let Some(name) = &update.name {
            let live = call(self.keys.get(&key.name)).await?;
            let account = Object {
                uid: Uuid::nil(),
                name: live.spec.service_account_ref.name,
            };
            let siblings = self.keys_of(&account).await?;
            let other = |k: &&ZenAPIKey| k.uid() != Some(key.uid.to_string());
            if siblings
                .iter()
                .filter(other)
                .any(|k| k.zenml_name() == name)
            {
                return Err(NotChanged::Exists);
            }
        }
        let patch = update_patch(&update);
        change(&self.keys, &key, |_| Some(patch.clone())).await?;
        Ok(())
    }

    async fn replace(&self, key: Object, by: Replacement) -> Result<Replaced, NotChanged> {
        let sha256 = by.digest.to_hex();
        let mut before = None;
        let patch = replacement_patch(&sha256, by.retain);
        let live = change(&self.keys, &key, |live| {
            let current = live.spec.source.verifier.as_ref()?;
            // Not answered, yet done: what was before was kept the first time.
            if current.sha256.as_ref() == Some(&sha256) {
                return None;
            }
            let rotation = &live.spec.rotation;
            before = Some(json!({
                "source": {"verifier": {"sha256": current.sha256, "bcrypt": current.bcrypt}},
                "rotation": {"retainFor": rotation.retain_for, "maxRetain": rotation.max_retain},
            }));
            Some(patch.clone())
        })
        .await?;
        Ok(Replaced {
            key,
            version: live.resource_version().unwrap_or_default(),
            before: before.ok_or(NotChanged::Unreachable)?,
        })
    }

    /// Only at the version that the replacement brought: later the operator has taken it up.
    async fn restore(&self, replaced: Replaced) -> Result<(), NotChanged> {
        let Replaced {
            key,
            version,
            before,
        } = replaced;
        let body = json!({
            "metadata": {"uid": key.uid, "resourceVersion": version}, "spec": before,
        });
        let (parameters, patch) = (patch_parameters(), Patch::Merge(&body));
        call(self.keys.patch(&key.name, &parameters, &patch)).await?;
        Ok(())
    }

    async fn drop_account(&self, account: Object) -> Result<(), NotChanged> {
        read_own(&self.accounts, &account).await?;
        let keys = self.keys_of(&account).await?;
        if let Some(theirs) = keys.iter().find(|key| declared::is_declared(key.meta())) {
            return Err(NotChanged::Declared(told(theirs)));
        }
        for key in &keys {
            gone_is_fine(remove(&self.keys, &object(key)?).await)?;
        }
        gone_is_fine(remove(&self.accounts, &account).await)
    }
}

impl Registrar for KubeRegistrar {
    fn create_account(&self, account: NewAccount) -> Changing<'_, Object> {
        self.make_account(account).boxed()
    }

    fn update_account(&self, account: Object, update: Update) -> Changing<'_, ()> {
        async move {
            let patch = update_patch(&update);
            change(&self.accounts, &account, |_| Some(patch.clone())).await?;
            Ok(())
        }
        .boxed()
    }

    fn delete_account(&self, account: Object) -> Changing<'_, ()> {
        self.drop_account(account).boxed()
    }

    fn create_key(&self, account: Object, key: NewKey) -> Changing<'_, Object> {
        self.make_key(account, key).boxed()
    }

    fn update_key(&self, key: Object, update: Update) -> Changing<'_, ()> {
        self.change_key(key, update).boxed()
    }

    fn rotate_key(&self, key: Object, replacement: Replacement) -> Changing<'_, Replaced> {
        self.replace(key, replacement).boxed()
    }

    fn restore_key(&self, replaced: Replaced) -> Changing<'_, ()> {
        self.restore(replaced).boxed()
    }

    fn delete_key(&self, key: Object) -> Changing<'_, ()> {
        async move { remove(&self.keys, &key).await }.boxed()
    }

    fn create_user(&self, user: NewUser) -> Changing<'_, Object> {
        self.make_user(user).boxed()
    }

    fn update_user(&self, user: Object, update: UserUpdate) -> Changing<'_, ()> {
        self.change_user(user, update).boxed()
    }

    fn sign_out(&self, user: Object) -> Changing<'_, SignedOut> {
        self.raise_epoch(user).boxed()
    }

    fn delete_user(&self, user: Object) -> Changing<'_, ()> {
        async move { remove(&self.users, &user).await }.boxed()
    }

    fn store_credential(
        &self,
        user: Uuid,
        from: Option<Arc<Credential>>,
        to: Credential,
    ) -> Changing<'_, ()> {
        self.replace_credential(user, from, to).boxed()
    }
}

fn labels() -> Value {
    json!({label::MANAGED_BY: MADE_BY_API})
}

fn update_patch(update: &Update) -> Value {
    let mut spec = serde_json::Map::new();
    let fields = [
        ("name", update.name.clone().map(Value::from)),
        ("description", update.description.clone().map(Value::from)),
        ("active", update.active.map(Value::from)),
    ];
    for (field, value) in fields {
        value.map(|value| spec.insert(field.to_owned(), value));
    }
    Value::Object(spec)
}

/// `maxRetain` may not be less than `retainFor`.
fn replacement_patch(sha256: &str, retain: Duration) -> Value {
    json!({
        "source": {"verifier": {"sha256": sha256, "bcrypt": null}},
        "rotation": {
            "retainFor": ApiDuration(retain), "maxRetain": ApiDuration(retain.max(MAX_RETAIN)),
        },
    })
}

fn gone_is_fine(result: Result<(), NotChanged>) -> Result<(), NotChanged> {
    match result {
        Err(NotChanged::Gone) => Ok(()),
        other => other,
    }
}

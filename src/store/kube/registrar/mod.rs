//! Changes custom resources for ZenML's API.
//!
//! A creation is a POST of an object whose name is made of what it is, labelled
//! `app.kubernetes.io/managed-by: zenop-api`. A change is a merge patch at the version that was
//! read, after a look at who owns the object. Each call has a time limit; one that was not
//! answered is asked after before it is repeated, so nothing is made twice.

mod declared;
mod names;

use std::{fmt::Debug, future::Future, time::Duration};

use futures::FutureExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ServerName, project};
use crate::{
    api::{ApiDuration, ZenAPIKey, ZenServiceAccount, label},
    store::registrar::{
        Changing, Declared, NewAccount, NewKey, NotChanged, Object, Registrar, Replaced,
        Replacement, Update,
    },
};

/// The field manager of specs that ZenML's API makes and changes.
pub const FIELD_MANAGER: &str = "zenop-api";
/// The value of `app.kubernetes.io/managed-by` of what the API made.
pub const MADE_BY_API: &str = "zenop-api";

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often something is tried that others changed in between, or that was not answered.
const ATTEMPTS: u32 = 4;
/// `spec.rotation.maxRetain` where nothing is set.
const MAX_RETAIN: Duration = Duration::from_hours(168);

/// Changes the accounts and keys of one server in Kubernetes.
#[derive(Clone)]
pub struct KubeRegistrar {
    accounts: Api<ZenServiceAccount>,
    keys: Api<ZenAPIKey>,
    server: String,
}

impl KubeRegistrar {
    /// Changes what belongs to `server`. `client` repeats no call by itself.
    pub fn new(client: Client, server: &ServerName) -> Self {
        Self {
            accounts: Api::namespaced(client.clone(), &server.namespace),
            keys: Api::namespaced(client, &server.namespace),
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
            let current = &live.spec.source.verifier.as_ref()?.sha256;
            // Not answered, yet done: what was before was kept the first time.
            if *current == sha256 {
                return None;
            }
            let rotation = &live.spec.rotation;
            before = Some(json!({
                "source": {"verifier": {"sha256": current}},
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
}

/// A kind that the API changes.
trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
    /// What people call it.
    const WHAT: &'static str;

    /// Its name in ZenML.
    fn called(&self) -> &str;
}

impl Kind for ZenServiceAccount {
    const WHAT: &'static str = "service account";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

impl Kind for ZenAPIKey {
    const WHAT: &'static str = "API key";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

fn labels() -> Value {
    json!({label::MANAGED_BY: MADE_BY_API})
}

fn object(of: &impl Kind) -> Result<Object, NotChanged> {
    Ok(Object {
        uid: project::id(of.meta().uid.as_deref()).ok_or(NotChanged::Unreachable)?,
        name: of.name_any(),
    })
}

fn told<K: Kind>(theirs: &K) -> Declared {
    let namespace = theirs.namespace().unwrap_or_default();
    Declared {
        what: K::WHAT,
        name: theirs.called().to_owned(),
        object: format!("{} {namespace}/{}", K::kind(&()), theirs.name_any()),
        owner: declared::owner(theirs.meta()),
    }
}

/// Makes an object under the first name that nobody has. `is_it` knows the object that an
/// unanswered attempt made, `has_name` one that has what we want.
async fn create<K: Kind>(
    api: &Api<K>,
    name: impl Fn(u32) -> String,
    body: impl Fn(&str) -> Value,
    is_it: impl Fn(&K, bool) -> bool,
    has_name: impl Fn(&K) -> bool,
) -> Result<K, NotChanged> {
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    for attempt in 0..ATTEMPTS {
        let name = name(attempt);
        let wanted: K = serde_json::from_value(body(&name)).map_err(|_| NotChanged::Unreachable)?;
        let refused = match call(api.create(&parameters, &wanted)).await {
            Err(why @ (NotChanged::Exists | NotChanged::Unreachable)) => why,
            other => return other,
        };
        match call(api.get(&name)).await {
            Ok(found) if is_it(&found, refused == NotChanged::Unreachable) => return Ok(found),
            Ok(found) if has_name(&found) && found.meta().deletion_timestamp.is_none() => {
                return Err(NotChanged::Exists);
            }
            Ok(_) => {}
            Err(NotChanged::Gone) if refused == NotChanged::Exists => {}
            Err(_) => return Err(NotChanged::Unreachable),
        }
    }
    Err(NotChanged::Unreachable)
}

/// The object as it is now, if it is ours to change.
async fn read_own<K: Kind>(api: &Api<K>, wanted: &Object) -> Result<K, NotChanged> {
    let live = call(api.get(&wanted.name)).await?;
    let meta = live.meta();
    if meta.uid != Some(wanted.uid.to_string()) || meta.deletion_timestamp.is_some() {
        return Err(NotChanged::Gone);
    }
    if declared::is_declared(meta) {
        return Err(NotChanged::Declared(told(&live)));
    }
    Ok(live)
}

/// Patches the spec at the version that was read, and reads anew if others were quicker.
async fn change<K: Kind>(
    api: &Api<K>,
    wanted: &Object,
    mut spec: impl FnMut(&K) -> Option<Value>,
) -> Result<K, NotChanged> {
    for _ in 0..ATTEMPTS {
        let live = read_own(api, wanted).await?;
        let Some(spec) = spec(&live) else {
            return Ok(live);
        };
        let body = json!({
            "metadata": {"uid": wanted.uid, "resourceVersion": live.resource_version()},
            "spec": spec,
        });
        let (parameters, patch) = (patch_parameters(), Patch::Merge(&body));
        match call(api.patch(&wanted.name, &parameters, &patch)).await {
            Err(NotChanged::Exists | NotChanged::Unreachable) => {}
            other => return other,
        }
    }
    Err(NotChanged::Unreachable)
}

async fn remove<K: Kind>(api: &Api<K>, wanted: &Object) -> Result<(), NotChanged> {
    for _ in 0..ATTEMPTS {
        let live = read_own(api, wanted).await?;
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        });
        match call(api.delete(&wanted.name, &parameters)).await {
            Ok(_) | Err(NotChanged::Gone) => return Ok(()),
            Err(NotChanged::Exists | NotChanged::Unreachable) => {}
            Err(other) => return Err(other),
        }
    }
    Err(NotChanged::Unreachable)
}

fn gone_is_fine(result: Result<(), NotChanged>) -> Result<(), NotChanged> {
    match result {
        Err(NotChanged::Gone) => Ok(()),
        other => other,
    }
}

fn patch_parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
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
        "source": {"verifier": {"sha256": sha256}},
        "rotation": {
            "retainFor": ApiDuration(retain), "maxRetain": ApiDuration(retain.max(MAX_RETAIN)),
        },
    })
}

/// What an admission policy says to who asked; of other refusals the log knows more.
fn rule(message: &str) -> String {
    let said = message
        .split_once(" denied request: ")
        .map(|(_, said)| said);
    let plain = said.unwrap_or("the server's log says which").chars();
    plain.filter(|c| !c.is_control()).take(512).collect()
}

/// One call, in time. A conflict, whatever its reason, is [`NotChanged::Exists`].
async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, NotChanged> {
    let Ok(result) = tokio::time::timeout(CALL_TIMEOUT, call).await else {
        return Err(NotChanged::Unreachable);
    };
    result.map_err(|error| {
        let kube::Error::Api(status) = &error else {
            tracing::warn!(%error, "a change was not answered");
            return NotChanged::Unreachable;
        };
        let why = match status.code {
            404 => NotChanged::Gone,
            409 => NotChanged::Exists,
            403 if status.reason == "Forbidden" && status.message.contains("cannot") => {
                NotChanged::Forbidden
            }
            400..=428 => NotChanged::Refused(rule(&status.message)),
            _ => NotChanged::Unreachable,
        };
        if !matches!(why, NotChanged::Gone | NotChanged::Exists) {
            tracing::warn!(
                code = status.code,
                message = status.message,
                "a change was refused"
            );
        }
        why
    })
}

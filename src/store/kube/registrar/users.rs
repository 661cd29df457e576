//! Users, and what they prove to be themselves with.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, api::Patch};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    KubeRegistrar,
    calls::{ATTEMPTS, call, change, create, object, patch_parameters, patch_spec, read, told},
    declared, labels, names,
};
use crate::{
    api::ZenUser,
    auth::credential::Credential,
    store::registrar::{NewUser, NotChanged, Object, SignedOut, UserUpdate},
};

impl KubeRegistrar {
    pub(super) async fn make_user(&self, new: NewUser) -> Result<Object, NotChanged> {
        let body = |object: &str| {
            json!({
                "apiVersion": ZenUser::api_version(&()), "kind": ZenUser::kind(&()),
                "metadata": {"name": object, "labels": labels()},
                "spec": {
                    "serverRef": {"name": self.server}, "name": new.name,
                    "fullName": new.full_name, "email": new.email,
                    "emailOptedIn": new.email_opted_in, "isAdmin": new.admin,
                    "activation": {},
                },
            })
        };
        let has_name = |other: &ZenUser| other.zenml_name() == new.name;
        // One that was made just now under this name is as good as ours: it says the same.
        let is_it = |found: &ZenUser, unanswered| {
            unanswered && has_name(found) && !declared::is_declared(&found.metadata)
        };
        let name = |attempt| names::of_account(&self.server, &new.name, attempt);
        let made = create(&self.users, name, body, is_it, has_name).await?;
        object(&made)
    }

    pub(super) async fn change_user(
        &self,
        user: Object,
        update: UserUpdate,
    ) -> Result<(), NotChanged> {
        let patch = (update != UserUpdate::default()).then(|| patch(update));
        change(&self.users, &user, |_| patch.clone()).await?;
        Ok(())
    }

    /// One who was signed out by another at the same moment is so by either.
    pub(super) async fn raise_epoch(&self, user: Object) -> Result<SignedOut, NotChanged> {
        let mut before = None;
        for _ in 0..ATTEMPTS {
            let live = read(&self.users, &user).await?;
            let epoch = live.spec.session_epoch;
            let is_kept = declared::is_kept(&live.metadata, "sessionEpoch", epoch == 0);
            let declared = is_kept.then(|| told(&live));
            let (from, declared) = before.get_or_insert((epoch, declared));
            if epoch > *from {
                let declared = declared.take();
                return Ok(SignedOut { epoch, declared });
            }
            let epoch = epoch.checked_add(1).ok_or(NotChanged::Unreachable)?;
            match patch_spec(&self.users, &live, json!({"sessionEpoch": epoch})).await {
                Ok(_) => {
                    let declared = declared.take();
                    return Ok(SignedOut { epoch, declared });
                }
                Err(NotChanged::Exists | NotChanged::Unreachable) => {}
                Err(other) => return Err(other),
            }
        }
        Err(NotChanged::Unreachable)
    }

    /// In the version that was read: of two replicas that do it at once, one reads again and
    /// finds something else than it wanted to replace.
    pub(super) async fn replace_credential(
        &self,
        user: Uuid,
        from: Option<Arc<Credential>>,
        to: Credential,
    ) -> Result<(), NotChanged> {
        let key = user.to_string();
        for _ in 0..ATTEMPTS {
            let live = call(self.secrets.get(&self.passwords)).await?;
            let stored = stored(&live, &key);
            // Not answered, yet done.
            if stored.as_ref() == Some(&to) {
                return Ok(());
            }
            if stored.as_ref() != from.as_deref() {
                return Err(NotChanged::Exists);
            }
            let body = json!({
                "metadata": {
                    "uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version,
                },
                "data": {(key.as_str()): STANDARD.encode(to.to_json())},
            });
            let (parameters, patch) = (patch_parameters(), Patch::Merge(&body));
            match call(self.secrets.patch(&self.passwords, &parameters, &patch)).await {
                Ok(_) => return Ok(()),
                Err(NotChanged::Exists | NotChanged::Unreachable) => {}
                Err(other) => return Err(other),
            }
        }
        Err(NotChanged::Unreachable)
    }
}

fn stored(secret: &Secret, key: &str) -> Option<Credential> {
    serde_json::from_slice(&secret.data.as_ref()?.get(key)?.0).ok()
}

fn patch(update: UserUpdate) -> Value {
    let mut spec = Map::new();
    let fields = [
        ("name", update.name.map(Value::from)),
        ("fullName", update.full_name.map(Value::from)),
        ("email", update.email.map(Value::from)),
        ("emailOptedIn", update.email_opted_in.map(Value::from)),
        ("active", update.active.map(Value::from)),
        ("isAdmin", update.admin.map(Value::from)),
    ];
    for (field, value) in fields {
        value.map(|value| spec.insert(field.to_owned(), value));
    }
    Value::Object(spec)
}

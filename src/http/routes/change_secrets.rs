//! Making and changing secrets (zenml-wire.md 9). Everybody may, as in ZenML without RBAC: public
//! ones all, private ones their owner.

use std::collections::BTreeSet;

use axum::{http::Uri, response::Response};
use bytes::Bytes;
use secrecy::ExposeSecret;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{MAX_NAME, refusal, secrets};
use crate::{
    auth::{
        api_key::Pepper,
        sealed::{Recipient, is_entry_name},
        shelf::Secret,
    },
    http::{
        App, Caller, Refusal,
        changes::{Change, Done, take_back},
        extract::{Identified, Json, MAX_VALUES},
        layers::Changed,
        list,
    },
    store::{
        NotChanged, State, Unavailable,
        registrar::Object,
        vault::{NewSecret, NewValues, Removed, SecretUpdate, Values},
    },
    wire::{self, secret::Scope},
};

/// No keys and values are longer together, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// No secret has more keys.
const MOST_KEYS: usize = 64;

const TOO_LONG: Refusal = Refusal::Value(
    "Secret key and value strings exceed the maximum total size (64 KiB of UTF-8 across all keys \
     and values). Split the data or use an artifact store for large files.",
);
const TOO_MANY: Refusal =
    Refusal::Value("A secret has at most 64 keys: split the data into several secrets.");
const BAD_KEY: Refusal = Refusal::Value(
    "A key of a secret has 1 to 253 characters, of letters A to Z, a to z, digits, '-', '_' and '.', \
     and does not begin with '..' or consist of '.': Kubernetes keeps it so.",
);
const BAD_NAME: Refusal = Refusal::Malformed("name must have at most 255 characters.");
const NOT_OWNER: Refusal = Refusal::Illegal(
    "Only the user who created the secret is allowed to update its private status.",
);
const BAD_PATCH: Refusal = Refusal::Malformed("patch_values must be true or false.");

/// `POST /secrets`, and `POST /workspaces/{workspace}/secrets` of earlier clients.
pub(in crate::http) async fn create(
    change: Change,
    Caller(caller): Caller,
    Json { bytes, value }: Json<wire::secret::NewSecret, MAX_VALUES>,
) -> Result<Response, Refusal> {
    let new = Wanted {
        name: checked_name(value.name)?,
        private: private(value.private, value.scope).unwrap_or(false),
        values: Given::of(value.values.unwrap_or_default())?.set,
    };
    check_size(&new.values)?;
    let work = move |app| make(app, caller.account, new);
    change.run_shown(Changed::CreateSecret, bytes, work).await
}

/// `PUT /secrets/{id}`.
pub(in crate::http) async fn update(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
    uri: Uri,
    Json { bytes, value }: Json<wire::secret::SecretUpdate, MAX_VALUES>,
) -> Result<Response, Refusal> {
    let patch = list::switch(uri.query().unwrap_or_default(), "patch_values");
    let asked = Asked {
        name: value.name.map(checked_name).transpose()?,
        private: private(value.private, value.scope),
        values: value.values.map(Given::of).transpose()?,
        patch: patch.map_err(|()| BAD_PATCH)?.unwrap_or(false),
    };
    let work = move |app| alter(app, caller.account, wanted, asked);
    change.run_shown(Changed::UpdateSecret, bytes, work).await
}

/// `DELETE /secrets/{id}`.
pub(in crate::http) async fn delete(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
) -> Result<Response, Refusal> {
    let work = move |app| remove(app, caller.account, wanted);
    change.run(Changed::DeleteSecret, Bytes::new(), work).await
}

/// `PUT /secrets_operations/backup`.
pub(in crate::http) async fn backup() -> Refusal {
    Refusal::NotImplemented("Unable to backup secrets: No backup secrets store is configured.")
}

/// `PUT /secrets_operations/restore`.
pub(in crate::http) async fn restore() -> Refusal {
    Refusal::NotImplemented("Unable to restore secrets: No backup secrets store is configured.")
}

/// A secret that somebody wants.
struct Wanted {
    name: String,
    private: bool,
    values: Values,
}

/// What somebody wants changed.
struct Asked {
    name: Option<String>,
    private: Option<bool>,
    values: Option<Given>,
    /// Whether keys that are not named stay.
    patch: bool,
}

/// Values as they were sent.
struct Given {
    set: Values,
    /// Keys that are to go.
    remove: BTreeSet<String>,
}

impl Given {
    fn of(values: wire::secret::Values) -> Result<Self, Refusal> {
        let mut given = Self {
            set: Values::default(),
            remove: BTreeSet::new(),
        };
        for (key, value) in values {
            match value {
                None => drop(given.remove.insert(key)),
                Some(value) => {
                    check_key(&key)?;
                    let value = value.expose_secret().as_bytes().to_vec();
                    given.set.0.insert(key, Zeroizing::new(value));
                }
            }
        }
        Ok(given)
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    match is_entry_name(key) {
        true => Ok(()),
        false => Err(BAD_KEY),
    }
}

fn check_size(values: &Values) -> Result<(), Refusal> {
    let bytes: usize = values.0.iter().map(|(k, v)| k.len() + v.len()).sum();
    match (bytes > MOST_BYTES, values.0.len() > MOST_KEYS) {
        (true, _) => Err(TOO_LONG),
        (false, true) => Err(TOO_MANY),
        (false, false) => Ok(()),
    }
}

fn checked_name(name: String) -> Result<String, Refusal> {
    match name.chars().count() > MAX_NAME {
        true => Err(BAD_NAME),
        false => Ok(name),
    }
}

fn private(private: Option<bool>, scope: Option<Scope>) -> Option<bool> {
    private.or_else(|| match scope? {
        Scope::User => Some(true),
        Scope::Workspace => Some(false),
        Scope::Other => None,
    })
}

async fn make(app: App, caller: Uuid, wanted: Wanted) -> Result<Done, Refusal> {
    let Wanted {
        name,
        private,
        values,
    } = wanted;
    let (new, user) = {
        let view = app.view()?;
        let owner = view.directory.as_owner(caller).ok_or(Refusal::Unexpected)?;
        let user = called(&view, caller);
        if view
            .directory
            .secret_named(&name, private.then_some(&owner))
            .is_some()
        {
            return Err(exists(&name, private, &user));
        }
        let new = NewSecret {
            name: name.clone(),
            private,
            owner,
            values: values.clone(),
            recipient: recipient(&view)?,
        };
        (new, user)
    };
    let (owner, taken) = (new.owner.clone(), || exists(&name, private, &user));
    let made = app.vault().create_secret(new).await;
    let made = made.map_err(|why| refusal(why, taken, || Refusal::Unexpected))?;
    let seen = app.seen(|state| {
        if let Some(secret) = state.directory.secret(made.uid, caller) {
            let pepper = state.keyring.pepper();
            let shown = || done(state, secret, &values, &app);
            return holds_exactly(pepper, secret, &values).then(shown);
        }
        // Somebody was quicker: the name is that one's.
        let holder = state
            .directory
            .secret_named(&name, private.then_some(&owner))?;
        (holder.id != made.uid).then(|| Err(taken()))
    });
    let seen = seen.await;
    if let Some(Ok(done)) = seen {
        return Ok(done);
    }
    let vault = app.vault().clone();
    take_back(move || {
        let (vault, made) = (vault.clone(), made.clone());
        async move { vault.delete_secret(made).await }
    })
    .await;
    seen.unwrap_or(Err(Refusal::NotTakenUp))
}

async fn alter(app: App, caller: Uuid, wanted: Uuid, asked: Asked) -> Result<Done, Refusal> {
    let (secret, update, user) = allowed(&app, caller, wanted, &asked)?;
    // All of it once the change is made: what is not replaced is read first.
    let mut values = match &asked.values {
        Some(_) if !asked.patch => Values::default(),
        _ => secrets::read(&app, &secret).await?,
    };
    if let Some(given) = &asked.values {
        values.0.retain(|key, _| !given.remove.contains(key));
        values.0.extend(given.set.0.clone());
        check_size(&values)?;
    }
    let name = asked.name.as_deref().unwrap_or(&secret.name);
    let private = asked.private.unwrap_or(secret.private);
    let taken = || exists(name, private, &user);
    let gone = || Refusal::NoSecret(wanted);
    let updated = app.vault().update_secret(object(&secret), update).await;
    let updated = updated.map_err(|why| refusal(why, taken, gone))?;
    let look = |state: &State| {
        let Some(secret) = state.directory.secret(wanted, caller) else {
            let scope = secret.owner.as_ref().filter(|_| private);
            let holder = state.directory.secret_named(name, scope)?;
            return (holder.id != wanted).then(|| Err(taken()));
        };
        let is_seen = secret.observed >= updated.generation
            && asked.name.as_ref().is_none_or(|name| *name == secret.name)
            && asked
                .private
                .is_none_or(|private| private == secret.private);
        let pepper = state.keyring.pepper();
        let is_delivered = match &asked.values {
            Some(given) => {
                holds(pepper, secret, given)
                    && (asked.patch || holds_exactly(pepper, secret, &values))
            }
            None => true,
        };
        (is_seen && is_delivered).then(|| done(state, secret, &values, &app))
    };
    let seen = app.seen(look).await;
    if let Some(Ok(done)) = seen {
        return Ok(done);
    }
    let vault = app.vault().clone();
    take_back(move || {
        let (vault, updated) = (vault.clone(), updated.clone());
        async move { vault.restore_secret(updated).await }
    })
    .await;
    seen.unwrap_or(Err(Refusal::NotTakenUp))
}

/// The secret, what is to be written of it, and the name of its owner, if the caller may change it
/// so.
fn allowed(
    app: &App,
    caller: Uuid,
    wanted: Uuid,
    asked: &Asked,
) -> Result<(std::sync::Arc<Secret>, SecretUpdate, String), Refusal> {
    let view = app.view()?;
    let secret = secrets::find(&view, wanted, caller)?;
    let directory = &view.directory;
    if asked.private.is_some() && !directory.owns(caller, &secret) {
        return Err(NOT_OWNER);
    }
    let name = asked.name.as_deref().unwrap_or(&secret.name);
    let private = asked.private.unwrap_or(secret.private);
    let owner = secret.owner.as_ref();
    let user = owner.and_then(|owner| directory.owner_id(owner));
    let user = user.map(|id| called(&view, id)).unwrap_or_default();
    if name != secret.name || private != secret.private {
        let holder = directory.secret_named(name, owner.filter(|_| private));
        if holder.is_some_and(|holder| holder.id != wanted) {
            return Err(exists(name, private, &user));
        }
    }
    let values = asked.values.as_ref().map(|given| {
        Ok::<_, Refusal>(NewValues {
            set: given.set.clone(),
            remove: match asked.patch {
                true => Removed::Keys(given.remove.clone()),
                false => Removed::Others,
            },
            recipient: recipient(&view)?,
        })
    });
    let update = SecretUpdate {
        name: asked.name.clone(),
        private: asked.private,
        values: values.transpose()?,
    };
    Ok((secret, update, user))
}

async fn remove(app: App, caller: Uuid, wanted: Uuid) -> Result<Done, Refusal> {
    let secret = secrets::find(&*app.view()?, wanted, caller)?;
    if secret.used_by.count > 0 {
        return Err(Refusal::InUse {
            secret: secret.name.clone(),
            uses: secret.used_by.clone(),
        });
    }
    let deleted = app.vault().delete_secret(object(&secret)).await;
    let gone = || Refusal::NoSecret(wanted);
    deleted.map_err(|why| match why {
        NotChanged::Declared(declared) => Refusal::Kept(declared),
        why => refusal(why, || Refusal::Unexpected, gone),
    })?;
    let look = |state: &State| {
        let is_gone = state.directory.secret(wanted, caller).is_none();
        is_gone.then_some(())
    };
    app.revoked(look).await.ok_or(Unavailable::Stale)?;
    Done::new(wanted, &())
}

fn done(state: &State, secret: &Secret, values: &Values, app: &App) -> Result<Done, Refusal> {
    Ok(Done {
        of: secret.id,
        answer: secrets::answer(state, secret, values, true, app)?,
    })
}

/// Whether what is delivered is this and nothing else.
fn holds_exactly(pepper: &Pepper, secret: &Secret, values: &Values) -> bool {
    let delivered = secret.delivered.as_ref();
    let is_all = delivered.is_some_and(|of| of.keys.len() == values.0.len());
    is_all && holds_all(pepper, secret, values)
}

/// Whether what was given is delivered, and what was to go is gone.
fn holds(pepper: &Pepper, secret: &Secret, given: &Given) -> bool {
    let keys = || secret.delivered.iter().flat_map(|of| &of.keys);
    let is_gone = |key: &String| keys().all(|(name, _)| **name != **key);
    // A key that is set and removed at once is set.
    let mut removed = given
        .remove
        .iter()
        .filter(|key| !given.set.0.contains_key(*key));
    removed.all(is_gone) && holds_all(pepper, secret, &given.set)
}

fn holds_all(pepper: &Pepper, secret: &Secret, values: &Values) -> bool {
    let keys = || secret.delivered.iter().flat_map(|of| &of.keys);
    secret.delivered.is_some()
        && values.0.iter().all(|(key, value)| {
            let print = pepper.value_fingerprint(secret.id, key, value);
            keys().any(|(name, of)| **name == **key && **of == *print)
        })
}

/// Whom new values are sealed for. The operator makes the key when it makes the server.
fn recipient(state: &State) -> Result<Recipient, Refusal> {
    state.settings.recipient.clone().ok_or(Refusal::NotTakenUp)
}

fn object(secret: &Secret) -> Object {
    Object {
        uid: secret.id,
        name: secret.object.clone(),
    }
}

/// The name of an account or user.
fn called(state: &State, id: Uuid) -> String {
    let account = state.directory.account(id).map(|account| &account.name);
    let name = account.or_else(|| state.directory.user(id).map(|user| &user.name));
    name.cloned().unwrap_or_default()
}

fn exists(name: &str, private: bool, user: &str) -> Refusal {
    Refusal::Exists(match private {
        true => format!(
            "Found an existing private secret with the same '{name}' name for the same '{user}' user"
        ),
        false => format!("Found an existing public secret with the same '{name}' name"),
    })
}

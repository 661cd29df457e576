//! Making and changing API keys (zenml-wire.md 8.2, 8.4). Administrators only.
//!
//! A key is drawn here, shown in one answer, and forgotten: what is written down is its hash.

use axum::response::Response;
use bytes::Bytes;
use uuid::Uuid;

use super::{
    api_keys::{find, rendered},
    checked_description, checked_name, checked_update, refusal, service_accounts,
};
use crate::{
    auth::{
        api_key::{ApiKey, KeySecret},
        directory::{Account, Key},
    },
    http::{
        App, Refusal,
        changes::{Change, Done, take_back},
        extract::{Identified, Json, NameOrId, OwnedBy},
        layers::Changed,
    },
    store::{
        NotChanged, State, Unavailable,
        registrar::{NewKey, Object, Replacement, Update},
    },
    wire::change::{ApiKeyUpdate, NewApiKey, RotateApiKey},
};

/// The longest time for which a replaced key may be accepted: a year, as ZenAPIKey has it.
const MAX_RETAIN_MINUTES: u64 = 365 * 24 * 60;

/// `POST /service_accounts/{id}/api_keys`.
pub(in crate::http) async fn create(
    change: Change,
    Identified(account): Identified,
    Json { bytes, value }: Json<NewApiKey>,
) -> Result<Response, Refusal> {
    let name = checked_name(value.name)?;
    let description = checked_description(value.description.unwrap_or_default())?;
    let work = |app| make(app, account, name, description);
    change.run(Changed::CreateKey, bytes, work).await
}

/// `PUT …/api_keys/{name or id}`.
pub(in crate::http) async fn update(
    change: Change,
    OwnedBy(account, wanted): OwnedBy,
    Json { bytes, value }: Json<ApiKeyUpdate>,
) -> Result<Response, Refusal> {
    let update = checked_update(value.name, value.description, value.active)?;
    let work = |app| alter(app, account, wanted, update);
    change.run(Changed::UpdateKey, bytes, work).await
}

/// `PUT …/api_keys/{name or id}/rotate`.
pub(in crate::http) async fn rotate(
    change: Change,
    OwnedBy(account, wanted): OwnedBy,
    Json { bytes, value }: Json<RotateApiKey>,
) -> Result<Response, Refusal> {
    let minutes = u64::try_from(value.retain_period_minutes).ok();
    let minutes = minutes.filter(|minutes| *minutes <= MAX_RETAIN_MINUTES);
    let minutes = minutes.ok_or(Refusal::Malformed(
        "retain_period_minutes must be between 0 and 525600.",
    ))?;
    let retain = std::time::Duration::from_mins(minutes);
    let work = |app| replace(app, account, wanted, retain);
    change.run(Changed::RotateKey, bytes, work).await
}

/// `DELETE …/api_keys/{name or id}`.
pub(in crate::http) async fn delete(
    change: Change,
    OwnedBy(account, wanted): OwnedBy,
) -> Result<Response, Refusal> {
    let work = |app| remove(app, account, wanted);
    change.run(Changed::DeleteKey, Bytes::new(), work).await
}

async fn make(app: App, account: Uuid, name: String, description: String) -> Result<Done, Refusal> {
    let (owner, owner_name, at_most) = {
        let view = app.view()?;
        let owner = service_accounts::find(&view.directory, &NameOrId::Id(account))?;
        if view.directory.keys_of(owner).any(|key| key.name == name) {
            return Err(cannot("register", &name, &owner.name));
        }
        let object = Object {
            uid: owner.id,
            name: owner.object.clone(),
        };
        (object, owner.name.clone(), view.settings.max_keys)
    };
    let text = fresh_key(&app, None);
    let new = NewKey {
        id: text.id,
        digest: text.secret.digest(),
        name: name.clone(),
        description,
        at_most,
    };
    let made = app.registrar().create_key(owner, new).await;
    let made = made.map_err(|why| match why {
        NotChanged::TooMany(keys) => Refusal::TooManyKeys {
            account: owner_name.clone(),
            keys,
        },
        why => {
            let gone = || Refusal::NoAccount(account.to_string());
            refusal(why, || cannot("register", &name, &owner_name), gone)
        }
    })?;
    let seen = app.seen(|state| {
        known(state, &app, &text)?;
        shown(state, &app, &text, true)
    });
    if let Some(done) = seen.await {
        return done;
    }
    let registrar = app.registrar().clone();
    take_back(move || {
        let (registrar, made) = (registrar.clone(), made.clone());
        async move { registrar.delete_key(made).await }
    })
    .await;
    Err(Refusal::NotTakenUp)
}

async fn alter(app: App, account: Uuid, wanted: NameOrId, update: Update) -> Result<Done, Refusal> {
    let found = look_up(&app, account, &wanted)?;
    let id = found.id;
    if update != Update::default() {
        let name = update.name.clone().unwrap_or_default();
        let changed = app
            .registrar()
            .update_key(found.object, update.clone())
            .await;
        changed.map_err(|why| {
            let exists = || cannot("update", &name, &found.owner);
            refusal(why, exists, || no_key(account, &wanted))
        })?;
    }
    let look = |state: &State| {
        let key = state.directory.key(id)?;
        let account = state.directory.account(account)?;
        let shown = || Done::new(id, &rendered(account, key, None, true, app.now()));
        is_as(key, &update).then(shown)
    };
    let seen = match update.active {
        Some(false) => app.revoked(look).await,
        _ => app.seen(look).await,
    };
    seen.unwrap_or(Err(Unavailable::Stale.into()))
}

async fn replace(
    app: App,
    account: Uuid,
    wanted: NameOrId,
    retain: std::time::Duration,
) -> Result<Done, Refusal> {
    let found = look_up(&app, account, &wanted)?;
    let text = fresh_key(&app, Some(found.id));
    let by = Replacement {
        digest: text.secret.digest(),
        retain,
    };
    let replaced = app.registrar().rotate_key(found.object, by).await;
    let replaced = replaced
        .map_err(|why| refusal(why, || Refusal::Unexpected, || no_key(account, &wanted)))?;
    // Without overlap, the answer also says that the old key is dead.
    let look = |state: &State| {
        let number = known(state, &app, &text)?;
        let key = state.directory.key(text.id)?;
        let now = app.now();
        let mut others = key.generations.iter().filter(|g| g.number != number);
        let is_done = !retain.is_zero() || others.all(|g| !g.is_valid(now));
        is_done.then(|| shown(state, &app, &text, false))?
    };
    let seen = match retain.is_zero() {
        true => app.revoked(look).await,
        false => app.seen(look).await,
    };
    if let Some(done) = seen {
        return done;
    }
    // It may have been taken up and not be seen to the end: then the key is still to be told.
    let late = {
        let view = app.view()?;
        known(&view, &app, &text).and_then(|_| shown(&view, &app, &text, false))
    };
    if let Some(done) = late {
        return done;
    }
    let registrar = app.registrar().clone();
    take_back(move || {
        let (registrar, replaced) = (registrar.clone(), replaced.clone());
        async move { registrar.restore_key(replaced).await }
    })
    .await;
    Err(Refusal::NotTakenUp)
}

async fn remove(app: App, account: Uuid, wanted: NameOrId) -> Result<Done, Refusal> {
    let found = look_up(&app, account, &wanted)?;
    let (id, uid) = (found.id, found.object.uid);
    let deleted = app.registrar().delete_key(found.object).await;
    deleted.map_err(|why| refusal(why, || Refusal::Unexpected, || no_key(account, &wanted)))?;
    let look = |state: &State| {
        let key = state.directory.key(id);
        key.is_none_or(|key| key.uid != uid).then_some(())
    };
    app.revoked(look).await.ok_or(Unavailable::Stale)?;
    Done::new(id, &())
}

/// A key of 256 random bits, of this id or of a new one.
fn fresh_key(app: &App, id: Option<Uuid>) -> ApiKey {
    let new_id = || uuid::Builder::from_random_bytes(*app.draw::<16>()).into_uuid();
    ApiKey {
        id: id.unwrap_or_else(new_id),
        secret: KeySecret::from_random(&app.draw::<32>()),
    }
}

/// Which generation of its key this is, if the view accepts it.
fn known(state: &State, app: &App, text: &ApiKey) -> Option<i64> {
    let known = state.directory.knows(&state.keyring, text, app.now());
    known.map(|generation| generation.number)
}

/// The answer that shows the key: the only one ever.
fn shown(state: &State, app: &App, text: &ApiKey, hydrate: bool) -> Option<Result<Done, Refusal>> {
    let key = state.directory.key(text.id)?;
    let account = state.directory.account(key.account)?;
    let written = text.text();
    let body = rendered(account, key, Some(&written), hydrate, app.now());
    Some(Done::new(key.id, &body))
}

/// A key that is to be changed.
struct Found {
    id: Uuid,
    object: Object,
    /// Name of its account.
    owner: String,
}

fn look_up(app: &App, account: Uuid, wanted: &NameOrId) -> Result<Found, Refusal> {
    let view = app.view()?;
    let owner: &Account = service_accounts::find(&view.directory, &NameOrId::Id(account))?;
    let key: &Key = find(&view.directory, owner, wanted)?;
    Ok(Found {
        id: key.id,
        object: Object {
            uid: key.uid,
            name: key.object.clone(),
        },
        owner: owner.name.clone(),
    })
}

fn is_as(key: &Key, update: &Update) -> bool {
    let Update {
        name,
        description,
        active,
    } = update;
    name.as_ref().is_none_or(|name| *name == key.name)
        && description
            .as_ref()
            .is_none_or(|text| *text == key.description)
        && active.is_none_or(|active| active == key.active)
}

fn cannot(what: &str, name: &str, account: &str) -> Refusal {
    Refusal::Exists(format!(
        "Unable to {what} API key with name '{name}': Found an existing API key with the same \
         name configured for the same '{account}' service account."
    ))
}

fn no_key(account: Uuid, wanted: &NameOrId) -> Refusal {
    Refusal::NoKey {
        key: wanted.to_string(),
        account,
    }
}

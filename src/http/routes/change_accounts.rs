//! Making and changing service accounts (zenml-wire.md 8.1). Administrators only.

use axum::response::Response;
use bytes::Bytes;

use super::{
    checked_description, checked_name, checked_update, refusal,
    service_accounts::{find, rendered},
};
use crate::{
    auth::directory::Account,
    http::{
        App, Refusal,
        changes::{Change, Done, take_back},
        extract::{Json, NameOrId, Named},
        layers::Changed,
    },
    store::{
        NotChanged, State, Unavailable,
        registrar::{NewAccount, Object, Update},
    },
    wire::change::{NewServiceAccount, ServiceAccountUpdate},
};

const OWNS_SECRETS: &str = "The service account has already been used to create other resources that \
                            it now owns and therefore cannot be deleted. Please delete all \
                            resources owned by the service account or consider deactivating it \
                            instead.";

/// `POST /service_accounts`.
pub(in crate::http) async fn create(
    change: Change,
    Json { bytes, value }: Json<NewServiceAccount>,
) -> Result<Response, Refusal> {
    not_kept(value.full_name.as_deref(), value.avatar_url.as_deref())?;
    let new = NewAccount {
        name: checked_name(value.name)?,
        description: checked_description(value.description.unwrap_or_default())?,
        active: value.active,
    };
    let work = |app| make(app, new);
    change.run(Changed::CreateAccount, bytes, work).await
}

/// `PUT /service_accounts/{name or id}`.
pub(in crate::http) async fn update(
    change: Change,
    Named(wanted): Named,
    Json { bytes, value }: Json<ServiceAccountUpdate>,
) -> Result<Response, Refusal> {
    not_kept(value.full_name.as_deref(), value.avatar_url.as_deref())?;
    let update = checked_update(value.name, value.description, value.active)?;
    let work = |app| alter(app, wanted, update);
    change.run(Changed::UpdateAccount, bytes, work).await
}

/// `DELETE /service_accounts/{name or id}`.
pub(in crate::http) async fn delete(
    change: Change,
    Named(wanted): Named,
) -> Result<Response, Refusal> {
    let work = |app| remove(app, wanted);
    change.run(Changed::DeleteAccount, Bytes::new(), work).await
}

/// What a ZenServiceAccount has no place for is refused rather than forgotten.
fn not_kept(full_name: Option<&str>, avatar_url: Option<&str>) -> Result<(), Refusal> {
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    if given(full_name) || given(avatar_url) {
        return Err(Refusal::Malformed(
            "full_name and avatar_url are not kept by this server: leave them out.",
        ));
    }
    Ok(())
}

async fn make(app: App, new: NewAccount) -> Result<Done, Refusal> {
    let name = new.name.clone();
    let exists = || cannot("create", &name);
    if app.view()?.directory.account_by_name(&name).is_some() {
        return Err(exists());
    }
    let made = app.registrar().create_account(new).await;
    let made = made.map_err(|why| refusal(why, exists, || Refusal::Unexpected))?;
    let seen = app.seen(|state| {
        if let Some(account) = state.directory.account(made.uid) {
            return Some(Done::new(made.uid, &rendered(account, true, app.now())));
        }
        // Somebody was quicker: the name is that one's.
        let holder = state.directory.account_by_name(&name)?;
        (holder.id != made.uid).then(|| Err(exists()))
    });
    let seen = seen.await;
    if let Some(Ok(done)) = seen {
        return Ok(done);
    }
    let registrar = app.registrar().clone();
    take_back(move || {
        let (registrar, made) = (registrar.clone(), made.clone());
        async move { registrar.delete_account(made).await }
    })
    .await;
    seen.unwrap_or(Err(Unavailable::Stale.into()))
}

async fn alter(app: App, wanted: NameOrId, update: Update) -> Result<Done, Refusal> {
    let object = look_up(&app, &wanted)?;
    let id = object.uid;
    let exists = || cannot("update", update.name.as_deref().unwrap_or_default());
    if let Some(name) = &update.name {
        let view = app.view()?;
        let holder = view.directory.account_by_name(name);
        if holder.is_some_and(|holder| holder.id != id) {
            return Err(exists());
        }
    }
    if update != Update::default() {
        let changed = app.registrar().update_account(object, update.clone()).await;
        changed.map_err(|why| refusal(why, exists, || Refusal::NoAccount(wanted.to_string())))?;
    }
    let look = |state: &State| {
        let account = state.directory.account(id)?;
        let shown = || Done::new(id, &rendered(account, true, app.now()));
        is_as(account, &update).then(shown)
    };
    let seen = match update.active {
        Some(false) => app.revoked(look).await,
        _ => app.seen(look).await,
    };
    seen.unwrap_or(Err(Unavailable::Stale.into()))
}

async fn remove(app: App, wanted: NameOrId) -> Result<Done, Refusal> {
    let object = look_up(&app, &wanted)?;
    {
        let view = app.view()?;
        let account = find(&view.directory, &wanted)?;
        if view.directory.owns_secrets(account.id) {
            return Err(Refusal::Illegal(OWNS_SECRETS));
        }
    }
    let id = object.uid;
    let gone = || Refusal::NoAccount(wanted.to_string());
    let deleted = app.registrar().delete_account(object).await;
    deleted.map_err(|why| match why {
        NotChanged::Declared(declared) => Refusal::Kept(declared),
        why => refusal(why, || Refusal::Unexpected, gone),
    })?;
    let look = |state: &State| {
        let is_gone = state.directory.account(id).is_none();
        is_gone.then_some(())
    };
    app.revoked(look).await.ok_or(Unavailable::Stale)?;
    Done::new(id, &())
}

fn look_up(app: &App, wanted: &NameOrId) -> Result<Object, Refusal> {
    let view = app.view()?;
    let account = find(&view.directory, wanted)?;
    Ok(Object {
        uid: account.uid,
        name: account.object.clone(),
    })
}

fn is_as(account: &Account, update: &Update) -> bool {
    let Update {
        name,
        description,
        active,
    } = update;
    name.as_ref().is_none_or(|name| *name == account.name)
        && description
            .as_ref()
            .is_none_or(|text| *text == account.description)
        && active.is_none_or(|active| active == account.active)
}

fn cannot(what: &str, name: &str) -> Refusal {
    Refusal::Exists(format!(
        "Unable to {what} service account with name '{name}': Found existing service account \
         with this name."
    ))
}

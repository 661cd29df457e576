//! Making and changing users (zenml-wire.md 12). Administrators do it, and each user to itself.

use std::sync::Arc;

use axum::{extract::State as FromApp, response::Response};
use bytes::Bytes;
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    about, checked_name, refusal,
    users::{find, rendered, to_itself},
};
use crate::{
    auth::{
        credential::{Activation, ActivationToken, Credential, Password},
        directory::{Directory, Origin, User},
        principal::Principal,
    },
    http::{
        App, Caller, Refusal,
        changes::{Change, Done, take_back},
        extract::{ClientAddress, Json, NameOrId, Named},
        layers::Changed,
        limiter::{Attempt, Claim},
    },
    store::{
        NotChanged, State, Unavailable,
        registrar::{NewUser, Object, UserUpdate},
    },
    wire,
};

/// How long a token from the API lets a user choose a password.
const ACTIVATION: SignedDuration = SignedDuration::from_hours(72);
const LAST_ADMIN: &str = "There has to be at least one admin account configured on your system. \
                          This is the only admin account and therefore it cannot be deleted.";
const OWNS_SECRETS: &str = "The user account has already been used to create other resources that \
                            it now owns and therefore cannot be deleted. Please delete all \
                            resources owned by the user account or consider deactivating it \
                            instead.";
const WRONG_PASSWORD: &str = "The current password is incorrect.";

/// `POST /users`.
pub(in crate::http) async fn create(
    FromApp(app): FromApp<App>,
    change: Change,
    Json { bytes, value }: Json<wire::change::NewUser>,
) -> Result<Response, Refusal> {
    if app
        .settings()
        .is_some_and(|of| !of.scheme.takes_passwords())
    {
        return Err(Refusal::NoPasswords);
    }
    let password = value.password.as_ref().map(chosen).transpose()?;
    let new = NewUser {
        name: checked_name(value.name)?,
        full_name: about::text(value.full_name)?.unwrap_or_default(),
        email_opted_in: about::consent(value.email_opted_in, value.email.as_deref())?,
        email: about::text(value.email)?,
        admin: value.is_admin,
    };
    let work = |app| make(app, new, password);
    change.run(Changed::CreateUser, bytes, work).await
}

/// `PUT /users/{name or id}`.
pub(in crate::http) async fn update(
    change: Change,
    Caller(caller): Caller,
    address: ClientAddress,
    Named(wanted): Named,
    Json { bytes, value }: Json<wire::change::UserUpdate>,
) -> Result<Response, Refusal> {
    let work = move |app| alter(app, (caller, address), wanted, value);
    change.run(Changed::UpdateUser, bytes, work).await
}

/// `PUT /current-user`. What only others may change is left out, as ZenML does.
pub(in crate::http) async fn update_self(
    change: Change,
    Caller(caller): Caller,
    address: ClientAddress,
    Json { bytes, mut value }: Json<wire::change::UserUpdate>,
) -> Result<Response, Refusal> {
    (value.active, value.is_admin) = (None, None);
    let wanted = NameOrId::Id(caller.account);
    let work = move |app| alter(app, (caller, address), wanted, value);
    change.run(Changed::UpdateUser, bytes, work).await
}

/// `DELETE /users/{name or id}`.
pub(in crate::http) async fn delete(
    change: Change,
    Caller(caller): Caller,
    Named(wanted): Named,
) -> Result<Response, Refusal> {
    let work = move |app| remove(app, caller, wanted);
    change.run(Changed::DeleteUser, Bytes::new(), work).await
}

async fn make(app: App, new: NewUser, password: Option<Password>) -> Result<Done, Refusal> {
    let name = new.name.clone();
    if app.view()?.directory.user_by_name(&name).is_some() {
        return Err(exists("create", &name));
    }
    let made = app.registrar().create_user(new).await;
    let made = made.map_err(|why| {
        let taken = || exists("create", &name);
        refusal(why, taken, || Refusal::Unexpected)
    })?;
    let equipped = equip(&app, &made, &name, password).await;
    if equipped.is_err() {
        let registrar = app.registrar().clone();
        take_back(move || {
            let (registrar, made) = (registrar.clone(), made.clone());
            async move { registrar.delete_user(made).await }
        })
        .await;
    }
    equipped
}

/// Gives a new user its password, or a token to choose one with, which the answer shows.
async fn equip(
    app: &App,
    made: &Object,
    name: &str,
    password: Option<Password>,
) -> Result<Done, Refusal> {
    let (credential, token) = match password {
        Some(password) => (
            Credential::Password(app.hashed(made.uid, password).await?),
            None,
        ),
        None => {
            let (credential, token) = fresh_activation(app, made.uid)?;
            (credential, Some(token))
        }
    };
    store(app, made.uid, None, credential.clone()).await?;
    let seen = app.seen(|state| {
        if let Some(user) = state.directory.user(made.uid) {
            return is_stored(state, user, &credential).then(|| shown(user, token.as_ref()));
        }
        // Somebody was quicker: the name is that one's.
        let holder = state.directory.user_by_name(name)?;
        (holder.id != made.uid).then(|| Err(exists("create", name)))
    });
    seen.await.unwrap_or(Err(Unavailable::Stale.into()))
}

/// A token to choose a password with, and what is stored for it.
pub(super) fn fresh_activation(
    app: &App,
    user: Uuid,
) -> Result<(Credential, ActivationToken), Refusal> {
    let token = ActivationToken::from_random(&app.draw());
    let ends = app.now().checked_add(ACTIVATION);
    let ends = ends.map_err(|_| Refusal::Unexpected)?;
    let view = app.view()?;
    let activation = Activation::new(view.keyring.pepper(), user, &token, ends);
    Ok((Credential::Activation(activation), token))
}

/// Stores a credential; somebody who stored another one at the same time has it.
pub(super) async fn store(
    app: &App,
    user: Uuid,
    from: Option<Arc<Credential>>,
    to: Credential,
) -> Result<(), Refusal> {
    let stored = app.registrar().store_credential(user, from, to).await;
    let raced = || Refusal::Illegal("The user was changed at the same time. Try again.");
    stored.map_err(|why| refusal(why, raced, || Refusal::Unexpected))
}

pub(super) fn is_stored(state: &State, user: &User, credential: &Credential) -> bool {
    let stored = state.directory.credential(user);
    stored.is_some_and(|stored| **stored == *credential)
}

/// The answer, with a token in it if there is one.
pub(super) fn shown(user: &User, token: Option<&ActivationToken>) -> Result<Done, Refusal> {
    let mut shown = rendered(user, true);
    shown.body.activation_token = token.map(ActivationToken::text);
    Done::new(user.id, &shown)
}

/// Changes a user for whoever asks, if they may.
pub(super) async fn alter(
    app: App,
    (caller, address): (Principal, ClientAddress),
    wanted: NameOrId,
    given: wire::change::UserUpdate,
) -> Result<Done, Refusal> {
    let (object, update) = {
        let view = app.view()?;
        let user = allowed(
            &view.directory,
            &caller,
            &wanted,
            "update other user account",
        )?;
        let update = checked(&view.directory, user, caller.account == user.id, &given)?;
        (object(user), update)
    };
    let id = object.uid;
    if let Some(new) = &given.password {
        let new = chosen(new)?;
        change_password(&app, (id, address), given.old_password.as_ref(), new).await?;
    }
    if update != UserUpdate::default() {
        let taken = || exists("update", update.name.as_deref().unwrap_or_default());
        let changed = app.registrar().update_user(object, update.clone()).await;
        changed.map_err(|why| refusal(why, taken, || Refusal::NoUser(wanted.to_string())))?;
    }
    let look = |state: &State| {
        let user = state.directory.user(id)?;
        let shown = || match caller.account == id {
            true => Done::new(id, &to_itself(&state.directory, user)),
            false => Done::new(id, &rendered(user, true)),
        };
        is_as(user, &update).then(shown)
    };
    let seen = match update.active {
        Some(false) => app.revoked(look).await,
        _ => app.seen(look).await,
    };
    seen.unwrap_or(Err(Unavailable::Stale.into()))
}

/// The user, if the caller may do something to it.
pub(super) fn allowed<'a>(
    directory: &'a Directory,
    caller: &Principal,
    wanted: &NameOrId,
    action: &'static str,
) -> Result<&'a User, Refusal> {
    let found = find(directory, wanted);
    let own = found.as_ref().is_ok_and(|user| user.id == caller.account);
    match own || directory.is_admin(caller) {
        true => found,
        // Whether there is one is not told.
        false => Err(Refusal::AdminsOnly(action)),
    }
}

/// What of an update may be made of this user by itself, or by an administrator.
fn checked(
    directory: &Directory,
    user: &User,
    own: bool,
    given: &wire::change::UserUpdate,
) -> Result<UserUpdate, Refusal> {
    let name = given.name.clone().map(checked_name).transpose()?;
    let name = name.filter(|name| *name != user.name);
    if let Some(taken) = name
        .as_ref()
        .filter(|name| directory.user_by_name(name).is_some())
    {
        return Err(exists("update", taken));
    }
    let admin = given.is_admin.filter(|admin| *admin != user.admin);
    let active = given.active.filter(|active| *active != user.is_active());
    let illegal = |text| Err(Refusal::Illegal(text));
    if own && admin.is_some() {
        return illegal("Cannot change the admin status of your own user account.");
    }
    if own && active.is_some() {
        return illegal("Cannot change the active status of your own user account.");
    }
    if !own && given.password.is_some() {
        return illegal(
            "Users cannot change the password of other users. Use the account deactivation and \
             activation flow instead.",
        );
    }
    if !own && (given.email.is_some() || given.email_opted_in.is_some()) {
        return illegal(
            "Cannot change the private user account information for another user account.",
        );
    }
    if (admin == Some(false) || active == Some(false)) && is_last_admin(directory, user) {
        return illegal(LAST_ADMIN);
    }
    Ok(UserUpdate {
        name,
        active,
        admin,
        ..about::said(given)?
    })
}

async fn change_password(
    app: &App,
    (id, address): (Uuid, ClientAddress),
    old: Option<&SecretString>,
    new: Password,
) -> Result<(), Refusal> {
    let wrong = || Refusal::Illegal(WRONG_PASSWORD);
    let missing = "The current password must be supplied when changing the password.";
    let old = old.ok_or(Refusal::Illegal(missing))?;
    let old = Password::presented(old.expose_secret());
    let (stored, verifier, pepper, attempt) = {
        let view = app.view()?;
        let user = find(&view.directory, &NameOrId::Id(id))?;
        if let Origin::Secret(secret) = &user.origin {
            return Err(Refusal::PasswordElsewhere {
                user: user.name.clone(),
                secret: secret.clone(),
            });
        }
        if matches!(user.origin, Origin::External { .. }) {
            return Err(Refusal::NoPasswords);
        }
        let stored = view.directory.credential(user).cloned();
        let verifier = view.directory.password(user).ok_or_else(wrong)?.clone();
        let attempt = Attempt {
            rates: view.settings.login_rates,
            of_all: view.settings.global_rates,
            claim: Some(Claim::User(id)),
            address: address.0,
            at: app.now(),
        };
        (stored, verifier, view.keyring.pepper().clone(), attempt)
    };
    // Whoever holds a session and not the password guesses no faster than at the login.
    app.limiter().begin(&attempt)?;
    let fits = app.fits(pepper, id, verifier, old).await;
    match &fits {
        Ok(true) => app.limiter().succeeded(&attempt),
        Ok(false) => {}
        Err(_) => app.limiter().withdraw(&attempt),
    }
    if !fits? {
        return Err(wrong());
    }
    let credential = Credential::Password(app.hashed(id, new).await?);
    store(app, id, stored, credential.clone()).await?;
    let look = |state: &State| {
        let user = state.directory.user(id)?;
        is_stored(state, user, &credential).then_some(())
    };
    Ok(app.revoked(look).await.ok_or(Unavailable::Stale)?)
}

async fn remove(app: App, caller: Principal, wanted: NameOrId) -> Result<Done, Refusal> {
    let object = {
        let view = app.view()?;
        let user = allowed(&view.directory, &caller, &wanted, "delete user")?;
        if user.id == caller.account {
            return Err(Refusal::Illegal(
                "You cannot delete the user account currently used to authenticate to the ZenML \
                 server. If you wish to delete this account, please authenticate with another \
                 account or contact your ZenML administrator.",
            ));
        }
        if is_last_admin(&view.directory, user) {
            return Err(Refusal::Illegal(LAST_ADMIN));
        }
        if view.directory.owns_secrets(user.id) {
            return Err(Refusal::Illegal(OWNS_SECRETS));
        }
        object(user)
    };
    let id = object.uid;
    let gone = || Refusal::NoUser(wanted.to_string());
    let deleted = app.registrar().delete_user(object).await;
    deleted.map_err(|why| match why {
        NotChanged::Declared(declared) => Refusal::Kept(declared),
        why => refusal(why, || Refusal::Unexpected, gone),
    })?;
    let look = |state: &State| state.directory.user(id).is_none().then_some(());
    app.revoked(look).await.ok_or(Unavailable::Stale)?;
    Done::new(id, &())
}

/// Whether nobody else administers the server. Service accounts do not count: who lost the last
/// user has nobody to log in with a browser.
pub(super) fn is_last_admin(directory: &Directory, user: &User) -> bool {
    let administers = |user: &User| user.admin && user.is_active();
    let other = |other: &User| other.id != user.id && administers(other);
    administers(user) && !directory.users().any(other)
}

pub(super) fn object(user: &User) -> Object {
    Object {
        uid: user.id,
        name: user.object.clone(),
    }
}

pub(super) fn is_as(user: &User, update: &UserUpdate) -> bool {
    let UserUpdate {
        name,
        full_name,
        email,
        email_opted_in,
        active,
        admin,
    } = update;
    name.as_ref().is_none_or(|name| *name == user.name)
        && full_name
            .as_ref()
            .is_none_or(|text| *text == user.full_name)
        && email.as_ref().is_none_or(|_| *email == user.email)
        && email_opted_in.is_none_or(|_| *email_opted_in == user.email_opted_in)
        && active.is_none_or(|active| active == user.active)
        && admin.is_none_or(|admin| admin == user.admin)
}

/// A password that may be chosen.
pub(super) fn chosen(text: &SecretString) -> Result<Password, Refusal> {
    Ok(text.expose_secret().parse()?)
}

fn exists(what: &str, name: &str) -> Refusal {
    Refusal::Exists(format!(
        "Unable to {what} user with name '{name}': Found an existing user account with this name."
    ))
}

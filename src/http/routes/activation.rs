//! How a user comes to a password without anybody else knowing it (zenml-wire.md 12).
//!
//! 1. An administrator makes or deactivates a user, or declares one, and is given a token.
//! 2. Whoever has the token chooses a password with it. What was stored for the token is replaced
//!    by what stands for the password in one write: of two who try at once, one is too late.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tracing::info;
use uuid::Uuid;

use super::{
    about,
    change_users::{
        allowed, chosen, fresh_activation, is_as, is_last_admin, is_stored, object, shown, store,
    },
    json, refusal,
    users::{find, rendered},
};
use crate::{
    auth::{
        credential::{ActivationToken, Credential, Password},
        directory::Origin,
        principal::{Principal, Refused},
    },
    http::{
        App, Caller, Refusal,
        changes::{Change, Done},
        extract::{ClientAddress, Json, NameOrId, Named, RequestId},
        layers::{ChangeOutcome, Changed},
        limiter::Attempt,
    },
    store::{
        State as Stored, Unavailable,
        registrar::{Object, UserUpdate},
    },
    wire,
};

/// `PUT /activate`: a server is never open to whoever comes first. Its first administrator is
/// declared.
pub(in crate::http) async fn activate_server() -> Refusal {
    Refusal::Illegal("The server is already active.")
}

/// `PUT /users/{name or id}/deactivate`.
pub(in crate::http) async fn deactivate(
    change: Change,
    Caller(caller): Caller,
    Named(wanted): Named,
) -> Result<Response, Refusal> {
    let work = move |app| shut_out(app, caller, wanted);
    change
        .run(Changed::DeactivateUser, Bytes::new(), work)
        .await
}

/// `PUT /users/{name or id}/activate`.
pub(in crate::http) async fn activate(
    State(app): State<App>,
    request: RequestId,
    address: ClientAddress,
    Named(wanted): Named,
    Json { value, .. }: Json<wire::change::UserUpdate>,
) -> Result<Response, Refusal> {
    let wish = Wish {
        wanted,
        said: about::said(&value)?,
        token: value.activation_token,
        password: value.password,
    };
    let user = wish.come_true(app.clone(), request, address).await?;
    let view = app.view()?;
    json(&rendered(find(&view.directory, &NameOrId::Id(user))?, true))
}

/// What somebody who has a token wants.
struct Wish {
    wanted: NameOrId,
    token: Option<SecretString>,
    password: Option<SecretString>,
    said: UserUpdate,
}

impl Wish {
    /// To its end, whatever becomes of the client: the token is good for one time only.
    async fn come_true(
        self,
        app: App,
        request: RequestId,
        address: ClientAddress,
    ) -> Result<Uuid, Refusal> {
        if app
            .settings()
            .is_some_and(|of| !of.scheme.takes_passwords())
        {
            return Err(Refusal::NoPasswords);
        }
        let task = tokio::spawn(async move {
            let activated = choose(&app, &self).await;
            let activated = activated.map_err(|refusal| unless_too_many(&app, address, refusal));
            report(&app, &request, activated.as_ref());
            activated
        });
        task.await.map_err(|_| Refusal::Unexpected)?
    }
}

/// The same for the page.
pub(in crate::http) async fn on_page(
    app: App,
    request: RequestId,
    address: ClientAddress,
    wanted: NameOrId,
    token: SecretString,
    password: SecretString,
) -> Result<(), Refusal> {
    let wish = Wish {
        wanted,
        token: Some(token),
        password: Some(password),
        said: UserUpdate::default(),
    };
    wish.come_true(app, request, address).await.map(drop)
}

/// The password is forgotten, and with it goes every token of the user.
async fn shut_out(app: App, caller: Principal, wanted: NameOrId) -> Result<Done, Refusal> {
    let (object, before, was_active) = {
        let view = app.view()?;
        let user = allowed(&view.directory, &caller, &wanted, "deactivate user")?;
        if user.id == caller.account {
            return Err(Refusal::Illegal("Cannot deactivate yourself."));
        }
        if is_last_admin(&view.directory, user) {
            return Err(Refusal::Illegal(
                "There has to be at least one active admin account. This is the only one and \
                 therefore it cannot be deactivated.",
            ));
        }
        let before = view.directory.credential(user).cloned();
        (object(user), before, user.active)
    };
    let id = object.uid;
    let change = |update| {
        let changed = app.registrar().update_user(object.clone(), update);
        let gone = || Refusal::NoUser(wanted.to_string());
        async move {
            changed
                .await
                .map_err(|why| refusal(why, || Refusal::Unexpected, gone))
        }
    };
    // Whether it is ours to change.
    change(UserUpdate::default()).await?;
    let (credential, token) = fresh_activation(&app, id)?;
    store(&app, id, before, credential.clone()).await?;
    if !was_active {
        // What keeps it out from now on is that it has no password.
        let active = Some(true);
        change(UserUpdate {
            active,
            ..UserUpdate::default()
        })
        .await?;
    }
    let look = |state: &Stored| {
        let user = state.directory.user(id)?;
        let done = is_stored(state, user, &credential) && user.active;
        done.then(|| shown(user, Some(&token)))
    };
    app.revoked(look)
        .await
        .unwrap_or(Err(Unavailable::Stale.into()))
}

async fn choose(app: &App, wish: &Wish) -> Result<Uuid, Refusal> {
    let token = wish.token.as_ref();
    let token = token.map_or("", |token| token.expose_secret());
    let token: ActivationToken = token.parse()?;
    let (user, stored) = redeemable(app, &wish.wanted, &token)?;
    let missing = Refusal::Malformed("password is required.");
    let password: Password = chosen(wish.password.as_ref().ok_or(missing)?)?;
    let credential = Credential::Password(app.hashed(user, password).await?);
    let replaced = app
        .registrar()
        .store_credential(user, Some(stored), credential.clone());
    let used = || Refused::BadActivation.into();
    replaced.await.map_err(|why| refusal(why, used, used))?;
    let look = |state: &Stored| {
        let found = state.directory.user(user)?;
        is_stored(state, found, &credential).then_some(object(found))
    };
    let found = app.seen(look).await.ok_or(Unavailable::Stale)?;
    introduce(app, found, &wish.said).await;
    Ok(user)
}

/// What the user says of itself beside its password, as the form of the dashboard has it. Where that
/// is declared, or cannot be written now, it stays as it is, and the answer shows that: the password
/// is set and the token used up, whatever becomes of the rest.
async fn introduce(app: &App, user: Object, said: &UserUpdate) {
    let id = user.uid;
    let look = |state: &Stored| is_as(state.directory.user(id)?, said).then_some(());
    if app.view().is_ok_and(|view| look(&view).is_some()) {
        return;
    }
    if app
        .registrar()
        .update_user(user, said.clone())
        .await
        .is_ok()
    {
        app.seen(look).await;
    }
}

/// Who has no right token is told so only as often as one address may fail. A right one is never
/// refused for others' wrong ones: 256 random bits are not guessed.
fn unless_too_many(app: &App, address: ClientAddress, refusal: Refusal) -> Refusal {
    let (Refusal::Credentials(Refused::BadActivation), Some(settings)) = (&refusal, app.settings())
    else {
        return refusal;
    };
    let counted = app.limiter().begin(&Attempt {
        rates: settings.login_rates,
        of_all: None,
        claim: None,
        address: address.0,
        at: app.now(),
    });
    counted.err().map_or(refusal, Refusal::from)
}

/// Whom a token lets choose a password now, and what is stored for it.
fn redeemable(
    app: &App,
    wanted: &NameOrId,
    token: &ActivationToken,
) -> Result<(Uuid, Arc<Credential>), Refusal> {
    let view = app.view()?;
    let user = find(&view.directory, wanted).map_err(|_| Refused::BadActivation)?;
    let stored = view
        .directory
        .credential(user)
        .ok_or(Refused::BadActivation)?;
    let good = match stored.as_ref() {
        Credential::Activation(activation) => {
            activation.is_of(view.keyring.pepper(), user.id, token)
                && app.now() < activation.expires()
        }
        Credential::Password(_) => false,
    };
    if !good || user.origin != Origin::Chosen {
        return Err(Refused::BadActivation.into());
    }
    if !user.active {
        let user = user.name.clone();
        return Err(Refused::InactiveUser { user }.into());
    }
    Ok((user.id, Arc::clone(stored)))
}

/// The audit line. Ids and closed words only.
fn report(app: &App, request: &RequestId, activated: Result<&Uuid, &Refusal>) {
    let outcome = match activated {
        Ok(_) => ChangeOutcome::Done,
        Err(refusal) if refusal.is_ours() => ChangeOutcome::Failed,
        Err(_) => ChangeOutcome::Refused,
    };
    app.metrics().changed(Changed::ActivateUser, outcome);
    let of = activated.map_or_else(|_| "-".to_owned(), ToString::to_string);
    info!(target: "zenop::audit", %request, of, ?outcome, "activation");
}

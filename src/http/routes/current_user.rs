//! Who a client is.

use axum::{extract::State, response::Response};
use jiff::Timestamp;
use uuid::Uuid;

use super::{json, users};
use crate::{
    auth::{
        directory::{Account, Directory},
        principal::{By, Principal, Refused},
    },
    http::{App, Caller, Refusal},
    wire::{
        Time,
        account::{User, UserBody, UserMetadata},
    },
};

/// `GET /current-user`: the caller in a user's shape, always hydrated.
pub(in crate::http) async fn show(
    State(app): State<App>,
    Caller(caller): Caller,
) -> Result<Response, Refusal> {
    let view = app.view()?;
    json(&rendered(&view.directory, &caller, app.now())?)
}

/// Somebody as others show them.
pub(super) fn envelope(directory: &Directory, id: Uuid, now: Timestamp) -> Option<User<'_>> {
    match directory.account(id) {
        Some(account) => Some(service_account(account, false, now)),
        None => Some(users::rendered(directory.user(id)?, false)),
    }
}

/// The caller, as it is shown to itself.
///
/// # Errors
/// If it is gone since it was let in.
pub(super) fn rendered<'a>(
    directory: &'a Directory,
    caller: &Principal,
    now: Timestamp,
) -> Result<User<'a>, Refused> {
    let shown = match caller.by {
        By::Key { .. } | By::Device { stamp: None, .. } => {
            let account = directory.account(caller.account);
            account.map(|account| service_account(account, true, now))
        }
        By::Session { .. } | By::Device { stamp: Some(_), .. } | By::Open => {
            let user = directory.user(caller.account);
            user.map(|user| users::to_itself(directory, user))
        }
    };
    shown.ok_or(Refused::Revoked)
}

fn service_account(account: &Account, hydrate: bool, now: Timestamp) -> User<'_> {
    let body = UserBody {
        created: Time(account.created),
        updated: Time(super::service_accounts::updated(account)),
        active: account.is_active(now),
        activation_token: None,
        full_name: "",
        email_opted_in: Some(false),
        is_service_account: true,
        is_admin: account.admin,
        default_project_id: None,
        avatar_url: None,
    };
    User::new(
        account.id,
        &account.name,
        body,
        hydrate.then(UserMetadata::default),
    )
}

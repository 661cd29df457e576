//! Who a client is.

use axum::{extract::State, response::Response};
use jiff::Timestamp;
use uuid::Uuid;

use super::json;
use crate::{
    auth::{
        directory::{Account, Directory},
        principal::Refused,
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
    let account = view.directory.account(caller.account);
    json(&user(account.ok_or(Refused::Revoked)?, true, app.now()))
}

/// Somebody as others show them.
pub(super) fn envelope(directory: &Directory, id: Uuid, now: Timestamp) -> Option<User<'_>> {
    Some(user(directory.account(id)?, false, now))
}

fn user(account: &Account, hydrate: bool, now: Timestamp) -> User<'_> {
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

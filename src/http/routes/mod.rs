//! One file per kind of thing that is asked for.
//!
//! A handler loads the view, decides, and renders before it lets the view go; it never waits
//! while it holds one.

pub(super) mod about;
pub(super) mod activation;
pub(super) mod api_keys;
pub(super) mod api_token;
pub(super) mod change_accounts;
pub(super) mod change_devices;
pub(super) mod change_keys;
pub(super) mod change_secrets;
pub(super) mod change_users;
pub(super) mod constants;
pub(super) mod current_user;
mod device_login;
pub(super) mod device_start;
pub(super) mod devices;
pub(super) mod health;
pub(super) mod info;
pub(super) mod jwks;
pub(super) mod login;
pub(super) mod secrets;
pub(super) mod service_accounts;
pub(super) mod users;
pub(super) mod verify;

use axum::{
    http::{HeaderName, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

use crate::store::registrar::{NotChanged, Update};

use super::{
    Refusal, list,
    list::{Column, Query},
};

/// No name is longer, in characters.
const MAX_NAME: usize = 255;
/// No description is longer, in characters.
const MAX_DESCRIPTION: usize = 512;

/// A name that an account or a key may be given.
fn checked_name(name: String) -> Result<String, Refusal> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME {
        return Err(Refusal::Malformed("name must have 1 to 255 characters."));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::Malformed("name must not have control characters."));
    }
    // A path takes it for an id.
    if Uuid::try_parse(&name).is_ok() {
        return Err(Refusal::Malformed("name must not be a UUID."));
    }
    Ok(name)
}

/// What an account or a key may be said to be for.
fn checked_description(text: String) -> Result<String, Refusal> {
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(odd) {
        return Err(Refusal::Malformed(
            "description must have at most 512 characters, and no control characters.",
        ));
    }
    Ok(text)
}

/// What of an update was given, if all of it may be.
fn checked_update(
    name: Option<String>,
    description: Option<String>,
    active: Option<bool>,
) -> Result<Update, Refusal> {
    Ok(Update {
        name: name.map(checked_name).transpose()?,
        description: description.map(checked_description).transpose()?,
        active,
    })
}

/// Why a change was not made, in the words of what was to be changed.
fn refusal(
    why: NotChanged,
    exists: impl FnOnce() -> Refusal,
    gone: impl FnOnce() -> Refusal,
) -> Refusal {
    match why {
        NotChanged::Exists => exists(),
        NotChanged::Gone => gone(),
        NotChanged::Declared(declared) => Refusal::Declared(declared),
        other => Refusal::NotChanged(other),
    }
}

/// What an answer in JSON says of itself.
const JSON: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

/// An answer in JSON.
fn json(body: &impl Serialize) -> Result<Response, Refusal> {
    let bytes = serde_json::to_vec(body).map_err(|_| Refusal::Unexpected)?;
    Ok((JSON, bytes).into_response())
}

/// What the query of a request asks of a list.
fn query<T>(uri: &axum::http::Uri, columns: &'static [Column<T>]) -> Result<Query<T>, Refusal> {
    list::Query::read(uri.query().unwrap_or_default(), columns)
}

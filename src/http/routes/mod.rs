//! One file per kind of thing that is asked for.
//!
//! A handler loads the view, decides, and renders before it lets the view go; it never waits
//! while it holds one.

pub(super) mod api_keys;
pub(super) mod constants;
pub(super) mod current_user;
pub(super) mod health;
pub(super) mod info;
pub(super) mod login;
pub(super) mod service_accounts;

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    Refusal, list,
    list::{Column, Query},
};

/// An answer in JSON.
fn json(body: &impl Serialize) -> Result<Response, Refusal> {
    let bytes = serde_json::to_vec(body).map_err(|_| Refusal::Unexpected)?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// What the query of a request asks of a list.
fn query<T>(uri: &axum::http::Uri, columns: &'static [Column<T>]) -> Result<Query<T>, Refusal> {
    list::Query::read(uri.query().unwrap_or_default(), columns)
}

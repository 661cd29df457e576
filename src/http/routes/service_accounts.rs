//! Service accounts (zenml-wire.md 8.1).

use axum::{extract::State, http::Uri, response::Response};
use jiff::Timestamp;

use super::{json, query};
use crate::{
    auth::directory::{Account, Directory},
    http::{
        App, Refusal,
        extract::{Hydrate, NameOrId, Named},
        list::{self, Column, Filter, Value},
    },
    wire::{
        Time,
        account::{ServiceAccount, ServiceAccountBody, ServiceAccountMetadata},
    },
};

const COLUMNS: &[Column<Account>] = &[
    Column::id("id", |a, _| Value::Id(a.id)),
    Column::time("created", |a, _| Value::Time(a.created)),
    Column::time("updated", |a, _| Value::Time(updated(a))),
    Column::text("name", |a, _| Value::Text(&a.name)),
    Column::text("description", |a, _| Value::Text(&a.description)),
    Column::bool("active", |a, now| Value::Bool(a.is_active(now))),
    Column::id("external_user_id", |_, _| Value::Null),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn filters() -> Vec<Filter> {
    list::filters(COLUMNS)
}

/// `GET /service_accounts`.
pub(in crate::http) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Refusal> {
    let query = query(&uri, COLUMNS)?;
    let (view, now) = (app.view()?, app.now());
    let page = query.page(view.directory.accounts(), now, |account| {
        rendered(account, query.hydrate, now)
    })?;
    json(&page)
}

/// `GET /service_accounts/{name or id}`.
pub(in crate::http) async fn show(
    State(app): State<App>,
    Named(wanted): Named,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let view = app.view()?;
    json(&rendered(
        find(&view.directory, &wanted)?,
        hydrate,
        app.now(),
    ))
}

/// An account by name or id.
///
/// # Errors
/// [`Refusal::NoAccount`].
pub(super) fn find<'a>(
    directory: &'a Directory,
    wanted: &NameOrId,
) -> Result<&'a Account, Refusal> {
    let found = match wanted {
        NameOrId::Id(id) => directory.account(*id),
        NameOrId::Name(name) => directory.account_by_name(name),
    };
    found.ok_or_else(|| Refusal::NoAccount(wanted.to_string()))
}

pub(super) fn rendered(account: &Account, hydrate: bool, now: Timestamp) -> ServiceAccount<'_> {
    let body = ServiceAccountBody {
        created: Time(account.created),
        updated: Time(updated(account)),
        full_name: "",
        active: account.is_active(now),
        avatar_url: None,
    };
    let metadata = hydrate.then_some(ServiceAccountMetadata {
        description: &account.description,
        external_user_id: None,
    });
    ServiceAccount::new(account.id, &account.name, body, metadata)
}

/// Of a custom resource only its making has a time.
pub(super) fn updated(account: &Account) -> Timestamp {
    account.created
}

//! API keys of a service account (zenml-wire.md 8.2). The key itself is not shown.

use axum::{extract::State, http::Uri, response::Response};
use jiff::Timestamp;

use super::{json, query, service_accounts};
use crate::{
    auth::directory::{Account, Directory, Key},
    http::{
        App, Refusal,
        extract::{Hydrate, Identified, NameOrId, OwnedBy},
        list::{self, Column, Filter, Value},
    },
    wire::{
        Time,
        account::{ApiKey, ApiKeyBody, ApiKeyMetadata},
    },
};

const COLUMNS: &[Column<Key>] = &[
    Column::id("id", |k, _| Value::Id(k.id)),
    Column::time("created", |k, _| Value::Time(k.created)),
    Column::time("updated", |k, _| Value::Time(updated(k))),
    Column::text("name", |k, _| Value::Text(&k.name)),
    Column::text("description", |k, _| Value::Text(&k.description)),
    Column::bool("active", |k, now| Value::Bool(k.is_active(now))),
    Column::time("last_login", |k, _| k.last_used().into()),
    Column::time("last_rotated", |k, _| k.last_rotated.into()),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn filters() -> Vec<Filter> {
    list::filters(COLUMNS)
}

/// `GET /service_accounts/{id}/api_keys`.
pub(in crate::http) async fn list(
    State(app): State<App>,
    Identified(account): Identified,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = query(&uri, COLUMNS)?;
    let (view, now) = (app.view()?, app.now());
    let account = service_accounts::find(&view.directory, &NameOrId::Id(account))?;
    let keys = view.directory.keys_of(account);
    let page = query.page(keys, now, |key| {
        rendered(account, key, None, query.hydrate, now)
    })?;
    json(&page)
}

/// `GET /service_accounts/{id}/api_keys/{name or id}`.
pub(in crate::http) async fn show(
    State(app): State<App>,
    OwnedBy(account, wanted): OwnedBy,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let view = app.view()?;
    let account = service_accounts::find(&view.directory, &NameOrId::Id(account))?;
    let key = find(&view.directory, account, &wanted)?;
    json(&rendered(account, key, None, hydrate, app.now()))
}

/// A key of an account by name or id. Of several of one name, the oldest.
///
/// # Errors
/// [`Refusal::NoKey`].
pub(super) fn find<'a>(
    directory: &'a Directory,
    account: &Account,
    wanted: &NameOrId,
) -> Result<&'a Key, Refusal> {
    let is_wanted = |key: &&Key| match wanted {
        NameOrId::Id(id) => key.id == *id,
        NameOrId::Name(name) => key.name == *name,
    };
    let found = directory
        .keys_of(account)
        .filter(is_wanted)
        .min_by_key(|key| (key.created, key.uid));
    found.ok_or_else(|| Refusal::NoKey {
        key: wanted.to_string(),
        account: account.id,
    })
}

/// A key as it is shown; its text only where it was just made.
pub(super) fn rendered<'a>(
    account: &'a Account,
    key: &'a Key,
    text: Option<&'a str>,
    hydrate: bool,
    now: Timestamp,
) -> ApiKey<'a> {
    let body = ApiKeyBody {
        created: Time(key.created),
        updated: Time(updated(key)),
        key: text,
        active: key.is_active(now),
        service_account: service_accounts::rendered(account, false, now),
    };
    let metadata = hydrate.then(|| ApiKeyMetadata {
        description: &key.description,
        retain_period_minutes: retained(key),
        last_login: key.last_used().map(Time),
        last_rotated: key.last_rotated.map(Time),
    });
    ApiKey::new(key.id, &key.name, body, metadata)
}

fn updated(key: &Key) -> Timestamp {
    key.last_rotated.unwrap_or(key.created)
}

/// How long the key before this one stays valid, in minutes from its replacement.
fn retained(key: &Key) -> i64 {
    let ends = key.generations.iter().filter_map(|g| g.valid_until);
    let replaced = key.last_rotated.zip(ends.max());
    replaced.map_or(0, |(at, end)| end.duration_since(at).as_mins().max(0))
}

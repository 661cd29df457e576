//! Users (zenml-wire.md 12). Who is no administrator sees only itself.

use axum::{extract::State, http::Uri, response::Response};
use serde_json::Map;

use super::{json, query};
use crate::{
    auth::directory::{Directory, User},
    http::{
        App, Caller, Refusal,
        extract::{Hydrate, NameOrId, Named},
        list::{self, Column, Filter, Value},
    },
    wire::{
        Time,
        account::{self, UserBody, UserMetadata},
    },
};

/// Until its user has this, ZenML's dashboard shows a survey in place of everything else, and again
/// after it: what is answered there is not kept here.
const SURVEYED: &str = "finished_onboarding_survey";

const COLUMNS: &[Column<User>] = &[
    Column::id("id", |user, _| Value::Id(user.id)),
    Column::time("created", |user, _| Value::Time(user.created)),
    Column::time("updated", |user, _| Value::Time(user.created)),
    Column::text("name", |user, _| Value::Text(&user.name)),
    Column::text("full_name", |user, _| Value::Text(&user.full_name)),
    Column::bool("active", |user, _| Value::Bool(user.is_active())),
    Column::bool("is_admin", |user, _| Value::Bool(user.admin)),
    Column::bool("email_opted_in", |user, _| {
        user.email_opted_in.map_or(Value::Null, Value::Bool)
    }),
    Column::id("external_user_id", |_, _| Value::Null),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn filters() -> Vec<Filter> {
    list::filters(COLUMNS)
}

/// `GET /users`.
pub(in crate::http) async fn list(
    State(app): State<App>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = query(&uri, COLUMNS)?;
    let (view, now) = (app.view()?, app.now());
    let directory = &view.directory;
    let all = directory.is_admin(&caller);
    let seen = directory
        .users()
        .filter(|user| all || user.id == caller.account);
    let page = query.page(seen, now, |user| rendered(user, query.hydrate))?;
    json(&page)
}

/// `GET /users/{name or id}`.
pub(in crate::http) async fn show(
    State(app): State<App>,
    Caller(caller): Caller,
    Named(wanted): Named,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let view = app.view()?;
    let directory = &view.directory;
    let found = find(directory, &wanted);
    if !directory.is_admin(&caller) && !found.as_ref().is_ok_and(|user| user.id == caller.account) {
        // Whether there is one is not told.
        return Err(Refusal::AdminsOnly("get other user"));
    }
    json(&rendered(found?, hydrate))
}

/// A user by name or id.
///
/// # Errors
/// [`Refusal::NoUser`].
pub(super) fn find<'a>(directory: &'a Directory, wanted: &NameOrId) -> Result<&'a User, Refusal> {
    let found = match wanted {
        NameOrId::Id(id) => directory.user(*id),
        NameOrId::Name(name) => directory.user_by_name(name),
    };
    found.ok_or_else(|| Refusal::NoUser(wanted.to_string()))
}

/// A user as it sees itself, with what is private.
pub(super) fn to_itself<'a>(directory: &Directory, user: &'a User) -> account::User<'a> {
    let set = directory
        .password(user)
        .map(|verifier| Time(verifier.set()));
    let metadata = UserMetadata {
        password_changed_at: set,
        email: user.email.as_deref(),
        user_metadata: Map::from_iter([(SURVEYED.to_owned(), true.into())]),
        ..UserMetadata::default()
    };
    let mut shown = rendered(user, false);
    shown.metadata = Some(metadata);
    shown
}

/// A user as others see it.
pub(super) fn rendered(user: &User, hydrate: bool) -> account::User<'_> {
    let body = UserBody {
        created: Time(user.created),
        updated: Time(user.created),
        active: user.is_active(),
        activation_token: None,
        full_name: &user.full_name,
        email_opted_in: user.email_opted_in,
        is_service_account: false,
        is_admin: user.admin,
        default_project_id: None,
        avatar_url: None,
    };
    let metadata = hydrate.then(UserMetadata::default);
    account::User::new(user.id, &user.name, body, metadata)
}

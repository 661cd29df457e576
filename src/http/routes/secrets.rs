//! Secrets (zenml-wire.md 9). Lists never show values. Somebody else's private secret is answered as
//! one that does not exist, whoever asks, after the same work.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{current_user, json, query};
use crate::{
    auth::{
        directory::Directory,
        shelf::{Delivered, Owner, Secret},
    },
    http::{
        App, Caller, Refusal,
        changes::Changer,
        extract::{Hydrate, Identified},
        list::{self, Column, Filter, Person, Value},
        once::Answer,
    },
    store::{
        self,
        vault::{NotRead, Place, Values},
    },
    wire::{
        Time,
        secret::{self, SecretBody, SecretMetadata, SecretResources},
    },
};

/// A secret, and whose it is.
struct Shown {
    secret: Arc<Secret>,
    owner: Option<Arc<Person>>,
}

const COLUMNS: &[Column<Shown>] = &[
    Column::id("id", |s, _| Value::Id(s.secret.id)),
    Column::time("created", |s, _| Value::Time(s.secret.created)),
    Column::time("updated", |s, _| Value::Time(s.secret.updated)),
    Column::text("name", |s, _| Value::Text(&s.secret.name)),
    Column::flag("private", |s, _| Value::Bool(s.secret.private)),
    Column::person("user", |s, _| {
        s.owner.as_deref().map_or(Value::Null, Value::Person)
    }),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn filters() -> Vec<Filter> {
    list::filters(COLUMNS)
}

/// `GET /secrets`.
pub(in crate::http) async fn list(
    State(app): State<App>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = query(&uri, COLUMNS)?;
    let (view, now) = (app.view()?, app.now());
    let directory = &view.directory;
    let mut people = BTreeMap::<Owner, Option<Arc<Person>>>::new();
    let mut person = |owner: &Owner| {
        if let Some(known) = people.get(owner) {
            return known.clone();
        }
        let found = person(directory, owner).map(Arc::new);
        people.insert(owner.clone(), found.clone());
        found
    };
    let seen: Vec<Shown> = directory
        .secrets_seen_by(caller.account)
        .map(|secret| Shown {
            owner: secret.owner.as_ref().and_then(&mut person),
            secret: Arc::clone(secret),
        })
        .collect();
    let page = query.page(seen.iter(), now, |shown| {
        let owner = shown.owner.as_ref().map(|owner| owner.id);
        rendered(&view, &shown.secret, owner, &[], query.hydrate, &app)
    })?;
    json(&page)
}

/// `GET /secrets/{id}`, with its values. Who reads them is logged.
pub(in crate::http) async fn show(
    reader: Changer,
    Identified(wanted): Identified,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let shown = shown(&reader.app, reader.caller, wanted, hydrate).await;
    reader.report_read(shown.as_ref().map(|_| wanted));
    Ok((super::JSON, shown?.to_vec()).into_response())
}

/// A secret with its values, as its caller may see it.
pub(in crate::http) async fn shown(
    app: &App,
    Caller(caller): Caller,
    wanted: Uuid,
    hydrate: bool,
) -> Result<Answer, Refusal> {
    let secret = find(&*app.view()?, wanted, caller.account)?;
    let values = read(app, &secret).await?;
    // It may have become somebody else's meanwhile.
    let view = app.view()?;
    let secret = find(&view, wanted, caller.account)?;
    answer(&view, &secret, &values, hydrate, app)
}

/// A secret that a viewer may see.
///
/// # Errors
/// [`Refusal::NoSecret`].
pub(super) fn find(
    view: &store::State,
    wanted: Uuid,
    viewer: Uuid,
) -> Result<Arc<Secret>, Refusal> {
    let found = view.directory.secret(wanted, viewer);
    found.cloned().ok_or(Refusal::NoSecret(wanted))
}

/// The values of a secret, wherever they are.
///
/// # Errors
/// If they cannot be read.
pub(super) async fn read(app: &App, secret: &Secret) -> Result<Values, Refusal> {
    let refused = |why| Refusal::NotRead {
        secret: secret.object.clone(),
        why,
    };
    let Some(Delivered { secret: name, keys }) = &secret.delivered else {
        return Err(refused(NotRead::Gone));
    };
    // What holds nothing needs not be read.
    if keys.is_empty() {
        return Ok(Values::default());
    }
    let place = Place {
        id: secret.id,
        secret: name.clone(),
        keys: keys.iter().map(|(key, _)| key.to_string()).collect(),
    };
    app.vault().read(place).await.map_err(refused)
}

/// The body of an answer that shows values.
///
/// # Errors
/// If a value is no text, which the wire has no way to show.
pub(super) fn answer(
    view: &store::State,
    secret: &Secret,
    values: &Values,
    hydrate: bool,
    app: &App,
) -> Result<Answer, Refusal> {
    let texts = values.0.iter().map(|(key, value)| {
        let text = std::str::from_utf8(value);
        let text = text.map_err(|_| Refusal::NotText(key.clone()));
        text.map(|text| (key.as_str(), text))
    });
    let values = texts.collect::<Result<Vec<_>, _>>()?;
    let owner = secret.owner.as_ref();
    let owner = owner.and_then(|owner| view.directory.owner_id(owner));
    let body = rendered(view, secret, owner, &values, hydrate, app);
    // The buffer is not to grow: what it leaves behind would not be wiped.
    let room = values
        .iter()
        .map(|(key, value)| 6 * (key.len() + value.len()) + 8);
    let mut answer = Vec::with_capacity(4096 + room.sum::<usize>());
    serde_json::to_writer(&mut answer, &body).map_err(|_| Refusal::Unexpected)?;
    Ok(Answer::new(answer))
}

fn rendered<'a>(
    view: &'a store::State,
    secret: &'a Secret,
    owner: Option<Uuid>,
    values: &[(&'a str, &'a str)],
    hydrate: bool,
    app: &App,
) -> secret::Secret<'a> {
    let body = SecretBody {
        created: Time(secret.created),
        updated: Time(secret.updated),
        user_id: owner,
        private: secret.private,
        values: values.iter().copied().collect(),
    };
    let metadata = hydrate.then(SecretMetadata::default);
    let user = owner.and_then(|id| current_user::envelope(&view.directory, id, app.now()));
    secret::Secret {
        resources: Some(SecretResources { user }),
        ..secret::Secret::new(secret.id, &secret.name, body, metadata)
    }
}

fn person(directory: &Directory, owner: &Owner) -> Option<Person> {
    let id = directory.owner_id(owner)?;
    let (name, full_name) = match directory.account(id) {
        Some(account) => (account.name.clone(), String::new()),
        None => {
            let user = directory.user(id)?;
            (user.name.clone(), user.full_name.clone())
        }
    };
    Some(Person {
        name,
        full_name,
        id,
    })
}

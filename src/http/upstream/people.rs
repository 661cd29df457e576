//! The users and accounts of this server as the ZenML server has them: made when they first come or
//! were declared, changed when they change, gone when they go.
//!
//! They are found there by kind and name, and have ids of that server's own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::{
        HeaderValue, Method, Request, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    super::{App, Refusal, Unreachable},
    ids::Table,
};
use crate::{
    auth::{
        token::Workload,
        upstream::{ADMINISTRATOR, PASSWORD},
    },
    store::State,
};

/// The longest answer about people that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// How long one may take.
const ANSWER: Duration = Duration::from_secs(15);

/// How many of a list are asked for at once.
const PAGE: usize = 100;

/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(500);

/// When to try again what did not work, and when to look at everything anew.
const AGAIN: Duration = Duration::from_secs(5);
const RESYNC: Duration = Duration::from_secs(600);

/// What is known of people there.
#[derive(Debug, Default)]
pub(in crate::http) struct People {
    known: RwLock<Known>,
    /// Held by who changes something there.
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Known {
    by_ours: HashMap<Uuid, Person>,
    swaps: Arc<Swaps>,
}

/// Ids of ours and of theirs, each way.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    pub(super) to_theirs: Arc<Table>,
    pub(super) to_ours: Arc<Table>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Person {
    theirs: Uuid,
    traits: Traits,
}

/// The administrator's id, once it logged in.
#[derive(Debug, Default)]
struct Desk {
    administrator: Option<Uuid>,
}

/// What a person is to be like there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Traits {
    kind: Kind,
    name: String,
    /// The full name of a user, what an account is for.
    text: String,
    active: bool,
    admin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    User,
    Account,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Self::User => "/api/v1/users",
            Self::Account => "/api/v1/service_accounts",
        }
    }
}

/// What the server says of a person.
#[derive(Debug, Deserialize)]
struct Theirs {
    id: Uuid,
    name: String,
    body: TheirBody,
}

#[derive(Debug, Deserialize)]
struct TheirBody {
    active: bool,
    #[serde(default)]
    is_admin: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    total_pages: usize,
    items: Vec<Theirs>,
}

/// Why people could not be set up there.
#[derive(Debug, Error)]
enum Trouble {
    #[error("{0}")]
    Unreachable(#[from] Unreachable),
    #[error("it answers {method} {path} with {status}")]
    Refused {
        method: Method,
        path: String,
        status: StatusCode,
    },
    #[error("its answer cannot be read")]
    Unreadable,
    #[error(
        "it does not let its administrator {ADMINISTRATOR} in: its database was first used with other \
         secrets, or without zenop"
    )]
    NoAdministrator,
    #[error("this server does not know its own state now")]
    Unavailable,
    #[error("{ADMINISTRATOR} is the name of zenop itself there")]
    Reserved,
}

impl People {
    pub(super) fn tables(&self) -> Arc<Swaps> {
        Arc::clone(&self.known.read().swaps)
    }

    /// The id there of somebody who is let in here.
    ///
    /// # Errors
    /// If it cannot be set up there now.
    pub(super) async fn of(&self, app: &App, ours: Uuid) -> Result<Uuid, Refusal> {
        let traits = traits(&*app.view()?, ours).ok_or(Refusal::NoUpstream)?;
        if let Some(theirs) = self.is(ours, &traits) {
            return Ok(theirs);
        }
        let mut desk = self.desk.lock().await;
        let set = self.set(app, &mut desk, ours, traits).await;
        set.map_err(|why| {
            tracing::warn!(account = %ours, error = %why, "cannot be set up at the ZenML server");
            Refusal::NoUpstream
        })
    }

    /// The server knows that person no more.
    pub(super) fn forget(&self, ours: Uuid) {
        self.known.write().change(|by_ours| {
            by_ours.remove(&ours);
        });
    }

    fn is(&self, ours: Uuid, traits: &Traits) -> Option<Uuid> {
        let known = self.known.read();
        let person = known.by_ours.get(&ours)?;
        (person.traits == *traits).then_some(person.theirs)
    }

    /// Sees to it that a person is there, and is as it is to be.
    async fn set(
        &self,
        app: &App,
        desk: &mut Desk,
        ours: Uuid,
        traits: Traits,
    ) -> Result<Uuid, Trouble> {
        // Somebody else may have done it meanwhile.
        if let Some(theirs) = self.is(ours, &traits) {
            return Ok(theirs);
        }
        if traits.name == ADMINISTRATOR && traits.kind == Kind::User {
            return Err(Trouble::Reserved);
        }
        let before = self.known.read().by_ours.get(&ours).cloned();
        let there = match &before {
            Some(person) => {
                desk.find(app, traits.kind, &person.theirs.to_string())
                    .await?
            }
            None => None,
        };
        let there = match there {
            Some(there) => Some(there),
            None => {
                let found = desk.find(app, traits.kind, &traits.name).await?;
                // A name that is the text of an id finds whoever has that id.
                found.filter(|there| there.name == traits.name)
            }
        };
        let there = match there {
            Some(there) => there,
            None => desk.make(app, ours, &traits).await?,
        };
        let theirs = there.id;
        if !traits.are_of(&there) || before.is_some_and(|person| person.traits != traits) {
            desk.change(app, theirs, &traits).await?;
        }
        self.known.write().change(|by_ours| {
            by_ours.insert(ours, Person { theirs, traits });
        });
        Ok(theirs)
    }
}

impl Known {
    fn change(&mut self, change: impl FnOnce(&mut HashMap<Uuid, Person>)) {
        change(&mut self.by_ours);
        let pairs = || {
            self.by_ours
                .iter()
                .map(|(ours, person)| (*ours, person.theirs))
        };
        self.swaps = Arc::new(Swaps {
            to_theirs: Arc::new(pairs().collect()),
            to_ours: Arc::new(pairs().map(|(ours, theirs)| (theirs, ours)).collect()),
        });
    }
}

impl Traits {
    /// As a request says them.
    fn body(&self) -> Value {
        match self.kind {
            Kind::User => json!({
                "name": self.name, "full_name": self.text, "is_admin": self.admin,
                "active": self.active,
            }),
            Kind::Account => {
                json!({"name": self.name, "description": self.text, "active": self.active})
            }
        }
    }

    fn are_of(&self, there: &Theirs) -> bool {
        let admin = self.kind == Kind::Account || self.admin == there.body.is_admin;
        self.name == there.name && self.active == there.body.active && admin
    }
}

/// What somebody of ours is to be like there.
fn traits(state: &State, id: Uuid) -> Option<Traits> {
    let directory = &state.directory;
    let user = directory.user(id).map(|user| Traits {
        kind: Kind::User,
        name: user.name.clone(),
        text: user.full_name.clone(),
        active: user.active,
        admin: user.admin,
    });
    user.or_else(|| {
        directory.account(id).map(|account| Traits {
            kind: Kind::Account,
            name: account.name.clone(),
            text: account.description.clone(),
            active: account.active,
            // ZenML has no administrators among accounts.
            admin: false,
        })
    })
}

impl Desk {
    async fn find(&mut self, app: &App, kind: Kind, name: &str) -> Result<Option<Theirs>, Trouble> {
        let path = format!("{}/{}", kind.path(), encoded(name));
        match self.ask(app, Method::GET, &path, None).await {
            Ok(found) => read(found).map(Some),
            Err(Trouble::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(None),
            Err(why) => Err(why),
        }
    }

    async fn make(&mut self, app: &App, ours: Uuid, traits: &Traits) -> Result<Theirs, Trouble> {
        let mut body = traits.body();
        if traits.kind == Kind::User {
            // Without a password it would wait for its activation; nobody ever learns this one.
            let view = app.view().map_err(|_| Trouble::Unavailable)?;
            let password = view.keyring.pepper().of_upstream(&format!("user {ours}"));
            if let Value::Object(fields) = &mut body {
                fields.insert("password".into(), json!(*password));
            }
        }
        read(
            self.ask(app, Method::POST, traits.kind.path(), Some(body))
                .await?,
        )
    }

    async fn change(&mut self, app: &App, theirs: Uuid, traits: &Traits) -> Result<(), Trouble> {
        let path = format!("{}/{theirs}", traits.kind.path());
        self.ask(app, Method::PUT, &path, Some(traits.body()))
            .await
            .map(drop)
    }

    /// Somebody who is no more here. Who owns something there stays, and is not let in.
    async fn remove(&mut self, app: &App, kind: Kind, theirs: Uuid) -> Result<(), Trouble> {
        let path = format!("{}/{theirs}", kind.path());
        match self.ask(app, Method::DELETE, &path, None).await {
            Ok(_) => Ok(()),
            Err(Trouble::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(()),
            Err(Trouble::Refused { .. }) => {
                let body = json!({"active": false});
                self.ask(app, Method::PUT, &path, Some(body))
                    .await
                    .map(drop)
            }
            Err(why) => Err(why),
        }
    }

    /// All of a kind.
    async fn all(&mut self, app: &App, kind: Kind) -> Result<Vec<Theirs>, Trouble> {
        let (mut all, mut page) = (Vec::new(), 1);
        loop {
            let path = format!("{}?size={PAGE}&page={page}", kind.path());
            let got: Page = read(self.ask(app, Method::GET, &path, None).await?)?;
            all.extend(got.items);
            if page >= got.total_pages {
                return Ok(all);
            }
            page += 1;
        }
    }

    /// Asks for something as the administrator.
    async fn ask(
        &mut self,
        app: &App,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Trouble> {
        let administrator = match self.administrator {
            Some(id) => id,
            None => *self.administrator.insert(log_in(app).await?),
        };
        let token = app.upstream_token(administrator, Workload::default());
        let token = token.map_err(|_| Trouble::Unavailable)?;
        let body = body.map(|body| ("application/json", body.to_string()));
        let asked = ask(app, method, path, Some(token), body).await;
        if matches!(&asked, Err(Trouble::Refused { status, .. }) if *status == StatusCode::UNAUTHORIZED)
        {
            // Another database than before: log in anew.
            self.administrator = None;
        }
        asked
    }
}

/// The administrator's id, which is asked for with its password.
async fn log_in(app: &App) -> Result<Uuid, Trouble> {
    #[derive(Deserialize)]
    struct Grant {
        access_token: String,
    }
    let form = {
        let view = app.view().map_err(|_| Trouble::Unavailable)?;
        let password = view.keyring.pepper().of_upstream(PASSWORD);
        // Hex needs no encoding.
        format!(
            "grant_type=password&username={ADMINISTRATOR}&password={}",
            *password
        )
    };
    let body = Some(("application/x-www-form-urlencoded", form));
    let grant = ask(app, Method::POST, "/api/v1/login", None, body).await;
    let grant: Grant = match grant {
        Err(Trouble::Refused { status, .. }) if status.is_client_error() => {
            return Err(Trouble::NoAdministrator);
        }
        grant => read(grant?)?,
    };
    let token = HeaderValue::from_str(&format!("Bearer {}", grant.access_token));
    let token = token.map_err(|_| Trouble::Unreadable)?;
    let me: Theirs = read(ask(app, Method::GET, "/api/v1/current-user", Some(token), None).await?)?;
    Ok(me.id)
}

async fn ask(
    app: &App,
    method: Method,
    path: &str,
    token: Option<HeaderValue>,
    body: Option<(&'static str, String)>,
) -> Result<Value, Trouble> {
    let upstream = app.upstream().ok_or(Trouble::Unavailable)?;
    let mut request = Request::builder().method(method.clone()).uri(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request = match body {
        Some((kind, text)) => request.header(CONTENT_TYPE, kind).body(Body::from(text)),
        None => request.body(Body::empty()),
    };
    let request = request.map_err(|_| Trouble::Unreadable)?;
    let asked = async {
        let answer = upstream.send(request).await?;
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), MAX_ANSWER).await;
        Ok((status, bytes.map_err(|_| Trouble::Unreadable)?))
    };
    let asked = tokio::time::timeout(ANSWER, asked).await;
    let (status, bytes) = asked.unwrap_or_else(|_| {
        let slow = "it takes too long".to_owned();
        Err(Trouble::Unreachable(Unreachable(slow)))
    })?;
    if !status.is_success() {
        let path = path.to_owned();
        return Err(Trouble::Refused {
            method,
            path,
            status,
        });
    }
    match bytes.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_slice(&bytes).map_err(|_| Trouble::Unreadable),
    }
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Trouble> {
    serde_json::from_value(value).map_err(|_| Trouble::Unreadable)
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl App {
    /// Keeps the people of the ZenML server as ours are, for ever. Without one it ends at once.
    pub async fn keep_people(&self) {
        if self.upstream().is_none() {
            return;
        }
        let mut changed = self.store().changed();
        let mut is_whole = true;
        loop {
            let agreed = self.people().agree(self, is_whole).await;
            let next = match &agreed {
                Ok(()) => RESYNC,
                Err(why) => {
                    tracing::debug!(error = %why, "people of the ZenML server are not as ours yet");
                    AGAIN
                }
            };
            match tokio::time::timeout(next, changed.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) => {
                    is_whole &= agreed.is_err();
                    tokio::time::sleep(GATHER).await;
                }
                // Nothing changed here for a while; it may have there.
                Err(_) => is_whole = true,
            }
            changed.mark_unchanged();
        }
    }
}

impl People {
    /// One round: who is here is there, who went is gone; and in a whole one, who is there and not here
    /// is let in no more.
    async fn agree(&self, app: &App, is_whole: bool) -> Result<(), Trouble> {
        let ours: Vec<(Uuid, Traits)> = {
            let view = app.view().map_err(|_| Trouble::Unavailable)?;
            let users = view.directory.users().map(|user| user.id);
            let accounts = view.directory.accounts().map(|account| account.id);
            let ids: HashSet<Uuid> = users.chain(accounts).collect();
            ids.into_iter()
                .filter_map(|id| Some((id, traits(&view, id)?)))
                .collect()
        };
        let here: HashSet<Uuid> = ours.iter().map(|(id, _)| *id).collect();
        let gone: Vec<(Uuid, Person)> = {
            let known = self.known.read();
            let gone = known.by_ours.iter().filter(|(id, _)| !here.contains(id));
            gone.map(|(id, person)| (*id, person.clone())).collect()
        };
        for (id, person) in gone {
            let mut desk = self.desk.lock().await;
            desk.remove(app, person.traits.kind, person.theirs).await?;
            self.forget(id);
        }
        for (id, traits) in &ours {
            if self.is(*id, traits).is_some() {
                continue;
            }
            let mut desk = self.desk.lock().await;
            match self.set(app, &mut desk, *id, traits.clone()).await {
                Err(Trouble::Reserved) => {
                    tracing::warn!(
                        user = traits.name,
                        "not at the ZenML server: {}",
                        Trouble::Reserved
                    );
                }
                set => drop(set?),
            }
        }
        match is_whole {
            true => self.shut_out(app, &ours).await,
            false => Ok(()),
        }
    }

    /// Who is there and not here is made inactive.
    async fn shut_out(&self, app: &App, ours: &[(Uuid, Traits)]) -> Result<(), Trouble> {
        let named: HashSet<(Kind, &str)> = ours.iter().map(|(_, t)| (t.kind, &*t.name)).collect();
        for kind in [Kind::User, Kind::Account] {
            let mut desk = self.desk.lock().await;
            for other in desk.all(app, kind).await? {
                let is_ours = named.contains(&(kind, &*other.name));
                let is_own = Some(other.id) == desk.administrator;
                if is_ours || is_own || !other.body.active {
                    continue;
                }
                let path = format!("{}/{}", kind.path(), other.id);
                let body = json!({"active": false});
                desk.ask(app, Method::PUT, &path, Some(body)).await?;
                tracing::info!(
                    name = other.name,
                    "made inactive at the ZenML server: nobody declares it"
                );
            }
        }
        Ok(())
    }
}

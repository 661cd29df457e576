//! A server in memory and requests to it, in this process.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, Response, StatusCode, header::AUTHORIZATION, request::Builder},
};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;
use zenop::{
    auth::api_key::ApiKey,
    http::{App, Ground, Options, Upstream},
    store::{MemoryStore, State},
};

use super::support;

/// The time that all servers of these tests believe in. Every test asks `now` for its own.
pub fn now() -> Timestamp {
    support::created() + SignedDuration::from_hours(24)
}

/// A server with one account `ci` of one key `default`, and what tests need of it.
pub struct Server {
    pub store: Arc<MemoryStore>,
    pub router: Router,
    pub registry: Registry,
    pub account: Uuid,
    pub key: ApiKey,
}

impl Server {
    pub fn new() -> Self {
        Self::with(Options::default(), now)
    }

    pub fn with(options: Options, clock: fn() -> Timestamp) -> Self {
        Self::made(options, clock, None)
    }

    /// Before a ZenML server.
    pub fn before(upstream: Arc<dyn Upstream>) -> Self {
        Self::made(Options::default(), now, Some(upstream))
    }

    fn made(
        options: Options,
        clock: fn() -> Timestamp,
        upstream: Option<Arc<dyn Upstream>>,
    ) -> Self {
        let store = Arc::new(support::empty());
        let mut made = None;
        store.change(|state| {
            let account = support::add_account(state, 1, "ci");
            made = Some((account, support::add_key(state, account, 1, "default")));
        });
        let (account, key) = made.unwrap();
        let mut registry = Registry::default();
        let ground = Ground {
            upstream,
            ..support::ground(&store, clock)
        };
        let app = App::new(ground, &mut registry, options);
        Self {
            router: app.router(),
            store,
            registry,
            account,
            key,
        }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.store.change(change)
    }

    /// Replaces the account by one that is changed.
    pub fn change_account(&self, change: impl FnOnce(&mut zenop::auth::directory::Account)) {
        self.change(|state| {
            let mut account = state.directory.remove_account(self.account).unwrap();
            change(&mut account);
            state.directory.put_account(account);
        });
    }

    /// Replaces the key by one that is changed.
    pub fn change_key(&self, change: impl FnOnce(&mut zenop::auth::directory::Key)) {
        self.change(|state| {
            let mut key = state.directory.remove_key(self.key.id).unwrap();
            change(&mut key);
            state.directory.put_key(key);
        });
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap())
            .await
    }

    /// A GET with a bearer credential.
    pub async fn get_as(&self, credential: &str, path: &str) -> Answer {
        let request = request(Method::GET, path).header(AUTHORIZATION, bearer(credential));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn login(&self, key: &str) -> Answer {
        let form = [("grant_type", "zenml-api-key"), ("password", key)];
        self.post_form("/api/v1/login", &serde_urlencoded::to_string(form).unwrap())
            .await
    }

    pub async fn post_form(&self, path: &str, form: &str) -> Answer {
        let request = request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    /// A token of the key.
    pub async fn token(&self) -> String {
        let answer = self.login(&self.key.text()).await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }
}

pub fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path)
}

pub fn bearer(credential: &str) -> String {
    format!("Bearer {credential}")
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: String,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a body in JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, the headers that differ between answers, and body.
    pub fn shown(&self) -> String {
        let of_errors = [
            "www-authenticate",
            "retry-after",
            "allow",
            "x-request-id",
            "connection",
        ];
        let mut shown = format!("{}\n", self.status);
        for name in ["content-type"].into_iter().chain(of_errors) {
            if let Some(value) = self.header(name) {
                shown += &format!("{name}: {value}\n");
            }
        }
        shown + "\n" + &self.body
    }

    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

static SHIFT: AtomicI64 = AtomicI64::new(0);

/// A clock that one test moves. Only one test may.
pub fn moved() -> Timestamp {
    now() + SignedDuration::from_secs(SHIFT.load(Ordering::SeqCst))
}

/// Moves [`moved`].
pub fn shift(seconds: i64) {
    SHIFT.store(seconds, Ordering::SeqCst);
}

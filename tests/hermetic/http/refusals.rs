//! The whole answer of every refusal.

use axum::{
    body::Body,
    http::{Method, Request},
};

use tokio::sync::watch;
use zenop::{
    http::{App, Options},
    store::{Settings, Store, Unavailable, View},
};

use super::{
    client::{Answer, Server, bearer, request},
    support,
};

/// An answer with a name of its own for the request.
async fn traced(server: &Server, request: axum::http::request::Builder) -> Answer {
    let request = request.header("x-request-id", "req-1");
    server.send(request.body(Body::empty()).unwrap()).await
}

macro_rules! shown {
    ($name:literal, $answer:expr) => {
        insta::assert_snapshot!($name, $answer.shown())
    };
}

#[tokio::test]
async fn of_credentials() {
    let server = Server::new();
    let me = || request(Method::GET, "/api/v1/current-user");
    shown!("no-credential", traced(&server, me()).await);
    let bad = me().header("authorization", "Bearer eyJ");
    shown!("bad-token", traced(&server, bad).await);
    let bad = me().header("authorization", "Bearer ZENKEY_x");
    shown!("bad-key", traced(&server, bad).await);
    let token = server.token().await;
    server.change_key(|key| key.active = false);
    let inactive = me().header("authorization", bearer(&token));
    shown!("inactive-key", traced(&server, inactive).await);
    server.change(|state| drop(state.directory.remove_key(server.key.id)));
    let revoked = me().header("authorization", bearer(&token));
    shown!("revoked", traced(&server, revoked).await);
    server.store.set_unavailable(Some(Unavailable::Stale));
    let stale = me().header("authorization", bearer(&token));
    shown!("stale", traced(&server, stale).await);
}

#[tokio::test]
async fn of_what_is_asked_for() {
    let server = Server::new();
    let token = server.token().await;
    let account = format!("/api/v1/service_accounts/{}", server.account);
    let cases = [
        ("no-account", "/api/v1/service_accounts/nosuch".into()),
        (
            "no-account-id",
            "/api/v1/service_accounts/00000000-0000-4000-8000-000000000000".into(),
        ),
        (
            "no-account-quotes",
            "/api/v1/service_accounts/it's%20%22x%22%0A".into(),
        ),
        ("no-key", format!("{account}/api_keys/nosuch")),
        (
            "account-by-name",
            "/api/v1/service_accounts/ci/api_keys".into(),
        ),
        ("no-project", "/api/v1/projects/nosuch".into()),
        (
            "no-stack",
            "/api/v1/stacks/00000000-0000-4000-8000-000000000000".into(),
        ),
        ("stack-by-name", "/api/v1/stacks/default".into()),
        ("not-utf8", "/api/v1/service_accounts/%ff".into()),
        ("no-page", "/api/v1/service_accounts?page=99&size=2".into()),
        ("bad-page", "/api/v1/service_accounts?page=0".into()),
        ("bad-size", "/api/v1/service_accounts?size=10001".into()),
        (
            "bad-hydrate",
            "/api/v1/service_accounts/ci?hydrate=2".into(),
        ),
        (
            "bad-operator",
            "/api/v1/service_accounts?logical_operator=OR".into(),
        ),
        ("bad-sort", "/api/v1/service_accounts?sort_by=nosuch".into()),
        (
            "bad-date",
            "/api/v1/service_accounts?created=2026-01-01".into(),
        ),
        ("bad-list", "/api/v1/service_accounts?name=oneof:ci".into()),
        ("bad-bool", "/api/v1/service_accounts?active=maybe".into()),
        ("unknown-path", "/api/v1/nosuch".into()),
        ("trailing-slash", "/api/v1/service_accounts/".into()),
    ];
    for (name, path) in cases {
        let path: String = path;
        let get = request(Method::GET, &path).header("authorization", bearer(&token));
        insta::assert_snapshot!(name, traced(&server, get).await.shown());
    }
}

#[tokio::test]
async fn of_methods_and_bodies() {
    let server = Server::new();
    shown!("admins-only", {
        let token = server.token().await;
        let post = request(Method::POST, "/api/v1/service_accounts");
        traced(&server, post.header("authorization", bearer(&token))).await
    });
    shown!(
        "no-method",
        traced(&server, request(Method::PUT, "/api/v1/service_accounts")).await
    );
    shown!(
        "no-head",
        traced(&server, request(Method::HEAD, "/api/v1/info")).await
    );
    shown!(
        "no-options",
        traced(&server, request(Method::OPTIONS, "/api/v1/info")).await
    );
    shown!(
        "unknown-path-post",
        traced(&server, request(Method::POST, "/api/v1/nosuch")).await
    );
    let preflight = request(Method::OPTIONS, "/api/v1/info")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "GET");
    shown!("preflight", traced(&server, preflight).await);
    let upload = request(Method::POST, "/api/v1/login")
        .header("content-type", "multipart/form-data; boundary=x");
    shown!("upload", traced(&server, upload).await);
    let long = request(Method::GET, "/api/v1/info").header("content-length", "65537");
    shown!("too-large", traced(&server, long).await);
}

#[tokio::test]
async fn of_logins() {
    let server = Server::new();
    let forms = [
        ("grant-unknown", "grant_type=bogus-ZENKEY_&password=x"),
        ("grant-external", "grant_type=zenml-external"),
        ("grant-password", "username=x&password=y"),
        ("grant-device", "device_code=x&client_id=y"),
        ("grant-none", "x=y"),
        ("key-missing", "grant_type=zenml-api-key&password="),
        ("key-malformed", "password=ZENKEY_x"),
        ("field-twice", "password=x&password=y"),
    ];
    for (name, form) in forms {
        let request = request(Method::POST, "/api/v1/login")
            .header("x-request-id", "req-1")
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Body::from(form));
        insta::assert_snapshot!(name, server.send(request.unwrap()).await.shown());
    }
    let json = |body: Body| -> Request<Body> {
        let request = request(Method::POST, "/api/v1/login");
        request
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    };
    let key = format!(
        r#"{{"grant_type":"zenml-api-key","password":"{}"}}"#,
        *server.key.text()
    );
    shown!("login-json", server.send(json(Body::from(key))).await);
    let unframed = Body::from_stream(futures::stream::iter(
        (0..17).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024])),
    ));
    shown!("login-too-large-chunked", server.send(json(unframed)).await);
    shown!(
        "login-too-large",
        server.send(json(Body::from(vec![b'x'; 16385]))).await
    );
    let broken = Body::from_stream(futures::stream::iter([
        Ok(vec![b'x']),
        Err(std::io::Error::other("gone")),
    ]));
    shown!("login-broken", server.send(json(broken)).await);
}

/// No text repeats what was sent, except names that a caller asked for.
#[tokio::test]
async fn repeat_no_input() {
    let server = Server::new();
    let token = server.token().await;
    let canary = "kanarienvogel";
    for query in [
        "page=",
        "size=",
        "hydrate=",
        "logical_operator=",
        "sort_by=",
        "created=",
        "active=",
        "name=oneof:",
        "id=oneof:",
        "name=in:",
        "active=contains:",
        "created=in:",
        "id=isnull:",
    ] {
        let path = format!("/api/v1/service_accounts?{query}{canary}");
        let answer = server.get_as(&token, &path).await.expect(422);
        assert!(!answer.body.contains(canary), "{}", answer.body);
    }
}

#[tokio::test]
async fn bear_the_clients_name_of_the_request_or_ours() {
    let server = Server::new();
    let ours = |id: &str| id.len() == 8 && id.chars().all(|c| c.is_ascii_hexdigit());
    let long = "x".repeat(65);
    for (given, taken) in [
        ("a-B_3.c", true),
        ("", false),
        ("a b", false),
        (&*long, false),
    ] {
        let request = request(Method::GET, "/api/v1/current-user")
            .header("authorization", "Bearer x")
            .header("x-request-id", given);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(id == given, taken, "{id}");
        assert!(taken || ours(id), "{id}");
    }
}

/// Its every view panics.
struct Broken(std::sync::Arc<Settings>);

impl Store for Broken {
    fn view(&self) -> Result<View<'_>, Unavailable> {
        panic!("a view that panics, for a test")
    }

    fn settings(&self) -> Option<std::sync::Arc<Settings>> {
        Some(self.0.clone())
    }

    fn changed(&self) -> watch::Receiver<()> {
        watch::Sender::new(()).subscribe()
    }
}

#[tokio::test]
async fn t14_a_panic_is_a_500_and_the_server_lives() {
    let store = std::sync::Arc::new(Broken(support::settings().into()));
    let mut server = Server::new();
    let mut registry = prometheus_client::registry::Registry::default();
    let mut ground = support::ground(&server.store, super::client::now);
    ground.store = store;
    server.router = App::new(ground, &mut registry, Options::default()).router();
    let get = request(Method::GET, "/api/v1/current-user").header("authorization", "Bearer x");
    let answer = traced(&server, get).await.expect(500);
    shown!("panic", answer);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    server.login(&server.key.text()).await.expect(500);
    server.get("/api/v1/info").await.expect(200);
}

/// It has seen nothing yet.
struct Starting;

impl Store for Starting {
    fn view(&self) -> Result<View<'_>, Unavailable> {
        Err(Unavailable::NotSynced)
    }

    fn settings(&self) -> Option<std::sync::Arc<Settings>> {
        None
    }

    fn changed(&self) -> watch::Receiver<()> {
        watch::Sender::new(()).subscribe()
    }
}

#[tokio::test]
async fn of_a_server_that_has_seen_nothing_yet() {
    let mut server = Server::new();
    let mut registry = prometheus_client::registry::Registry::default();
    let store = std::sync::Arc::new(Starting);
    let mut ground = support::ground(&server.store, super::client::now);
    ground.store = store;
    server.router = App::new(ground, &mut registry, Options::default()).router();
    shown!(
        "starting",
        traced(&server, request(Method::GET, "/api/v1/info")).await
    );
    let answer = server.login(&server.key.text()).await.expect(503);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("server"), None);
    server.get("/ready").await.expect(503);
    server.get("/health").await.expect(200);
}

//! What goes to the ZenML server behind the sidecar, and what comes back. The server of these tests
//! writes down what it is asked; the real one is in tests/client/upstream.rs.

use std::sync::{Arc, Mutex};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION},
};
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::http::{Unreachable, Upstream};

use super::{
    client::{Answer, Server, bearer, request},
    limits::set,
};

const ADMINISTRATOR: Uuid = Uuid::from_u128(0xad);
const THEIRS: Uuid = Uuid::from_u128(0x7e_0000_0000);
const MADE: &str =
    r#"{"id": "00000000-0000-0000-0000-007e00000000", "name": "ci", "body": {"active": true}}"#;

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Writes down what it is asked.
#[derive(Default)]
struct Notebook {
    asked: Mutex<Vec<Asked>>,
    knows_ci: Mutex<bool>,
    is_gone: Mutex<bool>,
    /// It finds somebody else by the name of our account.
    finds_another: Mutex<bool>,
}

impl Notebook {
    fn answer(&self, asked: &Asked) -> (StatusCode, String) {
        let said = |body: Value| (StatusCode::OK, body.to_string());
        let me = json!({"id": ADMINISTRATOR, "name": "zenop", "body": {"active": true, "is_admin": true}});
        let another =
            json!({"id": Uuid::from_u128(0xb0), "name": "boss", "body": {"active": true}});
        let knows = &mut *self.knows_ci.lock().unwrap();
        if *self.finds_another.lock().unwrap() && asked.path == "/api/v1/service_accounts/ci" {
            return said(another);
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/api/v1/login") => said(json!({"access_token": "of the administrator"})),
            ("GET", "/api/v1/current-user") => said(me),
            ("GET", "/api/v1/service_accounts/ci") if !*knows => {
                (StatusCode::NOT_FOUND, "{}".into())
            }
            ("POST", "/api/v1/service_accounts") => {
                *knows = true;
                (StatusCode::OK, MADE.into())
            }
            (_, path) if path.starts_with("/api/v1/service_accounts/") => {
                (StatusCode::OK, MADE.into())
            }
            _ => said(json!({"got": asked.body, "of": THEIRS, "path": asked.path})),
        }
    }

    /// What was asked last for this path.
    fn of(&self, path: &str) -> Option<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().rev().find(|one| one.path == path).cloned()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// The server that writes there.
struct Writer(Arc<Notebook>);

impl Upstream for Writer {
    fn send(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Unreachable>> {
        let notebook = Arc::clone(&self.0);
        Box::pin(async move {
            if *notebook.is_gone.lock().unwrap() {
                return Err(Unreachable("connection refused".into()));
            }
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await;
            let body: Bytes = body.map_err(|error| Unreachable(error.to_string()))?;
            let asked = Asked {
                method: parts.method,
                path: parts.uri.to_string(),
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let (status, body) = notebook.answer(&asked);
            notebook.asked.lock().unwrap().push(asked);
            let answer = Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .header("content-length", body.len())
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .header("set-cookie", "zenml-server=eyJ")
                .header("access-control-allow-origin", "*")
                .header("x-frame-options", "ALLOWALL")
                .header("content-security-policy", "default-src 'self'")
                .header("location", "http://127.0.0.1:8237/api/v1/runs?page=2")
                .header("server", "uvicorn");
            Ok(answer.body(Body::from(body)).unwrap())
        })
    }
}

fn before() -> (Server, Arc<Notebook>) {
    let notebook = Arc::new(Notebook::default());
    (
        Server::before(Arc::new(Writer(Arc::clone(&notebook)))),
        notebook,
    )
}

async fn post(server: &Server, token: &str, path: &str, body: &str) -> Answer {
    let request = request(Method::POST, path)
        .header(AUTHORIZATION, bearer(token))
        .header("content-type", "application/json")
        .header("cookie", "mine=1")
        .header("x-csrf-token", "mine")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("idempotency-key", "once");
    server
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

/// The payload of a token that is signed with the secret of the server's tokens.
fn claims(server: &Server, token: &str) -> Value {
    let secret = server.change(|state| state.keyring.pepper().of_upstream("tokens"));
    let key = DecodingKey::from_secret(secret.as_bytes());
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["zenop"]);
    validation.set_issuer(&["zenop"]);
    // The clock of these tests is not the machine's.
    validation.validate_exp = false;
    decode(token, &key, &validation).unwrap().claims
}

#[tokio::test]
async fn it_is_asked_as_the_caller_and_hears_nothing_of_its_credential() {
    let (server, notebook) = before();
    let token = server.token().await;
    let body = json!({"user": server.account, "name": "x"}).to_string();
    let path = format!("/api/v1/runs?user={}", server.account);
    let answer = post(&server, &token, &path, &body).await.expect(200);
    let asked = notebook.of(&format!("/api/v1/runs?user={THEIRS}")).unwrap();
    assert_eq!(asked.body, json!({"user": THEIRS, "name": "x"}).to_string());
    let given = asked
        .header("authorization")
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap();
    assert_eq!(claims(&server, given)["sub"], json!(THEIRS));
    assert_ne!(given, token);
    for name in [
        "cookie",
        "x-csrf-token",
        "x-forwarded-host",
        "x-private",
        "connection",
        "x-forwarded-for",
    ] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(asked.header("idempotency-key"), Some("once"));

    // On the way back its ids are ours, and browsers hear what we say.
    let told = answer.json();
    assert_eq!(told["of"], json!(server.account));
    assert_eq!(told["path"], json!(path));
    let header = |name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    for name in [
        "set-cookie",
        "access-control-allow-origin",
        "x-hop",
        "connection",
    ] {
        assert_eq!(header(name), None, "{name}");
    }
    assert_eq!(header("location"), Some("/api/v1/runs?page=2"));
    assert_eq!(header("x-frame-options"), Some("SAMEORIGIN"));
    // What its dashboard loads it knows itself, unless the ZenServer says otherwise.
    assert_eq!(
        header("content-security-policy"),
        Some("default-src 'self'")
    );
    set(&server, |settings| {
        settings.headers.csp = Some("default-src https:".into())
    });
    let answer = post(&server, &token, &path, &body).await.expect(200);
    assert_eq!(
        answer.headers["content-security-policy"],
        "default-src https:"
    );
}

#[tokio::test]
async fn people_are_made_once_and_follow() {
    let (server, notebook) = before();
    let token = server.token().await;
    server.get_as(&token, "/api/v1/runs").await.expect(200);
    let made = notebook.of("/api/v1/service_accounts").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&made.body).unwrap()["name"],
        "ci"
    );
    let before = notebook.count();
    server.get_as(&token, "/api/v1/runs").await.expect(200);
    assert_eq!(notebook.count(), before + 1, "asked more than it had to");

    server.change_account(|account| account.description = "another".into());
    server.get_as(&token, "/api/v1/runs").await.expect(200);
    let path = format!("/api/v1/service_accounts/{THEIRS}");
    let changed = notebook.of(&path).unwrap();
    assert_eq!(changed.method, Method::PUT);
    let changed: Value = serde_json::from_str(&changed.body).unwrap();
    assert_eq!(changed["description"], "another");
}

#[tokio::test]
async fn who_is_not_let_in_reaches_nothing() {
    let (server, notebook) = before();
    let token = server.token().await;
    server.get("/api/v1/runs").await.expect(401);
    server
        .get_as("ZENKEY_nonsense", "/api/v1/runs")
        .await
        .expect(401);
    // Routes of the server of the same name as ours, however they are written.
    for path in [
        "/api/v1/%75sers",
        "/api/v1/users/ana/resource_membership",
        "/api/v1//secrets",
        "/api/v1/x/%2e%2e/secrets",
        "/api/v1/workspaces/default/secrets/x",
        "/api/v1/service_accounts/ci/api_keys/default/other",
    ] {
        server.get_as(&token, path).await.expect(404);
    }
    post(&server, &token, "/api/v1/users/", "{}")
        .await
        .expect(404);
    post(&server, &token, "/projects", "{}").await.expect(405);
    server.change_key(|key| key.active = false);
    server.get_as(&token, "/api/v1/runs").await.expect(401);
    assert_eq!(notebook.count(), 0);

    // The dashboard's files are everybody's, and nobody's credential goes along.
    server
        .get_as(&token, "/projects/default/")
        .await
        .expect(200);
    let asked = notebook.of("/projects/default/").unwrap();
    assert_eq!(asked.header("authorization"), None);
    server.get("/assets/index.js").await.expect(200);
    server
        .get("/api/v1/artifact_versions/1/data?token=t")
        .await
        .expect(200);
}

#[tokio::test]
async fn without_it_logins_go_on_and_the_rest_says_why() {
    let (server, notebook) = before();
    *notebook.is_gone.lock().unwrap() = true;
    let token = server.token().await;
    let refused = server.get_as(&token, "/api/v1/runs").await.expect(503);
    assert!(
        refused.body.contains("The ZenML server does not answer"),
        "{refused:?}"
    );
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(200);
    *notebook.is_gone.lock().unwrap() = false;
    server.get_as(&token, "/api/v1/runs").await.expect(200);
}

#[tokio::test]
async fn nobody_is_taken_for_somebody_else_there() {
    let (server, notebook) = before();
    *notebook.finds_another.lock().unwrap() = true;
    let token = server.token().await;
    server.get_as(&token, "/api/v1/runs").await.expect(200);
    let asked = notebook.of("/api/v1/runs").unwrap();
    let given = asked.header("authorization").unwrap();
    let given = given.strip_prefix("Bearer ").unwrap();
    assert_eq!(claims(&server, given)["sub"], json!(THEIRS));
    let boss = Uuid::from_u128(0xb0).to_string();
    let touched = notebook.asked.lock().unwrap();
    assert!(
        touched.iter().all(|one| !one.path.contains(&boss)),
        "{touched:?}"
    );
}

#[tokio::test]
async fn the_dashboard_has_its_own_login_page_and_ours_is_where_it_leads_on() {
    let (server, notebook) = before();
    server.get("/login?redirect=%2F").await.expect(200);
    assert!(notebook.of("/login?redirect=%2F").is_some());
    for path in ["/login?return_to=devices", "/login?done=everywhere"] {
        let page = server.get(path).await.expect(200);
        assert!(page.body.contains("name=\"csrf\""), "{}", page.body);
        assert!(notebook.of(path).is_none());
    }
    // Without a ZenML server there is one login page.
    let page = Server::new().get("/login").await.expect(200);
    assert!(page.body.contains("name=\"csrf\""), "{}", page.body);
}

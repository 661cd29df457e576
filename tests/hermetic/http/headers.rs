//! Security headers, on every answer.

use std::sync::Arc;

use axum::{body::Body, http::Method};
use zenop::{http::routes, store::HeaderSettings};

use super::{
    client::{Answer, Server, request},
    support,
};

const NAMES: [&str; 9] = [
    "server",
    "strict-transport-security",
    "x-frame-options",
    "x-content-type-options",
    "content-security-policy",
    "referrer-policy",
    "cache-control",
    "permissions-policy",
    "vary",
];

fn shown(answer: &Answer) -> String {
    let header = |name| format!("{name}: {}\n", answer.header(name).unwrap_or("(none)"));
    NAMES.map(header).concat()
}

#[tokio::test]
async fn are_on_every_answer() {
    let server = Server::new();
    let usual = shown(&server.get("/api/v1/info").await.expect(200));
    insta::assert_snapshot!("headers", usual);
    let mut requests: Vec<_> = routes()
        .into_iter()
        // Those of pages are fixed, and stricter: `pages.rs`.
        .filter(|route| route.path.starts_with("/api/"))
        .map(|route| request(route.method, &route.path.replace(['{', '}'], "")))
        .collect();
    requests.extend([
        request(Method::GET, "/nosuch"),
        request(Method::PATCH, "/api/v1/info"),
        request(Method::HEAD, "/api/v1/info"),
        request(Method::GET, "/api/v1/info").header("content-length", "999999"),
    ]);
    for request in requests {
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(shown(&answer), usual);
        assert!(answer.header("access-control-allow-origin").is_none());
    }
}

#[tokio::test]
async fn follow_the_settings() {
    let server = Server::new();
    let set = |headers: HeaderSettings| {
        server.change(|state| {
            let settings = support::settings();
            state.settings = Arc::new(zenop::store::Settings {
                headers,
                ..settings
            });
        });
    };
    set(HeaderSettings {
        server: Some("off".into()),
        hsts: Some("no".into()),
        xfo: Some("DENY".into()),
        csp: Some("default-src 'self'".into()),
        cache: Some("on".into()),
        ..HeaderSettings::default()
    });
    insta::assert_snapshot!("headers-set", shown(&server.get("/nosuch").await));
    set(HeaderSettings::default());
    let answer = server.get("/nosuch").await;
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
}

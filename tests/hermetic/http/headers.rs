//! Security headers, on every answer.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::Method};
use zenop::{
    http::{Limits, Options, routes},
    store::HeaderSettings,
};

use super::{
    client::{Answer, Server, request},
    sockets::{Served, statuses},
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
        // Those of pages are fixed, and stricter: `pages.rs`. The JWKS may be kept: `jwt.rs`.
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

/// H11: each is the default, off or a text of its own, and none of them touches another.
#[tokio::test]
async fn h11_each_header_is_on_off_or_custom() {
    type Set = fn(&mut HeaderSettings) -> &mut Option<String>;
    let rows: [(&str, Set); 8] = [
        ("server", |h| &mut h.server),
        ("strict-transport-security", |h| &mut h.hsts),
        ("x-frame-options", |h| &mut h.xfo),
        ("x-content-type-options", |h| &mut h.content),
        ("content-security-policy", |h| &mut h.csp),
        ("referrer-policy", |h| &mut h.referrer),
        ("cache-control", |h| &mut h.cache),
        ("permissions-policy", |h| &mut h.permissions),
    ];
    let server = Server::new();
    let usual = server.get("/nosuch").await;
    for (name, set) in rows {
        for (text, wanted) in [
            ("off", None),
            ("disabled", None),
            ("on", usual.header(name)),
            ("of our own", Some("of our own")),
        ] {
            super::limits::set(&server, |settings| {
                *set(&mut settings.headers) = Some(text.into());
            });
            for answer in [
                server.get("/nosuch").await,
                server.get("/api/v1/info").await,
                server.get("/api/v1/current-user").await,
            ] {
                assert_eq!(answer.header(name), wanted, "{name}: {text}");
                for (other, _) in rows.iter().filter(|(other, _)| *other != name) {
                    assert_eq!(answer.header(other), usual.header(other), "{name}: {other}");
                }
            }
        }
    }
}

/// H11: also on what is refused before anything is looked at, and on what came too late.
#[tokio::test]
async fn h11_are_on_refusals_of_bodies_that_do_not_come() {
    let options = Options {
        request_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let served = Served::with(Limits::default(), options).await;
    let login = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\n";
    let broken = format!("{login}transfer-encoding: chunked\r\n\r\nzz\r\n");
    for (request, status) in [
        (format!("{login}content-length: 99999\r\n\r\n"), 413),
        (format!("{login}content-length: 9\r\n\r\npass"), 408),
        (broken, 400),
    ] {
        let answer = served.exchange(request.as_bytes()).await;
        assert_eq!(statuses(&answer), [status]);
        for name in &NAMES[..8] {
            assert!(
                answer.contains(&format!("{name}: ")),
                "{status}: no {name}: {answer}"
            );
        }
    }
}

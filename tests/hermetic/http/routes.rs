//! Every route by every kind of caller, and what the routes answer.

use axum::{
    body::Body,
    http::{Method, header::AUTHORIZATION},
};
use zenop::{
    http::{Access, Route, routes},
    store::Unavailable,
};

use super::client::{Answer, Server, bearer, request};
use super::support;

/// A path of a route, with parameters that exist.
fn path(server: &Server, route: &Route) -> String {
    route
        .path
        .replace("{account}", &server.account.to_string())
        .replace("{key}", "default")
        .replace("{device}", &uuid::Uuid::nil().to_string())
        .replace("{secret}", &uuid::Uuid::nil().to_string())
        .replace("{workspace}", "default")
        .replace("{project}", "default")
        .replace("{stack}", &stack())
}

/// Made of the server's id, so known beforehand: clients store it.
fn stack() -> String {
    "fdcc76da-9da6-828a-9c80-ab5578ee98c8".into()
}

async fn call(server: &Server, route: &Route, credential: Option<&str>) -> Answer {
    let mut request = request(route.method.clone(), &path(server, route));
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, bearer(credential));
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

fn guarded() -> impl Iterator<Item = Route> {
    routes().into_iter().filter(|r| r.access != Access::Anyone)
}

#[tokio::test]
async fn without_a_credential_every_guarded_route_says_so() {
    let server = Server::new();
    assert!(guarded().count() > 10);
    for route in guarded() {
        let answer = call(&server, &route, None).await.expect(401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer"),
            "{route:?}"
        );
        assert_eq!(answer.body, r#"{"detail":"Not authenticated"}"#);
    }
}

#[tokio::test]
async fn with_a_bad_credential_every_guarded_route_says_so() {
    let server = Server::new();
    for route in guarded() {
        for bad in ["x", "eyJ.eyJ.x", "ZENKEY_x", &support::key_text(99).text()] {
            let answer = call(&server, &route, Some(bad)).await.expect(401);
            assert_eq!(
                answer.json()["detail"][0],
                "CredentialsNotValid",
                "{route:?}"
            );
            assert!(answer.header("www-authenticate").is_none());
            assert!(answer.header("x-request-id").is_some());
        }
    }
}

#[tokio::test]
async fn with_a_credential_accounts_are_let_in_and_administrators_only_are_not() {
    let server = Server::new();
    let key = server.key.text().to_string();
    for credential in [server.token().await, key.clone()] {
        for route in guarded() {
            let answer = call(&server, &route, Some(&credential)).await;
            match route.access {
                // A token comes of a token only.
                _ if route.path.ends_with("/api_token") && credential == key => {
                    let answer = answer.expect(401).json();
                    assert_eq!(answer["detail"][0], "AuthorizationException");
                }
                Access::Admin(action) => {
                    let told =
                        format!("Only admin users can perform `{action}` without RBAC enabled.");
                    let answer = answer.expect(403).json();
                    assert_eq!(answer["detail"][0], "IllegalOperationError");
                    assert_eq!(answer["detail"][1], told);
                }
                // There is none of that id: let in, and told so, before or after the body is read.
                _ if route.path.contains("{device}") || route.path.contains("{secret}") => {
                    assert!([404, 422].contains(&answer.status.as_u16()), "{answer:?}");
                }
                // What it lacks is a body that the route wants, or a user to be.
                _ if route.method != Method::GET || route.path.ends_with("{user}") => {
                    assert!(matches!(answer.status.as_u16(), 403 | 422), "{answer:?}");
                }
                _ => drop(answer.expect(200)),
            }
        }
    }
}

#[tokio::test]
async fn k05_what_is_deactivated_is_refused_at_once_everywhere() {
    let server = Server::new();
    let (token, key) = (server.token().await, server.key.text());
    let refused = async |told: &str| {
        for credential in [token.as_str(), key.as_str()] {
            for route in guarded() {
                let answer = call(&server, &route, Some(credential)).await.expect(401);
                assert_eq!(
                    answer.json()["detail"][1],
                    format!("Authentication error: {told}")
                );
            }
        }
        let answer = server.login(&key).await.expect(401);
        assert_eq!(
            answer.json()["detail"][1],
            format!("Authentication error: {told}")
        );
    };
    server.change_key(|key| key.active = false);
    refused("API key default is not active").await;
    server.change_key(|key| key.active = true);
    server.login(&key).await.expect(200);
    server.change_account(|account| account.active = false);
    refused("account ci is not active").await;
    server.change_account(|account| account.active = true);
    server.login(&key).await.expect(200);
    server.change_key(|key| key.window.until = Some(super::client::now()));
    refused("API key default is not active").await;
    server.change_key(|key| key.window.until = None);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(200);
}

#[tokio::test]
async fn k05_nothing_is_decided_on_a_view_that_may_be_stale() {
    let server = Server::new();
    let (token, key) = (server.token().await, server.key.text());
    let told = [
        (
            Unavailable::Stale,
            "5",
            "The server cannot be sure of its state.",
        ),
        (Unavailable::NotSynced, "1", "The server is starting."),
    ];
    for (why, wait, told) in told {
        server.store.set_unavailable(Some(why));
        let unavailable = |answer: Answer| {
            let answer = answer.expect(503);
            assert_eq!(answer.header("retry-after"), Some(wait));
            assert_eq!(answer.json()["detail"][1], told);
        };
        for route in guarded() {
            unavailable(call(&server, &route, Some(&token)).await);
            unavailable(call(&server, &route, Some(&key)).await);
            call(&server, &route, None).await.expect(401);
        }
        unavailable(server.login(&key).await);
        unavailable(server.login(&support::key_text(99).text()).await);
        assert_eq!(server.get("/ready").await.expect(503).body, told);
        server.get("/health").await.expect(200);
        server.get("/api/v1/info").await.expect(200);
    }
    server.store.set_unavailable(None);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(200);
}

#[tokio::test]
async fn everybody_may_ask_what_the_server_is() {
    let server = Server::new();
    insta::assert_snapshot!(
        "info",
        pretty(&server.get("/api/v1/info").await.expect(200))
    );
    assert_eq!(
        server.get("/api/v1/version").await.expect(200).body,
        "\"0.98.0\""
    );
    assert_eq!(server.get("/api/v1/logout").await.expect(200).body, "null");
}

#[tokio::test]
async fn probes_answer_every_method_with_a_word_and_no_headers() {
    let server = Server::new();
    for path in ["/health", "/ready"] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let request = request(method.clone(), path).body(Body::empty()).unwrap();
            let answer = server.send(request).await.expect(200);
            assert_eq!(answer.body, if method == Method::HEAD { "" } else { "ok" });
            assert_eq!(answer.headers.len(), 2, "{:?}", answer.headers);
        }
    }
}

fn pretty(answer: &Answer) -> String {
    serde_json::to_string_pretty(&answer.json()).unwrap()
}

/// Every object that can be shown, as the real server shows it (zenml-wire.md 8, 11, 12).
#[tokio::test]
async fn objects_have_zenmls_shape() {
    let server = Server::new();
    let token = server.token().await;
    server.change_account(|account| account.description = "Builds.".into());
    let account = server.account;
    let shown = async |name: &str, path: String| {
        let answer = server.get_as(&token, &path).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("x-request-id").is_none());
        insta::assert_snapshot!(name, pretty(&answer));
    };
    shown("current-user", "/api/v1/current-user".into()).await;
    shown("account", "/api/v1/service_accounts/ci".into()).await;
    shown("accounts", "/api/v1/service_accounts".into()).await;
    let keys = format!("/api/v1/service_accounts/{account}/api_keys");
    shown("key", format!("{keys}/default")).await;
    shown("keys", format!("{keys}?hydrate=True")).await;
    shown("project", "/api/v1/projects/default".into()).await;
    shown("projects", "/api/v1/projects".into()).await;
    shown("stack", format!("/api/v1/stacks/{}", stack())).await;
    shown("stacks", "/api/v1/stacks?name=default".into()).await;
    shown("settings", "/api/v1/settings".into()).await;
    shown("onboarding-state", "/api/v1/onboarding_state".into()).await;
    shown("statistics", "/api/v1/statistics".into()).await;
    shown("load-info", "/api/v1/load-info".into()).await;
}

#[tokio::test]
async fn objects_are_found_by_name_and_by_any_spelling_of_their_id() {
    let server = Server::new();
    let token = server.token().await;
    let (account, key) = (server.account, server.key.id);
    let spellings = |id: uuid::Uuid| {
        [
            id.to_string(),
            id.simple().to_string(),
            id.to_string().to_uppercase(),
        ]
    };
    for spelling in spellings(account) {
        for path in ["", "/api_keys", "/api_keys/default"] {
            let path = format!("/api/v1/service_accounts/{spelling}{path}");
            server.get_as(&token, &path).await.expect(200);
        }
    }
    for spelling in spellings(key) {
        let path = format!("/api/v1/service_accounts/{account}/api_keys/{spelling}");
        let answer = server.get_as(&token, &path).await.expect(200);
        assert_eq!(answer.json()["name"], "default");
    }
}

#[tokio::test]
async fn metadata_is_shown_when_asked_for() {
    let server = Server::new();
    let token = server.token().await;
    for (query, shown) in [
        ("", true),
        ("?hydrate=True", true),
        ("?hydrate=False", false),
        ("?hydrate=0", false),
    ] {
        for path in ["projects/default", "service_accounts/ci"] {
            let path = format!("/api/v1/{path}{query}");
            let answer = server.get_as(&token, &path).await.expect(200);
            assert_eq!(answer.json()["metadata"].is_object(), shown, "{path}");
        }
    }
}

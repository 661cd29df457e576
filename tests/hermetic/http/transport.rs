//! Rows of the attacks on the token endpoint that no other file has.

use axum::body::Body;
use zenop::http::routes;

use super::{
    canary::Log,
    client::{Server, bearer, request},
};

const QUERIES: [&str; 3] = ["password", "access_token", "device_code"];

/// T03, T05: a credential in a query is none, and is in no line of the log.
#[tokio::test]
async fn t03_t05_credentials_in_the_query_are_refused_and_not_logged() {
    let server = Server::new();
    let (key, token) = (server.key.text().to_string(), server.token().await);
    let log = Log::default();
    let guard = log.json();
    for name in QUERIES {
        for credential in [&key, &token] {
            let path = format!("/api/v1/login?{name}={credential}");
            let login = server.post_form(&path, "").await.expect(400);
            assert_eq!(
                login.body,
                r#"{"detail":"Invalid request: username is required."}"#
            );
            let path = format!("/api/v1/current-user?{name}={credential}");
            server.get(&path).await.expect(401);
        }
    }
    drop(guard);
    assert!(log.text().contains("answered"), "requests are logged");
    for secret in [&key[7..], &token] {
        assert!(!log.text().contains(secret), "{secret} is logged");
    }
}

/// T01, T02: what is not served is refused, whatever credential comes with it. In the words of ZenML,
/// as its client shows them.
#[tokio::test]
async fn t01_t02_grants_that_are_not_served_are_refused() {
    let server = Server::new();
    let key = server.key.text();
    for (grant, told) in [
        ("bogus", "Unsupported grant type."),
        ("implicit", "Unsupported grant type."),
        ("client_credentials", "Unsupported grant type."),
        ("authorization_code", "Unsupported grant type."),
        ("refresh_token", "Unsupported grant type."),
        ("zenml-external", "Unsupported grant type: zenml-external."),
    ] {
        let form = [
            ("grant_type", grant),
            ("password", &key),
            ("username", "ci"),
        ];
        let form = serde_urlencoded::to_string(form).unwrap();
        let answer = server.post_form("/api/v1/login", &form).await.expect(400);
        assert_eq!(answer.json()["detail"], told, "{grant}");
    }
}

/// T04: a credential in the header and one in the form.
#[tokio::test]
async fn t04_two_credentials_are_none() {
    let server = Server::new();
    let form = [("password", &*server.key.text())];
    let form = serde_urlencoded::to_string(form).unwrap();
    let login = async |scheme: &str| {
        let request = request(axum::http::Method::POST, "/api/v1/login")
            .header("authorization", format!("{scheme} Y2k6a2V5"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.clone()));
        server.send(request.unwrap()).await
    };
    for scheme in ["Basic", "basic", "BASIC"] {
        let answer = login(scheme).await.expect(400);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    // ZenML's client sends the token along that is over.
    login("Bearer").await.expect(200);
}

/// T07: nothing of what we are made of is in an answer.
#[tokio::test]
async fn t07_no_refusal_tells_what_is_inside() {
    const INSIDE: [&str; 12] = [
        ".rs",
        "src/",
        "panicked",
        "backtrace",
        "serde",
        "kube",
        "k8s",
        "etcd",
        "at line",
        "column",
        "expected",
        "Traceback",
    ];
    let server = Server::new();
    let token = server.token().await;
    for route in routes() {
        // The document has these words, and so may a page's.
        if !route.path.starts_with("/api/") {
            continue;
        }
        let paths = [
            route.path.replace(['{', '}'], ""),
            route
                .path
                .replace('{', "%ff")
                .replace('}', "?page=x&size=x&created=gt:x&hydrate=x"),
        ];
        for path in paths {
            for body in ["", "{", "[]", "{\"name\":1}", "a=%ff&a=b", "client_id=x"] {
                for kind in ["application/json", "application/x-www-form-urlencoded"] {
                    let request = request(route.method.clone(), &path)
                        .header("authorization", bearer(&token))
                        .header("content-type", kind)
                        .header("idempotency-key", "x");
                    let answer = server.send(request.body(Body::from(body)).unwrap()).await;
                    for inside in INSIDE {
                        let told = answer.status.is_success() || !answer.body.contains(inside);
                        assert!(told, "{route:?} {body}: {}", answer.body);
                    }
                }
            }
        }
    }
}

/// T06: nobody stores an answer with a token, nor a refusal.
#[tokio::test]
async fn t06_no_answer_of_a_login_is_stored() {
    let server = Server::new();
    for (key, status) in [
        (server.key.text().to_string(), 200),
        ("ZENKEY_x".into(), 401),
    ] {
        let answer = server.login(&key).await.expect(status);
        let cache = answer.header("cache-control").unwrap();
        assert!(cache.contains("no-store"), "{cache}");
    }
}

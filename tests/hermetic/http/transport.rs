//! Rows of the attacks on the token endpoint that no other file has.

use super::{canary::Log, client::Server};

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

//! One line of the log for each decision of authentication.

use axum::{body::Body, http::Method};
use base64::{Engine, engine::general_purpose::STANDARD};
use prometheus_client::encoding::text::encode;
use serde_json::json;
use uuid::Uuid;
use zenop::auth::{address::Proxies, scheme::Scheme};

use super::{
    canary::Log,
    client::{Answer, Server, request},
    limits::{login, set},
    sockets::Served,
    support,
};

/// C14, H9, H16: the address is the right-most hop that no trusted proxy is, unless addresses are
/// not to be written down.
#[tokio::test]
async fn c14_an_audit_line_names_the_address_that_can_be_believed() {
    let log = Log::default();
    let served = Served::start().await;
    let key = served.server.key.text();
    let cases = [
        (&[][..], true, "127.0.0.1"),
        (&["127.0.0.0/8"], true, "198.51.100.7"),
        (&["127.0.0.0/8", "198.51.100.0/24"], true, "203.0.113.9"),
        (&["127.0.0.0/8"], false, "-"),
    ];
    for (proxies, record, address) in cases {
        set(&served.server, |settings| {
            settings.proxies = Proxies::new(proxies.iter().copied());
            settings.record_addresses = record;
        });
        let guard = log.json();
        let answer = login(
            &served,
            &key,
            "x-forwarded-for: 203.0.113.9, 198.51.100.7\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(guard);
        assert_eq!(log.audit().last().unwrap()["address"], address);
        assert_eq!(log.text().contains("203.0.113.9"), address == "203.0.113.9");
        log.clear();
    }
}

async fn ask(server: &Server, credentials: &str) -> Answer {
    let request = request(Method::GET, "/api/v1/current-user")
        .header("x-request-id", "asked")
        .header("authorization", format!("Basic {credentials}"));
    server.send(request.body(Body::empty()).unwrap()).await
}

fn pair(name: &str, password: &str) -> String {
    STANDARD.encode(format!("{name}:{password}"))
}

fn basic() -> (Server, Uuid) {
    let server = Server::new();
    set(&server, |settings| settings.scheme = Scheme::Basic);
    let ana = server.change(|state| support::add_user(state, 1, "ana", false));
    (server, ana)
}

/// L3: once each, tried or remembered, with the user if it is the right password.
#[tokio::test]
async fn l3_a_refused_basic_credential_is_written_down_once() {
    let log = Log::default();
    let (server, ana) = basic();
    let guard = log.json();
    let right = pair("ana", "password of ana");
    let activate = |active: bool| {
        server.change(|state| {
            let mut user = state.directory.remove_user(ana).unwrap();
            user.active = active;
            state.directory.put_user(user);
        });
    };
    ask(&server, &right).await.expect(200);
    for refused in [
        pair("ana", "password of bo"),
        pair("mallory", "x"),
        "***".into(),
    ] {
        ask(&server, &refused).await.expect(401);
    }
    activate(false);
    // It is remembered; the same by id is not.
    ask(&server, &right).await.expect(401);
    ask(&server, &pair(&ana.to_string(), "password of ana"))
        .await
        .expect(401);
    drop(guard);
    let shown = |line: &serde_json::Value| {
        assert_eq!(
            (&line["request"], &line["address"]),
            (&json!("asked"), &json!("-"))
        );
        match line["message"].as_str() {
            Some("credential refused") => {
                json!([line["credential"], line["reason"], line["account"]])
            }
            other => json!([other, line["outcome"], line["account"]]),
        }
    };
    let bad = json!(["Basic", "Bad", "-"]);
    let inactive = json!(["Basic", "InactiveAccount", ana]);
    let granted = json!(["basic login", "Granted", ana]);
    let wanted = [
        granted,
        bad.clone(),
        bad.clone(),
        bad,
        inactive.clone(),
        inactive,
    ];
    assert_eq!(log.audit().iter().map(shown).collect::<Vec<_>>(), wanted);
    for secret in ["password of", &right, "mallory"] {
        assert!(!log.text().contains(secret), "{secret}");
    }
}

/// L3: each is counted; of a flood five lines a second are written.
#[tokio::test]
async fn l3_a_flood_of_basic_credentials_is_counted_and_not_written() {
    let log = Log::default();
    let (server, _) = basic();
    let guard = log.json();
    for _ in 0..300 {
        ask(&server, "***").await.expect(401);
    }
    drop(guard);
    assert_eq!(log.audit().len(), 5);
    let mut metrics = String::new();
    encode(&mut metrics, &server.registry).unwrap();
    let counted = r#"zenop_refused_credentials_total{credential="Basic",reason="Bad"} 300"#;
    assert!(metrics.contains(counted), "{metrics}");
}

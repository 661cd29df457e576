//! L1, K10: a key that a client sends appears nowhere: not in the log at any level, not in an
//! answer, not in a metric.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{body::Body, http::Method};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};
use zenop::auth::api_key::{ApiKey, KeySecret};

use super::client::{Server, bearer, request};

/// What was logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Takes every line of this thread, as in production, until the guard goes.
    pub fn json(&self) -> tracing::subscriber::DefaultGuard {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("trace"))
            .with_writer(self.clone());
        tracing::subscriber::set_default(lines.json().flatten_event(true).finish())
    }

    /// Forgets what was logged.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The audit lines.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &serde_json::Value| line["target"] == "zenop::audit")
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn k10_a_key_is_in_no_log_answer_or_metric() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let server = Server::new();
    let right = server.key.text().to_string();
    let wrong = ApiKey {
        id: server.key.id,
        secret: KeySecret::from_random(&[0xc4; 32]),
    };
    let wrong = wrong.text().to_string();
    let token = server.token().await;
    let mut bodies = String::new();
    for key in [
        right.clone(),
        wrong.clone(),
        format!("{right}x"),
        format!("x{wrong}"),
    ] {
        for form in [
            format!("grant_type=zenml-api-key&password={key}"),
            format!("grant_type={key}&password=x"),
            format!("password={key}&password={key}"),
            format!("username={key}&password={key}"),
            format!("device_code={key}"),
            format!("{key}={key}"),
        ] {
            let answer = server.post_form("/api/v1/login", &form).await;
            if answer.status != 200 {
                bodies += &answer.body;
            }
        }
        for path in [
            format!("/api/v1/info?key={key}"),
            format!("/{key}"),
            format!("/api/v1/{key}"),
            format!("/api/v1/service_accounts?name=oneof:{key}&page={key}"),
        ] {
            bodies += &server.get_as(&key, &path).await.body;
        }
        let odd = request(Method::GET, "/api/v1/current-user")
            .header("x-request-id", &key)
            .header("cookie", &key)
            .header("authorization", bearer(&format!("{key} {key}")))
            .body(Body::empty());
        let answer = server.send(odd.unwrap()).await;
        bodies += &format!("{:?}{}", answer.headers, answer.body);
    }
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(200);
    drop(guard);

    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &server.registry).unwrap();
    let log = log.text();
    assert!(log.contains("outcome=Granted"), "the audit line is logged");
    assert!(log.contains("answered"), "requests are logged");
    let secrets = [
        &right[7..],
        &wrong[7..],
        &"c4".repeat(32),
        &"fa".repeat(24),
        &token[..],
    ];
    for secret in secrets {
        for (place, text) in [("log", &log), ("answers", &bodies), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "{secret} in the {place}");
        }
    }
}

/// Nor one that the API draws: it is in the one answer that shows it.
#[tokio::test]
async fn b4_a_key_that_is_made_is_in_no_log_metric_or_later_answer() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let server = Server::new();
    server.change_account(|account| account.admin = true);
    let credential = server.key.text();
    let keys = format!("/api/v1/service_accounts/{}/api_keys", server.account);
    let send = async |method: Method, path: &str| {
        let body = Body::from(r#"{"name": "made"}"#);
        let request = request(method, path).header("authorization", bearer(&credential));
        server.send(request.body(body).unwrap()).await
    };
    let mut shown = Vec::new();
    for (method, path) in [
        (Method::POST, keys.clone()),
        (Method::PUT, format!("{keys}/made/rotate")),
    ] {
        let answer = send(method, &path).await.expect(200).json();
        shown.push(answer["body"]["key"].as_str().unwrap().to_owned());
    }
    let mut later = send(Method::POST, &keys).await.expect(409).body;
    for path in [keys.clone(), format!("{keys}/made")] {
        later += &server.get_as(&credential, &path).await.expect(200).body;
    }
    later += &send(Method::DELETE, &format!("{keys}/made")).await.body;
    drop(guard);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &server.registry).unwrap();
    let log = log.text();
    assert!(log.contains("RotateKey"), "the audit line is logged");
    for key in shown {
        let key: ApiKey = key.parse().unwrap();
        let text = key.text();
        // What the tests draw ends in this.
        for secret in [&text[7..], &"dd".repeat(24), &key.secret.digest().to_hex()] {
            for (place, text) in [("log", &log), ("answers", &later), ("metrics", &metrics)] {
                assert!(!text.contains(secret), "{secret} in the {place}");
            }
        }
    }
}

/// Nor does the library that reads the socket log it.
#[tokio::test]
async fn k10_a_key_on_a_socket_is_in_no_log() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let served = super::sockets::Served::start().await;
    let key = served.server.key.text().to_string();
    let form = format!("password={}", key.replace('=', "%3D"));
    for request in [
        format!("GET /api/v1/current-user HTTP/1.1\r\nauthorization: Bearer {key}\r\n"),
        format!("GET /{key} HTTP/1.1\r\ncookie: {key}\r\n"),
        format!("{key} {key} HTTP/1.1\r\n"),
        format!(
            "POST /api/v1/login HTTP/1.1\r\ncontent-length: {}\r\n",
            form.len()
        ),
    ] {
        let request = format!("{request}connection: close\r\n\r\n{form}");
        served.exchange(request.as_bytes()).await;
    }
    drop(guard);
    assert!(log.text().contains("answered"), "requests are logged");
    assert!(!log.text().contains(&key[7..]));
}

/// S16, for the log: what a client sends cannot make a line of its own.
#[tokio::test]
async fn s16_nothing_that_a_client_sends_breaks_a_line_of_the_log() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let server = Server::new();
    for form in [
        "grant_type=%0aFAKE&password=%1b[31mFAKE",
        "password=%0d%0aFAKE",
    ] {
        server.post_form("/api/v1/login", form).await;
    }
    server.get("/%0aFAKE").await;
    drop(guard);
    assert!(!log.text().contains("FAKE"));
}

//! Logins and authorized requests of one sidecar, against a bare axum handler.

use std::{path::Path, time::Duration};

use axum::{Json, Router, routing::get};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount};
use zenop_cluster::{ControlPlane, Options};

use super::{
    load::{exchange, requests_per_second},
    processes::{Process, free_address, until},
    rounds,
    table::{Goal, Row},
};

const NAMESPACE: &str = "door";
/// How long each of three loads lasts in a round.
const TIME: Duration = Duration::from_secs(3);

/// The peer: the smallest handler that answers JSON.
pub async fn serve_bare(address: &str) {
    let router = Router::new().route("/", get(|| async { Json(json!({"name": "bare"})) }));
    let listener = TcpListener::bind(address)
        .await
        .expect("the address is free");
    axum::serve(listener, router).await.expect("it serves");
}

pub async fn run() -> Vec<Row> {
    println!("sidecar: starting a control plane, an operator, a sidecar");
    let plane = ControlPlane::start(Options::default())
        .await
        .expect("a control plane");
    let client = plane.client().await.expect("a client");
    super::reconcile::install(&client).await;
    let key = delivered_key(&client, plane.kubeconfig()).await;
    let (ours, bare) = (free_address(), free_address());
    let _sidecar = Process::sidecar(plane.kubeconfig(), NAMESPACE, "prod", &ours);
    let _bare = Process::bare(&bare);
    for address in [&ours, &bare] {
        until("a listener", || async {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
    }
    let ready = b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n";
    until("the sidecar", || async { is_ok(&ours, ready).await }).await;
    let login = login_request(&key);
    let authorized = authorized_request(&token(&ours, &login).await);
    let plain = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let (mut logins, mut requests, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds() {
        bares.push(requests_per_second(&bare, &plain, TIME).await);
        logins.push(requests_per_second(&ours, &login, TIME).await);
        requests.push(requests_per_second(&ours, &authorized, TIME).await);
        let last = |v: &[f64]| v.last().copied().unwrap_or_default();
        println!(
            "  round {round}: bare {:.0}/s, login {:.0}/s, authorized {:.0}/s",
            last(&bares),
            last(&logins),
            last(&requests)
        );
    }
    vec![
        Row {
            what: "logins with an API key, by bare axum".into(),
            unit: "1/s",
            ours: logins,
            peer: bares.clone(),
            goal: Goal::Ratio(0.35),
        },
        Row {
            what: "authorized requests, by bare axum".into(),
            unit: "1/s",
            ours: requests,
            peer: bares,
            goal: Goal::Ratio(0.6),
        },
    ]
}

/// The text of a key that an operator made.
async fn delivered_key(client: &Client, kubeconfig: &Path) -> String {
    let namespace: Namespace = named(json!({"apiVersion": "v1", "kind": "Namespace"}), NAMESPACE);
    let post = PostParams::default();
    Api::all(client.clone())
        .create(&post, &namespace)
        .await
        .expect("a namespace");
    let server: ZenServer = super::reconcile::server();
    let account: ZenServiceAccount = super::reconcile::account();
    let key: ZenAPIKey = super::reconcile::key("main");
    Api::namespaced(client.clone(), NAMESPACE)
        .create(&post, &server)
        .await
        .expect("a server");
    Api::namespaced(client.clone(), NAMESPACE)
        .create(&post, &account)
        .await
        .expect("an account");
    Api::namespaced(client.clone(), NAMESPACE)
        .create(&post, &key)
        .await
        .expect("a key");
    let _operator = Process::operator(kubeconfig, NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let keys: Api<ZenAPIKey> = Api::namespaced(client.clone(), NAMESPACE);
    until("the key", || async {
        keys.get("main")
            .await
            .is_ok_and(|key| key.status.is_some_and(|s| s.generation.is_some()))
    })
    .await;
    let secret = secrets.get("main-key").await.expect("the Secret");
    let text = secret.data.expect("data")["ZENML_STORE_API_KEY"].0.clone();
    String::from_utf8(text).expect("text")
}

pub fn named<K: serde::de::DeserializeOwned>(mut object: serde_json::Value, name: &str) -> K {
    object["metadata"]["name"] = name.into();
    serde_json::from_value(object).expect("an object")
}

async fn is_ok(address: &str, request: &[u8]) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let mut answer = [0; 12];
    stream.write_all(request).await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer.ends_with(b"200")
}

fn login_request(key: &str) -> Vec<u8> {
    let body = format!(
        "grant_type=zenml-api-key&password={}",
        key.replace('=', "%3D").replace('+', "%2B")
    );
    format!(
        "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn authorized_request(token: &str) -> Vec<u8> {
    format!("GET /api/v1/current-user HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

async fn token(address: &str, login: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let mut buffer = Vec::new();
    exchange(&mut stream, login, &mut buffer).await;
    let body = buffer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a body")
        + 4;
    let answer: serde_json::Value = serde_json::from_slice(&buffer[body..]).expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

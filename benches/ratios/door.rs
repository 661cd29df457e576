//! Logins, authorized requests and device starts of one sidecar, against a bare axum handler and
//! against the real ZenML server.

use std::{path::Path, time::Duration};

use axum::{Json, Router, routing::get};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount};
use zenop_cluster::{ControlPlane, Options};

use super::{
    load::{answer, requests_at, requests_per_second},
    peer::ZenmlServer,
    processes::{Process, free_address, until},
    rounds,
    table::{Goal, Row},
};

const NAMESPACE: &str = "door";
/// How long each of three loads lasts in a round.
const TIME: Duration = Duration::from_secs(3);
/// The same for what takes the ZenML server seconds.
const THEIR_TIME: Duration = Duration::from_secs(8);
/// A client that starts device authorizations.
pub const CLIENT: &str = "7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11";

/// The peer: the smallest handler that answers JSON.
pub async fn serve_bare(address: &str) {
    let router = Router::new().route("/", get(|| async { Json(json!({"name": "bare"})) }));
    let listener = TcpListener::bind(address)
        .await
        .expect("the address is free");
    axum::serve(listener, router).await.expect("it serves");
}

/// A sidecar at work, with a key that it lets in.
pub struct Door {
    _plane: ControlPlane,
    pub client: Client,
    pub sidecar: Process,
    pub address: String,
    pub key: String,
}

impl Door {
    pub async fn open() -> Self {
        println!("sidecar: starting a control plane, an operator, a sidecar");
        let plane = ControlPlane::start(Options::default()).await;
        let plane = plane.expect("a control plane");
        let client = plane.client().await.expect("a client");
        super::reconcile::install(&client).await;
        let key = delivered_key(&client, plane.kubeconfig()).await;
        let address = free_address();
        let sidecar = Process::sidecar(plane.kubeconfig(), NAMESPACE, "prod", &address);
        let ready = b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n";
        until("the sidecar", || async { is_ok(&address, ready).await }).await;
        Self {
            _plane: plane,
            client,
            sidecar,
            address,
            key,
        }
    }
}

pub async fn run() -> Vec<Row> {
    let door = Door::open().await;
    let (ours, bare) = (&*door.address, &*free_address());
    let _bare = Process::bare(bare);
    until("a listener", || async {
        TcpStream::connect(bare).await.is_ok()
    })
    .await;
    let login = login_request(&door.key);
    let authorized = authorized_request(&token(ours, &login).await);
    let start = form_request(
        "/api/v1/device_authorization",
        &format!("client_id={CLIENT}"),
    );
    let plain = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    println!("peer: starting a ZenML server");
    let zenml = ZenmlServer::start().await;
    let their_login = login_request(&zenml.key);
    let their_authorized = authorized_request(&zenml.token);
    let mut figures = Figures::default();
    for round in 1..=rounds() {
        figures
            .bare
            .push(requests_per_second(bare, &plain, TIME).await);
        figures
            .logins
            .push(requests_per_second(ours, &login, TIME).await);
        figures
            .requests
            .push(requests_per_second(ours, &authorized, TIME).await);
        figures
            .starts
            .push(requests_per_second(ours, &start, TIME).await);
        // Each with the number of connections at which the ZenML server is at its best.
        let at = &zenml.address;
        figures
            .their_logins
            .push(requests_at(at, &their_login, THEIR_TIME, 8).await);
        figures
            .their_requests
            .push(requests_at(at, &their_authorized, TIME, 1).await);
        figures
            .their_starts
            .push(requests_at(at, &start, THEIR_TIME, 8).await);
        println!("  round {round}: {figures}");
    }
    figures.rows()
}

/// Requests per second, one value a round.
#[derive(Default)]
struct Figures {
    bare: Vec<f64>,
    logins: Vec<f64>,
    requests: Vec<f64>,
    starts: Vec<f64>,
    their_logins: Vec<f64>,
    their_requests: Vec<f64>,
    their_starts: Vec<f64>,
}

impl Figures {
    fn rows(self) -> Vec<Row> {
        let row = |what: &str, ours: &[f64], peer: &[f64], goal| Row {
            what: what.into(),
            unit: "1/s",
            ours: ours.to_vec(),
            peer: peer.to_vec(),
            goal: Goal::Ratio(goal),
        };
        vec![
            row(
                "logins with an API key, by bare axum",
                &self.logins,
                &self.bare,
                0.35,
            ),
            row(
                "authorized requests, by bare axum",
                &self.requests,
                &self.bare,
                0.6,
            ),
            row(
                "logins with an API key, by ZenML's server",
                &self.logins,
                &self.their_logins,
                3000.0,
            ),
            row(
                "authorized requests, by ZenML's server",
                &self.requests,
                &self.their_requests,
                100.0,
            ),
            row(
                "device starts, by ZenML's server",
                &self.starts,
                &self.their_starts,
                500.0,
            ),
        ]
    }
}

impl std::fmt::Display for Figures {
    /// The last round.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = |v: &[f64]| v.last().copied().unwrap_or_default();
        write!(
            f,
            "bare {:.0}/s; login {:.0}/s, theirs {:.2}/s; authorized {:.0}/s, theirs {:.0}/s; \
             device start {:.0}/s, theirs {:.2}/s",
            last(&self.bare),
            last(&self.logins),
            last(&self.their_logins),
            last(&self.requests),
            last(&self.their_requests),
            last(&self.starts),
            last(&self.their_starts),
        )
    }
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

pub fn login_request(key: &str) -> Vec<u8> {
    let key = key.replace('=', "%3D").replace('+', "%2B");
    form_request(
        "/api/v1/login",
        &format!("grant_type=zenml-api-key&password={key}"),
    )
}

pub fn form_request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn authorized_request(token: &str) -> Vec<u8> {
    format!("GET /api/v1/current-user HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

pub async fn token(address: &str, login: &[u8]) -> String {
    let answer = answer(address, login).await;
    answer["access_token"].as_str().expect("a token").to_owned()
}

//! The real ZenML server, as its release runs: one process, SQLite, made anew for this run.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    door::{form_request, token},
    load::answer,
    processes::{Process, free_address},
};

/// What `make zenml-server` installs.
const PROGRAM: &str = "ZENOP_ZENML_SERVER";
const ACCOUNTS: &str = "/api/v1/service_accounts";

/// A server with an account that has a key. Ends with us.
pub struct ZenmlServer {
    _process: Process,
    _data: tempfile::TempDir,
    pub address: String,
    /// The text of the key.
    pub key: String,
    /// A token of the first user: one of a key costs this server a write at each request.
    pub token: String,
}

impl ZenmlServer {
    /// Starts one and makes a key.
    pub async fn start() -> Self {
        let python = std::env::var(PROGRAM).unwrap_or_else(|_| {
            panic!("{PROGRAM} does not name the Python of a ZenML server: run this by `make bench`")
        });
        let data = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let port = address.rsplit(':').next().expect("a port");
        let mut command = Command::new(python);
        command
            .args(["-m", "uvicorn", "zenml.zen_server.zen_server_api:app"])
            .args([
                "--no-server-header",
                "--host=127.0.0.1",
                "--log-level=warning",
            ])
            .arg(format!("--port={port}"))
            .env("ZENML_CONFIG_PATH", data.path())
            .env("ZENML_SERVER", "true")
            .env("ZENML_SERVER_AUTO_ACTIVATE", "true")
            .env("ZENML_SERVER_JWT_SECRET_KEY", "of-this-run-only")
            .env("ZENML_DEFAULT_USER_PASSWORD", "password")
            .env("ZENML_ANALYTICS_OPT_IN", "false")
            .env("ZENML_LOGGING_VERBOSITY", "ERROR");
        let process = Process::peer(&mut command);
        // It makes its database first, which takes seconds.
        for _ in 0..1200 {
            if TcpStream::connect(&address).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let login = form_request("/api/v1/login", "username=default&password=password");
        let token = token(&address, &login).await;
        let post = |path: &str, body: &Value| {
            let body = body.to_string();
            format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let account = json!({"name": "ci", "description": "", "active": true});
        let account = answer(&address, &post(ACCOUNTS, &account)).await;
        let account = account["id"].as_str().expect("an id");
        let key = json!({"name": "main", "description": ""});
        let made = answer(
            &address,
            &post(&format!("{ACCOUNTS}/{account}/api_keys"), &key),
        )
        .await;
        let key = made["body"]["key"].as_str().expect("a key").to_owned();
        Self {
            _process: process,
            _data: data,
            address,
            key,
            token,
        }
    }
}

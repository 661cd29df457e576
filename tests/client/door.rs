//! Sidecars as processes, and requests to them.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};
use zenop::api::ZenServer;

use crate::support::{Operator, PATIENCE, Site, account, entry, key, server, with};

/// A sidecar with the rights of its server's ServiceAccount.
pub struct Sidecar {
    pub address: SocketAddr,
    process: Operator,
}

/// An answer: status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// This one, if it has that status.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "wanted {status}: {self:?}");
        Ok(self)
    }
}

impl Sidecar {
    /// Starts one and waits until it is ready.
    pub async fn start(site: &Site, address: SocketAddr) -> Result<Self> {
        Self::start_with(site, address, "error,kube_client=off").await
    }

    /// Starts one that logs as told, and waits until it is ready.
    pub async fn start_with(site: &Site, address: SocketAddr, log: &str) -> Result<Self> {
        Self::start_as(site, address, log, None).await
    }

    /// Starts one with a secret for its provider, and waits until it is ready.
    pub async fn start_knowing(site: &Site, address: SocketAddr, secret: &Path) -> Result<Self> {
        let secret = format!("--client-secret-file={}", secret.display());
        Self::start_as(site, address, "warn,kube_client=off", Some(&secret)).await
    }

    /// Starts one before the ZenML server at a URL, and waits until it is ready.
    pub async fn start_before(site: &Site, address: SocketAddr, upstream: &str) -> Result<Self> {
        let upstream = format!("--upstream={upstream}");
        let log = "debug,kube_client=off,hyper_util=info";
        Self::start_as(site, address, log, Some(&upstream)).await
    }

    async fn start_as(
        site: &Site,
        address: SocketAddr,
        log: &str,
        more: Option<&str>,
    ) -> Result<Self> {
        let rights = site
            .plane
            .kubeconfig_for_service_account(site.name(), "prod", None)
            .await?;
        let sidecar = Self::launch_with(site.name(), &rights, address, log, more)?;
        sidecar.becomes_ready().await?;
        Ok(sidecar)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// What it shows to who measures.
    pub async fn metrics(&self) -> Result<String> {
        self.process.metrics().await
    }

    /// Starts one with a kubeconfig; does not wait.
    pub fn launch(
        namespace: &str,
        kubeconfig: &Path,
        address: SocketAddr,
        log: &str,
    ) -> Result<Self> {
        Self::launch_with(namespace, kubeconfig, address, log, None)
    }

    fn launch_with(
        namespace: &str,
        kubeconfig: &Path,
        address: SocketAddr,
        log: &str,
        more: Option<&str>,
    ) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zenop"));
        command
            .args(["sidecar", "--server", "prod", "--namespace", namespace])
            .args([
                "--listen",
                &address.to_string(),
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", log);
        let process = Operator::spawn(&mut command)?;
        Ok(Self { address, process })
    }

    /// Waits until `/ready` says so.
    pub async fn becomes_ready(&self) -> Result<()> {
        self.until("ready", async || {
            self.get("/ready", None)
                .await
                .is_ok_and(|a| a.status == 200)
        })
        .await
    }

    /// Waits until something holds of it.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) -> Result<()> {
        let wait = async {
            while !holds().await {
                // A server that is not there yet refuses at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .with_context(|| format!("the sidecar does not become {what}"))
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        self.ask(
            &format!(
                "GET {path} HTTP/1.1\r\nhost: x\r\n{}",
                bearer.unwrap_or_default()
            ),
            "",
        )
        .await
    }

    /// Who a token is of.
    pub async fn me(&self, token: &str) -> Result<Answer> {
        self.get("/api/v1/current-user", Some(token)).await
    }

    pub async fn login(&self, key: &str) -> Result<Answer> {
        let body = format!(
            "grant_type=zenml-api-key&password={}",
            key.replace('=', "%3D").replace('+', "%2B")
        );
        let head = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        self.ask(head, &body).await
    }

    pub async fn login_with(&self, name: &str, password: &str) -> Result<Answer> {
        let form = [("username", name), ("password", password)];
        let body = serde_urlencoded::to_string(form)?;
        let head = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        self.ask(head, &body).await
    }

    /// A token of a user.
    pub async fn session(&self, name: &str, password: &str) -> Result<String> {
        let answer = self.login_with(name, password).await?.expect(200)?.json()?;
        let token = answer["access_token"].as_str().context("no token")?;
        Ok(token.to_owned())
    }

    /// A request in JSON to any path, by nobody where there is no token.
    pub async fn put(&self, path: &str, token: &str, body: &Value) -> Result<Answer> {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n"
        );
        self.ask(&head, &body.to_string()).await
    }

    pub async fn token(&self, key: &str) -> Result<String> {
        let answer = self.login(key).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.body)?;
        Ok(answer["access_token"]
            .as_str()
            .context("no token")?
            .to_owned())
    }

    /// A request in JSON.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Answer> {
        let head = format!(
            "{method} /api/v1/service_accounts{path} HTTP/1.1\r\nhost: x\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        );
        self.ask(&head, &body.to_string()).await
    }

    /// A request in JSON to any path.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n"
        );
        self.ask(&head, &body.to_string()).await
    }

    /// A form.
    pub async fn post(&self, path: &str, form: &str) -> Result<Answer> {
        let kind = "content-type: application/x-www-form-urlencoded";
        let agent = "user-agent: Host/lab ZenML/0.98.0 Python/3.11.7 OS/Linux";
        let head = format!("POST /api/v1{path} HTTP/1.1\r\nhost: x\r\n{kind}\r\n{agent}\r\n");
        self.ask(&head, form).await
    }

    /// A request on devices.
    pub async fn on_device(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Answer> {
        let head = format!(
            "{method} /api/v1/devices{path} HTTP/1.1\r\nhost: x\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        );
        self.ask(&head, &body.to_string()).await
    }

    /// What kills its process.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        self.process.killer()
    }

    async fn ask(&self, head: &str, body: &str) -> Result<Answer> {
        ask(self.address, head, body).await
    }
}

/// Sends a request to a server, and reads its answer to the end.
pub async fn ask(address: SocketAddr, head: &str, body: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

/// An address on loopback that is free now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// An operator, and server `prod` at `address` with account `ci` and key `main`.
pub async fn set_up(site: &Site, address: SocketAddr, spec: &[(&str, Value)]) -> Result<Operator> {
    let operator = site.operator().await?;
    let url = json!(format!("http://{address}"));
    let server = spec.iter().fold(
        with(server("prod"), "spec.url", url),
        |object, (path, value)| with(object, path, value.clone()),
    );
    site.apply(&server).await?;
    site.apply(&account("ci")).await?;
    site.apply(&key("main")).await?;
    site.key_ready("main", 1).await?;
    // Its ServiceAccount and rights come with the pods.
    let made = |server: &ZenServer| {
        server
            .status
            .as_ref()
            .is_some_and(|s| s.observed_generation > 0)
    };
    site.until("prod", "has its children", made).await?;
    Ok(operator)
}

/// The delivered key.
pub async fn delivered(site: &Site, secret: &str) -> Result<String> {
    let secret = site.api::<Secret>().get(secret).await?;
    entry(&secret, "ZENML_STORE_API_KEY").context("no key in the Secret")
}

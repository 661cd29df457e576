//! A server in this process, a laptop that asks it, and a browser that decides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SemaphorePermit},
};
use uuid::Uuid;
use zenop::http::{App, Limits, Options, serve};

use crate::{
    driver::{Browser, Setup},
    support,
};

/// One Chromium is enough for a machine, and the clock below is one for all.
static TURN: Semaphore = Semaphore::const_new(1);
static SHIFT: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(SHIFT.load(Ordering::SeqCst))
}

/// Moves the server's clock.
pub fn pass(seconds: i64) {
    SHIFT.fetch_add(seconds, Ordering::SeqCst);
}

/// A server with user `ana`, and a browser.
pub struct Scene {
    pub url: String,
    pub browser: Browser,
    _turn: SemaphorePermit<'static>,
}

/// A device that asks.
pub struct Asked {
    pub link: String,
    client: Uuid,
    device_code: String,
}

impl Scene {
    pub async fn new() -> Result<Self> {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Result<Self> {
        let turn = TURN.acquire().await?;
        SHIFT.store(0, Ordering::SeqCst);
        let store = Arc::new(support::empty());
        store.change(|state| support::add_user(state, 1, "ana", false));
        let ground = support::ground(&store, clock);
        let app = App::new(ground, &mut Registry::default(), Options::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = app.router();
        tokio::spawn(async move {
            serve(listener, router, Limits::default(), std::future::pending()).await;
        });
        Ok(Self {
            url,
            browser: Browser::start(setup).await?,
            _turn: turn,
        })
    }

    pub async fn open(&self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.url)).await
    }

    /// Types name and password into the page that is shown.
    pub async fn log_in(&self) -> Result<()> {
        self.browser.fill("#username", "ana").await?;
        self.browser.fill("#password", "password of ana").await?;
        self.browser.follow("main button[type=submit]").await
    }

    /// A new device of the client of that number asks.
    pub async fn device(&self, n: u64) -> Result<Asked> {
        let client = Uuid::from_u64_pair(0xc11e, n);
        let id = client.to_string();
        let told = self
            .post("/api/v1/device_authorization", &[("client_id", &id)])
            .await?;
        let text = |name: &str| anyhow::Ok(told[name].as_str().context("no code")?.to_owned());
        Ok(Asked {
            link: text("verification_uri_complete")?,
            client,
            device_code: text("device_code")?,
        })
    }

    /// A new device asks, and its link is opened by who is logged in.
    pub async fn asked(&self) -> Result<Asked> {
        let asked = self.device(1).await?;
        self.open(&asked.link).await?;
        self.log_in().await?;
        // A click may be answered before the page that it leads to is there.
        self.expect("Is this you?").await?;
        Ok(asked)
    }

    /// What a poll of a device is told: an error, or the hours that its token lives.
    pub async fn polled(&self, asked: &Asked) -> Result<String> {
        let client = asked.client.to_string();
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &client),
            ("device_code", &asked.device_code),
        ];
        let told = self.post("/api/v1/login", &form).await?;
        Ok(
            match (told["error"].as_str(), told["expires_in"].as_i64()) {
                // A test does not wait between its polls.
                (Some("slow_down"), _) => "authorization_pending".into(),
                (Some(error), _) => error.into(),
                (None, Some(seconds)) => format!("{} hours", (seconds + 60) / 3600),
                (None, None) => bail!("{told}"),
            },
        )
    }

    /// What the page says above all.
    pub async fn heading(&self) -> Result<String> {
        self.browser.text("h1").await
    }

    /// Is shown a page of that heading, once it is loaded.
    pub async fn expect(&self, heading: &str) -> Result<()> {
        self.browser.until("h1", heading).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Value> {
        let form = serde_urlencoded::to_string(form)?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             user-agent: Host/anas-laptop ZenML/0.98.0 Python/3.11.7 OS/Linux\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await??;
        let (_, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        Ok(serde_json::from_str(body)?)
    }
}

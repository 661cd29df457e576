//! A browser: the few commands of WebDriver (W3C) and of Chromium's own protocol that tests need.
//!
//! `fantoccini` would be the library for it; it brings `webdriver`, of another licence, and a second
//! copy of thirty crates, for what is one request in JSON each.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a page takes to load.
const LOADS: Duration = Duration::from_secs(20);
/// The name of an element's reference in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Chromium, and what drives it.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// How a browser is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// No page's script runs.
    pub no_script: bool,
    /// Whoever serves by https is believed.
    pub trusting: bool,
}

/// The program of a name, in `PATH` or where Debian puts it.
fn program(names: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/snap/bin".into()]);
    let folders: Vec<PathBuf> = folders.collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    found.with_context(|| format!("{} is missing: run `make browser`", names[0]))
}

impl Browser {
    /// Starts one.
    pub async fn start(setup: Setup) -> Result<Self> {
        let mut driver = Command::new(program(&["chromedriver"])?)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(driver.stdout.take().context("no output")?).lines();
        let port = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return Ok(port.trim_end_matches('.').parse::<u16>()?);
                }
            }
            bail!("chromedriver does not start")
        };
        let port = timeout(PATIENCE, port).await??;
        // It goes on writing, and must not wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut browser = Self {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
        };
        let prefs = match setup.no_script {
            true => json!({"profile.managed_default_content_settings.javascript": 2}),
            false => json!({}),
        };
        let options = json!({
            "binary": program(&["chromium", "chromium-browser", "google-chrome"])?,
            // Root may not use the sandbox; what is loaded is our own.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--no-first-run", "--window-size=1280,900"],
            "prefs": prefs,
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "acceptInsecureCerts": setup.trusting,
        }}});
        let begun = browser.ask("POST", "/session", &wanted).await?;
        browser.session = begun["sessionId"].as_str().context("no session")?.into();
        // What is not there yet may come with the page that is being loaded.
        browser.post("timeouts", json!({"implicit": 3000})).await?;
        Ok(browser)
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream
                .write_all(request(method, path, body).as_bytes())
                .await?;
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).await?;
                head.push(byte[0]);
            }
            let head = String::from_utf8(head)?.to_ascii_lowercase();
            let length = head.split_once("content-length:").context("no length")?.1;
            let length = length.lines().next().unwrap_or_default().trim().parse()?;
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let answer: Value = serde_json::from_slice(&body)?;
            anyhow::Ok(answer["value"].clone())
        };
        let value = timeout(PATIENCE, asked).await.context("no answer")??;
        ensure!(
            value["error"].is_null(),
            "{method} {path}: {} {}",
            value["error"],
            value["message"]
        );
        Ok(value)
    }

    async fn get(&self, what: &str) -> Result<Value> {
        let path = format!("/session/{}/{what}", self.session);
        self.ask("GET", &path, &Value::Null).await
    }

    async fn post(&self, what: &str, body: Value) -> Result<Value> {
        let path = format!("/session/{}/{what}", self.session);
        self.ask("POST", &path, &body).await
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("url", json!({"url": url})).await.map(drop)
    }

    /// Where it is.
    pub async fn url(&self) -> Result<String> {
        let url = self.get("url").await?;
        Ok(url.as_str().context("no URL")?.to_owned())
    }

    async fn element(&self, css: &str) -> Result<String> {
        let found = json!({"using": "css selector", "value": css});
        let found = self.post("element", found).await;
        let found = found.with_context(|| format!("no {css}"))?;
        Ok(found[ELEMENT].as_str().context("no element")?.to_owned())
    }

    /// How many elements there are.
    pub async fn count(&self, css: &str) -> Result<usize> {
        let found = json!({"using": "css selector", "value": css});
        let found = self.post("elements", found).await?;
        Ok(found.as_array().context("no list")?.len())
    }

    /// Clicks on an element that a person can see. What it leads to may still be on its way.
    pub async fn click(&self, css: &str) -> Result<()> {
        let element = self.element(css).await?;
        let clicked = self
            .post(&format!("element/{element}/click"), json!({}))
            .await;
        clicked.map(drop)
    }

    /// Clicks on an element that leads to a page, and waits until this page is gone.
    pub async fn follow(&self, css: &str) -> Result<()> {
        let page = self.element("html").await?;
        self.click(css).await?;
        let begun = Instant::now();
        // An element of a page that is gone is unknown; what asks for the next one waits for it.
        while self.get(&format!("element/{page}/name")).await.is_ok() {
            ensure!(begun.elapsed() < LOADS, "{css} leads nowhere");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Types into an element.
    pub async fn fill(&self, css: &str, text: &str) -> Result<()> {
        let element = self.element(css).await?;
        let typed = json!({"text": text});
        self.post(&format!("element/{element}/value"), typed)
            .await
            .map(drop)
    }

    /// What a person reads in an element.
    pub async fn text(&self, css: &str) -> Result<String> {
        let element = self.element(css).await?;
        let text = self.get(&format!("element/{element}/text")).await?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    /// Waits until a person reads this in an element.
    pub async fn until(&self, css: &str, wanted: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            // The page may be going while it is asked.
            let shown = self.text(css).await.unwrap_or_default();
            if shown == wanted {
                return Ok(());
            }
            let at = self.url().await.unwrap_or_default();
            ensure!(
                begun.elapsed() < LOADS,
                "{shown:?} instead of {wanted:?} at {at}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A property of an element.
    pub async fn property(&self, css: &str, name: &str) -> Result<Value> {
        let element = self.element(css).await?;
        self.get(&format!("element/{element}/property/{name}"))
            .await
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub async fn press(&self, keys: &[char]) -> Result<()> {
        let key = |key: &char| {
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        };
        let strokes: Vec<Value> = keys.iter().flat_map(key).collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.post("actions", actions).await.map(drop)
    }

    /// Name, id or text of what has the focus.
    pub async fn focused(&self) -> Result<String> {
        let active = self.get("element/active").await?;
        let element = active[ELEMENT].as_str().context("nothing")?;
        for name in ["id", "value", "textContent"] {
            let value = self
                .get(&format!("element/{element}/property/{name}"))
                .await?;
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                return Ok(text.trim().to_owned());
            }
        }
        Ok(String::new())
    }

    /// Runs a script, as a tester and not as a page.
    pub async fn script(&self, script: &str) -> Result<Value> {
        let script = json!({"script": script, "args": []});
        self.post("execute/sync", script).await
    }

    /// The cookies that it holds.
    pub async fn cookies(&self) -> Result<Value> {
        self.get("cookie").await
    }

    /// A command of Chromium's own protocol.
    pub async fn chromium(&self, command: &str, parameters: Value) -> Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.post("goog/cdp/execute", body).await
    }

    /// Writes down how the whole page looks.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let shot = self.chromium("Page.captureScreenshot", parameters).await?;
        let shot = STANDARD.decode(shot["data"].as_str().context("no picture")?)?;
        Ok(std::fs::write(file, shot)?)
    }
}

fn request(method: &str, path: &str, body: &Value) -> String {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Drop for Browser {
    /// Chromium ends with its session, and would outlive a driver that is killed.
    fn drop(&mut self) {
        let end = || -> std::io::Result<()> {
            let mut stream = std::net::TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let path = format!("/session/{}", self.session);
            stream.write_all(request("DELETE", &path, &Value::Null).as_bytes())?;
            stream.read_exact(&mut [0])
        };
        if let Err(error) = end() {
            eprintln!("Chromium may go on running: {error}");
        }
        drop(self.driver.start_kill());
    }
}

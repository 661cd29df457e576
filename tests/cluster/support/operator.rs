//! The operator as a process of its own: the real binary, its log kept, gone when dropped.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::{sleep, timeout},
};

use super::PATIENCE;

/// How to start one. Its delays are short, and nothing hides behind a resync.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kubeconfig: PathBuf,
    /// Where it works; `None` for everywhere.
    pub watch: Option<String>,
    pub lease_namespace: String,
    pub lease: String,
    pub identity: String,
    /// The image of the servers' pods.
    pub image: String,
    /// `RUST_LOG`.
    pub log: String,
    /// More arguments. They come last, so they win over ours.
    pub arguments: Vec<String>,
}

/// What a process wrote so far.
#[derive(Clone, Debug)]
pub struct Log(Arc<watch::Sender<String>>);

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    pub log: Log,
}

/// It stays behind its lock, so that a signal never meets somebody who has its id by now.
#[derive(Clone, Debug)]
struct Process(Arc<Mutex<Child>>);

impl Process {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if it has ended.
    fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        ensure!(child.try_wait()?.is_none(), "it has ended");
        let id = child.id().context("it has ended")?;
        let id = Pid::from_raw(id.try_into()?).context("no process")?;
        Ok(kill_process(id, signal)?)
    }
}

impl Launch {
    /// Starts it; does not wait for anything.
    pub fn start(&self) -> Result<Operator> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zenop"));
        command
            .args(["operator", "--image", &self.image])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(
                self.watch
                    .iter()
                    .flat_map(|name| ["--watch-namespace", name]),
            )
            .args(["--identity", &self.identity])
            .args(["--lease-namespace", &self.lease_namespace])
            .args(["--lease-name", &self.lease])
            .args(["--retry-base", "50ms", "--retry-cap", "1s"])
            .args(&self.arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("RUST_LOG", &self.log);
        Operator::spawn(&mut command)
    }
}

async fn keep(stderr: ChildStderr, log: Log) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.0.send_modify(|all| {
            all.push_str(&line);
            all.push('\n');
        });
    }
    log.0
        .send_modify(|all| all.push_str("──── it ended ────\n"));
}

impl Log {
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until a line holds all of these.
    pub async fn says(&self, parts: &[&str]) -> Result<()> {
        let mut log = self.0.subscribe();
        let is = |line: &str| parts.iter().all(|part| line.contains(part));
        let said = log.wait_for(|text| text.lines().any(is));
        let said = timeout(PATIENCE, said).await;
        said.with_context(|| format!("the log does not say {parts:?}"))??;
        Ok(())
    }
}

impl Operator {
    /// Starts a command, which may be another one of the same program.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the program")?;
        let stderr = child.stderr.take().context("no log")?;
        let log = Log(Arc::new(watch::Sender::new(String::new())));
        tokio::spawn(keep(stderr, log.clone()));
        Ok(Self {
            process: Process(Arc::new(Mutex::new(child))),
            log,
        })
    }

    /// Waits until it leads.
    pub async fn leads(&self) -> Result<()> {
        self.log.says(&["\"leading\""]).await
    }

    /// What ends it as a crash would, whenever it is called.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let process = self.process.clone();
        move || {
            // It fails if the process has ended already.
            let _ = process.signal(Signal::KILL);
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until it has ended.
    pub async fn ended(self) -> Result<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.process.child().try_wait()? {
                    return anyhow::Ok(status);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ended).await.context("it does not end")?
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        matches!(self.process.child().try_wait(), Ok(None))
    }

    /// Ends it as a crash would.
    pub async fn crash(self) -> Result<()> {
        self.killer()();
        self.ended().await.map(drop)
    }

    /// Ends it in good order.
    pub async fn stop(self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// What `/metrics` shows.
    /// Waits until its metrics have this line: what it counts is what it sees.
    pub async fn measures(&self, line: &str) -> Result<()> {
        let seen = async {
            while !self.metrics().await?.lines().any(|found| found == line) {
                sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        let waited = timeout(PATIENCE, seen).await;
        waited.with_context(|| format!("never measured {line:?}"))?
    }

    pub async fn metrics(&self) -> Result<String> {
        self.log.says(&["probes and metrics"]).await?;
        let text = self.log.text();
        let line = text
            .lines()
            .find(|line| line.contains("probes and metrics"));
        let line: serde_json::Value = serde_json::from_str(line.context("no line")?)?;
        let address = line.pointer("/fields/address").or(line.get("address"));
        let address = address.and_then(|a| a.as_str()).context("no address")?;
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.contains(" 200 OK"), "{answer}");
        Ok(answer)
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let id = self.process.child().id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .context("no VmRSS")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?;
        Ok(kib * 1024)
    }
}

//! The library's end of a supervisor: finds its binary, starts it, holds its pipe, asks it things.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    Options,
    protocol::{Answer, Request, Running},
};

/// Names the sources that this library was compiled from.
pub const STAMP: &str = env!("ZENOP_CLUSTER_STAMP");

const BINARY: &str = "zenop-cluster";

/// A supervisor that lives for as long as this value. Dropping it waits until everything is torn down.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    /// `None` only while dropping.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Starts a cluster. Blocks until it is ready, with progress on stderr.
    pub fn start(options: &Options) -> Result<(Self, Running)> {
        let mut child = command(options)?
            .stdin(Stdio::piped())
            .spawn()
            .context("starting the supervisor")?;
        let requests = child.stdin.take();
        let answers = BufReader::new(
            child
                .stdout
                .take()
                .context("the supervisor has no stdout")?,
        );
        let mut supervisor = Self {
            child,
            requests,
            answers,
        };
        match supervisor.answer()? {
            Answer::Ready(running) => Ok((supervisor, *running)),
            Answer::Failed(reason) => bail!(reason),
            Answer::Done => bail!("the supervisor answered what nobody asked"),
        }
    }

    /// Asks for something. Blocks until it is done.
    pub fn ask(&mut self, request: Request) -> Result<()> {
        let pipe = self
            .requests
            .as_mut()
            .context("the supervisor is being torn down")?;
        writeln!(pipe, "{}", serde_json::to_string(&request)?).context("the supervisor is gone")?;
        match self.answer()? {
            Answer::Done => Ok(()),
            Answer::Failed(reason) => bail!(reason),
            Answer::Ready(_) => bail!("the supervisor answered what nobody asked"),
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        read_answer(&mut self.answers)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

/// Reads one answer of a supervisor.
pub fn read_answer(answers: &mut impl BufRead) -> Result<Answer> {
    let mut line = String::new();
    answers
        .read_line(&mut line)
        .context("hearing the supervisor")?;
    if line.is_empty() {
        bail!("the supervisor ended; it said why above");
    }
    serde_json::from_str(&line).context("understanding the supervisor")
}

/// The supervisor's command line, without its stdin. Ctrl-C does not reach it: its holder's end does.
pub fn command(options: &Options) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(["supervise", "--options", &serde_json::to_string(options)?]);
    command.stdout(Stdio::piped()).process_group(0);
    Ok(command)
}

/// The supervisor's binary, of the same sources as this library, built if need be.
fn binary() -> Result<PathBuf> {
    let me = env::current_exe().context("finding this program")?;
    // A test is target/<profile>/deps/<name>, an example target/<profile>/examples/<name>.
    let near = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(BINARY));
    let candidates = [me.clone()]
        .into_iter()
        .filter(|me| me.file_name() == Some(OsStr::new(BINARY)));
    match candidates.chain(near).find(|path| is_ours(path)) {
        Some(found) => Ok(found),
        None => build(),
    }
}

fn is_ours(path: &Path) -> bool {
    let said = Command::new(path).arg("stamp").output();
    said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == STAMP)
}

fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
            "--bin",
            BINARY,
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo to build the supervisor")?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = built
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back();
    match path.filter(|path| is_ours(path)) {
        Some(path) => Ok(path),
        None => bail!(
            "cargo could not build {BINARY} from the sources of this library: build it with cargo build --workspace"
        ),
    }
}

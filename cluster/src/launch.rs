//! The library's end of a supervisor: finds its binary, starts it, holds its pipe, asks it things.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::protocol::{Answer, Request, Running, Wanted};

/// Names the sources that this library was compiled from.
pub const STAMP: &str = env!("ZENOP_CLUSTER_STAMP");

const BINARY: &str = "zenop-cluster";

/// A supervisor that lives for as long as this value. Dropping it waits until everything is torn down.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    /// `None` when it was let go of.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Starts a cluster. Blocks until it is ready, with progress on stderr. Ctrl-C does not reach the supervisor: its
    /// holder's end does.
    pub fn start(wanted: &Wanted) -> Result<(Self, Running)> {
        let mut command = command(wanted)?;
        command.process_group(0);
        let mut supervisor = Self::spawn(command)?;
        let running = supervisor.running()?;
        Ok((supervisor, running))
    }

    /// Starts a cluster that outlives us once it is ready, until the supervisor that it names is told to end. Blocks
    /// until then, with progress on stderr.
    pub fn start_detached(wanted: &Wanted, note: &Path) -> Result<Running> {
        let mut command = command(wanted)?;
        command.arg("--note").arg(note).stderr(Stdio::piped());
        let mut supervisor = Self::spawn(command)?;
        // It must not keep our stderr, on whose end somebody may wait.
        if let Some(mut said) = supervisor.child.stderr.take() {
            thread::spawn(move || io::copy(&mut said, &mut io::stderr()));
        }
        let running = supervisor.running()?;
        supervisor.requests = None;
        Ok(running)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command.spawn().context("starting the supervisor")?;
        let requests = child.stdin.take();
        let answers = child
            .stdout
            .take()
            .context("the supervisor has no stdout")?;
        Ok(Self {
            child,
            requests,
            answers: BufReader::new(answers),
        })
    }

    fn running(&mut self) -> Result<Running> {
        match self.answer()? {
            Answer::Ready(running) => Ok(*running),
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
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("hearing the supervisor")?;
        if line.is_empty() {
            bail!("the supervisor ended; it said why above");
        }
        serde_json::from_str(&line).context("understanding the supervisor")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Without a pipe the supervisor was let go of.
        if self.requests.take().is_some() {
            let _ = self.child.wait();
        }
    }
}

/// The one tool of a group, built if need be. Blocks until then, with progress on stderr.
///
/// # Errors
///
/// If it cannot be built. The message says what to do.
pub fn tool(group: &str) -> Result<PathBuf> {
    let mut command = Command::new(binary()?);
    let output = command
        .args(["tools", group])
        .stderr(Stdio::inherit())
        .output();
    let output = output.context("running the supervisor's binary")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && !path.is_empty() {
        true => Ok(path.into()),
        false => bail!("there is no tool of group {group}; it was said why above"),
    }
}

fn command(wanted: &Wanted) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(["supervise", "--wanted", &serde_json::to_string(wanted)?]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
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
    // The whole workspace's features, as the tests have them: with this package's alone, all of kube would be compiled again.
    let output = Command::new(cargo)
        .args([
            "build",
            "--workspace",
            "--bin",
            BINARY,
            "--message-format=json-render-diagnostics",
        ])
        .arg("--manifest-path")
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

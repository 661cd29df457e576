//! How the program is run: with pipes, or at a terminal.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use serde_json::Value;
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use crate::support::{Operator, PATIENCE, Site, account, server};

/// Where the program is.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-zen");

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| self.out.clone())
    }

    pub fn yaml(&self) -> Result<Value> {
        serde_yaml_ng::from_str(&self.out).with_context(|| self.out.clone())
    }
}

/// The program, with a kubeconfig and a namespace.
pub struct Zen {
    kubeconfig: PathBuf,
    namespace: String,
    variables: Vec<(&'static str, OsString)>,
}

/// What standard output is at a terminal whose standard error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Terminal,
    Pipe,
}

impl Zen {
    pub fn new(site: &Site) -> Self {
        Self::with(site, site.plane.kubeconfig())
    }

    pub fn with(site: &Site, kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: site.name().to_owned(),
            variables: Vec::new(),
        }
    }

    /// With a variable of its environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
        command
    }

    /// Runs it with pipes and nobody at the keyboard.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ran> {
        self.run_in(arguments, Path::new("/")).await
    }

    /// The same in a folder.
    pub async fn run_in(&self, arguments: &[&str], folder: &Path) -> Result<Ran> {
        let mut command = self.command(arguments);
        let output = command.current_dir(folder).stdin(Stdio::null()).output();
        let output = timeout(PATIENCE, output).await.context("it hangs")??;
        let ran = Ran {
            code: output.status.code().context("a signal")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        };
        let may = arguments.contains(&"--unsafe-output");
        let shows = [&ran.out, &ran.err]
            .into_iter()
            .any(|text| text.contains("ZENKEY_"));
        ensure!(may || !shows, "{arguments:?} shows a key");
        Ok(ran)
    }

    /// Runs it; it must succeed. What it printed.
    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.run(arguments).await?;
        ensure!(ran.code == 0, "{arguments:?}: {ran:?}");
        Ok(ran.out)
    }

    /// Runs it; it must fail so and print nothing. What it complained of.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let ran = self.run(arguments).await?;
        ensure!(ran.code == code, "{arguments:?}: {ran:?}");
        ensure!(ran.out.is_empty(), "{arguments:?}: {ran:?}");
        ensure!(ran.err.contains("error: "), "{arguments:?}: {ran:?}");
        for debug in ["Error {", "Status {", "Some(", "ApiError"] {
            ensure!(!ran.err.contains(debug), "{arguments:?}: {ran:?}");
        }
        Ok(ran.err)
    }

    /// Runs it at a terminal of its own where somebody answers each question that is asked. What was
    /// to be seen is `err`.
    pub async fn talks(&self, arguments: &[&str], talk: &[(&str, &str)]) -> Result<Ran> {
        let (master, slave) = terminal()?;
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait", PROGRAM, "--namespace", &self.namespace])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .kill_on_drop(true);
        command.stdin(slave.try_clone()?).stderr(slave.try_clone()?);
        command.stdout(slave);
        let mut child = command.spawn()?;
        drop(command);
        let talk: Vec<_> = talk
            .iter()
            .map(|(question, answer)| ((*question).to_owned(), (*answer).to_owned()))
            .collect();
        let talked = tokio::task::spawn_blocking(move || conversation(&master, &talk));
        let seen = timeout(PATIENCE, talked).await.context("it hangs")???;
        let status = timeout(PATIENCE, child.wait())
            .await
            .context("it hangs")??;
        Ok(Ran {
            code: status.code().context("a signal")?,
            out: String::new(),
            err: seen,
        })
    }

    /// Runs it at a terminal where somebody has typed a line. What was to be seen there is `err`.
    pub async fn at_terminal(&self, arguments: &[&str], out: Out, typed: &str) -> Result<Ran> {
        let (master, slave) = terminal()?;
        let mut command = self.command(arguments);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(slave.try_clone()?).stderr(slave.try_clone()?);
        // No end of the terminal may stay with us: the screen ends with the last one.
        command.stdout(match out {
            Out::Terminal => Stdio::from(slave),
            Out::Pipe => {
                drop(slave);
                Stdio::piped()
            }
        });
        let mut child = command.spawn()?;
        drop(command);
        rustix::io::write(&master, format!("{typed}\n").as_bytes())?;
        let screen = tokio::task::spawn_blocking(move || screen(master));
        let mut printed = String::new();
        if let Some(pipe) = &mut child.stdout {
            pipe.read_to_string(&mut printed).await?;
        }
        let status = timeout(PATIENCE, child.wait())
            .await
            .context("it hangs")??;
        Ok(Ran {
            code: status.code().context("a signal")?,
            out: printed,
            err: timeout(PATIENCE, screen)
                .await
                .context("the screen stays")??,
        })
    }
}

fn terminal() -> Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(OsStr::from_bytes(name.as_bytes()), flags, Mode::empty())?;
    Ok((master, slave))
}

/// Everything until nobody has the terminal any more, which Linux tells as an error.
/// Answers each question once it is asked, and returns all that was to be seen.
fn conversation(master: &OwnedFd, talk: &[(String, String)]) -> Result<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let mut answered = 0;
    for (question, answer) in talk {
        while !String::from_utf8_lossy(&seen[answered..]).contains(question) {
            let read = rustix::io::read(master, &mut buffer).unwrap_or(0);
            ensure!(
                read > 0,
                "{question:?} is not asked: {}",
                String::from_utf8_lossy(&seen)
            );
            seen.extend_from_slice(&buffer[..read]);
        }
        answered = seen.len();
        // Whoever asks for what is not to be seen turns the echo off a moment after the question.
        while question.starts_with("Value")
            && tcgetattr(master)?.local_modes.contains(LocalModes::ECHO)
        {
            std::thread::yield_now();
        }
        rustix::io::write(master, format!("{answer}\n").as_bytes())?;
    }
    while let Ok(read @ 1..) = rustix::io::read(master, &mut buffer) {
        seen.extend_from_slice(&buffer[..read]);
    }
    Ok(String::from_utf8_lossy(&seen).replace("\r\n", "\n"))
}

fn screen(master: OwnedFd) -> String {
    let mut master = File::from(master);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

/// An operator, server `prod`, account `ci`, the plugin.
pub async fn set_up(site: &Site) -> Result<(Operator, Zen)> {
    let operator = site.operator().await?;
    site.apply(&server("prod")).await?;
    site.apply(&account("ci")).await?;
    Ok((operator, Zen::new(site)))
}

/// The key in what somebody saw.
pub fn key_in(text: &str) -> Result<String> {
    let line = text.lines().find(|line| line.starts_with("ZENKEY_"));
    Ok(line
        .with_context(|| format!("no key in {text}"))?
        .to_owned())
}

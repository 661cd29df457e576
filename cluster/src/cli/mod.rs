//! The command line. Not part of the library's interface.

mod run;
mod up;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{Options, launch, process, progress, supervisor, tools};

/// A real local Kubernetes, built from source.
#[derive(Debug, Parser)]
#[command(name = "zenop-cluster", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster that stays until `down`, and say how to use it.
    Up(Features),
    /// Stop the cluster that `up` started.
    Down,
    /// Say whether a cluster is up and how to use it; fails if none is.
    Status,
    /// Print the path of the kubeconfig of the cluster that is up.
    Kubeconfig,
    /// Run a command on a cluster that lasts as long as it does. The exit code is the command's.
    Run {
        #[command(flatten)]
        features: Features,
        /// Use the cluster that KUBECONFIG names instead of starting one.
        #[arg(long, conflicts_with = "Features")]
        existing: bool,
        /// The command and its arguments, after `--`. It finds KUBECONFIG set, and kubectl and helm on PATH.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Build the tools of the given groups (all by default) and print where they are.
    Tools {
        /// What to build.
        groups: Vec<tools::Group>,
    },
    /// Own one cluster until stdin ends. For the library.
    #[command(hide = true)]
    Supervise {
        /// The library's `Options`, as JSON.
        #[arg(long)]
        options: String,
        /// Nobody holds stdin: run until a signal, and describe the cluster in this file.
        #[arg(long)]
        note: Option<PathBuf>,
    },
    /// Become another program that dies with its parent. For the supervisor.
    #[command(hide = true)]
    Exec {
        /// The process that must be our parent.
        #[arg(long)]
        parent: u32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print which sources this was built from. For the library.
    #[command(hide = true)]
    Stamp,
}

/// What the cluster should have.
#[derive(Debug, Args)]
struct Features {
    /// One node that only pretends: every pod turns Ready, though nothing runs.
    #[arg(long)]
    kwok: bool,
    /// Write an audit log, `audit.log` in the cluster's folder.
    #[arg(long)]
    audit: bool,
}

impl Features {
    fn options(&self) -> Options {
        Options {
            audit: self.audit,
            kwok: self.kwok,
            helm: true,
            apiserver_args: Vec::new(),
        }
    }
}

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Exec { parent, command } => return become_program(parent, &command),
        command => perform(command),
    };
    done.unwrap_or_else(|error| {
        progress::say(format_args!("zenop-cluster: {error:#}"));
        ExitCode::FAILURE
    })
}

/// On one thread, because a child's life can be tied to a thread's only: see [`process::tied`].
#[tokio::main(flavor = "current_thread")]
async fn perform(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(features) => return up::up(&features.options()),
        Command::Down => return up::down(),
        Command::Status => return up::status(),
        Command::Kubeconfig => return up::kubeconfig(),
        Command::Run {
            existing: true,
            command,
            ..
        } => return run::on_existing(&command).await,
        Command::Run {
            features, command, ..
        } => return run::on_new(features.options(), &command).await,
        Command::Tools { groups } => print_tools(&groups).await?,
        Command::Supervise { options, note } => {
            supervisor::run(
                serde_json::from_str(&options).context("reading --options")?,
                note,
            )
            .await?;
        }
        Command::Stamp => println!("{}", launch::STAMP),
        Command::Exec { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn print_tools(groups: &[tools::Group]) -> Result<()> {
    let wanted = tools::TOOLS
        .iter()
        .filter(|tool| groups.is_empty() || groups.contains(&tool.group));
    for tool in tools::ensure(&wanted.collect::<Vec<_>>()).await? {
        println!("{} {}", tool.name, tool.path.display());
    }
    Ok(())
}

fn become_program(parent: u32, command: &[OsString]) -> ExitCode {
    let Some((program, args)) = command.split_first() else {
        return ExitCode::FAILURE;
    };
    match process::become_tied(parent, program, args) {
        Ok(never) => match never {},
        Err(error) => {
            progress::say(format_args!("{}: {error}", program.display()));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            ExitCode::from(if missing { process::NOT_FOUND } else { 126 })
        }
    }
}

//! The command line. Not part of the library's interface.

mod run;
mod up;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{Options, image, launch, process, progress, protocol::Wanted, supervisor, tools};

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
    /// Run a command, by default a shell, in the network of the node that is up: Services and pods are reached there.
    Enter {
        /// The command and its arguments, after `--`.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Make a container image of one static binary, which it runs as `/zenop`, or of a root file system.
    Image {
        #[command(flatten)]
        content: Content,
        /// What the image is called, whole: `zenop.dev/zenop:dev`.
        #[arg(long, short)]
        name: String,
        /// The archive to write.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Give the node that is up the images of an archive.
    Load {
        /// The archive.
        archive: PathBuf,
    },
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
    /// Build the tools of the given groups, all by default, and print their paths.
    Tools {
        /// What to build.
        groups: Vec<tools::Group>,
    },
    /// Own one cluster until stdin ends. For the library.
    #[command(hide = true)]
    Supervise {
        /// What to start, as JSON.
        #[arg(long)]
        wanted: String,
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
    /// Be the first process of a node's own. For the supervisor.
    #[command(hide = true)]
    Init,
    /// Forward a port into a node's network. For the supervisor.
    #[command(hide = true)]
    Forward {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// The file that names the network.
        #[arg(long)]
        network: PathBuf,
        /// Where to connect to, in it.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Print which sources this was built from. For the library.
    #[command(hide = true)]
    Stamp,
}

/// What is in an image.
#[derive(Debug, Args)]
struct Content {
    /// The binary.
    #[arg(long, short, required_unless_present = "root")]
    binary: Option<PathBuf>,
    /// The folder with the root file system.
    #[arg(long, short, conflicts_with = "binary")]
    root: Option<PathBuf>,
    /// With `--root`: an environment variable of its containers, as NAME=value. Any number of times.
    #[arg(long, requires = "root")]
    env: Vec<String>,
    /// With `--root`: who its containers run as. Default: 65532.
    #[arg(long, requires = "root")]
    user: Option<String>,
}

impl Content {
    fn build(self, name: &str, archive: &Path) -> Result<()> {
        let Some(root) = self.root else {
            let binary = self.binary.context("neither --binary nor --root")?;
            return image::build(&binary, name, archive);
        };
        let mut defaults = image::Defaults {
            env: self.env,
            ..Default::default()
        };
        if let Some(user) = self.user {
            defaults.user = user;
        }
        image::build_tree(&root, name, &defaults, archive)
    }
}

/// What the cluster should have.
#[derive(Debug, Args)]
struct Features {
    /// One node that only pretends: every pod turns Ready, though nothing runs.
    #[arg(long, conflicts_with = "node")]
    kwok: bool,
    /// One node of real containers. Needs root on Linux.
    #[arg(long)]
    node: bool,
    /// Write an audit log, `audit.log` in the cluster's folder.
    #[arg(long)]
    audit: bool,
}

impl Features {
    fn wanted(&self) -> Wanted {
        let options = Options {
            audit: self.audit,
            audit_bodies: false,
            kwok: self.kwok,
            helm: true,
            apiserver_args: Vec::new(),
        };
        Wanted {
            options,
            node: self.node,
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
        Command::Up(features) => return up::up(&features.wanted()),
        Command::Down => return up::down(),
        Command::Status => return up::status(),
        Command::Enter { command } => return up::enter(&command),
        Command::Load { archive } => return up::load(&archive).await,
        Command::Image {
            content,
            name,
            output,
        } => content.build(&name, &output)?,
        Command::Kubeconfig => return up::kubeconfig(),
        Command::Run {
            existing: true,
            command,
            ..
        } => return run::on_existing(&command).await,
        Command::Run {
            features, command, ..
        } => return run::on_new(features.wanted(), &command).await,
        Command::Tools { groups } => print_tools(&groups).await?,
        Command::Supervise { wanted, note } => {
            supervisor::run(
                serde_json::from_str(&wanted).context("reading --wanted")?,
                note,
            )
            .await?;
        }
        Command::Init => supervisor::space::init()?,
        Command::Forward {
            listen,
            network,
            to,
        } => supervisor::forward::run(listen, &network, to).await?,
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
        println!("{}", tool.path.display());
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

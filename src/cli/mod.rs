//! `kubectl zen`: servers, accounts, keys, users and devices from the command line. One file for each noun; `output` is
//! the only printer.

mod active;
mod arguments;
mod change;
mod cluster;
mod completion;
mod component;
mod create;
mod delete;
mod describe;
mod device;
mod failure;
mod get;
mod key;
mod list;
mod noun;
mod output;
mod owner;
mod restore;
mod secret;
mod server;
mod service_account;
mod span;
mod table;
mod user;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use jiff::Timestamp;

use self::{
    arguments::Connection,
    cluster::Cluster,
    completion::{CompletionArguments, TypedWords},
    failure::{Exit, Failure},
    output::Output,
};

/// ZenML service accounts and API keys on Kubernetes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-zen",
    bin_name = "kubectl zen",
    version,
    long_about = "ZenML service accounts and API keys on Kubernetes, kept by zenop.\n\n\
                  Everything it does is a change of custom resources that kubectl can make as \
                  well; what it adds is waiting, checks, and words.",
    after_long_help = "\
Examples:
  kubectl zen server deploy prod
  kubectl zen sa create ci
  kubectl zen key create ci-main --service-account ci
  kubectl zen key list
  kubectl zen key rotate ci-main --wait
  kubectl zen key deactivate ci-main

Exit codes:
  0  done
  1  failed: refused by the API server, not reachable, or a person must act on the object
  2  the command line is wrong, or lacks a flag such as --yes or --unsafe-output
  3  not found
  4  in conflict: exists already, is protected, or is managed by Flux, Argo CD or Helm
  5  waited for in vain
  6  not logged in to the cluster, or without the right"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Servers: what ZenML clients connect to.
    #[command(subcommand, alias = "zsrv")]
    Server(server::Command),

    /// Service accounts: the identities that keys belong to.
    #[command(subcommand, visible_alias = "service-account", alias = "zsa")]
    Sa(service_account::Command),

    /// API keys: what a program logs in with.
    #[command(subcommand, visible_alias = "api-key", alias = "zkey")]
    Key(key::Command),

    /// Users: the people of a server.
    #[command(subcommand, alias = "zusr")]
    User(user::Command),

    /// Devices that people log in from.
    #[command(subcommand, alias = "zdev")]
    Device(device::Command),

    /// Secrets: values that people and workloads share.
    #[command(subcommand, alias = "zsec")]
    Secret(secret::Command),

    /// Stack components whose attributes may refer to secrets.
    #[command(subcommand, alias = "zcomp")]
    Component(component::Command),

    /// What components of a stack have in common.
    #[command(subcommand)]
    Stack(component::register::Stack),

    /// Print a completion script.
    #[command(after_long_help = "\
Examples:
  kubectl zen completion bash > ~/.local/share/bash-completion/completions/kubectl-zen
  # For `kubectl zen` with a blank: kubectl asks a program of this name.
  kubectl zen completion kubectl > ~/.local/bin/kubectl_complete-zen
  chmod +x ~/.local/bin/kubectl_complete-zen")]
    Completion(CompletionArguments),

    /// What kubectl asks for completion.
    #[command(name = "__complete", hide = true)]
    Complete(TypedWords),
}

/// What every command works with.
struct Session {
    connection: Connection,
    out: Output,
    now: fn() -> Timestamp,
    random: fn(&mut [u8]),
}

impl Session {
    async fn cluster(&self) -> Result<Cluster, Failure> {
        Cluster::connect(&self.connection, self.now).await
    }

    fn complain(&self, failure: &Failure) {
        if !failure.message.is_empty() {
            self.out.note(&format!("error: {failure}"));
        }
    }
}

/// Runs the command that the arguments name, with a clock and a source of randomness.
pub fn main(now: fn() -> Timestamp, random: fn(&mut [u8])) -> ExitCode {
    let given = secret::with_entries(&Arguments::command(), std::env::args_os());
    let arguments = Arguments::parse_from(given);
    let session = Session {
        connection: arguments.connection,
        out: Output::of_process(),
        now,
        random,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(arguments.command.run(&session)),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            session.complain(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

impl Command {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Server(command) => command.run(session).await,
            Self::Sa(command) => command.run(session).await,
            Self::Key(command) => command.run(session).await,
            Self::User(command) => command.run(session).await,
            Self::Device(command) => command.run(session).await,
            Self::Secret(command) => command.run(session).await,
            Self::Component(command) => command.run(session).await,
            Self::Stack(command) => command.run(session).await,
            Self::Completion(arguments) => completion::script(session, arguments),
            Self::Complete(words) => completion::answer(session, words),
        }
    }
}

//! The composition root: alone in knowing arguments, environment, clock, entropy and sockets.

mod admin;
mod certificate;
pub mod clock;
mod config;
mod kubernetes;
pub mod lease;
mod operator;
pub mod outside;
mod shutdown;
mod sidecar;
mod telemetry;
pub mod upstream;

use std::process::ExitCode;

use clap::Parser;

use self::config::{Arguments, Command};

/// Runs the command that the arguments name, to its end.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Crds(crds) => config::write_crds(&crds),
        Command::Operator(operator) => {
            telemetry::start(arguments.log_format);
            on_one_core(operator::run(operator))
        }
        Command::Sidecar(sidecar) => {
            telemetry::start(arguments.log_format);
            on_all_cores(sidecar::run(sidecar))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zenop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// For what waits nearly always. Each thread would keep memory of its own.
fn on_one_core(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn on_all_cores(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

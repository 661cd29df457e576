//! The `zenop-cluster` command: parse, delegate.

use std::process::ExitCode;

fn main() -> ExitCode {
    zenop_cluster::cli::main()
}

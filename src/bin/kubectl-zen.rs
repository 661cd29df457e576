//! The kubectl plugin `kubectl zen`: delegate, with the one clock and the one source of randomness.

use std::process::ExitCode;

use zenop::{cli, runtime::clock};

fn main() -> ExitCode {
    cli::main(clock::now, clock::fill_random)
}

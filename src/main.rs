//! The operator and the sidecar: parse, delegate.

use std::process::ExitCode;

fn main() -> ExitCode {
    zenop::runtime::main()
}

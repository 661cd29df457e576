//! The operator and the sidecar: parse, delegate.

use std::process::ExitCode;

// glibc's allocator keeps what a list of ten thousand objects once needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zenop::runtime::main()
}

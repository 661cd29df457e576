//! `make bench`: the ratios of what zenop does to what the machine could do, each in one run.
//!
//! Every figure is measured against a peer on the same machine in the same minute, in rounds that
//! alternate, and printed as the median with the spread. A round whose raw figure is more than 15 %
//! off the others' is said so: then the run says little.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark measures by the real clock, and one that panics fails, as it should"
)]

mod door;
mod latency;
mod load;
mod peer;
mod polls;
mod processes;
mod reconcile;
mod references;
mod rest;
mod secrets;
mod table;

use std::path::Path;

fn main() {
    // cargo passes --bench; a peer process is started with an address.
    if let Ok(address) = std::env::var("ZENOP_BENCH_BARE") {
        return runtime().block_on(door::serve_bare(&address));
    }
    let only = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut rows = Vec::new();
    if wanted("reconcile") {
        rows.extend(runtime().block_on(reconcile::run()));
    }
    if wanted("secrets") {
        rows.extend(runtime().block_on(secrets::run()));
    }
    if wanted("references") {
        rows.extend(runtime().block_on(references::run()));
    }
    if wanted("latency") {
        rows.extend(runtime().block_on(latency::run()));
    }
    if wanted("rest") {
        rows.extend(runtime().block_on(rest::run()));
    }
    if wanted("door") {
        rows.extend(runtime().block_on(door::run()));
    }
    if wanted("polls") {
        rows.extend(runtime().block_on(polls::run()));
    }
    table::print(&rows);
    let plot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ratios.svg");
    std::fs::write(&plot, table::plot(&rows)).expect("the plot can be written");
    println!("\nplot: {}", plot.display());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The number that an environment variable gives, or the usual one.
fn count(variable: &str, usual: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// How many rounds: `ZENOP_BENCH_ROUNDS`, else 5.
fn rounds() -> usize {
    count("ZENOP_BENCH_ROUNDS", 5)
}

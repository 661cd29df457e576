//! Tests without a network or a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails, as it should"
)]

mod chart;
mod fuzz;
mod http;
#[path = "../support/mod.rs"]
mod support;
mod tidy;

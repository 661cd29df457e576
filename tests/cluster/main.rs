//! What only a real API server can prove. One control plane for all tests here, a namespace for each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails, as it should"
)]

mod chart;
mod lease;
mod operator;
mod rights;
#[allow(
    dead_code,
    reason = "shared with the client tests, which use other parts"
)]
mod support;

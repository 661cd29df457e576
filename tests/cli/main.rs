//! `kubectl zen`, the real program, against a real API server and the real operator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails, as it should"
)]

mod changes;
mod components;
mod devices;
#[path = "../client/door.rs"]
#[allow(dead_code, reason = "shared with the client tests")]
mod door;
mod exits;
mod help;
mod keys;
#[path = "../client/link.rs"]
mod link;
mod managed;
mod offline;
mod plugin;
#[path = "../client/program.rs"]
#[allow(dead_code, reason = "shared with the client tests")]
mod program;
mod reading;
mod restore;
mod secrets;
mod servers;
#[path = "../cluster/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the cluster tests")]
mod support;
mod users;
mod zen;

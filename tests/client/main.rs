//! The real `zenml` client, and plain requests, against real sidecars fed by the real operator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that panics fails, as it should"
)]

mod api_token;
mod browser;
mod changes;
mod commands;
mod device_login;
mod devices;
mod door;
#[path = "../browser/driver.rs"]
#[allow(dead_code, reason = "shared with the tests of the pages")]
mod driver;
mod external;
mod freshness;
mod gateway;
mod harm;
mod imported;
mod interop;
mod link;
mod migration;
mod pod;
mod program;
mod propagation;
mod references;
mod revocation;
mod rotation;
mod schemes;
mod secrets;
mod signing;
#[path = "../cluster/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the cluster tests")]
mod support;
mod tenants;
mod upstream;
mod users;
mod zenml;

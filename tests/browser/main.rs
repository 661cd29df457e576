//! The pages in real Chromium, driven by chromedriver: what a person sees and can do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that panics fails, as it should"
)]

#[allow(dead_code, reason = "shared with the tests of the client")]
mod driver;
mod pages;
mod scene;
mod screens;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the hermetic tests")]
mod support;

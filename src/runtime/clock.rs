//! The one place that reads the clock and draws randomness.
#![expect(
    clippy::disallowed_methods,
    reason = "everybody else takes time and randomness as arguments"
)]

use std::time::Instant;

use jiff::Timestamp;

/// The time for measuring how long something took. It never goes back, and means nothing to another process.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The time of day. It may jump.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Fills the bytes with randomness that is good for keys.
///
/// # Panics
/// If the operating system has none to give. There is no safe way on from there.
#[expect(
    clippy::expect_used,
    reason = "a process that cannot draw keys must not go on"
)]
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}

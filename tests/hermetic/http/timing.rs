//! L5, K04: an unknown key and a wrong one cost the same.

#![expect(clippy::disallowed_methods, reason = "time is what is measured")]

use std::time::{Duration, Instant};

use zenop::auth::api_key::{ApiKey, KeySecret};

use super::client::{Server, now};
use crate::support;

/// Coarse, so that a busy machine does not fail it: what it would catch is an early return, which
/// makes the ratio 10 and more. Samples alternate, so that noise meets both alike.
#[test]
fn k04_an_unknown_key_takes_as_long_as_a_wrong_one() {
    let server = Server::new();
    let unknown = support::key_text(99);
    let wrong = ApiKey {
        id: server.key.id,
        secret: KeySecret::from_random(&[9; 32]),
    };
    let mut times = [Vec::new(), Vec::new()];
    server.change(|state| {
        for _ in 0..20_000 {
            for (key, times) in [&unknown, &wrong].into_iter().zip(&mut times) {
                let begun = Instant::now();
                let refused = state
                    .directory
                    .authenticate(&state.keyring, key, now(), None);
                times.push(begun.elapsed());
                refused.unwrap_err();
            }
        }
    });
    let [unknown, wrong] = times.map(median);
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{unknown:?} against {wrong:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

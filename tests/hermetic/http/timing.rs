//! L5, K04: an unknown key and a wrong one cost the same.

#![expect(clippy::disallowed_methods, reason = "time is what is measured")]

use std::time::{Duration, Instant};

use uuid::Uuid;
use zenop::auth::{
    api_key::{ApiKey, KeySecret},
    shelf::{Secret, Uses},
};

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

/// Somebody else's private secret is looked for as long as one that is not there. Coarse as above.
#[test]
fn a_private_secret_of_another_takes_as_long_as_none() {
    let server = Server::new();
    let none = Uuid::from_u128(0x5ec0_0000_0000_4000_8000_0000_0000_0002);
    let theirs = Uuid::from_u128(0x5ec0_0000_0000_4000_8000_0000_0000_0001);
    let mut times = [Vec::new(), Vec::new()];
    server.change(|state| {
        let owner = support::add_user(state, 1, "ana", true);
        state.directory.put_secret(Secret {
            id: theirs,
            object: "theirs".into(),
            name: "theirs".into(),
            private: true,
            owner: state.directory.as_owner(owner),
            created: now(),
            updated: now(),
            generation: 1,
            observed: 1,
            delivered: None,
            used_by: Uses::default(),
        });
        for _ in 0..20_000 {
            for (id, times) in [none, theirs].into_iter().zip(&mut times) {
                let begun = Instant::now();
                let found = state.directory.secret(id, server.account);
                times.push(begun.elapsed());
                assert!(found.is_none());
            }
        }
    });
    let [none, theirs] = times.map(median);
    let ratio = none.as_secs_f64() / theirs.as_secs_f64();
    assert!((0.4..2.5).contains(&ratio), "{none:?} against {theirs:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

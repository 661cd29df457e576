//! Keys of which only a slow hash is known: the first login of each computes it, beside the threads
//! that answer requests, a few at a time. Who comes when too many wait is told to come again.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{App, Refusal};
use crate::auth::api_key::ApiKey;

/// How many are computed at once.
const AT_ONCE: usize = 2;
/// How many may be computed or wait for it.
const QUEUE: usize = 16;

/// The places for slow hashes.
pub(super) struct SlowHashes {
    queue: Semaphore,
    places: Arc<Semaphore>,
}

impl Default for SlowHashes {
    fn default() -> Self {
        Self {
            queue: Semaphore::new(QUEUE),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// Whether a key may be one of which only a slow hash is known, and nobody proved yet to hold it.
pub(super) fn is_unproven(app: &App, key: &ApiKey) -> Result<bool, Refusal> {
    let view = app.view()?;
    let hashes = view.directory.unproven(&view.keyring, key, app.now());
    Ok(!hashes.is_empty())
}

/// Holds a key against the slow hashes that it may be of, so that it is known from now on if it is
/// right.
pub(super) async fn prove(app: &App, key: &ApiKey) -> Result<(), Refusal> {
    if !is_unproven(app, key)? {
        return Ok(());
    }
    let _waits = app.slow().queue.try_acquire().map_err(|_| Refusal::Busy)?;
    let places = Arc::clone(&app.slow().places);
    let place = places.acquire_owned().await.map_err(|_| Refusal::Busy)?;
    // Somebody else may have proved it meanwhile.
    let hashes = {
        let view = app.view()?;
        view.directory.unproven(&view.keyring, key, app.now())
    };
    if hashes.is_empty() {
        return Ok(());
    }
    let secret = key.secret.clone();
    let compute = move || {
        // Given back when it is done, also if the client does not wait for that.
        let _place = place;
        hashes.into_iter().find(|hash| hash.is_of(&secret))
    };
    let found = tokio::task::spawn_blocking(compute).await;
    if let Some(hash) = found.map_err(|_| Refusal::Unexpected)? {
        let view = app.view()?;
        view.directory.recognise(&view.keyring, key, &hash);
    }
    Ok(())
}

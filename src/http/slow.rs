//! Keys of which only a slow hash is known: the first login of each computes it, beside the threads
//! that answer requests, a few at a time. Who comes when too many wait is told to come again.

use super::{App, Refusal};
use crate::auth::api_key::ApiKey;

/// How many may be computed or wait for it.
pub(super) const PLACES: usize = 16;

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
    let (known, presented) = (app.clone(), key.clone());
    let compute = move || {
        // Somebody else may have proved it meanwhile.
        let hashes = {
            let view = known.view()?;
            view.directory
                .unproven(&view.keyring, &presented, known.now())
        };
        let mut hashes = hashes.into_iter();
        Ok::<_, Refusal>(hashes.find(|hash| hash.is_of(&presented.secret)))
    };
    if let Some(hash) = app.slow().work(compute).await?? {
        let view = app.view()?;
        view.directory.recognise(&view.keyring, key, &hash);
    }
    Ok(())
}

//! Every call to the API server has an end.

use std::{future::Future, time::Duration};

use super::error::CallError;

/// How long one call may take: less than the time between the end of a lead and the beginning of
/// the next one (5 s by default), so that no write of one who leads arrives under another.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Waits for a call, but not for ever: kube sets no read timeout, and a silent connection would
/// hold its object's place in the queue.
///
/// # Errors
/// If it fails or does not end in [`CALL_TIMEOUT`].
pub async fn call<T>(
    what: impl FnOnce() -> String,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(CallError::Failed {
            what: what(),
            source,
        }),
        Err(_) => Err(CallError::TimedOut {
            what: what(),
            after: CALL_TIMEOUT,
        }),
    }
}

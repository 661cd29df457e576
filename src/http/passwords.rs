//! Where passwords are tried and set: off the async threads, few at a time.
//!
//! One costs 20 ms and 19 MiB by intent. So that many of them neither stop the others nor eat the
//! pod's memory, two are worked on at once, some wait, and the rest is told to come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use super::{App, Refusal};
use crate::auth::{
    api_key::Pepper,
    credential::{Password, Verifier},
};
use uuid::Uuid;

/// How many are worked on at once.
const AT_ONCE: usize = 2;
/// How many may wait: at 20 ms each, less than a second.
const WAITING: usize = 64;

/// The place where passwords are tried.
pub(super) struct Passwords {
    at_work: Arc<Semaphore>,
    here: AtomicUsize,
}

/// One who waits or is worked on.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            at_work: Arc::new(Semaphore::new(AT_ONCE)),
            here: AtomicUsize::new(0),
        }
    }

    /// Does slow work, when its turn comes.
    ///
    /// # Errors
    /// [`Refusal::Busy`], at once, if too many wait.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let others = self.here.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.here);
        if others >= AT_ONCE + WAITING {
            return Err(Refusal::Busy);
        }
        let permit = Arc::clone(&self.at_work).acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::Unexpected)?;
        let work = move || {
            // Kept to the end of the work, also if nobody waits for it any more.
            let _permit = permit;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Refusal::Unexpected)
    }
}

impl App {
    /// Whether a password is the one that a verifier stands for.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn fits(
        &self,
        pepper: Pepper,
        user: Uuid,
        verifier: Verifier,
        password: Password,
    ) -> Result<bool, Refusal> {
        let work = move || verifier.fits(&pepper, user, &password);
        self.passwords().work(work).await
    }

    /// What stands for a password that is set now.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn hashed(&self, user: Uuid, password: Password) -> Result<Verifier, Refusal> {
        let pepper = self.view()?.keyring.pepper().clone();
        let salt = *self.draw::<16>();
        let work = move || Verifier::new(&pepper, user, &password, salt);
        let verifier = self.passwords().work(work).await?;
        let verifier = verifier.map_err(|_| Refusal::Unexpected)?;
        Ok(verifier.at(self.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn too_many_are_told_at_once_and_the_others_have_their_turn() {
        let passwords = Arc::new(Passwords::new());
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(parking_lot::Mutex::new(gate));
        let spawn = || {
            let (passwords, gate) = (Arc::clone(&passwords), Arc::clone(&gate));
            tokio::spawn(async move {
                let wait = move || gate.lock().recv().unwrap_or_default();
                passwords.work(wait).await
            })
        };
        let mut tasks: Vec<_> = (0..AT_ONCE + WAITING).map(|_| spawn()).collect();
        while passwords.here.load(Ordering::Relaxed) < AT_ONCE + WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(passwords.work(|| ()).await, Err(Refusal::Busy));
        drop(open);
        for task in tasks.drain(..) {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert_eq!(passwords.work(|| 7).await, Ok(7));
    }
}

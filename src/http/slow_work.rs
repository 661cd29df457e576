//! Where what is slow by intent is done: off the async threads, few at a time.
//!
//! So that many who ask for it neither stop the others nor eat the pod's memory, two are worked on
//! at once, some wait, and the rest is told to come back.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Refusal;

/// How many are worked on at once.
const AT_ONCE: usize = 2;

/// A place where slow work is done.
pub(super) struct SlowWork {
    at_work: Arc<Semaphore>,
    /// For those who wait and those who are worked on.
    places: Semaphore,
}

impl SlowWork {
    /// One where so many may be, those included who are worked on.
    pub(super) fn new(places: usize) -> Self {
        Self {
            at_work: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(places),
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
        let _place = self.places.try_acquire().map_err(|_| Refusal::Busy)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 66;

    #[tokio::test]
    async fn too_many_are_told_at_once_and_the_others_have_their_turn() {
        let place = Arc::new(SlowWork::new(PLACES));
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(parking_lot::Mutex::new(gate));
        let spawn = || {
            let (place, gate) = (Arc::clone(&place), Arc::clone(&gate));
            tokio::spawn(async move {
                let wait = move || gate.lock().recv().unwrap_or_default();
                place.work(wait).await
            })
        };
        let mut tasks: Vec<_> = (0..PLACES).map(|_| spawn()).collect();
        while place.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(place.work(|| ()).await, Err(Refusal::Busy));
        drop(open);
        for task in tasks.drain(..) {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert_eq!(place.work(|| 7).await, Ok(7));
    }
}

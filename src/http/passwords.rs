//! Passwords are tried and set beside the threads that answer requests. One costs 20 ms and 19 MiB by
//! intent.

use uuid::Uuid;

use super::{App, Refusal};
use crate::auth::{
    api_key::Pepper,
    credential::{Password, Verifier},
};

/// How many may be tried or wait for it: at 20 ms each, and two at a time, less than a second.
pub(super) const PLACES: usize = 66;

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

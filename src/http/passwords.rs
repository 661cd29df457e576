//! Passwords are tried and set beside the threads that answer requests. One costs 20 ms and 19 MiB by
//! intent.

use uuid::Uuid;

use super::{
    App, Refusal,
    extract::{ClientAddress, NameOrId},
    limiter::{Attempt, Claim},
};
use crate::{
    auth::{
        api_key::{Pepper, Print},
        credential::{Password, Verifier},
        directory::{Directory, User},
        principal::Refused,
    },
    store::State,
};

/// How many may be tried or wait for it: at 20 ms each, and two at a time, less than a second.
pub(super) const PLACES: usize = 66;

impl App {
    /// What `enter` makes of the user whose password it is, and of what stands for that.
    ///
    /// A password is tried away from the view, as it takes its time, and a user who is not there as
    /// long, and as often, as one who is. Who failed too often waits, also with the right one:
    /// passwords can be guessed.
    ///
    /// # Errors
    /// [`Refused::BadPassword`], what `enter` refuses with, or that there is no time for it.
    pub(super) async fn try_password<T>(
        &self,
        ClientAddress(address): ClientAddress,
        username: &NameOrId,
        password: Password,
        enter: impl FnOnce(&State, Uuid, Print) -> Result<T, Refused>,
    ) -> Result<T, Refusal> {
        let (candidate, attempt) = {
            let view = self.view()?;
            let found = named(&view.directory, username);
            let claim = match (found, username) {
                (Some(user), _) => Claim::User(user.id),
                (None, NameOrId::Id(id)) => Claim::User(*id),
                (None, NameOrId::Name(name)) => Claim::Stranger(name),
            };
            let attempt = Attempt {
                rates: view.settings.login_rates,
                of_all: view.settings.global_rates,
                claim: Some(claim),
                address,
                at: self.now(),
            };
            (Candidate::of(&view, found), attempt)
        };
        self.limiter().begin(&attempt)?;
        let entered = self.tried(candidate, password, enter).await;
        match &entered {
            Ok(_) => self.limiter().succeeded(&attempt),
            Err(Refusal::Credentials(Refused::BadPassword)) => {}
            Err(_) => self.limiter().withdraw(&attempt),
        }
        entered
    }

    async fn tried<T>(
        &self,
        who: Candidate,
        password: Password,
        enter: impl FnOnce(&State, Uuid, Print) -> Result<T, Refused>,
    ) -> Result<T, Refusal> {
        let print = who.verifier.print();
        let fits = self.fits(who.pepper, who.user, who.verifier, password);
        match fits.await? {
            true => Ok(enter(&*self.view()?, who.user, print)?),
            false => Err(Refused::BadPassword.into()),
        }
    }

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

/// The user of a name or id.
pub(super) fn named<'a>(directory: &'a Directory, name: &NameOrId) -> Option<&'a User> {
    match name {
        NameOrId::Id(id) => directory.user(*id),
        NameOrId::Name(name) => directory.user_by_name(name),
    }
}

/// Whose password is tried. One whom nobody can be, if there is no such user.
struct Candidate {
    user: Uuid,
    verifier: Verifier,
    pepper: Pepper,
}

impl Candidate {
    fn of(view: &State, user: Option<&User>) -> Self {
        let known = user.and_then(|user| Some((user.id, view.directory.password(user)?.clone())));
        let (user, verifier) = known.unwrap_or_else(|| (Uuid::nil(), Verifier::decoy()));
        Self {
            user,
            verifier,
            pepper: view.keyring.pepper().clone(),
        }
    }
}

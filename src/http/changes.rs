//! What all changes through ZenML's API have in common.
//!
//! 1. The change runs to its end, whatever becomes of the client: one that was cut off halfway
//!    would leave a key that nobody holds.
//! 2. It is written to Kubernetes, and answered once this server decides by it: who is told that a
//!    key is made can use it here, who is told that it is deleted can be sure of it here.
//! 3. What did not come about in time is taken back.
//! 4. Who did what, and how it ended, is counted and logged. Never a name, a key or a value. So is who
//!    read the values of a secret.

use std::{fmt, future::Future, net::IpAddr, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    App, Caller, Refusal,
    extract::{ClientAddress, RequestId},
    layers::{ChangeOutcome, Changed},
    once::{Answer, Given, Remembered, Repeatable},
    routes::secrets,
};
use crate::store::{NotChanged, State};

/// How often something is tried to be taken back, a second later each time.
const TAKE_BACK: u32 = 10;

/// A request to change something: who asks, and whether it asked before.
pub(super) struct Change {
    who: Changer,
    repeatable: Repeatable,
}

/// Who changes something, in which request.
pub(super) struct Changer {
    pub(super) app: App,
    pub(super) request: RequestId,
    pub(super) address: ClientAddress,
    pub(super) caller: Caller,
}

impl FromRequestParts<App> for Changer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self {
            app: app.clone(),
            request: RequestId::from_request_parts(parts, app).await?,
            address: ClientAddress::of(app, &parts.extensions, &parts.headers),
            caller: Caller::from_request_parts(parts, app).await?,
        })
    }
}

impl FromRequestParts<App> for Change {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self {
            who: Changer::from_request_parts(parts, app).await?,
            repeatable: Repeatable::from_request_parts(parts, app).await?,
        })
    }
}

impl Change {
    /// Does the work, once, to its end.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) async fn run<F>(
        self,
        what: Changed,
        body: Bytes,
        work: impl FnOnce(App) -> F,
    ) -> Result<Response, Refusal>
    where
        F: Future<Output = Result<Done, Refusal>> + Send + 'static,
    {
        let remember = |done: Done| Remembered::Answer(done.answer);
        self.run_and_remember(what, body, work, remember).await
    }

    /// The same for a secret: its values are not kept for a repeated request, but read again.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) async fn run_shown<F>(
        self,
        what: Changed,
        body: Bytes,
        work: impl FnOnce(App) -> F,
    ) -> Result<Response, Refusal>
    where
        F: Future<Output = Result<Done, Refusal>> + Send + 'static,
    {
        let remember = |done: Done| Remembered::Secret(done.of, done.answer);
        self.run_and_remember(what, body, work, remember).await
    }

    async fn run_and_remember<F>(
        self,
        what: Changed,
        body: Bytes,
        work: impl FnOnce(App) -> F,
        remember: fn(Done) -> Remembered,
    ) -> Result<Response, Refusal>
    where
        F: Future<Output = Result<Done, Refusal>> + Send + 'static,
    {
        let work = work(self.who.app.clone());
        let task = tokio::spawn(async move {
            let (app, caller) = (&self.who.app, self.who.caller);
            let answers = app.answers().clone();
            let counted = async {
                let done = work.await;
                self.who.report(what, done.as_ref().map(|done| done.of));
                done.map(remember)
            };
            match answers.once(self.repeatable, &body, counted).await? {
                Given::Answer(answer) => Ok(answer),
                Given::Again(secret) => {
                    let shown = secrets::shown(app, caller, secret, true).await;
                    self.who.report_read(shown.as_ref().map(|_| secret));
                    shown
                }
            }
        });
        let answer = task.await.map_err(|_| Refusal::Unexpected)??;
        // From here on the bytes are the socket's.
        Ok(([(CONTENT_TYPE, "application/json")], answer.to_vec()).into_response())
    }

    /// Where the request comes from.
    pub(super) const fn address(&self) -> ClientAddress {
        self.who.address
    }
}

impl Changer {
    /// Does the work on what has this id, to its end. Nobody repeats the forms of our own pages by
    /// itself.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) async fn run<F, T>(self, what: Changed, of: Uuid, work: F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
    {
        let task = tokio::spawn(async move {
            let done = work.await;
            self.report(what, done.as_ref().map(|_| of));
            done
        });
        task.await.map_err(|_| Refusal::Unexpected)?
    }

    fn report(&self, what: Changed, done: Result<Uuid, &Refusal>) {
        let outcome = outcome(done);
        self.app.metrics().changed(what, outcome);
        let of = done.ok();
        let (request, Caller(caller)) = (&self.request, &self.caller);
        let (account, key, of) = (caller.account, shown(caller.by.key()), shown(of));
        let device = shown(caller.by.device());
        let address = self.app.shown_address(self.address);
        info!(
            target: "zenop::audit",
            %request, %account, key, device, ?what, of, ?outcome, address,
            "change"
        );
    }

    /// That somebody read the values of a secret, or tried to.
    pub(super) fn report_read(&self, read: Result<Uuid, &Refusal>) {
        let outcome = outcome(read);
        self.app.metrics().read(outcome);
        let (request, Caller(caller)) = (&self.request, &self.caller);
        let (account, key, of) = (caller.account, shown(caller.by.key()), shown(read.ok()));
        let device = shown(caller.by.device());
        let address = self.app.shown_address(self.address);
        info!(
            target: "zenop::audit",
            %request, %account, key, device, of, ?outcome, address,
            "secret read"
        );
    }
}

fn outcome(done: Result<Uuid, &Refusal>) -> ChangeOutcome {
    match done {
        Ok(_) => ChangeOutcome::Done,
        Err(refusal) if refusal.is_ours() => ChangeOutcome::Failed,
        Err(_) => ChangeOutcome::Refused,
    }
}

/// What was changed, and what is answered.
pub(super) struct Done {
    /// The id of what was changed.
    pub(super) of: Uuid,
    pub(super) answer: Answer,
}

impl Done {
    /// # Errors
    /// If the body cannot be rendered, which it can.
    pub(super) fn new(of: Uuid, body: &impl Serialize) -> Result<Self, Refusal> {
        let answer = serde_json::to_vec(body).map_err(|_| Refusal::Unexpected)?;
        Ok(Self {
            of,
            answer: Zeroizing::new(answer),
        })
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({})", self.of)
    }
}

impl App {
    /// What `look` finds in the first view that has it; `None` if none has in time.
    pub(super) async fn seen<T>(&self, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut changed = self.store().changed();
        let found = async {
            loop {
                changed.borrow_and_update();
                let found = self.view().ok().and_then(|view| look(&view));
                if let Some(found) = found {
                    return Some(found);
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(self.seen_within(), found).await.ok()?
    }

    /// As [`App::seen`], for what takes something back: how long it took is measured.
    pub(super) async fn revoked<T>(&self, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let begun = self.now();
        let found = self.seen(look).await?;
        self.metrics().revoked(since(begun, self.now()));
        Some(found)
    }
}

impl App {
    /// An address in a line of the log, if it may be there.
    pub(super) fn shown_address(&self, ClientAddress(address): ClientAddress) -> String {
        let may = |_: &IpAddr| self.settings().is_some_and(|s| s.record_addresses);
        let shown = address.filter(may);
        shown.map_or_else(|| "-".to_owned(), |address| address.to_string())
    }
}

/// An id in a line of the log.
pub(super) fn shown(id: Option<Uuid>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

fn since(begun: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(begun)).unwrap_or_default()
}

/// Takes back what did not come about; goes on in the background if that fails.
pub(super) async fn take_back<F>(attempt: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<(), NotChanged>> + Send,
{
    if is_over(&attempt().await) {
        return;
    }
    tokio::spawn(async move {
        for n in 1..=TAKE_BACK {
            tokio::time::sleep(Duration::from_secs(n.into())).await;
            if is_over(&attempt().await) {
                return;
            }
        }
        warn!("a change that was refused could not be taken back");
    });
}

/// What is not ours any more, or was changed since, is not taken back.
fn is_over(result: &Result<(), NotChanged>) -> bool {
    !matches!(result, Err(NotChanged::Unreachable))
}

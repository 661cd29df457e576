//! Deciding on a device that asks to be authorized: what ZenML's route and our own page have in
//! common (RFC 8628, 3.3).
//!
//! 1. The code is read. A wrong one counts, for who tries it and for its address; who tried too
//!    many waits, also with a right one (RFC 8628, 5.1).
//! 2. What the code states is approved or denied, and nothing that the caller says besides. Either
//!    is written down, once; of both at the same moment the denial holds.
//! 3. It is answered once this server decides by it.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{App, Refusal, extract::ClientAddress, limiter::Attempt, limiter::Claim};
use crate::{
    auth::{
        address,
        device::Approval,
        device_code::{self, Request, Span},
        directory::{Directory, Stamp},
        principal::Principal,
        scheme::Scheme,
    },
    store::{
        NotChanged, State,
        devices::{NewDenial, NewDevice},
        registrar::Object,
    },
};

/// How many times as many wrong codes may come from an address as from one user.
pub(super) const OF_AN_ADDRESS: u16 = 2;
/// How many denials of one holder may be known at a time. Each is gone once its code is over.
const DENIALS: usize = 20;

pub(super) const NOT_PENDING: Refusal =
    Refusal::Device("Invalid request: device not pending verification.");
pub(super) const NOT_YOURS: Refusal =
    Refusal::Device("Invalid request: this device is associated with another user.");
pub(super) const LOCKED: Refusal = Refusal::NotAllowed(
    "This client is locked for you. Unlock its device first, or ask who locked it.",
);
pub(super) const NO_TRUST: Refusal = Refusal::NotAllowed(
    "This server does not allow trusted devices (policy.devices.trustAllowed). Approve it without \
     trust.",
);
pub(super) const ELSEWHERE: Refusal = Refusal::NotAllowed(
    "This device asked from another network than yours, which this server does not allow \
     (policy.devices.sameNetwork).",
);
pub(super) const TOO_MANY_DENIALS: Refusal = Refusal::NotAllowed(
    "You denied many devices just now. Nothing was changed: whom you do not approve gets nothing, \
     and its code ends by itself.",
);

/// Who decides, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decider {
    pub(super) account: Uuid,
    pub(super) address: ClientAddress,
    /// What the user was when it logged in: who was signed out in between approves nothing.
    stamp: Option<Stamp>,
}

impl Decider {
    pub(super) const fn new(who: &Principal, address: ClientAddress) -> Self {
        Self {
            account: who.account,
            address,
            stamp: who.by.stamp(),
        }
    }

    /// Whether a device asked from where this one is; not if either is unknown.
    pub(super) fn is_near(&self, request: &Request) -> bool {
        let both = self.address.0.zip(request.origin.address);
        both.is_some_and(|(here, there)| address::is_near(here, there))
    }
}

/// What a user code is.
#[derive(Debug)]
pub(super) enum Code {
    /// It may be decided on what it states.
    Open(Request),
    /// Its time is over, or has not come.
    Over,
    /// It is none of this server, or of another device than `wanted`.
    Wrong,
}

/// Reads a user code.
///
/// # Errors
/// If there were too many wrong ones, or nothing can be decided now.
pub(super) fn read_code(
    app: &App,
    who: Decider,
    wanted: Option<Uuid>,
    code: &str,
) -> Result<Code, Refusal> {
    let now = app.now();
    let (settings, keyring) = {
        let view = app.view()?;
        (view.settings.clone(), view.keyring.clone())
    };
    if settings.scheme == Scheme::NoAuth {
        return Err(Refusal::NoDevices);
    }
    let attempt = Attempt {
        rates: settings.code_rates,
        of_all: None,
        claim: Some(Claim::User(who.account)),
        address: who.address.0,
        at: now,
    };
    app.codes().begin(&attempt)?;
    let request = device_code::open_user_code(&keyring, settings.id, code);
    let request = request.filter(|of| wanted.is_none_or(|wanted| of.device == wanted));
    let Some(request) = request else {
        return Ok(Code::Wrong);
    };
    // A right code frees nothing: else one's own codes would buy guesses at others'.
    app.codes().withdraw(&attempt);
    Ok(
        match device_code::span(request.expires, now, settings.devices.code) {
            Span::Open => Code::Open(request),
            Span::Over | Span::TooLong => Code::Over,
        },
    )
}

/// Approves what a code states, until this server decides so. The same twice is once.
///
/// # Errors
/// Why not.
pub(super) async fn approve(
    app: &App,
    who: Decider,
    request: Request,
    trusted: bool,
) -> Result<(), Refusal> {
    let device = request.device;
    let new = {
        let view = app.view()?;
        new_device(&view, who, request, trusted, app.now())?
    };
    if let Some(new) = new {
        let made = app.devices().approve(new).await;
        made.map_err(not_approved)?;
    }
    let seen = app.seen(|state| {
        if state.directory.is_denied(device) {
            return Some(Err(NOT_PENDING));
        }
        let known = state.directory.device(device)?;
        // Somebody else approved it at the same moment, elsewhere. Nobody gets its token.
        let is_ours = known.approval.account == who.account;
        Some(if is_ours { Ok(()) } else { Err(NOT_YOURS) })
    });
    seen.await
        .ok_or(Refusal::NotChanged(NotChanged::Unreachable))?
}

/// Denies what a code states, until this server decides so. The same twice is once.
///
/// # Errors
/// Why not.
pub(super) async fn deny(app: &App, who: Decider, request: Request) -> Result<(), Refusal> {
    let device = request.device;
    let new = {
        let view = app.view()?;
        new_denial(&view, who, &request, app.now())?
    };
    if let Some(new) = new {
        let done = app.devices().deny(new).await;
        done.map_err(|why| match why {
            NotChanged::Exists => NOT_PENDING,
            NotChanged::TooMany(_) => TOO_MANY_DENIALS,
            other => Refusal::NotChanged(other),
        })?;
    }
    let seen = app.seen(|state| state.directory.is_denied(device).then_some(()));
    seen.await
        .ok_or(Refusal::NotChanged(NotChanged::Unreachable))
}

/// What is to be written down; nothing if it was already.
fn new_device(
    view: &State,
    who: Decider,
    request: Request,
    trusted: bool,
    now: Timestamp,
) -> Result<Option<NewDevice>, Refusal> {
    if view.directory.is_denied(request.device) {
        return Err(NOT_PENDING);
    }
    if let Some(known) = view.directory.device(request.device) {
        return match known.approval.account == who.account {
            // Twice in two tabs, or by a client that repeats itself.
            true if known.redeemed.is_none() => Ok(None),
            true => Err(NOT_PENDING),
            false => Err(NOT_YOURS),
        };
    }
    let terms = view.settings.devices;
    if trusted && !terms.trust_allowed {
        return Err(NO_TRUST);
    }
    if terms.same_network && !who.is_near(&request) {
        return Err(ELSEWHERE);
    }
    let approval = decision(who, &request, now);
    let mut origin = request.origin;
    if !view.settings.record_addresses {
        // Shown to whoever decides, and not written down.
        origin.address = None;
    }
    let (holder, is_user) =
        holder(&view.directory, who.account).ok_or(Refusal::NotAuthenticated)?;
    Ok(Some(NewDevice {
        approval,
        proof: approval.proof(view.keyring.pepper(), view.settings.id, who.stamp),
        holder,
        is_user,
        trusted,
        origin,
        terms,
    }))
}

fn new_denial(
    view: &State,
    who: Decider,
    request: &Request,
    now: Timestamp,
) -> Result<Option<NewDenial>, Refusal> {
    if view.directory.is_denied(request.device) {
        return Ok(None);
    }
    if view.directory.device(request.device).is_some() {
        return Err(NOT_PENDING);
    }
    let decision = decision(who, request, now);
    let (holder, is_user) =
        holder(&view.directory, who.account).ok_or(Refusal::NotAuthenticated)?;
    // In whole seconds, as Kubernetes has them: rounded down, a denial would end before the code.
    let expires = request.expires.saturating_add(SignedDuration::from_secs(1));
    Ok(Some(NewDenial {
        decision,
        proof: decision.denial_proof(view.keyring.pepper(), view.settings.id),
        holder,
        is_user,
        expires: expires.unwrap_or(Timestamp::MAX),
        at_most: DENIALS,
    }))
}

fn decision(who: Decider, request: &Request, now: Timestamp) -> Approval {
    Approval {
        device: request.device,
        client: request.client,
        account: who.account,
        approved: Timestamp::from_second(now.as_second()).unwrap_or(now),
    }
}

/// The object of a user or account, and whether it is a user.
fn holder(directory: &Directory, account: Uuid) -> Option<(Object, bool)> {
    let user = directory.user(account).map(|user| (&user.object, true));
    let found = user.or_else(|| Some((&directory.account(account)?.object, false)));
    found.map(|(name, is_user)| {
        let object = Object {
            uid: account,
            name: name.clone(),
        };
        (object, is_user)
    })
}

fn not_approved(why: NotChanged) -> Refusal {
    match why {
        NotChanged::Exists => NOT_PENDING,
        NotChanged::Locked => LOCKED,
        NotChanged::TooMany(devices) => Refusal::TooManyDevices(devices),
        other => Refusal::NotChanged(other),
    }
}

//! Deciding on a device, locking it, deleting it (zenml-wire.md 6.3, 6.5).
//!
//! A decision is an approval; who does not approve does nothing, and the codes run out. It is made
//! on what the user code states, and on nothing that the caller says besides.

use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::devices::{find, rendered};
use crate::{
    auth::{
        device::Approval,
        device_code::{self, Request, Span},
        directory::Directory,
        scheme::Scheme,
    },
    http::{
        App, Caller, Refusal,
        changes::{Change, Done},
        extract::{Identified, Json},
        layers::Changed,
    },
    store::{NotChanged, State, devices::NewDevice, registrar::Object},
    wire::device::{DeviceUpdate, DeviceVerification},
};

const BAD_CODE: Refusal = Refusal::Device("Invalid request: invalid user code.");
const TOO_MANY_CODES: Refusal = Refusal::Device(
    "Invalid request: device locked due to too many failed authentication attempts.",
);
const TOO_LATE: Refusal = Refusal::Device("Invalid request: device verification expired.");
const NOT_PENDING: Refusal = Refusal::Device("Invalid request: device not pending verification.");
const NOT_YOURS: Refusal =
    Refusal::Device("Invalid request: this device is associated with another user.");
const LOCKED: Refusal = Refusal::NotAllowed(
    "This client is locked for you. Unlock its device first, or ask who locked it.",
);
const NO_TRUST: Refusal = Refusal::NotAllowed(
    "This server does not allow trusted devices (policy.devices.trustAllowed). Approve it without \
     trust.",
);

/// `PUT /devices/{id}/verify`.
pub(in crate::http) async fn verify(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
    Json { bytes, value }: Json<DeviceVerification>,
) -> Result<Response, Refusal> {
    let work = move |app| approve(app, caller.account, wanted, value);
    change.run(Changed::ApproveDevice, bytes, work).await
}

/// `PUT /devices/{id}`.
pub(in crate::http) async fn update(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
    Json { bytes, value }: Json<DeviceUpdate>,
) -> Result<Response, Refusal> {
    let what = match value.locked {
        Some(true) => Changed::LockDevice,
        Some(false) | None => Changed::UnlockDevice,
    };
    let work = move |app| set_locked(app, caller.account, wanted, value.locked);
    change.run(what, bytes, work).await
}

/// `DELETE /devices/{id}`.
pub(in crate::http) async fn delete(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
) -> Result<Response, Refusal> {
    let work = move |app| remove(app, caller.account, wanted);
    change.run(Changed::DeleteDevice, Bytes::new(), work).await
}

async fn approve(
    app: App,
    account: Uuid,
    wanted: Uuid,
    decision: DeviceVerification,
) -> Result<Done, Refusal> {
    let now = app.now();
    let request = decided_on(&app, wanted, &decision, now)?;
    let new = {
        let view = app.view()?;
        new_device(&view, account, request, decision.trusted_device, now)?
    };
    if let Some(new) = new {
        let made = app.devices().approve(new).await;
        made.map_err(not_approved)?;
    }
    let seen = app.seen(|state| {
        let Some(shown) = find(state, account, wanted, now) else {
            // Somebody else approved it at the same moment, elsewhere. Nobody gets its token.
            return state.directory.device(wanted).map(|_| Err(NOT_YOURS));
        };
        Some(Done::new(
            wanted,
            &rendered(&state.directory, &shown, true, now),
        ))
    });
    seen.await
        .ok_or(Refusal::NotChanged(NotChanged::Unreachable))?
}

/// What the code of a decision states, if it is one of this device that may be decided on.
fn decided_on(
    app: &App,
    wanted: Uuid,
    decision: &DeviceVerification,
    now: Timestamp,
) -> Result<Request, Refusal> {
    let view = app.view()?;
    if view.settings.scheme == Scheme::NoAuth {
        return Err(Refusal::NoDevices);
    }
    let terms = &view.settings.devices;
    // Also the right code is refused then: else one more guess would be free.
    if app.polls().wrong_codes(wanted) >= terms.attempts {
        return Err(TOO_MANY_CODES);
    }
    let code = decision.user_code.expose_secret();
    let request = device_code::open_user_code(&view.keyring, view.settings.id, code);
    let Some(request) = request.filter(|request| request.device == wanted) else {
        let tried = app.polls().wrong_code(wanted);
        return Err(if tried >= terms.attempts {
            TOO_MANY_CODES
        } else {
            BAD_CODE
        });
    };
    match device_code::span(request.expires, now, terms.code) {
        Span::Open => Ok(request),
        Span::Over | Span::TooLong => Err(TOO_LATE),
    }
}

/// What is to be written down; nothing if it was already.
fn new_device(
    view: &State,
    account: Uuid,
    request: Request,
    trusted: bool,
    now: Timestamp,
) -> Result<Option<NewDevice>, Refusal> {
    if let Some(known) = view.directory.device(request.device) {
        return match known.approval.account == account {
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
    let approval = Approval {
        device: request.device,
        client: request.client,
        account,
        approved: Timestamp::from_second(now.as_second()).unwrap_or(now),
    };
    let mut origin = request.origin;
    if !view.settings.record_addresses {
        // Shown to whoever decides, and not written down.
        origin.address = None;
    }
    let (holder, is_user) = holder(&view.directory, account).ok_or(Refusal::NotAuthenticated)?;
    Ok(Some(NewDevice {
        approval,
        proof: approval.proof(view.keyring.pepper(), view.settings.id),
        holder,
        is_user,
        trusted,
        origin,
        terms,
    }))
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

async fn set_locked(
    app: App,
    account: Uuid,
    wanted: Uuid,
    locked: Option<bool>,
) -> Result<Done, Refusal> {
    let object = own(&app, account, wanted)?;
    if let Some(locked) = locked {
        let done = app.devices().set_locked(object, locked).await;
        done.map_err(|why| not_changed(why, wanted))?;
    }
    let now = app.now();
    let seen = |state: &State| {
        let device = state.directory.device(wanted)?;
        if locked.is_some_and(|locked| device.locked != locked) {
            return None;
        }
        let shown = find(state, account, wanted, now)?;
        Some(Done::new(
            wanted,
            &rendered(&state.directory, &shown, true, now),
        ))
    };
    let done = match locked {
        Some(true) => app.revoked(seen).await,
        Some(false) | None => app.seen(seen).await,
    };
    done.ok_or(Refusal::NotChanged(NotChanged::Unreachable))?
}

async fn remove(app: App, account: Uuid, wanted: Uuid) -> Result<Done, Refusal> {
    let object = own(&app, account, wanted)?;
    let done = app.devices().delete(object).await;
    done.map_err(|why| not_changed(why, wanted))?;
    let gone = |state: &State| state.directory.device(wanted).is_none().then_some(());
    let gone = app.revoked(gone).await;
    gone.ok_or(Refusal::NotChanged(NotChanged::Unreachable))?;
    Done::new(wanted, &())
}

fn own(app: &App, account: Uuid, wanted: Uuid) -> Result<Object, Refusal> {
    let view = app.view()?;
    let device = view.directory.device(wanted);
    let device = device.filter(|device| device.approval.account == account);
    let device = device.ok_or(Refusal::NoDevice(wanted))?;
    Ok(Object {
        uid: device.uid,
        name: device.object.clone(),
    })
}

fn not_changed(why: NotChanged, wanted: Uuid) -> Refusal {
    match why {
        NotChanged::Gone => Refusal::NoDevice(wanted),
        NotChanged::Declared(declared) => Refusal::Declared(declared),
        other => Refusal::NotChanged(other),
    }
}

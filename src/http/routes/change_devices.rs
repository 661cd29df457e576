//! Deciding on a device, locking it, deleting it (zenml-wire.md 6.3, 6.5).
//!
//! ZenML knows one decision, to approve. It is made on what the user code states, and on nothing that
//! the caller says besides (`decisions`).

use axum::response::Response;
use bytes::Bytes;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::devices::{find, rendered};
use crate::{
    auth::device_code::Request,
    http::{
        App, Caller, Refusal,
        changes::{Change, Done},
        decisions::{self, Code, Decider},
        extract::{Identified, Json},
        layers::Changed,
    },
    store::{NotChanged, State, registrar::Object},
    wire::device::{DeviceUpdate, DeviceVerification},
};

const BAD_CODE: Refusal = Refusal::Device("Invalid request: invalid user code.");
const TOO_MANY_CODES: Refusal = Refusal::Device(
    "Invalid request: device locked due to too many failed authentication attempts.",
);
const TOO_LATE: Refusal = Refusal::Device("Invalid request: device verification expired.");

/// `PUT /devices/{id}/verify`.
pub(in crate::http) async fn verify(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
    Json { bytes, value }: Json<DeviceVerification>,
) -> Result<Response, Refusal> {
    let who = Decider::new(&caller, change.address());
    let work = move |app| approve(app, who, wanted, value);
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
    let work = move |app: App| async move {
        set_locked(&app, caller.account, wanted, value.locked).await?;
        let (view, now) = (app.view()?, app.now());
        let shown = find(&view, caller.account, wanted, now).ok_or(Refusal::NoDevice(wanted))?;
        Done::new(wanted, &rendered(&view.directory, &shown, true, now))
    };
    change.run(what, bytes, work).await
}

/// `DELETE /devices/{id}`.
pub(in crate::http) async fn delete(
    change: Change,
    Caller(caller): Caller,
    Identified(wanted): Identified,
) -> Result<Response, Refusal> {
    let work = move |app: App| async move {
        remove(&app, caller.account, wanted).await?;
        Done::new(wanted, &())
    };
    change.run(Changed::DeleteDevice, Bytes::new(), work).await
}

async fn approve(
    app: App,
    who: Decider,
    wanted: Uuid,
    decision: DeviceVerification,
) -> Result<Done, Refusal> {
    let request = decided_on(&app, who, wanted, &decision)?;
    decisions::approve(&app, who, request, decision.trusted_device).await?;
    let (view, now) = (app.view()?, app.now());
    let shown = find(&view, who.account, wanted, now).ok_or(Refusal::NoDevice(wanted))?;
    Done::new(wanted, &rendered(&view.directory, &shown, true, now))
}

/// What the code of a decision states, if it is one of this device that may be decided on.
fn decided_on(
    app: &App,
    who: Decider,
    wanted: Uuid,
    decision: &DeviceVerification,
) -> Result<Request, Refusal> {
    let attempts = app.view()?.settings.devices.attempts;
    // Also the right code is refused then: else one more guess would be free.
    if app.polls().wrong_codes(wanted) >= attempts {
        return Err(TOO_MANY_CODES);
    }
    let code = decision.user_code.expose_secret();
    match decisions::read_code(app, who, Some(wanted), code)? {
        Code::Open(request) => Ok(request),
        Code::Over => Err(TOO_LATE),
        Code::Wrong => match app.polls().wrong_code(wanted) >= attempts {
            true => Err(TOO_MANY_CODES),
            false => Err(BAD_CODE),
        },
    }
}

/// Locks a device of an account or unlocks it, if either is asked for, until this server decides so.
pub(in crate::http) async fn set_locked(
    app: &App,
    account: Uuid,
    wanted: Uuid,
    locked: Option<bool>,
) -> Result<(), Refusal> {
    let object = own(app, account, wanted)?;
    if let Some(locked) = locked {
        let done = app.devices().set_locked(object, locked).await;
        done.map_err(|why| not_changed(why, wanted))?;
    }
    let seen = |state: &State| {
        let device = state.directory.device(wanted)?;
        locked
            .is_none_or(|locked| device.locked == locked)
            .then_some(())
    };
    let done = match locked {
        Some(true) => app.revoked(seen).await,
        Some(false) | None => app.seen(seen).await,
    };
    done.ok_or(Refusal::NotChanged(NotChanged::Unreachable))
}

/// Deletes a device of an account, until this server decides so.
pub(in crate::http) async fn remove(app: &App, account: Uuid, wanted: Uuid) -> Result<(), Refusal> {
    let object = own(app, account, wanted)?;
    let done = app.devices().delete(object).await;
    done.map_err(|why| not_changed(why, wanted))?;
    let gone = |state: &State| state.directory.device(wanted).is_none().then_some(());
    let gone = app.revoked(gone).await;
    gone.ok_or(Refusal::NotChanged(NotChanged::Unreachable))
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

//! The device code grant of `POST /login` (RFC 8628, 3.4 and 3.5; zenml-wire 6.4).
//!
//! 1. The device code is opened: it says which device and which client, and until when.
//! 2. The device is looked up in the view. Without an approval it waits; too fast a poll is told so.
//!    One that was denied is told so, for ever.
//! 3. Client, device and whoever approved it are checked as they are now, and that this server
//!    wrote the approval.
//! 4. The redemption is written down, once, at the version that was read there.
//! 5. Only then is a token signed, once this server's own view knows of the redemption, so that
//!    the token counts wherever it is shown next.

use axum::{
    http::header::CACHE_CONTROL,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tracing::{info, warn};
use uuid::Uuid;

use super::json;
use crate::{
    auth::{
        device::{self, Device, DeviceState},
        device_code::{self, Claim, Span},
        principal::Principal,
        scheme::Scheme,
        token::{self, Claims},
    },
    http::{
        App, Refusal,
        changes::shown,
        extract::{ClientAddress, RequestId},
        layers::LoginOutcome,
        oauth::{NO_STORE, OAuthError},
    },
    store::{NotChanged, State, devices::Redeeming, registrar::Object},
    wire::login::{LoginForm, Token},
};

/// Answers a poll.
pub(super) async fn poll(
    app: &App,
    request: &RequestId,
    address: ClientAddress,
    form: &LoginForm,
) -> Response {
    let mut device = None;
    let granted = redeem(app, form, &mut device).await;
    let granted = granted.map_err(|refusal| unless_too_many(app, address, refusal));
    report(app, (request, address), device, granted.as_ref());
    let answer = granted.and_then(|granted| {
        let mut answer = json(&Token::bearer(&granted.token, granted.seconds, None))?;
        answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        Ok(answer)
    });
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// Who polls too soon, or with a code that is none, is told so only as often as one address may.
/// Who waits as it should is not concerned, from wherever it asks.
fn unless_too_many(app: &App, ClientAddress(address): ClientAddress, refusal: Refusal) -> Refusal {
    let (Refusal::OAuth(OAuthError::SlowDown(_) | OAuthError::InvalidGrant), Some(settings)) =
        (&refusal, app.settings())
    else {
        return refusal;
    };
    let counted = app
        .limiter()
        .vain(settings.global_rates, address, app.now());
    counted.err().map_or(refusal, Refusal::TooMany)
}

/// What a poll was granted.
struct Granted {
    account: Uuid,
    token: String,
    seconds: i64,
}

/// A device that may get its token, as the view shows it.
struct Found {
    object: Object,
    principal: Principal,
}

async fn redeem(
    app: &App,
    form: &LoginForm,
    device: &mut Option<Uuid>,
) -> Result<Granted, Refusal> {
    let (code, client) = presented(form)?;
    let now = app.now();
    let claim = open(app, code, client, now)?;
    *device = Some(claim.device);
    let found = {
        let view = app.view()?;
        find(&view, &claim, now)?
    };
    let Some(found) = found else {
        return Err(pending(app, &claim, now)?.into());
    };
    let attempt = Redeeming {
        device: claim.device,
        id: Uuid::from_bytes(*app.draw()),
        at: Timestamp::from_second(now.as_second()).unwrap_or(now),
    };
    let redeemed = app.devices().redeem(found.object, attempt).await;
    redeemed.map_err(|why| not_redeemed(why, client))?;
    let is_known = |state: &State| {
        let device = state.directory.device(claim.device);
        device
            .is_none_or(|device| device.redeemed.is_some())
            .then_some(())
    };
    app.seen(is_known).await;
    sign(app, &claim, found.principal, attempt.at)
}

fn presented(form: &LoginForm) -> Result<(&str, Uuid), Refusal> {
    const MISSING: Refusal =
        Refusal::Form("Invalid request: device code and client ID are required.");
    let code = form.device_code.as_ref().map(ExposeSecret::expose_secret);
    let code = code.filter(|code| !code.is_empty()).ok_or(MISSING)?;
    let client = form.client_id.as_ref().ok_or(MISSING)?;
    let client = Uuid::try_parse(client);
    let client = client.map_err(|_| Refusal::Form("Invalid request: invalid client ID."))?;
    Ok((code, client))
}

/// What a code states, if it is one of this server for this client, and its time is not over.
fn open(app: &App, code: &str, client: Uuid, now: Timestamp) -> Result<Claim, Refusal> {
    let view = app.view()?;
    if view.settings.scheme == Scheme::NoAuth {
        return Err(Refusal::NoDevices);
    }
    let claim = device_code::open_device_code(&view.keyring, view.settings.id, code);
    let claim = claim.filter(|claim| claim.client == client);
    let claim = claim.ok_or(OAuthError::InvalidGrant)?;
    if view.directory.is_denied(claim.device) {
        return Err(OAuthError::Denied(client).into());
    }
    match device_code::span(claim.expires, now, view.settings.devices.code) {
        Span::Open => Ok(claim),
        Span::Over => Err(OAuthError::Expired(client).into()),
        Span::TooLong => Err(OAuthError::InvalidGrant.into()),
    }
}

/// The device of a code, if it may get its token now; `None` if nobody approved it.
fn find(view: &State, claim: &Claim, now: Timestamp) -> Result<Option<Found>, OAuthError> {
    let Some(device) = view.directory.device(claim.device) else {
        return Ok(None);
    };
    let client = claim.client;
    if device.approval.client != client || !is_ours(view, device) {
        return Err(OAuthError::InvalidGrant);
    }
    if device.redeemed.is_some() {
        return Err(OAuthError::Redeemed(client));
    }
    match device.state(view.directory.terms(), now) {
        DeviceState::Locked => return Err(OAuthError::Locked(client)),
        DeviceState::Expired => return Err(OAuthError::Expired(client)),
        DeviceState::Approved | DeviceState::Active => {}
    }
    let principal = view.directory.device_holder(device, now);
    Ok(Some(Found {
        object: Object {
            uid: device.uid,
            name: device.object.clone(),
        },
        principal: principal.map_err(|_| OAuthError::InvalidGrant)?,
    }))
}

/// Whether this server wrote the approval, and it still stands. Who may write objects, and no more,
/// gets no token; nor does who was approved just before its user was signed out everywhere.
fn is_ours(view: &State, device: &Device) -> bool {
    let stamp = view.directory.stamp(device.approval.account);
    let ours = device.stands(view.keyring.pepper(), view.settings.id, stamp);
    if !ours {
        warn!(
            device = device.object,
            "the approval of a ZenDevice was not written by this server, or its user was signed \
             out since"
        );
    }
    ours
}

fn pending(app: &App, claim: &Claim, now: Timestamp) -> Result<OAuthError, Refusal> {
    let interval = app.view()?.settings.devices.interval;
    Ok(match app.polls().is_patient(claim.device, now, interval) {
        true => OAuthError::Pending(claim.client),
        false => OAuthError::SlowDown(claim.client),
    })
}

fn not_redeemed(why: NotChanged, client: Uuid) -> Refusal {
    match why {
        NotChanged::Exists => OAuthError::Redeemed(client).into(),
        NotChanged::Locked => OAuthError::Locked(client).into(),
        NotChanged::Gone => OAuthError::InvalidGrant.into(),
        // The client ends on any status but 400. It asks again.
        NotChanged::Unreachable => OAuthError::Pending(client).into(),
        other => Refusal::NotChanged(other),
    }
}

/// A token until the device is over, if everything still holds.
fn sign(
    app: &App,
    claim: &Claim,
    principal: Principal,
    redeemed: Timestamp,
) -> Result<Granted, Refusal> {
    let now = app.now();
    let (expires, keyring, server) = {
        let view = app.view()?;
        let device = view.directory.device(claim.device);
        let device = device.ok_or(OAuthError::InvalidGrant)?;
        let terms = view.directory.terms();
        if device.locked {
            return Err(OAuthError::Locked(claim.client).into());
        }
        let holder = view.directory.device_holder(device, now);
        if holder != Ok(principal) {
            return Err(OAuthError::InvalidGrant.into());
        }
        let approved = device.approval.approved;
        let end = device::end(
            approved,
            Some(redeemed),
            terms,
            device.trusted,
            device.until,
        );
        (end, view.keyring.clone(), view.settings.id)
    };
    let claims = Claims::of_login(principal, now, expires);
    let token = token::issue(&keyring, server, &claims).map_err(|_| Refusal::Unexpected)?;
    let rest: SignedDuration = expires.duration_since(now);
    Ok(Granted {
        account: principal.account,
        token,
        seconds: rest.as_secs(),
    })
}

/// The audit line. Somebody who waits is no decision.
fn report(
    app: &App,
    (request, address): (&RequestId, ClientAddress),
    device: Option<Uuid>,
    granted: Result<&Granted, &Refusal>,
) {
    let outcome = match granted {
        Ok(_) => LoginOutcome::Granted,
        Err(Refusal::OAuth(OAuthError::Pending(_) | OAuthError::SlowDown(_))) => {
            return app.metrics().login(LoginOutcome::DevicePending);
        }
        Err(Refusal::OAuth(OAuthError::Denied(_))) => LoginOutcome::DeviceDenied,
        Err(Refusal::OAuth(OAuthError::Locked(_))) => LoginOutcome::InactiveDevice,
        Err(Refusal::OAuth(_)) => LoginOutcome::BadDeviceCode,
        Err(Refusal::TooMany(_)) => LoginOutcome::Limited,
        Err(Refusal::Form(_)) => LoginOutcome::BadRequest,
        Err(_) => LoginOutcome::Unavailable,
    };
    app.metrics().login(outcome);
    let account = shown(granted.ok().map(|granted| granted.account));
    let (device, address) = (shown(device), app.shown_address(address));
    info!(target: "zenop::audit", %request, ?outcome, account, device, address, "device login");
}

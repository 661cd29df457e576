//! `POST /login`: an API key becomes a token (zenml-wire.md 5). The code of a device does in
//! `device_login`.
//!
//! 1. The form is read, and the grant found: named, or told by the fields that are there.
//! 2. The key is checked against the view: by whom, for whom, whether it is active now.
//! 3. A wrong one counts, and too many are told to wait.
//! 4. A token is signed, without the view. It ends with its key at the latest.
//! 5. What was decided is counted and logged, whichever way it went.

use axum::{extract::State, response::Response};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tracing::info;
use uuid::Uuid;

use super::{device_login, json};
use crate::{
    auth::{
        api_key::ApiKey,
        network::Network,
        principal::{Principal, Refused},
        token::{self, Claims},
    },
    http::{
        App, Refusal,
        changes::shown,
        extract::{ClientAddress, Form, RequestId},
        layers::LoginOutcome,
        limiter::{Attempt, Claim},
        slow,
    },
    wire::login::{Grant, LoginForm, Token},
};

/// `POST /login`.
pub(in crate::http) async fn login(
    State(app): State<App>,
    request: RequestId,
    address: ClientAddress,
    form: Result<Form<LoginForm>, Refusal>,
) -> Result<Response, Refusal> {
    if let Ok(Form(form)) = &form
        && is_device_code(form)
    {
        return Ok(device_login::poll(&app, &request, address, form).await);
    }
    let mut claimed = None;
    let granted = match form.and_then(|Form(form)| api_key(&form)) {
        Ok(key) => {
            claimed = Some(key.id);
            let proven = slow::prove(&app, &key).await;
            proven.and_then(|()| authenticate(&app, &key, address.network()))
        }
        Err(refusal) => Err(refusal),
    };
    let granted = limited(&app, claimed, address, granted);
    report(&app, &request, address, claimed, granted.as_ref());
    granted.and_then(|granted| granted.answer())
}

/// What a login comes to by how many failed before. A right key is never refused for others' wrong
/// ones: 256 random bits are not guessed, and everybody who knows its id could lock it out.
fn limited(
    app: &App,
    claimed: Option<Uuid>,
    ClientAddress(address): ClientAddress,
    granted: Result<Granted, Refusal>,
) -> Result<Granted, Refusal> {
    let claim = claimed.map(Claim::Key);
    match (&granted, app.settings()) {
        (Ok(_), _) => claim.into_iter().for_each(|c| app.limiter().forget(c)),
        (Err(Refusal::Credentials(Refused::BadKey)), Some(settings)) => {
            app.limiter().begin(&Attempt {
                rates: settings.login_rates,
                claim,
                address,
                at: app.now(),
            })?;
        }
        _ => {}
    }
    granted
}

/// `GET /logout`: there is no session to end. A token is revoked by its key.
pub(in crate::http) async fn logout() -> Result<Response, Refusal> {
    json(&())
}

/// What a login was granted.
struct Granted {
    principal: Principal,
    token: String,
    seconds: i64,
}

impl Granted {
    fn answer(&self) -> Result<Response, Refusal> {
        json(&Token::bearer(&self.token, self.seconds))
    }
}

fn is_device_code(form: &LoginForm) -> bool {
    let password = form.password.as_ref();
    let password = password.is_some_and(|text| !text.expose_secret().is_empty());
    matches!(grant(form, password), Ok(Grant::DeviceCode))
}

/// The key in a form, if the form is one that brings a key.
fn api_key(form: &LoginForm) -> Result<ApiKey, Refusal> {
    let given = form
        .password
        .as_ref()
        .filter(|p| !p.expose_secret().is_empty());
    match grant(form, given.is_some())? {
        Grant::ApiKey => {
            let text = given.ok_or(Refusal::Form("API key is required."))?;
            let key = text.expose_secret().parse();
            key.map_err(|_| Refused::BadKey.into())
        }
        Grant::Password if form.username.is_none() && form.grant_type.is_none() => {
            Err(Refusal::Form("Invalid request: username is required."))
        }
        other => Err(Refusal::Grant(other)),
    }
}

fn grant(form: &LoginForm, password: bool) -> Result<Grant, Refusal> {
    let device_code = form.device_code.as_ref();
    match &form.grant_type {
        Some(name) => Grant::named(name).ok_or(Refusal::UnknownGrant),
        None if form.username.is_some() => Ok(Grant::Password),
        None if password => Ok(Grant::ApiKey),
        None if device_code.is_some_and(|code| !code.expose_secret().is_empty()) => {
            Ok(Grant::DeviceCode)
        }
        None => Ok(Grant::Password),
    }
}

fn authenticate(app: &App, key: &ApiKey, from: Option<Network>) -> Result<Granted, Refusal> {
    let now = app.now();
    let (principal, end, keyring, settings) = {
        let view = app.view()?;
        let principal = view.directory.authenticate(&view.keyring, key, now, from)?;
        let end = view.directory.end(&principal);
        (principal, end, view.keyring.clone(), view.settings.clone())
    };
    let claims = claims(principal, now, settings.token_ttl, end)?;
    let token = token::issue(&keyring, settings.id, &claims).map_err(|_| Refusal::Unexpected)?;
    Ok(Granted {
        principal,
        token,
        seconds: claims.expires.as_second() - now.as_second(),
    })
}

fn claims(
    principal: Principal,
    now: Timestamp,
    lifetime: std::time::Duration,
    end: Option<Timestamp>,
) -> Result<Claims, Refusal> {
    let lifetime = SignedDuration::try_from(lifetime).map_err(|_| Refusal::Unexpected)?;
    let expires = now.checked_add(lifetime).map_err(|_| Refusal::Unexpected)?;
    Ok(Claims {
        principal,
        issued: now,
        expires: end.map_or(expires, |end| expires.min(end)),
    })
}

/// The audit line. Ids and closed words only: names come from people, keys from nowhere.
fn report(
    app: &App,
    request: &RequestId,
    address: ClientAddress,
    claimed: Option<Uuid>,
    granted: Result<&Granted, &Refusal>,
) {
    let outcome = outcome(granted);
    app.metrics().login(outcome);
    let account = granted.ok().map(|granted| granted.principal.account);
    let (account, key) = (shown(account), shown(claimed));
    let address = app.shown_address(address);
    info!(
        target: "zenop::audit",
        %request, ?outcome, account, key, address,
        "login"
    );
}

fn outcome(granted: Result<&Granted, &Refusal>) -> LoginOutcome {
    match granted {
        Ok(_) => LoginOutcome::Granted,
        Err(Refusal::Credentials(Refused::InactiveKey { .. })) => LoginOutcome::InactiveKey,
        Err(Refusal::Credentials(
            Refused::InactiveAccount { .. } | Refused::InactiveUser { .. },
        )) => LoginOutcome::InactiveAccount,
        Err(Refusal::Credentials(Refused::InactiveDevice { .. })) => LoginOutcome::InactiveDevice,
        Err(Refusal::Credentials(_)) => LoginOutcome::BadKey,
        Err(Refusal::TooMany(_)) => LoginOutcome::Limited,
        Err(Refusal::Grant(_) | Refusal::UnknownGrant) => LoginOutcome::UnsupportedGrant,
        Err(Refusal::Unavailable(_) | Refusal::Busy | Refusal::Unexpected) => {
            LoginOutcome::Unavailable
        }
        Err(_) => LoginOutcome::BadRequest,
    }
}

//! `POST /login`: an API key or a password becomes a token (zenml-wire.md 5). The code of a device
//! does in `device_login`.
//!
//! 1. The form is read, and the grant found: named, or told by the fields that are there.
//! 2. The credential is checked against the view: by whom, for whom, whether it is active now.
//! 3. A wrong one counts, and too many are told to wait; a password counts before it is tried.
//! 4. A token is signed, without the view. It ends with its key at the latest.
//! 5. What was decided is counted and logged, whichever way it went.

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, SET_COOKIE},
    },
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use tracing::info;
use uuid::Uuid;

use super::{device_login, json};
use crate::{
    auth::{
        api_key::ApiKey,
        credential::Password,
        network::Network,
        principal::{Principal, Refused},
        scheme::Scheme,
        token::{self, Claims},
    },
    http::{
        App, Refusal, basic,
        changes::shown,
        extract::{ClientAddress, Form, NameOrId, RequestId},
        layers::LoginOutcome,
        limiter::{Attempt, Claim},
        oauth::OAuthError,
        session::{self, Cookie},
        slow,
    },
    store::{Settings, State as View},
    wire::login::{Elsewhere, Grant, LoginForm, Token},
};

/// `POST /login`.
pub(in crate::http) async fn login(
    State(app): State<App>,
    request: RequestId,
    address: ClientAddress,
    headers: HeaderMap,
    form: Result<Form<LoginForm>, Refusal>,
) -> Result<Response, Refusal> {
    if basic::credentials(&headers).is_some() {
        // RFC 6749, 2.3: which of the two would count is anybody's guess.
        return Err(OAuthError::TwoCredentials.into());
    }
    if let Ok(Form(form)) = &form
        && is_device_code(form)
    {
        return Ok(device_login::poll(&app, &request, address, form).await);
    }
    if let (Ok(Form(form)), Some(settings)) = (&form, app.settings())
        && is_for_provider(form, &settings.scheme)
    {
        return at_provider(&settings, &headers);
    }
    let mut claimed = None;
    let taken = |form: &LoginForm| match (presented(form)?, app.settings()) {
        (Presented::Password { .. }, Some(of)) if !of.scheme.takes_passwords() => {
            Err(Refusal::Grant(Grant::Password))
        }
        (presented, _) => Ok(presented),
    };
    let granted = match form.and_then(|Form(form)| taken(&form)) {
        Ok(Presented::Key(key)) => {
            claimed = Some(key.id);
            let granted = by_key(&app, &key, address.network()).await;
            limited(&app, claimed, address, granted)
        }
        Ok(Presented::Password { username, password }) => {
            let foreign = app
                .settings()
                .is_none_or(|of| session::is_foreign(&headers, &of));
            by_password(&app, foreign, address, &username, password).await
        }
        Err(refusal) => limited(&app, None, address, Err(refusal)),
    };
    report(&app, &request, address, claimed, granted.as_ref());
    granted.and_then(|granted| granted.answer(&app))
}

/// What a login with a key comes to by how many failed before. A right key is never refused for
/// others' wrong ones: 256 random bits are not guessed, and everybody who knows its id could lock
/// it out.
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
                of_all: None,
                claim,
                address,
                at: app.now(),
            })?;
        }
        _ => {}
    }
    granted
}

/// `GET /logout`: a browser forgets its cookie. A token is revoked by its key or its user.
pub(in crate::http) async fn logout(State(app): State<App>) -> Result<Response, Refusal> {
    let mut response = json(&())?;
    if let Some(settings) = app.settings() {
        let gone = session::cookie(&settings, Cookie::Session, "", 0)?;
        response.headers_mut().insert(SET_COOKIE, gone);
    }
    Ok(response)
}

/// A login by the word of a provider. The cookie that it sets.
///
/// # Errors
/// Why it is refused.
pub(in crate::http) fn by_provider(
    app: &App,
    request: &RequestId,
    address: ClientAddress,
    principal: Result<Principal, Refusal>,
) -> Result<HeaderValue, Refusal> {
    let granted = principal.and_then(|principal| granted(app, principal));
    report(app, request, address, None, granted.as_ref());
    granted?.cookie(app)
}

/// What somebody wants to log in with.
enum Presented {
    Key(ApiKey),
    Password {
        username: NameOrId,
        password: Password,
    },
}

/// A login on our own page, which has checked that it is one. The cookie that it sets.
///
/// # Errors
/// Why it is refused.
pub(in crate::http) async fn on_page(
    app: &App,
    request: &RequestId,
    address: ClientAddress,
    username: &str,
    password: &str,
) -> Result<HeaderValue, Refusal> {
    let (username, password) = (NameOrId::new(username), Password::presented(password));
    let granted = by_password(app, false, address, &username, password).await;
    report(app, request, address, None, granted.as_ref());
    granted?.cookie(app)
}

/// What a login was granted.
struct Granted {
    principal: Principal,
    token: String,
    seconds: i64,
    /// For a page of another site.
    csrf: Option<String>,
}

impl Granted {
    /// Only who logs in with a password may be a browser.
    fn answer(&self, app: &App) -> Result<Response, Refusal> {
        let csrf = self.csrf.as_deref();
        let mut response = json(&Token::bearer(&self.token, self.seconds, csrf))?;
        if self.principal.by.key().is_none() && self.csrf.is_none() {
            let cookie = self.cookie(app)?;
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    fn cookie(&self, app: &App) -> Result<HeaderValue, Refusal> {
        let settings = app.settings().ok_or(Refusal::Unexpected)?;
        session::cookie(&settings, Cookie::Session, &self.token, self.seconds)
    }
}

fn is_device_code(form: &LoginForm) -> bool {
    let password = form.password.as_ref();
    let password = password.is_some_and(|text| !text.expose_secret().is_empty());
    matches!(grant(form, password), Ok(Grant::DeviceCode))
}

/// Whether somebody asks where to log in at the provider. Where there is one, who brings nothing
/// does.
fn is_for_provider(form: &LoginForm, scheme: &Scheme) -> bool {
    let filled = |text: &Option<SecretString>| {
        text.as_ref()
            .is_some_and(|text| !text.expose_secret().is_empty())
    };
    let nothing = form.username.is_none() && !filled(&form.password) && !filled(&form.device_code);
    let asked = form.grant_type.as_deref().and_then(Grant::named);
    let asks = asked == Some(Grant::External) || form.grant_type.is_none() && nothing;
    asks && scheme.provider().is_some()
}

/// Where that is. Tokens of another session are not taken for a login.
fn at_provider(settings: &Settings, headers: &HeaderMap) -> Result<Response, Refusal> {
    if headers.contains_key(AUTHORIZATION) {
        return Err(Refused::BadToken.into());
    }
    let public = settings.public_url.as_deref().unwrap_or_default();
    json(&Elsewhere {
        authorization_url: &format!("{public}/login/external"),
    })
}

/// The credential in a form.
fn presented(form: &LoginForm) -> Result<Presented, Refusal> {
    let given = form
        .password
        .as_ref()
        .filter(|p| !p.expose_secret().is_empty());
    match grant(form, given.is_some())? {
        Grant::ApiKey => {
            let text = given.ok_or(Refusal::Form("API key is required."))?;
            let key = text.expose_secret().parse();
            key.map(Presented::Key).map_err(|_| Refused::BadKey.into())
        }
        Grant::Password => {
            let missing = Refusal::Form("Invalid request: username is required.");
            let username = form.username.as_deref().ok_or(missing)?;
            let password = given.map_or("", |given| given.expose_secret());
            Ok(Presented::Password {
                username: NameOrId::new(username),
                password: Password::presented(password),
            })
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

async fn by_key(app: &App, key: &ApiKey, from: Option<Network>) -> Result<Granted, Refusal> {
    slow::prove(app, key).await?;
    let view = app.view()?;
    let principal = view
        .directory
        .authenticate(&view.keyring, key, app.now(), from)?;
    drop(view);
    app.may_ask(&principal)?;
    granted(app, principal)
}

/// A page of another site gets a session that is bound to it.
async fn by_password(
    app: &App,
    foreign: bool,
    from: ClientAddress,
    username: &NameOrId,
    password: Password,
) -> Result<Granted, Refusal> {
    let session = || uuid::Builder::from_random_bytes(*app.draw::<16>()).into_uuid();
    let enter = |view: &View, user, print| {
        let session = foreign.then(session);
        let (now, from) = (app.now(), from.network());
        view.directory.log_in(user, print, session, now, from)
    };
    let principal = app.try_password(from, username, password, enter).await?;
    granted(app, principal)
}

/// A token for who proved to be somebody.
fn granted(app: &App, principal: Principal) -> Result<Granted, Refusal> {
    let now = app.now();
    let (end, keyring, settings) = {
        let view = app.view()?;
        let end = view.directory.end(&principal);
        (end, view.keyring.clone(), view.settings.clone())
    };
    let claims = claims(principal, now, settings.token_ttl, end)?;
    let token = token::issue(&keyring, settings.id, &claims).map_err(|_| Refusal::Unexpected)?;
    let session = principal.by.session();
    Ok(Granted {
        principal,
        token,
        seconds: claims.expires.as_second() - now.as_second(),
        csrf: session.map(|session| keyring.pepper().csrf_token(session)),
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
    let expires = end.map_or(expires, |end| expires.min(end));
    Ok(Claims::of_login(principal, now, expires))
}

/// The one place where every login ends, whichever way it went. The audit line has ids and closed words only: names come from people, credentials from
/// nowhere.
fn report(
    app: &App,
    request: &RequestId,
    address: ClientAddress,
    claimed: Option<Uuid>,
    granted: Result<&Granted, &Refusal>,
) {
    let outcome = LoginOutcome::of(granted);
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

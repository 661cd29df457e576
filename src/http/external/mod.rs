//! Login at an OIDC provider, by authorization code with PKCE (OpenID Connect Core 1.0, 3.1;
//! RFC 6749, 4.1; RFC 7636; RFC 9700).
//!
//! 1. `GET /login/external`: state, nonce and PKCE verifier are drawn, sealed into a cookie of
//!    this browser, and the browser is sent to the provider. Nothing is kept here: another replica,
//!    or this one after a restart, can go on.
//! 2. The person logs in there, or does not.
//! 3. `GET /login/external/callback`: the cookie ends, whatever comes. What comes must be the
//!    answer to the login that the cookie is of, from the provider that it was sent to.
//! 4. The code is redeemed, with the verifier; the ID token says who it is (`auth::id_token`).
//! 5. Issuer and subject are those of a user who is declared and active, or nobody is let in. The
//!    session is the same as after a password.

mod provider;
mod redeem;

use std::sync::Arc;

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeVerifier, RedirectUrl, Scope};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use self::{
    provider::{Asking, Discovery},
    redeem::Client,
};
use super::{
    App, Refusal,
    extract::ClientAddress,
    limiter::Attempt,
    oauth::NO_STORE,
    pages::{self, Visitor},
    routes::login,
    session::{self, Cookie},
};
use crate::{
    auth::{
        principal::Principal,
        scheme::{Provider, Trouble},
        seal::Purpose,
    },
    store::Settings,
};

pub(super) use provider::Known;

/// How long a person has to log in there, in seconds.
const BEGUN_SECONDS: i64 = 600;
/// How many may be under way to the provider at once.
pub(super) const AT_ONCE: usize = 32;
/// Where the provider sends people back to.
const CALLBACK: &str = "/login/external/callback";
/// From there to where all pages are.
const ROOT: &str = "../../";
/// No part of the provider's answer is longer, in bytes.
const MAX_PART: usize = 4096;

/// A login that was begun, as the cookie holds it.
#[derive(Serialize, Deserialize)]
struct Begun {
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
    at: Timestamp,
}

/// `GET /login/external`.
pub(in crate::http) async fn begin(State(app): State<App>, visitor: Visitor, uri: Uri) -> Response {
    let begun = sent_away(&app, &uri).await;
    begun.unwrap_or_else(|refusal| pages::refused(&refusal, &app, "../", &visitor))
}

async fn sent_away(app: &App, uri: &Uri) -> Result<Response, Refusal> {
    let (settings, provider) = set_up(app)?;
    let _permit = app.outgoing().try_acquire().map_err(|_| Refusal::Busy)?;
    let discovery = app.known().discovery(asking(app, &provider)).await?;
    let place = sole(uri, "return_to").unwrap_or_default();
    let begun = Begun {
        issuer: provider.issuer.clone(),
        state: drawn(app),
        nonce: drawn(app),
        verifier: drawn(app),
        return_to: pages::onward(place.strip_prefix('/').unwrap_or(&place)).to_owned(),
        at: app.now(),
    };
    let there = address(&provider, &discovery, &settings, &begun)?;
    let mut response = redirect(&there)?;
    let cookie = sealed(app, &settings, &begun)?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// `GET /login/external/callback`.
pub(in crate::http) async fn finish(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let (request, from) = (&visitor.request, visitor.address);
    let begun = opened(&app, &headers);
    let place = begun.as_ref().map(|begun| begun.return_to.clone());
    let principal = entered(&app, from, begun, &uri).await;
    let cookie = login::by_provider(&app, request, from, principal);
    let answer = cookie.and_then(|cookie| {
        let mut response = redirect(&format!("{ROOT}{}", place.unwrap_or_default()))?;
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(response)
    });
    let mut answer =
        answer.unwrap_or_else(|refusal| pages::refused(&refusal, &app, ROOT, &visitor));
    let gone = app
        .settings()
        .and_then(|settings| session::cookie(&settings, Cookie::Login, "", 0).ok());
    gone.map(|gone| answer.headers_mut().append(SET_COOKIE, gone));
    answer
}

/// Who comes back, once that was asked of the provider. An answer that is none counts for its
/// address: each costs the provider a request.
async fn entered(
    app: &App,
    from: ClientAddress,
    begun: Option<Begun>,
    uri: &Uri,
) -> Result<Principal, Refusal> {
    let (settings, provider) = set_up(app)?;
    let attempt = Attempt {
        rates: settings.login_rates,
        of_all: None,
        claim: None,
        address: from.0,
        at: app.now(),
    };
    app.limiter().begin(&attempt)?;
    let subject = vouched(app, &settings, &provider, begun, uri).await;
    match &subject {
        Err(Refusal::External(Trouble::NotBegun | Trouble::NotBelieved)) => {}
        Ok(_) | Err(_) => app.limiter().withdraw(&attempt),
    }
    let subject = subject?;
    let view = app.view()?;
    let entered =
        view.directory
            .log_in_external(&provider.issuer, &subject, app.now(), from.network());
    entered?.ok_or_else(|| Trouble::Unknown(subject).into())
}

/// Whom the provider vouches for.
async fn vouched(
    app: &App,
    settings: &Settings,
    provider: &Provider,
    begun: Option<Begun>,
    uri: &Uri,
) -> Result<String, Refusal> {
    let begun = begun.filter(|begun| begun.issuer == provider.issuer);
    let begun = begun.ok_or(Trouble::NotBegun)?;
    let state = sole(uri, "state").ok_or(Trouble::NotBegun)?;
    if !bool::from(state.as_bytes().ct_eq(begun.state.as_bytes())) {
        return Err(Trouble::NotBegun.into());
    }
    let _permit = app.outgoing().try_acquire().map_err(|_| Refusal::Busy)?;
    let discovery = app.known().discovery(asking(app, provider)).await?;
    // RFC 9207: not the answer of another provider, that we are to send our secret to.
    let named = sole(uri, "iss");
    let silent = named.is_none() && !discovery.authorization_response_iss_parameter_supported;
    if !silent && named.as_ref() != Some(&provider.issuer) {
        return Err(Trouble::NotBelieved.into());
    }
    if let Some(error) = sole(uri, "error") {
        return Err(redeem::told(&error).into());
    }
    let code = sole(uri, "code").ok_or(Trouble::NotBegun)?;
    let client = Client {
        app: app.clone(),
        provider: provider.clone(),
        discovery,
        redirect: callback(settings)?,
    };
    let subject = client.subject(code, begun.verifier, begun.nonce).boxed();
    Ok(subject.await?)
}

/// The settings of a server that has a provider, and a public address to come back to.
fn set_up(app: &App) -> Result<(Arc<Settings>, Provider), Refusal> {
    let settings = app.view()?.settings.clone();
    let provider = settings.scheme.provider().cloned();
    let provider = provider.ok_or(Trouble::NoProvider)?;
    Ok((settings, provider))
}

fn asking(app: &App, provider: &Provider) -> Asking {
    Asking {
        outside: Arc::clone(app.outside()),
        provider: provider.clone(),
        now: app.now(),
    }
}

/// Where a person is sent.
fn address(
    provider: &Provider,
    discovery: &Discovery,
    settings: &Settings,
    begun: &Begun,
) -> Result<String, Refusal> {
    let there = AuthUrl::new(discovery.authorization_endpoint.clone());
    let there = there.map_err(|_| Trouble::Unreachable)?;
    let verifier = PkceCodeVerifier::new(begun.verifier.clone());
    let challenge = oauth2::PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    let client = oauth2::basic::BasicClient::new(ClientId::new(provider.client.clone()))
        .set_auth_uri(there)
        .set_redirect_uri(callback(settings)?);
    let scopes = provider.scopes.iter().cloned().map(Scope::new);
    let (there, _) = client
        .authorize_url(|| CsrfToken::new(begun.state.clone()))
        .add_scope(Scope::new("openid".into()))
        .add_scopes(scopes)
        .add_extra_param("nonce", &begun.nonce)
        .set_pkce_challenge(challenge)
        .url();
    Ok(there.into())
}

/// Where the provider sends people back to: as we are told, never as a request says.
fn callback(settings: &Settings) -> Result<RedirectUrl, Refusal> {
    let public = settings.public_url.as_ref().ok_or(Trouble::NoProvider)?;
    let there = RedirectUrl::new(format!("{public}{CALLBACK}"));
    Ok(there.map_err(|_| Trouble::NoProvider)?)
}

/// 256 random bits, as 43 characters that stand for themselves everywhere.
fn drawn(app: &App) -> String {
    B64.encode(*app.draw::<32>())
}

fn sealed(app: &App, settings: &Settings, begun: &Begun) -> Result<HeaderValue, Refusal> {
    let keyring = app.view()?.keyring.clone();
    let statement = serde_json::to_vec(begun).map_err(|_| Refusal::Unexpected)?;
    let nonce = *app.draw();
    let text = keyring.seal(Purpose::ExternalLogin, settings.id, &statement, nonce);
    let text = text.ok_or(Refusal::Unexpected)?;
    session::cookie(settings, Cookie::Login, &text, BEGUN_SECONDS)
}

/// The login that a browser is at, if it began one here, and not too long ago.
fn opened(app: &App, headers: &HeaderMap) -> Option<Begun> {
    let (settings, keyring) = {
        let view = app.view().ok()?;
        (view.settings.clone(), view.keyring.clone())
    };
    let text = session::token(headers, &settings, Cookie::Login)?;
    let statement = keyring.open(Purpose::ExternalLogin, settings.id, text)?;
    let begun: Begun = serde_json::from_slice(&statement).ok()?;
    let age = app.now().duration_since(begun.at);
    let most = SignedDuration::from_secs(BEGUN_SECONDS);
    (age.abs() < most).then_some(begun)
}

/// A parameter of an address, if it is there once.
fn sole(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut all = form_urlencoded::parse(query).filter(|(key, _)| key == name);
    let (value, None) = (all.next()?.1, all.next()) else {
        return None;
    };
    (value.len() <= MAX_PART).then(|| value.into_owned())
}

fn redirect(place: &str) -> Result<Response, Refusal> {
    let place = HeaderValue::from_str(place).map_err(|_| Refusal::Unexpected)?;
    let headers = [
        (LOCATION, place),
        (CACHE_CONTROL, NO_STORE),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

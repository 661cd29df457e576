//! `POST /device_authorization`: a device asks to be authorized (RFC 8628, 3.1; zenml-wire 6.1).
//!
//! Nothing is written, and nothing but a count is remembered: all that is known is in the two codes. So
//! it may be asked by anybody, within `auth.rateLimit.global`, and touches no device that exists.

use axum::{
    extract::State,
    http::{
        HeaderMap,
        header::{CACHE_CONTROL, USER_AGENT},
    },
    response::Response,
};
use tracing::debug;
use uuid::Uuid;

use super::json;
use crate::{
    auth::{
        device_code::{self, Origin},
        scheme::Scheme,
    },
    http::{
        App, Refusal,
        extract::{ClientAddress, Form, RequestId},
        oauth::{NO_STORE, OAuthError},
    },
    wire::device::{DeviceAuthorization, DeviceAuthorizationForm},
};

/// Where a person decides.
const VERIFY: &str = "/devices/verify";

/// `POST /device_authorization`.
pub(in crate::http) async fn start(
    State(app): State<App>,
    request: RequestId,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Form(form): Form<DeviceAuthorizationForm>,
) -> Result<Response, Refusal> {
    if form.scope.is_some_and(|scope| !scope.trim().is_empty()) {
        return Err(OAuthError::InvalidScope.into());
    }
    let client = form.client_id.and_then(|text| Uuid::try_parse(&text).ok());
    let client = client.ok_or(Refusal::Malformed("client_id must be a UUID."))?;
    let agent = headers.get(USER_AGENT).and_then(|text| text.to_str().ok());
    let origin = Origin::new(agent.unwrap_or_default(), address);

    let (settings, keyring) = {
        let view = app.view()?;
        (view.settings.clone(), view.keyring.clone())
    };
    if settings.scheme == Scheme::NoAuth {
        return Err(Refusal::NoDevices);
    }
    app.limiter()
        .start(settings.global_rates, address, app.now())?;
    let terms = &settings.devices;
    let times = (app.now(), terms.code);
    let random = app.draw();
    let codes = device_code::start(&keyring, settings.id, (client, origin), times, &random);
    let codes = codes.ok_or(Refusal::Unexpected)?;
    debug!(%request, device = %codes.device, %client, "device authorization");

    let page = format!(
        "{}{VERIFY}",
        settings.public_url.as_deref().unwrap_or_default()
    );
    let complete = format!(
        "{page}?device_id={}&user_code={}",
        codes.device, codes.user_code
    );
    let mut answer = json(&DeviceAuthorization {
        device_code: &codes.device_code,
        user_code: &codes.user_code,
        verification_uri: &page,
        verification_uri_complete: &complete,
        expires_in: terms.code.as_secs(),
        interval: terms.interval.as_secs(),
    })?;
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(answer)
}

//! What a device is told that gets no token (RFC 6749, 5.2; RFC 8628, 3.5), in ZenML's words
//! (zenml-wire 6.4). The real client ends on any of them but the first two.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use thiserror::Error;
use uuid::Uuid;

use crate::wire::error::OAuth;

/// No answer about a code or token is kept by anybody (RFC 6749, 5.1), whatever the server's other
/// answers may be.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why a device gets no token. Names the client that asked, who knows its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OAuthError {
    /// Nobody decided yet.
    #[error("Authentication error: device with client ID {0} is pending.")]
    Pending(Uuid),
    /// Nobody decided yet, and it asks too often.
    #[error("Authentication error: device with client ID {0} is pending, and polls too fast.")]
    SlowDown(Uuid),
    /// Somebody denied it.
    #[error("Authentication error: device with client ID {0} was denied.")]
    Denied(Uuid),
    /// It is locked.
    #[error("Authentication error: device with client ID {0} is locked.")]
    Locked(Uuid),
    /// The token was fetched already.
    #[error("Authentication error: device with client ID {0} is active.")]
    Redeemed(Uuid),
    /// The time is over.
    #[error("Authentication error: device for client ID {0} has expired")]
    Expired(Uuid),
    /// No code of this server for this client, or who approved it may not log in: which is not
    /// told.
    #[error("Authentication error: invalid device code.")]
    InvalidGrant,
    /// A header with a credential, beside those of the form.
    #[error("Send credentials in the form alone, without an Authorization header.")]
    TwoCredentials,
    /// There are no scopes.
    #[error("This server knows no scopes.")]
    InvalidScope,
}

impl OAuthError {
    /// Its name in the RFCs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending(_) => "authorization_pending",
            Self::SlowDown(_) => "slow_down",
            Self::Denied(_) | Self::Locked(_) => "access_denied",
            Self::Redeemed(_) | Self::Expired(_) => "expired_token",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::TwoCredentials => "invalid_request",
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = Json(OAuth {
            error: self.name(),
            error_description: &self.to_string(),
            error_uri: None,
        });
        (StatusCode::BAD_REQUEST, [(CACHE_CONTROL, NO_STORE)], body).into_response()
    }
}

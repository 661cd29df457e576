//! The public keys of the tokens, for whoever verifies one without asking (RFC 7517).
//!
//! A key is here before it signs, for at least as long as this may be kept (attacks.md J19, I07).

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use sha2::{Digest, Sha256};

use crate::{
    http::{App, Refusal},
    wire::jwks::{Jwk, JwkSet},
};

/// `GET /.well-known/jwks.json`.
pub(in crate::http) async fn show(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (keyring, seconds) = {
        let view = app.view()?;
        (view.keyring.clone(), view.settings.jwks_max_age.as_secs())
    };
    let keys = keyring.public(app.now());
    let keys = keys.map(|(kid, public)| Jwk::ed25519(kid, B64.encode(public)));
    let body = serde_json::to_vec(&JwkSet {
        keys: keys.collect(),
    });
    let body = body.map_err(|_| Refusal::Unexpected)?;
    let tag = format!("\"{}\"", B64.encode(Sha256::digest(&body)));
    let lasting = format!("public, max-age={seconds}");
    let text = |text: &str| HeaderValue::from_str(text).map_err(|_| Refusal::Unexpected);
    let lasting = [(CACHE_CONTROL, text(&lasting)?), (ETAG, text(&tag)?)];
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, lasting).into_response());
    }
    let json = HeaderValue::from_static("application/jwk-set+json");
    Ok((lasting, [(CONTENT_TYPE, json)], body).into_response())
}

/// Whether the client has what has this tag (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut tags = texts.flat_map(|text| text.split(','));
    tags.any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == tag)
}

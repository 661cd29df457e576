//! Which pages of other sites may call (zenml-wire 13.2): none, unless the server names them.
//!
//! ZenML itself lets every site in, with credentials. Here a site is let in by its exact origin, or
//! everybody is by `*`, and then without credentials.

use axum::{
    http::{
        HeaderMap, HeaderValue, Method,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
        },
    },
    response::{IntoResponse, Response},
};

use crate::{http::Refusal, store::Cors};

/// What every origin that may call at all may do. Who asks decides about headers.
const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY";
/// How long a browser may remember that, in seconds.
const MAX_AGE: &str = "600";

/// The answer to a preflight, if it is one: a question of a browser before the request itself.
pub(super) fn preflight(
    cors: Option<&Cors>,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response> {
    let origin = headers.get(ORIGIN)?;
    if method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    if !cors.is_some_and(|cors| allows(cors, origin)) {
        return Some(Refusal::Preflight.into_response());
    }
    let fixed = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        ),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE)),
    ];
    let mut response = (fixed, "OK").into_response();
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(response)
}

/// Lets the page of an origin read an answer, if it may.
pub(super) fn put(cors: &Cors, origin: &HeaderValue, response: &mut HeaderMap) {
    if !allows(cors, origin) {
        return;
    }
    let any = HeaderValue::from_static("*");
    // What everybody may read says so: an origin that is echoed could be one of few.
    let shown = if names(cors, origin) {
        origin.clone()
    } else {
        any
    };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
    if cors.allow_credentials && names(cors, origin) {
        let yes = HeaderValue::from_static("true");
        response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
}

fn allows(cors: &Cors, origin: &HeaderValue) -> bool {
    names(cors, origin) || cors.origins.iter().any(|allowed| allowed == "*")
}

fn names(cors: &Cors, origin: &HeaderValue) -> bool {
    let is = |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
    origin != "*" && cors.origins.iter().any(is)
}

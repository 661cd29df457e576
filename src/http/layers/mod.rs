//! What happens around every request, once: a name for it, limits, what becomes of a panic,
//! security headers, a count and a line in the log.

mod cors;
mod metrics;
mod secure_headers;

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderMap, Method,
        header::{CONTENT_TYPE, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tracing::{debug, error};

pub(super) use metrics::{
    ChangeOutcome, Changed, CredentialKind, LoginOutcome, Metrics, RefusedFor, TokenKind,
};
pub(super) use secure_headers::SecureHeaders;

use super::{
    App, Refusal,
    error::{Traced, panicked},
    extract::{RequestId, announced_length},
    router::longest_body,
    upstream::{MAX_PASSED, PATIENCE},
};

/// Everything around a request but `/health` and `/ready`.
pub(super) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let begun = app.now();
    let id = RequestId::of(request.headers(), app.next_request());
    let method = metrics::method(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or(metrics::NO_ROUTE, |path| app.metrics().route(path.as_str()));
    request.extensions_mut().insert(id.clone());
    let origin = request.headers().get(ORIGIN).cloned();

    // The ZenML server has limits of its own.
    let (longest, patience) = match app.upstream() {
        Some(_) if route == metrics::NO_ROUTE => (MAX_PASSED, PATIENCE),
        Some(_) | None => (longest_body(route), app.request_timeout()),
    };
    let mut response = match before(&app, &request, longest) {
        None => answer(patience, request, next, &id).await,
        Some(answer) => answer,
    };

    let settings = app.settings();
    if let (Some(origin), Some(settings)) = (&origin, &settings) {
        cors::put(&settings.cors, origin, response.headers_mut());
    }
    app.headers().put(settings, &mut response);
    if response.extensions_mut().remove::<Traced>().is_some() {
        id.put(response.headers_mut());
    }
    let took = Duration::try_from(app.now().duration_since(begun)).unwrap_or_default();
    let status = response.status();
    app.metrics().answered(method, route, status, took);
    let (status, micros) = (status.as_u16(), took.as_micros());
    debug!(request = %id, method, route, status, micros, "answered");
    response
}

/// What is refused, or answered, whatever the route.
fn before(app: &App, request: &Request, longest: u64) -> Option<Response> {
    let (method, headers) = (request.method(), request.headers());
    if announced_length(headers).is_some_and(|length| length > longest) {
        return Some(Refusal::TooLarge.into_response());
    }
    if method == Method::POST && is_upload(headers) {
        return Some(Refusal::Upload.into_response());
    }
    let settings = app.settings();
    let cors = settings.as_ref().map(|settings| &settings.cors);
    cors::preflight(cors, method, headers)
}

fn is_upload(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    content_type.is_some_and(|text| text.to_ascii_lowercase().contains("multipart/form-data"))
}

/// The route's answer, or what is said in its place.
async fn answer(limit: Duration, request: Request, next: Next, id: &RequestId) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => response,
        // The panic's own text went to the panic hook.
        Ok(Err(_)) => {
            error!(request = %id, "a handler panicked");
            panicked(&id.to_string())
        }
        Err(_) => Refusal::Timeout.into_response(),
    }
}

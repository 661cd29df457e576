//! What the sidecar does not answer itself is asked of the ZenML server behind it.
//!
//! A request is authenticated here as any other is, and passed on with a token of the server's own
//! kind for the same person; what the client brought to prove itself stays here. Bodies are passed on
//! as they come, in both directions.

mod ids;
mod people;
mod token;
mod way;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    handler::Handler,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
        header::{
            ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONNECTION,
            CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, LOCATION, ORIGIN, PROXY_AUTHENTICATE,
            PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
        },
    },
    response::IntoResponse,
};
use futures::future::BoxFuture;
use http_body_util::Limited;

use super::{
    App, Caller, Refusal, Unreachable,
    access::{Access, Guarded, Shown},
    extract::{ClientAddress, RequestId},
};
use crate::auth::token::Workload;

use way::Way;

pub(super) use people::People;

/// The way to the ZenML server.
pub trait Upstream: Send + Sync + 'static {
    /// Asks it for something. The request's URI is a path with its query. The answer's body comes as
    /// the server sends it.
    fn send(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Unreachable>>;
}

impl fmt::Debug for dyn Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}

/// How long the ZenML server may take to begin with its answer. It gives up itself after 20 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The longest body that is passed on, in bytes: what ZenML takes by default
/// (`ZENML_SERVER_MAX_REQUEST_BODY_SIZE_IN_BYTES`).
pub(super) const MAX_PASSED: u64 = 256 << 20;

/// Headers between two neighbours (RFC 9110, 7.6.1).
const OF_ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a client says to us, or says about itself to no effect.
const FOR_US: [HeaderName; 10] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    ORIGIN,
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// What the server says to browsers, who are to hear it from us: cookies, and which pages of others may
/// read this.
const OF_THE_SERVER: [HeaderName; 7] = [
    SET_COOKIE,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is in no row of the table.
pub(super) async fn beyond(State(app): State<App>, request: Request) -> axum::response::Response {
    // ZenML serves its dashboard under every path, so an unknown path knows GET.
    let reads_only = Refusal::Method(HeaderValue::from_static("GET"));
    if app.upstream().is_none() {
        let refusal = match *request.method() {
            Method::GET => Refusal::NotFound,
            _ => reads_only,
        };
        return refusal.into_response();
    }
    match Way::of(request.method(), request.uri().path()) {
        Way::Account => {
            let access = Access::Account;
            let handler = pass;
            Guarded { access, handler }.call(request, app).await
        }
        Way::Nobody => pass(State(app), request).await.into_response(),
        Way::Closed => Refusal::NotFound.into_response(),
        Way::ReadsOnly => reads_only.into_response(),
    }
}

/// Passes a request on, and the answer back.
pub(super) async fn pass(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let upstream = app.upstream().ok_or(Refusal::NotFound)?;
    let (mut parts, body) = request.into_parts();
    let from = ClientAddress::of(&app, &parts.extensions, &parts.headers);
    let caller = parts.extensions.get::<Caller>().copied();
    let workload = parts
        .extensions
        .get::<Shown>()
        .map(|shown| shown.0.workload);
    let mut identity = None;
    if let Some(Caller(who)) = caller {
        let theirs = app.people().of(&app, who.account).await?;
        identity = Some((who.account, theirs));
    }
    let swaps = app.people().tables();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = swaps.to_theirs.whole(path);
    let body = Body::new(Limited::new(
        body,
        usize::try_from(MAX_PASSED).unwrap_or(usize::MAX),
    ));
    let body = match identity {
        Some(_) if is_json(&parts.headers) => Arc::clone(&swaps.to_theirs).body(body),
        _ => body,
    };
    let mut asked = Request::new(body);
    *asked.method_mut() = parts.method.clone();
    *asked.uri_mut() = path.parse::<Uri>().map_err(|_| Refusal::NotFound)?;
    strip(&mut parts.headers, &FOR_US);
    parts.headers.remove(FORWARDED_FOR);
    if let Some(address) = from
        .0
        .and_then(|a| HeaderValue::from_str(&a.to_string()).ok())
    {
        parts.headers.insert(FORWARDED_FOR, address);
    }
    if let Some((_, theirs)) = identity {
        let token = app.upstream_token(theirs, workload.unwrap_or_default())?;
        parts.headers.insert(AUTHORIZATION, token);
    }
    *asked.headers_mut() = parts.headers;
    let answer = upstream.send(asked).await.map_err(|why| {
        let id = parts.extensions.get::<RequestId>();
        let id = id.map(ToString::to_string);
        tracing::warn!(request = id, error = %why, "the ZenML server behind us does not answer");
        Refusal::NoUpstream
    })?;
    let (mut parts, body) = answer.into_parts();
    if let (StatusCode::UNAUTHORIZED, Some((ours, _))) = (parts.status, identity)
        && workload.is_none_or(|workload| workload == Workload::default())
    {
        // It knows that person no more; who we let in is to be known there the next time.
        app.people().forget(ours);
        return Err(Refusal::NoUpstream);
    }
    strip(&mut parts.headers, &OF_THE_SERVER);
    app.headers().take_over(app.settings(), &mut parts.headers);
    point_here(&mut parts.headers);
    let body = match is_json(&parts.headers) {
        true => Arc::clone(&swaps.to_ours).body(body),
        false => body,
    };
    Ok(Response::from_parts(parts, body))
}

/// Takes out what is for neighbours, and these.
fn strip(headers: &mut HeaderMap, others: &[HeaderName]) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_ONE_HOP.iter().chain(others).chain(&named) {
        headers.remove(name);
    }
}

/// The server redirects to its own address, which nobody else can reach.
fn point_here(headers: &mut HeaderMap) {
    let there = headers
        .get(LOCATION)
        .and_then(|there| there.to_str().ok()?.parse::<Uri>().ok());
    let Some(there) = there.filter(|there| there.authority().is_some()) else {
        return;
    };
    let path = there.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::from_str(path) {
        Ok(here) => headers.insert(LOCATION, here),
        Err(_) => headers.remove(LOCATION),
    };
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

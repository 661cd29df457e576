//! What the sidecar does not answer itself is asked of the ZenML server behind it.
//!
//! A request is authenticated here as any other is, and passed on with a token of the server's own
//! kind for the same person; what the client brought to prove itself stays here. Bodies are passed on
//! as they come, in both directions.

mod ids;
mod people;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    handler::Handler,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
        header::{
            ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED,
            HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, SET_COOKIE, TE, TRAILER,
            TRANSFER_ENCODING, UPGRADE,
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
const FOR_US: [HeaderName; 9] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is in no row of the table.
pub(super) async fn beyond(State(app): State<App>, request: Request) -> axum::response::Response {
    let is_api = request.uri().path().starts_with("/api/");
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (app.upstream(), is_api, reads) {
        (Some(_), true, _) => {
            let access = Access::Account;
            let handler = pass;
            Guarded { access, handler }.call(request, app).await
        }
        // The dashboard's files are everybody's.
        (Some(_), false, true) => pass(State(app), request).await.into_response(),
        (None, _, true) if *request.method() == Method::GET => Refusal::NotFound.into_response(),
        // ZenML serves its dashboard under every path, so an unknown path knows GET.
        _ => Refusal::Method(HeaderValue::from_static("GET")).into_response(),
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
    strip(&mut parts.headers, &[SERVER, SET_COOKIE]);
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

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

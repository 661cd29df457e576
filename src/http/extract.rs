//! What handlers take from a request. Every one refuses in ZenML's shape and repeats no input.

use std::{convert::Infallible, fmt, net::IpAddr};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{App, Refusal, list};
use crate::auth::network::Network;

/// The longest body of a login, in bytes.
pub(super) const MAX_FORM: usize = 16 << 10;
/// The longest body of any other request, in bytes.
pub(super) const MAX_BODY: u64 = 64 << 10;
/// The longest body with values of a secret, in bytes: 64 KiB of which each is written as `\u0000`,
/// and what is around them.
pub(super) const MAX_VALUES: usize = 512 << 10;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the log and an error answer call a request. Nothing is written until one of them does.
#[derive(Clone, Debug)]
pub(super) enum RequestId {
    /// The client's own name for it, which can stand in a log.
    Given(HeaderValue),
    /// The number of it.
    Numbered(u32),
}

impl RequestId {
    /// The client's name, if it is a plain one of at most 64 characters; else `number`.
    pub(super) fn of(headers: &HeaderMap, number: u32) -> Self {
        let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        match headers.get(REQUEST_ID) {
            Some(id) if (1..=64).contains(&id.len()) && id.as_bytes().iter().all(plain) => {
                Self::Given(id.clone())
            }
            _ => Self::Numbered(number),
        }
    }

    pub(super) fn put(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_string()) {
            headers.insert(REQUEST_ID, value);
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(id) => f.write_str(id.to_str().unwrap_or_default()),
            // An odd factor permutes: neighbours do not look alike, and none repeats.
            Self::Numbered(n) => write!(f, "{:08x}", n.wrapping_mul(0x9e37_79b1)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().cloned().ok_or(Refusal::Unexpected)
    }
}

/// The address that a connection is from. On every request that came by [`serve`](super::serve()).
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The address that a request is from: the peer's, or what a proxy that is trusted says. Unknown
/// only where there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientAddress(pub(super) Option<IpAddr>);

impl ClientAddress {
    pub(super) fn of(app: &App, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let Some(&Peer(peer)) = extensions.get() else {
            return Self(None);
        };
        let forwarded = headers.get_all(FORWARDED_FOR).iter();
        let address = app.settings().map_or(peer, |settings| {
            settings
                .proxies
                .client(peer, forwarded.map(HeaderValue::as_bytes))
        });
        Self(Some(address))
    }

    /// Where it lies.
    pub(super) fn network(self) -> Option<Network> {
        self.0.map(Network::from)
    }
}

impl FromRequestParts<App> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self::of(app, &parts.extensions, &parts.headers))
    }
}

/// The length that a request announces.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A form. A body of another type is an empty form, as for ZenML; a field given twice is refused.
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Sync> FromRequest<S> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if announced_length(&parts.headers).is_some_and(|length| length > MAX_FORM as u64) {
            return Err(Refusal::TooLarge);
        }
        let body = read(body, MAX_FORM).await?;
        if !is_form(&parts.headers) {
            return Ok(Self(T::default()));
        }
        serde_urlencoded::from_bytes(&body)
            .map(Self)
            .map_err(|_| Refusal::Malformed("The form cannot be read."))
    }
}

/// A body in JSON of at most so many bytes, and its bytes. Members that are not known are ignored.
pub(super) struct Json<T, const MOST: usize = MAX_FORM> {
    pub(super) bytes: Bytes,
    pub(super) value: T,
}

impl<T: DeserializeOwned, S: Sync, const MOST: usize> FromRequest<S> for Json<T, MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if announced_length(&parts.headers).is_some_and(|length| length > MOST as u64) {
            return Err(Refusal::TooLarge);
        }
        let bytes = read(body, MOST).await?;
        const OTHER: Refusal =
            Refusal::Malformed("The body is not the JSON object that this request wants.");
        // An array would be read as the members of the object in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(OTHER);
        }
        // What serde says repeats the input.
        let value = serde_json::from_slice(&bytes).map_err(|_| OTHER)?;
        Ok(Self { bytes, value })
    }
}

async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    to_bytes(body, most).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|s| s.is::<http_body_util::LengthLimitError>()) {
            true => Refusal::TooLarge,
            false => Refusal::BrokenBody,
        }
    })
}

fn is_form(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        let essence = text.split(';').next()?.trim();
        Some(essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    };
    headers.get(CONTENT_TYPE).and_then(essence) == Some(true)
}

/// A name or an id in a path. Whatever looks like an id is one, in any spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameOrId {
    /// An id.
    Id(Uuid),
    /// A name.
    Name(String),
}

impl NameOrId {
    pub(super) fn new(text: &str) -> Self {
        Uuid::try_parse(text).map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}

impl fmt::Display for NameOrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The first or only parameter of a path: a name or an id.
pub(super) struct Named(pub(super) NameOrId);

/// The first or only parameter of a path: an id, in any spelling.
pub(super) struct Identified(pub(super) Uuid);

/// The two parameters of a path: the id of an owner, and a name or an id.
pub(super) struct OwnedBy(pub(super) Uuid, pub(super) NameOrId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = params(parts, state).await?;
        Ok(Self(NameOrId::new(nth(&params, 0)?)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Identified {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = params(parts, state).await?;
        id(nth(&params, 0)?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OwnedBy {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = params(parts, state).await?;
        let owner = id(nth(&params, 0)?)?;
        Ok(Self(owner, NameOrId::new(nth(&params, 1)?)))
    }
}

async fn params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Refusal> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Refusal::Malformed("The path is not UTF-8."))
}

fn nth(params: &RawPathParams, n: usize) -> Result<&str, Refusal> {
    let (_, value) = params.iter().nth(n).ok_or(Refusal::Unexpected)?;
    Ok(value)
}

fn id(text: &str) -> Result<Uuid, Refusal> {
    Uuid::try_parse(text).map_err(|_| Refusal::Malformed("The id in the path is not a UUID."))
}

/// Whether a single object is shown with its metadata. It is, unless told otherwise.
pub(super) struct Hydrate(pub(super) bool);

impl<S: Sync> FromRequestParts<S> for Hydrate {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        list::hydrate(query).map(|given| Self(given.unwrap_or(true)))
    }
}

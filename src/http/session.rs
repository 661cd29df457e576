//! The session of a browser: a cookie that holds the token, and what keeps other pages from
//! using it.
//!
//! - The cookie is `HttpOnly`, `SameSite=Lax`, for this host alone. Where the server's address is
//!   `https`, it is `Secure` and its name begins with `__Host-`, so that no neighbour's page or
//!   plain connection can set it; else its name is ZenML's.
//! - A request that changes something and comes with the cookie alone must be one of our own
//!   pages, as the browser says (`Sec-Fetch-Site`, else `Origin`).
//! - Who logs in from a page of another site gets no cookie. Its token is bound to a session, and
//!   each of its requests must bring the CSRF token of that session along (zenml-wire 7).

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{COOKIE, HOST, ORIGIN, REFERER},
};
use uuid::Uuid;

use super::Refusal;
use crate::{auth::principal::Refused, store::Settings};

const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The cookies of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Holds the token of who is logged in.
    Session,
    /// Ties the form of the login page to the browser that it was shown in. Other sites' pages
    /// cannot make a browser send it at all.
    Form,
    /// Holds a login at a provider that is under way, sealed.
    Login,
}

impl Cookie {
    fn name(self, settings: &Settings) -> String {
        let prefix = match is_secure(settings) {
            true => "__Host-",
            false => "",
        };
        let name = match self {
            Self::Session => "zenml-server",
            Self::Form => "zenop-form",
            Self::Login => "zenop-login",
        };
        format!("{prefix}{name}-{}", settings.id)
    }

    const fn same_site(self) -> &'static str {
        match self {
            // Who follows a link from elsewhere is logged in.
            Self::Session | Self::Login => "Lax",
            Self::Form => "Strict",
        }
    }
}

/// Whether browsers reach the server by https, as far as it was told.
pub(super) fn is_secure(settings: &Settings) -> bool {
    settings.url.starts_with("https://")
}

/// The header that sets the cookie for so many seconds; with 0 it ends.
///
/// # Errors
/// None: a token has no character that a header may not have.
pub(super) fn cookie(
    settings: &Settings,
    cookie: Cookie,
    token: &str,
    seconds: i64,
) -> Result<HeaderValue, Refusal> {
    let secure = match is_secure(settings) {
        true => "; Secure",
        false => "",
    };
    let (name, same_site) = (cookie.name(settings), cookie.same_site());
    let text = format!(
        "{name}={token}; HttpOnly; Path=/; SameSite={same_site}; Max-Age={seconds}{secure}"
    );
    HeaderValue::from_str(&text).map_err(|_| Refusal::Unexpected)
}

/// The token in the cookie of a request. Two of them are none.
pub(super) fn token<'a>(
    headers: &'a HeaderMap,
    settings: &Settings,
    cookie: Cookie,
) -> Option<&'a str> {
    let name = cookie.name(settings);
    let texts = headers.get_all(COOKIE).iter();
    let pairs = texts.filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|text| text.split(';'));
    let mut ours = pairs.filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name && !value.is_empty()).then_some(value)
    });
    match (ours.next(), ours.next()) {
        (Some(token), None) => Some(token),
        _ => None,
    }
}

/// Whether a request that has only the cookie to show may do what it asks: read, or come from our
/// own page.
///
/// # Errors
/// [`Refusal::ForeignPage`].
pub(super) fn check_page(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let own = match (text(&FETCH_SITE), text(&ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => authority(origin).is_some() && authority(origin) == text(&HOST),
        // Every browser says one of the two.
        (None, None) => true,
    };
    match own || method == Method::GET || method == Method::HEAD {
        true => Ok(()),
        false => Err(Refusal::ForeignPage),
    }
}

/// Whether a login comes from a page of another site: neither of this host nor of one below it.
pub(super) fn is_foreign(headers: &HeaderMap, settings: &Settings) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(page) = text(&ORIGIN).or_else(|| text(&REFERER)) else {
        return false;
    };
    let own = [authority(&settings.url), text(&HOST)];
    let page = authority(page).map(host).unwrap_or("?");
    !own.into_iter().flatten().map(host).any(|own| {
        page.eq_ignore_ascii_case(own)
            || page
                .strip_suffix(own)
                .is_some_and(|below| below.ends_with('.'))
    })
}

/// Checks what a token of a page of another site must bring along.
///
/// # Errors
/// Why it is refused.
pub(super) fn check_csrf(
    headers: &HeaderMap,
    session: Option<Uuid>,
    is_of: impl Fn(Uuid, &str) -> bool,
) -> Result<(), Refused> {
    let Some(session) = session else {
        return Ok(());
    };
    let given = headers.get(CSRF).ok_or(Refused::NoCsrf)?;
    match given.to_str().is_ok_and(|given| is_of(session, given)) {
        true => Ok(()),
        false => Err(Refused::BadCsrf),
    }
}

/// Whether the form of a page may come from where the browser says that it does. It says nothing
/// more than `null` where the page tells nobody where it is, as ours do, and the connection is
/// plain; the token in the form is what counts then.
///
/// # Errors
/// [`Refusal::ForeignPage`].
pub(super) fn check_form(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_hidden = headers.get(ORIGIN).is_some_and(|origin| origin == "null");
    match is_hidden && !headers.contains_key(FETCH_SITE) {
        true => Ok(()),
        false => check_page(&Method::POST, headers),
    }
}

fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#']).next()
}

fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_our_own_page_changes_something_by_the_cookie() {
        let may = |method: Method, pairs: &[_]| check_page(&method, &headers(pairs)).is_ok();
        assert!(may(Method::GET, &[("sec-fetch-site", "cross-site")]));
        assert!(may(Method::POST, &[]));
        assert!(may(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(may(
            Method::PUT,
            &[
                ("origin", "https://zen.example.com"),
                ("host", "zen.example.com")
            ]
        ));
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "null"), ("host", "zen.example.com")],
            &[
                ("origin", "https://evil.example.com"),
                ("host", "zen.example.com"),
            ],
            &[
                ("origin", "https://zen.example.com"),
                ("host", "zen.example.com:8080"),
            ],
        ] {
            assert!(!may(Method::DELETE, foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_form_comes_from_our_own_page_or_from_one_that_hides() {
        let may = |pairs: &[_]| check_form(&headers(pairs)).is_ok();
        assert!(may(&[("origin", "null")]));
        assert!(may(&[
            ("origin", "null"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!may(&[
            ("origin", "null"),
            ("sec-fetch-site", "cross-site")
        ]));
        assert!(!may(&[
            ("origin", "https://evil.example.com"),
            ("host", "a.b")
        ]));
    }

    #[test]
    fn hosts_are_compared_without_their_port() {
        assert_eq!(authority("https://a.b:1/x?y").map(host), Some("a.b"));
        assert_eq!(authority("http://[::1]:80").map(host), Some("[::1]"));
        assert_eq!(authority("null"), None);
    }
}

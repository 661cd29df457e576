//! The pages that people see: to log in, to decide about a device, and their devices.
//!
//! - They are rendered here, from templates that the compiler checked, with every value escaped.
//!   They hold no script and no style of their own and work without either. What a browser may
//!   do with them is fixed, whatever `secureHeaders` says of other answers ([`Page`]).
//! - All links in them are relative, so neither a `Host` that was forged nor a proxy that serves
//!   them below another path leads anywhere else.
//! - Every form is a POST with a token that is bound to the browser's session, to the kind of form
//!   and to the device that it is about (`form`). Without a session nothing is looked at: who asks
//!   to see something is sent to log in first, who asks to change something is refused.
//! - The same decisions as those of ZenML's API, by the same functions.

mod activate;
mod burst;
mod devices;
mod files;
mod form;
mod login;
mod notice;
mod sign_out;
mod verify;
mod visitor;
mod words;

use askama::Template;
use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};

pub(super) use activate::{choose as choose_password, show as activate};
pub(super) use burst::Bursts;
pub(super) use devices::{change as change_device, list as devices};
pub(super) use files::file;
pub(super) use form::onward;
pub(super) use login::{log_in, log_out, show as login};
pub(super) use sign_out::everywhere as sign_out_everywhere;
pub(super) use verify::{decide, show as verify};

use super::{App, Refusal, oauth::NO_STORE, session};
pub(super) use notice::refused;
pub(super) use visitor::Visitor;

/// Nothing but our stylesheet and icon is loaded, forms go to us, and nobody frames us. No script
/// runs, whatever gets into a page.
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What is around the content of every page.
struct Frame {
    /// The server's name.
    server: String,
    /// How to get from the page to where all pages are: empty, or `../`.
    root: &'static str,
    /// Names of the files.
    style: &'static str,
    icon: &'static str,
    /// Who is logged in.
    user: Option<String>,
    /// The token of the form that ends that.
    logout: String,
    /// Whether others can read along.
    plain: bool,
}

impl Frame {
    fn new(app: &App, root: &'static str, visitor: &Visitor) -> Self {
        let settings = app.settings();
        let is_secure = settings.as_ref().is_some_and(|of| session::is_secure(of));
        let session = visitor.session.as_ref();
        Self {
            server: settings.map_or_else(String::new, |of| of.name.clone()),
            root,
            style: files::STYLE.name(),
            icon: files::ICON.name(),
            user: session.map(|session| session.user.clone()),
            logout: session
                .and_then(|session| form::Kind::LogOut.token(app, session))
                .unwrap_or_default(),
            plain: !is_secure && !visitor.is_here,
        }
    }
}

/// A page as it is answered.
struct Page<T>(StatusCode, T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let Self(status, template) = self;
        let Ok(text) = template.render() else {
            return Refusal::Unexpected.into_response();
        };
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        guarded((status, [(CONTENT_TYPE, html)], text).into_response())
    }
}

/// Sends a browser to another page, by GET. The place is relative to the page that it asked for.
fn sent_to(place: &str) -> Response {
    let Ok(place) = HeaderValue::from_str(place) else {
        return Refusal::Unexpected.into_response();
    };
    guarded((StatusCode::SEE_OTHER, [(LOCATION, place)]).into_response())
}

/// What a browser may do with an answer. Links hold codes, so no page tells another where it was.
fn guarded(mut response: Response) -> Response {
    let fixed = HeaderValue::from_static;
    response.headers_mut().extend([
        (CONTENT_SECURITY_POLICY, CSP),
        (X_FRAME_OPTIONS, fixed("DENY")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (CACHE_CONTROL, NO_STORE),
        (OPENER_POLICY, fixed("same-origin")),
        (RESOURCE_POLICY, fixed("same-origin")),
    ]);
    response
}

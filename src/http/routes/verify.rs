//! Who is logged in, for a gateway that asks before it lets a request through to something else: `auth_request` of nginx,
//! `ForwardAuth` of Traefik.

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method,
        header::{AUTHORIZATION, COOKIE},
    },
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::json;
use crate::{
    auth::principal::{Principal, Refused},
    http::{App, Caller, Refusal, session::check_page},
};

/// The caller's id.
const ID: HeaderName = HeaderName::from_static("x-zenop-id");
/// The caller's name; what is not visible ASCII in it, and `%`, as `%XX` of its UTF-8 (RFC 3986, 2.1).
const NAME: HeaderName = HeaderName::from_static("x-zenop-name");
/// What else than what is no ASCII is not left in it as it is.
const HIDDEN: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// `user` or `service-account`.
const KIND: HeaderName = HeaderName::from_static("x-zenop-kind");
/// `true` or `false`.
const ADMIN: HeaderName = HeaderName::from_static("x-zenop-admin");

/// How gateways say which method they ask for: Traefik, and who configures nginx so.
const METHODS: [HeaderName; 2] = [
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-original-method"),
];

/// `GET /auth/verify`: `null`, and who the caller is in headers. A browser that has only its cookie to show may do
/// what reads, and more than that from a page of this host alone; where the gateway does not say what is asked for,
/// it is taken for more.
pub(in crate::http) async fn show(
    State(app): State<App>,
    Caller(caller): Caller,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if headers.contains_key(COOKIE) && !headers.contains_key(AUTHORIZATION) {
        check_page(&asked(&headers), &headers)?;
    }
    let view = app.view()?;
    let directory = &view.directory;
    let told = match (
        directory.account(caller.account),
        directory.user(caller.account),
    ) {
        (Some(account), _) => named(&caller, "service-account", &account.name),
        (None, Some(user)) => named(&caller, "user", &user.name),
        (None, None) => return Err(Refused::Revoked.into()),
    };
    let admin = match directory.is_admin(&caller) {
        true => "true",
        false => "false",
    };
    let admin = [(ADMIN, HeaderValue::from_static(admin))];
    Ok((told, admin, json(&())?).into_response())
}

/// What is asked of the gateway.
fn asked(headers: &HeaderMap) -> Method {
    let said = METHODS.iter().find_map(|name| headers.get(name));
    let method = said.and_then(|value| Method::from_bytes(value.as_bytes()).ok());
    method.unwrap_or(Method::POST)
}

fn named(caller: &Principal, kind: &'static str, name: &str) -> [(HeaderName, HeaderValue); 3] {
    // Nothing is left in it that could not stand in a header.
    let name = HeaderValue::from_str(&escaped(name));
    let id = HeaderValue::from_str(&caller.account.to_string());
    let none = HeaderValue::from_static("");
    [
        (ID, id.unwrap_or(none.clone())),
        (KIND, HeaderValue::from_static(kind)),
        (NAME, name.unwrap_or(none)),
    ]
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, HIDDEN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_ascii() {
        assert_eq!(escaped("ana@example.org"), "ana@example.org");
        assert_eq!(escaped("a b%\r\nä"), "a%20b%25%0D%0A%C3%A4");
    }
}

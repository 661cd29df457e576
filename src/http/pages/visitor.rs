//! Who looks at a page, and from where.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::HOST, request::Parts},
};
use sha2::{Digest, Sha256};

use crate::{
    auth::principal::Principal,
    http::{
        App, Caller, Refusal, access,
        changes::Changer,
        decisions::Decider,
        extract::{ClientAddress, RequestId},
    },
};

/// Who looks at a page.
pub(in crate::http) struct Visitor {
    /// Its session, if it is logged in.
    pub(super) session: Option<Session>,
    /// Why there is none, if to log in would not help.
    pub(super) trouble: Option<Refusal>,
    pub(in crate::http) address: ClientAddress,
    /// Whether the browser runs on the machine that it asks, as far as it says.
    pub(super) is_here: bool,
    pub(in crate::http) request: RequestId,
}

/// A person who is logged in.
pub(in crate::http) struct Session {
    pub(super) who: Principal,
    /// Its name.
    pub(super) user: String,
    /// What its forms are bound to. Another after each login.
    pub(super) id: [u8; 32],
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let address = ClientAddress::of(app, &parts.extensions, &parts.headers);
        let request = RequestId::from_request_parts(parts, app).await;
        let (session, trouble) = match session(app, &parts.headers, address) {
            Ok(session) => (Some(session), None),
            Err(trouble) => (None, Some(trouble).filter(is_trouble)),
        };
        Ok(Self {
            session,
            trouble,
            address,
            is_here: is_here(&parts.headers),
            request: request.unwrap_or(RequestId::Numbered(0)),
        })
    }
}

/// Whether to log in would not help.
fn is_trouble(refusal: &Refusal) -> bool {
    refusal.is_ours() || matches!(refusal, Refusal::TooMany(_))
}

fn session(app: &App, headers: &HeaderMap, from: ClientAddress) -> Result<Session, Refusal> {
    let (Caller(who), token) = access::visitor(app, headers, from.network())?;
    let view = app.view()?;
    let user = view.directory.user(who.account);
    Ok(Session {
        who,
        user: user.map_or_else(String::new, |user| user.name.clone()),
        id: Sha256::digest(token).into(),
    })
}

impl Session {
    pub(super) fn decider(&self, address: ClientAddress) -> Decider {
        Decider::new(&self.who, address)
    }

    /// This one, about to change something.
    pub(super) fn changer(&self, app: &App, visitor: &Visitor) -> Changer {
        Changer {
            app: app.clone(),
            request: visitor.request.clone(),
            address: visitor.address,
            caller: Caller(self.who),
        }
    }
}

fn is_here(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        match port.bytes().all(|c| c.is_ascii_digit()) {
            true => name,
            false => host,
        }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']').parse();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_machine_itself_has_few_names() {
        let here = |host| {
            is_here(&HeaderMap::from_iter([(
                HOST,
                HeaderValue::from_static(host),
            )]))
        };
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "a.localhost",
        ] {
            assert!(here(host), "{host}");
        }
        for host in [
            "",
            "10.0.0.1:80",
            "localhost.evil.com",
            "zen.example.com",
            "[2001:db8::1]",
        ] {
            assert!(!here(host), "{host}");
        }
    }
}

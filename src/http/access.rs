//! Who may call a route: a value in the table, checked here and nowhere else.
//!
//! Where nobody is asked (`NoAuth`), a request is everybody's, whatever it brings. Elsewhere it is
//! authenticated in this order: name and password, where the server takes them so (`HTTPBasic`);
//! its bearer credential; else the cookie of a browser (ZenML takes the cookie first; who sends
//! both means the bearer). Without any it is refused as such; `ZENKEY_…` is an API key; anything
//! else is a token. All are checked against the state of this moment, so what was revoked is
//! refused at once.

use std::future::ready;

use axum::{
    extract::{FromRequestParts, Request},
    handler::Handler,
    http::{
        HeaderMap,
        header::{AUTHORIZATION, COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt,
    future::{BoxFuture, Either},
};

use crate::auth::{
    api_key::{self, ApiKey},
    network::Network,
    principal::{By, Principal, Refused},
    scheme::Scheme,
    token::Claims,
};
use crate::store::State;

use super::{
    App, Refusal,
    basic::{self, Presented},
    extract::ClientAddress,
    layers::CredentialKind,
    refused::Trace,
    session::{self, Cookie},
    slow,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anyone,
    /// Every account and user.
    Account,
    /// Administrators, to do the thing that is named.
    Admin(&'static str),
}

/// The account or user that makes a request. Only routes that ask for an account have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    /// Fails closed on a route that everybody may call.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or(Refusal::NotAuthenticated)
    }
}

/// The token that a request shows. Not on one with a raw key, nor on routes that everybody may
/// call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown(pub(super) Claims);

impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().copied().ok_or(Refusal::NoToken)
    }
}

/// A handler that only those may reach whom the table allows.
#[derive(Clone)]
pub(super) struct Guarded<H> {
    pub(super) access: Access,
    pub(super) handler: H,
}

impl<H, T> Handler<(Access, T), App> for Guarded<H>
where
    H: Handler<T, App>,
    T: 'static,
{
    type Future =
        Either<std::future::Ready<Response>, Either<H::Future, BoxFuture<'static, Response>>>;

    fn call(self, mut request: Request, app: App) -> Self::Future {
        if self.access != Access::Anyone {
            if let Some(presented) = basic::presented(&app, &request) {
                return Either::Right(Either::Right(self.entered(presented, request, app).boxed()));
            }
            if let Some(key) = unproven(&request, &app) {
                return Either::Right(Either::Right(self.proven(key, request, app).boxed()));
            }
        }
        match self.access.admit(&mut request, &app) {
            Ok(()) => Either::Right(Either::Left(self.handler.call(request, app))),
            Err(refusal) => Either::Left(ready(refusal.into_response())),
        }
    }
}

impl<H> Guarded<H> {
    /// The same, for a key that is to be held against a slow hash first.
    async fn proven<T>(self, key: ApiKey, mut request: Request, app: App) -> Response
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let admitted = slow::prove(&app, &key).await;
        match admitted.and_then(|()| self.access.admit(&mut request, &app)) {
            Ok(()) => self.handler.call(request, app).await,
            Err(refusal) => refusal.into_response(),
        }
    }

    /// The same, for name and password.
    async fn entered<T>(self, presented: Presented, mut request: Request, app: App) -> Response
    where
        H: Handler<T, App>,
        T: 'static,
    {
        match basic::enter(&app, presented).await {
            Ok(principal) => match self.access.let_in(principal, &mut request, &app) {
                Ok(()) => self.handler.call(request, app).await,
                Err(refusal) => refusal.into_response(),
            },
            Err(refusal) => basic::challenged(refusal),
        }
    }
}

/// The key of a request, if a slow hash may be of it. What is wrong with it is told later.
fn unproven(request: &Request, app: &App) -> Option<ApiKey> {
    let credential = bearer(request.headers()).ok().flatten()?;
    if !credential.starts_with(api_key::PREFIX) {
        return None;
    }
    let key = credential.parse().ok()?;
    slow::is_unproven(app, &key).ok()?.then_some(key)
}

impl Access {
    fn admit(self, request: &mut Request, app: &App) -> Result<(), Refusal> {
        if self == Self::Anyone {
            return Ok(());
        }
        // Before the view is locked, which is read here too.
        let from = ClientAddress::of(app, request.extensions(), request.headers());
        let mut trace = Trace::default();
        let known = authenticate(request, from.network(), app, &mut trace);
        if let Err(Refusal::Credentials(why)) = &known {
            app.refused(request.extensions().get(), &trace, why, from);
        }
        let (caller, admin) = known?;
        if let Some(claims) = trace.claims {
            request.extensions_mut().insert(Shown(claims));
        }
        self.check(caller, admin, request)
    }

    fn let_in(self, who: Principal, request: &mut Request, app: &App) -> Result<(), Refusal> {
        let admin = app.view()?.directory.is_admin(&who);
        app.may_ask(&who)?;
        self.check(Caller(who), admin, request)
    }

    fn check(self, caller: Caller, admin: bool, request: &mut Request) -> Result<(), Refusal> {
        request.extensions_mut().insert(caller);
        match self {
            Self::Admin(action) if !admin => Err(Refusal::AdminsOnly(action)),
            Self::Admin(_) | Self::Anyone | Self::Account => Ok(()),
        }
    }
}

/// Who calls, and whether it is an administrator now. What is known on the way stays in `trace`.
fn authenticate(
    request: &Request,
    from: Option<Network>,
    app: &App,
    trace: &mut Trace,
) -> Result<(Caller, bool), Refusal> {
    let (method, headers) = (request.method(), request.headers());
    let bearer = bearer(headers)?;
    let settings = app.settings();
    let scheme = settings.as_ref().map(|settings| &settings.scheme);
    if bearer.is_none() && !headers.contains_key(COOKIE) && scheme != Some(&Scheme::NoAuth) {
        return Err(nothing_presented(scheme));
    }
    let view = app.view()?;
    let now = app.now();
    if view.settings.scheme == Scheme::NoAuth {
        // Else any page of the world, open in a browser that reaches the server, could act.
        session::check_page(method, headers)?;
        let everybody = view.directory.everybody(now, from);
        let principal = everybody.ok_or(Refusal::NoDefaultUser)?;
        let admin = view.directory.is_admin(&principal);
        drop(view);
        app.may_ask(&principal)?;
        return Ok((Caller(principal), admin));
    }
    let credential = match bearer {
        Some(bearer) => bearer,
        None => {
            let token = session::token(headers, &view.settings, Cookie::Session);
            let token = token.ok_or_else(|| nothing_presented(scheme))?;
            session::check_page(method, headers)?;
            trace.kind = CredentialKind::Cookie;
            token
        }
    };
    let principal = if credential.starts_with(api_key::PREFIX) {
        trace.kind = CredentialKind::Key;
        let key: ApiKey = credential.parse().map_err(|_| Refused::BadKey)?;
        trace.key = Some(key.id);
        view.directory
            .authenticate(&view.keyring, &key, now, from)?
    } else {
        let claims = claims(app, &view, credential)?;
        trace.claims = Some(claims);
        let pepper = view.keyring.pepper();
        let is_of = |session, given: &str| pepper.is_csrf_token(session, given);
        session::check_csrf(headers, claims.principal.by.session(), is_of)?;
        view.directory.check(&claims, now, from)?
    };
    let admin = view.directory.is_admin(&principal);
    drop(view);
    app.may_ask(&principal)?;
    Ok((Caller(principal), admin))
}

impl App {
    /// Counts a request of a key, or of a user.
    ///
    /// # Errors
    /// If it made too many.
    pub(super) fn may_ask(&self, principal: &Principal) -> Result<(), Refusal> {
        let settings = self.settings();
        let Some(rates) = settings.and_then(|settings| settings.key_rates) else {
            return Ok(());
        };
        let id = principal.by.key().unwrap_or(principal.account);
        Ok(self.limiter().authorized(id, rates, self.now())?)
    }
}

/// What is asked for depends on how the server asks.
fn nothing_presented(scheme: Option<&Scheme>) -> Refusal {
    match scheme {
        Some(Scheme::Basic) => Refusal::NoPassword,
        _ => Refusal::NotAuthenticated,
    }
}

fn claims(app: &App, view: &State, token: &str) -> Result<Claims, Refused> {
    let server = view.settings.id;
    app.tokens().verify(&view.keyring, server, token, app.now())
}

/// Who looks at one of our pages: a person, by the cookie of a browser and by nothing else. With
/// the token in it, which a login replaces.
///
/// # Errors
/// Why it is nobody.
pub(super) fn visitor<'a>(
    app: &App,
    headers: &'a HeaderMap,
    from: Option<Network>,
) -> Result<(Caller, &'a str), Refusal> {
    let view = app.view()?;
    let token = session::token(headers, &view.settings, Cookie::Session);
    let token = token.ok_or(Refusal::NotAuthenticated)?;
    let claims = claims(app, &view, token)?;
    let By::Session { session: None, .. } = claims.principal.by else {
        return Err(Refused::BadToken.into());
    };
    let principal = view.directory.check(&claims, app.now(), from)?;
    drop(view);
    app.may_ask(&principal)?;
    Ok((Caller(principal), token))
}

/// The credential of a request. Two of them are none: which would count is anybody's guess.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| Refused::BadToken)?;
    let bearer = text.split_once(' ').filter(|(scheme, credential)| {
        scheme.eq_ignore_ascii_case("bearer") && !credential.trim().is_empty()
    });
    Ok(bearer.map(|(_, credential)| credential))
}

//! HTTP Basic (RFC 7617): name and password with every request.
//!
//! To try a password takes 20 ms by intent, which a client that sends it each time cannot pay each
//! time. So a pair that was proven is remembered for five minutes: under a hash of it and of the
//! address that it came from, keyed by what only this process has. It counts as long as the user
//! has that name and that very password, and is let in; all that is asked anew each time.
//!
//! 1. What is remembered is of use at that address only, and while few fail from there. Else who
//!    guesses, and has to wait, would still learn of the right guess.
//! 2. Requests that bring the same pair at the same time wait for one trial.
//! 3. A browser sends the pair along with whatever a page of another site asks of it, as it does
//!    with a cookie. So what holds for cookies holds here: see `session`.

use std::{fmt, net::IpAddr, time::Duration};

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use moka::future::Cache;
use sha2::Sha256;
use tracing::info;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    App, Refusal,
    changes::shown,
    extract::{ClientAddress, NameOrId, RequestId},
    layers::{CredentialKind, LoginOutcome},
    limiter::Attempt,
    passwords::named,
    refused::Trace,
    session,
};
use crate::{
    auth::{
        address::block,
        api_key::Print,
        credential::Password,
        principal::{Principal, Refused},
        scheme::Scheme,
    },
    store::State,
};

/// How many pairs are remembered. Each takes about 150 bytes.
const MOST: u64 = 10_000;
/// For how long, from the trial on.
const REMEMBERED: Duration = Duration::from_secs(300);
/// What a client is asked for. As ZenML says it.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic");

/// A request that brings a pair, as far as it matters to that.
pub(super) struct Presented {
    pair: Result<Pair, Refused>,
    from: ClientAddress,
    request: Option<RequestId>,
    /// Whether the page that asks may.
    page: Result<(), Refusal>,
}

/// Name and password, as a request brings them.
struct Pair {
    name: String,
    password: Password,
    /// For [`Pairs`] alone.
    text: Zeroizing<String>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// What a request brings, where the server asks for it: `None` for anything but one `Basic`.
pub(super) fn presented(app: &App, request: &Request) -> Option<Presented> {
    let headers = request.headers();
    let credentials = credentials(headers)?;
    let settings = app.settings()?;
    (settings.scheme == Scheme::Basic).then(|| Presented {
        pair: read(credentials).ok_or(Refused::BadPassword),
        from: ClientAddress::of(app, request.extensions(), headers),
        request: request.extensions().get().cloned(),
        page: session::check_page(request.method(), headers),
    })
}

/// What a `Basic` header holds, if there is one, and no other. Two of them are none.
pub(super) fn credentials(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    basic.then_some(credentials.trim())
}

fn read(credentials: &str) -> Option<Pair> {
    let bytes = Zeroizing::new(STANDARD.decode(credentials).ok()?);
    let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
    let (name, password) = text.split_once(':')?;
    Some(Pair {
        name: name.to_owned(),
        password: Password::presented(password),
        text,
    })
}

/// Pairs that were proven. Bounded.
pub(super) struct Pairs {
    /// Keyed, and empty.
    keyed: Hmac<Sha256>,
    proven: Cache<[u8; 32], Proven>,
}

/// Whose pair it was, and what stood for the password then.
#[derive(Clone, Copy)]
struct Proven {
    user: Uuid,
    password: Print,
}

impl Pairs {
    /// None yet. The key is drawn for this process.
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let proven = Cache::builder().max_capacity(MOST);
        Self {
            keyed: Hmac::new_from_slice(key).expect("any length"),
            proven: proven.time_to_live(REMEMBERED).build(),
        }
    }

    /// What a pair is remembered under. No address has a blank, and no name a colon.
    fn id(&self, pair: &Pair, from: Option<IpAddr>) -> [u8; 32] {
        let from = from.map_or_else(String::new, |from| block(from).to_string());
        let mac = self.keyed.clone().chain_update(from).chain_update(" ");
        let mac = mac.chain_update(pair.text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Who a pair lets in now, for one request.
///
/// # Errors
/// Why nobody.
pub(super) async fn enter(app: &App, presented: Presented) -> Result<Principal, Refusal> {
    let (request, from) = (presented.request.clone(), presented.from);
    let pair = presented.pair.as_ref().ok();
    let name = pair.map(|pair| NameOrId::new(&pair.name));
    let entered = find_out(app, presented).await;
    if let Err(Refusal::Credentials(why)) = &entered {
        // Whoever has a wrong password may be anybody.
        let view = app.view().ok().filter(|_| *why != Refused::BadPassword);
        let user = view.and_then(|view| Some(named(&view.directory, name.as_ref()?)?.id));
        let trace = Trace {
            kind: CredentialKind::Basic,
            user,
            ..Trace::default()
        };
        app.refused(request.as_ref(), &trace, why, from);
    }
    entered
}

async fn find_out(app: &App, presented: Presented) -> Result<Principal, Refusal> {
    let Presented {
        pair,
        from,
        request,
        page,
    } = presented;
    let pair = pair?;
    page?;
    let (now, rates) = (app.now(), app.view()?.settings.login_rates);
    if let Some(address) = from.0 {
        app.limiter().check(rates, address, now)?;
    }
    let name = NameOrId::new(&pair.name);
    let (pairs, id) = (app.pairs(), app.pairs().id(&pair, from.0));
    let current = async |proven: Proven| {
        let view = app.view()?;
        let holds = named(&view.directory, &name).is_some_and(|user| user.id == proven.user);
        let proven = holds.then_some(proven).ok_or(Refused::BadPassword)?;
        let (directory, network) = (&view.directory, from.network());
        let entered = directory.log_in(proven.user, proven.password, None, now, network);
        Ok::<_, Refusal>(entered?)
    };
    if let Some(proven) = pairs.proven.get(&id).await {
        match current(proven).await {
            // Name or password changed since; it may have become this one again.
            Err(Refusal::Credentials(Refused::BadPassword)) => pairs.proven.invalidate(&id).await,
            entered => return entered,
        }
    }
    let prove = prove(app, request.as_ref(), &name, (pair.password, from));
    let proven = pairs.proven.try_get_with(id, prove).await;
    let proven = proven.map_err(|refusal| Refusal::clone(&refusal));
    if matches!(proven, Err(Refusal::TooMany(_) | Refusal::Crowded(_))) {
        // A guess that is not looked at counts for its address too, as there one may be remembered.
        app.limiter().begin(&Attempt {
            rates,
            of_all: None,
            claim: None,
            address: from.0,
            at: now,
        })?;
    }
    current(proven?).await
}

/// Tries a pair, and writes down how that went.
async fn prove(
    app: &App,
    request: Option<&RequestId>,
    name: &NameOrId,
    (password, from): (Password, ClientAddress),
) -> Result<Proven, Refusal> {
    let enter = |view: &State, user, print| {
        let directory = &view.directory;
        directory.log_in(user, print, None, app.now(), from.network())?;
        Ok(Proven {
            user,
            password: print,
        })
    };
    let proven = app.try_password(from, name, password, enter).await;
    let user = proven.as_ref().map(|proven| proven.user);
    if let Some(request) = request {
        report(app, request, from, user);
    }
    proven
}

/// The audit line of a pair that was tried. One that is remembered was told of already, and one that
/// is refused is told of with all that are, remembered or not.
fn report(app: &App, request: &RequestId, from: ClientAddress, user: Result<Uuid, &Refusal>) {
    let outcome = LoginOutcome::of(user);
    app.metrics().login(outcome);
    if let Err(Refusal::Credentials(_)) = user {
        return;
    }
    let (account, address) = (shown(user.ok()), app.shown_address(from));
    info!(target: "zenop::audit", %request, ?outcome, account, address, "basic login");
}

/// Marks a refusal of a pair, so that its sender knows what is asked for.
pub(super) fn challenged(refusal: Refusal) -> Response {
    let mut response = refusal.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

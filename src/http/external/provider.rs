//! What is known of the provider: where to send people, where to redeem codes, what signs its ID
//! tokens (OpenID Connect Discovery 1.0, RFC 8414, RFC 7517).
//!
//! It is asked when somebody logs in, and no more often than it changes: both documents hold for
//! an hour; for a key that is not known they are read anew, at most once in thirty seconds. While
//! the provider cannot be reached, what is known goes on to count; who logs in is told at once.

use std::sync::Arc;

use axum::http::{Request, StatusCode, Uri, header::ACCEPT};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::warn;

use crate::{
    auth::{
        id_token::ProviderKeys,
        scheme::{Provider, Trouble},
    },
    http::outside::Outside,
};

/// How long a document counts.
const HOLDS: SignedDuration = SignedDuration::from_mins(60);
/// How often keys are read anew for one that is not known.
const REFRESH: SignedDuration = SignedDuration::from_secs(30);
/// How long a failure is told of before the provider is asked again.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// What a provider says of itself, as far as we need it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 9207: whether each answer says which provider it is from.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl Discovery {
    /// Whether the client secret goes into the form. It goes into the header wherever it may.
    pub(super) fn takes_secret_in_form(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_some_and(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        })
    }

    /// Whether the document is the provider's own (Discovery 4.3), and its addresses are as safe
    /// as the provider's.
    fn is_of(&self, provider: &Provider) -> bool {
        let secure = provider.issuer.starts_with("https://");
        let endpoints = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.jwks_uri,
        ];
        let fits = |address: &&String| {
            let uri = address.parse::<Uri>().ok();
            let scheme = uri.as_ref().filter(|uri| uri.host().is_some());
            match scheme.and_then(Uri::scheme_str) {
                Some("https") => true,
                Some("http") => !secure,
                _ => false,
            }
        };
        self.issuer == provider.issuer && endpoints.iter().all(fits)
    }
}

/// What is known so far.
#[derive(Default)]
pub(in crate::http) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of which provider.
    of: Option<Provider>,
    discovery: Option<(Timestamp, Discovery)>,
    keys: Option<(Timestamp, ProviderKeys)>,
    /// When it was asked last without an answer.
    failed: Failures,
}

#[derive(Default)]
struct Failures {
    discovery: Option<Timestamp>,
    keys: Option<Timestamp>,
}

impl State {
    /// What is known of another provider does not count for this one.
    fn turn_to(&mut self, provider: &Provider) {
        if self.of.as_ref() != Some(provider) {
            *self = Self {
                of: Some(provider.clone()),
                ..Self::default()
            };
        }
    }
}

/// Where, and when, to ask.
pub(super) struct Asking {
    pub(super) outside: Arc<dyn Outside>,
    pub(super) provider: Provider,
    pub(super) now: Timestamp,
}

impl Known {
    /// What the provider says of itself.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`].
    pub(super) async fn discovery(self: Arc<Self>, asking: Asking) -> Result<Discovery, Trouble> {
        let mut state = self.0.lock().await;
        state.turn_to(&asking.provider);
        let read = state.discovery.as_ref().map(|(at, _)| *at);
        if is_due(read, HOLDS, state.failed.discovery, asking.now) {
            match asking.discovery().await {
                Ok(discovery) => state.discovery = Some((asking.now, discovery)),
                Err(trouble) => {
                    asking.tell(&trouble);
                    state.failed.discovery = Some(asking.now);
                }
            }
        }
        let known = state.discovery.as_ref();
        known
            .map(|(_, known)| known.clone())
            .ok_or(Trouble::Unreachable)
    }

    /// The provider's keys. `missing`: whether those that are known do not have the one needed.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`].
    pub(super) async fn keys(
        self: Arc<Self>,
        asking: Asking,
        place: String,
        missing: bool,
    ) -> Result<ProviderKeys, Trouble> {
        let mut state = self.0.lock().await;
        state.turn_to(&asking.provider);
        let read = state.keys.as_ref().map(|(at, _)| *at);
        let holds = if missing { REFRESH } else { HOLDS };
        if is_due(read, holds, state.failed.keys, asking.now) {
            match asking.keys(&place).await {
                Ok(keys) => state.keys = Some((asking.now, keys)),
                Err(trouble) => {
                    asking.tell(&trouble);
                    state.failed.keys = Some(asking.now);
                }
            }
        }
        let known = state.keys.as_ref();
        known
            .map(|(_, known)| known.clone())
            .ok_or(Trouble::Unreachable)
    }
}

/// Whether something is to be read: it is too old, or was never read, and did not just fail.
fn is_due(
    read: Option<Timestamp>,
    holds: SignedDuration,
    failed: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let since = |at: Timestamp| now.duration_since(at).abs();
    let wait = if read.is_some() { REFRESH } else { PAUSE };
    read.is_none_or(|at| since(at) >= holds) && failed.is_none_or(|at| since(at) >= wait)
}

impl Asking {
    async fn discovery(&self) -> Result<Discovery, String> {
        let issuer = self.provider.issuer.trim_end_matches('/');
        let place = format!("{issuer}/.well-known/openid-configuration");
        let body = self.get(&place).await?;
        let read: Discovery = serde_json::from_slice(&body)
            .map_err(|_| format!("{place} is no discovery document"))?;
        match read.is_of(&self.provider) {
            true => Ok(read),
            false => Err(format!(
                "{place} is of another issuer than auth.external.issuer, or names an address that \
                 is not https"
            )),
        }
    }

    async fn keys(&self, place: &str) -> Result<ProviderKeys, String> {
        let body = self.get(place).await?;
        ProviderKeys::parse(&body).ok_or_else(|| format!("{place} is no key set"))
    }

    async fn get(&self, place: &str) -> Result<Vec<u8>, String> {
        let request = Request::get(place).header(ACCEPT, "application/json");
        let request = request.body(Vec::new());
        let request = request.map_err(|_| format!("{place} is no address"))?;
        let authorities = self.provider.authorities.clone();
        let answer = self.outside.ask(request, authorities).await;
        let answer = answer.map_err(|error| format!("{place}: {error}"))?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(format!("{place} answers {status}")),
        }
    }

    fn tell(&self, trouble: &str) {
        let issuer = &self.provider.issuer;
        warn!(issuer, trouble, "the provider of logins cannot be asked");
    }
}

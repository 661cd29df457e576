//! A code becomes a subject.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, ExtraTokenFields, HttpRequest,
    HttpResponse, PkceCodeVerifier, RedirectUrl, RequestTokenError, StandardRevocableToken,
    StandardTokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
        BasicTokenIntrospectionResponse, BasicTokenType,
    },
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{asking, provider::Discovery};
use crate::{
    auth::{
        id_token::{self, BadIdToken, Expected, ProviderKeys},
        scheme::{Provider, Trouble},
    },
    http::{App, outside::Unreachable},
};

/// What comes beside the access token, which is not used.
#[derive(Debug, Serialize, Deserialize)]
struct IdToken {
    id_token: String,
}

impl ExtraTokenFields for IdToken {}

type Tokens = StandardTokenResponse<IdToken, BasicTokenType>;
type Failure = RequestTokenError<Unreachable, BasicErrorResponse>;
type OAuthClient = oauth2::Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

/// This server, as the provider knows it.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) app: App,
    pub(super) provider: Provider,
    pub(super) discovery: Discovery,
    pub(super) redirect: RedirectUrl,
}

impl Client {
    /// Whom a code is of.
    ///
    /// # Errors
    /// Why nobody.
    pub(super) async fn subject(
        self,
        code: String,
        verifier: String,
        nonce: String,
    ) -> Result<String, Trouble> {
        let token = self.clone().redeem(code, verifier).await?;
        match self.told_by(&token, &nonce, self.keys(false).await?) {
            // The provider may have changed its keys.
            Err(BadIdToken::UnknownKey) => {
                let keys = self.keys(true).await?;
                self.told_by(&token, &nonce, keys)
                    .map_err(|why| self.disbelieve(why))
            }
            told => told.map_err(|why| self.disbelieve(why)),
        }
    }

    fn keys(&self, missing: bool) -> BoxFuture<'static, Result<ProviderKeys, Trouble>> {
        let (asking, place) = (
            asking(&self.app, &self.provider),
            self.discovery.jwks_uri.clone(),
        );
        self.app.known().keys(asking, place, missing).boxed()
    }

    fn told_by(&self, token: &str, nonce: &str, keys: ProviderKeys) -> Result<String, BadIdToken> {
        let expected = Expected {
            issuer: &self.provider.issuer,
            client: &self.provider.client,
            nonce,
            now: self.app.now(),
        };
        id_token::verify(&keys, token, &expected)
    }

    fn disbelieve(&self, why: BadIdToken) -> Trouble {
        warn!(issuer = self.provider.issuer, %why, "an ID token is not believed");
        Trouble::NotBelieved
    }

    /// The ID token for a code.
    async fn redeem(self, code: String, verifier: String) -> Result<String, Trouble> {
        let place = TokenUrl::new(self.discovery.token_endpoint.clone());
        let place = place.map_err(|_| Trouble::Unreachable)?;
        let auth = match self.discovery.takes_secret_in_form() {
            true => AuthType::RequestBody,
            false => AuthType::BasicAuth,
        };
        let mut client = OAuthClient::new(ClientId::new(self.provider.client.clone()))
            .set_token_uri(place)
            .set_redirect_uri(self.redirect)
            .set_auth_type(auth);
        if self.provider.confidential {
            let secret = self.app.outside().client_secret().ok_or_else(|| {
                warn!("the client secret of auth.external is not there");
                Trouble::NotSetUp
            })?;
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().into()));
        }
        let outside = Arc::clone(self.app.outside());
        let authorities = self.provider.authorities.clone();
        let ask = move |request: HttpRequest| {
            let answer = outside.ask(request, authorities.clone());
            let whole = async move {
                let answer = answer.await?;
                let status = answer.status();
                match status.is_server_error() {
                    true => Err(Unreachable(format!("the token endpoint answers {status}"))),
                    false => Ok::<HttpResponse, Unreachable>(answer),
                }
            };
            whole.boxed()
        };
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier))
            .request_async(&ask)
            .boxed()
            .await;
        let tokens = answer.map_err(|failure| self::failed(&self.provider.issuer, &failure))?;
        Ok(tokens.extra_fields().id_token.clone())
    }
}

/// What went wrong. The log is told by closed words alone: a provider may repeat codes.
fn failed(issuer: &str, failure: &Failure) -> Trouble {
    let (why, trouble) = match failure {
        RequestTokenError::ServerResponse(error) => {
            let error = error.error();
            let trouble = match error {
                // Used already, over, or of another login.
                BasicErrorResponseType::InvalidGrant => Trouble::NotBegun,
                _ => Trouble::NotSetUp,
            };
            let word = match error {
                BasicErrorResponseType::Extension(_) => "another error",
                known => known.as_ref(),
            };
            (word.to_owned(), trouble)
        }
        RequestTokenError::Request(unreachable) => (unreachable.to_string(), Trouble::Unreachable),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => (
            "no token answer with an ID token".to_owned(),
            Trouble::NotSetUp,
        ),
    };
    warn!(issuer, why, "a code was not redeemed");
    trouble
}

/// What an error of the authorization endpoint is to us (RFC 6749, 4.1.2.1; Core 3.1.2.6).
pub(super) fn told(error: &str) -> Trouble {
    let ours = [
        "invalid_request",
        "unauthorized_client",
        "unsupported_response_type",
        "invalid_scope",
    ];
    match error {
        "server_error" | "temporarily_unavailable" => Trouble::Unreachable,
        error if ours.contains(&error) => {
            warn!(error, "the provider refuses our requests");
            Trouble::NotSetUp
        }
        _ => Trouble::Denied,
    }
}

//! Tokens that the ZenML server takes for its own (zenml-wire.md 4).

use axum::http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

use super::super::{App, Refusal};
use crate::auth::{
    token::Workload,
    upstream::{ISSUER, SECRET_OF_TOKENS},
};

/// How long one counts, in seconds: for the one request that it is made for.
const LIVES: i64 = 60;

#[derive(Serialize)]
struct Claims {
    sub: Uuid,
    iss: &'static str,
    aud: &'static str,
    iat: f64,
    exp: i64,
    #[serde(flatten)]
    workload: Workload,
}

impl App {
    /// The header of a request that is that person's, by the server's own id.
    ///
    /// # Errors
    /// If this server does not know its own secrets now.
    pub(super) fn upstream_token(
        &self,
        who: Uuid,
        workload: Workload,
    ) -> Result<HeaderValue, Refusal> {
        let now = self.now();
        let claims = Claims {
            sub: who,
            iss: ISSUER,
            aud: ISSUER,
            iat: now.as_duration().as_secs_f64(),
            exp: now.as_second().saturating_add(LIVES),
            workload,
        };
        let secret = self.view()?.keyring.pepper().of_upstream(SECRET_OF_TOKENS);
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key);
        let token = token.map_err(|_| Refusal::Unexpected)?;
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Refusal::Unexpected)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

//! What the front door asks of others. How it gets there is not its matter.

use std::{fmt, sync::Arc};

use axum::http::{Request, Response};
use futures::future::BoxFuture;
use secrecy::SecretString;
use thiserror::Error;

/// The way to an OIDC provider.
pub trait Outside: Send + Sync + 'static {
    /// Asks for something, and hears the whole answer: within seconds, of at most
    /// [`MAX_ANSWER`] bytes. A redirect is an answer, and not followed: it may lead anywhere.
    /// `authorities` are in PEM, and the only ones that are believed then.
    fn ask(
        &self,
        request: Request<Vec<u8>>,
        authorities: Option<Arc<str>>,
    ) -> BoxFuture<'static, Result<Response<Vec<u8>>, Unreachable>>;

    /// What this server proves itself with at the provider, if it is there.
    fn client_secret(&self) -> Option<SecretString>;
}

/// No answer is longer, in bytes.
pub const MAX_ANSWER: usize = 256 << 10;

/// There is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// No way: for a server that has no provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Outside for Nowhere {
    fn ask(
        &self,
        _: Request<Vec<u8>>,
        _: Option<Arc<str>>,
    ) -> BoxFuture<'static, Result<Response<Vec<u8>>, Unreachable>> {
        Box::pin(async { Err(Unreachable("there is no way out".into())) })
    }

    fn client_secret(&self) -> Option<SecretString> {
        None
    }
}

impl fmt::Debug for dyn Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

//! Who makes a request, and why one is refused.

use thiserror::Error;
use uuid::Uuid;

use super::api_key::Print;

/// Who makes a request, once it was checked against the state of this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account.
    pub account: Uuid,
    /// The key that it came with.
    pub key: Uuid,
    /// The generation of that key.
    pub generation: i64,
    /// What tells that generation from another of the same number, of a key that was made again.
    pub print: Print,
}

/// Why credentials are refused.
///
/// Who did not prove to hold a key learns one thing only: [`Refused::BadKey`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Malformed, unknown, replaced, of another server: which of them is not told.
    #[error("invalid API key")]
    BadKey,
    /// The right key, of which `active` is false or which expired.
    #[error("API key {key} is not active")]
    InactiveKey {
        /// The key's name.
        key: String,
    },
    /// The right key or token, of an account of which `active` is false.
    #[error("account {account} is not active")]
    InactiveAccount {
        /// The account's name.
        account: String,
    },
    /// A token that this server did not issue, or whose time is over.
    #[error("invalid access token")]
    BadToken,
    /// A token of this server, of a key or account that is gone or was replaced since.
    #[error("access token is no longer valid")]
    Revoked,
}

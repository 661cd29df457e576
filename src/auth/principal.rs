//! Who makes a request, and why one is refused.

use thiserror::Error;
use uuid::Uuid;

use super::{api_key::Print, user::Stamp};

/// Who makes a request, once it was checked against the state of this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The service account or user.
    pub account: Uuid,
    /// What it came with.
    pub by: By,
}

/// What somebody came with, so that it can be asked whether that still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A service account, with an API key.
    Key {
        /// The key.
        key: Uuid,
        /// The generation of that key.
        generation: i64,
        /// What tells that generation from another of the same number, of a key that was made
        /// again.
        print: Print,
    },
    /// A user, who logged in.
    Session {
        /// What the user was then.
        stamp: Stamp,
        /// The session, if it is one of another site's page: each of its requests proves that the
        /// page made it.
        session: Option<Uuid>,
    },
    /// A device that was authorized.
    Device {
        /// The device.
        device: Uuid,
        /// What the user was then; none for a service account.
        stamp: Option<Stamp>,
    },
    /// Nothing: the server asks nobody. It holds for one request, and no token is made of it.
    Open,
}

impl By {
    /// The session, if it is one of another site's page.
    pub const fn session(&self) -> Option<Uuid> {
        match self {
            Self::Key { .. } | Self::Device { .. } | Self::Open => None,
            Self::Session { session, .. } => *session,
        }
    }

    /// What the user was when it logged in, if it is one.
    pub const fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Key { .. } | Self::Open => None,
            Self::Session { stamp, .. } => Some(*stamp),
            Self::Device { stamp, .. } => *stamp,
        }
    }

    /// The API key, if it is one.
    pub const fn key(&self) -> Option<Uuid> {
        match self {
            Self::Key { key, .. } => Some(*key),
            Self::Session { .. } | Self::Device { .. } | Self::Open => None,
        }
    }

    /// The device, if it is one.
    pub const fn device(&self) -> Option<Uuid> {
        match self {
            Self::Device { device, .. } => Some(*device),
            Self::Key { .. } | Self::Session { .. } | Self::Open => None,
        }
    }
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
    /// The right password or token, of a user of whom `active` is false.
    #[error("user {user} is not active")]
    InactiveUser {
        /// The user's name.
        user: String,
    },
    /// The token of a device that is locked or over.
    #[error("device {device} is not active")]
    InactiveDevice {
        /// The device's id.
        device: Uuid,
    },
    /// Wrong name or wrong password: which of them is not told.
    #[error("invalid username or password")]
    BadPassword,
    /// Unknown, used or expired, or of another user: which of them is not told.
    #[error("invalid activation token")]
    BadActivation,
    /// A session of another site's page, without what proves that the page made the request.
    #[error("missing CSRF token")]
    NoCsrf,
    /// The same, with something else.
    #[error("Invalid CSRF token: signature mismatch")]
    BadCsrf,
    /// A token that this server did not issue, or whose time is over.
    #[error("invalid access token")]
    BadToken,
    /// A token of this server, of a key or account that is gone or was replaced since.
    #[error("access token is no longer valid")]
    Revoked,
}

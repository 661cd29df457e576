//! The shapes of refusals (zenml-wire 3).

use serde::Serialize;

/// `{"detail": "text"}`: what is wrong with a request as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Plain<'a> {
    /// What is wrong.
    pub detail: &'a str,
}

/// `["Class", "text"]`: an exception that the client raises again. Bare, it is a request that
/// cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exception<'a>(pub &'a str, pub &'a str);

/// `{"detail": ["Class", "text"]}`: an exception that the client raises again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Raised<'a> {
    /// The exception.
    pub detail: Exception<'a>,
}

/// What is left to say when the server itself failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unexpected<'a> {
    /// The same text always.
    pub detail: &'a str,
    /// What the log calls the request.
    pub request_id: &'a str,
}

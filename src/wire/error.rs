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

/// An error of RFC 6749 (5.2) and RFC 8628 (3.5). ZenML's client fails on any other member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OAuth<'a> {
    /// The error's name.
    pub error: &'static str,
    /// What is wrong, for people.
    pub error_description: &'a str,
    /// Never there.
    pub error_uri: Option<&'a str>,
}

/// What is left to say when the server itself failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unexpected<'a> {
    /// The same text always.
    pub detail: &'a str,
    /// What the log calls the request.
    pub request_id: &'a str,
}

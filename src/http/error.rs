//! What a client is told when it gets no answer: the closed set of refusals, and the one place
//! that gives each its status and its shape (zenml-wire 3).
//!
//! No text here repeats what a client sent, but for a name that a caller who is logged in asked
//! for. Nothing internal is ever shown.

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    auth::{
        credential::WeakPassword, limit::Exceeded, principal::Refused, scheme::Trouble, shelf::Uses,
    },
    store::{NotChanged, Unavailable, registrar::Declared, vault::NotRead},
    wire::{
        error::{Exception, Plain, Raised, Unexpected},
        login::Grant,
    },
};

use super::{basic, limiter::Limited, list, oauth::OAuthError};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It came without a credential.
    #[error("Not authenticated")]
    NotAuthenticated,
    /// The same, where a password may come with each request.
    #[error("Not authenticated")]
    NoPassword,
    /// Everybody is one user, who is not there.
    #[error(
        "This server asks nobody who they are: all are the user 'default'. There is no such \
         user, or it is not active: make a ZenUser of this name."
    )]
    NoDefaultUser,
    /// Devices are not authorized where nobody is asked.
    #[error("Device authorization is not supported.")]
    NoDevices,
    /// A login at a provider did not work.
    #[error(transparent)]
    External(#[from] Trouble),
    /// Passwords let nobody in here.
    #[error("On this server a provider says who people are. Declare a ZenUser with spec.external.")]
    NoPasswords,
    /// Its credential is not accepted.
    #[error("Authentication error: {0}")]
    Credentials(#[from] Refused),
    /// A token is asked for by who shows none.
    #[error("Not authenticated.")]
    NoToken,
    /// A token is asked for that another one is not good for.
    #[error(
        "Unable to scope API token to {kind} {named}. The token used to authorize this request is \
         already scoped to {kind} {by}."
    )]
    Scope {
        /// Of what.
        kind: &'static str,
        /// What was asked for.
        named: Uuid,
        /// What the token that was shown is for.
        by: Uuid,
    },
    /// Nothing can be decided now.
    #[error("{}", unavailable(*.0))]
    Unavailable(#[from] Unavailable),
    /// A page that is not ours wants to change something in a browser's session.
    #[error("This page may not do that here.")]
    ForeignPage,
    /// Its caller may not do that.
    #[error("Only admin users can perform `{0}` without RBAC enabled.")]
    AdminsOnly(&'static str),

    /// Nobody answers for another whether its mail address may be shared.
    #[error("Users can not opt in on behalf of another user.")]
    OnBehalf,

    /// No such service account.
    #[error("No service account with the '{0}' name or ID was found")]
    NoAccount(String),
    /// No such user.
    #[error("No user account with the '{0}' name or ID was found")]
    NoUser(String),
    /// No such key of an account.
    #[error(
        "An API key with ID or name '{key}' is not configured for service account with ID '{account}'."
    )]
    NoKey {
        /// The key's name or id.
        key: String,
        /// The account's id.
        account: Uuid,
    },
    /// No such device of the caller.
    #[error("Unable to get device with ID {0}: No device with this ID found.")]
    NoDevice(Uuid),
    /// No such secret, or none that the caller may see: which of both is not told.
    #[error("Unable to get secret with name or ID '{0}': No secret with this ID found.")]
    NoSecret(Uuid),
    /// Something refers to a secret that is to be deleted.
    #[error("{}", in_use(.secret, .uses))]
    InUse {
        /// Its name.
        secret: String,
        /// Who refers to it.
        uses: Uses,
    },
    /// A value of a secret that the wire has no way to show.
    #[error(
        "The value of key '{0}' is no text, and ZenML's API has no other values: read it from the \
         Kubernetes Secret."
    )]
    NotText(String),
    /// The values of a secret could not be read.
    #[error(
        "The values of this secret cannot be read: {why}. See ZenSecret {secret} in Kubernetes."
    )]
    NotRead {
        /// Name of its object.
        secret: String,
        /// Why.
        why: NotRead,
    },
    /// ZenML has it, but needs what there is none of.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// No such project.
    #[error("Unable to get project with name or ID '{0}': No project with this name or ID found.")]
    NoProject(String),
    /// No such stack.
    #[error("Unable to get stack with name or ID '{0}': No stack with this ID found.")]
    NoStack(Uuid),
    /// No such page.
    #[error(transparent)]
    NoPage(#[from] list::NoPage),

    /// Another has the name.
    #[error("{0}")]
    Exists(String),
    /// Not of that user, by that caller.
    #[error("{0}")]
    Illegal(&'static str),
    /// A password that may not be chosen.
    #[error("{0}.")]
    WeakPassword(#[from] WeakPassword),
    /// A password that comes from somewhere else.
    #[error("The password of user '{user}' comes from Secret {secret}: change it there.")]
    PasswordElsewhere {
        /// The user's name.
        user: String,
        /// The Secret's name.
        secret: String,
    },
    /// It is kept as it is by somebody else.
    #[error("{0}")]
    Declared(Declared),
    /// An account is declared, or a key of it, and so cannot be deleted.
    #[error("{0}")]
    Kept(Declared),
    /// The account may have no more keys.
    #[error(
        "Unable to create an API key for the '{account}' service account: it has {keys}, which is \
         all that the server's policy allows (policy.keys.maxPerAccount). Delete one first."
    )]
    TooManyKeys {
        /// The account's name.
        account: String,
        /// How many it has.
        keys: usize,
    },
    /// The caller may have no more devices.
    #[error(
        "You have {0} devices, which is all that the server's policy allows \
         (policy.devices.maxPerUser). Delete one first: zenml authorized-device delete."
    )]
    TooManyDevices(usize),
    /// A device cannot be decided on so.
    #[error("{0}")]
    Device(&'static str),
    /// What is asked for cannot be had.
    #[error("{0}")]
    Value(&'static str),
    /// The server's policy, or somebody, does not allow it.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// A device gets no token.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// What was made is not accepted yet, so it was taken back.
    #[error(
        "Nothing was changed: the operator did not take it up in time. Is it running? \
         See the ZenServer's and the operator's state, then try again."
    )]
    NotTakenUp,
    /// Kubernetes did not do it.
    #[error("{}", not_changed(.0))]
    NotChanged(NotChanged),

    /// Path, query or form cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// A filter cannot be read.
    #[error("{0}")]
    Filter(&'static str),
    /// A text is to be compared to something else than a number.
    #[error("Failed to compare: the value must be numeric.")]
    NotANumber,
    /// A login without what its grant needs.
    #[error("{0}")]
    Form(&'static str),
    /// There were too many failures.
    #[error(transparent)]
    TooMany(#[from] Exceeded),
    /// There were too many of all who have nothing to show.
    #[error("The server has too many requests of strangers. Try again in a moment.")]
    Crowded(Exceeded),
    /// A grant that is not served.
    #[error("Unsupported grant type: {0}.")]
    Grant(Grant),
    /// A grant that ZenML does not know.
    #[error("Unsupported grant type.")]
    UnknownGrant,

    /// No such route.
    #[error("Not Found")]
    NotFound,
    /// The path does not know this method, but those.
    #[error("Method Not Allowed")]
    Method(HeaderValue),
    /// A preflight: no other origin may call.
    #[error("Disallowed CORS origin")]
    Preflight,
    /// A file upload.
    #[error("File uploads are not allowed on this endpoint.")]
    Upload,
    /// The body is longer than the route takes.
    #[error("Request Entity Too Large")]
    TooLarge,
    /// The body did not come whole.
    #[error("There was an error parsing the body")]
    BrokenBody,
    /// The request did not come whole in time.
    #[error("Request Timeout")]
    Timeout,
    /// Too many wait for what only a few can do at a time.
    #[error("The server is busy. Try again in a moment.")]
    Busy,
    /// The ZenML server behind us is not there, or does not know who asks. The log knows more.
    #[error("The ZenML server does not answer. Try again in a moment.")]
    NoUpstream,
    /// Our fault; the log knows more.
    #[error("An unexpected error occurred.")]
    Unexpected,
}

impl Refusal {
    /// Whether the request was not at fault.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::Busy
            | Self::Crowded(_)
            | Self::NotTakenUp
            | Self::NoUpstream
            | Self::NotRead { .. }
            | Self::Unexpected => true,
            Self::NotChanged(why) => {
                matches!(why, NotChanged::Unreachable | NotChanged::Forbidden)
            }
            _ => false,
        }
    }
}

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        match limited {
            Limited::Own(over) => Self::TooMany(over),
            Limited::All(over) => Self::Crowded(over),
        }
    }
}

/// Marks an answer that gets an `X-Request-ID`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traced;

impl IntoResponse for Refusal {
    #[expect(
        clippy::too_many_lines,
        reason = "the whole table, one arm for each row"
    )]
    fn into_response(self) -> Response {
        let text = self.to_string();
        let raised = |status, class| raised(status, class, &text);
        let plain = |status| plain(status, &text);
        match self {
            Self::NotAuthenticated => (
                [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))],
                plain(StatusCode::UNAUTHORIZED),
            )
                .into_response(),
            Self::NoPassword => (
                [(WWW_AUTHENTICATE, basic::CHALLENGE)],
                plain(StatusCode::UNAUTHORIZED),
            )
                .into_response(),
            Self::Credentials(_) => raised(StatusCode::UNAUTHORIZED, "CredentialsNotValid"),
            // The client does not log in again after these: that would not help.
            Self::NoDefaultUser | Self::NoToken | Self::Scope { .. } | Self::OnBehalf => {
                raised(StatusCode::UNAUTHORIZED, "AuthorizationException")
            }
            Self::External(trouble) => troubled(&trouble, &text),
            Self::NoPasswords => raised(StatusCode::FORBIDDEN, "IllegalOperationError"),
            Self::NoDevices => plain(StatusCode::FORBIDDEN),
            Self::Unavailable(why) => later(
                retry_after(why),
                raised(StatusCode::SERVICE_UNAVAILABLE, "RuntimeError"),
            ),
            Self::Busy | Self::NoUpstream => later(
                HeaderValue::from_static("1"),
                raised(StatusCode::SERVICE_UNAVAILABLE, "RuntimeError"),
            ),
            Self::AdminsOnly(_)
            | Self::ForeignPage
            | Self::Illegal(_)
            | Self::PasswordElsewhere { .. }
            // As ZenML refuses to delete an account that owns something; its CLI shows that well.
            | Self::Kept(_)
            | Self::InUse { .. }
            | Self::TooManyDevices(_)
            | Self::NotAllowed(_) => raised(StatusCode::FORBIDDEN, "IllegalOperationError"),
            Self::NoAccount(_)
            | Self::NoUser(_)
            | Self::NoKey { .. }
            | Self::NoDevice(_)
            | Self::NoSecret(_)
            | Self::NoProject(_)
            | Self::NoStack(_) => missing(&text),
            Self::Exists(_) | Self::Declared(_) | Self::TooManyKeys { .. } => {
                raised(StatusCode::CONFLICT, "EntityExistsError")
            }
            // Not 503: the client would repeat it for minutes before it shows the text.
            Self::NotTakenUp => raised(StatusCode::INTERNAL_SERVER_ERROR, "EntityCreationError"),
            Self::NotChanged(NotChanged::Unreachable) => later(
                HeaderValue::from_static("2"),
                raised(StatusCode::SERVICE_UNAVAILABLE, "RuntimeError"),
            ),
            Self::NotRead { why: NotRead::Unreachable, .. } => later(
                HeaderValue::from_static("2"),
                raised(StatusCode::SERVICE_UNAVAILABLE, "RuntimeError"),
            ),
            // Not 503: the client would repeat it for minutes before it shows the text.
            Self::NotRead { .. } => raised(StatusCode::INTERNAL_SERVER_ERROR, "RuntimeError"),
            Self::NotImplemented(_) => raised(StatusCode::NOT_IMPLEMENTED, "NotImplementedError"),
            Self::NotChanged(NotChanged::Forbidden) => {
                raised(StatusCode::INTERNAL_SERVER_ERROR, "RuntimeError")
            }
            Self::NotChanged(_) => raised(StatusCode::FORBIDDEN, "IllegalOperationError"),
            Self::OAuth(error) => error.into_response(),
            Self::NoPage(_)
            | Self::NotANumber
            | Self::Device(_)
            | Self::Value(_)
            | Self::NotText(_) => {
                raised(StatusCode::BAD_REQUEST, "ValueError")
            }
            Self::Malformed(_) | Self::WeakPassword(_) => bare(&text),
            Self::Filter(_) => filter(&text),
            Self::Form(_) | Self::Grant(_) | Self::UnknownGrant | Self::BrokenBody => {
                plain(StatusCode::BAD_REQUEST)
            }
            Self::TooMany(over) => later(
                HeaderValue::from(over.retry_after),
                plain(StatusCode::TOO_MANY_REQUESTS),
            ),
            Self::Crowded(over) => later(
                HeaderValue::from(over.retry_after),
                raised(StatusCode::SERVICE_UNAVAILABLE, "RuntimeError"),
            ),
            Self::NotFound => plain(StatusCode::NOT_FOUND),
            Self::Method(allowed) => {
                ([(ALLOW, allowed)], plain(StatusCode::METHOD_NOT_ALLOWED)).into_response()
            }
            Self::Preflight => (StatusCode::BAD_REQUEST, text).into_response(),
            Self::Upload => plain(StatusCode::FORBIDDEN),
            Self::TooLarge => closing(StatusCode::PAYLOAD_TOO_LARGE.into_response()),
            Self::Timeout => closing(plain(StatusCode::REQUEST_TIMEOUT)),
            Self::Unexpected => raised(StatusCode::INTERNAL_SERVER_ERROR, "RuntimeError"),
        }
    }
}

/// The answer to a request that made us panic. No exception of ZenML, so of another shape.
pub(super) fn panicked(request_id: &str) -> Response {
    let body = Json(Unexpected {
        detail: "An unexpected error occurred.",
        request_id,
    });
    closing((StatusCode::INTERNAL_SERVER_ERROR, body).into_response())
}

/// A login at a provider is a browser's, and an answer to it no exception of ZenML.
fn troubled(trouble: &Trouble, text: &str) -> Response {
    let status = match trouble {
        Trouble::NoProvider => StatusCode::NOT_FOUND,
        Trouble::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        Trouble::NotSetUp | Trouble::NotBelieved => StatusCode::BAD_GATEWAY,
        Trouble::NotBegun => StatusCode::BAD_REQUEST,
        Trouble::Denied | Trouble::Unknown(_) => StatusCode::FORBIDDEN,
    };
    let mut response = plain(status, text);
    if *trouble == Trouble::Unreachable {
        let soon = HeaderValue::from_static("30");
        response.headers_mut().insert(RETRY_AFTER, soon);
    }
    response
}

fn plain(status: StatusCode, detail: &str) -> Response {
    (status, Json(Plain { detail })).into_response()
}

fn raised(status: StatusCode, class: &'static str, text: &str) -> Response {
    let detail = Exception(class, text);
    let mut response = (status, Json(Raised { detail })).into_response();
    response.extensions_mut().insert(Traced);
    response
}

/// A `KeyError` quotes its message once more.
fn missing(text: &str) -> Response {
    raised(StatusCode::NOT_FOUND, "KeyError", &format!("{text:?}"))
}

/// ZenML sends no `X-Request-ID` with either form of 422.
fn bare(text: &str) -> Response {
    let body = Json(Exception("ValueError", text));
    (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
}

fn filter(text: &str) -> Response {
    let detail = Exception("ValueError", text);
    (StatusCode::UNPROCESSABLE_ENTITY, Json(Raised { detail })).into_response()
}

/// When to come again, in seconds.
fn later(seconds: HeaderValue, mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}

/// What is left of the request is not read, so the connection ends with it.
fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Without what the state comes from, which is not the client's business.
fn unavailable(why: Unavailable) -> &'static str {
    match why {
        Unavailable::NotSynced => "The server is starting.",
        Unavailable::Stale => "The server cannot be sure of its state.",
    }
}

/// The log knows what Kubernetes said.
fn in_use(secret: &str, uses: &Uses) -> String {
    let first: Vec<&str> = uses.first.iter().take(3).map(String::as_str).collect();
    let others = match uses.count.saturating_sub(first.len()) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!(
        "The secret '{secret}' is in use by {}{others}: take the references to it out first.",
        first.join(", ")
    )
}

fn not_changed(why: &NotChanged) -> String {
    let text = match why {
        NotChanged::Refused(rule) => {
            return format!("A rule of the cluster does not allow this change: {rule}");
        }
        NotChanged::Unreachable => {
            "The Kubernetes API did not answer in time; it may have been done."
        }
        NotChanged::Forbidden => {
            "This server lacks the right to make this change in Kubernetes; the server's \
             log says which."
        }
        _ => "An unexpected error occurred.",
    };
    text.to_owned()
}

/// In seconds. A first list takes one; a lost connection is tried again within five.
fn retry_after(why: Unavailable) -> HeaderValue {
    HeaderValue::from_static(match why {
        Unavailable::NotSynced => "1",
        Unavailable::Stale => "5",
    })
}

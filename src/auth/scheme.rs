//! How a server asks people who they are.

use std::sync::Arc;

use thiserror::Error;

/// How people prove who they are. Service accounts prove it with API keys, whatever the scheme,
/// but for [`Scheme::NoAuth`], which asks nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// A password, once, for a token.
    #[default]
    PasswordBearer,
    /// The same, or name and password with every request (RFC 7617).
    Basic,
    /// An OIDC provider says who they are.
    External(Box<Provider>),
    /// Not at all: everybody is the user [`DEFAULT_USER`].
    NoAuth,
}

/// The name in ZenML of the user that everybody is where nobody is asked.
pub const DEFAULT_USER: &str = "default";

impl Scheme {
    /// What ZenML calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PasswordBearer => "OAUTH2_PASSWORD_BEARER",
            Self::Basic => "HTTP_BASIC",
            Self::External(_) => "EXTERNAL",
            Self::NoAuth => "NO_AUTH",
        }
    }

    /// The provider that says who people are, if there is one.
    pub fn provider(&self) -> Option<&Provider> {
        match self {
            Self::External(provider) => Some(provider),
            _ => None,
        }
    }

    /// Whether a password lets anybody in.
    pub fn takes_passwords(&self) -> bool {
        self.provider().is_none_or(|provider| provider.passwords)
    }
}

/// An OIDC provider, and what this server is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its address, which its tokens name.
    pub issuer: String,
    /// Our id there.
    pub client: String,
    /// Whether we prove to be that, by a secret.
    pub confidential: bool,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The only authorities that vouch for its address, in PEM. `None`: the public ones.
    pub authorities: Option<Arc<str>>,
    /// What people call it.
    pub name: Option<String>,
    /// Whether users who have a password may log in with that, too.
    pub passwords: bool,
}

/// Why a login at a provider did not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// There is no provider here.
    #[error("This server has no provider to log in at.")]
    NoProvider,
    /// It cannot be asked.
    #[error(
        "The provider that says who you are cannot be reached. Try again in a minute; who is \
         logged in stays so."
    )]
    Unreachable,
    /// We are not set up there, or not as it wants.
    #[error(
        "The provider does not accept this server. Whoever runs it should look at auth.external \
         of the ZenServer, and at the log of its pods."
    )]
    NotSetUp,
    /// Another login was begun since, or none in this browser, or too long ago.
    #[error(
        "This login was not begun in this browser, or it took too long, or you began another one \
         since. Begin again."
    )]
    NotBegun,
    /// The person did not agree, or the provider did not let it in.
    #[error("You were not let in there, or said no. Begin again to try once more.")]
    Denied,
    /// What it says is not of this login.
    #[error("What the provider said about you cannot be believed. Begin again.")]
    NotBelieved,
    /// It knows the person, and we do not.
    #[error(
        "You are known there and not here. Ask whoever runs this server to declare you: a ZenUser \
         with spec.external of the provider's issuer and the subject {0:?}."
    )]
    Unknown(String),
}

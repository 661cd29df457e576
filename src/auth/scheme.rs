//! How a server asks people who they are.

/// How people prove who they are. Service accounts prove it with API keys, whatever the scheme,
/// but for [`Scheme::NoAuth`], which asks nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// A password, once, for a token.
    #[default]
    PasswordBearer,
    /// The same, or name and password with every request (RFC 7617).
    Basic,
    /// Not at all: everybody is the user [`DEFAULT_USER`].
    NoAuth,
}

/// The name in ZenML of the user that everybody is where nobody is asked.
pub const DEFAULT_USER: &str = "default";

impl Scheme {
    /// What ZenML calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PasswordBearer => "OAUTH2_PASSWORD_BEARER",
            Self::Basic => "HTTP_BASIC",
            Self::NoAuth => "NO_AUTH",
        }
    }
}

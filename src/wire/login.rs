//! `POST /login`: RFC 6749's token endpoint in ZenML's form (zenml-wire 5).

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::Id;

/// The form that a client sends. An empty field counts as absent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct LoginForm {
    /// How it wants to log in; where it is missing, the other fields tell.
    #[serde(default, deserialize_with = "filled")]
    pub grant_type: Option<String>,
    /// Name or id of a user.
    #[serde(default, deserialize_with = "filled")]
    pub username: Option<String>,
    /// The password, or the API key.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
    /// The id that a device's client gave itself.
    #[serde(default, deserialize_with = "filled")]
    pub client_id: Option<String>,
    /// The code of a device.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub device_code: Option<SecretString>,
}

fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The ways to log in that ZenML knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// With an API key.
    ApiKey,
    /// With name and password.
    Password,
    /// With the code of an authorized device (RFC 8628).
    DeviceCode,
    /// With a token of the commercial edition.
    External,
}

impl Grant {
    const ALL: [Self; 4] = [
        Self::ApiKey,
        Self::Password,
        Self::DeviceCode,
        Self::External,
    ];

    /// The grant of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.name() == name)
    }

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "zenml-api-key",
            Self::Password => "password",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::External => "zenml-external",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer to a login. All members are always there.
#[derive(Serialize, JsonSchema)]
pub struct Token<'a> {
    /// The token.
    pub access_token: &'a str,
    /// `bearer`.
    pub token_type: &'a str,
    /// How long it lives, in seconds.
    pub expires_in: Option<i64>,
    /// Never there.
    pub refresh_token: Option<&'a str>,
    /// What a browser of another site must send along.
    pub csrf_token: Option<&'a str>,
    /// Never there.
    pub scope: Option<&'a str>,
    /// Never there.
    #[schemars(with = "Option<Id>")]
    pub device_id: Option<Uuid>,
    /// Never there.
    pub device_metadata: Option<&'a str>,
}

impl<'a> Token<'a> {
    /// A token that lives for so many seconds.
    pub const fn bearer(
        access_token: &'a str,
        expires_in: i64,
        csrf_token: Option<&'a str>,
    ) -> Self {
        Self {
            access_token,
            token_type: "bearer",
            expires_in: Some(expires_in),
            refresh_token: None,
            csrf_token,
            scope: None,
            device_id: None,
            device_metadata: None,
        }
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where to log in instead.
#[derive(Debug, Serialize)]
pub struct Elsewhere<'a> {
    /// A page to send a browser to.
    pub authorization_url: &'a str,
}

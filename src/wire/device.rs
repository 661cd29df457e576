//! Devices and how they are authorized (zenml-wire 6).

use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Id, Time, account::User};

/// The form of a device that asks to be authorized. Members that are not known are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["client_id"]))]
pub struct DeviceAuthorizationForm {
    /// The id that the client gave itself.
    #[serde(default)]
    #[schemars(with = "Id")]
    pub client_id: Option<String>,
    /// What it wants to be allowed.
    #[serde(default)]
    pub scope: Option<String>,
}

/// The answer to it (RFC 8628, 3.2).
#[derive(Clone, Serialize, JsonSchema)]
pub struct DeviceAuthorization<'a> {
    /// What the device polls with.
    pub device_code: &'a str,
    /// What the person decides on.
    pub user_code: &'a str,
    /// Where the person does so. A path, if it is on the server that was asked.
    pub verification_uri: &'a str,
    /// The same with the code, so that nobody needs to type it.
    pub verification_uri_complete: &'a str,
    /// How long both codes may be used, in seconds.
    pub expires_in: i64,
    /// How long the device must wait between two polls, in seconds.
    pub interval: i64,
}

impl fmt::Debug for DeviceAuthorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceAuthorization(..)")
    }
}

/// What a person decided on a device.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct DeviceVerification {
    /// The code that the person was shown.
    #[schemars(with = "String")]
    pub user_code: SecretString,
    /// Whether the device is to be trusted.
    #[serde(default)]
    pub trusted_device: bool,
}

/// What is to be changed of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct DeviceUpdate {
    /// Whether it is to be locked.
    #[serde(default)]
    pub locked: Option<bool>,
}

/// A device. It has no name, unlike any other [`Resource`](super::Resource).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Device<'a> {
    /// What every answer shows.
    pub body: DeviceBody<'a>,
    /// What only a hydrated answer shows.
    pub metadata: Option<DeviceMetadata<'a>>,
    /// Whose it is.
    pub resources: DeviceResources<'a>,
    /// Its id.
    #[schemars(with = "Id")]
    pub id: Uuid,
    /// Always false.
    pub permission_denied: bool,
}

/// Whose a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceResources<'a> {
    /// Who approved it; nobody yet, if it waits for that.
    pub user: Option<User<'a>>,
}

/// What every answer shows of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// Whose it is.
    #[schemars(with = "Option<Id>")]
    pub user_id: Option<Uuid>,
    /// The id that its client gave itself.
    #[schemars(with = "Id")]
    pub client_id: Uuid,
    /// When it is over.
    pub expires: Option<Time>,
    /// Whether it lives longer.
    pub trusted_device: bool,
    /// `pending`, `verified`, `active` or `locked`.
    pub status: &'a str,
    /// Its operating system.
    pub os: Option<&'a str>,
    /// The address that it asked from.
    pub ip_address: Option<&'a str>,
    /// The name of its machine.
    pub hostname: Option<&'a str>,
}

/// What a hydrated answer shows of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceMetadata<'a> {
    /// Its release of Python.
    pub python_version: Option<&'a str>,
    /// Its release of ZenML.
    pub zenml_version: Option<&'a str>,
    /// Never known: nobody is asked.
    pub city: &'a str,
    /// Never known.
    pub region: &'a str,
    /// Never known.
    pub country: &'a str,
    /// Always 0: codes are not guessed.
    pub failed_auth_attempts: u32,
    /// When it was last used.
    pub last_login: Option<Time>,
}

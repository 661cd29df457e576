//! What clients send to make and change accounts, keys and users (zenml-wire 8, 12). Members that are not
//! known are ignored, as ZenML does.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

/// A line that is not blank, without control characters.
const NAME: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$";
/// A line.
const LINE: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";
/// Lines.
const TEXT: &str = r"^[^\x00-\x08\x0B-\x1F\x7F-\x9F]*$";

/// `POST /service_accounts`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NewServiceAccount {
    /// Its name.
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = TEXT))]
    pub description: Option<String>,
    /// Whether it may log in.
    pub active: bool,
    /// A name for people.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub full_name: Option<String>,
    /// A picture.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub avatar_url: Option<String>,
}

/// `PUT /service_accounts/{account}`. `null` stays.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ServiceAccountUpdate {
    /// A new name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = TEXT))]
    pub description: Option<String>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
    /// A name for people.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub full_name: Option<String>,
    /// A picture.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub avatar_url: Option<String>,
}

/// `POST …/api_keys`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NewApiKey {
    /// Its name.
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = TEXT))]
    pub description: Option<String>,
}

/// `PUT …/api_keys/{key}`. `null` stays.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ApiKeyUpdate {
    /// A new name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = TEXT))]
    pub description: Option<String>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
}

/// An integer, which JSON may write as `60.0` too.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    // No other is whole, or needed.
    let whole = number.fract() == 0.0 && number.abs() < f64::from(i32::MAX);
    whole
        .then_some(number as i64)
        .ok_or_else(|| de::Error::custom("not a whole number"))
}

/// `PUT …/api_keys/{key}/rotate`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RotateApiKey {
    /// How long the old key is still accepted.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 0, max = 525_600))]
    pub retain_period_minutes: i64,
}

/// `POST /users`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NewUser {
    /// Its name.
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: String,
    /// A name for people.
    #[serde(default)]
    #[schemars(length(max = 254), regex(pattern = LINE))]
    pub full_name: Option<String>,
    /// Its mail address.
    #[serde(default)]
    #[schemars(length(max = 254), regex(pattern = LINE))]
    pub email: Option<String>,
    /// Whether it agreed to share that, which needs one.
    #[serde(default)]
    pub email_opted_in: Option<bool>,
    /// Whether it may administer.
    pub is_admin: bool,
    /// The password; without one the answer has a token to choose one with.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
}

/// `PUT /users/{user}`, `PUT /current-user`, `PUT /users/{user}/activate`,
/// `PUT /users/{user}/email-opt-in`. `null` stays.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct UserUpdate {
    /// A new name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255), regex(pattern = NAME))]
    pub name: Option<String>,
    /// A name for people.
    #[serde(default)]
    #[schemars(length(max = 254), regex(pattern = LINE))]
    pub full_name: Option<String>,
    /// The mail address.
    #[serde(default)]
    #[schemars(length(max = 254), regex(pattern = LINE))]
    pub email: Option<String>,
    /// Whether it agrees to share that, which needs one.
    #[serde(default)]
    pub email_opted_in: Option<bool>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
    /// Whether it may administer.
    #[serde(default)]
    pub is_admin: Option<bool>,
    /// A new password.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
    /// The password until now.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub old_password: Option<SecretString>,
    /// What lets the user choose a password.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub activation_token: Option<SecretString>,
}

//! What clients send to make and change accounts, keys and users (zenml-wire 8, 12). Members that are not
//! known are ignored, as ZenML does.

use secrecy::SecretString;
use serde::Deserialize;

/// `POST /service_accounts`.
#[derive(Debug, Deserialize)]
pub struct NewServiceAccount {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it may log in.
    pub active: bool,
    /// A name for people.
    #[serde(default)]
    pub full_name: Option<String>,
    /// A picture.
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// `PUT /service_accounts/{account}`. `null` stays.
#[derive(Debug, Deserialize)]
pub struct ServiceAccountUpdate {
    /// A new name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
    /// A name for people.
    #[serde(default)]
    pub full_name: Option<String>,
    /// A picture.
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// `POST …/api_keys`.
#[derive(Debug, Deserialize)]
pub struct NewApiKey {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
}

/// `PUT …/api_keys/{key}`. `null` stays.
#[derive(Debug, Deserialize)]
pub struct ApiKeyUpdate {
    /// A new name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
}

/// `PUT …/api_keys/{key}/rotate`.
#[derive(Debug, Deserialize)]
pub struct RotateApiKey {
    /// How long the old key is still accepted.
    #[serde(default)]
    pub retain_period_minutes: i64,
}

/// `POST /users`.
#[derive(Debug, Deserialize)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// A name for people.
    #[serde(default)]
    pub full_name: Option<String>,
    /// Its mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether it may administer.
    pub is_admin: bool,
    /// The password; without one the answer has a token to choose one with.
    #[serde(default)]
    pub password: Option<SecretString>,
}

/// `PUT /users/{user}`, `PUT /current-user`, `PUT /users/{user}/activate`. `null` stays.
#[derive(Debug, Deserialize)]
pub struct UserUpdate {
    /// A new name.
    #[serde(default)]
    pub name: Option<String>,
    /// A name for people.
    #[serde(default)]
    pub full_name: Option<String>,
    /// The mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether it may log in.
    #[serde(default)]
    pub active: Option<bool>,
    /// Whether it may administer.
    #[serde(default)]
    pub is_admin: Option<bool>,
    /// A new password.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// The password until now.
    #[serde(default)]
    pub old_password: Option<SecretString>,
    /// What lets the user choose a password.
    #[serde(default)]
    pub activation_token: Option<SecretString>,
}

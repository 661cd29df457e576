//! What clients send to make and change accounts and keys (zenml-wire 8). Members that are not
//! known are ignored, as ZenML does.

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

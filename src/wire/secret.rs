//! Secrets (zenml-wire 9).

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{Id, Resource, Time, account::User};

/// A secret.
pub type Secret<'a> = Resource<'a, SecretBody<'a>, SecretMetadata, SecretResources<'a>>;

/// What every answer shows of a secret.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// Whose it is.
    #[schemars(with = "Option<Id>")]
    pub user_id: Option<Uuid>,
    /// Whether its owner alone may see it.
    pub private: bool,
    /// The values by key; none of them in a list.
    pub values: BTreeMap<&'a str, &'a str>,
}

// Values are never shown in a log.
impl fmt::Debug for SecretBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBody(..)")
    }
}

/// What a hydrated answer shows of a secret: nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretMetadata {}

/// Whose a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretResources<'a> {
    /// The one who made it; nobody, if it is declared without an owner, or that is gone.
    pub user: Option<User<'a>>,
}

/// What clients before 0.64 call public and private. Now it is a member that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Public.
    Workspace,
    /// Private.
    User,
    /// Anything else says nothing.
    Other,
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = serde_json::Value::deserialize(deserializer)?;
        Ok(match said.as_str() {
            Some("workspace") => Self::Workspace,
            Some("user") => Self::User,
            _ => Self::Other,
        })
    }
}

/// What a key may be called.
const KEY: &str = r"^[-._a-zA-Z0-9]{1,253}$";

/// New values by key; `null` for one that is to go.
pub type Values = BTreeMap<String, Option<SecretString>>;

/// `POST /secrets`. Its owner is the caller, whatever it says.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NewSecret {
    /// Its name.
    #[schemars(length(max = 255))]
    pub name: String,
    /// Whether its owner alone may see it.
    #[serde(default)]
    pub private: Option<bool>,
    /// What earlier clients send in place of `private`.
    #[serde(default)]
    #[schemars(skip)]
    pub scope: Option<Scope>,
    /// The values by key; a key with `null` is left out. Together at most 64 KiB.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, Option<String>>>")]
    #[schemars(extend("propertyNames" = {"pattern": KEY}, "maxProperties" = 64))]
    pub values: Option<Values>,
}

/// `PUT /secrets/{secret}`. `null` stays.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SecretUpdate {
    /// A new name.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub name: Option<String>,
    /// Whether its owner alone may see it. Its owner's to say.
    #[serde(default)]
    pub private: Option<bool>,
    /// What earlier clients send in place of `private`.
    #[serde(default)]
    #[schemars(skip)]
    pub scope: Option<Scope>,
    /// The values by key, which replace all that there are; or with `?patch_values=true` those of
    /// the same key, and a key with `null` goes. Together at most 64 KiB.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, Option<String>>>")]
    #[schemars(extend("propertyNames" = {"pattern": KEY}, "maxProperties" = 64))]
    pub values: Option<Values>,
}

//! Accounts and API keys (zenml-wire 8, 12).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Id, Resource, Time};

/// A service account.
pub type ServiceAccount<'a> = Resource<'a, ServiceAccountBody<'a>, ServiceAccountMetadata<'a>>;

/// What every answer shows of a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceAccountBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// A name for people.
    pub full_name: &'a str,
    /// Whether it may log in.
    pub active: bool,
    /// A picture.
    pub avatar_url: Option<&'a str>,
}

/// What a hydrated answer shows of a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceAccountMetadata<'a> {
    /// What it is for.
    pub description: &'a str,
    /// Its id at an identity provider.
    #[schemars(with = "Option<Id>")]
    pub external_user_id: Option<Uuid>,
}

/// An API key.
pub type ApiKey<'a> = Resource<'a, ApiKeyBody<'a>, ApiKeyMetadata<'a>>;

/// What every answer shows of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKeyBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// The key itself: only in the answer to its making.
    pub key: Option<&'a str>,
    /// Whether it may log in.
    pub active: bool,
    /// Whose it is.
    pub service_account: ServiceAccount<'a>,
}

/// What a hydrated answer shows of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKeyMetadata<'a> {
    /// What it is for.
    pub description: &'a str,
    /// How long a replaced key stays valid.
    pub retain_period_minutes: i64,
    /// When it was last used.
    pub last_login: Option<Time>,
    /// When it was last replaced.
    pub last_rotated: Option<Time>,
}

/// Who makes a request: a user, or a service account in a user's shape.
pub type User<'a> = Resource<'a, UserBody<'a>, UserMetadata<'a>>;

/// What every answer shows of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// Whether it may log in.
    pub active: bool,
    /// What activates it: only in the answer to its making.
    pub activation_token: Option<&'a str>,
    /// A name for people.
    pub full_name: &'a str,
    /// Whether it agreed to share its mail address; unknown for a user who was not asked.
    pub email_opted_in: Option<bool>,
    /// Whether it is a service account.
    pub is_service_account: bool,
    /// Whether it may administer.
    pub is_admin: bool,
    /// The project to begin with.
    #[schemars(with = "Option<Id>")]
    pub default_project_id: Option<Uuid>,
    /// A picture.
    pub avatar_url: Option<&'a str>,
}

/// What a hydrated answer shows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserMetadata<'a> {
    /// When the password was last changed.
    pub password_changed_at: Option<Time>,
    /// The mail address.
    pub email: Option<&'a str>,
    /// Its id at an identity provider.
    #[schemars(with = "Option<Id>")]
    pub external_user_id: Option<Uuid>,
    /// What clients keep about it.
    pub user_metadata: Map<String, Value>,
    /// What an identity provider said.
    pub oidc_claims: Map<String, Value>,
}

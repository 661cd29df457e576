//! What a server says about itself (zenml-wire 12).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Id, Time};

/// The answer of `GET /settings`, which has neither id nor name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServerSettings<'a> {
    /// All that there is.
    pub body: SettingsBody<'a>,
    /// Empty.
    pub metadata: Map<String, Value>,
    /// Empty.
    pub resources: Map<String, Value>,
}

/// What may be set of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingsBody<'a> {
    /// The server's id.
    #[schemars(with = "Id")]
    pub server_id: Uuid,
    /// Its name.
    pub server_name: &'a str,
    /// A picture for the dashboard.
    pub logo_url: Option<&'a str>,
    /// Whether it has its first administrator.
    pub active: bool,
    /// Whether it reports to ZenML's makers.
    pub enable_analytics: bool,
    /// Whether the dashboard tells news of ZenML.
    pub display_announcements: Option<bool>,
    /// Whether the dashboard tells of new releases.
    pub display_updates: Option<bool>,
    /// When somebody last used it.
    pub last_user_activity: Time,
    /// When it last changed.
    pub updated: Time,
}

/// The answer of `GET /statistics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Statistics {
    /// How many stacks there are.
    pub stacks: u32,
    /// How many stack components.
    pub components: u32,
    /// How many projects.
    pub projects: u32,
}

/// The answer of `GET /load-info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Load {
    /// How many threads answer requests.
    pub threads: usize,
    /// How many connections there are to a database.
    pub db_connections_total: u32,
    /// How many of them are used now.
    pub db_connections_active: u32,
    /// How many are there beyond what is meant to be.
    pub db_connections_overflow: u32,
}

/// The release of ZenML whose contract this is.
pub const VERSION: &str = "0.98.0";

/// The answer of `GET /info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Info<'a> {
    /// The server's id: issuer and audience of its tokens.
    #[schemars(with = "Id")]
    pub id: Uuid,
    /// Its name.
    pub name: &'a str,
    /// [`VERSION`]; a client of another release logs a warning.
    pub version: &'a str,
    /// Whether it has its first administrator.
    pub active: bool,
    /// Whether it runs for its developers.
    pub debug: bool,
    /// `cloud` would make the client take it for the commercial edition.
    pub deployment_type: &'a str,
    /// What its data is in.
    pub database_type: &'a str,
    /// What its secrets are in.
    pub secrets_store_type: &'a str,
    /// How clients log in.
    pub auth_scheme: &'a str,
    /// Where clients reach it.
    pub server_url: &'a str,
    /// Where people reach it, if elsewhere.
    pub dashboard_url: &'a str,
    /// Whether it reports to ZenML's makers.
    pub analytics_enabled: bool,
    /// What its owner says about it.
    pub metadata: Map<String, Value>,
    /// When a person last used it.
    pub last_user_activity: Option<Time>,
    /// Of the commercial edition.
    pub pro_dashboard_url: Option<&'a str>,
    /// Of the commercial edition.
    pub pro_api_url: Option<&'a str>,
    /// Of the commercial edition.
    #[schemars(with = "Option<Id>")]
    pub pro_organization_id: Option<Uuid>,
    /// Of the commercial edition.
    pub pro_organization_name: Option<&'a str>,
    /// Of the commercial edition.
    #[schemars(with = "Option<Id>")]
    pub pro_workspace_id: Option<Uuid>,
    /// Of the commercial edition.
    pub pro_workspace_name: Option<&'a str>,
}

//! What the server says about itself.

use axum::{extract::State, response::Response};
use tokio::runtime::Handle;

use super::json;
use crate::{
    http::{App, Refusal},
    store::Unavailable,
    wire::{
        Time,
        server::{Info, Load, ServerSettings, SettingsBody, Statistics, VERSION},
    },
};

/// `GET /info`: however old the view is, so that a client can tell a stale server from none.
pub(in crate::http) async fn info(State(app): State<App>) -> Result<Response, Refusal> {
    let settings = app.settings().ok_or(Unavailable::NotSynced)?;
    json(&Info {
        id: settings.id,
        name: &settings.name,
        version: VERSION,
        active: true,
        debug: false,
        deployment_type: "kubernetes",
        database_type: "other",
        secrets_store_type: "none",
        auth_scheme: settings.scheme.name(),
        server_url: &settings.url,
        dashboard_url: "",
        analytics_enabled: false,
        metadata: serde_json::Map::new(),
        last_user_activity: None,
        pro_dashboard_url: None,
        pro_api_url: None,
        pro_organization_id: None,
        pro_organization_name: None,
        pro_workspace_id: None,
        pro_workspace_name: None,
    })
}

/// `GET /version`.
pub(in crate::http) async fn version() -> Result<Response, Refusal> {
    json(&VERSION)
}

/// `GET /settings`, for the dashboard.
pub(in crate::http) async fn settings(State(app): State<App>) -> Result<Response, Refusal> {
    let view = app.view()?;
    let settings = &view.settings;
    json(&ServerSettings {
        body: SettingsBody {
            server_id: settings.id,
            server_name: &settings.name,
            logo_url: None,
            active: true,
            enable_analytics: false,
            display_announcements: Some(false),
            display_updates: Some(false),
            // Whoever asks was let in just now.
            last_user_activity: Time(app.now()),
            updated: Time(settings.created),
        },
        metadata: serde_json::Map::new(),
        resources: serde_json::Map::new(),
    })
}

/// `PUT /settings`: whoever could change them here could not be overruled from Git.
pub(in crate::http) async fn change_settings() -> Result<Response, Refusal> {
    Err(Refusal::Illegal(
        "The settings of this server are those of its ZenServer: change that.",
    ))
}

/// `GET /onboarding_state`: what the dashboard need not teach any more.
pub(in crate::http) async fn onboarding_state() -> Result<Response, Refusal> {
    json(&["project_created"])
}

/// `GET /statistics`, of the constants that stand in until there is a ZenML server behind us.
pub(in crate::http) async fn statistics() -> Result<Response, Refusal> {
    json(&Statistics {
        stacks: 1,
        components: 0,
        projects: 1,
    })
}

/// `GET /load-info`: the threads that answer requests. There is no database to be connected to.
pub(in crate::http) async fn load() -> Result<Response, Refusal> {
    json(&Load {
        threads: Handle::current().metrics().num_workers(),
        db_connections_total: 0,
        db_connections_active: 0,
        db_connections_overflow: 0,
    })
}

/// `GET /openapi.json`.
pub(in crate::http) async fn openapi(State(app): State<App>) -> Response {
    app.document().answer()
}

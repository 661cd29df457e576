//! What the server says about itself to everybody.

use axum::{extract::State, response::Response};

use super::json;
use crate::{
    http::{App, Refusal},
    store::Unavailable,
    wire::server::{Info, VERSION},
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
        auth_scheme: "OAUTH2_PASSWORD_BEARER",
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

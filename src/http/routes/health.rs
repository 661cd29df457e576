//! Probes. They answer every method, and nothing but the word.

use axum::{extract::State, http::StatusCode};

use crate::http::{App, Refusal};

/// Whether the process turns.
pub(in crate::http) async fn health() -> &'static str {
    "ok"
}

/// Whether requests can be decided now.
pub(in crate::http) async fn ready(State(app): State<App>) -> (StatusCode, String) {
    match app.view() {
        Ok(_) => (StatusCode::OK, "ok".into()),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Refusal::from(why).to_string(),
        ),
    }
}

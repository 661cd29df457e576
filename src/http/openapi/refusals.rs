//! What routes may be refused with, and the shapes of it (zenml-wire 3).

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    super::{Access, Route},
    in_path,
    operations::{Body, Operation, Query},
};

/// The refusals of a route by status. Everything may be late, too long, or our own fault.
pub(super) fn of(route: &Route, operation: &Operation) -> Map<String, Value> {
    let mut statuses = BTreeSet::from([408, 413, 500, 503]);
    statuses.extend(operation.refused);
    if route.access != Access::Anyone {
        statuses.extend([401, 429]);
    }
    let changes = route.method != Method::GET && route.access != Access::Anyone;
    if changes || matches!(route.access, Access::Admin(_)) {
        // Not its caller's to do, or asked by another site's page; a key of a repeated request.
        statuses.extend([403, 422]);
    }
    // Uploads are refused whatever the route.
    if route.method == Method::POST {
        statuses.insert(403);
    }
    if in_path(route).next().is_some() {
        statuses.extend([404, 422]);
    }
    if !matches!(operation.query, Query::None) || !matches!(operation.body, Body::None) {
        statuses.extend([400, 422]);
    }
    let shown = |status: u16| (status.to_string(), shown(status));
    statuses.into_iter().map(shown).collect()
}

fn shown(status: u16) -> Value {
    let text = StatusCode::from_u16(status).ok();
    let text = text.and_then(|status| status.canonical_reason());
    let mut shown = Map::from_iter([("description".to_owned(), text.unwrap_or_default().into())]);
    let shapes: &[&str] = match status {
        400 => &["Plain", "Raised", "OAuth"],
        401 | 403 => &["Plain", "Raised"],
        404 | 409 | 501 | 503 => &["Raised"],
        408 | 429 => &["Plain"],
        422 => &["Raised", "Exception"],
        500 => &["Raised", "Unexpected"],
        // Without a body.
        _ => return shown.into(),
    };
    let shape = |name: &&str| json!({"$ref": format!("#/components/schemas/Refusal{name}")});
    let shapes: Vec<_> = shapes.iter().map(shape).collect();
    let content = json!({"application/json": {"schema": {"anyOf": shapes}}});
    shown.insert("content".into(), content);
    if status == 429 || status == 503 {
        let after = json!({"Retry-After": {
            "required": true, "description": "In seconds.",
            "schema": {"type": "integer", "minimum": 1},
        }});
        shown.insert("headers".into(), after);
    }
    shown.into()
}

/// What the wire's errors look like. Written out: as types they borrow all, and tell less.
pub(super) fn schemas() -> Map<String, Value> {
    let text = json!({"type": "string"});
    let exception = json!({
        "description": "The class of an exception that ZenML's client raises again, and its text.",
        "type": "array", "prefixItems": [&text, &text], "minItems": 2, "maxItems": 2,
    });
    let object = |properties: Value| {
        let names = properties.as_object().map(Map::keys);
        let required: Vec<_> = names.into_iter().flatten().collect();
        json!({
            "type": "object", "required": required, "properties": properties,
            "additionalProperties": false,
        })
    };
    let schemas = [
        ("RefusalPlain", object(json!({"detail": &text}))),
        ("RefusalRaised", object(json!({"detail": &exception}))),
        ("RefusalException", exception.clone()),
        (
            "RefusalOAuth",
            object(json!({
                "error": &text, "error_description": &text,
                "error_uri": {"type": ["string", "null"]},
            })),
        ),
        (
            "RefusalUnexpected",
            object(json!({"detail": &text, "request_id": &text})),
        ),
    ];
    let named = |(name, schema): (&str, Value)| (name.to_owned(), schema);
    schemas.into_iter().map(named).collect()
}

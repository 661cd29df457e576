//! `GET /openapi.json`: what can be asked, made of the one table of routes, of what `operations`
//! says of each, and of the types of the wire. OpenAPI 3.1, so schemas are JSON Schema 2020-12.
//!
//! What a route may be refused with follows from what it takes: whoever adds a path parameter adds
//! the 404 with it.

mod operations;
mod refusals;

use axum::{
    body::Bytes,
    http::{Method, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Access, Route,
    list::{Filter, Holds},
    router::routes,
};
use operations::{Body, Operation, Query};

/// Where the document is.
pub(super) const PATH: &str = "/openapi.json";

const TITLE: &str = "zenop: identities of a ZenML server";
const SECURITY: &str = "bearer";
const REPEATED: &str = "With the same UUID in the header `Idempotency-Key` it may be repeated: it is \
                        answered as the first time.";

/// The answer, made once.
#[derive(Clone, Debug)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn new() -> Self {
        Self(document().to_string().into())
    }

    pub(super) fn answer(&self) -> Response {
        ([(CONTENT_TYPE, "application/json")], self.0.clone()).into_response()
    }
}

/// Whether a route is for programs. The rest are pages, for people.
fn is_interface(route: &Route) -> bool {
    route.path == PATH || route.path.starts_with("/api/")
}

/// The document of every route for programs that has a description. A test sees to it that all
/// have.
fn document() -> Value {
    let (mut asked, mut told) = (
        generator(SchemaSettings::for_deserialize),
        generator(SchemaSettings::for_serialize),
    );
    let mut paths = Map::new();
    for route in routes().into_iter().filter(is_interface) {
        let Some(operation) = operations::of(&route.method, route.path) else {
            continue;
        };
        let method = route.method.as_str().to_ascii_lowercase();
        let shown = shown(&route, &operation, &mut asked, &mut told);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(method, shown);
        }
    }
    let mut schemas = asked.take_definitions(true);
    schemas.extend(told.take_definitions(true));
    schemas.extend(refusals::schemas());
    json!({
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {
            SECURITY: {
                "type": "http", "scheme": "bearer",
                "description": "A token of `POST /api/v1/login`, or an API key itself.",
            },
        }},
    })
}

fn generator(contract: impl FnOnce(SchemaSettings) -> SchemaSettings) -> SchemaGenerator {
    let mut settings = contract(SchemaSettings::draft2020_12());
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.into_generator()
}

fn shown(
    route: &Route,
    operation: &Operation,
    asked: &mut SchemaGenerator,
    told: &mut SchemaGenerator,
) -> Value {
    let answer = match operation.answer {
        Some(schema) => {
            let schema = schema(told);
            json!({"description": "Done.", "content": {"application/json": {"schema": schema}}})
        }
        None => json!({"description": "Done."}),
    };
    let mut responses = refusals::of(route, operation);
    responses.insert("200".into(), answer);
    let mut shown = Map::from_iter([
        ("operationId".to_owned(), id(route).into()),
        ("summary".into(), operation.summary.into()),
        ("parameters".into(), parameters(route, operation).into()),
        ("responses".into(), responses.into()),
    ]);
    let body = match operation.body {
        Body::None => None,
        Body::Json(schema) => Some(("application/json", schema(asked))),
        Body::Form(schema) => Some(("application/x-www-form-urlencoded", schema(asked))),
    };
    if let Some((kind, schema)) = body {
        let body = json!({"required": true, "content": {kind: {"schema": schema}}});
        shown.insert("requestBody".into(), body);
    }
    if route.access != Access::Anyone {
        shown.insert("security".into(), json!([{SECURITY: []}]));
    }
    if route.access != Access::Anyone && route.method != Method::GET {
        // No parameter: that the same one goes with the same body only, no schema can say.
        shown.insert("description".into(), REPEATED.into());
    }
    shown.into()
}

/// `get_service_accounts_account_api_keys`.
fn id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1");
    let words = path.split(['/', '{', '}', '.']).filter(|w| !w.is_empty());
    let words: Vec<_> = words.collect();
    format!(
        "{}_{}",
        route.method.as_str().to_ascii_lowercase(),
        words.join("_")
    )
}

fn parameters(route: &Route, operation: &Operation) -> Vec<Value> {
    let of_path = in_path(route).map(|name| path_parameter(route, name));
    let mut parameters: Vec<_> = of_path.collect();
    parameters.extend(match operation.query {
        Query::None => Vec::new(),
        Query::Hydrate => vec![hydrate(true)],
        Query::Waiting => vec![
            hydrate(true),
            query("user_code", &json!({"type": "string"})),
        ],
        Query::Token => token(),
        Query::Patch => vec![query("patch_values", &operand(Holds::Flag))],
        Query::List(filters) => list(&filters()),
    });
    parameters
}

/// The parameters of a path.
fn in_path(route: &Route) -> impl Iterator<Item = &'static str> {
    route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// What has no name is known by its id alone, and so is what owns something else in the path.
fn path_parameter(route: &Route, name: &str) -> Value {
    let owns = route.path.contains(&format!("{{{name}}}/api_keys"));
    let schema = match name {
        _ if owns => json!({"type": "string", "format": "uuid"}),
        "device" | "stack" | "secret" => json!({"type": "string", "format": "uuid"}),
        _ => json!({"type": "string", "minLength": 1}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn query(name: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "schema": schema})
}

fn hydrate(default: bool) -> Value {
    query("hydrate", &json!({"type": "boolean", "default": default}))
}

fn token() -> Vec<Value> {
    let kind = json!({"type": "string", "enum": ["generic", "workload"], "default": "generic"});
    let seconds = json!({"type": "integer", "minimum": 0, "maximum": 604_800, "default": 3600});
    let mut parameters = vec![query("token_type", &kind), query("expires_in", &seconds)];
    let workloads = ["schedule_id", "pipeline_run_id", "deployment_id"];
    let id = json!({"type": "string", "format": "uuid"});
    parameters.extend(workloads.map(|name| query(name, &id)));
    parameters
}

fn list(filters: &[Filter]) -> Vec<Value> {
    let names: Vec<_> = filters.iter().map(|filter| filter.name).collect();
    let by = format!("^([^:]*:)?({})$", names.join("|"));
    let operator = json!({"type": "string", "enum": ["and", "or"], "default": "and"});
    let mut parameters = vec![
        query(
            "page",
            &json!({"type": "integer", "minimum": 1, "default": 1}),
        ),
        query(
            "size",
            &json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 20}),
        ),
        query(
            "sort_by",
            &json!({"type": "string", "pattern": by, "default": "created"}),
        ),
        query("logical_operator", &operator),
        hydrate(false),
    ];
    let of = |filter: &Filter| query(filter.name, &operand(filter.holds));
    parameters.extend(filters.iter().map(of));
    parameters
}

/// What a filter may be: an operator of that type and its operand, or an operand that is equal.
fn operand(holds: Holds) -> Value {
    const TIME: &str = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]) \
                        ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]";
    const NULL: &str = "isnull:|isnotnull:";
    const FLAG: &str = "[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|0|1|[Yy]|[Nn]|[Tt]|[Ff]|\
                        [Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff]";
    let pattern = match holds {
        Holds::Id | Holds::Text | Holds::Person => return json!({"type": "string"}),
        Holds::Time => {
            let one = format!("((equals|notequals|gt|gte|lt|lte):)?{TIME}");
            format!("^({one}|in:{TIME},{TIME}|{NULL})$")
        }
        Holds::Bool => format!("^(((equals|notequals):)?({FLAG})|{NULL})$"),
        Holds::Flag => format!("^({FLAG})$"),
    };
    let text = json!({"type": "string", "pattern": pattern});
    match holds {
        Holds::Bool | Holds::Flag => json!({"anyOf": [{"type": "boolean"}, text]}),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_of_a_route() {
        let routes = || routes().into_iter().filter(is_interface);
        for route in routes() {
            let (method, path) = (&route.method, route.path);
            let operation = operations::of(method, path);
            let operation =
                operation.unwrap_or_else(|| panic!("{method} {path}: see operations.rs"));
            assert!(operation.summary.ends_with('.'), "{method} {path}");
        }
        let document = document();
        let described: usize = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|path| path.as_object().unwrap().len())
            .sum();
        assert_eq!(described, routes().count());
        let ids: BTreeSet<_> = routes().map(|route| id(&route)).collect();
        assert_eq!(ids.len(), routes().count(), "an id is of one route");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(to)) = members.get("$ref") {
                        found.insert(to.clone());
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for to in found {
            let pointer = to.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{to}");
        }
    }
}

//! The OpenAPI document against what the server does, and against ZenML's own.
//!
//! `zenml-0.98.json` is what ZenML's document says of the routes that both have: names of query
//! parameters, of members of bodies and of answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use zenop::http::routes;

use super::client::Server;

/// What a document says of a route.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Contract {
    query: BTreeSet<String>,
    body: BTreeSet<String>,
    required: BTreeSet<String>,
    answer: BTreeSet<String>,
}

/// Routes that always refuse here, so that they take and give nothing.
const REFUSED: [&str; 2] = ["PUT /api/v1/activate", "PUT /api/v1/settings"];

/// What only ZenML's document has, and why ours has not.
const ONLY_THEIRS: &[(&str, &str)] = &[
    (
        "query hydrate",
        "the server's settings are always shown whole",
    ),
    (
        "query scope_user",
        "lists of what is one's own show nothing else",
    ),
    (
        "query failed_auth_attempts",
        "codes are not guessed, so there are none to count",
    ),
    (
        "query email",
        "mail addresses are shown to their owner alone",
    ),
    ("query service_account", "it is in the path"),
    ("query project_name_or_id", "there is one project"),
    ("body avatar_url", "no picture is kept"),
    ("body default_project_id", "there is one project"),
    (
        "body external_user_id",
        "identity providers are declared with the user",
    ),
    (
        "body user_metadata",
        "nothing is kept that has no place in the ZenUser",
    ),
    (
        "body oidc_claims",
        "nothing is kept that has no place in the ZenUser",
    ),
    (
        "body activation_token",
        "it is drawn here, nobody gives one",
    ),
    ("body active", "a new user is, as soon as it has a password"),
    (
        "answer authorization_url",
        "a login answers itself, it does not lead elsewhere",
    ),
];

/// What only ours has.
const ONLY_OURS: &[(&str, &str)] = &[
    ("query is_admin", "it is a column like others"),
    ("body scope", "RFC 8628 has it; here there are none"),
];

fn names_of_paths(path: &str) -> String {
    let part = |part: &str| match part.starts_with('{') {
        true => "{}".to_owned(),
        false => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The names of all members, with those that lead to them.
fn flatten(
    document: &Value,
    schema: &Value,
    prefix: &str,
    depth: u8,
    found: &mut BTreeSet<String>,
) {
    let schema = match schema.get("$ref") {
        Some(to) => {
            let pointer = to.as_str().unwrap().trim_start_matches('#');
            document.pointer(pointer).unwrap()
        }
        None => schema,
    };
    for either in schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        flatten(document, either, prefix, depth, found);
    }
    if depth > 5 {
        return;
    }
    let members = schema.get("properties").and_then(Value::as_object);
    for (name, member) in members.into_iter().flatten() {
        found.insert(format!("{prefix}{name}"));
        flatten(
            document,
            member,
            &format!("{prefix}{name}."),
            depth + 1,
            found,
        );
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        flatten(document, items, &format!("{prefix}[]."), depth + 1, found);
    }
}

fn contracts(document: &Value) -> BTreeMap<String, Contract> {
    let mut contracts = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, told) in methods.as_object().unwrap() {
            let mut contract = Contract::default();
            for parameter in told["parameters"].as_array().unwrap() {
                if parameter["in"] == "query" {
                    let name = parameter["name"].as_str().unwrap();
                    contract.query.insert(name.to_owned());
                }
            }
            for content in of(told, "/requestBody/content") {
                let schema = &content["schema"];
                flatten(document, schema, "", 0, &mut contract.body);
                let to = schema["$ref"].as_str().unwrap().trim_start_matches('#');
                let required = document.pointer(to).unwrap()["required"].as_array();
                let required = required.into_iter().flatten();
                contract.required = required.map(|n| n.as_str().unwrap().to_owned()).collect();
            }
            for content in of(told, "/responses/200/content") {
                flatten(document, &content["schema"], "", 0, &mut contract.answer);
            }
            let name = format!("{} {}", method.to_uppercase(), names_of_paths(path));
            contracts.insert(name, contract);
        }
    }
    contracts
}

fn of<'a>(told: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let contents = told.pointer(pointer).and_then(Value::as_object);
    contents.into_iter().flat_map(|contents| contents.values())
}

async fn document() -> Value {
    Server::new().get("/openapi.json").await.expect(200).json()
}

#[tokio::test]
async fn h19_is_served_to_anybody_and_has_every_route() {
    let server = Server::new();
    let answer = server.get("/openapi.json").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    for route in routes() {
        if !route.path.starts_with("/api/") {
            continue;
        }
        let method = route.method.as_str().to_lowercase();
        let told = &document["paths"][route.path][&method];
        assert!(told["responses"]["200"].is_object(), "{route:?}");
    }
}

#[tokio::test]
async fn h19_differs_from_that_of_zenml_only_where_it_is_told_why() {
    let theirs: BTreeMap<String, Contract> =
        serde_json::from_str(include_str!("zenml-0.98.json")).unwrap();
    let ours = contracts(&document().await);
    let (mut unexplained, mut used) = (Vec::new(), BTreeSet::new());
    let mut explain = |kind: &str, route: &str, name: &str, reasons: &[(&'static str, &str)]| {
        let told = format!("{kind} {name}");
        match reasons.iter().find(|(what, _)| *what == told) {
            Some((what, _)) => drop(used.insert(*what)),
            None => unexplained.push(format!("{route}: {told}")),
        }
    };
    for (route, theirs) in &theirs {
        if REFUSED.contains(&route.as_str()) {
            continue;
        }
        let ours = &ours[route];
        let kinds = [
            ("query", &theirs.query, &ours.query),
            ("body", &theirs.body, &ours.body),
            ("required", &theirs.required, &ours.required),
            ("answer", &theirs.answer, &ours.answer),
        ];
        for (kind, theirs, ours) in kinds {
            for name in theirs.difference(ours) {
                explain(kind, route, name, ONLY_THEIRS);
            }
            for name in ours.difference(theirs) {
                explain(kind, route, name, ONLY_OURS);
            }
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    let reasons = ONLY_THEIRS.iter().chain(ONLY_OURS);
    let stale: Vec<_> = reasons.filter(|(what, _)| !used.contains(what)).collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}

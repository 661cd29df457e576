//! The chart's values: what the schema knows, what is there by default and what is explained are the same.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

fn read(file: &str) -> String {
    fs::read_to_string(format!(
        "{}/charts/zenop/{file}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// The paths of all values that hold no other value of ours.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        // Those two are Kubernetes' own.
        Some(properties) if !["affinity", "resources"].contains(&path) => {
            for (name, schema) in properties {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(&inner, schema, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).unwrap()
}

#[test]
fn no_part_of_the_schema_lets_unknown_names_in() {
    fn check(path: &str, schema: &Value, open: &mut Vec<String>) {
        if schema.get("properties").is_some() && schema["additionalProperties"] != false {
            open.push(path.to_owned());
        }
        for (name, inner) in schema.as_object().into_iter().flatten() {
            check(&format!("{path}/{name}"), inner, open);
        }
    }
    let mut open = Vec::new();
    check("", &schema(), &mut open);
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn every_value_has_a_default_and_a_word_about_it() {
    let mut known = BTreeSet::new();
    leaves("", &schema(), &mut known);
    known.remove("global");
    let (text, readme) = (read("values.yaml"), read("README.md"));
    let values: Value = serde_yaml_ng::from_str(&text).unwrap();
    for path in &known {
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(
            values.pointer(&pointer).is_some(),
            "{path} is not in values.yaml"
        );
        let name = path.rsplit('.').next().unwrap();
        let told = format!("`{path}`");
        let told_short = format!("`.{name}`");
        assert!(
            readme.contains(&told) || readme.contains(&told_short),
            "README.md is silent on {path}"
        );
    }
    let told = text
        .lines()
        .filter(|line| line.trim_start().starts_with("# -- "));
    assert_eq!(
        told.count(),
        known.len(),
        "each value has its one comment that begins with --"
    );
}

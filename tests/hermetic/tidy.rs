//! What the compiler cannot watch: layers, file headers, generated files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use zenop::api;

/// Who may know whom, `docs/ARCHITECTURE.md`.
const LAYERS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("auth", &[]),
    ("wire", &[]),
    ("reconcile", &["api", "auth"]),
    ("store", &["api", "auth"]),
    ("http", &["auth", "wire", "store"]),
    ("cli", &["api", "auth"]),
    (
        "runtime",
        &["api", "auth", "wire", "reconcile", "store", "http"],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// The modules of this crate that a text names, also in groups: `use crate::{api::X, auth}`.
fn named_modules(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |s: &str| {
            s.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut starts = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => starts = true,
                        c if starts && !c.is_whitespace() => {
                            names.push(word(&group[i..]));
                            starts = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn modules_know_only_whom_they_may() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let Some(layer) = inside
            .parent()
            .and_then(|p| p.iter().next())
            .and_then(|p| p.to_str())
        else {
            continue;
        };
        if layer == "bin" {
            continue;
        }
        let allowed = layers
            .get(layer)
            .unwrap_or_else(|| panic!("{layer} has no place in LAYERS"));
        let known = named_modules(&text)
            .into_iter()
            .filter(|name| layers.contains_key(&**name));
        wrong.extend(
            known
                .filter(|name| name != layer && !allowed.contains(&&**name))
                .map(|name| format!("{} knows {name}", inside.display())),
        );
    }
    assert!(
        wrong.is_empty(),
        "against the layers:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn http_does_not_know_that_kubernetes_exists() {
    for (path, text) in sources(&root().join("src/http")) {
        for word in ["kube::", "k8s_openapi"] {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
}

/// A key that is printed elsewhere than where it was asked whether it may be is a leak. Of `auth` the
/// plugin knows what keys, sealed values and references look like, and nothing of who may what.
#[test]
fn the_plugin_prints_in_one_file_and_knows_of_auth_forms_alone() {
    let cli = root().join("src/cli");
    for (path, text) in sources(&cli) {
        let is_printer = path == cli.join("output.rs");
        for word in ["print!(", "println!(", "stdout()", "stderr()", "dbg!("] {
            let prints = text.contains(word);
            assert!(is_printer || !prints, "{} says {word}", path.display());
        }
        for (at, _) in text.match_indices("auth::") {
            let known = &text[at..];
            let forms = ["auth::api_key::", "auth::sealed::", "auth::reference::"];
            let is_form = forms.iter().any(|form| known.starts_with(form));
            assert!(is_form, "{}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let folders = ["src", "cluster/src", "cluster/tests", "tests", "benches"];
    let present = folders
        .iter()
        .map(|f| root().join(f))
        .filter(|f| f.exists());
    for (path, text) in present.flat_map(|folder| sources(&folder)) {
        assert!(
            text.starts_with("//! "),
            "{} does not begin with //!",
            path.display()
        );
    }
}

fn assert_fresh(file: &Path, wanted: &str) {
    let text = fs::read_to_string(file).unwrap_or_default();
    assert!(
        text == wanted,
        "{} is stale: run `make generate`",
        file.display()
    );
}

#[test]
fn generated_files_are_fresh() {
    for crd in api::all_crds() {
        let yaml = api::crd_yaml(&crd).unwrap();
        for folder in ["crds", "charts/zenop/crds-files"] {
            assert_fresh(&root().join(folder).join(api::crd_file_name(&crd)), &yaml);
        }
    }
    assert_fresh(&root().join("docs/api.md"), &api::reference());
}

/// Helm and kubectl read YAML 1.1, in which these words are booleans unless quoted.
#[test]
fn no_text_in_a_definition_is_taken_for_a_boolean() {
    for crd in api::all_crds() {
        for line in api::crd_yaml(&crd).unwrap().lines() {
            let value = line.rsplit([' ', ':']).next().unwrap_or_default();
            let word = value.to_lowercase();
            let is = ["on", "off", "yes", "no", "y", "n"].contains(&&*word);
            let follows = line.trim_start().starts_with("- ") || line.contains(": ");
            let prose = line.trim().split(' ').count() > 2;
            assert!(!is || !follows || prose, "{line:?}");
        }
    }
}

#[test]
fn definitions_are_small_enough_for_a_client_side_apply() {
    for crd in api::all_crds() {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(
            size < 200 * 1024,
            "{} has {size} bytes",
            api::crd_file_name(&crd)
        );
    }
}

/// attacks.md S10, pitfalls.md P12, P38: every text, list and map has an end, no integer is
/// unsigned, no field is a place for a plaintext credential.
#[test]
fn every_field_has_bounds() {
    fn check(path: &str, schema: &serde_json::Value, wrong: &mut Vec<String>) {
        let kind = schema["type"].as_str().unwrap_or_default();
        let bounded = match kind {
            "string" => {
                schema.get("maxLength").is_some()
                    || schema.get("enum").is_some()
                    || schema["format"] == "date-time"
            }
            "array" => schema.get("maxItems").is_some(),
            "object" => {
                schema.get("additionalProperties").is_none()
                    || schema.get("maxProperties").is_some()
            }
            _ => true,
        };
        if !bounded {
            wrong.push(format!("{path}: {kind} without a bound"));
        }
        if schema["format"]
            .as_str()
            .is_some_and(|f| f.starts_with("uint"))
        {
            wrong.push(format!("{path}: unsigned"));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), field, wrong);
        }
        if let Some(items) = schema.get("items") {
            check(&format!("{path}[]"), items, wrong);
        }
    }
    let mut wrong = Vec::new();
    for crd in api::all_crds() {
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            check(part, &schema["properties"][part], &mut wrong);
        }
    }
    wrong.retain(|w| !w.contains("conditions[]"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

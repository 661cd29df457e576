//! References and component types as the real ZenML has them: zenml-wire.md, 14.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use zenop::{
    api::{ComponentType, ValidationLevel},
    auth::reference::{is_reference, whole},
};

use crate::{interop::python, support::PATIENCE, zenml::client};

const PROGRAM: &str = r#"
import json, sys
from zenml.enums import SecretValidationLevel, StackComponentType
from zenml.utils.secret_utils import is_secret_reference, parse_secret_reference
texts = json.load(sys.stdin)
read = [list(parse_secret_reference(t)) if is_secret_reference(t) else None for t in texts]
types = sorted(str(t.value) for t in StackComponentType)
levels = sorted(str(l.value) for l in SecretValidationLevel)
print("TOLD" + json.dumps({"read": read, "types": types, "levels": levels}))
"#;

/// Each text of at most so many of these characters, with and without braces around it.
fn texts() -> Vec<String> {
    let alphabet = ['a', '.', ' ', '{', '}', '\u{1c}', '\u{a0}', 'ß', '\n'];
    let mut inner = vec![String::new()];
    let mut last = inner.clone();
    for _ in 0..4 {
        let longer = last
            .iter()
            .flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}")));
        last = longer.collect();
        inner.extend(last.iter().cloned());
    }
    let braced = inner.iter().map(|text| format!("{{{{{text}}}}}"));
    let braced: Vec<_> = braced.collect();
    inner.extend(braced);
    inner.extend(["{{a.b.c}}", "{{ db.password }}", "{{a.b}}}}c.d}}"].map(str::to_owned));
    inner
}

#[tokio::test]
async fn the_real_zenml_takes_the_same_texts_for_references() -> Result<()> {
    let texts = texts();
    let mut process = python(client()?.with_file_name("python"))
        .args(["-c", PROGRAM])
        .env("HOME", std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = process.stdin.take().context("no input")?;
    stdin.write_all(&serde_json::to_vec(&texts)?).await?;
    drop(stdin);
    let mut said = String::new();
    let mut stdout = process.stdout.take().context("no output")?;
    timeout(PATIENCE, stdout.read_to_string(&mut said)).await??;
    let told = said.lines().find_map(|line| line.strip_prefix("TOLD"));
    let told: Value = serde_json::from_str(told.with_context(|| said.clone())?)?;

    let read = told["read"].as_array().context("no list")?;
    ensure!(read.len() == texts.len());
    let references = read.iter().filter(|one| !one.is_null()).count();
    ensure!(references > 100, "{references} are too few to say anything");
    for (text, theirs) in texts.iter().zip(read) {
        ensure!(is_reference(text) != theirs.is_null(), "{text:?}: {theirs}");
        // One with an empty name is one to ZenML, which then finds no secret.
        match whole(text) {
            Ok(Some(ours)) => ensure!(
                *theirs == json!([ours.name, ours.key]),
                "{text:?}: {theirs}"
            ),
            Ok(None) => ensure!(theirs.is_null(), "{text:?}: {theirs}"),
            Err(_) => ensure!(theirs.is_null() || theirs[0] == "", "{text:?}: {theirs}"),
        }
    }

    let kinds = told["types"].as_array().context("no types")?;
    for kind in kinds {
        let known: Result<ComponentType, _> = serde_json::from_value(kind.clone());
        ensure!(known.is_ok(), "{kind} is a type of ZenML's");
    }
    ensure!(kinds.len() == 15, "{kinds:?}");
    let levels = [
        ValidationLevel::None,
        ValidationLevel::SecretExists,
        ValidationLevel::SecretAndKeyExists,
    ];
    let known = json!(["NONE", "SECRET_AND_KEY_EXISTS", "SECRET_EXISTS"]);
    ensure!(told["levels"] == known && levels.len() == 3);
    Ok(())
}

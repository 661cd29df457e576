//! Clients that know nothing of us: an OAuth client, ZenML's own reader of refusals, and a program
//! that tries whatever the OpenAPI document allows, and what it does not.

use std::{collections::BTreeSet, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    support::{PATIENCE, account, site, with},
    zenml::{cached, client},
};

pub const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client");

/// Python with the tools of these tests: `ZENOP_TOOLS`, else where `make python-tools` puts it.
pub fn tools() -> Result<PathBuf> {
    cached("ZENOP_TOOLS", "python-tools-1/bin", "make python-tools")
}

pub fn python(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("ZENML_ANALYTICS_OPT_IN", "false")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn an_independent_oauth_client_completes_the_device_flow() -> Result<()> {
    site("interop-oauth", async |site| {
        let address = free_address()?;
        let fast = [("spec.auth", json!({"device": {"pollInterval": "1s"}}))];
        let _operator = set_up(site, address, &fast).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let key = delivered(site, "main-key").await?;
        let mut process = python(tools()?.join("python"))
            .args([
                &format!("{HERE}/python/device.py"),
                &format!("http://{address}"),
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let talk = async {
            let told: Value = serde_json::from_str(&lines.next_line().await?.context("no link")?)?;
            let link = told["verification_uri_complete"]
                .as_str()
                .context("no link")?;
            let device = link.split(['=', '&']).nth(1).context("no device")?;
            let decision = json!({"user_code": told["user_code"], "trusted_device": false});
            let path = format!("/{device}/verify");
            let answer = sidecar.on_device("PUT", &path, &key, &decision).await?;
            answer.expect(200)?;
            lines.next_line().await?.context("it ends without a token")
        };
        let told = timeout(PATIENCE, talk).await.context("it goes on")??;
        let told: Value = serde_json::from_str(&told)?;
        ensure!(told["name"] == "ci", "{told}");
        ensure!(
            told["again"] == "expired_token",
            "a code is good for once: {told}"
        );
        let errors = told["errors"].as_array().context("no errors")?;
        ensure!(
            errors.iter().all(|e| e == "authorization_pending"),
            "{told}"
        );
        Ok(())
    })
    .await
}

/// H14, H15: the whole of zenml-wire 3.2, as far as the sidecar has it.
#[tokio::test]
async fn h15_the_real_client_raises_the_very_exception() -> Result<()> {
    site("interop-raised", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let admin = with(account("ci"), "spec.isAdmin", json!(true));
        site.apply(&admin).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let key = delivered(site, "main-key").await?;
        let bearer = json!({"Authorization": format!("Bearer {key}"), "Content-Type": "application/json"});
        let by = |method: &str, path: &str, body: Value| {
            json!({
                "method": method, "path": format!("/api/v1{path}"), "headers": bearer,
                "body": body.to_string(),
            })
        };
        let form = json!({"Content-Type": "application/x-www-form-urlencoded"});
        let login = |body: &str| {
            json!({"method": "POST", "path": "/api/v1/login", "headers": form, "body": body})
        };
        let nobody = json!({"method": "GET", "path": "/api/v1/users"});
        let new = json!({"name": "ci", "active": true});
        let long = "x".repeat(20_000);
        let rows = [
            (by("GET", "/users?page=9", Value::Null), 400, "ValueError"),
            (login("grant_type=bogus"), 400, "ValueError"),
            (nobody, 401, "CredentialsNotValid"),
            (login("username=nobody&password=wrong"), 401, "CredentialsNotValid"),
            (login("password=ZENKEY_x"), 401, "CredentialsNotValid"),
            (by("PUT", "/activate", json!({})), 403, "IllegalOperationError"),
            (by("GET", "/service_accounts/nosuch", Value::Null), 404, "KeyError"),
            (by("GET", "/users/nosuch", Value::Null), 404, "KeyError"),
            (by("GET", "/nosuch", Value::Null), 404, "KeyError"),
            (by("PATCH", "/users", Value::Null), 405, "MethodNotAllowedError"),
            (by("POST", "/service_accounts", new), 409, "EntityExistsError"),
            (by("POST", "/service_accounts", json!({})), 422, "ValueError"),
            (by("GET", "/users?active=maybe", Value::Null), 422, "ValueError"),
            (by("GET", "/users?page=0", Value::Null), 422, "ValueError"),
            // A status that the client does not know is this to it.
            (by("POST", "/users", json!({"name": long})), 413, "RuntimeError"),
        ];
        let mut process = python(client()?.with_file_name("python"))
            .args([&format!("{HERE}/python/exceptions.py"), &format!("http://{address}")])
            .env("HOME", std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = process.stdin.take().context("no input")?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        for (asked, status, class) in rows {
            stdin.write_all(format!("{asked}\n").as_bytes()).await?;
            let told = timeout(PATIENCE, lines.next_line()).await.context("no answer")??;
            let told: Value = serde_json::from_str(&told.context("it ended")?)?;
            ensure!(
                told["status"] == status && told["class"] == class,
                "{asked}: wanted {status} {class}, got {told}"
            );
            ensure!(told["text"].as_str().is_some_and(|text| status == 413 || !text.is_empty()), "{told}");
        }
        drop(sidecar);
        Ok(())
    })
    .await
}

/// H19: what the document says is true, whatever is asked. `ZENOP_EXAMPLES` for more of it.
#[tokio::test]
async fn h19_the_openapi_document_is_kept() -> Result<()> {
    site("interop-openapi", async |site| {
        let address = free_address()?;
        let off = [("spec.auth", json!({"rateLimit": {"global": "none"}}))];
        let _operator = set_up(site, address, &off).await?;
        let admin = with(account("ci"), "spec.isAdmin", json!(true));
        site.apply(&admin).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let document = sidecar.get("/openapi.json", None).await?.json()?;
        let key = delivered(site, "main-key").await?;
        let examples = std::env::var("ZENOP_EXAMPLES").unwrap_or_else(|_| "10".into());
        for header in [None, Some(format!("Authorization: Bearer {key}"))] {
            let home = tempfile::tempdir()?;
            let mut command = python(tools()?.join("schemathesis"));
            command
                .env("HOME", home.path())
                .current_dir(home.path())
                .args(["--config-file", &format!("{HERE}/schemathesis.toml")])
                .args(["run", &format!("http://{address}/openapi.json")])
                .args(["--checks", "all", "--seed", "1", "--workers", "1"])
                .args(["--max-examples", &examples])
                .args(["--continue-on-failure", "--no-color"])
                .args(["--report-ndjson-path", "all.ndjson"])
                .args(["--report-json-path", "sums.json"])
                .args(["--request-timeout", "30"]);
            if let Some(header) = &header {
                command.args(["--header", header]);
            }
            let output = timeout(PATIENCE * 20, command.output())
                .await
                .context("it goes on")??;
            let told = String::from_utf8_lossy(&output.stdout);
            let told = told.replace(&key, "(the key)");
            println!("{told}");
            ensure!(
                output.status.success(),
                "as {}:\n{told}{}",
                header.map_or("nobody", |_| "an administrator"),
                String::from_utf8_lossy(&output.stderr)
            );
            let read = |name: &str| std::fs::read_to_string(home.path().join(name));
            let sums: Value = serde_json::from_str(&read("sums.json")?)?;
            ensure!(sums["operations"]["skipped"] == 0, "{sums:#}");
            let phases = sums["phases"].as_object().context("no phases")?;
            let ran =
                |phase: &Value| phase["status"] == "success" && phase["skip_reason"].is_null();
            ensure!(phases.len() == 4 && phases.values().all(ran), "{sums:#}");
            let probes = probes(&read("all.ndjson")?, &guarded(&document))?;
            ensure!(sums["test_cases"]["without_checks"] == probes, "{sums:#}");
            ensure!((probes > 0) == header.is_some(), "{probes}");
        }
        Ok(())
    })
    .await
}

/// The operations that ask for a credential, as `GET /path`.
fn guarded(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        let guarded = methods.filter(|(_, operation)| !operation["security"].is_null());
        guarded.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// What schemathesis counts as skipped, as it checks nothing else of it: of each operation that did
/// something for who has a credential, it asks once without one and once with a wrong one. How
/// many that were, all of them refused; anything else that is not checked is an error.
fn probes(report: &str, guarded: &BTreeSet<String>) -> Result<usize> {
    let (mut probes, mut opened) = (0, BTreeSet::new());
    for line in report.lines() {
        let event: Value = serde_json::from_str(line)?;
        let scenario = &event["ScenarioFinished"];
        let recorder = &scenario["recorder"];
        let cases = recorder["cases"].as_object();
        // A story of several requests may turn out to have none.
        let is_empty =
            recorder["label"] == "Stateful tests" && cases.is_none_or(|cases| cases.is_empty());
        ensure!(
            scenario["status"] != "skip" || is_empty,
            "{}: skipped",
            recorder["label"]
        );
        for (id, case) in cases.into_iter().flatten() {
            let status = &recorder["interactions"][id]["response"]["status_code"];
            let status = status.as_u64().context("not answered")?;
            let [method, path] = ["method", "path"].map(|of| case["value"][of].as_str());
            let name = method
                .zip(path)
                .map(|(method, path)| format!("{method} {path}"));
            let name = name.context("no operation")?;
            if recorder["checks"].get(id).is_some() {
                opened.extend(Some(name).filter(|_| (200..300).contains(&status)));
            } else {
                let is_probe = case["parent_id"].is_string() && status == 401;
                ensure!(is_probe, "{name} was not checked: {case}");
                probes += 1;
            }
        }
    }
    let opened = opened.intersection(guarded).count();
    ensure!(
        probes == 2 * opened,
        "{probes} probes of {opened} operations"
    );
    Ok(probes)
}

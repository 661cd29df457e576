//! The real client asks for tokens, and whoever has the JWKS can verify them.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    door::{Sidecar, delivered, free_address, set_up},
    interop::{HERE, python, tools},
    support::{PATIENCE, entry, site},
    users::{PASSWORD, declare_ana},
    zenml::client,
};

/// Asks as ZenML's own code does.
const PROGRAM: &str = r#"
import json, uuid
from zenml.client import Client
from zenml.enums import APITokenType

store = Client().zen_store
run = uuid.uuid4()
told = {
    "run": str(run),
    "server": str(store.get_store_info().id),
    "generic": store.get_api_token(APITokenType.GENERIC, expires_in=600),
    "workload": store.get_api_token(pipeline_run_id=run),
    "errors": [],
}
for arguments in [dict(), dict(token_type=APITokenType.GENERIC, expires_in=604801)]:
    try:
        store.get_api_token(**arguments)
    except Exception as error:
        told["errors"].append([type(error).__name__, str(error)])
print("TOLD" + json.dumps(told))
"#;

/// What a token says, for who knows the JWKS and nothing else.
async fn verified(sidecar: &Sidecar, token: &str, server: &str) -> Result<Value> {
    let keys = sidecar.get("/.well-known/jwks.json", None).await?;
    let keys: JwkSet = serde_json::from_str(&keys.expect(200)?.body)?;
    let kid = decode_header(token)?.kid.context("no kid")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).context("an unknown key")?)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[server]);
    validation.set_audience(&[server]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    Ok(decode::<Value>(token, &key, &validation)?.claims)
}

#[tokio::test]
async fn the_real_client_asks_for_tokens_that_anybody_can_verify() -> Result<()> {
    site("api-token", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let secret = site.api::<Secret>().get("main-key").await?;
        let home = tempfile::tempdir()?;
        let mut command = Command::new(client()?.with_file_name("python"));
        command.args(["-c", PROGRAM]).env_clear();
        for name in ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"] {
            command.env(name, entry(&secret, name).context("no entry")?);
        }
        let output = command
            .env("HOME", home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("ZENML_ANALYTICS_OPT_IN", "false")
            .kill_on_drop(true)
            .output()
            .await?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let told = text.lines().find_map(|line| line.strip_prefix("TOLD"));
        let told: Value = serde_json::from_str(told.with_context(|| text.clone())?)?;

        let token = |name: &str| told[name].as_str().context("no token");
        let server = told["server"].as_str().context("no id")?;
        let workload = verified(&sidecar, token("workload")?, server).await?;
        ensure!(workload["pipeline_run_id"] == told["run"], "{workload}");
        let generic = verified(&sidecar, token("generic")?, server).await?;
        let lives = generic["exp"].as_f64().zip(generic["iat"].as_f64());
        let lives = lives.map(|(exp, iat)| exp - iat).context("no times")?;
        ensure!((598.0..=600.0).contains(&lives), "{generic}");
        let errors = &told["errors"];
        ensure!(
            errors[0][0] == "ValueError" && errors[1][0] == "ValueError",
            "{errors}"
        );
        for name in ["generic", "workload"] {
            sidecar.me(token(name)?).await?.expect(200)?;
        }
        let off = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "metadata": {"name": "main"},
            "spec": {"serviceAccountRef": {"name": "ci"}, "active": false},
        });
        site.apply(&off).await?;
        for name in ["generic", "workload"] {
            let token = token(name)?;
            let refused = async || sidecar.me(token).await.is_ok_and(|a| a.status == 401);
            sidecar.until("without its key", refused).await?;
        }
        Ok(())
    })
    .await
}

/// H7, J01, J02, J06: a library that knows the JWKS and nothing else tells our tokens from all others, and
/// so does the server.
#[tokio::test]
async fn h7_an_independent_library_verifies_every_token_and_no_forged_one() -> Result<()> {
    site("jwks", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        declare_ana(site).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let key = delivered(site, "main-key").await?;
        let info = sidecar.get("/api/v1/info", None).await?.expect(200)?;
        let server = info.json()?["id"].as_str().context("no id")?.to_owned();
        let login = sidecar.token(&key).await?;
        let generic = sidecar.get("/api/v1/api_token", Some(&login)).await?;
        let tokens = [
            ("ci", login.clone()),
            ("ci", serde_json::from_str(&generic.expect(200)?.body)?),
            ("ana", sidecar.session("ana", PASSWORD).await?),
        ];
        let mut process = python(tools()?.join("python"))
            .arg(format!("{HERE}/python/verify.py"))
            .args([&format!("http://{address}"), &server])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = process.stdin.take().context("no input")?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        for (name, token) in tokens {
            stdin.write_all(format!("{token}\n").as_bytes()).await?;
            let told = timeout(PATIENCE, lines.next_line())
                .await
                .context("no answer")??;
            let told: Value = serde_json::from_str(&told.context("it ended")?)?;
            let me = sidecar.me(&token).await?.expect(200)?.json()?;
            ensure!(
                me["name"] == name && told["claims"]["sub"] == me["id"],
                "{told}"
            );
            ensure!(
                told["header"]["alg"] == "EdDSA" && told["public"] == true,
                "{told}"
            );
            ensure!(told["late"] == "ExpiredTokenError", "{told}");
            are_refused(&sidecar, &told["forged"]).await?;
        }
        Ok(())
    })
    .await
}

/// By the library for the right reason, and by the server.
async fn are_refused(sidecar: &Sidecar, forged: &Value) -> Result<()> {
    let wanted = [
        ("claims", "BadSignatureError"),
        ("signature", "BadSignatureError"),
        ("no signature", "UnsupportedAlgorithmError"),
        ("renamed", "InvalidKeyIdError"),
        ("unknown key", "InvalidKeyIdError"),
        ("another key", "BadSignatureError"),
        ("HMAC", "UnsupportedAlgorithmError"),
    ];
    ensure!(
        forged
            .as_object()
            .is_some_and(|all| all.len() == wanted.len()),
        "{forged}"
    );
    for (name, why) in wanted {
        let [text, said] = [0, 1].map(|n| forged[name][n].as_str().unwrap_or_default());
        ensure!(said == why, "{name}: {said:?}");
        let answer = sidecar.me(text).await?;
        ensure!(answer.status == 401, "{name}: {answer:?}");
    }
    Ok(())
}

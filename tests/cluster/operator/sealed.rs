//! Values that stand encrypted in Git, and the keys for it, on a real API server.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};
use zenop::{
    api::{EntrySource, ZenSecret, ZenServer, condition, reason},
    auth::sealed::{OPENING_KEYS_ENTRY, OpeningKeys, Place, Recipient, seal},
};

use crate::support::{Site, entry, message, ready, says, secret, server, site, stalled, with};

/// The server's key, once there is one that `wanted` wants.
fn sealed(to: &str, object: &str, entry: &str, value: &str) -> Result<Value> {
    let place = Place { object, entry };
    let text = seal(&to.parse()?, &place, value.as_bytes())?;
    Ok(json!({"key": entry, "encrypted": text}))
}

async fn value(site: &Site, name: &str, of: &str) -> Result<Option<String>> {
    let secret = site.api::<Secret>().get_opt(name).await?;
    Ok(secret.and_then(|secret| entry(&secret, of)))
}

/// Runs age, by its author, over some text.
async fn age(arguments: &[&str], input: &str) -> Result<String> {
    let tool = tokio::task::spawn_blocking(|| zenop_cluster::tool("age")).await??;
    let mut process = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = process.stdin.take().context("no stdin")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = process.wait_with_output().await?;
    ensure!(
        output.status.success(),
        "age {arguments:?}: {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn d1_a_sealed_value_is_opened_for_its_entry_alone() -> Result<()> {
    site("sealed", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let to = site.sealing(|_| true).await?.recipient;
        let password = sealed(&to, "login", "password", "from Git")?;
        let empty = sealed(&to, "login", "empty", "")?;
        let login = secret("login", json!([password, empty]));
        site.apply(&login).await?;
        let made: ZenSecret = site.until("login", "Ready", ready).await?;
        ensure!(value(site, "login", "password").await?.as_deref() == Some("from Git"));
        ensure!(value(site, "login", "empty").await?.as_deref() == Some(""));
        let keys = made.status.iter().flat_map(|status| &status.keys);
        ensure!(
            keys.into_iter()
                .all(|key| key.source == EntrySource::Encrypted)
        );

        // Whoever can read the declaration cannot have the value shown under a name of its own.
        let mut moved = password.clone();
        moved["key"] = json!("other");
        let other = |text: &str| json!([{"key": "password", "encrypted": text}]);
        let text = password["encrypted"].as_str().context("no text")?;
        let mut unknown = OpeningKeys::default();
        unknown.add(&[9; 32], zenop::runtime::clock::now());
        let (unknown, _) = unknown.current().context("no key")?;
        let unknown = sealed(&unknown.to_string(), "unknown", "password", "x")?;
        let half = &text[..text.len() / 2];
        let noise = format!("-----BEGIN AGE ENCRYPTED FILE-----\n{}", "x".repeat(100));
        let cases = [
            (
                "copied",
                json!([password]),
                "sealed for another entry or object",
            ),
            (
                "login2",
                json!([moved]),
                "sealed for another entry or object",
            ),
            (
                "unknown",
                json!([unknown]),
                "a key that this server does not have",
            ),
            ("half", other(half), "no age file, or was altered"),
            ("noise", other(&noise), "no age file, or was altered"),
        ];
        for (name, data, told) in cases {
            site.apply(&secret(name, data)).await?;
            let refused: ZenSecret = site.until(name, told, stalled(reason::NOT_OPENED)).await?;
            let message = message(&refused, condition::STALLED);
            ensure!(
                message.contains(told) && message.contains("kubectl zen secret seal"),
                "{message}"
            );
            ensure!(
                site.api::<Secret>().get_opt(name).await?.is_none(),
                "{name} was delivered"
            );
        }
        for (bad, told) in [
            ("plaintext".repeat(20), "should match"),
            ("x".into(), "at least 64"),
        ] {
            let refused = site
                .apply(&secret("bad", other(&bad)))
                .await
                .err()
                .context("taken")?;
            ensure!(format!("{refused:#}").contains(told), "{refused:#}");
        }

        // What is there stays when a new text cannot be read.
        site.apply(&with(login.clone(), "spec.data", other(half)))
            .await?;
        site.until("login", "stalled", stalled::<ZenSecret>(reason::NOT_OPENED))
            .await?;
        ensure!(value(site, "login", "password").await?.as_deref() == Some("from Git"));

        // With age itself, which knows nothing of us.
        let content = "zenop.dev/sealed/1 theirs/password\nby another program";
        let text = age(&["--encrypt", "--armor", "--recipient", &to], content).await?;
        site.apply(&secret("theirs", other(&text))).await?;
        site.until("theirs", "Ready", ready::<ZenSecret>).await?;
        ensure!(value(site, "theirs", "password").await?.as_deref() == Some("by another program"));
        let keys = value(site, "prod-sealing", OPENING_KEYS_ENTRY)
            .await?
            .context("no keys")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("keys.txt");
        std::fs::write(&file, keys)?;
        let file = file.to_str().context("no path")?;
        let ours = password["encrypted"].as_str().context("no text")?;
        let opened = age(&["--decrypt", "--identity", file], ours).await?;
        ensure!(
            opened == "zenop.dev/sealed/1 login/password\nfrom Git",
            "{opened}"
        );
        site.settled().await
    })
    .await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn d1_sealing_keys_are_replaced_and_never_lost_in_silence() -> Result<()> {
    site("sealing", async |site| {
        let operator = site.operator().await?;
        let of = |trigger: &str| with(server("prod"), "spec.sealing", json!({"trigger": trigger}));
        site.apply(&server("prod")).await?;
        let first = site.sealing(|_| true).await?;
        let old = sealed(&first.recipient, "old", "password", "one")?;
        site.apply(&secret("old", json!([old]))).await?;
        site.until("old", "Ready", ready::<ZenSecret>).await?;

        site.apply(&of("a")).await?;
        let second = site
            .sealing(|sealing| sealing.recipient != first.recipient)
            .await?;
        ensure!(second.keys == 2 && second.trigger.as_deref() == Some("a"));
        // What an old key sealed is read by an operator that saw none of it.
        operator.stop().await?;
        let operator = site.operator().await?;
        let late = sealed(&first.recipient, "late", "password", "two")?;
        site.apply(&secret("late", json!([late]))).await?;
        site.until("late", "Ready", ready::<ZenSecret>).await?;
        site.settled().await?;
        let now = site.sealing(|_| true).await?;
        ensure!(now == second, "it was replaced again: {now:?}");

        // Gone: the server says so, and what was delivered stays.
        let kept: Secret = site.api().get("prod-sealing").await?;
        let uid = kept.uid().context("no uid")?;
        site.delete::<Secret>("prod-sealing").await?;
        site.until_gone::<Secret>("prod-sealing", &uid).await?;
        let lost: ZenServer = site
            .until("prod", "stalled", stalled(reason::SEALING_KEY_LOST))
            .await?;
        let told = message(&lost, condition::STALLED);
        ensure!(
            told.contains("prod-sealing") && told.contains("spec.sealing.trigger"),
            "{told}"
        );
        ensure!(value(site, "old", "password").await?.as_deref() == Some("one"));
        ensure!(
            site.api::<Secret>()
                .get_opt("prod-sealing")
                .await?
                .is_none()
        );

        // Put back by whoever has a backup: it is somebody else's until it is handed over, so it is
        // restored with its owner, as backup tools do.
        let mut back = serde_json::to_value(&kept)?;
        let metadata = back["metadata"].as_object_mut().context("no metadata")?;
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
        ] {
            metadata.remove(field);
        }
        back["apiVersion"] = json!("v1");
        back["kind"] = json!("Secret");
        site.apply_as("backup", &back).await?;
        let is_back = |server: &ZenServer| {
            !says(condition::STALLED, "True", reason::SEALING_KEY_LOST)(server)
        };
        site.until("prod", "not stalled any more", is_back).await?;
        ensure!(site.sealing(|_| true).await? == second);
        let again = sealed(&first.recipient, "again", "password", "three")?;
        site.apply(&secret("again", json!([again]))).await?;
        site.until("again", "Ready", ready::<ZenSecret>).await?;

        // Given up: a new one is made when somebody asks for it.
        let uid = site
            .api::<Secret>()
            .get("prod-sealing")
            .await?
            .uid()
            .context("no uid")?;
        site.delete::<Secret>("prod-sealing").await?;
        site.until_gone::<Secret>("prod-sealing", &uid).await?;
        site.until(
            "prod",
            "stalled",
            stalled::<ZenServer>(reason::SEALING_KEY_LOST),
        )
        .await?;
        site.apply(&of("b")).await?;
        let third = site
            .sealing(|sealing| sealing.recipient != second.recipient)
            .await?;
        ensure!(third.keys == 1);
        let stale: ZenSecret = site
            .until("old", "stalled", stalled(reason::NOT_OPENED))
            .await?;
        ensure!(message(&stale, condition::STALLED).contains("backup"));
        ensure!(
            value(site, "old", "password").await?.as_deref() == Some("one"),
            "it was taken away"
        );
        let anew = sealed(&third.recipient, "old", "password", "one")?;
        site.apply(&secret("old", json!([anew]))).await?;
        site.until("old", "Ready", ready::<ZenSecret>).await?;
        let recipient: Recipient = third.recipient.parse()?;
        ensure!(recipient.to_string() == third.recipient);
        operator.stop().await
    })
    .await
}

/// Which of two is older, and which younger, as everybody sees it: by time, then by UID.
async fn elder<'a>(site: &Site, a: &'a str, b: &'a str) -> Result<(&'a str, &'a str)> {
    let api = site.api::<ZenSecret>();
    let (one, other) = (api.get(a).await?, api.get(b).await?);
    let seniority = |secret: &ZenSecret| (secret.creation_timestamp(), secret.uid());
    Ok(match seniority(&one) < seniority(&other) {
        true => (a, b),
        false => (b, a),
    })
}

#[tokio::test]
async fn d2_a_name_belongs_to_one_secret_of_its_scope() -> Result<()> {
    site("names", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let data = json!([{"key": "a", "generate": {}}]);
        let named =
            |object: &str| with(secret(object, data.clone()), "spec.name", json!("db creds"));
        let of = |object: &str, owner: &str| {
            let named = with(named(object), "spec.scope", json!("User"));
            with(named, "spec.ownerRef", json!({"name": owner}))
        };
        let refused = site
            .apply(&with(named("bad"), "spec.scope", json!("User")))
            .await;
        ensure!(format!("{:#}", refused.err().context("taken")?).contains("ownerRef"));
        for (object, spec) in [
            ("first", named("first")),
            ("anas", of("anas", "ana")),
            ("bens", of("bens", "ben")),
        ] {
            site.apply(&spec).await?;
            site.until(object, "Ready", ready::<ZenSecret>).await?;
        }
        site.apply(&named("second")).await?;
        site.apply(&of("anas2", "ana")).await?;
        let (older, younger) = elder(site, "first", "second").await?;
        let (anas, rival) = elder(site, "anas", "anas2").await?;
        let conflict = || stalled::<ZenSecret>(reason::NAME_CONFLICT);
        let refused = site.until(younger, "refused", conflict()).await?;
        let told = message(&refused, condition::NAME_CONFLICT);
        ensure!(told.contains(&format!("older ZenSecret {older}")), "{told}");
        site.until(rival, "refused", conflict()).await?;
        site.until("bens", "Ready", ready::<ZenSecret>).await?;
        // An operator that begins with all of them sees the same.
        operator.stop().await?;
        let operator = site.operator().await?;
        site.settled().await?;
        for name in [younger, rival] {
            site.until(name, "refused", conflict()).await?;
        }
        site.delete::<ZenSecret>(older).await?;
        site.until(younger, "Ready", ready::<ZenSecret>).await?;
        site.apply(&with(of(anas, "ana"), "spec.name", json!("other")))
            .await?;
        site.until(rival, "Ready", ready::<ZenSecret>).await?;
        operator.stop().await
    })
    .await
}

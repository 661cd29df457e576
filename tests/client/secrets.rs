//! Every command of the real `zenml` CLI for secrets, and its Python client, by two people and a
//! service account; and what becomes of the values.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event, rbac::v1::Role};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};
use zenop::api::{ZenSecret, ZenUser};

use crate::{
    door::{Answer, Sidecar, delivered, free_address, set_up},
    interop::{HERE, python},
    support::{
        PATIENCE, Site, component, entry, password_of, ready, secret, site, user_with_password,
    },
    users::{PASSWORD, declare_ana},
    zenml::{Outcome, client, zenml_with},
};

/// Who works at a command line, in a folder of their own.
struct Person {
    variables: Vec<(&'static str, String)>,
}

impl Person {
    fn user(address: impl ToString, name: &str) -> Self {
        Self {
            variables: vec![
                ("ZENML_STORE_URL", format!("http://{}", address.to_string())),
                ("ZENML_STORE_USERNAME", name.to_owned()),
                ("ZENML_STORE_PASSWORD", PASSWORD.to_owned()),
            ],
        }
    }

    /// With nothing but what is delivered.
    async fn of_key(site: &Site, secret: &str) -> Result<Self> {
        let secret: Secret = site.api().get(secret).await?;
        let variables = ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"].into_iter();
        let variables = variables.filter_map(|name| Some((name, entry(&secret, name)?)));
        Ok(Self {
            variables: variables.collect(),
        })
    }

    async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let arguments = [&["secret"], arguments].concat();
        zenml_with(&self.variables, &arguments).await
    }

    /// What a command line prints that succeeds, in a folder.
    async fn types(&self, line: &str, folder: &Path) -> Result<String> {
        let client = client()?;
        let bin = client.parent().context("no folder")?.display().to_string();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line])
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .env("PATH", format!("{bin}:/usr/bin:/bin"))
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "400")
            .env("ZENML_ANALYTICS_OPT_IN", "false")
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await;
        let output = output.with_context(|| format!("{line} goes on"))??;
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{line}: {told}");
        Ok(told)
    }

    /// What a command prints that succeeds.
    async fn does(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.run(arguments).await?;
        ensure!(outcome.success, "{arguments:?}: {}", outcome.text);
        Ok(outcome.text)
    }

    /// Runs a command that fails and says this.
    async fn fails(&self, arguments: &[&str], told: &str) -> Result<()> {
        let outcome = self.run(arguments).await?;
        let text = &outcome.text;
        ensure!(!outcome.success, "{arguments:?} succeeds: {text}");
        ensure!(text.contains(told), "{arguments:?}: {text}");
        Ok(())
    }
}

async fn declare_bo(site: &Site) -> Result<()> {
    site.apply(&password_of("bo", PASSWORD)).await?;
    site.apply(&user_with_password("bo")).await?;
    site.until::<ZenUser>("bo", "Ready", ready).await?;
    Ok(())
}

fn contains(text: &str, all: &[&str], none: &[&str]) -> Result<()> {
    for wanted in all {
        ensure!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    for unwanted in none {
        ensure!(!text.contains(unwanted), "{unwanted:?} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn two_people_and_a_service_account_manage_secrets_with_the_zenml_cli() -> Result<()> {
    site("secret-commands", async |site| {
        let address = free_address()?;
        let operator = set_up(site, address, &[]).await?;
        declare_ana(site).await?;
        declare_bo(site).await?;
        let sidecar = Sidecar::start_with(site, address, "trace").await?;
        let (ana, bo) = (Person::user(address, "ana"), Person::user(address, "bo"));
        let ci = Person::of_key(site, "main-key").await?;
        let folder = tempfile::tempdir()?;
        made_and_read(&bo, &ci, folder.path()).await?;
        changed(&ana, &bo, folder.path()).await?;
        private_ones(&ana, &bo, &ci).await?;
        a_step_reads_them(&ci).await?;
        declared_ones(site, &bo).await?;
        operator.stop().await?;
        nothing_holds_a_value(site, &sidecar).await
    })
    .await
}

async fn made_and_read(bo: &Person, ci: &Person, folder: &Path) -> Result<()> {
    bo.does(&[
        "create",
        "db",
        "--username=alice",
        "--password=canary-7f41-one",
    ])
    .await?;
    bo.fails(
        &["create", "db", "--a=1"],
        "Found an existing public secret",
    )
    .await?;
    bo.does(&[
        "create",
        "inline",
        "-v",
        r#"{"k1": "canary-7f41-two", "k2": "v2"}"#,
    ])
    .await?;
    let file = folder.join("values.yaml");
    std::fs::write(&file, "k1: canary-7f41-three\nk2: |\n  two\n  lines\n")?;
    let from_file = format!("@{}", file.display());
    bo.does(&["create", "from-file", "--values", &from_file])
        .await?;
    let cert = folder.join("cert");
    std::fs::write(&cert, "canary-7f41-four\n")?;
    let key = format!("--cert=@{}", cert.display());
    bo.does(&["create", "key-file", &key]).await?;
    let list = ci.does(&["list"]).await?;
    contains(
        &list,
        &["db", "inline", "from-file", "key-file"],
        &["canary"],
    )?;
    // By name, by a part of it, by id.
    let got = ci.does(&["get", "db"]).await?;
    contains(&got, &["username", "alice", "canary-7f41-one"], &[])?;
    contains(&ci.does(&["get", "inli"]).await?, &["canary-7f41-two"], &[])?;
    contains(
        &ci.does(&["get", "from-file"]).await?,
        &["canary-7f41-three", "lines"],
        &[],
    )?;
    contains(
        &ci.does(&["get", "key-file"]).await?,
        &["canary-7f41-four"],
        &[],
    )
}

async fn changed(ana: &Person, bo: &Person, folder: &Path) -> Result<()> {
    ana.does(&["update", "db", "--username=alice2", "--extra=1"])
        .await?;
    let got = bo.does(&["get", "db"]).await?;
    contains(&got, &["alice2", "extra", "canary-7f41-one"], &[])?;
    ana.does(&["update", "db", "-r", "extra", "-r", "username"])
        .await?;
    let got = bo.does(&["get", "db"]).await?;
    contains(&got, &["canary-7f41-one"], &["alice2", "extra"])?;
    ana.does(&["rename", "db", "-n", "database"]).await?;
    contains(
        &bo.does(&["get", "database"]).await?,
        &["canary-7f41-one"],
        &[],
    )?;
    ana.fails(&["rename", "database", "-n", "inline"], "Found an existing")
        .await?;
    let file = folder.join("export.yaml");
    bo.does(&["export", "database", "-f", &file.display().to_string()])
        .await?;
    let exported = std::fs::read_to_string(&file)?;
    ensure!(exported == "password: canary-7f41-one\n", "{exported}");
    ana.does(&["delete", "database", "--yes"]).await?;
    bo.fails(&["get", "database"], "Could not find a secret")
        .await
}

async fn private_ones(ana: &Person, bo: &Person, ci: &Person) -> Result<()> {
    for (who, value) in [
        (bo, "canary-7f41-bo"),
        (ana, "canary-7f41-ana"),
        (ci, "canary-7f41-ci"),
    ] {
        who.does(&["create", "mine", "--private", &format!("--value={value}")])
            .await?;
        contains(&who.does(&["get", "mine"]).await?, &[value], &[])?;
    }
    // The public one is found first, by all; the private one with `-p true`.
    ana.does(&["create", "mine", "--value=canary-7f41-all"])
        .await?;
    contains(
        &bo.does(&["get", "mine"]).await?,
        &["canary-7f41-all"],
        &["canary-7f41-bo"],
    )?;
    contains(
        &bo.does(&["get", "mine", "-p", "true"]).await?,
        &["canary-7f41-bo"],
        &["-all"],
    )?;
    // The owner alone says whether it is private.
    let told = "Only the user who created the secret";
    let hidden = bo.does(&["update", "inline", "--private", "true"]).await?;
    contains(&hidden, &["updated"], &[])?;
    for other in [ana, ci] {
        other
            .fails(&["get", "inline"], "Could not find a secret")
            .await?;
        other
            .fails(&["delete", "inline", "--yes"], "does not exist")
            .await?;
        contains(&other.does(&["list"]).await?, &["mine"], &["inline"])?;
    }
    ana.fails(&["update", "from-file", "-p", "true"], told)
        .await
}

/// features.md: `Client().get_secret()` in a step, with nothing but a delivered key; and references.
async fn a_step_reads_them(ci: &Person) -> Result<()> {
    ci.does(&["create", "tracker", "--password=canary-7f41-ref"])
        .await?;
    let home = tempfile::tempdir()?;
    let mut command = python(client()?.with_file_name("python"));
    command
        .args([&format!("{HERE}/python/step.py"), "tracker", "password"])
        .env("HOME", home.path())
        .envs(ci.variables.iter().map(|(name, value)| (*name, value)));
    let output = timeout(PATIENCE, command.output())
        .await
        .context("it goes on")??;
    let (told, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let line = told
        .lines()
        .last()
        .with_context(|| format!("no answer: {error}"))?;
    let told: Value = serde_json::from_str(line)?;
    let value = "canary-7f41-ref";
    ensure!(told["found"] == json!({"password": value}), "{told}");
    ensure!(told["resolved"] == json!([value, value]), "{told}");
    ensure!(told["kept"] == "{{tracker.password}}", "{told}");
    ensure!(
        told["no secret"].is_string() && told["no key"].is_string(),
        "{told}"
    );
    ensure!(
        told["private"] == true && told["by status"] == true,
        "{told}"
    );
    ensure!(told["changed"] == json!({"b": "2", "c": "3"}), "{told}");
    ensure!(told["listed"] == json!(["from-python", "mine"]), "{told}");
    ensure!(told["by owner"] == 3, "{told}");
    ensure!(told["taken"] == "EntityExistsError", "{told}");
    Ok(())
}

/// What is declared is read as any other, and changed where it is declared.
async fn declared_ones(site: &Site, bo: &Person) -> Result<()> {
    site.apply(&secret(
        "declared",
        json!([{"key": "drawn", "generate": {"length": 24}}]),
    ))
    .await?;
    site.until::<ZenSecret>("declared", "Ready", ready).await?;
    let values: Secret = site.api().get("declared").await?;
    let drawn = entry(&values, "drawn").context("no value")?;
    contains(&bo.does(&["get", "declared"]).await?, &[&drawn], &[])?;
    let by = format!(
        "declared in Kubernetes as ZenSecret {}/declared",
        site.name()
    );
    bo.fails(&["update", "declared", "--drawn=x"], &by).await?;
    bo.fails(&["delete", "declared", "--yes"], &by).await
}

/// The values are in their Secrets and nowhere else; encrypted they are in the ZenSecrets.
async fn nothing_holds_a_value(site: &Site, sidecar: &Sidecar) -> Result<()> {
    let all = ListParams::default();
    let secrets = site.api::<ZenSecret>().list(&all).await?.items;
    let sealed = secrets.iter().flat_map(|secret| &secret.spec.data);
    let sealed = sealed.filter(|entry| entry.encrypted.is_some()).count();
    ensure!(sealed >= 8, "{sealed} entries are sealed");
    let places = [
        ("ZenSecrets", json!(secrets).to_string()),
        (
            "Roles",
            json!(site.api::<Role>().list(&all).await?.items).to_string(),
        ),
        (
            "events",
            json!(site.api::<Event>().list(&all).await?.items).to_string(),
        ),
        ("sidecar's log", sidecar.log()),
        ("operator's log", site.logs()),
        ("metrics", sidecar.metrics().await?),
    ];
    for (place, text) in &places {
        for canary in ["canary-7f41", "Y2FuYXJ5LTdmNDEt"] {
            ensure!(!text.contains(canary), "{canary} is in the {place}");
        }
    }
    for line in [
        "CreateSecret",
        "UpdateSecret",
        "DeleteSecret",
        "secret read",
    ] {
        ensure!(places[3].1.contains(line), "no audit line of {line}");
    }
    let metrics = &places[5].1;
    ensure!(
        metrics.contains("zenop_secret_reads_total{outcome=\"Done\"}"),
        "{metrics}"
    );
    Ok(())
}

/// What the guide tells people to type.
#[tokio::test]
async fn the_guide_is_true_and_values_may_be_typed() -> Result<()> {
    site("secret-guide", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        declare_ana(site).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let ana = Person::user(address, "ana");
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("password.txt"), "canary-7f41-file")?;
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/secrets.md");
        let guide = std::fs::read_to_string(guide)?;
        let blocks = guide.split("```sh\n").skip(1);
        let blocks = blocks.filter_map(|block| block.split("```").next());
        let commands: Vec<&str> = blocks
            .flat_map(str::lines)
            .filter(|line| line.starts_with("zenml "))
            .collect();
        ensure!(commands.len() >= 8, "{commands:?}");
        for command in commands {
            ana.types(command, folder.path()).await?;
        }
        let exported = std::fs::read_to_string(folder.path().join("database.yaml"))?;
        ensure!(exported == "username: bob\n", "{exported}");

        // Somebody at a terminal, of whom it asks.
        let answers = json!([
            ["enter a secret key", "k1"],
            ["value for the key [k1]", "canary-7f41-typed"],
            ["add another", "y"],
            ["enter a secret key", "k2"],
            ["value for the key [k2]", "other"],
            ["add another", "n"],
        ]);
        let command =
            format!("python {HERE}/python/typed.py '{answers}' zenml secret create typed -i");
        let told = ana.types(&command, folder.path()).await?;
        ensure!(!told.contains("canary-7f41"), "{told}");
        let got = ana.does(&["get", "typed"]).await?;
        contains(&got, &["k1", "canary-7f41-typed", "k2", "other"], &[])?;

        // What a component refers to is not deleted, and it is told by whom.
        let refers = component("tracker", json!({"password": "{{typed.k1}}"}));
        site.apply(&refers).await?;
        let used = |secret: &ZenSecret| {
            let status = secret.status.as_ref();
            status.is_some_and(|status| status.used_by.count == 1)
        };
        let secrets = site.api::<ZenSecret>().list(&ListParams::default()).await?;
        let typed = secrets.iter().find(|secret| secret.zenml_name() == "typed");
        let typed = typed.context("no ZenSecret")?.name_any();
        site.until(&typed, "one that is used", used).await?;
        let told = "in use by ZenComponent tracker";
        ana.fails(&["delete", "typed", "--yes"], told).await?;
        drop(sidecar);
        Ok(())
    })
    .await
}

/// Requests of one who is logged in.
struct Caller<'a> {
    sidecar: &'a Sidecar,
    token: String,
}

impl Caller<'_> {
    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let path = format!("/api/v1/secrets{path}");
        self.sidecar.call(method, &path, &self.token, body).await
    }

    async fn make(&self, name: &str, value: &str) -> Result<String> {
        let body = json!({"name": name, "values": {"k": value}});
        let made = self.send("POST", "", &body).await?.expect(200)?.json()?;
        Ok(format!("/{}", made["id"].as_str().context("no id")?))
    }

    async fn read(&self, secret: &str) -> Result<Value> {
        let answer = self.send("GET", secret, &Value::Null).await?;
        Ok(answer.expect(200)?.json()?["body"]["values"].clone())
    }
}

/// The names that the pods of the server may read.
async fn readable(site: &Site) -> Result<Vec<String>> {
    let Some(role) = site.api::<Role>().get_opt("prod.secrets").await? else {
        return Ok(Vec::new());
    };
    let rules = role.rules.unwrap_or_default();
    for rule in &rules {
        ensure!(rule.verbs == ["get"], "{rule:?}");
        let names = rule.resource_names.as_ref();
        ensure!(
            names.is_some_and(|names| !names.is_empty()),
            "a right to all: {rule:?}"
        );
    }
    let names = rules.into_iter().filter_map(|rule| rule.resource_names);
    Ok(names.flatten().collect())
}

/// Who is told that a secret is made can read it, at any replica; and the right to it goes with it.
#[tokio::test]
async fn the_right_to_read_values_comes_and_goes_with_each_secret() -> Result<()> {
    site("secret-rights", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let token = one.token(&delivered(site, "main-key").await?).await?;
        let here = Caller {
            sidecar: &one,
            token: token.clone(),
        };
        let there = Caller {
            sidecar: &other,
            token,
        };
        let first = here.make("first", "one").await?;
        ensure!(here.read(&first).await? == json!({"k": "one"}));
        let second = there.make("second", "two").await?;
        for caller in [&here, &there] {
            let seen = async || {
                caller
                    .send("GET", &second, &Value::Null)
                    .await
                    .is_ok_and(|a| a.status == 200)
            };
            caller.sidecar.until("one that shows it", seen).await?;
        }
        let names = readable(site).await?;
        ensure!(names.len() == 2, "{names:?}");
        // A Secret of somebody else under the name that a ZenSecret wants is nobody's to read here.
        let foreign = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"},
            "stringData": {"k": "of somebody else"},
        });
        site.apply(&foreign).await?;
        let wants = json!([{"key": "k", "generate": {}}]);
        site.apply(&secret("theirs", wants)).await?;
        let refused = crate::support::stalled::<ZenSecret>("Conflict");
        site.until("theirs", "refused", refused).await?;
        // Nor is what is kept of generated values, or of one that is deleted.
        site.apply(&secret("drawn", json!([{"key": "k", "generate": {}}])))
            .await?;
        site.until::<ZenSecret>("drawn", "Ready", ready).await?;
        here.send("DELETE", &first, &Value::Null)
            .await?
            .expect(200)?;
        let wanted = async {
            loop {
                let names = readable(site).await?;
                let is_wanted = names.len() == 2 && names.iter().any(|name| name == "drawn");
                if is_wanted && !names.iter().any(|name| name.starts_with("first")) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, wanted)
            .await
            .context("the Role stays as it is")??;
        for secret in ["theirs", "drawn-generated"] {
            let names = readable(site).await?;
            ensure!(!names.iter().any(|name| name == secret), "{names:?}");
        }
        // Without any, no rule is left: one without names would be of all.
        here.send("DELETE", &second, &Value::Null)
            .await?
            .expect(200)?;
        site.delete::<ZenSecret>("drawn").await?;
        let none = async {
            while !readable(site).await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, none)
            .await
            .context("a name stays in the Role")??;
        // What is in conflict is asked for again and again.
        site.delete::<ZenSecret>("theirs").await?;
        site.settled().await
    })
    .await
}

/// Of any number of replicas and requests at once one makes a name; and what somebody else changed
/// in the object is theirs from then on.
#[tokio::test]
async fn of_many_who_make_a_secret_at_once_one_does() -> Result<()> {
    site("secret-races", async |site| {
        let operator = set_up(site, free_address()?, &[]).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let token = one.token(&delivered(site, "main-key").await?).await?;
        let both = [&one, &other].map(|sidecar| Caller {
            sidecar,
            token: token.clone(),
        });
        let body = |n: usize| json!({"name": "raced", "values": {"k": n.to_string()}});
        let attempts = (0..8).map(|n| {
            let (caller, body) = (&both[n % 2], body(n));
            async move { caller.send("POST", "", &body).await }
        });
        let answers = futures::future::try_join_all(attempts).await?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let winners: Vec<usize> = (0..8).filter(|n| statuses[*n] == 200).collect();
        ensure!(
            winners.len() == 1 && statuses.iter().filter(|s| **s == 409).count() == 7,
            "{statuses:?}"
        );
        let made = answers[winners[0]].json()?;
        let path = format!("/{}", made["id"].as_str().context("no id")?);
        ensure!(both[0].read(&path).await? == json!({"k": winners[0].to_string()}));
        // Each changes another key: none is lost.
        let changes = (0..6).map(|n| {
            let (caller, path) = (&both[n % 2], format!("{path}?patch_values=true"));
            let body = json!({"values": {(format!("k{n}")): n.to_string()}});
            async move { caller.send("PUT", &path, &body).await }
        });
        for answer in futures::future::try_join_all(changes).await? {
            answer.expect(200)?;
        }
        let seen = async || {
            both[0]
                .read(&path)
                .await
                .is_ok_and(|values| values.as_object().is_some_and(|v| v.len() == 7))
        };
        one.until("one that shows all", seen).await?;

        // Without an operator nothing is made, and nothing stays.
        operator.stop().await?;
        let new = json!({"name": "late", "values": {"k": "v"}});
        let late = both[0].send("POST", "", &new).await?.expect(500)?;
        ensure!(late.body.contains("Is it running?"), "{late:?}");
        let change = json!({"values": {"k": "changed"}});
        both[0].send("PUT", &path, &change).await?.expect(500)?;
        let left = site
            .api::<ZenSecret>()
            .list(&ListParams::default())
            .await?
            .items;
        ensure!(
            left.len() == 1,
            "{:?}",
            left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        );
        ensure!(
            left[0].spec.data.len() == 7,
            "the change was not taken back"
        );
        Ok(())
    })
    .await
}

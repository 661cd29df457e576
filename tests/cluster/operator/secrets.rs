//! Declared secrets: features.md D, on a real API server.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::api::{EntrySource, ZenSecret, condition, reason};

use crate::support::{
    Site, entry, message, ready, says, secret, server, site, stalled, waiting, with,
};

fn from(key: &str, name: &str, entry: &str) -> Value {
    json!({"key": key, "valueFrom": {"secretKeyRef": {"name": name, "key": entry}}})
}

fn drawn(key: &str, how: Value) -> Value {
    json!({"key": key, "generate": how})
}

/// A Secret that another controller keeps, with marks of its own.
fn theirs(password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "vault",
            "labels": {"argocd.argoproj.io/instance": "vault", "reconcile.external-secrets.io/managed": "true"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "theirs": "1"},
        },
        "stringData": {"user": "ana", "pass": password},
    })
}

/// The values of the Secret that is made of it.
async fn values(site: &Site, name: &str) -> Result<BTreeMap<String, String>> {
    let secret = site.api::<Secret>().get(name).await?;
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .map(|(name, bytes)| Ok((name, String::from_utf8(bytes.0)?)))
        .collect()
}

/// Waits until an entry of a Secret is as wanted.
async fn until(site: &Site, name: &str, key: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let is = |secret: &Secret| entry(secret, key).is_some_and(|value| wanted(&value));
    site.until(name, &format!("as wanted in {key}"), is)
        .await
        .map(drop)
}

/// The declared secret once it is Ready for its generation.
async fn settled(site: &Site, name: &str) -> Result<ZenSecret> {
    site.until(name, "Ready", ready).await
}

#[tokio::test]
async fn d1_values_come_from_other_tools_and_are_drawn() -> Result<()> {
    site("values", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let data = json!([
            from("username", "vault", "user"),
            from("password", "vault", "pass"),
            drawn("cookie", json!({"length": 48})),
        ]);
        let login = secret("mlflow-login", data);
        site.apply(&login).await?;
        let missing = waiting(reason::SOURCE_NOT_FOUND);
        let waits: ZenSecret = site.until("mlflow-login", "waiting", missing).await?;
        ensure!(message(&waits, condition::READY).contains("Secret vault"));
        ensure!(
            site.api::<Secret>()
                .get_opt("mlflow-login")
                .await?
                .is_none(),
            "half of it was delivered"
        );

        // Another controller makes it, and it is found without being asked for.
        let before = site.apply_as("their-controller", &theirs("first")).await?;
        let secret = settled(site, "mlflow-login").await?;
        let held = values(site, "mlflow-login").await?;
        ensure!(held["username"] == "ana" && held["password"] == "first");
        ensure!(held.len() == 3 && held["cookie"].len() == 48);
        let status = secret.status.as_ref().context("no status")?;
        let of = |name: &str| status.keys.iter().find(|key| key.name == name);
        let sources = ["username", "cookie"].map(|name| of(name).map(|key| key.source));
        ensure!(sources == [Some(EntrySource::ValueFrom), Some(EntrySource::Generated)]);
        ensure!(status.key_count == 3 && status.secret_name.as_deref() == Some("mlflow-login"));
        let shown = serde_json::to_string(&secret)?;
        for value in held.values().filter(|value| *value != "ana") {
            ensure!(!shown.contains(value), "a value is in the custom resource");
        }

        // Nothing of theirs is copied, and nothing of theirs is written.
        let made: Secret = site.api().get("mlflow-login").await?;
        let marks =
            [made.labels().keys(), made.annotations().keys()].map(Iterator::collect::<Vec<_>>);
        let marks = marks.concat();
        let foreign = |mark: &&&String| {
            !mark.starts_with("zenop.dev/") && !mark.starts_with("app.kubernetes.io/")
        };
        ensure!(!marks.iter().any(|mark| foreign(&mark)), "{marks:?}");
        let vault: Secret = site.api().get("vault").await?;
        ensure!(vault.metadata.resource_version == before.metadata.resource_version);

        // A change there arrives without being asked for, and here says which value it was.
        site.apply_as("their-controller", &theirs("second")).await?;
        until(site, "mlflow-login", "password", |value| value == "second").await?;
        let news = |secret: &ZenSecret| {
            let keys = secret.status.iter().flat_map(|status| &status.keys);
            let print = |key: &zenop::api::EntryStatus| (key.name.clone(), key.fingerprint.clone());
            keys.map(print).collect::<BTreeMap<_, _>>()
        };
        let old = news(&secret);
        let is_new = |secret: &ZenSecret| news(secret)["password"] != old["password"];
        let now = site.until("mlflow-login", "saying so", is_new).await?;
        let same = ["username", "cookie"]
            .iter()
            .all(|name| news(&now)[*name] == old[*name]);
        ensure!(same && values(site, "mlflow-login").await?["cookie"] == held["cookie"]);

        // What is not declared any more is not delivered any more.
        let fewer = json!([from("username", "vault", "user")]);
        site.apply(&with(login, "spec.data", fewer)).await?;
        let one = |secret: &ZenSecret| {
            ready(secret) && secret.status.as_ref().is_some_and(|s| s.key_count == 1)
        };
        site.until("mlflow-login", "of one entry", one).await?;
        ensure!(values(site, "mlflow-login").await?.len() == 1);
        ensure!(
            site.api::<Secret>()
                .get_opt("mlflow-login-generated")
                .await?
                .is_none()
        );
        site.settled().await
    })
    .await
}

#[tokio::test]
async fn d14_a_drawn_value_stays_until_another_is_asked_for() -> Result<()> {
    site("drawn", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let how = |trigger: &str| json!({"alphabet": "Hex", "rotation": {"trigger": trigger}});
        let of = |trigger: &str| secret("token", json!([drawn("token", how(trigger))]));
        site.apply(&of("1")).await?;
        settled(site, "token").await?;
        let first = values(site, "token").await?["token"].clone();
        ensure!(first.len() == 32 && first.bytes().all(|c| b"0123456789abcdef".contains(&c)));
        let is_first = |value: &str| value == first;

        // Deleted, changed, and what it is kept in deleted: it comes back the same.
        let uid = site.api::<Secret>().get("token").await?.uid().context("no uid")?;
        site.delete::<Secret>("token").await?;
        site.until_gone::<Secret>("token", &uid).await?;
        until(site, "token", "token", is_first).await?;
        site.told("SecretRepaired").await?;
        let edited = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"token": "x"},
        });
        site.apply_as("somebody", &edited).await?;
        until(site, "token", "token", is_first).await?;
        site.delete::<Secret>("token-generated").await?;
        until(site, "token-generated", "token", is_first).await?;

        // Nothing that the operator forgets makes it draw another.
        site.settled().await?;
        let mut status = site
            .dynamic(&crate::support::site::resource("zenop.dev/v1alpha1", "ZenSecret"))
            .get("token")
            .await?;
        status.data["status"] = json!({"observedGeneration": -1});
        let api = site.dynamic(&crate::support::site::resource("zenop.dev/v1alpha1", "ZenSecret"));
        api.replace_status("token", &Default::default(), &status).await?;
        settled(site, "token").await?;
        operator.stop().await?;
        let operator = site.operator().await?;
        site.settled().await?;
        ensure!(values(site, "token").await?["token"] == first, "a restart drew another");

        // Asked to, it draws one other.
        site.apply(&of("2")).await?;
        until(site, "token", "token", |value| value != first && value.len() == 32).await?;
        let second = values(site, "token").await?["token"].clone();
        settled(site, "token").await?;
        site.settled().await?;
        let unasked = with(of("2"), "spec.data", json!([drawn("token", json!({"length": 64}))]));
        site.apply(&unasked).await?;
        settled(site, "token").await?;
        site.apply(&of("2")).await?;
        settled(site, "token").await?;
        site.settled().await?;
        ensure!(values(site, "token").await?["token"] == second, "drawn without being asked");

        // Lost in both places it is not replaced in silence.
        operator.stop().await?;
        for name in ["token", "token-generated"] {
            let uid = site.api::<Secret>().get(name).await?.uid().context("no uid")?;
            site.delete::<Secret>(name).await?;
            site.until_gone::<Secret>(name, &uid).await?;
        }
        let operator = site.operator().await?;
        let lost: ZenSecret = site.until("token", "stalled", stalled(reason::SECRET_LOST)).await?;
        ensure!(message(&lost, condition::STALLED).contains("rotation.trigger"));
        ensure!(site.api::<Secret>().get_opt("token").await?.is_none());
        site.apply(&of("3")).await?;
        until(site, "token", "token", |value| value != first && value != second).await?;
        settled(site, "token").await?;
        operator.stop().await
    })
    .await
}

#[tokio::test]
async fn d10_what_others_changed_is_reported_where_that_is_asked_for() -> Result<()> {
    site("report", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&theirs("first")).await?;
        let of = |policy: &str| {
            let login = secret("login", json!([from("password", "vault", "pass")]));
            with(login, "spec.driftPolicy", json!(policy))
        };
        site.apply(&of("Report")).await?;
        settled(site, "login").await?;
        let edited = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"password": "x"},
        });
        site.apply_as("somebody", &edited).await?;
        let drifted = says::<ZenSecret>(condition::DRIFTED, "True", reason::DRIFTED);
        let told = site.until("login", "drifted", drifted).await?;
        ensure!(message(&told, condition::DRIFTED).contains("changed password in Secret login"));
        ensure!(values(site, "login").await?["password"] == "x", "it was repaired");

        // Of what they deleted, too.
        site.delete::<Secret>("login").await?;
        let deleted = |secret: &ZenSecret| message(secret, condition::DRIFTED).contains("deleted Secret login");
        site.until("login", "deleted", deleted).await?;

        site.apply(&of("Repair")).await?;
        let secret = settled(site, "login").await?;
        ensure!(message(&secret, condition::DRIFTED).is_empty());
        ensure!(values(site, "login").await?["password"] == "first");
        // What changes where it comes from is no drift.
        site.apply(&of("Report")).await?;
        settled(site, "login").await?;
        site.apply(&theirs("second")).await?;
        until(site, "login", "password", |value| value == "second").await?;
        ensure!(ready(&settled(site, "login").await?));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn d7_a_secret_of_somebody_else_is_left_alone_or_taken_over_as_asked() -> Result<()> {
    site("foreign", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let foreign = |annotations: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token", "annotations": annotations},
                "stringData": {"token": "from a backup", "theirs": "1"},
            })
        };
        let before = site.apply(&foreign(json!({}))).await?;
        let token = secret("token", json!([drawn("token", json!({}))]));
        site.apply(&token).await?;
        let refused: ZenSecret = site.until("token", "refused", stalled(reason::CONFLICT)).await?;
        ensure!(message(&refused, condition::CONFLICT).contains("Secret token exists"));
        let now: Secret = site.api().get("token").await?;
        ensure!(now.metadata.resource_version == before.metadata.resource_version);
        ensure!(site.api::<Secret>().get_opt("token-generated").await?.is_none());

        let marked = foreign(json!({"zenop.dev/adopt": format!("{}/token", site.name())}));
        site.apply(&marked).await?;
        site.apply(&with(token, "spec.adoption", json!("IfUnowned"))).await?;
        settled(site, "token").await?;
        let held = values(site, "token").await?;
        ensure!(held["token"] == "from a backup" && held["theirs"] == "1", "{held:?}");
        ensure!(values(site, "token-generated").await?["token"] == "from a backup");
        site.settled().await
    })
    .await
}

#[tokio::test]
async fn d11_what_is_immutable_stays_and_what_cannot_be_is_refused() -> Result<()> {
    site("bounds", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&theirs("first")).await?;
        let fixed = secret("fixed", json!([from("password", "vault", "pass")]));
        let fixed = with(fixed, "spec.immutable", json!(true));
        site.apply(&fixed).await?;
        settled(site, "fixed").await?;
        let made: Secret = site.api().get("fixed").await?;
        ensure!(made.immutable == Some(true));
        let other = with(
            fixed.clone(),
            "spec.data",
            json!([from("password", "vault", "user")]),
        );
        let refused = site.apply(&other).await.err().context("it changed")?;
        ensure!(format!("{refused:#}").contains("an immutable secret cannot change"));
        let thawed = with(fixed, "spec.immutable", json!(false));
        ensure!(site.apply(&thawed).await.is_err(), "it can be thawed");
        site.apply(&theirs("second")).await?;
        site.until("fixed", "stalled", stalled::<ZenSecret>(reason::IMMUTABLE))
            .await?;
        ensure!(values(site, "fixed").await?["password"] == "first");

        let refusals = [
            (json!([{"key": "a"}]), "exactly one of"),
            (
                json!([{"key": "a", "value": "plaintext"}]),
                "not declared in schema",
            ),
            (
                json!([drawn("a", json!({})), drawn("a", json!({}))]),
                "uplicate",
            ),
            (json!([drawn("a b", json!({}))]), "should match"),
            (
                json!([drawn("a", json!({"length": 7}))]),
                "greater than or equal to 8",
            ),
            (
                json!([drawn("a", json!({"rotation": {"interval": "59m"}}))]),
                "at least 1h",
            ),
            (
                (0..65)
                    .map(|n| drawn(&format!("a{n}"), json!({})))
                    .collect(),
                "at most 64",
            ),
        ];
        for (data, told) in refusals {
            let refused = site.apply(&secret("bad", data.clone())).await;
            let refused = refused.err().with_context(|| format!("{data} was taken"))?;
            ensure!(
                format!("{refused:#}").contains(told),
                "{refused:#} instead of {told}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_no_source_is_named() -> Result<()> {
    site("sources", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let of_service_account = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
            "stringData": {"token": "t"},
        });
        site.apply(&of_service_account).await?;
        let large = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "large"},
            "stringData": {"a": "x".repeat(300 * 1024), "b": "x".repeat(300 * 1024)},
        });
        site.apply(&large).await?;
        let own = with(
            secret("own", json!([from("a", "own-source", "a")])),
            "spec.target",
            json!({"secretName": "own-source"}),
        );
        let cases = [
            (secret("sa", json!([from("a", "token", "token")])), reason::SOURCE_INVALID, "Kubernetes token"),
            (secret("pepper", json!([from("a", "prod-auth", "pepper")])), reason::SOURCE_INVALID, "zenop made"),
            (secret("big", json!([from("a", "large", "a"), from("b", "large", "b")])), reason::SOURCE_INVALID, "524288"),
            (own, reason::INVALID_SPEC, "spec.target.secretName"),
        ];
        for (object, reason, told) in cases {
            let name = object["metadata"]["name"].as_str().context("no name")?.to_owned();
            site.apply(&object).await?;
            let refused: ZenSecret = site.until(&name, told, stalled(reason)).await?;
            ensure!(message(&refused, condition::STALLED).contains(told), "{name}");
            ensure!(site.api::<Secret>().get_opt(&name).await?.is_none(), "{name} was delivered");
        }
        // What is put right is seen without being told of.
        let smaller = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "large"}, "stringData": {"a": "a", "b": "b"},
        });
        site.apply(&smaller).await?;
        settled(site, "big").await?;
        // Two that wait for each other wait, and say so.
        let a = secret("a", json!([from("x", "b", "x")]));
        let b = secret("b", json!([from("x", "a", "x")]));
        site.apply(&a).await?;
        site.apply(&b).await?;
        for name in ["a", "b"] {
            site.until(name, "waiting", waiting::<ZenSecret>(reason::SOURCE_NOT_FOUND)).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_secret_moves_pauses_and_goes_with_its_declaration() -> Result<()> {
    crate::support::site::garbage_collector().await?;
    site("moves", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let token = secret("token", json!([drawn("token", json!({}))]));
        site.apply(&token).await?;
        settled(site, "token").await?;
        let first = values(site, "token").await?["token"].clone();
        let uid = site.api::<Secret>().get("token").await?.uid().context("no uid")?;

        let template = json!({"type": "example.org/token", "labels": {"team": "a"}, "annotations": {"x": "y"}});
        let target = json!({"secretName": "elsewhere", "secretTemplate": template});
        let moved = with(token, "spec.target", target);
        site.apply(&moved).await?;
        until(site, "elsewhere", "token", |value| value == first).await?;
        site.until_gone::<Secret>("token", &uid).await?;
        let made: Secret = site.api().get("elsewhere").await?;
        ensure!(made.type_.as_deref() == Some("example.org/token"));
        ensure!(made.labels()["team"] == "a" && made.annotations()["x"] == "y");

        let paused = with(moved.clone(), "metadata.annotations", json!({"zenop.dev/paused": "true"}));
        site.apply(&paused).await?;
        let says_so = says::<ZenSecret>(condition::PAUSED, "True", reason::PAUSED);
        let object = site.until("token", "paused", says_so).await?;
        ensure!(ready(&object), "what was delivered is not Ready any more");
        let uid = made.uid().context("no uid")?;
        site.delete::<Secret>("elsewhere").await?;
        site.until_gone::<Secret>("elsewhere", &uid).await?;
        site.settled().await?;
        ensure!(site.api::<Secret>().get_opt("elsewhere").await?.is_none(), "repaired while paused");
        site.apply(&moved).await?;
        until(site, "elsewhere", "token", |value| value == first).await?;

        let made: Secret = site.api().get("elsewhere").await?;
        site.delete::<ZenSecret>("token").await?;
        site.until_gone::<Secret>("elsewhere", &made.uid().context("no uid")?).await
    })
    .await
}

/// What docs/guides/secrets.md says, with its own commands and example.
#[tokio::test]
async fn the_guide_is_true() -> Result<()> {
    site("guide", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let example = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/secrets/mlflow-login.yaml"
        );
        let literals = [
            "--from-literal=user=ana",
            "--from-literal=pass=s3cret-from-elsewhere",
        ];
        let create = ["create", "secret", "generic", "mlflow-basic-auth"];
        site.kubectl(&[&create[..], &literals].concat()).await?;
        site.kubectl(&["apply", "-f", example]).await?;
        let ready = [
            "zensecret/mlflow-login",
            "--for=condition=Ready",
            "--timeout=90s",
        ];
        site.kubectl(&[&["wait"][..], &ready].concat()).await?;
        let table = site.kubectl(&["get", "zensecret", "mlflow-login"]).await?;
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        ensure!(
            lines[0]
                == [
                    "NAME", "READY", "SCOPE", "KEYS", "USEDBY", "SECRET", "CHANGED", "AGE"
                ],
            "{table}"
        );
        ensure!(
            lines[1][..6]
                == [
                    "mlflow-login",
                    "True",
                    "Workspace",
                    "3",
                    "0",
                    "mlflow-login"
                ],
            "{table}"
        );
        let path = "jsonpath={range .status.keys[*]}{.name} {.source} {.fingerprint}{\"\\n\"}{end}";
        let keys = site
            .kubectl(&["get", "zensecret", "mlflow-login", "-o", path])
            .await?;
        let names: Vec<_> = keys
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .collect();
        let expected = [
            "cookie Generated",
            "password ValueFrom",
            "username ValueFrom",
        ];
        ensure!(names.iter().map(|(name, _)| *name).eq(expected), "{keys}");
        ensure!(names.iter().all(|(_, print)| print.len() == 16), "{keys}");
        Ok(())
    })
    .await
}

//! Components whose attributes refer to secrets: features.md E, on a real API server.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::api::{
    ReferenceState, SecretScope, ValidationLevel, ZenComponent, ZenSecret, condition, reason,
};

use crate::support::{
    Operator, Site, component, entry, message, ready, says, secret, server, site, stalled, waiting,
    with,
};

/// The Secret of another tool with these values.
pub fn vault(values: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault"}, "stringData": values,
    })
}

/// A ZenSecret with these entries of Secret `vault`.
pub fn login(name: &str, keys: &[&str]) -> Value {
    let from = |key: &&str| json!({"key": key, "valueFrom": {"secretKeyRef": {"name": "vault", "key": key}}});
    secret(name, keys.iter().map(from).collect())
}

/// What the first attribute refers to leads to.
fn state(component: &ZenComponent) -> Option<ReferenceState> {
    let status = component.status.as_ref()?;
    Some(status.references.first()?.state)
}

fn resolved(component: &ZenComponent) -> bool {
    ready(component) && says(condition::REFERENCES_RESOLVED, "True", reason::RESOLVED)(component)
}

async fn entries(site: &Site, name: &str) -> Result<Vec<(String, String)>> {
    let secret: Secret = site.api().get(name).await?;
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .map(|(name, bytes)| Ok((name, String::from_utf8(bytes.0)?)))
        .collect()
}

/// A component with references at many places.
fn tracker() -> Value {
    let attributes = json!({
        "tracking_uri": "https://mlflow.example.org",
        "tracking_username": "{{login.user}}", "tracking_password": "{{ login.pass }}",
    });
    let nested = json!({
        "headers": [{"name": "x-token", "value": "{{login.pass}}"}, "plain"], "port": 443,
        "odd name": {"a/b": "{{login.user}}"},
    });
    let tracker = component("tracker", attributes);
    with(tracker, "spec.attributesJSON", json!(nested.to_string()))
}

#[tokio::test]
async fn e1_any_order_of_apply_ends_with_resolved_attributes() -> Result<()> {
    site("order", async |site| {
        let _operator = site.operator().await?;
        site.apply(&tracker()).await?;
        let no_server = waiting::<ZenComponent>(reason::SERVER_NOT_FOUND);
        site.until("tracker", "waiting for the server", no_server)
            .await?;
        site.apply(&server("prod")).await?;
        let missing = waiting::<ZenComponent>(reason::SECRET_MISSING);
        let waits = site
            .until("tracker", "waiting for the secret", missing)
            .await?;
        let said = message(&waits, condition::REFERENCES_RESOLVED);
        ensure!(
            said.starts_with("/headers/0/value: {{login.pass}}: there is no secret login"),
            "{said}"
        );
        ensure!(
            said.ends_with("and 3 more, see status.references"),
            "{said}"
        );
        site.apply(&login("login", &["user", "pass"])).await?;
        let keyless = waiting::<ZenComponent>(reason::KEY_MISSING);
        let waits = site
            .until("tracker", "waiting for the key", keyless)
            .await?;
        let said = message(&waits, condition::READY);
        ensure!(
            said.contains("see kubectl describe zensecret login"),
            "{said}"
        );
        ensure!(
            site.api::<Secret>()
                .get_opt("tracker-attributes")
                .await?
                .is_none()
        );
        site.apply(&vault(json!({"user": "ana", "pass": "{{login.user}}"})))
            .await?;
        site.apply(&with(
            login("login", &["user", "pass"]),
            "metadata.annotations",
            json!({"look": "now"}),
        ))
        .await?;
        let tracker = site.until("tracker", "resolved", resolved).await?;

        check_tracker(site, &tracker).await?;

        // What somebody changes in it is put right, and at rest nothing is written.
        let edited = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tracker-attributes"},
            "stringData": {"tracking_username": "x"},
        });
        site.apply_as("somebody", &edited).await?;
        let is_ana = |secret: &Secret| entry(secret, "tracking_username").as_deref() == Some("ana");
        site.until("tracker-attributes", "as it was", is_ana)
            .await?;
        site.settled().await
    })
    .await
}

/// What becomes of the component of `e1`.
async fn check_tracker(site: &Site, tracker: &ZenComponent) -> Result<()> {
    let held = entries(site, "tracker-attributes").await?;
    let names: Vec<&str> = held.iter().map(|(name, _)| &**name).collect();
    let wanted = [
        "attributes.json",
        "headers",
        "port",
        "tracking_password",
        "tracking_uri",
        "tracking_username",
    ];
    ensure!(names == wanted, "{names:?}");
    let of = |name: &str| {
        held.iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    };
    ensure!(of("tracking_username") == "ana" && of("port") == "443");
    // A value is a value, whatever it looks like.
    ensure!(of("tracking_password") == "{{login.user}}");
    let whole: Value = serde_json::from_str(of("attributes.json"))?;
    let expected = json!({
        "headers": [{"name": "x-token", "value": "{{login.user}}"}, "plain"], "port": 443,
        "odd name": {"a/b": "ana"}, "tracking_uri": "https://mlflow.example.org",
        "tracking_username": "ana", "tracking_password": "{{login.user}}",
    });
    ensure!(whole == expected, "{whole}");
    let status = tracker.status.as_ref().context("no status")?;
    let paths: Vec<_> = status.references.iter().map(|r| &*r.path).collect();
    let wanted = [
        "/headers/0/value",
        "/odd name/a~1b",
        "/tracking_password",
        "/tracking_username",
    ];
    ensure!(paths == wanted, "{paths:?}");
    ensure!(
        status
            .references
            .iter()
            .all(|r| r.scope == Some(SecretScope::Workspace))
    );
    ensure!(
        status.secret_name.as_deref() == Some("tracker-attributes") && status.reference_count == 4
    );
    Ok(())
}

#[tokio::test]
async fn e4_a_component_follows_what_becomes_of_its_secret() -> Result<()> {
    site("follows", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana", "pass": "first"})))
            .await?;
        site.apply(&login("login", &["user", "pass"])).await?;
        site.apply(&component("tracker", json!({"password": "{{login.pass}}"})))
            .await?;
        site.until("tracker", "resolved", resolved).await?;
        let is = |value: &'static str| {
            move |secret: &Secret| entry(secret, "password").as_deref() == Some(value)
        };
        site.until("tracker-attributes", "first", is("first"))
            .await?;
        let used = |count: i32| {
            move |secret: &ZenSecret| {
                secret.status.as_ref().is_some_and(|s| {
                    s.used_by.count == count
                        && s.used_by.refs.len() == usize::try_from(count).unwrap_or_default()
                })
            }
        };
        let login_used: ZenSecret = site.until("login", "used", used(1)).await?;
        let by = &login_used
            .status
            .as_ref()
            .context("no status")?
            .used_by
            .refs[0];
        ensure!((&*by.kind, &*by.name) == ("ZenComponent", "tracker"));

        // The value.
        site.apply(&vault(json!({"user": "ana", "pass": "second"})))
            .await?;
        site.until("tracker-attributes", "second", is("second"))
            .await?;

        // The key goes and comes; the Secret stays meanwhile.
        site.apply(&login("login", &["user"])).await?;
        let keyless = |c: &ZenComponent| state(c) == Some(ReferenceState::KeyMissing);
        let broken = site.until("tracker", "without its key", keyless).await?;
        let said = message(&broken, condition::READY);
        ensure!(
            said.contains("/password: {{login.pass}}: the secret has no key pass"),
            "{said}"
        );
        site.told(reason::KEY_MISSING).await?;
        is_there(site, "tracker-attributes", is("second")).await?;
        site.apply(&login("login", &["user", "pass"])).await?;
        site.until("tracker", "resolved", resolved).await?;

        // Its name in ZenML.
        let renamed = with(
            login("login", &["user", "pass"]),
            "spec.name",
            json!("other"),
        );
        site.apply(&renamed).await?;
        let gone = |c: &ZenComponent| state(c) == Some(ReferenceState::SecretMissing);
        site.until("tracker", "without its secret", gone).await?;
        site.until("login", "unused", used(0)).await?;
        site.apply(&component("tracker", json!({"password": "{{other.pass}}"})))
            .await?;
        site.until("tracker", "resolved", resolved).await?;
        site.until("login", "used", used(1)).await?;

        let _operator = restarts(site, operator).await?;

        // The secret itself; forced, as it is in use.
        let forced = with(
            renamed,
            "metadata.annotations",
            json!({"zenop.dev/force": "true"}),
        );
        let uid = site.apply(&forced).await?.uid().context("no uid")?;
        site.delete::<ZenSecret>("login").await?;
        site.until_gone::<ZenSecret>("login", &uid).await?;
        site.until("tracker", "without its secret", gone).await?;
        is_there(site, "tracker-attributes", is("second")).await
    })
    .await
}

/// A restart writes nothing, and knows who refers to what.
async fn restarts(site: &Site, operator: Operator) -> Result<Operator> {
    site.settled().await?;
    operator.stop().await?;
    let mark = site.proxy.mark();
    let operator = site.operator().await?;
    site.settled().await?;
    let written = site
        .proxy
        .since(mark, &zenop_cluster::fault::Match::writes());
    let written: Vec<_> = written
        .iter()
        .filter(|call| call.resource != "leases")
        .collect();
    ensure!(written.is_empty(), "{written:?}");
    Ok(operator)
}

async fn is_there(site: &Site, name: &str, is: impl Fn(&Secret) -> bool) -> Result<()> {
    let secret: Secret = site.api().get(name).await?;
    ensure!(is(&secret), "Secret {name} is another");
    Ok(())
}

#[tokio::test]
async fn e5_ones_own_comes_first_and_anothers_is_as_if_it_were_not() -> Result<()> {
    site("scopes", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"mine": "m", "shared": "s"})))
            .await?;
        let private = with(login("anas", &["mine"]), "spec.name", json!("login"));
        let private = with(private, "spec.scope", json!("User"));
        let private = with(private, "spec.ownerRef", json!({"name": "ana"}));
        site.apply(&private).await?;
        site.until("anas", "Ready", ready::<ZenSecret>).await?;
        let of = |name: &str, owner: Option<&str>, reference: &str| {
            let it = component(name, json!({"a": reference}));
            match owner {
                Some(owner) => with(it, "spec.ownerRef", json!({"name": owner})),
                None => it,
            }
        };
        site.apply(&of("anas", Some("ana"), "{{login.mine}}"))
            .await?;
        site.apply(&of("bens", Some("ben"), "{{login.mine}}"))
            .await?;
        site.apply(&of("none", None, "{{nothing.mine}}")).await?;
        let found = site.until("anas", "resolved", resolved).await?;
        let scope = found
            .status
            .as_ref()
            .and_then(|s| s.references.first()?.scope);
        ensure!(scope == Some(SecretScope::User));
        // What is another's and what is not there read the same, word by word.
        let missing = || waiting::<ZenComponent>(reason::SECRET_MISSING);
        let bens = site.until("bens", "without", missing()).await?;
        let none = site.until("none", "without", missing()).await?;
        let said = |c: &ZenComponent| message(c, condition::READY);
        ensure!(
            said(&bens) == said(&none).replace("nothing", "login"),
            "{} {}",
            said(&bens),
            said(&none)
        );
        let shape = |c: &ZenComponent| {
            let mut status = serde_json::to_value(&c.status).unwrap_or_default();
            status["references"][0]["secret"] = json!("");
            status["references"].clone()
        };
        ensure!(shape(&bens) == shape(&none));

        // One of the workspace answers all but ana, and its own go on as they are.
        let shared = with(login("shared", &["shared"]), "spec.name", json!("login"));
        site.apply(&shared).await?;
        let keyless = |c: &ZenComponent| state(c) == Some(ReferenceState::KeyMissing);
        site.until("bens", "without the key", keyless).await?;
        site.apply(&of("bens", Some("ben"), "{{login.shared}}"))
            .await?;
        site.until("bens", "resolved", resolved).await?;
        site.apply(&of("anas", Some("ana"), "{{login.shared}}"))
            .await?;
        site.until("anas", "without the key", keyless).await?;

        // A change of scope is seen at once.
        site.apply(&with(shared, "spec.name", json!("elsewhere")))
            .await?;
        site.until("bens", "without", missing()).await?;
        site.apply(&of("bens", Some("ben"), "{{login.mine}}"))
            .await?;
        site.apply(&with(private, "spec.scope", json!("Workspace")))
            .await?;
        site.until("bens", "resolved", resolved).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn e2_references_are_held_to_the_level_of_component_or_server() -> Result<()> {
    site("levels", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana"}))).await?;
        site.apply(&login("login", &["user"])).await?;
        let of = |name: &str, level: Option<ValidationLevel>, reference: &str| {
            let it = component(name, json!({"a": reference}));
            match level {
                Some(level) => with(it, "spec.validationLevel", json!(level)),
                None => it,
            }
        };
        let levels = [
            ("default", None, [false, false]),
            ("none", Some(ValidationLevel::None), [true, true]),
            ("exists", Some(ValidationLevel::SecretExists), [false, true]),
            (
                "both",
                Some(ValidationLevel::SecretAndKeyExists),
                [false, false],
            ),
        ];
        for (name, level, _) in levels {
            site.apply(&of(&format!("{name}-secret"), level, "{{x.y}}"))
                .await?;
            site.apply(&of(&format!("{name}-key"), level, "{{login.y}}"))
                .await?;
        }
        for (name, _, passes) in levels {
            for (what, passes) in ["secret", "key"].into_iter().zip(passes) {
                let told = move |c: &ZenComponent| match passes {
                    true => ready(c) && state(c) == Some(ReferenceState::Unchecked),
                    false => waiting(reason::SECRET_MISSING)(c) || waiting(reason::KEY_MISSING)(c),
                };
                site.until(&format!("{name}-{what}"), "judged", told)
                    .await?;
            }
        }
        ensure!(
            site.api::<Secret>()
                .get_opt("none-key-attributes")
                .await?
                .is_none()
        );
        // Whatever the level, what can be resolved is delivered.
        site.apply(&of(
            "none-key",
            Some(ValidationLevel::None),
            "{{login.user}}",
        ))
        .await?;
        site.until("none-key", "resolved", resolved).await?;

        let lax = with(
            server("prod"),
            "spec.policy",
            json!({"secretValidation": "None"}),
        );
        site.apply(&lax).await?;
        site.until("default-secret", "Ready", ready::<ZenComponent>)
            .await?;
        site.until(
            "both-secret",
            "not",
            waiting::<ZenComponent>(reason::SECRET_MISSING),
        )
        .await
        .map(drop)
    })
    .await
}

#[tokio::test]
async fn e7_what_is_no_reference_is_refused_with_its_place() -> Result<()> {
    site("malformed", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let refused = async |object: &Value, why: &str| {
            let refused = site.apply(object).await.err().context("it was taken")?;
            let said = format!("{refused:#}");
            ensure!(said.contains(why), "{said}");
            anyhow::Ok(())
        };
        let part = |text: &str| component("tracker", json!({"a": text}));
        for text in ["{{a.b", "x {{a.b}}", "{{a}}", "{{a.b}} ", "{{a b.c}}"] {
            refused(&part(text), "a reference must be the whole value").await?;
        }
        refused(
            &component("tracker", json!({"a b": "x"})),
            "name of an attribute",
        )
        .await?;
        refused(
            &component("tracker", json!({"attributes.json": "x"})),
            "name of an attribute",
        )
        .await?;
        let tracker = component("tracker", json!({"a": "1"}));
        refused(
            &with(tracker.clone(), "spec.type", json!("stack")),
            "Unsupported value",
        )
        .await?;
        site.apply(&tracker).await?;
        refused(
            &with(tracker.clone(), "spec.type", json!("alerter")),
            "type cannot change",
        )
        .await?;
        refused(
            &with(tracker.clone(), "spec.serverRef", json!({"name": "x"})),
            "serverRef cannot",
        )
        .await?;

        let with_json = |text: &str| with(tracker.clone(), "spec.attributesJSON", json!(text));
        site.apply(&with_json(r#"{"n": [{"uri": "https://{{a.b}}/"}]}"#))
            .await?;
        let malformed = stalled::<ZenComponent>(reason::MALFORMED_REFERENCE);
        let told = site.until("tracker", "malformed", malformed).await?;
        let said = message(&told, condition::STALLED);
        ensure!(
            said.starts_with("/n/0/uri, column 9: a reference must be the whole value"),
            "{said}"
        );
        ensure!(state(&told) == Some(ReferenceState::Malformed));
        for (text, why) in [
            ("{not json", "spec.attributesJSON cannot be read"),
            (r#"{"b": 1, "b": 2}"#, "twice"),
            (r#"{"a": "2"}"#, "attribute a is both"),
        ] {
            site.apply(&with_json(text)).await?;
            let invalid = |c: &ZenComponent| {
                stalled(reason::INVALID_SPEC)(c) && message(c, condition::STALLED).contains(why)
            };
            site.until("tracker", "invalid", invalid).await?;
        }
        let many = vec!["{{a.b}}"; 65];
        site.apply(&with_json(&json!({"many": many}).to_string()))
            .await?;
        let told = |c: &ZenComponent| {
            message(c, condition::STALLED).contains("65 references, and may hold 64")
        };
        site.until("tracker", "too many", told).await?;
        site.apply(&tracker).await?;
        site.until("tracker", "Ready", ready::<ZenComponent>)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn d7_the_secret_of_a_component_takes_nobodys_place() -> Result<()> {
    site("place", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let foreign = |annotations: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "tracker-attributes", "annotations": annotations},
                "stringData": {"a": "theirs", "b": "kept"},
            })
        };
        let before = site.apply(&foreign(json!({}))).await?;
        let tracker = component("tracker", json!({"a": "ours"}));
        site.apply(&tracker).await?;
        site.until(
            "tracker",
            "in conflict",
            stalled::<ZenComponent>(reason::CONFLICT),
        )
        .await?;
        let now: Secret = site.api().get("tracker-attributes").await?;
        ensure!(now.metadata.resource_version == before.metadata.resource_version);
        let marked = json!({"zenop.dev/adopt": format!("{}/tracker", site.name())});
        site.apply(&foreign(marked)).await?;
        site.apply(&with(tracker.clone(), "spec.adoption", json!("IfUnowned")))
            .await?;
        site.until("tracker", "Ready", ready::<ZenComponent>)
            .await?;
        let held = entries(site, "tracker-attributes").await?;
        ensure!(
            held.iter()
                .any(|(name, value)| name == "a" && value == "ours"),
            "{held:?}"
        );

        // Under another name, the old one goes; and with the component, the last.
        let old: Secret = site.api().get("tracker-attributes").await?;
        site.apply(&with(
            tracker,
            "spec.target",
            json!({"secretName": "elsewhere"}),
        ))
        .await?;
        let made = |secret: &Secret| entry(secret, "a").as_deref() == Some("ours");
        site.until("elsewhere", "made", made).await?;
        site.until_gone::<Secret>("tracker-attributes", &old.uid().context("no uid")?)
            .await
    })
    .await
}

/// Of a thousand components that refer to a secret each is judged anew once that changes.
#[tokio::test]
async fn e4_a_thousand_components_follow_one_secret() -> Result<()> {
    site("thousand", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&vault(json!({"user": "ana", "pass": "first"})))
            .await?;
        site.apply(&login("login", &["user", "pass"])).await?;
        let all = || (0..1000).map(|n| format!("c{n}"));
        let made = stream::iter(all().map(|name| async move {
            let it = component(&name, json!({"password": "{{login.pass}}"}));
            site.apply(&it).await.map(drop)
        }));
        made.buffer_unordered(32).try_collect::<()>().await?;
        for name in all() {
            site.until(&name, "resolved", resolved).await?;
        }
        let counted = |secret: &ZenSecret| {
            let used = secret
                .status
                .as_ref()
                .map(|s| (s.used_by.count, s.used_by.refs.len()));
            used == Some((1000, 20))
        };
        site.until("login", "used", counted).await?;
        site.apply(&login("login", &["user"])).await?;
        for name in all() {
            let keyless = |c: &ZenComponent| state(c) == Some(ReferenceState::KeyMissing);
            site.until(&name, "without its key", keyless).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_guide_is_true() -> Result<()> {
    site("guide-refs", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/components/tracker.yaml");
        let create = ["create", "secret", "generic", "mlflow-basic-auth", "--from-literal=user=ana"];
        site.kubectl(&create).await?;
        site.kubectl(&["apply", "-f", example]).await?;
        let wait = async |what: &str| {
            let goal = format!("--for=condition={what}");
            site.kubectl(&["wait", "zencomponent/tracker", &goal, "--timeout=90s"]).await
        };
        wait("ReferencesResolved=False").await?;
        let keyless = waiting::<ZenComponent>(reason::KEY_MISSING);
        site.until("tracker", "without a key", keyless).await?;
        let table = site.kubectl(&["get", "zencomponent", "tracker"]).await?;
        let lines = table.lines().map(|line| line.split_whitespace().collect());
        let lines: Vec<Vec<&str>> = lines.collect();
        let heads = ["NAME", "READY", "TYPE", "FLAVOR", "REFS", "RESOLVED", "AGE"];
        ensure!(lines[0] == heads, "{table}");
        let cells = ["tracker", "False", "experiment_tracker", "mlflow", "2", "False"];
        ensure!(lines[1][..6] == cells, "{table}");
        let greets = |secret: &Secret| entry(secret, "greeting").as_deref() == Some("logs in as ana");
        site.until("mlflow-login", "greeting", greets).await?;

        let zen = async |arguments: &[&str]| {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-zen"));
            command.args(["--namespace", site.name()]).args(arguments);
            let output = command.env("KUBECONFIG", site.plane.kubeconfig()).output().await?;
            let said = String::from_utf8(output.stdout)?;
            anyhow::Ok((output.status.code(), said, String::from_utf8(output.stderr)?))
        };
        let (code, said, _) = zen(&["component", "refs", "tracker"]).await?;
        let expected = "\
PATH                 REFERENCE                   SCOPE       STATE        REMEDY
/tracking_password   {{mlflow-login.password}}   Workspace   KeyMissing   kubectl zen stack register-secrets tracker
/tracking_username   {{mlflow-login.username}}   Workspace   Resolved     -
";
        ensure!(code == Some(1) && said == expected, "{said}");
        let values = ["--values", "mlflow-login.password: s3cret"];
        let register = [&["stack", "register-secrets", "tracker", "--wait"][..], &values].concat();
        site.sealing(|_| true).await?;
        // kubectl applied it: that is no tool that would take it back.
        let (code, said, why) = zen(&register).await?;
        ensure!(code == Some(0), "{said}{why}");
        wait("Ready").await?;
        let held = entries(site, "tracker-attributes").await?;
        let password = held.iter().find(|(name, _)| name == "tracking_password");
        ensure!(password.is_some_and(|(_, value)| value == "s3cret"));
        Ok(())
    })
    .await
}

//! No key is anywhere but in Secrets, whatever is done with keys and whatever goes wrong: attacks.md K10, S04, S05.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use zenop::{
    api::{ZenAPIKey, ZenComponent, reason},
    auth::api_key::{ApiKey, KeySecret},
};
use zenop_cluster::{
    Options,
    fault::{Action, Match, Rule, Verb, When},
};

use super::given::{made, theirs, value_from, verifier};
use crate::support::{
    Site, component, entry, key, ready, secret, server, site::own_plane, site_on, stalled, with,
    with_mysql,
};

/// Everything that is not a Secret, as text.
async fn everything_but_secrets(site: &Site) -> Result<String> {
    let mut text = String::new();
    let found = kube::Discovery::new(site.ns.client().clone()).run().await?;
    for group in found.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if resource.kind == "Secret"
                || capabilities.scope != kube::discovery::Scope::Namespaced
                || !capabilities.supports_operation("list")
            {
                continue;
            }
            for object in site.dynamic(&resource).list(&ListParams::default()).await? {
                text.push_str(&serde_json::to_string(&object)?);
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// All that must not be seen of a key: its text, what is in it, and how a Secret has it.
fn forms(text: &str) -> Result<Vec<String>> {
    let inner = text.trim_start_matches("ZENKEY_").to_owned();
    let json: Value = serde_json::from_slice(&STANDARD.decode(&inner)?)?;
    let secret = json["key"].as_str().context("no key")?.to_owned();
    Ok(vec![STANDARD.encode(text), inner, secret])
}

/// A key is made, rotated with the old one beside it, lost and replaced, and writes of it fail.
async fn generated(site: &Site) -> Result<Vec<String>> {
    let shaped = |trigger: &str| {
        let consumers = json!([{"kind": "Deployment", "name": "prod"}]);
        let rotation = json!({"trigger": trigger, "consumers": consumers});
        let template = json!({"includePrevious": true, "data": {"env": "A={{key}} {{keyId}}"}});
        let main = with(key("main"), "spec.rotation", rotation);
        with(main, "spec.delivery", json!({"secretTemplate": template}))
    };
    let mut texts = Vec::new();
    for (code, verb) in [(422, Verb::Create), (409, Verb::Create), (500, Verb::Patch)] {
        let status = Action::Status {
            code,
            retry_after: None,
        };
        let writes = Match::verb(verb).on("secrets").named("main-key");
        site.proxy.add(Rule::once(writes, When::Before, status));
    }
    for (generation, trigger) in [(1, "a"), (2, "b")] {
        site.apply_with(&shaped(trigger)).await?;
        site.key_ready("main", generation).await?;
        texts.push(site.check_delivered("main", generation).await?);
    }
    site.delete::<Secret>("main-key").await?;
    site.key_ready("main", 3).await?;
    texts.push(site.check_delivered("main", 3).await?);
    Ok(texts)
}

/// Keys of others: good ones, bad ones, ones in the way and ones that are taken over.
async fn given(site: &Site) -> Result<Vec<String>> {
    let good = made(7, 1).text().to_string();
    let weak = ApiKey {
        secret: KeySecret::from_random(&[0x5a; 32]),
        ..made(7, 1)
    };
    let weak = weak.text().to_string();
    let in_way = made(8, 3).text().to_string();
    let hashed = made(9, 4);
    site.apply(&theirs(&weak)).await?;
    site.apply(&value_from("given", "vault")).await?;
    let bad = stalled(reason::SOURCE_INVALID);
    site.until::<ZenAPIKey>("given", "refused", bad).await?;
    site.apply(&theirs(&good)).await?;
    site.key_ready("given", 1).await?;
    super::parties::another_second().await?;
    site.apply(&value_from("again", "vault")).await?;
    let taken = stalled(reason::KEY_ID_CONFLICT);
    site.until::<ZenAPIKey>("again", "refused", taken).await?;

    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "adopted-key",
            "annotations": {"zenop.dev/adopt": format!("{}/adopted", site.name())},
        },
        "stringData": {"ZENML_STORE_API_KEY": in_way},
    });
    site.apply(&foreign).await?;
    site.apply(&key("adopted")).await?;
    let conflict = stalled(reason::CONFLICT);
    site.until::<ZenAPIKey>("adopted", "refused", conflict)
        .await?;
    site.apply(&with(key("adopted"), "spec.adoption", json!("IfUnowned")))
        .await?;
    site.key_ready("adopted", 1).await?;
    ensure!(site.check_delivered("adopted", 1).await? == in_way);
    site.apply(&verifier("hashed", &hashed)).await?;
    site.key_ready("hashed", 1).await?;
    Ok(vec![good, weak, in_way, hashed.text().to_string()])
}

/// Values of secrets: taken, drawn, put into text, referred to by a component and by a server's environment; and writes of
/// them fail.
async fn values(site: &Site) -> Result<Vec<String>> {
    let taken = "canary-of-a-value-".repeat(4);
    let tool = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tool"},
        "stringData": {"pass": taken},
    });
    let from = json!({"secretKeyRef": {"name": "tool", "key": "pass"}});
    let entries = json!([
        {"key": "pass", "valueFrom": from}, {"key": "drawn", "generate": {"length": 64}},
    ]);
    let template = json!({"data": {"both": "{{login.pass}}:{{login.drawn}}"}});
    let template = json!({"secretTemplate": template});
    let login = with(secret("login", entries), "spec.target", template);
    let env = json!([{"name": "MAIL_URL", "value": "smtp://zen:{{login.pass}}@mail"}]);
    let served = with_mysql(server("prod"), "{{login.pass}}");
    let served = with(served, "spec.podTemplate", json!({"env": env}));
    for name in [
        "login",
        "login-generated",
        "tracker-attributes",
        "prod-environment",
    ] {
        for (code, verb) in [(422, Verb::Create), (500, Verb::Create)] {
            let status = Action::Status {
                code,
                retry_after: None,
            };
            let writes = Match::verb(verb).on("secrets").named(name);
            site.proxy.add(Rule::once(writes, When::Before, status));
        }
    }
    let tracker = component(
        "tracker",
        json!({"a": "{{login.pass}}", "b": "{{login.drawn}}"}),
    );
    for object in [tool, tracker, served, login] {
        site.apply(&object).await?;
    }
    site.until::<ZenComponent>("tracker", "Ready", ready)
        .await?;
    let wanted = format!("smtp://zen:{taken}@mail");
    let has = |secret: &Secret| entry(secret, "MAIL_URL").as_ref() == Some(&wanted);
    let environment = site
        .until("prod-environment", "with the value", has)
        .await?;
    let made = site.until::<Secret>("login", "made", |_| true).await?;
    let drawn = entry(&made, "drawn").context("nothing was drawn")?;
    let uid = made.uid().context("no uid")?;
    site.delete::<Secret>("login").await?;
    let again = |secret: &Secret| secret.metadata.uid.as_deref() != Some(&uid);
    let made = site.until::<Secret>("login", "made again", again).await?;
    ensure!(
        entry(&made, "drawn").as_ref() == Some(&drawn),
        "another value was drawn"
    );
    let derived = environment.data.unwrap_or_default().into_values();
    let derived: Result<Vec<_>, _> = derived.map(|bytes| String::from_utf8(bytes.0)).collect();
    Ok([vec![taken, drawn], derived?].concat())
}

/// What the API server's audit log says, bodies included, of all but Secrets: writes of those are there without their
/// bodies, as in every policy that does not itself give secrets away.
async fn audited(site: &Site) -> Result<String> {
    let events = site.plane.audit_events().await?;
    let kinds = ["zenservers", "zenserviceaccounts", "zenapikeys"];
    for kind in kinds.into_iter().chain(["zensecrets", "zencomponents"]) {
        let has_bodies = |event: &&Value| {
            let of = &event["objectRef"];
            of["resource"] == kind
                && of["apiGroup"] == "zenop.dev"
                && event["requestObject"]["status"].is_object()
                && event["responseObject"]["spec"].is_object()
        };
        let told = events.iter().find(has_bodies);
        told.with_context(|| format!("the audit log has no body of {kind}"))?;
    }
    let is_secret = |event: &&Value| event["objectRef"]["resource"] == "secrets";
    ensure!(
        events.iter().any(|event| is_secret(&event)),
        "it has no Secret at all"
    );
    ensure!(
        events
            .iter()
            .filter(is_secret)
            .all(|event| event["requestObject"].is_null()),
        "it has the bodies of Secrets, which would make this test one of the policy"
    );
    events
        .iter()
        .map(|event| Ok(serde_json::to_string(event)? + "\n"))
        .collect()
}

#[tokio::test]
async fn a_key_is_in_secrets_and_nowhere_else() -> Result<()> {
    let options = Options {
        audit: true,
        audit_bodies: true,
        ..Options::default()
    };
    let plane = own_plane(options).await?;
    site_on(plane, "canary", async |site| {
        let mut launch = site.launch();
        launch.log = "trace".into();
        let operator = site.start(&launch)?;
        operator.leads().await?;
        let mut texts = generated(site).await?;
        texts.extend(given(site).await?);
        let values = values(site).await?;
        site.told("KeyRotated").await?;
        site.told("KeyReplaced").await?;
        site.told("SourceInvalid").await?;
        let metrics = operator.metrics().await?;
        operator.stop().await?;

        let auth: Secret = site.api().get("prod-auth").await?;
        let pepper = entry(&auth, "pepper").context("no pepper")?;
        let keyset: Value = serde_json::from_str(&entry(&auth, "keyset.json").context("no keys")?)?;
        let keys = keyset["keys"].as_array().context("no keys")?;
        let seeds = keys.iter().filter_map(|key| key["seed"].as_str());
        let mut canaries: Vec<_> = seeds.map(str::to_owned).chain([pepper]).collect();
        ensure!(canaries.len() == 3, "two keys and the pepper");
        for text in &texts {
            canaries.extend(forms(text)?);
        }
        ensure!(values.len() >= 6, "{} values", values.len());
        for value in &values {
            canaries.extend([value.clone(), STANDARD.encode(value)]);
        }
        let objects = everything_but_secrets(site).await?;
        let audited = audited(site).await?;
        for known in ["KeyReplaced", "ZenAPIKey", "adopted"] {
            ensure!(objects.contains(known), "the search sees no {known}");
        }
        let logs = site.logs();
        ensure!(logs.contains("TRACE"), "the log is not at trace");
        ensure!(metrics.contains("zenop_api_keys_active"), "{metrics}");
        // What Secrets say beside their entries is not secret.
        let secrets = site.api::<Secret>().list(&ListParams::default()).await?;
        let marks = secrets.iter().map(|secret| {
            let name = secret.name_any();
            format!("{name} {:?} {:?}\n", secret.labels(), secret.annotations())
        });
        let marks: String = marks.collect();
        let mut found = 0;
        for canary in &canaries {
            ensure!(canary.len() >= 64, "too short to search for");
            for (place, text) in [
                ("an object", &objects),
                ("the audit log", &audited),
                ("the log", &logs),
                ("the metrics", &metrics),
                ("a Secret's marks", &marks),
            ] {
                ensure!(!text.contains(canary.as_str()), "a secret is in {place}");
                found += 1;
            }
        }
        eprintln!("{found} searches for {} keys: nothing", texts.len());
        Ok(())
    })
    .await
}

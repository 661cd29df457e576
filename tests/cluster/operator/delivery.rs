//! The form of the delivered Secret, and Secrets that come from a backup.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, condition, reason};

use crate::support::{Site, entry, key, message, site, stalled, with};

fn shaped(template: Value) -> Value {
    let delivery = json!({"secretName": "credentials", "secretTemplate": template});
    with(key("main"), "spec.delivery", delivery)
}

#[tokio::test]
async fn a_secret_has_the_form_that_was_asked_for() -> Result<()> {
    site("template", async |site| {
        let _operator = site.operator().await?;
        let template = json!({
            "type": "example.org/zenml",
            "labels": {"team": "forecasting"},
            "annotations": {"reloader.example.org/match": "true"},
            "keys": {"url": "url", "key": "token"},
            "data": {
                "zenml.env": "A={{url}}\nB={{ key }}\n",
                "who": "{{account}} {{keyName}} {{server}} {{namespace}} {{generation}}",
                "ids": "{{keyId}} {{accountId}}",
            },
        });
        site.apply_with(&shaped(template.clone())).await?;
        let key = site.key_ready("main", 1).await?;
        let secret: Secret = site.api().get("credentials").await?;
        ensure!(secret.type_.as_deref() == Some("example.org/zenml"));
        ensure!(
            secret
                .labels()
                .get("team")
                .is_some_and(|team| team == "forecasting")
        );
        ensure!(
            secret
                .annotations()
                .contains_key("reloader.example.org/match")
        );
        let text = entry(&secret, "token").context("no key")?;
        let url = format!("http://prod.{}.svc", site.name());
        let status = key.status.context("no status")?;
        let expected = [
            ("url", url.clone()),
            ("zenml.env", format!("A={url}\nB={text}\n")),
            ("who", format!("ci main prod {} 1", site.name())),
            (
                "ids",
                format!(
                    "{} {}",
                    status.key_id.unwrap_or_default(),
                    status.account_id.unwrap_or_default()
                ),
            ),
        ];
        for (name, value) in expected {
            ensure!(
                entry(&secret, name) == Some(value),
                "{name}: {:?}",
                entry(&secret, name)
            );
        }
        ensure!(
            secret.data.as_ref().is_some_and(|data| data.len() == 5),
            "more than that"
        );

        // What is not asked for any more goes; the key stays.
        let plain = json!({"type": "example.org/zenml", "keys": {"key": "token"}});
        site.apply(&shaped(plain)).await?;
        site.key_ready("main", 1).await?;
        let secret: Secret = site.api().get("credentials").await?;
        ensure!(entry(&secret, "token") == Some(text));
        let names: Vec<_> = secret.data.iter().flatten().map(|(name, _)| name).collect();
        ensure!(names == ["ZENML_STORE_URL", "token"], "{names:?}");
        ensure!(!secret.labels().contains_key("team"));
        ensure!(
            !secret
                .annotations()
                .contains_key("reloader.example.org/match")
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_template_that_cannot_be_read_changes_nothing() -> Result<()> {
    site("bad-template", async |site| {
        let _operator = site.operator().await?;
        site.apply_with(&shaped(json!({"data": {"a": "{{url}}"}})))
            .await?;
        site.key_ready("main", 1).await?;
        let before: Secret = site.api().get("credentials").await?;
        for (text, told) in [
            ("{{password}}", "\"password\" is no variable"),
            ("{{url", "no \"}}\""),
        ] {
            site.apply(&shaped(json!({"data": {"a": text}}))).await?;
            let is = |key: &ZenAPIKey| {
                stalled(reason::INVALID_SPEC)(key)
                    && message(key, condition::STALLED).contains(told)
            };
            let key: ZenAPIKey = site.until("main", told, is).await?;
            let why = message(&key, condition::STALLED);
            ensure!(
                why.contains("spec.delivery.secretTemplate.data[\"a\"]"),
                "{why}"
            );
        }
        site.told("InvalidSpec").await?;
        let after: Secret = site.api().get("credentials").await?;
        ensure!(
            before.resource_version() == after.resource_version(),
            "it was written"
        );
        site.apply(&shaped(json!({"data": {"a": "{{server}}"}})))
            .await?;
        site.key_ready("main", 1).await?;
        let after: Secret = site.api().get("credentials").await?;
        ensure!(entry(&after, "a").as_deref() == Some("prod"));
        ensure!(entry(&after, "ZENML_STORE_API_KEY") == entry(&before, "ZENML_STORE_API_KEY"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_secret_that_would_be_more_than_data_is_refused() -> Result<()> {
    site("types", async |site| {
        for kind in [
            "kubernetes.io/service-account-token",
            "bootstrap.kubernetes.io/token",
        ] {
            let made = site.apply(&shaped(json!({"type": kind}))).await;
            let why = format!("{:#}", made.err().context("it was taken")?);
            ensure!(why.contains("Kubernetes gives a meaning to"), "{why}");
        }
        let owner = json!({"kubernetes.io/service-account.name": "default"});
        for template in [
            json!({"annotations": owner}),
            json!({"labels": {"zenop.dev/owner-uid": "x"}}),
            json!({"labels": {"app.kubernetes.io/managed-by": "x"}}),
            json!({"annotations": {"zenop.dev/adopt": "x/y"}}),
        ] {
            let made = site.apply(&shaped(template.clone())).await;
            let why = format!("{:#}", made.err().context(format!("{template}"))?);
            ensure!(why.contains("must not be zenop's own"), "{why}");
        }
        Ok(())
    })
    .await
}

/// As a backup tool restores them: Secrets without owners, keys without status and under another UID.
async fn restored(site: &Site, adopt: Value, annotations: Value) -> Result<String> {
    let operator = site.operator().await?;
    site.apply_three().await?;
    let old = site.key_ready("main", 1).await?;
    let text = site.check_delivered("main", 1).await?;
    operator.stop().await?;
    let orphan = json!({"metadata": {"ownerReferences": null, "annotations": annotations}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(orphan));
    site.api::<Secret>()
        .patch("main-key", &parameters, &patch)
        .await?;
    site.delete::<ZenAPIKey>("main").await?;
    site.until_gone::<ZenAPIKey>("main", &old.uid().context("no uid")?)
        .await?;
    site.apply(&adopt).await?;
    Ok(text)
}

#[tokio::test]
async fn a_restored_secret_is_taken_over_with_its_key() -> Result<()> {
    let adopting = |policy: &str| with(key("main"), "spec.adoption", json!(policy));
    let forced = |policy: &str| {
        let mut key = adopting(policy);
        key["metadata"]["annotations"] = json!({"zenop.dev/force": "true"});
        key
    };
    for (key, permitted, adopted) in [
        (adopting("Never"), true, false),
        (forced("Never"), false, false),
        (adopting("IfUnowned"), false, false),
        (adopting("IfUnowned"), true, true),
        (adopting("Force"), true, false),
        (forced("Force"), false, true),
    ] {
        let what = format!("{} {permitted}", key["spec"]["adoption"]);
        site("restored", async |site| {
            let mark = permitted.then(|| format!("{}/main", site.name()));
            let text = restored(site, key.clone(), json!({"zenop.dev/adopt": mark})).await?;
            let before: Secret = site.api().get("main-key").await?;
            let _operator = site.operator().await?;
            if !adopted {
                let refused = stalled(reason::CONFLICT);
                let key: ZenAPIKey = site.until("main", "refused", refused).await?;
                let why = message(&key, condition::CONFLICT);
                ensure!(why.contains("spec.adoption"), "{why}");
                let after: Secret = site.api().get("main-key").await?;
                ensure!(
                    before.resource_version() == after.resource_version(),
                    "it was written"
                );
                return Ok(());
            }
            let key = site.key_ready("main", 1).await?;
            ensure!(
                site.check_delivered("main", 1).await? == text,
                "another key"
            );
            let secret: Secret = site.api().get("main-key").await?;
            let owner = secret.owner_references().first().context("no owner")?;
            ensure!(Some(&owner.uid) == key.uid().as_ref() && owner.controller == Some(true));
            // From here on it is a key like any other.
            site.settled().await?;
            site.delete::<Secret>("main-key").await?;
            site.key_ready("main", 2).await?;
            ensure!(site.check_delivered("main", 2).await? != text);
            Ok(())
        })
        .await
        .context(what)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_somebody_controls_is_not_taken_over_by_force() -> Result<()> {
    site("not-orphan", async |site| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}});
        let map = site.apply(&map).await?;
        let text = super::given::made(7, 1).text().to_string();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "main-key",
                "annotations": {"zenop.dev/adopt": format!("{}/main", site.name())},
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "controller": true,
                    "uid": map.uid(),
                }],
            },
            "stringData": {"ZENML_STORE_API_KEY": text},
        });
        site.apply(&secret).await?;
        let _operator = site.operator().await?;
        for policy in ["IfUnowned", "Force"] {
            let mut main = with(key("main"), "spec.adoption", json!(policy));
            main["metadata"]["annotations"] = json!({"zenop.dev/force": "true"});
            site.apply_with(&main).await?;
            let refused = stalled(reason::CONFLICT);
            let key: ZenAPIKey = site.until("main", "refused", refused).await?;
            ensure!(message(&key, condition::CONFLICT).contains("ConfigMap theirs"));
        }
        ensure!(site.key_text("main-key").await? == text);
        Ok(())
    })
    .await
}

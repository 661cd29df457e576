//! What others do to our objects: lost keys are replaced once, edited fields repaired, additions kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Secret, Service, ServiceAccount},
        events::v1::Event,
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zenop::api::{KeyState, ZenAPIKey, ZenServer, condition, label, reason};

use crate::support::{Site, entry, key, ready, says, server, site, stalled, with};

pub(super) async fn patch<K>(site: &Site, name: &str, patch: Value) -> Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let parameters = PatchParams::default();
    Ok(site
        .api::<K>()
        .patch(name, &parameters, &Patch::Merge(patch))
        .await?)
}

/// That generation 2 replaced generation 1 because its Secret was lost.
async fn replaced_once(site: &Site, old: &str) -> Result<()> {
    let key = site.key_ready("main", 2).await?;
    let new = site.check_delivered("main", 2).await?;
    ensure!(new != old);
    ensure!(site.generation_of(&key, old).await? == Some((KeyState::Previous, 1)));
    let generations = &key.status.as_ref().context("no status")?.generations;
    ensure!(generations.len() == 2, "{generations:?}");
    let until = generations[0].valid_until.clone().context("no end")?.0;
    let left = until.duration_since(zenop::runtime::clock::now()).as_secs();
    ensure!(
        (3500..=3600).contains(&left),
        "the old key lives for {left} s"
    );
    site.quiet(Duration::from_millis(500)).await?;
    site.check_delivered("main", 2).await?;
    let events = site.api::<Event>().list(&ListParams::default()).await?;
    let told = events
        .iter()
        .filter(|e| e.reason.as_deref() == Some("KeyReplaced"));
    ensure!(told.count() == 1, "not told once");
    Ok(())
}

#[tokio::test]
async fn a_deleted_secret_makes_one_new_key() -> Result<()> {
    site("lost", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        site.delete::<Secret>("main-key").await?;
        replaced_once(site, &old).await
    })
    .await
}

/// K18, with a new generation.
#[tokio::test]
async fn an_altered_key_makes_one_new_key() -> Result<()> {
    let broken = [json!("not a key"), json!(null)];
    for value in broken {
        site("altered", async |site| {
            let _operator = site.operator().await?;
            site.apply_three().await?;
            site.key_ready("main", 1).await?;
            let old = site.check_delivered("main", 1).await?;
            let change = match value.as_str() {
                Some(text) => json!({"stringData": {"ZENML_STORE_API_KEY": text}}),
                None => json!({"data": {"ZENML_STORE_API_KEY": null}}),
            };
            patch::<Secret>(site, "main-key", change).await?;
            replaced_once(site, &old).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_restored_from_a_backup_of_a_replaced_key_makes_another() -> Result<()> {
    site("older", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let old = site.check_delivered("main", 1).await?;
        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 2).await?;
        // The key of generation 1 is accepted for an hour; a Secret must not hold one that ends.
        let change = json!({"stringData": {"ZENML_STORE_API_KEY": old}});
        patch::<Secret>(site, "main-key", change).await?;
        site.key_ready("main", 3).await?;
        site.check_delivered("main", 3).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn on_secret_loss_fail_only_reports() -> Result<()> {
    site("fail", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&crate::support::account("ci")).await?;
        let fail = with(
            key("main"),
            "spec.delivery",
            json!({"onSecretLoss": "Fail"}),
        );
        site.apply(&fail).await?;
        let before = site.key_ready("main", 1).await?;
        site.settled().await?;
        let mut backup: Secret = site.api().get("main-key").await?;
        site.delete::<Secret>("main-key").await?;
        let lost: ZenAPIKey = site
            .until("main", "Stalled", stalled(reason::SECRET_LOST))
            .await?;
        ensure!(says(
            condition::SECRET_PUBLISHED,
            "False",
            reason::SECRET_LOST
        )(&lost));
        ensure!(
            lost.status.context("no status")?.generations
                == before.status.context("no status")?.generations
        );
        site.no_write(Duration::from_millis(1500)).await?;
        ensure!(
            site.api::<Secret>().get_opt("main-key").await?.is_none(),
            "it was made again"
        );

        backup.metadata.resource_version = None;
        backup.metadata.uid = None;
        backup.metadata.managed_fields = None;
        site.api()
            .create(&kube::api::PostParams::default(), &backup)
            .await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await?;

        site.delete::<Secret>("main-key").await?;
        site.until::<ZenAPIKey>("main", "Stalled", stalled(reason::SECRET_LOST))
            .await?;
        let rotate = with(
            key("main"),
            "spec.delivery",
            json!({"onSecretLoss": "Rotate"}),
        );
        site.apply(&rotate).await?;
        site.key_ready("main", 2).await?;
        site.check_delivered("main", 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_others_add_stays() -> Result<()> {
    site("added", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let theirs = json!({"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "main-key", "labels": theirs["labels"], "annotations": theirs["annotations"]},
            "stringData": {"EXTRA": "theirs"},
        });
        site.apply_as("somebody", &secret).await?;
        let restart = json!({"spec": {"template": {"metadata": {"annotations": {
            "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
        }}}}});
        patch::<Deployment>(site, "prod", restart).await?;
        patch::<Service>(site, "prod", json!({"metadata": theirs})).await?;
        site.quiet(Duration::from_millis(500)).await?;

        // Now all of them are to change.
        let mut changed = server("prod");
        changed["spec"] = json!({"url": "https://zenml.example.org", "replicas": 3});
        site.apply(&changed).await?;
        let url = |secret: &Secret| {
            entry(secret, "ZENML_STORE_URL").as_deref() == Some("https://zenml.example.org")
        };
        let secret: Secret = site.until("main-key", "with the new URL", url).await?;
        ensure!(entry(&secret, "EXTRA").as_deref() == Some("theirs"), "their entry is gone");
        ensure!(secret.labels().contains_key("theirs") && secret.annotations().contains_key("theirs"));
        site.check_delivered("main", 1).await?;
        let three = |d: &Deployment| d.spec.replicas == Some(3);
        let deployment: Deployment = site.until("prod", "with three replicas", three).await?;
        let template = deployment.spec.template.metadata.context("no metadata")?;
        let restarted = "kubectl.kubernetes.io/restartedAt";
        ensure!(template.annotations.context("no annotations")?.contains_key(restarted));

        // Who scales it by hand or by an autoscaler, while the spec does not say, is not undone.
        changed["spec"] = json!({"url": "https://zenml.example.org"});
        site.apply(&changed).await?;
        site.until::<ZenServer>("prod", "observed", |s| {
            s.status.as_ref().map(|s| s.observed_generation) == s.metadata.generation
        })
        .await?;
        patch::<Deployment>(site, "prod", json!({"spec": {"replicas": 2}})).await?;
        site.quiet(Duration::from_millis(500)).await?;
        let deployment: Deployment = site.api().get("prod").await?;
        ensure!(deployment.spec.replicas == Some(2), "the scale was undone");
        let service: Service = site.api().get("prod").await?;
        ensure!(service.labels().contains_key("theirs") && service.annotations().contains_key("theirs"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_edited_field_of_ours_is_repaired() -> Result<()> {
    site("edited", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.quiet(Duration::from_millis(500)).await?;
        let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        let image = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "sidecar", "image": "registry.invalid/evil"},
        ]}}}});
        let subject =
            json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
        let url = json!({"stringData": {"ZENML_STORE_URL": "https://evil.example.org"}});
        repaired::<Role>(site, "prod", json!({"rules": everything}), "/rules").await?;
        repaired::<RoleBinding>(site, "prod", json!({"subjects": subject}), "/subjects").await?;
        let selector = json!({"spec": {"selector": {"app.kubernetes.io/instance": "evil"}}});
        repaired::<Service>(site, "prod", selector, "/spec/selector").await?;
        repaired::<Service>(
            site,
            "prod",
            json!({"spec": {"ports": [{"port": 81}]}}),
            "/spec/ports",
        )
        .await?;
        let mount = json!({"automountServiceAccountToken": true});
        repaired::<ServiceAccount>(site, "prod", mount, "/automountServiceAccountToken").await?;
        repaired::<Secret>(site, "main-key", url, "/data").await?;
        for path in ["/spec/template/spec/containers"] {
            repaired::<Deployment>(site, "prod", image.clone(), path).await?;
        }
        let unlabelled = json!({"metadata": {"labels": {label::MANAGED_BY: null}}});
        repaired::<Secret>(site, "main-key", unlabelled.clone(), "/metadata/labels").await?;
        repaired::<Secret>(site, "prod-auth", unlabelled.clone(), "/metadata/labels").await?;
        repaired::<Service>(site, "prod", unlabelled, "/metadata/labels").await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

/// Edits an object, and waits until the part at `path` is as it was.
pub(super) async fn repaired<K>(site: &Site, name: &str, edit: Value, path: &str) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize
        + Send
        + 'static,
{
    let part = |object: &K| serde_json::to_value(object).ok()?.pointer(path).cloned();
    let before = part(&site.api::<K>().get(name).await?);
    let edited = patch::<K>(site, name, edit).await?;
    ensure!(part(&edited) != before, "the edit changes nothing");
    let what = format!("repaired at {path}");
    site.until(name, &what, |object: &K| part(object) == before)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_child_of_a_server_is_made_again() -> Result<()> {
    site("deleted", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        made_again::<Deployment>(site).await?;
        made_again::<Service>(site).await?;
        made_again::<ServiceAccount>(site).await?;
        made_again::<Role>(site).await?;
        made_again::<RoleBinding>(site).await
    })
    .await
}

async fn made_again<K>(site: &Site) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let uid = site.api::<K>().get("prod").await?.meta().uid.clone();
    site.delete::<K>("prod").await?;
    let again = |object: &K| object.meta().uid != uid;
    site.until("prod", "made again", again).await.map(drop)
}

#[tokio::test]
async fn a_secret_that_lost_its_owner_is_not_ours_until_it_has_it_again() -> Result<()> {
    site("orphan", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        let owners = site
            .api::<Secret>()
            .get("main-key")
            .await?
            .metadata
            .owner_references;
        let orphan = json!({"metadata": {"ownerReferences": null}});
        let orphan: Secret = patch(site, "main-key", orphan).await?;
        site.until::<ZenAPIKey>("main", "Conflict", stalled(reason::CONFLICT))
            .await?;
        let now: Secret = site.api().get("main-key").await?;
        ensure!(
            now.resource_version() == orphan.resource_version(),
            "it was written"
        );

        let adopted = json!({"metadata": {"ownerReferences": owners}});
        patch::<Secret>(site, "main-key", adopted).await?;
        site.key_ready("main", 1).await?;
        ensure!(site.check_delivered("main", 1).await? == text);

        // And a Service, whose owner is a server.
        patch::<Service>(site, "prod", json!({"metadata": {"ownerReferences": null}})).await?;
        site.until::<ZenServer>("prod", "Conflict", stalled(reason::CONFLICT))
            .await?;
        site.delete::<Service>("prod").await?;
        let well = |server: &ZenServer| !stalled(reason::CONFLICT)(server) && observed(server);
        site.until("prod", "well again", well).await?;
        site.api::<Service>().get("prod").await?;
        Ok(())
    })
    .await
}

fn observed(server: &ZenServer) -> bool {
    server.status.as_ref().map(|s| s.observed_generation) == server.metadata.generation
}

#[tokio::test]
async fn a_lost_auth_secret_is_not_made_again() -> Result<()> {
    site("auth-lost", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let before = site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        site.settled().await?;
        let mut backup: Secret = site.api().get("prod-auth").await?;
        site.delete::<Secret>("prod-auth").await?;
        site.until::<ZenServer>("prod", "Stalled", stalled(reason::AUTH_SECRET_LOST))
            .await?;
        site.no_write(Duration::from_millis(1500)).await?;
        ensure!(
            site.api::<Secret>().get_opt("prod-auth").await?.is_none(),
            "it was made again"
        );
        // A key that wants a look finds that nothing can be said.
        patch::<ZenAPIKey>(
            site,
            "main",
            json!({"metadata": {"annotations": {"look": "1"}}}),
        )
        .await?;
        let not_ready = crate::support::waiting(reason::SERVER_NOT_READY);
        site.until::<ZenAPIKey>("main", "waiting for its server", not_ready)
            .await?;
        let now: ZenAPIKey = site.api().get("main").await?;
        let generations = |key: &ZenAPIKey| key.status.clone().map(|s| s.generations);
        ensure!(
            generations(&now) == generations(&before),
            "a key was issued"
        );
        ensure!(site.key_text("main-key").await? == text);

        backup.metadata.resource_version = None;
        backup.metadata.uid = None;
        backup.metadata.managed_fields = None;
        site.api()
            .create(&kube::api::PostParams::default(), &backup)
            .await?;
        let well = |server: &ZenServer| !stalled(reason::AUTH_SECRET_LOST)(server);
        site.until("prod", "well again", well).await?;
        site.key_ready("main", 1).await?;
        ensure!(site.check_delivered("main", 1).await? == text);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_altered_auth_secret_stops_the_server_and_issues_nothing() -> Result<()> {
    site("auth-altered", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        let before = site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        let auth: Secret = site.api().get("prod-auth").await?;
        let pepper = entry(&auth, "pepper").context("no pepper")?;
        let evil = json!({"stringData": {"pepper": "00".repeat(32)}});
        patch::<Secret>(site, "prod-auth", evil).await?;
        site.until::<ZenServer>("prod", "Stalled", stalled(reason::AUTH_SECRET_INVALID))
            .await?;
        patch::<ZenAPIKey>(
            site,
            "main",
            json!({"metadata": {"annotations": {"look": "1"}}}),
        )
        .await?;
        let not_ready = crate::support::waiting(reason::SERVER_NOT_READY);
        site.until::<ZenAPIKey>("main", "waiting for its server", not_ready)
            .await?;
        let now: ZenAPIKey = site.api().get("main").await?;
        let generations = |key: &ZenAPIKey| key.status.clone().map(|s| s.generations);
        ensure!(
            generations(&now) == generations(&before),
            "a key was issued"
        );
        ensure!(
            site.key_text("main-key").await? == text,
            "the Secret was written"
        );

        patch::<Secret>(site, "prod-auth", json!({"stringData": {"pepper": pepper}})).await?;
        let well = |server: &ZenServer| !stalled(reason::AUTH_SECRET_INVALID)(server);
        site.until("prod", "well again", well).await?;
        site.key_ready("main", 1).await?;
        site.check_delivered("main", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_generation_that_is_over_goes_with_its_secret() -> Result<()> {
    site("over", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let renamed = with(
            key("main"),
            "spec.delivery",
            json!({"secretName": "renamed"}),
        );
        site.apply(&renamed).await?;
        let there = |key: &ZenAPIKey| {
            let name = key.status.as_ref().and_then(|s| s.secret_ref.as_ref());
            ready(key) && name.is_some_and(|name| name.name == "renamed")
        };
        site.until("main", "delivered to the new name", there)
            .await?;
        let text = site.check_delivered("main", 1).await?;
        ensure!(
            site.key_text("main-key").await? == text,
            "the old Secret went at once"
        );

        site.delete::<Secret>("renamed").await?;
        let mut key = site.key_ready("main", 2).await?;
        ensure!(
            site.key_text("main-key").await? == text,
            "its generation is not over yet"
        );
        // Its hour ends now.
        let status = key.status.as_mut().context("no status")?;
        let now = Timestamp::from_second(zenop::runtime::clock::now().as_second())?;
        for generation in &mut status.generations {
            if generation.state == KeyState::Previous {
                generation.valid_until =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
        }
        let old: Secret = site.api().get("main-key").await?;
        site.api::<ZenAPIKey>()
            .replace_status("main", &kube::api::PostParams::default(), &key)
            .await?;
        site.until_gone::<Secret>("main-key", &old.uid().context("no uid")?)
            .await?;
        let one = |key: &ZenAPIKey| {
            ready(key)
                && key
                    .status
                    .as_ref()
                    .is_some_and(|s| s.generations.len() == 1)
        };
        site.until("main", "with one generation", one).await?;
        site.check_delivered("main", 2).await.map(drop)
    })
    .await
}

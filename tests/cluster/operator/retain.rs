//! What is deleted: retained, had back, or gone; and nobody has anything back that they may not.

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use zenop::api::{
    RECORD_FINALIZER, Record, ZenAPIKey, ZenServer, ZenServiceAccount, annotation, condition,
    label, reason,
};

use crate::support::{
    PATIENCE, Site, accepted, account, garbage_collector, key, message, ready, server, site,
    stalled, waiting, with,
};

/// A key that lives on when it is deleted.
pub fn retained(name: &str) -> Value {
    let key = with(key(name), "spec.deletionPolicy", json!("Retain"));
    with(key, "spec.ttl", json!("2160h"))
}

/// A server from which deleted objects can be had back.
pub fn forgiving(window: &str) -> Value {
    with(server("prod"), "spec.policy", json!({"undoWindow": window}))
}

/// An object that is to continue the one with this UID.
pub fn restored(object: Value, uid: &str) -> Value {
    with(
        object,
        "metadata.annotations",
        json!({(annotation::RESTORE): uid}),
    )
}

async fn three(site: &Site, objects: [Value; 3]) -> Result<()> {
    for object in objects {
        site.apply(&object).await?;
    }
    Ok(())
}

fn uid(object: &impl ResourceExt) -> String {
    object.uid().unwrap_or_default()
}

fn key_id(key: &ZenAPIKey) -> Option<&str> {
    key.status.as_ref()?.key_id.as_deref()
}

async fn records(site: &Site) -> Result<Vec<Secret>> {
    let parameters = kube::api::ListParams::default().labels(label::RECORD);
    Ok(site.api::<Secret>().list(&parameters).await?.items)
}

async fn no_record(site: &Site) -> Result<()> {
    site.settled().await?;
    let left = records(site).await?;
    ensure!(left.is_empty(), "{} records are left", left.len());
    Ok(())
}

/// Deletes a key, and waits until another of its name is ready with that generation.
async fn delete_and_see(site: &Site, generation: i64) -> Result<ZenAPIKey> {
    let old: ZenAPIKey = site.api().get("main").await?;
    site.delete::<ZenAPIKey>("main").await?;
    site.until_gone::<ZenAPIKey>("main", &uid(&old)).await?;
    // It is made again a moment later.
    let there = |key: Option<&ZenAPIKey>| key.is_some();
    let made = await_condition(site.api::<ZenAPIKey>(), "main", there);
    timeout(PATIENCE, made).await.context("not made again")??;
    site.key_ready("main", generation).await
}

#[tokio::test]
async fn a_retained_key_lives_on_and_is_taken_over_again() -> Result<()> {
    garbage_collector().await?;
    site("retain", async |site| {
        let _operator = site.operator().await?;
        let mut main = retained("main");
        main["metadata"]["labels"] = json!({
            "team": "forecasting", "argocd.argoproj.io/instance": "prod",
        });
        main["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "x"});
        site.apply_with(&main).await?;
        let first = site.key_ready("main", 1).await?;
        ensure!(first.finalizers() == [RECORD_FINALIZER], "it is not held");
        let text = site.check_delivered("main", 1).await?;
        let delivered = uid(&site.api::<Secret>().get("main-key").await?);

        // Argo CD prunes it.
        let second = delete_and_see(site, 1).await?;
        ensure!(uid(&second) != uid(&first) && key_id(&second) == key_id(&first));
        ensure!(
            second
                .labels()
                .get("team")
                .is_some_and(|t| t == "forecasting")
        );
        ensure!(second.labels().contains_key(label::RETAINED));
        let marks = second.labels().keys().chain(second.annotations().keys());
        ensure!(
            !marks.clone().any(|m| m.contains("argo")),
            "it is pruned again"
        );
        ensure!(second.status.as_ref().and_then(|s| s.restored_from.clone()) == first.uid());
        ensure!(site.check_delivered("main", 1).await? == text);
        let secret: Secret = site.api().get("main-key").await?;
        ensure!(uid(&secret) == delivered, "another Secret");
        let owners: Vec<_> = secret.owner_references().iter().map(|o| &o.uid).collect();
        ensure!(owners == [&uid(&second)], "{:?}", secret.owner_references());
        no_record(site).await?;

        // And once more: it continues what continued.
        let third = delete_and_see(site, 1).await?;
        ensure!(key_id(&third) == key_id(&first));
        ensure!(site.check_delivered("main", 1).await? == text);
        site.told("Retained").await?;

        // It comes back to Git.
        site.apply(&main).await?;
        let cared = |key: &ZenAPIKey| ready(key) && !key.labels().contains_key(label::RETAINED);
        let key: ZenAPIKey = site.until("main", "without the label", cared).await?;
        ensure!(uid(&key) == uid(&third) && accepted(&key) == [1]);
        ensure!(site.check_delivered("main", 1).await? == text);
        no_record(site).await?;

        // A person means it.
        let force = with(
            main,
            "metadata.annotations",
            json!({(annotation::FORCE): "true"}),
        );
        site.apply(&force).await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&key)).await?;
        site.until_gone::<Secret>("main-key", &delivered).await?;
        no_record(site).await?;
        ensure!(site.api::<ZenAPIKey>().get_opt("main").await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_takes_care_of_it_so_it_is_not_rotated() -> Result<()> {
    garbage_collector().await?;
    site("uncared", async |site| {
        let _operator = site.operator().await?;
        let main = with(
            retained("main"),
            "spec.rotation",
            json!({"interval": "24h"}),
        );
        site.apply_with(&main).await?;
        site.key_ready("main", 1).await?;
        let key = delete_and_see(site, 1).await?;
        ensure!(key.labels().contains_key(label::RETAINED));
        site.age("main", jiff::SignedDuration::from_hours(48))
            .await?;
        site.settled().await?;
        site.check_delivered("main", 1).await?;
        // Somebody applies it again.
        site.apply(&main).await?;
        site.key_ready("main", 2).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_has_no_end_is_not_retained() -> Result<()> {
    garbage_collector().await?;
    site("endless", async |site| {
        let _operator = site.operator().await?;
        let main = with(key("main"), "spec.deletionPolicy", json!("Retain"));
        site.apply_with(&main).await?;
        let refused = stalled(reason::INVALID_SPEC);
        let key: ZenAPIKey = site.until("main", "refused", refused).await?;
        ensure!(message(&key, condition::STALLED).contains("set spec.expiresAt"));
        ensure!(key.finalizers().is_empty() && accepted(&key).is_empty());
        // The server gives it one.
        let policy = json!({"keys": {"maxTTL": "100h"}});
        site.apply(&with(server("prod"), "spec.policy", policy))
            .await?;
        site.key_ready("main", 1).await?;
        delete_and_see(site, 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_deleted_key_is_had_back_within_the_window() -> Result<()> {
    garbage_collector().await?;
    site("undo", async |site| {
        let _operator = site.operator().await?;
        three(site, [forgiving("1h"), account("ci"), key("main")]).await?;
        let first = site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&first)).await?;
        site.told("Recorded").await?;
        let all = records(site).await?;
        ensure!(all.len() == 1 && all[0].name_any() == Record::secret_name(&uid(&first)));
        let said = serde_json::to_string(&all)?;
        ensure!(!said.contains(&text), "a record shows the key");

        // Made again by hand, it is another key, and has a Secret at once.
        site.apply(&key("main")).await?;
        let other = site.key_ready("main", 1).await?;
        ensure!(key_id(&other) == other.uid().as_deref());
        let another = site.check_delivered("main", 1).await?;
        ensure!(another != text);
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&other)).await?;
        ensure!(records(site).await?.len() == 2);

        // The second is had back with its Secret.
        site.apply(&restored(key("main"), &uid(&other))).await?;
        let back = site.key_ready("main", 1).await?;
        ensure!(key_id(&back) == key_id(&other) && back.uid() != other.uid());
        ensure!(!back.labels().contains_key(label::RETAINED));
        ensure!(site.check_delivered("main", 1).await? == another);
        site.settled().await?;
        ensure!(records(site).await?.len() == 1);

        // The first is refused while that has the name, and its Secret was overwritten meanwhile: another is made, under
        // the id that it had, and the text that somebody kept goes on for an hour.
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&back)).await?;
        site.apply(&restored(key("main"), &uid(&first))).await?;
        let back = site.key_ready("main", 2).await?;
        ensure!(key_id(&back) == key_id(&first) && accepted(&back) == [1, 2]);
        ensure!(site.generation_of(&back, &text).await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_window_closes() -> Result<()> {
    garbage_collector().await?;
    site("window", async |site| {
        let _operator = site.operator().await?;
        three(site, [forgiving("2s"), account("ci"), key("main")]).await?;
        let first = site.key_ready("main", 1).await?;
        let secret = uid(&site.api::<Secret>().get("main-key").await?);
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<Secret>("main-key", &secret).await?;
        no_record(site).await?;
        site.apply(&restored(key("main"), &uid(&first))).await?;
        let refused = stalled(reason::RECORD_NOT_FOUND);
        let late: ZenAPIKey = site.until("main", "refused", refused).await?;
        ensure!(key_id(&late).is_none() && accepted(&late).is_empty());
        // Without the annotation it is a key like others.
        site.apply(&key("main")).await?;
        let new = site.key_ready("main", 1).await?;
        ensure!(key_id(&new) == new.uid().as_deref());

        // The server changes its mind: what has a finalizer loses it.
        ensure!(new.finalizers() == [RECORD_FINALIZER]);
        site.apply(&server("prod")).await?;
        let free = |key: &ZenAPIKey| key.finalizers().is_empty();
        site.until("main", "without finalizer", free)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn a_record_that_we_did_not_seal_is_none() -> Result<()> {
    garbage_collector().await?;
    site("forged", async |site| {
        let operator = site.operator().await?;
        three(site, [forgiving("1h"), account("ci"), key("main")]).await?;
        let first = site.key_ready("main", 1).await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&first)).await?;
        let name = Record::secret_name(&uid(&first));
        let secrets = site.api::<Secret>();
        let genuine = secrets.get(&name).await?;

        // Retained from now on, or for a thief: what is in it is not what was sealed.
        let mut forged = genuine.clone();
        let data = forged.data.as_mut().context("no data")?;
        let text = String::from_utf8(data[Record::ENTRY].0.clone())?;
        let mut record: Value = serde_json::from_str(&text)?;
        record["until"] = Value::Null;
        let text = ByteString(serde_json::to_vec(&record)?);
        data.insert(Record::ENTRY.into(), text);
        secrets
            .replace(&name, &PostParams::default(), &forged)
            .await?;
        operator
            .log
            .says(&["not a record that this operator sealed"])
            .await?;
        site.apply(&restored(key("main"), &uid(&first))).await?;
        let refused = stalled(reason::RECORD_NOT_FOUND);
        site.until::<ZenAPIKey>("main", "refused", refused).await?;

        // Genuine, but of another name.
        let mut back = secrets.get(&name).await?;
        back.data = genuine.data;
        secrets
            .replace(&name, &PostParams::default(), &back)
            .await?;
        site.apply(&restored(key("thief"), &uid(&first))).await?;
        let refused = stalled(reason::RECORD_NOT_FOUND);
        let thief: ZenAPIKey = site.until("thief", "refused", refused).await?;
        ensure!(key_id(&thief).is_none());

        // A status cannot say it either.
        site.edit_status("thief", |status| {
            status["keyId"] = json!(uid(&first));
            status["idProof"] = json!("ab".repeat(32));
            status["restoredFrom"] = json!(uid(&first));
        })
        .await?;
        site.apply(&key("thief")).await?;
        let thief = site.key_ready("thief", 1).await?;
        ensure!(key_id(&thief) == thief.uid().as_deref());
        Ok(())
    })
    .await
}

/// Deletes an account, and waits until another of its name has its id.
async fn account_with_id(site: &Site, id: &str, but: &str) -> Result<ZenServiceAccount> {
    let is = |a: &ZenServiceAccount| {
        let given = a.status.as_ref().and_then(|s| s.account_id.as_deref());
        ready(a) && given == Some(id) && a.uid().as_deref() != Some(but)
    };
    site.until("ci", "with the id that it had", is).await
}

#[tokio::test]
async fn an_account_keeps_its_id_and_its_keys() -> Result<()> {
    garbage_collector().await?;
    site("account", async |site| {
        let _operator = site.operator().await?;
        let retained_account = with(account("ci"), "spec.deletionPolicy", json!("Retain"));
        three(site, [forgiving("1h"), retained_account, retained("main")]).await?;
        site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        let first: ZenServiceAccount = site.api().get("ci").await?;
        let id = uid(&first);

        // Both are pruned at once.
        site.delete::<ZenServiceAccount>("ci").await?;
        let key = delete_and_see(site, 1).await?;
        let second = account_with_id(site, &id, &id).await?;
        ensure!(site.check_delivered("main", 1).await? == text);
        ensure!(key.status.as_ref().and_then(|s| s.account_id.clone()) == Some(id.clone()));
        no_record(site).await?;

        // Now without: its key stays and waits, and lives again with it.
        site.apply(&with(account("ci"), "spec.deletionPolicy", json!("Delete")))
            .await?;
        let is = |a: &ZenServiceAccount| ready(a) && a.spec.deletion_policy == Default::default();
        site.until("ci", "to be deleted", is).await?;
        site.delete::<ZenServiceAccount>("ci").await?;
        site.until_gone::<ZenServiceAccount>("ci", &uid(&second))
            .await?;
        site.apply(&restored(account("ci"), &uid(&second))).await?;
        let third = account_with_id(site, &id, &uid(&second)).await?;
        site.key_ready("main", 1).await?;
        site.settled().await?;
        ensure!(site.check_delivered("main", 1).await? == text);

        // Made again by hand, it is another account, and its keys are others.
        site.delete::<ZenServiceAccount>("ci").await?;
        site.until_gone::<ZenServiceAccount>("ci", &uid(&third))
            .await?;
        site.apply(&account("ci")).await?;
        site.key_ready("main", 2).await?;
        ensure!(site.check_delivered("main", 2).await? != text);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_namespace_goes_and_a_server_with_what_is_held_there() -> Result<()> {
    garbage_collector().await?;
    site("ending", async |site| {
        // One whose rights do not go with the namespace.
        let mut launch = site.launch();
        launch.kubeconfig = site.plane.kubeconfig().to_owned();
        launch.lease_namespace = "default".to_owned();
        launch.lease = site.name().to_owned();
        let operator = site.start(&launch)?;
        operator.leads().await?;
        let retained_account = with(account("ci"), "spec.deletionPolicy", json!("Retain"));
        three(site, [forgiving("1h"), retained_account, retained("main")]).await?;
        let key = site.key_ready("main", 1).await?;
        // Without its server nothing is worth keeping.
        let prod: ZenServer = site.api().get("prod").await?;
        site.delete::<ZenServer>("prod").await?;
        site.until_gone::<ZenServer>("prod", &uid(&prod)).await?;
        let alone = waiting(reason::SERVER_NOT_FOUND);
        site.until::<ZenAPIKey>("main", "without its server", alone)
            .await?;
        site.delete::<ZenAPIKey>("main").await?;
        site.until_gone::<ZenAPIKey>("main", &uid(&key)).await?;

        site.apply(&forgiving("1h")).await?;
        site.apply(&retained("other")).await?;
        let other = site.key_ready("other", 1).await?;
        ensure!(other.finalizers() == [RECORD_FINALIZER]);
        let namespaces: Api<Namespace> = Api::all(site.ns.client().clone());
        namespaces
            .delete(site.name(), &DeleteParams::default())
            .await?;
        site.until_gone::<ZenAPIKey>("other", &uid(&other)).await?;
        let ci = site.api::<ZenServiceAccount>().get_opt("ci").await?;
        if let Some(ci) = ci {
            site.until_gone::<ZenServiceAccount>("ci", &uid(&ci))
                .await?;
        }
        ensure!(records(site).await?.is_empty(), "a record outlives it");
        Ok(())
    })
    .await
}

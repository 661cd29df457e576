//! What a server allows keys, and what protects objects from being deleted.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use k8s_openapi::api::{apps::v1::Deployment, rbac::v1::RoleBinding};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
};
use serde_json::{Value, json};
use zenop::api::{ZenAPIKey, ZenSecret, ZenServer, ZenServiceAccount, condition, reason};
use zenop_cluster::{client_from, shared};

use super::parties::another_second;
use crate::support::{
    PATIENCE, Site, account, garbage_collector,
    helm::{Helm, apply, kind, objects},
    key, message, ready, says, secret, server, site, stalled, with,
};

fn allowing(keys: Value) -> Value {
    with(server("prod"), "spec", json!({"policy": {"keys": keys}}))
}

/// How long the current key lives, in hours.
async fn life(site: &Site, name: &str) -> Result<Option<i64>> {
    let key: ZenAPIKey = site.api().get(name).await?;
    let status = key.status.context("no status")?;
    let made = status.last_rotated_time.context("not made")?.0;
    Ok(status
        .expires_at
        .map(|end| end.0.duration_since(made).as_hours()))
}

#[tokio::test]
async fn an_account_has_no_more_keys_than_its_server_allows() -> Result<()> {
    garbage_collector().await?;
    site("most", async |site| {
        let _operator = site.operator().await?;
        site.apply(&allowing(json!({"maxPerAccount": 2}))).await?;
        site.apply(&account("ci")).await?;
        site.apply(&account("other")).await?;
        for name in ["a", "b"] {
            site.apply(&key(name)).await?;
            site.key_ready(name, 1).await?;
        }
        let of_another = with(key("x"), "spec.serviceAccountRef.name", json!("other"));
        site.apply(&of_another).await?;
        site.key_ready("x", 1).await?;
        // Times of making are whole seconds; who is older must be sure.
        another_second().await?;
        site.apply(&key("c")).await?;
        let too_many = stalled(reason::POLICY_VIOLATION);
        let third: ZenAPIKey = site.until("c", "one too many", too_many).await?;
        let why = message(&third, condition::STALLED);
        ensure!(
            why.contains("maxPerAccount") && why.contains("delete one"),
            "{why}"
        );
        ensure!(third.status.context("no status")?.generations.is_empty());
        let counted = |account: &ZenServiceAccount| {
            let keys = account
                .status
                .as_ref()
                .map(|s| (s.keys.active, s.keys.total));
            ready(account) && keys == Some((2, 3))
        };
        site.until("ci", "with two of three keys", counted).await?;

        // Fewer are allowed now: those that are there stay.
        site.apply(&allowing(json!({"maxPerAccount": 1}))).await?;
        site.apply(&with(key("b"), "spec.description", json!("edited")))
            .await?;
        site.key_ready("b", 1).await?;
        site.check_delivered("b", 1).await?;
        site.apply(&allowing(json!({"maxPerAccount": 2}))).await?;
        site.delete::<ZenAPIKey>("a").await?;
        site.key_ready("c", 1).await?;
        site.check_delivered("c", 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_server_decides_how_long_keys_live() -> Result<()> {
    site("life", async |site| {
        let _operator = site.operator().await?;
        for object in [server("prod"), account("ci"), key("plain")] {
            site.apply(&object).await?;
        }
        let own = with(key("own"), "spec.ttl", json!("50h"));
        site.apply(&own).await?;
        for name in ["plain", "own"] {
            site.key_ready(name, 1).await?;
        }
        ensure!((life(site, "plain").await?, life(site, "own").await?) == (None, Some(50)));

        for (policy, plain, of_own) in [
            (json!({"defaultTTL": "20h"}), Some(20), Some(50)),
            (json!({"maxTTL": "30h"}), Some(30), Some(30)),
            (
                json!({"defaultTTL": "20h", "maxTTL": "30h"}),
                Some(20),
                Some(30),
            ),
            (json!({}), None, Some(50)),
        ] {
            site.apply(&allowing(policy.clone())).await?;
            let hours = |key: &ZenAPIKey| {
                let status = key.status.as_ref()?;
                let made = status.last_rotated_time.as_ref()?.0;
                Some(
                    status
                        .expires_at
                        .as_ref()?
                        .0
                        .duration_since(made)
                        .as_hours(),
                )
            };
            for (name, expected) in [("plain", plain), ("own", of_own)] {
                let is = |key: &ZenAPIKey| ready(key) && hours(key) == expected;
                let what = format!("living {expected:?} hours under {policy}");
                site.until(name, &what, is).await?;
            }
        }
        // A key that is older than a new rule allows is over at once.
        site.age("plain", SignedDuration::from_hours(31)).await?;
        site.apply(&allowing(json!({"maxTTL": "30h"}))).await?;
        let expired = says(condition::ACTIVE, "False", reason::EXPIRED);
        site.until::<ZenAPIKey>("plain", "over", expired)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn what_is_protected_is_not_deleted() -> Result<()> {
    garbage_collector().await?;
    site("protected", async |site| {
        let policies = policies(site).await?;

        let protected = |mut object: Value, more: Value| {
            object["metadata"]["annotations"] = more;
            object
        };
        let all = [server("prod"), account("ci"), key("main")];
        for object in all.clone() {
            let mark = json!({"zenop.dev/deletion-protection": "true"});
            site.apply(&protected(object, mark)).await?;
        }
        site.apply(&protected(
            key("other"),
            json!({"zenop.dev/deletion-protection": "false"}),
        ))
        .await?;
        refused(site).await?;
        for (resource, name) in [("zenserver", "prod"), ("zenserviceaccount", "ci")] {
            let said = site.kubectl(&["delete", resource, name]).await;
            let said = format!("{:#}", said.err().context("it was deleted")?);
            ensure!(
                said.contains(&format!("{}/{name} is protected", site.name())),
                "{said}"
            );
            ensure!(said.contains("remove the annotation zenop.dev/deletion-protection"));
        }
        site.kubectl(&["delete", "zenapikey", "other"]).await?;

        let force = json!({"zenop.dev/deletion-protection": "true", "zenop.dev/force": "true"});
        site.apply(&protected(key("main"), force)).await?;
        site.kubectl(&["delete", "zenapikey", "main"]).await?;
        for object in [server("prod"), account("ci")] {
            site.apply(&object).await?;
        }
        site.kubectl(&["delete", "zenserviceaccount", "ci"]).await?;
        site.kubectl(&["delete", "zenserver", "prod"]).await?;
        removed(site, policies).await
    })
    .await
}

/// The chart's admission policies, put in force for this namespace.
async fn policies(site: &Site) -> Result<Vec<DynamicObject>> {
    let values = json!({
        "watchNamespace": site.name(), "crds": {"install": false}, "rbac": {"aggregate": false},
        "fullnameOverride": site.name(),
    });
    let helm = Helm::of(shared().await?)?;
    let mut policies = objects(&helm.template(site.name(), &values).await?)?;
    policies.retain(|object| kind(object).starts_with("ValidatingAdmissionPolicy"));
    ensure!(policies.len() == 4, "not two policies and bindings");
    apply(site.ns.client(), &policies, false).await?;
    Ok(policies)
}

async fn removed(site: &Site, policies: Vec<DynamicObject>) -> Result<()> {
    for object in policies {
        let types = object.types.clone().context("no type")?;
        let resource = crate::support::site::resource(&types.api_version, &types.kind);
        let api = Api::<DynamicObject>::all_with(site.ns.client().clone(), &resource);
        let name = object.metadata.name.context("no name")?;
        api.delete(&name, &DeleteParams::background()).await?;
    }
    Ok(())
}

/// Who has the rights of a server's pods cannot have another Secret shown to them by way of a
/// ZenSecret.
#[tokio::test]
async fn a_servers_pods_write_sealed_values_alone() -> Result<()> {
    site("sealed-alone", async |site| {
        let policies = policies(site).await?;
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.until::<RoleBinding>("prod", "made", |_| true).await?;
        let kubeconfig = site
            .plane
            .kubeconfig_for_service_account(site.name(), "prod", None)
            .await?;
        let pods = client_from(&kubeconfig).await?;
        let api = Api::<ZenSecret>::namespaced(pods, site.name());
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let attempt = async |object: Value| -> Result<String> {
            let wanted: ZenSecret = serde_json::from_value(object)?;
            Ok(match api.create(&parameters, &wanted).await {
                Ok(_) => "done".to_owned(),
                Err(error) => error.to_string(),
            })
        };
        let from =
            json!([{"key": "k", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}}]);
        let refused = async {
            while attempt(secret("s", from.clone())).await? == "done" {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, refused)
            .await
            .context("it may")??;
        let sealed = "-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned() + &"A".repeat(64);
        let sealed = json!([{"key": "k", "encrypted": sealed}]);
        let generated = json!([{"key": "k", "generate": {}}]);
        let taken = with(secret("s", sealed.clone()), "spec.adoption", json!("Force"));
        for (object, told) in [
            (secret("s", from), "sealed values alone"),
            (secret("s", generated), "sealed values alone"),
            (taken, "take no Secret over"),
            (secret("s", sealed), "done"),
            (secret("s", json!([])), "done"),
        ] {
            let said = attempt(object).await?;
            ensure!(said.contains(told), "{said}");
        }
        removed(site, policies).await
    })
    .await
}

/// Waits until the API server has taken notice of the policy: it refuses what it would do.
async fn refused(site: &Site) -> Result<()> {
    let api = site.api::<ZenAPIKey>();
    let refused = async {
        let parameters = DeleteParams::background().dry_run();
        while api.delete("main", &parameters).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .context("it would be deleted")
}

#[tokio::test]
async fn d12_who_says_nothing_of_encryption_at_rest_is_reminded() -> Result<()> {
    site("at-rest", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let unknown = |server: &ZenServer| {
            let said = message(server, condition::ENCRYPTION_AT_REST_UNKNOWN);
            said.contains("secretsEncryptedAtRest")
        };
        site.until("prod", "told of it", unknown).await?;
        operator.stop().await?;
        let mut launch = site.launch();
        launch.arguments = vec!["--secrets-encrypted-at-rest".into()];
        let operator = site.start(&launch)?;
        operator.leads().await?;
        let known = |server: &ZenServer| !unknown(server);
        site.until("prod", "told no more", known).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn f26_a_suspended_server_has_no_pods_and_keeps_its_keys() -> Result<()> {
    site("suspended", async |site| {
        let _operator = site.operator().await?;
        let three = with(server("prod"), "spec.replicas", json!(3));
        site.apply(&three).await?;
        site.apply(&account("ci")).await?;
        site.apply(&key("main")).await?;
        site.key_ready("main", 1).await?;
        let has = |count: i32| move |one: &Deployment| one.spec.replicas == Some(count);
        site.until("prod", "with three pods", has(3)).await?;
        site.apply(&with(three.clone(), "spec.suspend", json!(true)))
            .await?;
        site.until("prod", "without pods", has(0)).await?;
        // What is asked for meanwhile happens.
        site.apply(&with(key("main"), "spec.active", json!(false)))
            .await?;
        let inactive = says::<ZenAPIKey>(condition::ACTIVE, "False", reason::DEACTIVATED);
        site.until("main", "inactive", inactive).await?;
        site.apply(&three).await?;
        site.until("prod", "with three pods again", has(3)).await?;
        Ok(())
    })
    .await
}

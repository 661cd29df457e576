//! What stands around a server's pods: budget and spread, NetworkPolicy, and what clients need to connect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json, to_value};
use zenop::api::{FIELD_MANAGER, ZenServer, condition, reason};

use super::drift::{patch, repaired};
use crate::support::{Site, message, server, site, site::resource, stalled, with, with_mysql};

fn of(replicas: i32) -> Value {
    with(server("prod"), "spec.replicas", json!(replicas))
}

/// The template of the pods.
async fn template(site: &Site) -> Result<Value> {
    let deployment: Deployment = site.api().get("prod").await?;
    Ok(to_value(deployment.spec.template)?)
}

async fn scaled(site: &Site, replicas: i32) -> Result<()> {
    let is = |d: &Deployment| d.spec.replicas == Some(replicas);
    site.until("prod", &format!("with {replicas} replicas"), is)
        .await
        .map(drop)
}

async fn budget(site: &Site) -> Result<PodDisruptionBudget> {
    site.until("prod", "made", |_: &PodDisruptionBudget| true)
        .await
}

async fn without_budget(site: &Site) -> Result<()> {
    let api = site.api::<PodDisruptionBudget>();
    let Some(budget) = api.get_opt("prod").await? else {
        return Ok(());
    };
    let uid = budget.uid().context("no uid")?;
    site.until_gone::<PodDisruptionBudget>("prod", &uid).await
}

#[tokio::test]
async fn f14_two_pods_are_spread_and_never_go_together() -> Result<()> {
    site("budget", async |site| {
        let _operator = site.operator().await?;
        site.apply(&of(1)).await?;
        scaled(site, 1).await?;
        site.settled().await?;
        without_budget(site).await?;
        let alone = template(site).await?;
        ensure!(
            alone.pointer("/spec/topologySpreadConstraints").is_none(),
            "{alone}"
        );

        site.apply(&of(2)).await?;
        scaled(site, 2).await?;
        let spec = to_value(budget(site).await?.spec)?;
        ensure!(spec["maxUnavailable"] == 1, "{spec}");
        let pods = json!({
            "app.kubernetes.io/name": "zenserver", "app.kubernetes.io/instance": "prod",
        });
        ensure!(spec["selector"]["matchLabels"] == pods, "{spec}");
        let spread = template(site).await?["spec"]["topologySpreadConstraints"].clone();
        let keys: Vec<_> = spread.as_array().context("not spread")?.iter().collect();
        for (constraint, key) in keys
            .iter()
            .zip(["kubernetes.io/hostname", "topology.kubernetes.io/zone"])
        {
            ensure!(constraint["topologyKey"] == key, "{spread}");
            ensure!(
                constraint["whenUnsatisfiable"] == "ScheduleAnyway",
                "{spread}"
            );
            ensure!(
                constraint["labelSelector"]["matchLabels"] == pods,
                "{spread}"
            );
        }

        // One again: nothing holds up its node, and it is not made anew.
        let before = template(site).await?;
        site.apply(&of(1)).await?;
        scaled(site, 1).await?;
        site.settled().await?;
        without_budget(site).await?;
        ensure!(template(site).await? == before, "the pod is made anew");
        Ok(())
    })
    .await
}

/// F21 with it: pods that run are not made anew to be spread.
#[tokio::test]
async fn f14_what_an_autoscaler_makes_two_gets_a_budget_and_stays_as_it_is() -> Result<()> {
    site("autoscaled", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        scaled(site, 1).await?;
        site.settled().await?;
        without_budget(site).await?;
        let before = template(site).await?;
        patch::<Deployment>(site, "prod", json!({"spec": {"replicas": 2}})).await?;
        budget(site).await?;
        ensure!(template(site).await? == before, "pods are made anew");
        site.apply(&of(2)).await?;
        site.settled().await?;
        ensure!(
            template(site).await? == before,
            "pods that run are made anew"
        );

        site.apply(&with(of(2), "spec.suspend", json!(true)))
            .await?;
        scaled(site, 0).await?;
        site.settled().await?;
        without_budget(site).await
    })
    .await
}

#[tokio::test]
async fn f4_clients_find_in_one_place_what_they_need_to_connect() -> Result<()> {
    site("connection", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let says = |url: String| {
            move |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("url")) == Some(&url)
        };
        let internal = format!("http://prod.{}.svc", site.name());
        let map = site
            .until("prod-connection", "made", says(internal.clone()))
            .await?;
        let expected = json!({"url": internal, "internalURL": internal});
        ensure!(to_value(&map.data)? == expected, "{:?}", map.data);
        let named = |server: &ZenServer| {
            let status = server.status.as_ref();
            let reference = status.and_then(|status| status.connection_ref.as_ref());
            reference.is_some_and(|reference| reference.name == "prod-connection")
        };
        site.until("prod", "that names it", named).await?;

        let url = "https://zenml.example.org";
        site.apply(&with(server("prod"), "spec.url", json!(url)))
            .await?;
        let map = site
            .until("prod-connection", "changed", says(url.into()))
            .await?;
        let expected = json!({"url": url, "internalURL": internal});
        ensure!(to_value(&map.data)? == expected, "{:?}", map.data);
        let uid = map.uid();
        site.delete::<ConfigMap>("prod-connection").await?;
        let again = |map: &ConfigMap| map.uid() != uid;
        site.until("prod-connection", "made again", again).await?;
        let evil = json!({"data": {"url": "https://evil.example.org"}});
        repaired::<ConfigMap>(site, "prod-connection", evil, "/data").await
    })
    .await
}

/// The TCP ports that a list of them opens.
fn tcp(ports: &Value) -> Vec<i64> {
    let ports = ports.as_array().into_iter().flatten();
    let ports = ports.filter(|port| port["protocol"] == "TCP");
    ports.filter_map(|port| port["port"].as_i64()).collect()
}

#[tokio::test]
async fn f25_pods_are_reached_and_reach_as_it_is_listed() -> Result<()> {
    site("policy", async |site| {
        let _operator = site.operator().await?;
        let served = with_mysql(server("prod"), "{{db.pass}}");
        let served = with(served, "spec.database.mysql.port", json!(3307));
        site.apply(&served).await?;
        let made = |_: &NetworkPolicy| true;
        let policy: NetworkPolicy = site.until("prod", "made", made).await?;
        let spec = to_value(policy.spec)?;
        ensure!(
            spec["policyTypes"] == json!(["Ingress", "Egress"]),
            "{spec}"
        );
        ensure!(
            spec["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "prod",
            "{spec}"
        );
        ensure!(tcp(&spec["ingress"][0]["ports"]) == [8080, 8081], "{spec}");
        let open = tcp(&spec["egress"][0]["ports"]);
        ensure!(open == [53, 5353, 443, 3307, 6443, 8443], "{open:?}");
        ensure!(spec["egress"].as_array().map(Vec::len) == Some(1), "{spec}");

        let rules = json!([{"ports": [9000]}, {"cidr": "10.20.0.0/16"}]);
        let more = with(
            served.clone(),
            "spec.networkPolicy",
            json!({"egress": rules}),
        );
        site.apply(&more).await?;
        let three = |policy: &NetworkPolicy| {
            let spec = policy.spec.as_ref().and_then(|spec| spec.egress.as_ref());
            spec.is_some_and(|egress| egress.len() == 3)
        };
        let policy = site.until("prod", "with more", three).await?;
        let egress = to_value(policy.spec)?["egress"].clone();
        ensure!(
            tcp(&egress[1]["ports"]) == [9000] && egress[1].get("to").is_none(),
            "{egress}"
        );
        ensure!(
            egress[2] == json!({"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]}),
            "{egress}"
        );

        // A hole that somebody makes is closed, also beside what is ours.
        site.settled().await?;
        let hole = json!({"spec": {"ingress": [{"ports": [
            {"protocol": "TCP", "port": 8080}, {"protocol": "TCP", "port": 8081},
            {"protocol": "TCP", "port": 22},
        ]}]}});
        repaired::<NetworkPolicy>(site, "prod", hole, "/spec/ingress").await?;
        let everything = json!({"spec": {"egress": [{}]}});
        repaired::<NetworkPolicy>(site, "prod", everything, "/spec/egress").await?;

        let uid = site
            .api::<NetworkPolicy>()
            .get("prod")
            .await?
            .uid()
            .context("no uid")?;
        site.apply(&with(
            served,
            "spec.networkPolicy",
            json!({"enabled": false}),
        ))
        .await?;
        site.until_gone::<NetworkPolicy>("prod", &uid).await
    })
    .await
}

/// Its own controller may write its status.
async fn left_alone(site: &Site, before: &DynamicObject, kind: &str) -> Result<()> {
    let types = before.types.clone().context("no type")?;
    let api = site.dynamic(&resource(&types.api_version, kind));
    let now = api.get(&before.name_any()).await?;
    for part in ["spec", "data"] {
        ensure!(
            now.data.get(part) == before.data.get(part),
            "it was changed"
        );
    }
    let ours = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(FIELD_MANAGER);
    ensure!(!now.managed_fields().iter().any(ours), "it was written");
    ensure!(now.uid() == before.uid(), "it was made again");
    Ok(())
}

/// Each of these is in the way, is told of, and is left alone.
#[tokio::test]
async fn what_is_somebody_elses_around_a_server_is_left_alone() -> Result<()> {
    let select = json!({"matchLabels": {"a": "b"}});
    let backend = json!({"service": {"name": "a", "port": {"number": 1}}});
    let strangers = [
        (
            "v1",
            "ConfigMap",
            "prod-connection",
            json!({"data": {"a": "b"}}),
            "another name",
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            "prod",
            json!({"spec": {"selector": select, "maxUnavailable": 3}}),
            "another name",
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "prod",
            json!({"spec": {"podSelector": select}}),
            "spec.networkPolicy.enabled: false",
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            "prod",
            json!({"spec": {"defaultBackend": backend}}),
            "spec.expose.mode: None",
        ),
    ];
    let expose = json!({"mode": "Ingress", "ingress": {"hostname": "zenml.example.org"}});
    let wanted = with(of(2), "spec.expose", expose);
    for (version, kind, name, mut object, remedy) in strangers {
        site("stranger", async |site| {
            object["apiVersion"] = json!(version);
            object["kind"] = json!(kind);
            object["metadata"] = json!({"name": name});
            let theirs = site.apply(&object).await?;
            let _operator = site.operator().await?;
            site.apply(&wanted).await?;
            let conflict = stalled::<ZenServer>(reason::CONFLICT);
            let server = site.until("prod", "in conflict", conflict).await?;
            let why = message(&server, condition::CONFLICT);
            ensure!(
                why.contains(&format!("{kind} {name}")) && why.contains(remedy),
                "{why}"
            );
            ensure!(
                site.api::<Service>().get_opt("prod").await?.is_none(),
                "half of it was made"
            );
            left_alone(site, &theirs, kind).await?;

            // Who does not want one does not mind somebody else's, and does not take it away.
            if !remedy.starts_with("spec.") {
                return Ok(());
            }
            let none = with(of(1), "spec.networkPolicy", json!({"enabled": false}));
            site.apply(&none).await?;
            let well = |server: &ZenServer| {
                server
                    .status
                    .as_ref()
                    .map(|status| status.observed_generation)
                    == server.metadata.generation
                    && message(server, condition::CONFLICT).is_empty()
            };
            site.until("prod", "without a conflict", well).await?;
            site.quiet(Duration::from_millis(500)).await?;
            left_alone(site, &theirs, kind).await
        })
        .await
        .with_context(|| format!("{kind} {name}"))?;
    }
    Ok(())
}

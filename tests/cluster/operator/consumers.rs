//! Workloads that use a key are restarted once it was replaced, and the old one waits for them.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::{Api, api::DynamicObject, runtime::wait::await_condition};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::timeout};
use zenop::api::ZenAPIKey;
use zenop_cluster::{
    ControlPlane, Options,
    fault::{Match, Verb},
};

use crate::support::{
    PATIENCE, Site, accepted, key, site::own_plane, site::resource, site_on, with,
};

/// One where pods turn Ready.
async fn plane() -> Result<&'static ControlPlane> {
    static PLANE: OnceCell<&ControlPlane> = OnceCell::const_new();
    let start = || {
        own_plane(Options {
            kwok: true,
            ..Options::default()
        })
    };
    PLANE.get_or_try_init(start).await.copied()
}

fn workload(kind: &str, name: &str) -> Value {
    let labels = json!({"app": name});
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "labels": {"uses": "zenml"}},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": {"theirs.example.org/a": "kept"}},
            "spec": {"containers": [{"name": "main", "image": "registry.invalid/main"}]},
        }},
    });
    match kind {
        "Deployment" => workload["spec"]["replicas"] = json!(2),
        "StatefulSet" => workload["spec"]["serviceName"] = json!(name),
        // Nobody takes the taint of a new node away.
        _ => workload["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]),
    }
    workload
}

/// A Deployment whose pods are not replaced for now.
fn held(name: &str, held: bool) -> Value {
    with(workload("Deployment", name), "spec.paused", json!(held))
}

fn used_by(consumers: Value, rotation: Value) -> impl Fn(&str, &str) -> Value {
    move |name, trigger| {
        let mut all = rotation.clone();
        all["consumers"] = consumers.clone();
        all["trigger"] = json!(trigger);
        with(key(name), "spec.rotation", all)
    }
}

fn apps(site: &Site, kind: &str) -> Api<DynamicObject> {
    site.dynamic(&resource("apps/v1", kind))
}

/// A workload once its pods are all of its present template.
async fn complete(site: &Site, kind: &str, name: &str) -> Result<DynamicObject> {
    let is = |object: Option<&DynamicObject>| {
        let number = |path: &str| object.and_then(|o| o.data.pointer(path)?.as_i64());
        let wanted = match kind {
            "Deployment" => Some(2),
            _ => Some(1),
        };
        let counted = match kind {
            "DaemonSet" => number("/status/updatedNumberScheduled"),
            _ => number("/status/updatedReplicas"),
        };
        let observed = number("/status/observedGeneration");
        observed == object.and_then(|o| o.metadata.generation) && counted == wanted
    };
    let complete = timeout(PATIENCE, await_condition(apps(site, kind), name, is)).await;
    let complete = complete.with_context(|| format!("{kind} {name} does not roll out"))?;
    complete?.context("it is gone")
}

fn annotation(object: &DynamicObject, name: &str) -> Option<String> {
    let all = object.data.pointer("/spec/template/metadata/annotations")?;
    Some(all.get(name)?.as_str()?.to_owned())
}

/// How many Deployments were restarted.
async fn restarted(site: &Site) -> Result<usize> {
    let all = apps(site, "Deployment")
        .list(&kube::api::ListParams::default())
        .await?;
    let marked = all
        .iter()
        .filter(|o| annotation(o, "zenop.dev/restarted-at").is_some());
    Ok(marked.count())
}

fn rolled(generation: i64, count: usize) -> impl Fn(&ZenAPIKey) -> bool {
    move |key| {
        let consumers = key.status.as_ref().map(|s| s.consumers.as_slice());
        consumers.is_some_and(|all| {
            all.len() == count && all.iter().all(|c| c.rolled && c.generation == generation)
        })
    }
}

#[tokio::test]
async fn each_consumer_is_restarted_once_for_each_rotation() -> Result<()> {
    site_on(plane().await?, "consumers", async |site| {
        let mut all = vec![("StatefulSet", "db"), ("DaemonSet", "agent"), ("Deployment", "web")];
        all.extend(["s0", "s1", "s2", "s3", "s4", "s5"].map(|name| ("Deployment", name)));
        for (kind, name) in &all {
            site.apply(&workload(kind, name)).await?;
        }
        // Of another label, and of none.
        let other = with(workload("Deployment", "other"), "metadata.labels", json!({"uses": "x"}));
        site.apply(&other).await?;
        for (kind, name) in &all {
            complete(site, kind, name).await?;
        }
        let by_label = json!({"matchLabels": {"uses": "zenml"}});
        let consumers = json!([
            {"kind": "Deployment", "name": "web"},
            {"kind": "Deployment", "selector": by_label},
            {"kind": "StatefulSet", "name": "db"},
            {"kind": "DaemonSet", "selector": by_label},
            {"kind": "Deployment", "name": "nobody"},
        ]);
        let main = used_by(consumers, json!({"retainFor": "1s", "minRestartInterval": "0s"}));
        let operator = site.operator().await?;
        site.apply_with(&main("main", "a")).await?;
        site.key_ready("main", 1).await?;
        site.settled().await?;
        let apps_writes = |resource: &str| {
            let patches = Match::verb(Verb::Patch).on(resource);
            site.proxy.since(0, &patches).into_iter().filter(|call| call.name != "prod").count()
        };
        let kinds = ["deployments", "statefulsets", "daemonsets"];
        ensure!(kinds.map(apps_writes) == [0; 3], "restarted for the first key");

        site.apply(&main("main", "b")).await?;
        site.key_ready("main", 2).await?;
        let key = site.until("main", "rolled out", rolled(2, all.len())).await?;
        let mark = format!("zenop.dev/key.{}", key.metadata.uid.clone().unwrap_or_default());
        for (kind, name) in &all {
            let object = complete(site, kind, name).await?;
            ensure!(object.metadata.generation == Some(2), "{name} was not restarted once");
            ensure!(annotation(&object, &mark).as_deref() == Some("2"), "{name}");
            ensure!(annotation(&object, "theirs.example.org/a").as_deref() == Some("kept"));
        }
        let other = apps(site, "Deployment").get("other").await?;
        ensure!(other.metadata.generation == Some(1), "it is no consumer");
        let gone = |key: &ZenAPIKey| accepted(key) == [2];
        site.until("main", "without its old key", gone).await?;

        // The next process restarts nothing, nor does anybody who takes our marks away.
        site.settled().await?;
        operator.stop().await?;
        for object in [("Deployment", "web"), ("StatefulSet", "db")] {
            let none = json!([{"op": "remove", "path": "/spec/template/metadata/annotations/zenop.dev~1restarted-at"}]);
            let patch = kube::api::Patch::Json::<()>(serde_json::from_value(none)?);
            apps(site, object.0).patch(object.1, &Default::default(), &patch).await?;
        }
        let mark = site.proxy.mark();
        let _operator = site.operator().await?;
        site.settled().await?;
        let writes = site.proxy.since(mark, &Match::writes());
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn four_at_a_time_and_the_old_key_waits_for_the_last() -> Result<()> {
    site_on(plane().await?, "batches", async |site| {
        let names = ["s0", "s1", "s2", "s3", "s4", "s5"];
        for name in names {
            site.apply(&held(name, false)).await?;
        }
        for name in names {
            complete(site, "Deployment", name).await?;
            site.apply(&held(name, true)).await?;
        }
        let by_label = json!({"matchLabels": {"uses": "zenml"}});
        let consumers = json!([{"kind": "Deployment", "selector": by_label}]);
        let main = used_by(consumers, json!({"retainFor": "1s"}));
        let _operator = site.operator().await?;
        site.apply_with(&main("main", "a")).await?;
        site.key_ready("main", 1).await?;
        site.apply(&main("main", "b")).await?;
        site.key_ready("main", 2).await?;
        let patched = Match::verb(Verb::Patch).on("deployments");
        let lists = Match::verb(Verb::List).on("deployments");
        let looks = async |count| {
            let mark = site.proxy.mark();
            site.proxy.wait_for(mark, &lists, count, PATIENCE).await
        };
        looks(3).await?;
        ensure!(
            restarted(site).await? == 4,
            "{:?}",
            site.proxy.since(0, &patched)
        );
        let key: ZenAPIKey = site.api().get("main").await?;
        ensure!(accepted(&key) == [1, 2], "the old key did not wait");

        // One is complete: one more may begin.
        site.apply(&held("s0", false)).await?;
        let five = async {
            while restarted(site).await? < 5 {
                looks(1).await?;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, five).await.context("no fifth")??;
        looks(2).await?;
        ensure!(restarted(site).await? == 5);
        let key: ZenAPIKey = site.api().get("main").await?;
        ensure!(accepted(&key) == [1, 2], "the old key did not wait");
        for name in names {
            site.apply(&held(name, false)).await?;
        }
        site.until("main", "rolled out", rolled(2, names.len()))
            .await?;
        let gone = |key: &ZenAPIKey| accepted(key) == [2];
        site.until("main", "without its old key", gone)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn the_old_key_goes_at_the_latest_and_does_not_wait_unasked() -> Result<()> {
    for (wait, cap) in [(true, "4s"), (false, "1h")] {
        site_on(plane().await?, "stuck", async |site| {
            site.apply(&held("web", true)).await?;
            let consumers = json!([{"kind": "Deployment", "name": "web", "wait": wait}]);
            let main = used_by(consumers, json!({"retainFor": "1s", "maxRetain": cap}));
            let _operator = site.operator().await?;
            site.apply_with(&main("main", "a")).await?;
            site.key_ready("main", 1).await?;
            site.apply(&main("main", "b")).await?;
            let gone = |key: &ZenAPIKey| accepted(key) == [2];
            let key: ZenAPIKey = site.until("main", "without its old key", gone).await?;
            let consumers = key.status.context("no status")?.consumers;
            ensure!(consumers.iter().all(|c| !c.rolled), "it was not stuck");
            site.check_delivered("main", 2).await.map(drop)
        })
        .await
        .with_context(|| format!("wait: {wait}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_are_rotated_together_share_a_restart() -> Result<()> {
    site_on(plane().await?, "together", async |site| {
        site.apply(&workload("Deployment", "web")).await?;
        complete(site, "Deployment", "web").await?;
        let consumers = json!([{"kind": "Deployment", "name": "web"}]);
        let used = used_by(consumers, json!({"minRestartInterval": "8s"}));
        let names = ["first", "second", "third"];
        let _operator = site.operator().await?;
        site.apply_three().await?;
        for name in names {
            site.apply(&used(name, "a")).await?;
        }
        for name in names {
            site.key_ready(name, 1).await?;
        }
        site.apply(&used("first", "b")).await?;
        site.until("first", "rolled out", rolled(2, 1)).await?;
        let at = async || -> Result<Timestamp> {
            let web = apps(site, "Deployment").get("web").await?;
            Ok(annotation(&web, "zenop.dev/restarted-at")
                .context("never")?
                .parse()?)
        };
        let before = at().await?;
        // Both are due for a restart at the same moment, when the workload has rested.
        for name in ["second", "third"] {
            site.apply(&used(name, "b")).await?;
        }
        for name in ["second", "third"] {
            site.until(name, "rolled out", rolled(2, 1)).await?;
        }
        let rest = at().await?.duration_since(before).as_secs();
        ensure!((8..30).contains(&rest), "it rested for {rest} s");
        let web = complete(site, "Deployment", "web").await?;
        ensure!(
            web.metadata.generation == Some(3),
            "three keys took {:?}",
            web.metadata.generation
        );
        Ok(())
    })
    .await
}

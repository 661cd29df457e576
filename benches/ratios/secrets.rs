//! ZenSecrets applied to all Ready, against the same writes by a plain client.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use zenop::api::ZenSecret;
use zenop_cluster::ControlPlane;

use super::{
    door::named,
    processes::{Process, until},
    reconcile::{all_ready, is_ready, make_namespace, plane, server, unbounded},
    rest::writes,
    rounds,
    table::{Goal, Row},
};

/// How many secrets: `ZENOP_BENCH_SECRETS`, else 10,000.
fn secrets() -> usize {
    super::count("ZENOP_BENCH_SECRETS", 10_000)
}

/// How many writes are under way at a time, on each side.
const CONCURRENCY: usize = 32;

/// What one is made of: two values of a Secret that another tool keeps.
fn secret(name: &str) -> ZenSecret {
    let from = |key: &str| json!({"key": key, "valueFrom": {"secretKeyRef": {"name": "vault", "key": key}}});
    let spec = json!({"serverRef": {"name": "prod"}, "data": [from("user"), from("pass")]});
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret", "spec": spec}),
        name,
    )
}

pub async fn run() -> Vec<Row> {
    let n = secrets();
    println!(
        "operator: {n} ZenSecrets to Ready, {} rounds; starting a control plane",
        rounds()
    );
    let (plane, client) = plane().await;
    let (mut ours, mut raw, mut memory, mut rest) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds() {
        let sample = sample(&client, &plane, &format!("ours-{round}"), n).await;
        let plain = plain(&client, &format!("raw-{round}"), &sample).await;
        println!(
            "  round {round}: zenop {:.0} secrets/s (peak {:.1} MiB, {:.0} writes at rest), plain client {plain:.0} secrets/s",
            sample.rate, sample.memory, sample.at_rest
        );
        ours.push(sample.rate);
        memory.push(sample.memory);
        rest.push(sample.at_rest);
        raw.push(plain);
    }
    let row = |what: String, unit, ours, most| Row {
        what,
        unit,
        ours,
        peer: Vec::new(),
        goal: Goal::AtMost(most),
    };
    vec![
        Row {
            what: "ZenSecrets applied to Ready, by a plain client".into(),
            unit: "secrets/s",
            ours,
            peer: raw,
            goal: Goal::Ratio(0.85),
        },
        row(format!("{n} ZenSecrets: peak memory"), "MiB", memory, 64.0),
        row(format!("{n} ZenSecrets: writes at rest"), "", rest, 0.0),
    ]
}

/// What the operator did, and one secret of it to repeat by hand.
struct Sample {
    rate: f64,
    memory: f64,
    at_rest: f64,
    object: ZenSecret,
    made: Secret,
    n: usize,
}

async fn sample(client: &Client, plane: &ControlPlane, namespace: &str, n: usize) -> Sample {
    make_namespace(client, namespace).await;
    let operator = Process::operator(plane.kubeconfig(), namespace);
    let post = PostParams::default();
    Api::namespaced(client.clone(), namespace)
        .create(&post, &server())
        .await
        .expect("a server");
    let vault: Secret = named(
        json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"user": "ana", "pass": "hunter2"}}),
        "vault",
    );
    let made: Api<Secret> = Api::namespaced(client.clone(), namespace);
    made.create(&post, &vault).await.expect("a source");
    let api: Api<ZenSecret> = Api::namespaced(client.clone(), namespace);
    api.create(&post, &secret("first")).await.expect("a secret");
    until("the first secret", || async {
        api.get("first").await.is_ok_and(|one| is_ready(&one))
    })
    .await;
    let begun = Instant::now();
    let ready = tokio::spawn(all_ready(api.clone(), n));
    stream::iter(0..n)
        .map(Ok::<_, kube::Error>)
        .try_for_each_concurrent(CONCURRENCY, |i| {
            let api = api.clone();
            async move {
                let one = secret(&format!("s-{i}"));
                api.create(&PostParams::default(), &one).await.map(drop)
            }
        })
        .await
        .expect("creates");
    ready.await.expect("all became Ready");
    let rate = n as f64 / begun.elapsed().as_secs_f64();
    let before = writes(client).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    Sample {
        rate,
        at_rest: writes(client).await - before,
        memory: operator.peak_memory(),
        object: api.get("s-0").await.expect("a secret"),
        made: made.get("s-0").await.expect("its Secret"),
        n,
    }
}

/// The same writes in the same order by a client that does nothing else.
async fn plain(client: &Client, namespace: &str, sample: &Sample) -> f64 {
    make_namespace(client, namespace).await;
    let api: Api<ZenSecret> = Api::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    let watched = tokio::spawn(all_ready(api.clone(), sample.n));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let creating = async {
        stream::iter(0..sample.n)
            .map(Ok::<_, kube::Error>)
            .try_for_each_concurrent(CONCURRENCY, |i| {
                let (api, sender) = (api.clone(), sender.clone());
                async move {
                    let one = secret(&format!("s-{i}"));
                    let made = api.create(&PostParams::default(), &one).await?;
                    sender.send(made).expect("somebody writes");
                    Ok(())
                }
            })
            .await
            .expect("creates");
        drop(sender);
    };
    let writing = unbounded(receiver).for_each_concurrent(CONCURRENCY, |one| {
        write_like(client, namespace, sample, one)
    });
    tokio::join!(creating, writing);
    watched.await.expect("all became Ready");
    sample.n as f64 / begun.elapsed().as_secs_f64()
}

async fn write_like(client: &Client, namespace: &str, sample: &Sample, one: ZenSecret) {
    let name = one.name_any();
    let mut made = sample.made.clone();
    made.metadata.name = Some(name.clone());
    made.metadata.namespace = Some(namespace.into());
    made.metadata.resource_version = None;
    made.metadata.uid = None;
    made.metadata.managed_fields = None;
    made.metadata.owner_references = Some(vec![one.controller_owner_ref(&()).expect("an owner")]);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    secrets
        .create(&PostParams::default(), &made)
        .await
        .expect("a Secret");
    let status: Value = serde_json::to_value(&sample.object.status).expect("JSON");
    let body = json!({
        "apiVersion": ZenSecret::api_version(&()), "kind": ZenSecret::kind(&()),
        "metadata": {"name": name, "uid": one.uid()}, "status": status,
    });
    let api: Api<ZenSecret> = Api::namespaced(client.clone(), namespace);
    let apply = PatchParams::apply("bench").force();
    api.patch_status(&name, &apply, &Patch::Apply(body))
        .await
        .expect("a status");
}

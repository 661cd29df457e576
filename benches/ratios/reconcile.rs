//! Keys applied to all Ready, against the same writes by a plain client.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::object::HasStatus,
    runtime::wait::{await_condition, conditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zenop::api::{KindStatus, ZenAPIKey, ZenServer, ZenServiceAccount, all_crds};
use zenop_cluster::{ControlPlane, Options};

use super::{
    door::named,
    processes::{Process, until},
    rounds,
    table::{Goal, Row},
};

/// How many keys: `ZENOP_BENCH_KEYS`, else 5,000.
fn keys() -> usize {
    super::count("ZENOP_BENCH_KEYS", 5000)
}

/// How many writes are under way at a time, on each side.
const CONCURRENCY: usize = 32;

pub fn server() -> ZenServer {
    let spec = json!({
        "policy": {"keys": {"maxPerAccount": 100_000}},
        // What is measured is the work, not its limit.
        "auth": {"rateLimit": {"global": "none"}},
    });
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer", "spec": spec}),
        "prod",
    )
}

pub fn account() -> ZenServiceAccount {
    let spec = json!({"serverRef": {"name": "prod"}});
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServiceAccount", "spec": spec}),
        "ci",
    )
}

pub fn key(name: &str) -> ZenAPIKey {
    let spec = json!({"serviceAccountRef": {"name": "ci"}});
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "spec": spec}),
        name,
    )
}

/// Installs the definitions, and waits until they are served.
pub async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in all_crds() {
        api.create(&PostParams::default(), &crd)
            .await
            .expect("a definition");
        let name = crd.name_any();
        await_condition(api.clone(), &name, conditions::is_crd_established())
            .await
            .expect("it is served");
    }
}

pub async fn run() -> Vec<Row> {
    let n = keys();
    println!(
        "operator: {n} ZenAPIKeys to Ready, {} rounds; starting a control plane",
        rounds()
    );
    let (plane, client) = plane().await;
    let (mut ours, mut raw, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds() {
        let sample = sample(&client, &plane, &format!("ours-{round}"), n).await;
        let plain = plain(&client, &format!("raw-{round}"), &sample).await;
        println!(
            "  round {round}: zenop {:.0} keys/s ({} writes a key, peak {:.1} MiB), plain client {plain:.0} keys/s",
            sample.rate, sample.writes, sample.memory
        );
        ours.push(sample.rate);
        memory.push(sample.memory);
        raw.push(plain);
    }
    vec![
        Row {
            what: "ZenAPIKeys applied to Ready, by a plain client".into(),
            unit: "keys/s",
            ours,
            peer: raw,
            goal: Goal::Ratio(0.6),
        },
        Row {
            what: "the operator's peak memory".into(),
            unit: "MiB",
            ours: memory,
            peer: Vec::new(),
            goal: Goal::AtMost(40.0),
        },
    ]
}

/// What the operator did, and one key of it to repeat by hand.
struct Sample {
    rate: f64,
    memory: f64,
    writes: usize,
    key: ZenAPIKey,
    secret: Secret,
    event: Option<Event>,
    n: usize,
}

/// A control plane that knows our kinds.
pub async fn plane() -> (ControlPlane, Client) {
    let plane = ControlPlane::start(Options::default())
        .await
        .expect("a control plane");
    let client = plane.client().await.expect("a client");
    install(&client).await;
    (plane, client)
}

/// An operator at work in a namespace of its own, where a first key went through all of it.
pub async fn at_work(
    client: &Client,
    plane: &ControlPlane,
    namespace: &str,
) -> (Process, Api<ZenAPIKey>) {
    make_namespace(client, namespace).await;
    let operator = Process::operator(plane.kubeconfig(), namespace);
    let post = PostParams::default();
    Api::namespaced(client.clone(), namespace)
        .create(&post, &server())
        .await
        .expect("a server");
    Api::namespaced(client.clone(), namespace)
        .create(&post, &account())
        .await
        .expect("an account");
    let keys: Api<ZenAPIKey> = Api::namespaced(client.clone(), namespace);
    keys.create(&post, &key("first")).await.expect("a key");
    until("the first key", || async {
        keys.get("first").await.is_ok_and(|key| is_ready(&key))
    })
    .await;
    (operator, keys)
}

async fn sample(client: &Client, plane: &ControlPlane, namespace: &str, n: usize) -> Sample {
    let (operator, keys) = at_work(client, plane, namespace).await;
    let begun = Instant::now();
    let ready = tokio::spawn(all_ready(keys.clone(), n));
    create_all(&keys, n).await;
    ready.await.expect("all became Ready");
    let took = begun.elapsed();
    let key = keys.get("k-0").await.expect("a key");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get("k-0-key").await.expect("its Secret");
    let event = event_of(client, namespace, &key).await;
    Sample {
        rate: n as f64 / took.as_secs_f64(),
        memory: operator.peak_memory(),
        // Prepared, Secret, confirmed, and the event.
        writes: 1 + 3 + usize::from(event.is_some()),
        key,
        secret,
        event,
        n,
    }
}

/// The same writes in the same order, each key's after one another, by a client that does nothing
/// else: the key by one pool as big as the operator's user's, the rest by one as big as the operator's.
async fn plain(client: &Client, namespace: &str, sample: &Sample) -> f64 {
    make_namespace(client, namespace).await;
    let keys: Api<ZenAPIKey> = Api::namespaced(client.clone(), namespace);
    let n = sample.n;
    let begun = Instant::now();
    let watched = tokio::spawn(all_ready(keys.clone(), n));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let creating = async {
        stream::iter(0..n)
            .map(Ok::<_, kube::Error>)
            .try_for_each_concurrent(CONCURRENCY, |i| {
                let (keys, sender) = (keys.clone(), sender.clone());
                async move {
                    let made = keys
                        .create(&PostParams::default(), &key(&format!("k-{i}")))
                        .await?;
                    sender.send(made).expect("somebody writes");
                    Ok(())
                }
            })
            .await
            .expect("creates");
        drop(sender);
    };
    let receiver = unbounded(receiver);
    let writing = receiver.for_each_concurrent(CONCURRENCY, |key| {
        write_like(client, namespace, sample, key)
    });
    tokio::join!(creating, writing);
    watched.await.expect("all became Ready");
    n as f64 / begun.elapsed().as_secs_f64()
}

/// What comes through a channel.
pub fn unbounded<T: Send + 'static>(
    receiver: tokio::sync::mpsc::UnboundedReceiver<T>,
) -> impl futures::Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

async fn write_like(client: &Client, namespace: &str, sample: &Sample, key: ZenAPIKey) {
    let keys: Api<ZenAPIKey> = Api::namespaced(client.clone(), namespace);
    let name = key.name_any();
    let mut prepared = serde_json::to_value(&sample.key.status).expect("JSON");
    prepared["conditions"] = json!([]);
    let apply = PatchParams::apply("bench").force();
    let body = |status: Value| {
        json!({"apiVersion": ZenAPIKey::api_version(&()), "kind": ZenAPIKey::kind(&()),
               "metadata": {"name": name, "uid": key.uid()}, "status": status})
    };
    keys.patch_status(&name, &apply, &Patch::Apply(body(prepared)))
        .await
        .expect("a status");
    let mut secret = sample.secret.clone();
    secret.metadata.name = Some(format!("{name}-key"));
    secret.metadata.namespace = Some(namespace.into());
    secret.metadata.resource_version = None;
    secret.metadata.uid = None;
    secret.metadata.managed_fields = None;
    secret.metadata.owner_references = Some(vec![key.controller_owner_ref(&()).expect("an owner")]);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .expect("a Secret");
    let status = serde_json::to_value(&sample.key.status).expect("JSON");
    keys.patch_status(&name, &apply, &Patch::Apply(body(status)))
        .await
        .expect("a status");
    if let Some(mut event) = sample.event.clone() {
        event.metadata = kube::api::ObjectMeta {
            name: Some(format!("{name}.bench")),
            namespace: Some(namespace.into()),
            ..Default::default()
        };
        event.regarding = Some(key.object_ref(&()));
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        events
            .create(&PostParams::default(), &event)
            .await
            .expect("an event");
    }
}

pub async fn make_namespace(client: &Client, name: &str) {
    let namespace: Namespace = named(json!({"apiVersion": "v1", "kind": "Namespace"}), name);
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .expect("a namespace");
}

pub async fn create_all(keys: &Api<ZenAPIKey>, n: usize) {
    stream::iter(0..n)
        .map(Ok::<_, kube::Error>)
        .try_for_each_concurrent(CONCURRENCY, |i| async move {
            keys.create(&PostParams::default(), &key(&format!("k-{i}")))
                .await
                .map(drop)
        })
        .await
        .expect("creates");
}

/// Whether an object says that it is Ready.
pub fn is_ready<K: HasStatus<Status: KindStatus>>(object: &K) -> bool {
    let conditions = object.status().map_or(&[][..], KindStatus::conditions);
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Watches until `n` objects of a kind are Ready, but for the one named `first`.
pub async fn all_ready<K>(keys: Api<K>, n: usize)
where
    K: Resource + HasStatus<Status: KindStatus> + Clone + Debug + DeserializeOwned,
{
    all_are(keys, n, is_ready).await;
}

/// Watches until `n` objects of a kind came to be as wanted, but for the one named `first`.
pub async fn all_are<K>(keys: Api<K>, n: usize, wanted: impl Fn(&K) -> bool)
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let ready = Arc::new(AtomicUsize::new(0));
    let mut seen = std::collections::HashSet::new();
    let list = keys
        .list_metadata(&kube::api::ListParams::default().limit(1))
        .await
        .expect("a list");
    let mut version = list.metadata.resource_version.expect("a version");
    loop {
        let mut events = keys
            .watch(&WatchParams::default(), &version)
            .await
            .expect("a watch")
            .boxed();
        while let Some(event) = events.try_next().await.expect("an event") {
            if let WatchEvent::Added(key) | WatchEvent::Modified(key) = event {
                version = key.resource_version().expect("a version");
                if wanted(&key) && key.name_any() != "first" && seen.insert(key.name_any()) {
                    ready.fetch_add(1, Ordering::Relaxed);
                }
            }
            if ready.load(Ordering::Relaxed) == n {
                return;
            }
        }
    }
}

async fn event_of(client: &Client, namespace: &str, key: &ZenAPIKey) -> Option<Event> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let all = events
        .list(&kube::api::ListParams::default())
        .await
        .expect("a list");
    all.items
        .into_iter()
        .find(|e| e.regarding.as_ref().is_some_and(|r| r.uid == key.uid()))
}

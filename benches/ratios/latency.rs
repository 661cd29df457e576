//! From a key's creation to its Secret, against one plain write: at a hundred keys a second, and at
//! a quarter of that, where no small machine's API server falls behind.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use zenop::api::ZenAPIKey;
use zenop_cluster::ControlPlane;

use super::{
    door::named,
    reconcile::{at_work, key, make_namespace, plane},
    rounds,
    table::{Goal, Row},
};

/// How many keys in a round.
const KEYS: u32 = 1000;

pub async fn run() -> Vec<Row> {
    let (plane, client) = plane().await;
    let mut rows = at_rate(100, &plane, &client).await;
    rows.extend(at_rate(25, &plane, &client).await);
    rows
}

/// So many keys a second.
async fn at_rate(rate: u32, plane: &ControlPlane, client: &Client) -> Vec<Row> {
    println!(
        "operator: {KEYS} keys at {rate} a second, from creation to Secret, {} rounds",
        rounds()
    );
    let every = Duration::from_secs(1) / rate;
    let (mut ours, mut raw) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 1..=rounds() {
        let namespace = format!("raw-{rate}-{round}");
        make_namespace(client, &namespace).await;
        let plain = plain(client, &namespace, every).await;
        let namespace = format!("ours-{rate}-{round}");
        let (_operator, keys) = at_work(client, plane, &namespace).await;
        let delivered = delivered(client, &namespace, keys, every).await;
        println!(
            "  round {round}: to the Secret {:.1} ms, p99 {:.1} ms; a plain write {:.1} ms, p99 {:.1} ms",
            delivered[0], delivered[1], plain[0], plain[1]
        );
        for i in 0..2 {
            ours[i].push(delivered[i]);
            raw[i].push(plain[i]);
        }
    }
    let ([ours, ours_99], [raw, raw_99]) = (ours, raw);
    vec![
        Row {
            what: format!("creation to Secret p50 at {rate}/s, by a plain write"),
            unit: "ms",
            ours,
            peer: raw,
            goal: Goal::RatioAtMost(3.0),
        },
        Row {
            what: format!("creation to Secret p99 at {rate}/s, by a plain write"),
            unit: "ms",
            ours: ours_99.clone(),
            peer: raw_99,
            goal: Goal::RatioAtMost(3.0),
        },
        Row {
            what: format!("creation to Secret p99 at {rate}/s"),
            unit: "ms",
            ours: ours_99,
            peer: Vec::new(),
            goal: Goal::AtMost(100.0),
        },
    ]
}

/// p50 and p99 of the round trip of a Secret's creation, in milliseconds.
async fn plain(client: &Client, namespace: &str, every: Duration) -> [f64; 2] {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let value = "x".repeat(100);
    let create = |i: u32| {
        let secrets = secrets.clone();
        let body = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": value}});
        let secret: Secret = named(body, &format!("k-{i}"));
        async move {
            let begun = Instant::now();
            secrets
                .create(&PostParams::default(), &secret)
                .await
                .expect("a Secret");
            begun.elapsed()
        }
    };
    percentiles(steadily(every, create).await)
}

/// p50 and p99 of the time from the call that creates a key to the sight of its Secret, in
/// milliseconds.
async fn delivered(
    client: &Client,
    namespace: &str,
    keys: Api<ZenAPIKey>,
    every: Duration,
) -> [f64; 2] {
    let seen = tokio::spawn(secrets_seen(client.clone(), namespace.to_owned()));
    let create = |i: u32| {
        let keys = keys.clone();
        async move {
            let begun = Instant::now();
            let name = format!("k-{i}");
            keys.create(&PostParams::default(), &key(&name))
                .await
                .expect("a key");
            (format!("{name}-key"), begun)
        }
    };
    let begun = steadily(every, create).await;
    let seen = seen.await.expect("all Secrets were seen");
    let took = begun
        .into_iter()
        .map(|(name, begun)| seen[&name].duration_since(begun));
    percentiles(took.collect())
}

/// One call each time, whether or not the ones before were answered.
async fn steadily<F, T>(every: Duration, call: impl Fn(u32) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut ticks = tokio::time::interval(every);
    let mut calls = Vec::new();
    for i in 0..KEYS {
        ticks.tick().await;
        calls.push(tokio::spawn(call(i)));
    }
    let all = join_all(calls).await;
    all.into_iter()
        .map(|call| call.expect("no panic"))
        .collect()
}

/// When each of the Secrets was seen, once all were.
async fn secrets_seen(client: Client, namespace: String) -> HashMap<String, Instant> {
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let list = secrets
        .list_metadata(&ListParams::default())
        .await
        .expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let mut events = secrets
        .watch_metadata(&WatchParams::default(), &version)
        .await
        .expect("a watch")
        .boxed();
    let mut seen = HashMap::new();
    while seen.len() < KEYS as usize {
        let event = events.try_next().await.expect("an event");
        if let WatchEvent::Added(secret) = event.expect("the watch outlasts the round") {
            seen.insert(secret.name_any(), Instant::now());
        }
    }
    seen
}

/// p50 and p99, in milliseconds.
pub fn percentiles(mut took: Vec<Duration>) -> [f64; 2] {
    took.sort();
    [50, 99].map(|percent| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0)
}

//! From a key's creation to its Secret, at a hundred keys a second, against one plain write.

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

use super::{
    door::named,
    reconcile::{at_work, key, make_namespace, plane},
    rounds,
    table::{Goal, Row},
};

/// How many keys in a round.
const KEYS: usize = 1000;
/// One key each.
const EVERY: Duration = Duration::from_millis(10);

pub async fn run() -> Vec<Row> {
    println!(
        "operator: {KEYS} keys at 100 a second, from creation to Secret, {} rounds",
        rounds()
    );
    let (plane, client) = plane().await;
    let (mut ours, mut raw) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 1..=rounds() {
        let namespace = format!("raw-{round}");
        make_namespace(&client, &namespace).await;
        let plain = plain(&client, &namespace).await;
        let namespace = format!("ours-{round}");
        let (_operator, keys) = at_work(&client, &plane, &namespace).await;
        let delivered = delivered(&client, &namespace, keys).await;
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
            what: "creation to Secret p50, by a plain write",
            unit: "ms",
            ours,
            peer: raw,
            goal: Goal::RatioAtMost(3.0),
        },
        Row {
            what: "creation to Secret p99, by a plain write",
            unit: "ms",
            ours: ours_99.clone(),
            peer: raw_99,
            goal: Goal::RatioAtMost(3.0),
        },
        Row {
            what: "creation to Secret p99",
            unit: "ms",
            ours: ours_99,
            peer: Vec::new(),
            goal: Goal::AtMost(100.0),
        },
    ]
}

/// p50 and p99 of the round trip of a Secret's creation, in milliseconds.
async fn plain(client: &Client, namespace: &str) -> [f64; 2] {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let value = "x".repeat(100);
    let create = |i: usize| {
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
    percentiles(steadily(create).await)
}

/// p50 and p99 of the time from the call that creates a key to the sight of its Secret, in
/// milliseconds.
async fn delivered(client: &Client, namespace: &str, keys: Api<zenop::api::ZenAPIKey>) -> [f64; 2] {
    let seen = tokio::spawn(secrets_seen(client.clone(), namespace.to_owned()));
    let create = |i: usize| {
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
    let begun = steadily(create).await;
    let seen = seen.await.expect("all Secrets were seen");
    let took = begun
        .into_iter()
        .map(|(name, begun)| seen[&name].duration_since(begun));
    percentiles(took.collect())
}

/// One call every ten milliseconds, whether or not the ones before were answered.
async fn steadily<F, T>(call: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut ticks = tokio::time::interval(EVERY);
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
    while seen.len() < KEYS {
        let event = events.try_next().await.expect("an event");
        if let WatchEvent::Added(secret) = event.expect("the watch outlasts the round") {
            seen.insert(secret.name_any(), Instant::now());
        }
    }
    seen
}

fn percentiles(mut took: Vec<Duration>) -> [f64; 2] {
    took.sort();
    [50, 99].map(|percent| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0)
}

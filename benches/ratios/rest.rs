//! Ten thousand keys that are as they should be: at rest, and after a restart.

use std::time::{Duration, Instant};

use kube::Client;

use super::{
    processes::{Process, until},
    reconcile::{all_ready, at_work, create_all, plane},
    rounds,
    table::{Goal, Row},
};

/// How many keys: `ZENOP_BENCH_KEYS`, else 10,000.
fn keys() -> usize {
    super::count("ZENOP_BENCH_KEYS", 10_000)
}

/// How long rest is watched.
const MINUTE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "rest";

pub async fn run() -> Vec<Row> {
    let n = keys();
    println!(
        "operator: {n} ZenAPIKeys at rest for a minute, then {} restarts; first they are made",
        rounds()
    );
    let (plane, client) = plane().await;
    let (mut operator, keys) = at_work(&client, &plane, NAMESPACE).await;
    let ready = tokio::spawn(all_ready(keys.clone(), n));
    create_all(&keys, n).await;
    ready.await.expect("all became Ready");
    quiet(&client).await;
    let made = operator.peak_memory();
    let before = writes(&client).await;
    tokio::time::sleep(MINUTE).await;
    let at_rest = writes(&client).await - before;
    let rest_memory = operator.memory_now();
    println!("  at rest: {at_rest:.0} writes in a minute, {rest_memory:.0} MiB (peak {made:.0})");
    let (mut times, mut written, mut peaks) = (vec![], vec![], vec![]);
    for round in 1..=rounds() {
        operator.stop();
        let before = writes(&client).await;
        let begun = Instant::now();
        operator = Process::operator(plane.kubeconfig(), NAMESPACE);
        let all = (n + 1) as f64;
        until("a look at all", || async { operator.passes().await >= all }).await;
        times.push(begun.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(3)).await;
        written.push(writes(&client).await - before);
        peaks.push(operator.peak_memory());
        println!(
            "  restart {round}: all looked at after {:.1} s, {:.0} writes, peak {:.0} MiB",
            times[round - 1],
            written[round - 1],
            peaks[round - 1]
        );
    }
    let row = |what: &str, unit, ours, most| Row {
        what: what.to_owned(),
        unit,
        ours,
        peer: Vec::new(),
        goal: Goal::AtMost(most),
    };
    vec![
        row("at rest: writes in a minute", "", vec![at_rest], 0.0),
        row("at rest: memory", "MiB", vec![rest_memory], 30.0),
        row("peak memory while they were made", "MiB", vec![made], 40.0),
        row("restart: until all were looked at", "s", times, 10.0),
        row("restart: writes", "", written, 0.0),
        row("restart: peak memory", "MiB", peaks, 40.0),
    ]
}

/// Waits until nothing was written for three seconds: events and counts come after the keys.
async fn quiet(client: &Client) {
    let (mut last, mut since) = (writes(client).await, Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = writes(client).await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// How many writes the API server answered of the kinds that the operator writes, but for its
/// Lease.
pub async fn writes(client: &Client) -> f64 {
    let request = http::Request::get("/metrics")
        .body(vec![])
        .expect("a request");
    let text = client.request_text(request).await.expect("metrics");
    let is_write = |line: &&str| {
        let has = |name: &str, values: &[&str]| {
            let all = values.iter().map(|value| format!(",{name}=\"{value}\""));
            all.into_iter().any(|label| line.contains(&label))
        };
        line.starts_with("apiserver_request_total{")
            && has("verb", &["POST", "PUT", "PATCH", "APPLY", "DELETE"])
            && (line.contains("group=\"zenop.dev\"")
                || has(
                    "resource",
                    &["secrets", "events", "deployments", "services"],
                ))
    };
    let counts = text.lines().filter(is_write);
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

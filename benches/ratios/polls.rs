//! Ten thousand devices that wait, each polling every five seconds, as people take their time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::net::TcpStream;

use super::{
    door::{CLIENT, Door, form_request},
    latency::percentiles,
    load::{answer, exchange_as},
    rest::writes,
    table::{Goal, Row},
};

/// How many devices: `ZENOP_BENCH_DEVICES`, else 10,000.
fn devices() -> usize {
    super::count("ZENOP_BENCH_DEVICES", 10_000)
}

/// A little more than what a device is told to wait.
const INTERVAL: Duration = Duration::from_millis(5_100);
/// How often each polls.
const POLLS: usize = 6;
/// How many connections ask at a time.
const CONNECTIONS: usize = 32;

pub async fn run() -> Vec<Row> {
    let door = Door::open().await;
    let n = devices();
    println!("  {n} devices start, then each polls {POLLS} times");
    let before = door.sidecar.memory_now();
    let polls = start_all(&door.address, n).await;
    let written = writes(&door.client).await;
    // The first polls make what is kept of each.
    paced(&door.address, &polls, n).await;
    let warm = door.sidecar.memory_now();
    let took = paced(&door.address, &polls, n * (POLLS - 1)).await;
    let after = door.sidecar.memory_now();
    let written = writes(&door.client).await - written;
    let [p50, p99] = percentiles(took);
    println!(
        "  p50 {p50:.2} ms, p99 {p99:.2} ms; memory {before:.1} MiB, {warm:.1} with all, {after:.1} \
         at the end; {written:.0} writes"
    );
    let row = |what: &str, unit, ours, most| Row {
        what: format!("{n} devices polling: {what}"),
        unit,
        ours: vec![ours],
        peer: Vec::new(),
        goal: Goal::AtMost(most),
    };
    vec![
        row("p99", "ms", p99, 5.0),
        row("writes", "", written, 0.0),
        row("memory more than before", "MiB", after - before, 16.0),
        row("memory that grows", "MiB", after - warm, 1.0),
    ]
}

/// The poll of each of so many devices.
async fn start_all(address: &str, n: usize) -> Vec<Vec<u8>> {
    let start = form_request(
        "/api/v1/device_authorization",
        &format!("client_id={CLIENT}"),
    );
    let mut polls = Vec::with_capacity(n);
    for _ in 0..n {
        let started = answer(address, &start).await;
        let code = started["device_code"].as_str().expect("a code");
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
        let body = format!("grant_type={grant}&client_id={CLIENT}&device_code={code}");
        polls.push(form_request("/api/v1/login", &body));
    }
    polls
}

/// So many polls, evenly over time; one that no connection was free for is measured from when it
/// was due.
async fn paced(address: &str, polls: &[Vec<u8>], count: usize) -> Vec<Duration> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let every = INTERVAL / u32::try_from(polls.len()).expect("not so many");
    let one = || async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut buffer, mut took) = (Vec::with_capacity(4 << 10), Vec::new());
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return took;
            }
            let due = begun + every * u32::try_from(i).expect("not so many");
            let asked = if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
                // The timer wakes to the millisecond.
                Instant::now()
            } else {
                due
            };
            exchange_as("400", &mut stream, &polls[i % polls.len()], &mut buffer).await;
            took.push(asked.elapsed());
        }
    };
    let all = join_all((0..CONNECTIONS).map(|_| one())).await;
    all.into_iter().flatten().collect()
}

//! Candidates for a Lease, and a record of who held the claim when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::{Value, from_value, json};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use zenop::runtime::{
    clock::monotonic,
    lease::{Claim, Elector, LeaseConfig, Lost, Timings},
};
use zenop_cluster::{TestNamespace, shared};

pub const NAME: &str = "leader";
pub const LEASE: Duration = Duration::from_secs(2);
pub const DEADLINE: Duration = Duration::from_millis(1500);
pub const RETRY: Duration = Duration::from_millis(300);
/// For what must happen, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// For the calls of a takeover, on a busy machine.
pub const SLACK: Duration = Duration::from_millis(500);

/// Short ones, so that tests are quick.
pub fn timings() -> Timings {
    Timings::new(LEASE, DEADLINE, RETRY).expect("safe timings")
}

pub fn config(namespace: &str, identity: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: namespace.into(),
        name: NAME.into(),
        identity: identity.into(),
        timings: timings(),
    }
}

/// How to reach the shared control plane. No retries below us: the elector's own are what is tested.
pub async fn access() -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(shared().await?.kubeconfig())?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_retry = false;
    Ok(config)
}

/// An elector at work.
pub struct Candidate {
    pub identity: String,
    pub claim: Claim,
    leads: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    work: JoinHandle<Result<(), Lost>>,
}

impl Candidate {
    pub fn start(client: Client, config: LeaseConfig) -> Self {
        let (elector, claim) = Elector::new(client, config);
        let identity = elector.identity().to_owned();
        let (led, leads) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let work = tokio::spawn(async move {
            let stopped = || {
                let mut stopped = stopped.clone();
                async move { drop(stopped.wait_for(|stop| *stop).await) }
            };
            match elector.acquire(stopped()).await {
                Some(leader) => {
                    led.send_replace(true);
                    leader.run(stopped()).await
                }
                None => Ok(()),
            }
        });
        Self {
            identity,
            claim,
            leads,
            stop,
            work,
        }
    }

    /// Waits until it leads; returns when that was seen.
    pub async fn leads(&mut self) -> Result<Instant> {
        let leads = self.leads.wait_for(|leads| *leads);
        timeout(PATIENCE, leads)
            .await
            .with_context(|| format!("{} does not lead", self.identity))??;
        Ok(monotonic())
    }

    /// Ends as a crash would: nothing is given back.
    pub fn crash(self) {
        self.work.abort();
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) -> Result<(), Lost> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), Lost> {
        let ended = timeout(PATIENCE, self.work).await;
        ended.expect("it ends").expect("it does not panic")
    }
}

/// A Lease as it is, also with times that typed ones cannot hold.
pub type Lease = DynamicObject;

pub fn leases(ns: &TestNamespace) -> Api<Lease> {
    let resource = ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&());
    Api::namespaced_with(ns.client().clone(), ns.name(), &resource)
}

/// The Lease once it is as wanted.
pub async fn lease_when(ns: &TestNamespace, wanted: impl Fn(&Lease) -> bool) -> Result<Lease> {
    let wanted = |lease: Option<&Lease>| lease.is_some_and(&wanted);
    let seen = timeout(PATIENCE, await_condition(leases(ns), NAME, wanted)).await;
    seen.context("the Lease does not become as wanted")??
        .context("the Lease is gone")
}

/// Waits until its holder has renewed it so often from now on.
pub async fn renewals(ns: &TestNamespace, count: usize) -> Result<Lease> {
    let mut lease = leases(ns).get(NAME).await?;
    for _ in 0..count {
        let before = spec(&lease)["renewTime"].clone();
        lease = lease_when(ns, |lease| spec(lease)["renewTime"] != before).await?;
    }
    Ok(lease)
}

/// Its spec as on the wire.
pub fn spec(lease: &Lease) -> &Value {
    &lease.data["spec"]
}

/// Makes a Lease by hand, of whatever the API server takes.
pub async fn create(ns: &TestNamespace, spec: Value) -> Result<()> {
    let object = from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": NAME }, "spec": spec,
    }))?;
    leases(ns).create(&PostParams::default(), &object).await?;
    Ok(())
}

/// When a claim was held: from, to.
pub type Span = (Instant, Instant);

/// Asks claims all the time who holds one.
pub struct Ledger {
    stop: Arc<AtomicBool>,
    book: thread::JoinHandle<Vec<Vec<Span>>>,
}

impl Ledger {
    pub fn keep(claims: Vec<Claim>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let book = thread::spawn(move || {
            let mut book = vec![Vec::<Span>::new(); claims.len()];
            let mut held = vec![false; claims.len()];
            let mut last = false;
            while !last {
                last = stopped.load(Ordering::Relaxed);
                for (index, claim) in claims.iter().enumerate() {
                    let at = monotonic();
                    let holds = claim.is_held();
                    match book[index].last_mut() {
                        Some((_, to)) if holds && held[index] => *to = at,
                        _ if holds => book[index].push((at, at)),
                        _ => {}
                    }
                    held[index] = holds;
                }
                thread::sleep(Duration::from_micros(500));
            }
            book
        });
        Self { stop, book }
    }

    /// For each claim, when it was held. Panics if two were held at once.
    pub fn close(self) -> Vec<Vec<Span>> {
        self.stop.store(true, Ordering::Relaxed);
        let book = self.book.join().expect("the ledger was kept");
        let spans = || {
            let all = book.iter().enumerate();
            all.flat_map(|(owner, spans)| spans.iter().map(move |span| (owner, span)))
        };
        for (one, (from, to)) in spans() {
            for (other, (other_from, other_to)) in spans() {
                assert!(
                    one == other || to < other_from || other_to < from,
                    "two claims were held at once: {book:?}"
                );
            }
        }
        book
    }
}

/// One that leads and one that stands by.
pub async fn two(ns: &TestNamespace) -> Result<(Candidate, Candidate)> {
    let mut first = Candidate::start(ns.client().clone(), config(ns.name(), "first"));
    first.leads().await?;
    let second = Candidate::start(ns.client().clone(), config(ns.name(), "second"));
    Ok((first, second))
}

/// Timings with which there is no time for a second attempt, unless it is made early.
pub fn slow(ns: &TestNamespace, identity: &str) -> LeaseConfig {
    LeaseConfig {
        timings: Timings::new(LEASE, DEADLINE, Duration::from_secs(1)).unwrap(),
        ..config(ns.name(), identity)
    }
}

/// Whether a Lease is in its name.
pub fn held_by<'a>(candidate: &'a Candidate) -> impl Fn(&Lease) -> bool + use<'a> {
    move |lease| spec(lease)["holderIdentity"] == candidate.identity
}

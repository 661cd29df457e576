//! Candidates for a Lease, lines and API servers that fail on demand, and a record of who held the claim when.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{
    body::Body as AnyBody,
    http::{Method, Request, Response},
};
use futures::future::BoxFuture;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, PostParams},
    client::{Body, ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::{Value, from_value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tower::{BoxError, Service, layer::layer_fn};
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

/// What a line between a client and the API server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It carries.
    Open,
    /// It takes everything and gives nothing, but keeps it for later.
    Silent,
    /// It is closed, and no new one is taken.
    Cut,
}

/// A TCP line to the API server on a port of its own, until dropped.
pub struct Forwarder {
    pub line: watch::Sender<Line>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    pub async fn start() -> Result<Self> {
        let url = access().await?.cluster_url;
        let host = url.host().context("the API server has no host")?;
        let to = format!("{host}:{}", url.port_u16().unwrap_or(443));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (line, state) = watch::channel(Line::Open);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *state.borrow() != Line::Cut {
                    tokio::spawn(connect(near, to.clone(), state.clone()));
                }
            }
        });
        Ok(Self {
            line,
            port,
            accepting,
        })
    }

    /// A client whose calls go this way.
    pub async fn client(&self) -> Result<Client> {
        let mut config = access().await?;
        config.cluster_url = format!("https://127.0.0.1:{}", self.port).parse()?;
        Ok(Client::try_from(config)?)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(near: TcpStream, to: String, mut state: watch::Receiver<Line>) {
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        _ = state.wait_for(|line| *line == Line::Cut) => {}
        _ = async { tokio::join!(carry(near_in, far_out, there), carry(far_in, near_out, back)) } => {}
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<Line>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        state.wait_for(|line| *line == Line::Open).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// What becomes of one call other than a watch.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is not carried out, and answered so.
    Refused(u16),
    /// It is carried out, and answered so.
    Denied(u16),
    /// It is carried out, and what comes back is no answer.
    Garbled,
    /// Nothing happens.
    Unanswered,
}

/// Faults for the calls to come.
#[derive(Clone, Default)]
pub struct Faults {
    next: Arc<Mutex<VecDeque<Fault>>>,
    lasting: Arc<Mutex<Option<Fault>>>,
}

impl Faults {
    /// A client to which they happen.
    pub async fn client(&self) -> Result<Client> {
        let faults = self.clone();
        let layer = layer_fn(move |inner| Faulty {
            inner,
            faults: faults.clone(),
        });
        let builder = ClientBuilder::try_from(access().await?)?;
        Ok(builder.with_layer(&layer).build())
    }

    /// The next calls meet these, one after the other.
    pub fn soon(&self, faults: impl IntoIterator<Item = Fault>) {
        self.next.lock().unwrap().extend(faults);
    }

    /// All calls from now on meet this.
    pub fn always(&self, fault: Option<Fault>) {
        *self.lasting.lock().unwrap() = fault;
    }

    /// How many are still to come.
    pub fn left(&self) -> usize {
        self.next.lock().unwrap().len()
    }

    fn draw(&self) -> Option<Fault> {
        let next = self.next.lock().unwrap().pop_front();
        next.or(*self.lasting.lock().unwrap())
    }
}

#[derive(Clone)]
struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Those that follow the Lease list and watch by name, as a query; only those that decide name it in the path.
        let decides = request.method() == Method::POST || request.uri().path().ends_with(NAME);
        let fault = if decides { self.faults.draw() } else { None };
        if let Some(Fault::Refused(status)) = fault {
            return Box::pin(ready(Ok(answer(status))));
        }
        if let Some(Fault::Unanswered) = fault {
            return Box::pin(pending());
        }
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?.map(AnyBody::new);
            Ok(match fault {
                Some(Fault::Denied(status)) => answer(status),
                Some(Fault::Garbled) => Response::new(AnyBody::from("{\"kind\":\"Lea")),
                _ => response,
            })
        })
    }
}

fn answer(status: u16) -> Response<AnyBody> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": "Injected",
        "message": format!("injected {status}"),
    });
    let mut response = Response::new(AnyBody::from(body.to_string()));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

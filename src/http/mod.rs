//! The sidecar's front door: ZenML's REST contract over the state that a [`Store`] shows.
//!
//! A request goes through one layer (`layers`), meets one row of one table (`router`), is
//! authenticated in one place (`access`), and is answered by one function of `routes`. What it
//! may be refused with is one closed set (`error`). Nothing here knows what the state comes from.

mod access;
mod basic;
mod changes;
mod decisions;
mod error;
mod external;
mod extract;
mod layers;
mod limiter;
mod list;
mod oauth;
mod once;
mod openapi;
mod outside;
mod pages;
mod passwords;
mod polls;
mod refused;
mod router;
mod routes;
mod serve;
mod session;
mod slow;
mod slow_work;
mod tls;
mod token_cache;
mod upstream;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::Router;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use access::{Access, Caller};
pub use error::Refusal;
pub use outside::{MAX_ANSWER, Nowhere, Outside, Unreachable};
pub use router::{Route, routes};
pub use serve::{Limits, serve, serve_tls};
pub use tls::{BadCertificate, Certificate};
pub use upstream::Upstream;

use crate::store::{DeviceRegistrar, Registrar, Settings, Store, Unavailable, Vault, View};
use basic::Pairs;
use layers::{Metrics, SecureHeaders};
use limiter::Limiter;
use once::Answers;
use openapi::Document;
use pages::Bursts;
use polls::Polls;
use refused::Refusals;
use slow_work::SlowWork;
use token_cache::TokenCache;

/// Reads the time.
pub type Clock = fn() -> Timestamp;

/// Draws randomness that is good for keys.
pub type Draw = fn(&mut [u8]);

/// What the front door stands on.
#[derive(Clone)]
pub struct Ground {
    /// What it decides by.
    pub store: Arc<dyn Store>,
    /// What it changes accounts and keys with.
    pub registrar: Arc<dyn Registrar>,
    /// What it changes devices with.
    pub devices: Arc<dyn DeviceRegistrar>,
    /// What it reads and changes secrets with.
    pub vault: Arc<dyn Vault>,
    /// The way to an OIDC provider.
    pub outside: Arc<dyn Outside>,
    /// The ZenML server behind it, if there is one: it is asked what is not answered here.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// The time of day.
    pub clock: Clock,
    /// Where new keys come from.
    pub draw: Draw,
}

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many verified tokens are remembered. Each takes about 200 bytes. With 0, every request
    /// pays for a signature.
    pub verified_tokens: u64,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
    /// How long a change may take until this server decides by it. Less than a request may take,
    /// by what Kubernetes needs to make it.
    pub seen_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verified_tokens: 10_000,
            request_timeout: Duration::from_secs(20),
            seen_within: Duration::from_secs(10),
        }
    }
}

/// The front door of one server. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    ground: Ground,
    options: Options,
    tokens: TokenCache,
    answers: Answers,
    polls: Polls,
    limiter: Limiter,
    codes: Limiter,
    bursts: Bursts,
    refusals: Refusals,
    passwords: SlowWork,
    pairs: Pairs,
    known: Arc<external::Known>,
    outgoing: Semaphore,
    slow: SlowWork,
    headers: SecureHeaders,
    document: Document,
    metrics: Metrics,
    requests: AtomicU32,
    people: upstream::People,
}

impl App {
    /// The front door of the server that the store shows. Its metrics go to `registry`.
    pub fn new(ground: Ground, registry: &mut Registry, options: Options) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        (ground.draw)(&mut *key);
        Self(Arc::new(Inner {
            pairs: Pairs::new(&key),
            known: Arc::default(),
            outgoing: Semaphore::new(external::AT_ONCE),
            ground,
            options,
            tokens: TokenCache::new(options.verified_tokens),
            answers: Answers::new(),
            polls: Polls::new(),
            limiter: Limiter::new(1),
            codes: Limiter::new(decisions::OF_AN_ADDRESS),
            bursts: Bursts::new(),
            refusals: Refusals::default(),
            passwords: SlowWork::new(passwords::PLACES),
            slow: SlowWork::new(slow::PLACES),
            headers: SecureHeaders::default(),
            document: Document::new(),
            metrics: Metrics::register(router::paths(), registry),
            requests: AtomicU32::new(0),
            people: upstream::People::default(),
        }))
    }

    /// All routes behind all layers.
    pub fn router(&self) -> Router {
        router::router(self.clone())
    }

    /// The state, if it may be decided upon. Never held across an await.
    fn view(&self) -> Result<View<'_>, Unavailable> {
        self.0.ground.store.view()
    }

    fn settings(&self) -> Option<Arc<Settings>> {
        self.0.ground.store.settings()
    }

    fn now(&self) -> Timestamp {
        (self.0.ground.clock)()
    }

    fn store(&self) -> &dyn Store {
        &*self.0.ground.store
    }

    fn registrar(&self) -> &Arc<dyn Registrar> {
        &self.0.ground.registrar
    }

    fn devices(&self) -> &Arc<dyn DeviceRegistrar> {
        &self.0.ground.devices
    }

    fn vault(&self) -> &Arc<dyn Vault> {
        &self.0.ground.vault
    }

    fn polls(&self) -> &Polls {
        &self.0.polls
    }

    /// Random bytes.
    fn draw<const N: usize>(&self) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        (self.0.ground.draw)(&mut *bytes);
        bytes
    }

    fn answers(&self) -> &Answers {
        &self.0.answers
    }

    fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// Wrong codes of devices.
    fn codes(&self) -> &Limiter {
        &self.0.codes
    }

    fn bursts(&self) -> &Bursts {
        &self.0.bursts
    }

    fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    fn passwords(&self) -> &SlowWork {
        &self.0.passwords
    }

    /// What is known of the provider.
    fn known(&self) -> Arc<external::Known> {
        Arc::clone(&self.0.known)
    }

    /// Places on the way to it.
    fn outgoing(&self) -> &Semaphore {
        &self.0.outgoing
    }

    fn outside(&self) -> &Arc<dyn Outside> {
        &self.0.ground.outside
    }

    fn upstream(&self) -> Option<&Arc<dyn Upstream>> {
        self.0.ground.upstream.as_ref()
    }

    /// Who is who at the ZenML server.
    fn people(&self) -> &upstream::People {
        &self.0.people
    }

    fn pairs(&self) -> &Pairs {
        &self.0.pairs
    }

    fn slow(&self) -> &SlowWork {
        &self.0.slow
    }

    fn tokens(&self) -> &TokenCache {
        &self.0.tokens
    }

    fn headers(&self) -> &SecureHeaders {
        &self.0.headers
    }

    fn document(&self) -> &Document {
        &self.0.document
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn request_timeout(&self) -> Duration {
        self.0.options.request_timeout
    }

    fn seen_within(&self) -> Duration {
        self.0.options.seen_within
    }

    /// A number that no other request of this process had lately.
    fn next_request(&self) -> u32 {
        self.0.requests.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("App(..)")
    }
}

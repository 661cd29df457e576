//! The sidecar's front door: ZenML's REST contract over the state that a [`Store`] shows.
//!
//! A request goes through one layer (`layers`), meets one row of one table (`router`), is
//! authenticated in one place (`access`), and is answered by one function of `routes`. What it
//! may be refused with is one closed set (`error`). Nothing here knows what the state comes from.

mod access;
mod error;
mod extract;
mod layers;
mod list;
mod router;
mod routes;
mod serve;
mod token_cache;

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

pub use access::{Access, Caller};
pub use error::Refusal;
pub use router::{Route, routes};
pub use serve::{Limits, serve};

use crate::store::{Settings, Store, Unavailable, View};
use layers::{Metrics, SecureHeaders};
use token_cache::TokenCache;

/// Reads the time.
pub type Clock = fn() -> Timestamp;

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many verified tokens are remembered. Each takes about 200 bytes. With 0, every request
    /// pays for a signature.
    pub verified_tokens: u64,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verified_tokens: 10_000,
            request_timeout: Duration::from_secs(20),
        }
    }
}

/// The front door of one server. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    options: Options,
    tokens: TokenCache,
    headers: SecureHeaders,
    metrics: Metrics,
    requests: AtomicU32,
}

impl App {
    /// The front door of the server that `store` shows. Its metrics go to `registry`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        registry: &mut Registry,
        options: Options,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            options,
            tokens: TokenCache::new(options.verified_tokens),
            headers: SecureHeaders::default(),
            metrics: Metrics::register(router::paths(), registry),
            requests: AtomicU32::new(0),
        }))
    }

    /// All routes behind all layers.
    pub fn router(&self) -> Router {
        router::router(self.clone())
    }

    /// The state, if it may be decided upon. Never held across an await.
    fn view(&self) -> Result<View<'_>, Unavailable> {
        self.0.store.view()
    }

    fn settings(&self) -> Option<Arc<Settings>> {
        self.0.store.settings()
    }

    fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    fn tokens(&self) -> &TokenCache {
        &self.0.tokens
    }

    fn headers(&self) -> &SecureHeaders {
        &self.0.headers
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn request_timeout(&self) -> Duration {
        self.0.options.request_timeout
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

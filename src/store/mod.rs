//! Where the sidecar's state comes from, in domain words.

pub mod devices;
pub mod kube;
mod memory;
pub mod registrar;
pub mod vault;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::MappedRwLockReadGuard;
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

pub use devices::DeviceRegistrar;
pub use memory::MemoryStore;
pub use registrar::{NotChanged, Registrar};
pub use vault::Vault;

use crate::auth::{
    address::Proxies,
    device::Terms,
    directory::{Directory, Lifetimes},
    keyring::Keyring,
    limit::Rates,
    scheme::Scheme,
    sealed::Recipient,
};

/// The state of one server, as a watched view.
///
/// Reading it makes no call. An implementation keeps it current, and knows how old it may be.
pub trait Store: Send + Sync + 'static {
    /// The view, if it can be shown to be no older than the server's `maxStaleness`.
    ///
    /// The view is a read lock: hold it for the length of a decision, never across an await
    /// (the guard is not `Send`, so the compiler refuses).
    ///
    /// # Errors
    /// Why no decision can be made now. Every request is refused then.
    fn view(&self) -> Result<View<'_>, Unavailable>;

    /// The server's settings as last seen, however old; `None` before they were.
    fn settings(&self) -> Option<Arc<Settings>>;

    /// Tells when the view changed.
    fn changed(&self) -> watch::Receiver<()>;
}

/// A consistent state of one server.
pub type View<'a> = MappedRwLockReadGuard<'a, State>;

/// What decisions are made from.
#[derive(Debug)]
pub struct State {
    /// How the server is set up.
    pub settings: Arc<Settings>,
    /// The server's secrets.
    pub keyring: Arc<Keyring>,
    /// Accounts, keys, users, devices and secrets.
    pub directory: Directory,
}

/// Why there is no view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// Not everything was listed yet, or the auth Secret is missing or malformed.
    #[error("the server is starting")]
    NotSynced,
    /// The view may be older than allowed.
    #[error("the server has lost touch with the Kubernetes API")]
    Stale,
}

/// How a server is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's id on the wire: issuer and audience of its tokens.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub url: String,
    /// When it was made.
    pub created: Timestamp,
    /// How people prove who they are.
    pub scheme: Scheme,
    /// How long a token from an API key lives.
    pub token_ttl: Duration,
    /// How old a view may be.
    pub max_staleness: Duration,
    /// How long others may keep the public keys.
    pub jwks_max_age: Duration,
    /// How long keys live by policy.
    pub lifetimes: Lifetimes,
    /// How many keys an account may have.
    pub max_keys: usize,
    /// How often a login may fail at this replica.
    pub login_rates: Rates,
    /// How often strangers may ask this replica for something, all together.
    pub global_rates: Option<Rates>,
    /// How often one key or user may ask this replica for something.
    pub key_rates: Option<Rates>,
    /// How often a user may try a wrong code of a device at this replica.
    pub code_rates: Rates,
    /// The proxies that are believed which client's request they pass on.
    pub proxies: Proxies,
    /// Whether the addresses of clients may be written down.
    pub record_addresses: bool,
    /// What devices may be like.
    pub devices: Terms,
    /// Where people reach it, if that was said: links for them begin with it.
    pub public_url: Option<String>,
    /// Which pages of other sites may call.
    pub cors: Cors,
    /// Whom new values of secrets are sealed for; nobody, before the operator made a key.
    pub recipient: Option<Recipient>,
    /// Security headers by ZenML's names.
    pub headers: HeaderSettings,
}

/// Which pages of other sites may call. By default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Their origins, as `https://host:port`, or `*` for all.
    pub origins: Vec<String>,
    /// Whether they may send cookies. Not with `*`.
    pub allow_credentials: bool,
}

/// A text for each security header: a value of its own, `off`, or `None` for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "named after ZENML_SERVER_SECURE_HEADERS_…, zenml-wire.md 13.1"
)]
pub struct HeaderSettings {
    pub server: Option<String>,
    pub hsts: Option<String>,
    pub xfo: Option<String>,
    pub content: Option<String>,
    pub csp: Option<String>,
    pub referrer: Option<String>,
    pub cache: Option<String>,
    pub permissions: Option<String>,
}

//! The store of the sidecar: a watched view of one server's custom resources.
//!
//! The server, its accounts, the keys of its namespace, its users, devices and secrets, its auth
//! Secret and the Secret with what stands for passwords are followed. No value of a secret is. Nothing is answered before all were
//! listed, or when one of them cannot be shown to be fresher than `maxStaleness`.

mod follow;
mod project;
mod registrar;
mod revoked;
mod shelved;
mod usage;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};
use parking_lot::{RwLock, RwLockReadGuard};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use self::{
    follow::{Change, Collection, follow},
    project::Secrets,
    revoked::Revocations,
    shelved::Shelved,
};
use super::{Settings, State, Store, Unavailable, View};
use crate::{
    api::{ZenAPIKey, ZenDevice, ZenServer, ZenServiceAccount, ZenUser},
    auth::{
        api_key::Pepper,
        credential::Credential,
        device::Decided,
        directory::{Directory, Key, Logins},
        keyring::{Keyring, Material},
    },
};

pub use registrar::{FIELD_MANAGER as API_FIELD_MANAGER, KubeDevices, KubeRegistrar, MADE_BY_API};
pub use usage::FIELD_MANAGER as SIDECAR_FIELD_MANAGER;

/// Which server.
#[derive(Clone, Debug)]
pub struct ServerName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A watched view of one server.
pub struct KubeStore {
    parts: RwLock<Parts>,
    fresh: [AtomicU64; 8],
    /// What the moments in `fresh` are counted from.
    origin: Instant,
    clock: fn() -> Instant,
    /// The time of day.
    now: fn() -> Timestamp,
    changed: watch::Sender<()>,
    revocations: Revocations,
}

/// The collections, as places in `fresh`.
#[derive(Clone, Copy)]
enum Source {
    Server,
    Accounts,
    Keys,
    Devices,
    Users,
    AuthSecret,
    Passwords,
    Shelf,
}

/// What was seen so far. A state exists once server and secrets are known; until then what else
/// is seen waits.
#[derive(Default)]
struct Parts {
    settings: Option<Arc<Settings>>,
    /// What the server says of its auth Secret.
    secrets: Option<Secrets>,
    material: Option<Arc<Material>>,
    /// What became of these two, so that nothing is verified anew for what did not change.
    keyring: Option<(Secrets, Arc<Material>, Arc<Keyring>)>,
    waiting: Directory,
    state: Option<State>,
    usable: bool,
}

impl KubeStore {
    /// An empty view. `clock` is monotonic, `now` is the time of day.
    pub fn new(clock: fn() -> Instant, now: fn() -> Timestamp) -> Arc<Self> {
        Arc::new(Self {
            parts: RwLock::default(),
            fresh: Default::default(),
            origin: clock(),
            clock,
            now,
            changed: watch::Sender::new(()),
            revocations: Revocations::new(now),
        })
    }

    /// Has what it measures shown by `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.revocations.register(registry);
    }

    /// Keeps the view current, for ever.
    pub async fn run(self: Arc<Self>, watching: Client, writing: Client, server: ServerName) {
        let ServerName { namespace, name } = server;
        let named = format!("metadata.name={name}");
        let secret_named = format!("metadata.name={name}-auth");
        let passwords_named = format!("metadata.name={name}-passwords");
        let of_server = format!("spec.serverRef.name={name}");
        let servers = self.collection(Api::namespaced(watching.clone(), &namespace), Some(named));
        let accounts = self.collection(
            Api::namespaced(watching.clone(), &namespace),
            Some(of_server.clone()),
        );
        let devices = self.collection(
            Api::namespaced(watching.clone(), &namespace),
            Some(of_server.clone()),
        );
        let users = self.collection(
            Api::namespaced(watching.clone(), &namespace),
            Some(of_server.clone()),
        );
        let shelf = self.collection(
            Api::namespaced(watching.clone(), &namespace),
            Some(of_server),
        );
        let passwords = self.collection(
            Api::namespaced(watching.clone(), &namespace),
            Some(passwords_named),
        );
        let keys = self.collection(Api::namespaced(watching.clone(), &namespace), None);
        let secrets = self.collection(Api::namespaced(watching, &namespace), Some(secret_named));
        let tasks: [futures::future::BoxFuture<'_, ()>; 9] = [
            Box::pin(follow(servers, self.telling(Self::server))),
            Box::pin(follow(accounts, self.telling(Self::accounts))),
            Box::pin(follow(keys, self.telling(Self::keys))),
            Box::pin(follow(devices, self.telling(Self::devices))),
            Box::pin(follow(users, self.telling(Self::users))),
            Box::pin(follow(shelf, self.telling(Self::shelf))),
            Box::pin(follow(passwords, self.telling(Self::passwords))),
            Box::pin(follow(secrets, self.telling(Self::auth_secret))),
            Box::pin(usage::record(Arc::clone(&self), writing, namespace)),
        ];
        join_all(tasks).await;
    }

    /// Takes a change over, then tells who waits for it.
    fn telling<K>(&self, take: fn(&Self, Change<K>)) -> impl Fn(Change<K>) {
        move |change| {
            take(self, change);
            self.changed.send_replace(());
        }
    }

    fn collection<K>(
        self: &Arc<Self>,
        api: Api<kube::core::DeserializeGuard<K>>,
        fields: Option<String>,
    ) -> Collection<K> {
        let store = Arc::clone(self);
        Collection {
            api,
            fields,
            round: Box::new(move || store.round()),
            clock: self.clock,
        }
    }

    /// How long a round may last so that freshness is shown often enough. It is shown two seconds
    /// before the end of a round, for its beginning: the view is never older than nearly two
    /// rounds, which is to be 70 % of what is allowed.
    fn round(&self) -> Duration {
        let parts = self.parts.read();
        let allowed = parts
            .settings
            .as_ref()
            .map_or(Duration::from_secs(10), |s| s.max_staleness);
        let seconds = (allowed.as_secs_f64() * 0.7 + 2.0) / 2.0;
        Duration::from_secs_f64(seconds.clamp(3.0, 60.0))
    }

    fn server(&self, change: Change<ZenServer>) {
        let server = match change {
            Change::FreshAt(at) => return self.is_fresh(Source::Server, at),
            Change::All(mut servers) => servers.pop(),
            Change::Put(server) => Some(*server),
            Change::Gone(_) => None,
        };
        let mut parts = self.parts.write();
        parts.settings = server.as_ref().and_then(project::settings).map(Arc::new);
        parts.secrets = server.as_ref().and_then(project::secrets);
        parts.assemble();
    }

    fn auth_secret(&self, change: Change<Secret>) {
        let secret = match change {
            Change::FreshAt(at) => return self.is_fresh(Source::AuthSecret, at),
            Change::All(mut secrets) => secrets.pop(),
            Change::Put(secret) => Some(*secret),
            Change::Gone(_) => None,
        };
        let mut parts = self.parts.write();
        parts.material = secret.as_ref().and_then(read_material).map(Arc::new);
        parts.assemble();
    }

    fn accounts(&self, change: Change<ZenServiceAccount>) {
        let seen = &self.revocations;
        let remove = |parts: &mut Parts, meta: &ObjectMeta| {
            let old = id_of(meta).and_then(|uid| parts.directory().remove_account(uid));
            seen.account(old, None, meta);
        };
        let put = |parts: &mut Parts, object: &ZenServiceAccount| {
            let Some(mut account) = project::account(object) else {
                return remove(parts, &object.metadata);
            };
            parts.pepper().inspect(|pepper| account.prove(pepper));
            let (id, directory) = (account.id, parts.directory());
            let old = directory.put_account(account);
            seen.account(old, directory.account(id), &object.metadata);
        };
        match change {
            Change::FreshAt(at) => self.is_fresh(Source::Accounts, at),
            Change::Put(object) => put(&mut self.parts.write(), &object),
            Change::Gone(meta) => remove(&mut self.parts.write(), &meta),
            Change::All(objects) => {
                let ids: HashSet<_> = objects.iter().filter_map(|o| id_of(&o.metadata)).collect();
                let mut parts = self.parts.write();
                parts.directory().keep_accounts(&ids);
                objects.iter().for_each(|object| put(&mut parts, object));
            }
        }
    }

    fn keys(&self, change: Change<ZenAPIKey>) {
        let seen = &self.revocations;
        let remove = |parts: &mut Parts, meta: &ObjectMeta| {
            let old = id_of(meta).and_then(|uid| parts.directory().remove_key(uid));
            seen.key(old, None, meta);
        };
        let put = |parts: &mut Parts, object: &ZenAPIKey| {
            let proven = |key: &Key| parts.pepper().is_none_or(|pepper| key.is_proven(pepper));
            let Some(key) = project::key(object).filter(proven) else {
                return remove(parts, &object.metadata);
            };
            let (uid, directory) = (key.uid, parts.directory());
            let old = directory.put_key(key);
            seen.key(old, directory.key_of_object(uid), &object.metadata);
        };
        match change {
            Change::FreshAt(at) => self.is_fresh(Source::Keys, at),
            Change::Put(object) => put(&mut self.parts.write(), &object),
            Change::Gone(meta) => remove(&mut self.parts.write(), &meta),
            Change::All(objects) => {
                let ids: HashSet<_> = objects.iter().filter_map(|o| id_of(&o.metadata)).collect();
                let mut parts = self.parts.write();
                parts.directory().keep_keys(&ids);
                objects.iter().for_each(|object| put(&mut parts, object));
            }
        }
    }

    fn devices(&self, change: Change<ZenDevice>) {
        let put = |directory: &mut Directory, object: &ZenDevice| match project::decided(object) {
            Some(Decided::Approved(device)) => directory.put_device(*device),
            Some(Decided::Denied(denial)) => directory.put_denial(denial),
            None => remove(&object.metadata, |id| drop(directory.remove_device(id))),
        };
        match change {
            Change::FreshAt(at) => self.is_fresh(Source::Devices, at),
            Change::Put(object) => put(self.parts.write().directory(), &object),
            Change::Gone(meta) => {
                let mut parts = self.parts.write();
                remove(&meta, |id| drop(parts.directory().remove_device(id)));
            }
            Change::All(objects) => {
                let ids: HashSet<_> = objects.iter().filter_map(|o| id_of(&o.metadata)).collect();
                let mut parts = self.parts.write();
                parts.directory().keep_devices(&ids);
                objects
                    .iter()
                    .for_each(|object| put(parts.directory(), object));
            }
        }
    }

    fn users(&self, change: Change<ZenUser>) {
        let put = |directory: &mut Directory, object: &ZenUser| match project::user(object) {
            Some(user) => directory.put_user(user),
            None => remove(&object.metadata, |id| drop(directory.remove_user(id))),
        };
        match change {
            Change::FreshAt(at) => self.is_fresh(Source::Users, at),
            Change::Put(object) => put(self.parts.write().directory(), &object),
            Change::Gone(meta) => {
                let mut parts = self.parts.write();
                remove(&meta, |id| drop(parts.directory().remove_user(id)));
            }
            Change::All(objects) => {
                let ids: HashSet<_> = objects.iter().filter_map(|o| id_of(&o.metadata)).collect();
                let mut parts = self.parts.write();
                parts.directory().keep_users(&ids);
                objects
                    .iter()
                    .for_each(|object| put(parts.directory(), object));
            }
        }
    }

    fn shelf(&self, change: Change<Shelved>) {
        let put = |directory: &mut Directory, object: &Shelved| match shelved::secret(object) {
            Some(secret) => directory.put_secret(secret),
            None => remove(&object.metadata, |id| drop(directory.remove_secret(id))),
        };
        match change {
            Change::FreshAt(at) => self.is_fresh(Source::Shelf, at),
            Change::Put(object) => put(self.parts.write().directory(), &object),
            Change::Gone(meta) => {
                let mut parts = self.parts.write();
                remove(&meta, |id| drop(parts.directory().remove_secret(id)));
            }
            Change::All(objects) => {
                let ids: HashSet<_> = objects.iter().filter_map(|o| id_of(&o.metadata)).collect();
                let mut parts = self.parts.write();
                parts.directory().keep_secrets(&ids);
                objects
                    .iter()
                    .for_each(|object| put(parts.directory(), object));
            }
        }
    }

    /// Without the Secret nobody has a password; what is in it is of no use without our pepper.
    fn passwords(&self, change: Change<Secret>) {
        let secret = match change {
            Change::FreshAt(at) => return self.is_fresh(Source::Passwords, at),
            Change::All(mut secrets) => secrets.pop(),
            Change::Put(secret) => Some(*secret),
            Change::Gone(_) => None,
        };
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let entries = data.iter().map(|(user, json)| (&**user, &*json.0));
        let credentials = Credential::read_all(entries);
        self.parts.write().directory().set_credentials(credentials);
    }

    fn with_directory<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        let parts = self.parts.read();
        read(
            parts
                .state
                .as_ref()
                .map_or(&parts.waiting, |state| &state.directory),
        )
    }

    fn is_fresh(&self, source: Source, at: Instant) {
        let millis = at.duration_since(self.origin).as_millis();
        // One more, as 0 stands for never.
        let millis = u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1);
        if let Some(fresh) = self.fresh.get(source as usize) {
            fresh.fetch_max(millis, Ordering::Relaxed);
        }
    }

    /// How old the view may be; `None` before everything was listed.
    fn age(&self) -> Option<Duration> {
        let oldest = self.fresh.iter().map(|f| f.load(Ordering::Relaxed)).min()?;
        let at = self.origin + Duration::from_millis(oldest.checked_sub(1)?);
        Some((self.clock)().saturating_duration_since(at))
    }
}

impl Store for KubeStore {
    fn view(&self) -> Result<View<'_>, Unavailable> {
        let age = self.age().ok_or(Unavailable::NotSynced)?;
        let parts = self.parts.read();
        let view =
            RwLockReadGuard::try_map(parts, |parts| parts.state.as_ref().filter(|_| parts.usable))
                .map_err(|_| Unavailable::NotSynced)?;
        if age > view.settings.max_staleness {
            Err(Unavailable::Stale)
        } else {
            Ok(view)
        }
    }

    fn settings(&self) -> Option<Arc<Settings>> {
        let parts = self.parts.read();
        parts
            .settings
            .clone()
            .or_else(|| Some(Arc::clone(&parts.state.as_ref()?.settings)))
    }

    fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Parts {
    fn directory(&mut self) -> &mut Directory {
        self.state
            .as_mut()
            .map_or(&mut self.waiting, |state| &mut state.directory)
    }

    /// Takes over settings and keyring. Without either, or with a Secret that is not the one that
    /// the operator made, nothing is usable: there is no other pepper to fall back on.
    fn assemble(&mut self) {
        let (Some(settings), Some(keyring)) = (self.settings.clone(), self.keyring()) else {
            self.usable = false;
            return;
        };
        let (policy, terms) = (settings.lifetimes, settings.devices);
        let logins = Logins::of(&settings.scheme);
        match &mut self.state {
            Some(state) => (state.settings, state.keyring) = (settings, keyring),
            None => {
                let directory = std::mem::take(&mut self.waiting);
                self.state = Some(State {
                    settings,
                    keyring,
                    directory,
                });
            }
        }
        self.directory().set_policy(policy);
        self.directory().set_terms(terms);
        self.directory().set_logins(logins);
        self.usable = true;
        if let Some(state) = &mut self.state {
            state.directory.prove(state.keyring.pepper());
        }
    }

    /// What server and Secret together say, if they speak of the same, and one of the keys that
    /// both know may sign.
    fn keyring(&mut self) -> Option<Arc<Keyring>> {
        let (secrets, material) = self.secrets.as_ref().zip(self.material.as_ref())?;
        if let Some((of, from, keyring)) = &self.keyring
            && of == secrets
            && Arc::ptr_eq(from, material)
        {
            return Some(Arc::clone(keyring));
        }
        self.keyring = None;
        let is_ours = secrets.fingerprint == material.fingerprint();
        let keyring = Arc::new(material.keyring(&secrets.keys).filter(|_| is_ours)?);
        let made = (secrets.clone(), Arc::clone(material), Arc::clone(&keyring));
        self.keyring = Some(made);
        Some(keyring)
    }

    /// What ids are judged by. Without it nothing is usable, and they are judged once it is there.
    fn pepper(&self) -> Option<&Pepper> {
        let state = self.state.as_ref().filter(|_| self.usable)?;
        Some(state.keyring.pepper())
    }
}

fn id_of(meta: &ObjectMeta) -> Option<uuid::Uuid> {
    project::id(meta.uid.as_deref())
}

fn remove(meta: &ObjectMeta, remove: impl FnOnce(uuid::Uuid)) {
    if let Some(id) = id_of(meta) {
        remove(id);
    }
}

fn read_material(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let entry = |name: &str| data.get(name).map(|bytes| bytes.0.as_slice());
    let read = Material::read(entry);
    read.inspect_err(|error| tracing::error!(%error, "the auth Secret cannot be used"))
        .ok()
}

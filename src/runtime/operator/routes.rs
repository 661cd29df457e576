//! Which objects need a look when another one changes.

mod references;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;

use crate::{
    api::{
        ExternalPerson, Record, ZenAPIKey, ZenComponent, ZenDevice, ZenSecret, ZenServer,
        ZenServiceAccount, ZenUser, label,
    },
    reconcile::{
        Reconciled,
        echo::{Echoes, Uid, digest},
        made::{Made, Place},
        namesake::Namesake,
        reader::Views,
        watch::{Seen, Triggers},
    },
};

/// Sends each change to those whom it concerns.
pub struct Routes {
    views: Views,
    echoes: Arc<Echoes>,
    servers: Triggers<ZenServer>,
    /// Servers whose pods may read other values now.
    readable: Triggers<ZenServer>,
    accounts: Triggers<ZenServiceAccount>,
    keys: Triggers<ZenAPIKey>,
    devices: Triggers<ZenDevice>,
    records: Triggers<Secret>,
    users: Triggers<ZenUser>,
    declared: Triggers<ZenSecret>,
    components: Triggers<ZenComponent>,
    known: Mutex<HashMap<Uid, Known>>,
    /// The names of accounts and users, as last seen.
    names: Mutex<HashMap<Uid, String>>,
    /// Which persons of a provider users are, as last seen.
    persons: Mutex<HashMap<Uid, ExternalPerson>>,
}

/// Digests of what is remembered of an object; 0 is nothing.
#[derive(Clone, Copy, Default)]
struct Known {
    /// What its own controller depends on.
    asked: u64,
    /// Its status.
    said: u64,
    /// What others depend on.
    offered: u64,
}

impl Routes {
    /// Routes between the objects of these views.
    pub fn new(views: Views, echoes: Arc<Echoes>) -> Self {
        Self {
            views,
            echoes,
            servers: Triggers::default(),
            readable: Triggers::default(),
            accounts: Triggers::default(),
            keys: Triggers::default(),
            devices: Triggers::default(),
            records: Triggers::default(),
            users: Triggers::default(),
            declared: Triggers::default(),
            components: Triggers::default(),
            known: Mutex::default(),
            names: Mutex::default(),
            persons: Mutex::default(),
        }
    }

    /// Servers that need a look, from now on.
    pub fn servers(&self) -> impl Stream<Item = ObjectRef<ZenServer>> + Send + use<> {
        self.servers.listen(&self.views.servers)
    }

    /// Servers whose pods may read other values, from now on.
    pub fn readable(&self) -> impl Stream<Item = ObjectRef<ZenServer>> + Send + use<> {
        self.readable.listen(&self.views.servers)
    }

    /// Accounts that need a look, from now on.
    pub fn accounts(&self) -> impl Stream<Item = ObjectRef<ZenServiceAccount>> + Send + use<> {
        self.accounts.listen(&self.views.accounts)
    }

    /// Keys that need a look, from now on.
    pub fn keys(&self) -> impl Stream<Item = ObjectRef<ZenAPIKey>> + Send + use<> {
        self.keys.listen(&self.views.keys)
    }

    /// Devices that need a look, from now on.
    pub fn devices(&self) -> impl Stream<Item = ObjectRef<ZenDevice>> + Send + use<> {
        self.devices.listen(&self.views.devices)
    }

    /// Records of deleted objects that need a look, from now on.
    pub fn records(&self) -> impl Stream<Item = Place> + Send + use<> {
        let records = self.views.secrets.records();
        let records = records.iter().map(|made| made.place().to_ref());
        self.records
            .listen_from(records.collect())
            .map(|record| Place::of(&record))
    }

    /// Users who need a look, from now on.
    pub fn users(&self) -> impl Stream<Item = ObjectRef<ZenUser>> + Send + use<> {
        self.users.listen(&self.views.users)
    }

    /// Declared secrets that need a look, from now on.
    pub fn declared(&self) -> impl Stream<Item = ObjectRef<ZenSecret>> + Send + use<> {
        self.declared.listen(&self.views.declared)
    }

    /// Components that need a look, from now on.
    pub fn components(&self) -> impl Stream<Item = ObjectRef<ZenComponent>> + Send + use<> {
        self.components.listen(&self.views.components)
    }

    /// No more looks begin.
    pub fn close(&self) {
        self.servers.close();
        self.readable.close();
        self.accounts.close();
        self.keys.close();
        self.devices.close();
        self.records.close();
        self.users.close();
        self.declared.close();
        self.components.close();
    }

    /// What was recorded of an object is looked at once that is gone, and once another took it
    /// over.
    fn recorded<K: Resource>(&self, seen: &Seen<K>, restored_from: Option<&str>) {
        let meta = seen.object().meta();
        let gone = matches!(seen, Seen::Gone(_)).then_some(meta.uid.as_deref());
        for uid in [gone.flatten(), restored_from].into_iter().flatten() {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let name = Record::secret_name(uid);
            if let Some(record) = self.views.secrets.get(namespace, &name) {
                self.records.send(record.place().to_ref());
            }
        }
    }

    /// A server changed: itself, and when its address or secrets did, its accounts and keys.
    pub fn server(&self, seen: &Seen<ZenServer>) {
        let server = seen.object();
        self.refers(seen);
        if self.asks(seen) {
            self.servers.send(ObjectRef::from_obj(&**server));
        }
        let status = server.status.as_ref();
        let policy = &server.spec.policy.keys;
        let policy = (
            policy.default_ttl.map(|ttl| ttl.0),
            policy.max_ttl.map(|ttl| ttl.0),
            policy.max_per_account,
            policy.require_rotation_within.map(|within| within.0),
            server.spec.policy.undo_window.map(|window| window.0),
            server.spec.policy.secret_validation,
        );
        let device = &server.spec.auth.device;
        let devices = (
            device.trusted_ttl.0,
            device.untrusted_ttl.0,
            device.code_ttl.0,
            server.spec.policy.devices.trust_allowed,
        );
        let offer = status.map(|s| (&s.url, s.auth_secret.as_ref().map(|a| &a.fingerprint)));
        let external = server.spec.auth.external.as_ref();
        let logins = external.map(|provider| (&provider.issuer, provider.password_login));
        let offer = (offer, policy, devices, logins);
        if self.offers(seen, offer) {
            let namespace = server.namespace();
            self.clients_of(namespace.as_deref(), &server.name_any());
            self.users_of(namespace.as_deref(), &server.name_any());
        }
    }

    /// A device changed: itself, and nobody else.
    pub fn device(&self, seen: &Seen<ZenDevice>) {
        let device = seen.object();
        if self.asks(seen) {
            self.devices.send(ObjectRef::from_obj(&**device));
        }
        if matches!(seen, Seen::Gone(_)) {
            self.offers(seen, ());
        }
    }

    /// A Secret that somebody else keeps changed: those who take values from it.
    pub fn source(&self, place: &Place) {
        for taker in self.views.sources.takers(place) {
            self.declared.send(taker);
        }
    }

    /// An account changed: itself; and its keys, and those who want its name or the one it had.
    pub fn account(&self, seen: &Seen<ZenServiceAccount>) {
        let account = seen.object();
        let status = account.status.as_ref();
        self.recorded(seen, status.and_then(|s| s.restored_from.as_deref()));
        if self.asks(seen) {
            self.accounts.send(ObjectRef::from_obj(&**account));
        }
        let offer = (
            account.zenml_name(),
            account.spec.active,
            account.spec.valid_from.as_ref().map(|t| t.0),
            account.spec.expires_at.as_ref().map(|t| t.0),
            &account.spec.server_ref.name,
            account
                .status
                .as_ref()
                .map(|s| (&s.account_id, &s.id_proof)),
        );
        if !self.offers(seen, offer) {
            return;
        }
        self.keys_of(account);
        let before = self.rename(seen);
        let names = [Some(account.zenml_name()), before.as_deref()];
        for other in self.views.accounts.state_filter(|other| {
            other.namespace() == account.namespace()
                && other.uid() != account.uid()
                && other.spec.server_ref == account.spec.server_ref
                && names.contains(&Some(other.zenml_name()))
        }) {
            self.accounts.send(ObjectRef::from_obj(&*other));
            self.keys_of(&other);
        }
    }

    /// A user changed: itself; and those who want its name, or are the same person of a provider,
    /// now or before.
    pub fn user(&self, seen: &Seen<ZenUser>) {
        let user = seen.object();
        if self.asks(seen) {
            self.users.send(ObjectRef::from_obj(&**user));
        }
        let person = user.spec.external.as_ref();
        let shown = person.map(|person| (&person.issuer, &person.subject));
        let offer = (user.zenml_name(), shown, &user.spec.server_ref.name);
        if !self.offers(seen, offer) {
            return;
        }
        let (name, was) = (self.rename(seen), self.is_another(seen));
        let names = [Some(user.zenml_name()), name.as_deref()];
        let persons = [person, was.as_ref()];
        let same = |other: &ZenUser| {
            let person = other.spec.external.as_ref();
            names.contains(&Some(other.zenml_name()))
                || (person.is_some() && persons.contains(&person))
        };
        for other in self.views.users.state_filter(|other| {
            other.namespace() == user.namespace()
                && other.uid() != user.uid()
                && other.spec.server_ref == user.spec.server_ref
                && same(other)
        }) {
            self.users.send(ObjectRef::from_obj(&*other));
        }
    }

    /// A key changed: itself; and when it may log in now or not any more, its account.
    pub fn key(&self, seen: &Seen<ZenAPIKey>) {
        let key = seen.object();
        let status = key.status.as_ref();
        self.recorded(seen, status.and_then(|s| s.restored_from.as_deref()));
        if self.asks(seen) {
            self.keys.send(ObjectRef::from_obj(&**key));
        }
        let generation = key.status.as_ref().and_then(|s| s.generation).is_some();
        let offer = (
            generation,
            key.spec.active,
            key.spec.expires_at.as_ref().map(|t| t.0),
            key.status
                .as_ref()
                .and_then(|s| Some(s.expires_at.as_ref()?.0)),
        );
        if self.offers(seen, offer) {
            let account = ObjectRef::new(&key.spec.service_account_ref.name)
                .within(&key.namespace().unwrap_or_default());
            self.accounts.send(account);
        }
    }

    /// Something of this kind that we made changed: whom it was made for looks at it.
    pub fn owned(&self, made_kind: &str, seen: &Seen<Made>) {
        let made = seen.object();
        let namespace = made.namespace();
        if made.is_record {
            self.echoes.forget(&made.uid);
            return self.records.send(made.place().to_ref());
        }
        let controller = made.controller.as_ref();
        let (kind, name) = controller.map_or(("", ""), |owner| (owner.kind, &*owner.name));
        if kind == "ZenServer" && made_kind == "Secret" {
            // Keys and users wait for their Secret until the view has it, our own writes
            // included.
            match made.name().strip_prefix(name) {
                Some("-passwords") => self.users_of(Some(namespace), name),
                Some("-sealing") => self.sealed_of(namespace, name),
                _ => self.clients_of(Some(namespace), name),
            }
        }
        if kind == "ZenSecret" && made_kind == "Secret" {
            self.granted(namespace, name);
        }
        match seen {
            Seen::Changed(made) if self.echoes.is_own_child(made) => return,
            Seen::Changed(_) => {}
            Seen::Gone(made) => self.echoes.forget(&made.uid),
        }
        match kind {
            "ZenServer" if made.name().starts_with(&format!("{name}.secrets")) => {
                self.readable.send(ObjectRef::new(name).within(namespace));
            }
            "ZenServer" => self.servers.send(ObjectRef::new(name).within(namespace)),
            "ZenAPIKey" => self.keys.send(ObjectRef::new(name).within(namespace)),
            "ZenUser" => self.users.send(ObjectRef::new(name).within(namespace)),
            "ZenSecret" => self.declared.send(ObjectRef::new(name).within(namespace)),
            "ZenComponent" => self.components.send(ObjectRef::new(name).within(namespace)),
            _ => {}
        }
        if let Some(uid) = &made.made_for
            && made.owner().is_none()
        {
            self.bereft(uid);
        }
    }

    /// What a secret was delivered in came, changed or went: its server's pods may read it, or not.
    fn granted(&self, namespace: &str, secret: &str) {
        let secret = ObjectRef::new(secret).within(namespace);
        if let Some(secret) = self.views.declared.get(&secret) {
            let server = ObjectRef::new(&secret.spec.server_ref.name);
            self.readable.send(server.within(namespace));
        }
    }

    /// Something that was made for the object with this UID does not belong to it any more.
    fn bereft(&self, uid: &str) {
        let is = |meta: &kube::api::ObjectMeta| meta.uid.as_deref() == Some(uid);
        for server in self.views.servers.state_filter(|o| is(&o.metadata)) {
            self.servers.send(ObjectRef::from_obj(&*server));
        }
        for key in self.views.keys.state_filter(|o| is(&o.metadata)) {
            self.keys.send(ObjectRef::from_obj(&*key));
        }
        for user in self.views.users.state_filter(|o| is(&o.metadata)) {
            self.users.send(ObjectRef::from_obj(&*user));
        }
        for secret in self.views.declared.state_filter(|o| is(&o.metadata)) {
            self.declared.send(ObjectRef::from_obj(&*secret));
        }
        for component in self.views.components.state_filter(|o| is(&o.metadata)) {
            self.components.send(ObjectRef::from_obj(&*component));
        }
    }

    /// The users of a server.
    fn users_of(&self, namespace: Option<&str>, server: &str) {
        for user in self.views.users.state_filter(|user| {
            user.metadata.namespace.as_deref() == namespace && user.spec.server_ref.name == server
        }) {
            self.users.send(ObjectRef::from_obj(&*user));
        }
    }

    /// The accounts of a server with their keys, its devices, and what is declared for it.
    fn clients_of(&self, namespace: Option<&str>, server: &str) {
        for account in self.views.accounts.state_filter(|account| {
            account.metadata.namespace.as_deref() == namespace
                && account.spec.server_ref.name == server
        }) {
            self.accounts.send(ObjectRef::from_obj(&*account));
            self.keys_of(&account);
        }
        for device in self.views.devices.state_filter(|device| {
            device.metadata.namespace.as_deref() == namespace
                && device.spec.server_ref.name == server
        }) {
            self.devices.send(ObjectRef::from_obj(&*device));
        }
        for secret in self.views.declared.state_filter(|secret| {
            secret.metadata.namespace.as_deref() == namespace
                && secret.spec.server_ref.name == server
        }) {
            self.declared.send(ObjectRef::from_obj(&*secret));
        }
        for component in self.views.components.state_filter(|component| {
            component.metadata.namespace.as_deref() == namespace
                && component.spec.server_ref.name == server
        }) {
            self.components.send(ObjectRef::from_obj(&*component));
        }
    }

    /// The ZenSecrets with sealed entries of a server.
    fn sealed_of(&self, namespace: &str, server: &str) {
        for secret in self.views.declared.state_filter(|secret| {
            secret.metadata.namespace.as_deref() == Some(namespace)
                && secret.spec.server_ref.name == server
                && secret
                    .spec
                    .data
                    .iter()
                    .any(|entry| entry.encrypted.is_some())
        }) {
            self.declared.send(ObjectRef::from_obj(&*secret));
        }
    }

    fn keys_of(&self, account: &ZenServiceAccount) {
        let (namespace, name) = (account.namespace(), account.name_any());
        for key in self.views.keys.state_filter(|key| {
            key.namespace() == namespace && key.spec.service_account_ref.name == name
        }) {
            self.keys.send(ObjectRef::from_obj(&*key));
        }
    }

    /// Remembers the name of an account or user. Returns the one before.
    fn rename<K: Namesake>(&self, seen: &Seen<K>) -> Option<String> {
        let one = seen.object();
        let uid = one.meta().uid.as_deref().unwrap_or_default().into();
        let mut names = self.names.lock();
        match seen {
            Seen::Changed(_) => names.insert(uid, one.wanted_name().to_owned()),
            Seen::Gone(_) => names.remove(&uid),
        }
    }

    /// Remembers which person of a provider a user is. Returns the one before.
    fn is_another(&self, seen: &Seen<ZenUser>) -> Option<ExternalPerson> {
        let user = seen.object();
        let uid = user.metadata.uid.as_deref().unwrap_or_default().into();
        let mut persons = self.persons.lock();
        match (seen, &user.spec.external) {
            (Seen::Changed(_), Some(person)) => persons.insert(uid, person.clone()),
            (Seen::Changed(_), None) | (Seen::Gone(_), _) => persons.remove(&uid),
        }
    }

    /// Whether something changed that an object's own controller depends on. Its status is among
    /// it where somebody else wrote it.
    fn asks<K: Reconciled>(&self, seen: &Seen<K>) -> bool {
        let object = seen.object();
        let meta = object.meta();
        let uid = meta.uid.as_deref().unwrap_or_default();
        if matches!(seen, Seen::Gone(_)) {
            self.echoes.forget(uid);
            return false;
        }
        // Whoever writes to what is retained takes care of it from then on, whatever it is.
        let retained = meta
            .labels
            .as_ref()
            .is_some_and(|l| l.contains_key(label::RETAINED));
        let asked = (
            retained.then_some(&meta.resource_version),
            meta.generation,
            &meta.annotations,
            &meta.labels,
            meta.deletion_timestamp.is_some(),
        );
        let said = digest(object.status());
        let own = self.echoes.is_own_status(uid, said);
        let mut all = self.known.lock();
        let known = all.entry(uid.into()).or_default();
        let asks = replaced(&mut known.asked, hash(asked));
        let says = replaced(&mut known.said, said);
        asks || (says && !own)
    }

    /// Whether something changed that others depend on.
    fn offers<K: Resource>(&self, seen: &Seen<K>, offer: impl Hash) -> bool {
        let meta = seen.object().meta();
        let uid = meta.uid.as_deref().unwrap_or_default();
        let mut all = self.known.lock();
        match seen {
            Seen::Gone(_) => all.remove(&uid.into()).is_some(),
            Seen::Changed(_) => {
                let known = all.entry(uid.into()).or_default();
                let offer = hash((meta.deletion_timestamp.is_some(), offer));
                replaced(&mut known.offered, offer)
            }
        }
    }
}

fn replaced(known: &mut u64, now: u64) -> bool {
    std::mem::replace(known, now) != now
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

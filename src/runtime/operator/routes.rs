//! Which objects need a look when another one changes.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::Stream;
use kube::{Resource, ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};
use parking_lot::Mutex;

use crate::{
    api::{ZenAPIKey, ZenServer, ZenServiceAccount},
    reconcile::{
        echo::Echoes,
        reader::Views,
        watch::{Seen, Triggers},
    },
};

/// Sends each change to those whom it concerns.
pub struct Routes {
    views: Views,
    echoes: Arc<Echoes>,
    servers: Triggers<ZenServer>,
    accounts: Triggers<ZenServiceAccount>,
    keys: Triggers<ZenAPIKey>,
    /// Of each object, what its own controller depends on; and what others depend on.
    asked: Mutex<HashMap<String, u64>>,
    offered: Mutex<HashMap<String, u64>>,
}

impl Routes {
    /// Routes between the objects of these views.
    pub fn new(views: Views, echoes: Arc<Echoes>) -> Self {
        Self {
            views,
            echoes,
            servers: Triggers::default(),
            accounts: Triggers::default(),
            keys: Triggers::default(),
            asked: Mutex::default(),
            offered: Mutex::default(),
        }
    }

    /// Servers that need a look, from now on.
    pub fn servers(&self) -> impl Stream<Item = ObjectRef<ZenServer>> + Send + use<> {
        self.servers.listen(&self.views.servers)
    }

    /// Accounts that need a look, from now on.
    pub fn accounts(&self) -> impl Stream<Item = ObjectRef<ZenServiceAccount>> + Send + use<> {
        self.accounts.listen(&self.views.accounts)
    }

    /// Keys that need a look, from now on.
    pub fn keys(&self) -> impl Stream<Item = ObjectRef<ZenAPIKey>> + Send + use<> {
        self.keys.listen(&self.views.keys)
    }

    /// No more looks begin.
    pub fn close(&self) {
        self.servers.close();
        self.accounts.close();
        self.keys.close();
    }

    /// A server changed: itself, and when its address or secrets did, its accounts and keys.
    pub fn server(&self, seen: &Seen<ZenServer>) {
        let server = seen.object();
        if self.asks(seen) {
            self.servers.send(ObjectRef::from_obj(&**server));
        }
        let status = server.status.as_ref();
        let offer = status.map(|s| (&s.url, s.auth_secret.as_ref().map(|a| &a.fingerprint)));
        if !self.offers(seen, offer) {
            return;
        }
        let name = server.name_any();
        for account in self.views.accounts.state_filter(|account| {
            account.namespace() == server.namespace() && account.spec.server_ref.name == name
        }) {
            self.accounts.send(ObjectRef::from_obj(&*account));
            self.keys_of(&account);
        }
    }

    /// An account changed: itself; and its keys, and those who want its name.
    pub fn account(&self, seen: &Seen<ZenServiceAccount>) {
        let account = seen.object();
        if self.asks(seen) {
            self.accounts.send(ObjectRef::from_obj(&**account));
        }
        let offer = (
            account.zenml_name(),
            account.spec.active,
            &account.spec.server_ref.name,
        );
        if !self.offers(seen, offer) {
            return;
        }
        self.keys_of(account);
        // Whom it gave way to, or who waits for the name that it had: which that was is not kept,
        // so those of its server who are not well look again.
        for other in self.views.accounts.state_filter(|other| {
            other.namespace() == account.namespace()
                && other.uid() != account.uid()
                && other.spec.server_ref == account.spec.server_ref
                && (other.zenml_name() == account.zenml_name() || has_name_conflict(other))
        }) {
            self.accounts.send(ObjectRef::from_obj(&*other));
            self.keys_of(&other);
        }
    }

    /// A key changed: itself; and when it may log in now or not any more, its account.
    pub fn key(&self, seen: &Seen<ZenAPIKey>) {
        let key = seen.object();
        if self.asks(seen) {
            self.keys.send(ObjectRef::from_obj(&**key));
        }
        let generation = key.status.as_ref().and_then(|s| s.generation).is_some();
        let offer = (
            generation,
            key.spec.active,
            key.spec.expires_at.as_ref().map(|t| t.0),
        );
        if self.offers(seen, offer) {
            let account = ObjectRef::new(&key.spec.service_account_ref.name)
                .within(&key.namespace().unwrap_or_default());
            self.accounts.send(account);
        }
    }

    /// Something that we made changed: whom it was made for looks at it.
    pub fn owned<K>(&self, seen: &Seen<PartialObjectMeta<K>>)
    where
        K: Resource<DynamicType = ()>,
    {
        let child = seen.object();
        if matches!(seen, Seen::Changed(_)) && self.echoes.is_own_child(&child.metadata) {
            return;
        }
        let namespace = child.metadata.namespace.clone().unwrap_or_default();
        let owners = child.metadata.owner_references.iter().flatten();
        for owner in owners.filter(|owner| owner.controller == Some(true)) {
            match owner.kind.as_str() {
                "ZenServer" => self
                    .servers
                    .send(ObjectRef::new(&owner.name).within(&namespace)),
                "ZenAPIKey" => self
                    .keys
                    .send(ObjectRef::new(&owner.name).within(&namespace)),
                _ => {}
            }
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

    /// Whether something changed that an object's own controller reads. Its status is not among
    /// it: that is what the controller writes.
    fn asks<K: Resource>(&self, seen: &Seen<K>) -> bool {
        let meta = seen.object().meta();
        let asked = (
            meta.generation,
            &meta.annotations,
            &meta.labels,
            meta.deletion_timestamp.is_some(),
        );
        let asks = changed(&self.asked, seen, &asked);
        match seen {
            Seen::Changed(_) => asks,
            Seen::Gone(_) => {
                self.echoes.forget(meta.uid.as_deref().unwrap_or_default());
                false
            }
        }
    }

    fn offers<K: Resource>(&self, seen: &Seen<K>, offer: impl Hash) -> bool {
        let deleting = seen.object().meta().deletion_timestamp.is_some();
        changed(&self.offered, seen, &(deleting, offer))
    }
}

fn has_name_conflict(account: &ZenServiceAccount) -> bool {
    use crate::api::condition::NAME_CONFLICT;
    let conditions = account.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.type_ == NAME_CONFLICT)
}

/// Whether what is remembered of an object is another thing now. What is gone is forgotten.
fn changed<K: Resource>(
    known: &Mutex<HashMap<String, u64>>,
    seen: &Seen<K>,
    now: &impl Hash,
) -> bool {
    let uid = seen.object().meta().uid.clone().unwrap_or_default();
    let mut known = known.lock();
    match seen {
        Seen::Gone(_) => known.remove(&uid).is_some(),
        Seen::Changed(_) => {
            let mut hasher = DefaultHasher::new();
            now.hash(&mut hasher);
            let hash = hasher.finish();
            known.insert(uid, hash) != Some(hash)
        }
    }
}

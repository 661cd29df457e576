//! Whom a change of a secret concerns, and of what refers to one.

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::Routes;
use crate::{
    api::{Referrer, ZenComponent, ZenSecret},
    reconcile::{references::Refers, secret::SecretName, watch::Seen},
};

impl Routes {
    /// A declared secret changed: itself; those who want its name or the one it had; those who refer
    /// to either, if they get something else by it; and the secrets that it refers to.
    pub fn secret(&self, seen: &Seen<ZenSecret>) {
        let secret = seen.object();
        let (names, uid) = (&self.views.secret_names, secret.uid().unwrap_or_default());
        let before = names.wanted(&uid);
        self.views.sources.note(seen);
        for other in names.note(seen) {
            self.declared.send(other);
        }
        self.refers(seen);
        if self.asks(seen) {
            self.declared.send(ObjectRef::from_obj(&**secret));
        }
        let status = secret.status.as_ref();
        let keys = status.iter().flat_map(|status| &status.keys);
        let keys: Vec<_> = keys.map(|key| (&key.name, &key.fingerprint)).collect();
        let offer = (
            secret.zenml_name(),
            secret.spec.scope,
            &secret.spec.owner_ref,
            status.map(|status| &status.secret_name),
            keys,
        );
        if self.offers(seen, offer) {
            let now = SecretName::of(secret);
            let before = before.filter(|before| *before != now);
            for name in before.iter().chain([&now]) {
                self.referrers_of(name);
            }
        }
        if matches!(seen, Seen::Gone(_)) {
            let server = ObjectRef::new(&secret.spec.server_ref.name);
            let namespace = secret.metadata.namespace.as_deref();
            self.readable
                .send(server.within(namespace.unwrap_or_default()));
        }
    }

    /// A component changed: itself, and the secrets that it refers to.
    pub fn component(&self, seen: &Seen<ZenComponent>) {
        self.refers(seen);
        if self.asks(seen) {
            self.components.send(ObjectRef::from_obj(&**seen.object()));
        }
        if matches!(seen, Seen::Gone(_)) {
            self.offers(seen, ());
        }
    }

    /// The secrets that something refers to, or did before, look who does.
    pub(super) fn refers<K: Refers>(&self, seen: &Seen<K>) {
        for name in self.views.referrers.note(seen) {
            for secret in self.views.secret_names.claimants(&name) {
                self.declared.send(secret);
            }
        }
    }

    /// Those who refer to a name.
    fn referrers_of(&self, name: &SecretName) {
        for Referrer { kind, name: object } in self.views.referrers.of(name) {
            let namespace = name.namespace();
            match &*kind {
                "ZenComponent" => self
                    .components
                    .send(ObjectRef::new(&object).within(namespace)),
                "ZenServer" => self.servers.send(ObjectRef::new(&object).within(namespace)),
                _ => self
                    .declared
                    .send(ObjectRef::new(&object).within(namespace)),
            }
        }
    }
}

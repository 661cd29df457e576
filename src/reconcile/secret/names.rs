//! Which ZenSecret has a name, found without a look at all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::RwLock;

use crate::{
    api::{OwnerRef, ZenSecret},
    reconcile::{echo::Uid, namesake::Name, watch::Seen},
};

/// The names that ZenSecrets want, by server. Clones are the same index.
#[derive(Clone, Default)]
pub struct SecretNames(Arc<RwLock<Index>>);

#[derive(Default)]
struct Index {
    by_name: HashMap<SecretName, Vec<Claimant>>,
    wanted: HashMap<Uid, SecretName>,
}

/// A name of a server, in any scope: namespace and server, which have no slash in them, and the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Arc<str>);

impl SecretName {
    /// This name of this server of this namespace.
    pub fn new(namespace: &str, server: &str, name: &str) -> Self {
        Self(format!("{namespace}/{server}/{name}").into())
    }

    /// The namespace of the server.
    pub fn namespace(&self) -> &str {
        let namespace = self.0.split_once('/');
        namespace.map_or("", |(namespace, _)| namespace)
    }

    /// The name that a secret wants.
    pub fn of(secret: &ZenSecret) -> Self {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        Self::new(namespace, &secret.spec.server_ref.name, secret.zenml_name())
    }
}

/// A ZenSecret that wants a name.
#[derive(Clone, PartialEq, Eq)]
struct Claimant {
    /// Who was first; every observer agrees.
    seniority: (Option<Time>, Box<str>),
    object: Box<str>,
    /// Whose alone it is; nobody's in scope `Workspace`.
    owner: Option<Box<OwnerRef>>,
}

impl Claimant {
    fn of(secret: &ZenSecret) -> Self {
        let uid = secret.metadata.uid.as_deref().unwrap_or_default();
        Self {
            seniority: (secret.creation_timestamp(), uid.into()),
            object: secret.name_any().into(),
            owner: secret.owner().cloned().map(Box::new),
        }
    }

    fn is_in_scope_of(&self, owner: Option<&OwnerRef>) -> bool {
        match (self.owner.as_deref(), owner) {
            (None, None) => true,
            (Some(one), Some(other)) => one.may_be(other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl SecretNames {
    /// Takes in a change. Returns the others that want the name which it has, or had before, if
    /// the change concerns them.
    pub fn note(&self, seen: &Seen<ZenSecret>) -> Vec<ObjectRef<ZenSecret>> {
        let secret = seen.object();
        let uid = secret.metadata.uid.as_deref().unwrap_or_default();
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let mut index = self.0.write();
        let before = index.take(uid);
        let mut concerned: Vec<Box<str>> = Vec::new();
        let is_there = matches!(seen, Seen::Changed(_));
        let now = is_there.then(|| (SecretName::of(secret), Claimant::of(secret)));
        if before == now {
            if let Some((wanted, claimant)) = now {
                index.put(wanted, claimant);
            }
            return Vec::new();
        }
        for (wanted, _) in before.iter().chain(&now) {
            let others = index.by_name.get(wanted).into_iter().flatten();
            concerned.extend(others.map(|other| other.object.clone()));
        }
        if let Some((wanted, claimant)) = now {
            index.put(wanted, claimant);
        }
        let concerned = concerned.iter();
        concerned
            .map(|name| ObjectRef::new(name).within(namespace))
            .collect()
    }

    /// The name that the object with this UID wants, as last noted.
    pub fn wanted(&self, uid: &str) -> Option<SecretName> {
        self.0.read().wanted.get(&Uid::from(uid)).cloned()
    }

    /// All that want a name, in any scope.
    pub fn claimants(&self, name: &SecretName) -> Vec<ObjectRef<ZenSecret>> {
        let index = self.0.read();
        let all = index.by_name.get(name).into_iter().flatten();
        all.map(|one| ObjectRef::new(&one.object).within(name.namespace()))
            .collect()
    }

    /// Who has the name that a secret wants.
    pub(in crate::reconcile) fn holder(&self, secret: &ZenSecret) -> Name {
        let one = Claimant::of(secret);
        let index = self.0.read();
        let all = index.by_name.get(&SecretName::of(secret));
        let older = all.into_iter().flatten().filter(|other| {
            other.seniority < one.seniority && other.is_in_scope_of(one.owner.as_deref())
        });
        let oldest = older.min_by(|a, b| a.seniority.cmp(&b.seniority));
        oldest.map_or(Name::Own, |other| Name::HeldBy(other.object.to_string()))
    }

    /// The object that has a name where `asks` looks it up: among the secrets of that owner first,
    /// then among those of the workspace.
    pub fn find(&self, name: &SecretName, asks: Option<&OwnerRef>) -> Option<ObjectRef<ZenSecret>> {
        let index = self.0.read();
        let all = index.by_name.get(name)?;
        let oldest_of = |owner: Option<&OwnerRef>| {
            let own = all.iter().filter(|one| one.is_in_scope_of(owner));
            own.min_by(|a, b| a.seniority.cmp(&b.seniority))
        };
        let own = asks.and_then(|asks| oldest_of(Some(asks)));
        let found = own.or_else(|| oldest_of(None))?;
        Some(ObjectRef::new(&found.object).within(name.namespace()))
    }
}

impl Index {
    fn take(&mut self, uid: &str) -> Option<(SecretName, Claimant)> {
        let wanted = self.wanted.remove(&Uid::from(uid))?;
        let Entry::Occupied(mut all) = self.by_name.entry(wanted.clone()) else {
            return None;
        };
        let at = all.get().iter().position(|one| *one.seniority.1 == *uid);
        let claimant = at.map(|at| all.get_mut().swap_remove(at));
        if all.get().is_empty() {
            all.remove();
        }
        Some((wanted, claimant?))
    }

    fn put(&mut self, wanted: SecretName, claimant: Claimant) {
        let uid = Uid::from(&*claimant.seniority.1);
        // Most names are wanted once: a Vec that grows by itself has room for four.
        let all = self.by_name.entry(wanted.clone()).or_default();
        all.reserve_exact(1);
        all.push(claimant);
        self.wanted.insert(uid, wanted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn secret(uid: &str, name: &str, owner: Option<&str>, second: i64) -> Arc<ZenSecret> {
        let created = jiff::Timestamp::from_second(second).unwrap().to_string();
        let mut object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret",
            "metadata": {"name": uid, "namespace": "ml", "uid": uid, "creationTimestamp": created},
            "spec": {"serverRef": {"name": "prod"}, "name": name},
        });
        if let Some(owner) = owner {
            object["spec"]["scope"] = json!("User");
            object["spec"]["ownerRef"] = json!({"name": owner});
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn names(of: &[Arc<ZenSecret>]) -> SecretNames {
        let names = SecretNames::default();
        for secret in of {
            names.note(&Seen::Changed(Arc::clone(secret)));
        }
        names
    }

    fn found(names: &SecretNames, asks: Option<&str>) -> Option<String> {
        let asks = asks.map(|name| serde_json::from_value(json!({"name": name})).unwrap());
        let found = names.find(&SecretName::new("ml", "prod", "x"), asks.as_ref());
        found.map(|found| found.name)
    }

    #[test]
    fn ones_own_comes_before_the_workspaces_and_nobody_elses_at_all() {
        let all = [
            secret("u1", "x", None, 2),
            secret("u2", "x", Some("ana"), 3),
            secret("u3", "x", Some("ana"), 1),
        ];
        let names = names(&all);
        assert_eq!(found(&names, Some("ana")).as_deref(), Some("u3"));
        assert_eq!(found(&names, Some("ben")).as_deref(), Some("u1"));
        assert_eq!(found(&names, None).as_deref(), Some("u1"));
        let elsewhere = |namespace, server| SecretName::new(namespace, server, "x");
        assert_eq!(names.find(&elsewhere("ml", "test"), None), None);
        assert_eq!(names.find(&elsewhere("other", "prod"), None), None);
        assert_eq!(names.holder(&all[1]), Name::HeldBy("u3".into()));
        assert_eq!(names.holder(&all[0]), Name::Own);
        assert_eq!(names.holder(&all[2]), Name::Own);
    }

    #[test]
    fn who_is_concerned_is_told() {
        let (a, b) = (secret("u1", "x", None, 1), secret("u2", "x", None, 2));
        let names = names(std::slice::from_ref(&a));
        let told = |seen| {
            names
                .note(&seen)
                .into_iter()
                .map(|r| r.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(Seen::Changed(Arc::clone(&b))), ["u1"]);
        assert_eq!(told(Seen::Changed(Arc::clone(&b))), [""; 0], "nothing new");
        assert_eq!(told(Seen::Changed(secret("u1", "y", None, 1))), ["u2"]);
        assert_eq!(names.holder(&b), Name::Own);
        assert_eq!(told(Seen::Changed(a.clone())), ["u2"]);
        assert_eq!(names.holder(&b), Name::HeldBy("u1".into()));
        assert_eq!(told(Seen::Gone(a)), ["u2"]);
        assert_eq!(names.holder(&b), Name::Own);
    }

    proptest! {
        /// Of any changes in any order: one holder of each name and scope, the oldest, and nothing
        /// is left of those that are gone.
        #[test]
        fn every_name_has_one_holder_in_its_scope(
            changes in prop::collection::vec(
                (0..6_u8, "[xy]", prop::option::of("[ab]"), any::<bool>()), 1..40
            )
        ) {
            let (names, mut there) = (SecretNames::default(), HashMap::new());
            for (n, name, owner, goes) in changes {
                let one = secret(&format!("u{n}"), &name, owner.as_deref(), n.into());
                if goes {
                    there.remove(&n);
                    names.note(&Seen::Gone(one));
                } else {
                    there.insert(n, Arc::clone(&one));
                    names.note(&Seen::Changed(one));
                }
            }
            prop_assert_eq!(names.0.read().wanted.len(), there.len());
            for one in there.values() {
                let rivals = there.values().filter(|other| {
                    other.zenml_name() == one.zenml_name() && other.owner() == one.owner()
                });
                let oldest = rivals.min_by_key(|other| other.creation_timestamp()).unwrap();
                let holds = names.holder(one) == Name::Own;
                prop_assert_eq!(holds, Arc::ptr_eq(oldest, one));
            }
        }
    }
}

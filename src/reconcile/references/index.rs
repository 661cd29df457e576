//! Who refers to which secret, found without a look at all of them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use kube::ResourceExt;
use parking_lot::RwLock;

use super::Refers;
use crate::{
    api::{OwnerRef, Referrer, ZenSecret},
    reconcile::{
        secret::{SecretName, SecretNames},
        watch::Seen,
    },
};

/// Who refers to which secret, by ZenML name and server. Clones are the same index.
#[derive(Clone, Default)]
pub struct Referrers(Arc<RwLock<Index>>);

#[derive(Default)]
struct Index {
    by_name: HashMap<SecretName, BTreeMap<Referrer, Option<OwnerRef>>>,
    of: HashMap<Arc<str>, Asks>,
}

/// What an object asks for.
#[derive(Clone, PartialEq, Eq)]
struct Asks {
    referrer: Referrer,
    owner: Option<OwnerRef>,
    names: Vec<SecretName>,
}

impl Asks {
    /// `None`: for nothing, or the object is being deleted, and nobody waits for it.
    fn of<K: Refers>(object: &K) -> Option<Self> {
        let meta = object.meta();
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let names = object.names();
        let names = names.iter();
        let names: Vec<_> = names
            .map(|name| SecretName::new(namespace, object.server(), name))
            .collect();
        (!names.is_empty()).then(|| Self {
            referrer: referrer(object),
            owner: object.asks().cloned(),
            names,
        })
    }
}

fn referrer<K: Refers>(object: &K) -> Referrer {
    Referrer {
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
    }
}

impl Referrers {
    /// Takes in a change. Returns the names that the object refers to, or did before, if the change
    /// concerns who has them.
    pub fn note<K: Refers>(&self, seen: &Seen<K>) -> Vec<SecretName> {
        let object = seen.object();
        let uid: Arc<str> = object.meta().uid.as_deref().unwrap_or_default().into();
        let is_there = matches!(seen, Seen::Changed(_));
        let now = is_there.then(|| Asks::of(&**object)).flatten();
        let mut index = self.0.write();
        let before = index.of.remove(&uid);
        if before == now {
            index.of.extend(now.map(|now| (uid, now)));
            return Vec::new();
        }
        if let Some(before) = &before {
            index.forget(before);
        }
        let concerned = before.iter().chain(&now);
        let mut concerned: Vec<_> = concerned.flat_map(|asks| asks.names.clone()).collect();
        concerned.sort_unstable();
        concerned.dedup();
        if let Some(now) = now {
            index.remember(uid, now);
        }
        concerned
    }

    /// Who refers to a name.
    pub fn of(&self, name: &SecretName) -> Vec<Referrer> {
        let index = self.0.read();
        let all = index.by_name.get(name).into_iter();
        all.flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Who gets this secret for the name that it has, itself left aside; by kind and name.
    pub fn users(&self, secret: &ZenSecret, names: &SecretNames) -> Vec<Referrer> {
        let wanted = SecretName::of(secret);
        let (itself, object) = (referrer(secret), secret.name_any());
        let index = self.0.read();
        let all = index.by_name.get(&wanted).into_iter().flatten();
        let gets = |owner: &Option<OwnerRef>| {
            let found = names.find(&wanted, owner.as_ref());
            found.is_some_and(|found| found.name == object)
        };
        all.filter(|(referrer, owner)| **referrer != itself && gets(owner))
            .map(|(referrer, _)| referrer.clone())
            .collect()
    }
}

impl Index {
    fn remember(&mut self, uid: Arc<str>, asks: Asks) {
        for name in &asks.names {
            let all = self.by_name.entry(name.clone()).or_default();
            all.insert(asks.referrer.clone(), asks.owner.clone());
        }
        self.of.insert(uid, asks);
    }

    fn forget(&mut self, asks: &Asks) {
        for name in &asks.names {
            if let Entry::Occupied(mut all) = self.by_name.entry(name.clone()) {
                all.get_mut().remove(&asks.referrer);
                if all.get().is_empty() {
                    all.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::ZenComponent;

    fn component(name: &str, refs: &[&str], owner: Option<&str>) -> Arc<ZenComponent> {
        let attributes: BTreeMap<String, String> = refs
            .iter()
            .enumerate()
            .map(|(n, secret)| (format!("a{n}"), format!("{{{{{secret}.key}}}}")))
            .collect();
        let mut object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenComponent",
            "metadata": {"name": name, "namespace": "ml", "uid": name},
            "spec": {
                "serverRef": {"name": "prod"}, "type": "alerter", "flavor": "slack",
                "attributes": attributes,
            },
        });
        if let Some(owner) = owner {
            object["spec"]["ownerRef"] = json!({"name": owner});
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn secret(object: &str, name: &str, owner: Option<&str>) -> Arc<ZenSecret> {
        let mut object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret",
            "metadata": {"name": object, "namespace": "ml", "uid": object},
            "spec": {"serverRef": {"name": "prod"}, "name": name},
        });
        if let Some(owner) = owner {
            object["spec"]["scope"] = json!("User");
            object["spec"]["ownerRef"] = json!({"name": owner});
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn names(of: &[Referrer]) -> Vec<&str> {
        of.iter().map(|one| &*one.name).collect()
    }

    #[test]
    fn a_secret_is_used_by_whom_it_answers() {
        let (all, claims) = (Referrers::default(), SecretNames::default());
        let own = secret("own", "login", Some("ana"));
        let shared = secret("shared", "login", None);
        for secret in [&own, &shared] {
            claims.note(&Seen::Changed(Arc::clone(secret)));
        }
        for one in [
            component("anas", &["login"], Some("ana")),
            component("bens", &["login", "x"], Some("ben")),
            component("anyones", &["login"], None),
            component("others", &["x"], None),
        ] {
            all.note(&Seen::Changed(one));
        }
        assert_eq!(names(&all.users(&own, &claims)), ["anas"]);
        assert_eq!(names(&all.users(&shared, &claims)), ["anyones", "bens"]);
        claims.note(&Seen::Gone(own));
        assert_eq!(
            names(&all.users(&shared, &claims)),
            ["anas", "anyones", "bens"]
        );
    }

    #[test]
    fn what_is_being_deleted_refers_to_nothing() {
        let all = Referrers::default();
        let one = component("c", &["login"], None);
        let login = [SecretName::new("ml", "prod", "login")];
        assert_eq!(all.note(&Seen::Changed(Arc::clone(&one))), login);
        assert!(all.note(&Seen::Changed(Arc::clone(&one))).is_empty());
        let mut ending = ZenComponent::clone(&one);
        ending.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        );
        assert_eq!(all.note(&Seen::Changed(Arc::new(ending))), login);
        assert!(all.of(&login[0]).is_empty());
        assert!(all.note(&Seen::Gone(one)).is_empty());
        assert!(all.0.read().by_name.is_empty());
    }

    proptest! {
        /// Of any changes in any order: those refer who are there, and nothing is left of the others.
        #[test]
        fn the_index_is_what_a_look_at_all_would_find(
            changes in prop::collection::vec(
                (0..5_u8, prop::collection::btree_set("[xyz]", 0..3), any::<bool>()), 1..40
            )
        ) {
            let (all, mut there) = (Referrers::default(), BTreeMap::new());
            for (n, refs, goes) in changes {
                let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
                let one = component(&format!("c{n}"), &refs, None);
                if goes {
                    there.remove(&n);
                    all.note(&Seen::Gone(one));
                } else {
                    there.insert(n, Arc::clone(&one));
                    all.note(&Seen::Changed(one));
                }
            }
            for name in ["x", "y", "z"] {
                let found = all.of(&SecretName::new("ml", "prod", name));
                let wanted: Vec<_> = there.values().filter(|one| one.names().contains(name)).collect();
                let wanted: Vec<_> = wanted.iter().map(|one| one.name_any()).collect();
                prop_assert_eq!(names(&found), wanted);
            }
        }
    }
}

//! Who has a name. Seniority decides: creation time, then UID, so every observer agrees.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt, runtime::reflector::Store};

use crate::api::{LocalRef, ZenServiceAccount, ZenUser};

/// What has a name in ZenML, which it shares with nobody of its kind and server.
pub trait Namesake: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// Its name in ZenML.
    fn wanted_name(&self) -> &str;

    /// Its server.
    fn server_ref(&self) -> &LocalRef;
}

impl Namesake for ZenServiceAccount {
    fn wanted_name(&self) -> &str {
        self.zenml_name()
    }

    fn server_ref(&self) -> &LocalRef {
        &self.spec.server_ref
    }
}

impl Namesake for ZenUser {
    fn wanted_name(&self) -> &str {
        self.zenml_name()
    }

    fn server_ref(&self) -> &LocalRef {
        &self.spec.server_ref
    }
}

/// Who has a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// It has.
    Own,
    /// The older one of this object name has.
    HeldBy(String),
}

/// Who of `all` has the name of `one`.
pub(super) fn name_holder<K: Namesake>(one: &K, all: &Store<K>) -> Name {
    let older = |other: &K| claim_same(one, other) && seniority(other) < seniority(one);
    all.state_filter(older)
        .into_iter()
        .min_by_key(|other| seniority(&**other))
        .map_or(Name::Own, |other| Name::HeldBy(other.name_any()))
}

/// Whether no older one of `all` has the name of `one`.
pub fn holds_name<K: Namesake>(one: &K, all: &Store<K>) -> bool {
    name_holder(one, all) == Name::Own
}

/// Whether two want the same name of the same server.
pub fn claim_same<K: Namesake>(a: &K, b: &K) -> bool {
    a.namespace() == b.namespace()
        && a.server_ref() == b.server_ref()
        && a.wanted_name() == b.wanted_name()
}

fn seniority(one: &impl ResourceExt) -> (Option<Time>, Option<String>) {
    (one.creation_timestamp(), one.uid())
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn account(uid: &str, name: &str, second: i64) -> ZenServiceAccount {
        let created = jiff::Timestamp::from_second(second).unwrap().to_string();
        serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServiceAccount",
            "metadata": {"name": uid, "namespace": "ml", "uid": uid, "creationTimestamp": created},
            "spec": {"serverRef": {"name": "prod"}, "name": name},
        }))
        .unwrap()
    }

    proptest! {
        #[test]
        fn every_name_has_one_holder_the_oldest(
            accounts in prop::collection::btree_map("[a-z]{4}", ("[xy]", 0..3_i64), 1..12)
        ) {
            let (store, mut writer) = reflector::store();
            let all: Vec<_> = accounts.iter().map(|(u, (n, s))| account(u, n, *s)).collect();
            for account in &all {
                writer.apply_watcher_event(&Event::Apply(account.clone()));
            }
            for name in ["x", "y"] {
                let claimants: Vec<_> = all.iter().filter(|a| a.zenml_name() == name).collect();
                let holders: Vec<_> = claimants.iter().filter(|a| holds_name(**a, &store)).collect();
                prop_assert_eq!(holders.len(), usize::from(!claimants.is_empty()));
                let oldest = claimants.iter().min_by_key(|a| seniority(**a));
                prop_assert_eq!(holders.first().map(|a| a.uid()), oldest.map(|a| a.uid()));
            }
        }
    }
}

//! Who has a name. Seniority decides: creation time, then UID, so every observer agrees.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::reflector::Store};

use crate::api::ZenServiceAccount;

/// Who has an account's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// It has.
    Own,
    /// The older account of this object name has.
    HeldBy(String),
}

/// Who has the name of `account` among `all`.
pub(super) fn name_holder(account: &ZenServiceAccount, all: &Store<ZenServiceAccount>) -> Name {
    let older = |other: &ZenServiceAccount| {
        claims_same(account, other) && seniority(other) < seniority(account)
    };
    all.state_filter(older)
        .into_iter()
        .min_by_key(|other| seniority(other))
        .map_or(Name::Own, |other| Name::HeldBy(other.name_any()))
}

/// Whether no older account among `all` has the name of `account`.
pub fn holds_name(account: &ZenServiceAccount, all: &Store<ZenServiceAccount>) -> bool {
    name_holder(account, all) == Name::Own
}

fn claims_same(a: &ZenServiceAccount, b: &ZenServiceAccount) -> bool {
    a.namespace() == b.namespace()
        && a.spec.server_ref == b.spec.server_ref
        && a.zenml_name() == b.zenml_name()
}

fn seniority(account: &ZenServiceAccount) -> (Option<Time>, Option<String>) {
    (account.creation_timestamp(), account.uid())
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
                let holders: Vec<_> = claimants.iter().filter(|a| holds_name(a, &store)).collect();
                prop_assert_eq!(holders.len(), usize::from(!claimants.is_empty()));
                let oldest = claimants.iter().min_by_key(|a| seniority(a));
                prop_assert_eq!(holders.first().map(|a| a.uid()), oldest.map(|a| a.uid()));
            }
        }
    }
}

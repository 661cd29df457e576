//! Values of secrets that others refer to, read where they were delivered.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::print_of;
use crate::{
    api::ZenSecret,
    auth::api_key::Pepper,
    reconcile::{Reader, error::CallError, plan::Live, source::value},
};

/// The Secrets of some ZenSecrets, by the UIDs of those.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Delivered(BTreeMap<String, Option<Live>>);

/// Reads the Secrets of ZenSecrets, each once.
///
/// # Errors
/// If the API server does not say.
pub(in crate::reconcile) async fn delivered(
    read: &Reader,
    of: impl IntoIterator<Item = Arc<ZenSecret>>,
) -> Result<Delivered, CallError> {
    let resource = ApiResource::erase::<Secret>(&());
    let mut all = BTreeMap::new();
    for secret in of {
        let uid = secret.uid().unwrap_or_default();
        let name = secret.status.as_ref().and_then(|s| s.secret_name.clone());
        let (Some(name), false) = (name, all.contains_key(&uid)) else {
            continue;
        };
        let namespace = secret.namespace().unwrap_or_default();
        let live = read.live(&resource, &namespace, &name).await?;
        let is_its = |live: &Live| live.is_controlled_by(&uid);
        all.insert(uid.clone(), live.filter(is_its));
    }
    Ok(Delivered(all))
}

impl Delivered {
    /// A value, if it is the one that the operator put there: what somebody else wrote into a Secret
    /// goes no further.
    ///
    /// # Errors
    /// What is waited for.
    pub(in crate::reconcile) fn value(
        &self,
        of: &ZenSecret,
        key: &str,
        pepper: &Pepper,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let uid = of.uid().unwrap_or_default();
        let live = self.0.get(&uid).and_then(Option::as_ref);
        let held = live.and_then(|live| value(live, key));
        let genuine = held.filter(|held| {
            let Ok(id) = uid.parse::<Uuid>() else {
                return false;
            };
            let is = pepper.value_fingerprint(id, key, held);
            print_of(of, key).is_some_and(|entry| entry.fingerprint == is)
        });
        genuine.ok_or_else(|| {
            let status = of.status.as_ref();
            let secret = status.and_then(|status| status.secret_name.as_deref());
            format!(
                "waits for entry {key} of Secret {} to be what ZenSecret {} says",
                secret.unwrap_or_default(),
                of.name_any()
            )
        })
    }
}

/// Whether a secret is to have a key, be its value there or not.
pub(in crate::reconcile) fn is_declared(secret: &ZenSecret, key: &str) -> bool {
    secret.spec.data.iter().any(|entry| entry.key == key)
}

//! Whether a key's Secret, its id and its place among the account's keys are its own.

use std::cell::{Cell, RefCell};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    Observed,
    decide::stalled,
    parties::Parties,
    secret::keys_in,
    source::{Given, Hash, given},
};
use crate::{
    api::{SourceType, ZenAPIKey, ZenAPIKeyStatus, reason},
    reconcile::{
        Reader,
        error::Invalid,
        foreign::{Claim, may_adopt},
    },
};

/// What older keys of the namespace have.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// How many keys of the account are older.
    pub(super) older: usize,
    /// The older key that has the id which was made elsewhere.
    pub(super) holder: Option<String>,
}

/// Looks for what older keys have: at every key of the view, and so only for a key that is not
/// issued yet, or comes with another id.
pub(super) fn siblings(key: &ZenAPIKey, seen: &Observed, read: &Reader) -> Siblings {
    let unmade = ZenAPIKeyStatus::default();
    let status = key.status.as_ref().unwrap_or(&unmade);
    let is_issued = status.generation.is_some();
    let id = foreign_id(key, seen, status).map(|id| id.to_string());
    let id = id.filter(|id| !is_issued || status.key_id.as_ref() != Some(id));
    if is_issued && id.is_none() {
        return Siblings::default();
    }
    let (count, holder) = (Cell::new(0), RefCell::new(None));
    // Nothing is copied out of the view: the predicate counts, and lets nothing through.
    let _ = read.views().keys.state_filter(|other| {
        if other.metadata.namespace == key.metadata.namespace && seniority(other) < seniority(key) {
            let of_account = other.spec.service_account_ref == key.spec.service_account_ref
                && other.metadata.deletion_timestamp.is_none();
            count.set(count.get() + usize::from(of_account));
            if id.as_deref().is_some_and(|id| has_id(other, id)) {
                holder.replace(Some(other.name_any()));
            }
        }
        false
    });
    Siblings {
        older: count.get(),
        holder: holder.into_inner(),
    }
}

/// An id that others chose.
fn foreign_id(key: &ZenAPIKey, seen: &Observed, status: &ZenAPIKeyStatus) -> Option<Uuid> {
    if let Some(id) = seen.past.id() {
        return Some(id);
    }
    match given(key, seen.source.as_ref()) {
        Ok(Some(given)) => Some(given.id),
        Ok(None) => adoptable(key, seen, status).map(|given| given.id),
        Err(_) => None,
    }
}

/// Who came first; the same order for every observer.
fn seniority(key: &ZenAPIKey) -> (Option<&Time>, Option<&str>) {
    let meta = &key.metadata;
    (meta.creation_timestamp.as_ref(), meta.uid.as_deref())
}

fn has_id(key: &ZenAPIKey, id: &str) -> bool {
    let recorded = key.status.as_ref().and_then(|s| s.key_id.as_deref());
    recorded == Some(id) || key.metadata.uid.as_deref() == Some(id)
}

impl ZenAPIKey {
    /// Whether its name for a Secret, its id and its place among the account's keys are free.
    pub(super) fn check_place(
        &self,
        seen: &Observed,
        parties: &Parties,
        old: &ZenAPIKeyStatus,
        id: Uuid,
        adopts: bool,
    ) -> Result<(), Invalid> {
        if let Some(holder) = &seen.siblings.holder {
            let message = format!(
                "the id {id} in its text belongs to the older ZenAPIKey {holder}; \
                 make another with kubectl zen key new --offline"
            );
            return Err(stalled(reason::KEY_ID_CONFLICT, message));
        }
        let most = usize::try_from(parties.policy().max_per_account).unwrap_or(usize::MAX);
        if old.generation.is_none() && seen.siblings.older >= most {
            let message = format!(
                "ZenServiceAccount {} has {most} older keys, and ZenServer {} allows no more \
                 (spec.policy.keys.maxPerAccount): delete one",
                self.spec.service_account_ref.name,
                parties.server.name_any(),
            );
            return Err(stalled(reason::POLICY_VIOLATION, message));
        }
        if !self.is_delivered() || adopts || seen.past.is_claimed() {
            return Ok(());
        }
        let claim = Claim {
            kind: "ZenAPIKey",
            name: &self.name_any(),
            uid: &self.uid().unwrap_or_default(),
            remedy: "set spec.delivery.secretName to another name, \
                     or take it over with spec.adoption",
        };
        claim.check("Secret", &self.secret_name(), seen.secret.as_ref())
    }
}

/// The key in a Secret that nobody owns and that we were asked to take over.
pub(super) fn adoptable(key: &ZenAPIKey, seen: &Observed, old: &ZenAPIKeyStatus) -> Option<Given> {
    if old.generation.is_some() || key.spec.source.source_type != SourceType::Generated {
        return None;
    }
    let secret = seen.secret.as_ref().filter(|s| s.controller.is_none())?;
    let allowed = may_adopt(key, key.spec.adoption, secret);
    let found = keys_in(secret).into_iter().next().filter(|_| allowed)?;
    Some(Given {
        id: found.id,
        hash: Hash::Sha256(found.secret.digest()),
        secret: Some(found.secret),
    })
}

//! Whether a key's Secret, its id and its place among the account's keys are its own.

use kube::ResourceExt;
use uuid::Uuid;

use super::{Observed, decide::stalled, is_set, parties::Parties, secret::keys_in, source::Given};
use crate::{
    api::{Adoption, SourceType, ZenAPIKey, ZenAPIKeyStatus, annotation, reason},
    reconcile::{Reader, error::Invalid, foreign::Claim},
};

/// The other keys of the namespace.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// How many keys of the account are older.
    pub(super) older: usize,
    /// The ids in use, by older keys, and whose they are.
    pub(super) ids: Vec<(String, String)>,
}

/// The other keys of the namespace, as far as they are older.
pub(super) fn siblings(key: &ZenAPIKey, read: &Reader) -> Siblings {
    // Asked for only where it is needed: it looks at every key.
    let issued = key.status.as_ref().is_some_and(|s| s.generation.is_some());
    if issued && key.spec.source.source_type == SourceType::Generated {
        return Siblings::default();
    }
    let seniority = |key: &ZenAPIKey| (key.creation_timestamp(), key.uid());
    let own = seniority(key);
    let older = read
        .views()
        .keys
        .state_filter(|other| other.namespace() == key.namespace() && seniority(other) < own);
    let of_account = older.iter().filter(|other| {
        other.spec.service_account_ref == key.spec.service_account_ref
            && other.metadata.deletion_timestamp.is_none()
    });
    let ids = older.iter().flat_map(|other| {
        let recorded = other.status.as_ref().and_then(|s| s.key_id.clone());
        let ids = [recorded, other.uid()].into_iter().flatten();
        ids.map(|id| (id, other.name_any()))
    });
    Siblings {
        older: of_account.count(),
        ids: ids.collect(),
    }
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
        let id = id.to_string();
        if let Some((_, holder)) = seen.siblings.ids.iter().find(|(taken, _)| *taken == id) {
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
        if !self.is_delivered() || adopts {
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
    let allowed = match key.spec.adoption {
        Adoption::Never => false,
        Adoption::IfUnowned => {
            let wanted = format!("{}/{}", key.namespace()?, key.name_any());
            let annotations = secret.body.pointer("/metadata/annotations");
            annotations.and_then(|all| all.get(annotation::ADOPT)?.as_str()) == Some(&wanted)
        }
        Adoption::Force => is_set(key, annotation::FORCE),
    };
    let found = keys_in(secret).into_iter().next().filter(|_| allowed)?;
    Some(Given {
        id: found.id,
        digest: found.secret.digest(),
        secret: Some(found.secret),
    })
}

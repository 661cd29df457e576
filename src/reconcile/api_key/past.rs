//! A key that continues a deleted one: its id, its generations and its Secret.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Observed, Valid,
    decide::stalled,
    is_of,
    parties::{Parties, end},
};
use crate::{
    api::{DeletionPolicy, Record, SourceType, ZenAPIKey, ZenAPIKeyStatus, annotation, reason},
    auth::{api_key::Pepper, directory::KIND_KEY},
    reconcile::{
        Reader,
        error::{CallError, Invalid},
        plan::{Doomed, Live, Note},
        record::{
            farewell::Wish,
            is_over,
            revival::{Lookup, lookup},
        },
    },
};

/// What a key continues.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Looked for until the key has an id.
    lookup: Lookup,
    /// The record that it continues, if that is still there.
    spent: Option<Doomed>,
    /// Whether its Secret is still a record's.
    claimed: bool,
}

pub(super) async fn observe(
    key: &ZenAPIKey,
    seen: &Observed,
    read: &Reader,
) -> Result<Past, CallError> {
    let namespace = key.namespace().unwrap_or_default();
    let status = key.status.as_ref();
    if status.is_some_and(|s| s.key_id.is_some()) {
        let from = status.and_then(|s| s.restored_from.as_ref());
        return Ok(Past {
            spent: from.and_then(|uid| read.record(&namespace, uid)),
            ..Past::default()
        });
    }
    let Some(keyring) = &seen.keyring else {
        return Ok(Past::default());
    };
    let lookup = lookup(key, key.spec.deletion_policy, read, keyring).await?;
    let spent = match &lookup {
        Lookup::Continues(revival) => Some(revival.spent.clone()),
        _ => None,
    };
    Ok(Past {
        lookup,
        spent,
        claimed: false,
    })
}

/// What is wished for a key when it is deleted. One without an end is not retained: nobody would
/// be left to end it.
pub(super) fn wish(key: &ZenAPIKey, read: &Reader) -> Wish {
    let namespace = key.namespace().unwrap_or_default();
    let account = read.account(&namespace, &key.spec.service_account_ref.name);
    let server = account
        .as_ref()
        .and_then(|account| read.server(&namespace, &account.spec.server_ref.name));
    let ends = match (&account, &server) {
        (Some(account), Some(server)) => {
            let policy = &server.spec.policy.keys;
            end(key, account, policy, Timestamp::UNIX_EPOCH).is_some()
        }
        _ => key.status.as_ref().is_some_and(|s| s.expires_at.is_some()),
    };
    Wish {
        policy: match ends {
            true => key.spec.deletion_policy,
            false => DeletionPolicy::Delete,
        },
        server,
        secret: key.is_delivered().then(|| key.secret_name()),
        is_made: key.status.as_ref().is_some_and(|s| s.generation.is_some()),
    }
}

/// Whether what cannot be changed is as it was.
pub(super) fn continues(key: &ZenAPIKey, spec: &Value) -> bool {
    let Ok(now) = serde_json::to_value(&key.spec) else {
        return false;
    };
    let fixed = [
        "/serviceAccountRef",
        "/source/type",
        "/source/verifier/keyId",
    ];
    fixed
        .iter()
        .all(|path| spec.pointer(path) == now.pointer(path))
}

/// Whether a key may have an id that is recorded for it.
pub(super) fn has_id(
    key: &ZenAPIKey,
    past: &Past,
    own: Uuid,
    recorded: Uuid,
    pepper: &Pepper,
) -> bool {
    if recorded == own || past.is_new() || key.spec.source.source_type != SourceType::Generated {
        return true;
    }
    let proof = key
        .status
        .as_ref()
        .and_then(|s| s.id_proof.as_ref()?.parse().ok());
    proof.is_some_and(|shown| {
        pepper
            .identity(KIND_KEY, own, recorded)
            .matches(&shown)
            .into()
    })
}

impl Past {
    /// Whether nothing of it was taken over yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.lookup, Lookup::Continues(_))
    }

    /// Whether there is a Secret of which this key's status should know.
    pub(super) fn knows(&self, secret: Option<&Live>) -> bool {
        secret.is_some() && (self.is_new() || !self.claimed)
    }

    /// Whether the delivered Secret is still a record's.
    pub(super) fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Makes the delivered Secret one that nobody controls, if a record does: the key may take it.
    /// One that does not continue the deleted key puts another in it.
    pub(super) fn claim(&mut self, secret: &mut Option<Live>) {
        let Some(live) = secret else { return };
        let controller = live.controller.as_ref();
        let records = Record::secret_name("");
        let is = controller.is_some_and(|c| c.kind == "Secret" && c.name.starts_with(&records));
        if is {
            live.controller = None;
            self.claimed = true;
        }
    }

    /// The id that it continues.
    pub(super) fn id(&self) -> Option<Uuid> {
        match &self.lookup {
            Lookup::Continues(revival) => {
                let id = revival.record.status.get("keyId")?;
                id.as_str()?.parse().ok()
            }
            _ => None,
        }
    }

    /// The record, once nothing depends on it: the Secret would go with it.
    pub(super) fn spent(&self, delivers: bool) -> Vec<Doomed> {
        let spent = self.spent.iter().filter(|_| delivers || !self.claimed);
        spent.cloned().collect()
    }

    /// UID of the deleted key, for status.
    pub(super) fn restored_from(&self, old: &ZenAPIKeyStatus) -> Option<String> {
        match &self.lookup {
            Lookup::Continues(revival) => Some(revival.record.uid.clone()),
            _ => old.restored_from.clone(),
        }
    }

    /// What is told of it.
    pub(super) fn note(&self) -> Option<Note> {
        self.is_new().then(|| Note {
            warning: false,
            reason: "Restored",
            action: "Restore",
            message: "continues the deleted key of this name: its text is accepted again".into(),
        })
    }
}

impl ZenAPIKey {
    /// What is recorded: in its status, or of the key that it continues.
    ///
    /// # Errors
    /// If it is to continue one that it cannot.
    pub(super) fn recorded(
        &self,
        past: &Past,
        account: Uuid,
        now: Timestamp,
    ) -> Result<Option<ZenAPIKeyStatus>, Invalid> {
        let named = self.annotations().contains_key(annotation::RESTORE);
        let missing = || {
            let message = "the record that the annotation zenop.dev/restore names is gone, over, or \
                           of another key or account; remove the annotation for a new key";
            stalled(reason::RECORD_NOT_FOUND, message.into())
        };
        match &past.lookup {
            Lookup::New => Ok(self.status.clone()),
            Lookup::Missing => Err(missing()),
            Lookup::Continues(revival) => {
                let status = serde_json::from_value(revival.record.status.clone()).ok();
                let status = status.filter(|status| is_of(status, account));
                let status = status.filter(|_| !is_over(&revival.record, now));
                match status {
                    None if named => Err(missing()),
                    // The account is another now, and so are its keys.
                    status => Ok(status.or_else(|| self.status.clone())),
                }
            }
        }
    }

    /// What is retained must end by itself.
    ///
    /// # Errors
    /// If it would not.
    pub(super) fn check_end(&self, parties: &Parties, now: Timestamp) -> Result<(), Invalid> {
        let retains = self.spec.deletion_policy == DeletionPolicy::Retain;
        match parties.end(self, now) {
            None if retains => {
                let message = "spec.deletionPolicy Retain needs a key that ends: set spec.expiresAt \
                               or spec.ttl, or spec.policy.keys.maxTTL of the server";
                Err(stalled(reason::INVALID_SPEC, message.into()))
            }
            _ => Ok(()),
        }
    }
}

impl Valid {
    /// What shows that the id is the key's, where that is not its UID.
    pub(super) fn id_proof(&self) -> Option<String> {
        let is_own = self.key == self.own_id;
        let generated = self.object.spec.source.source_type == SourceType::Generated;
        let pepper = self.parties.keyring.pepper();
        (generated && !is_own).then(|| pepper.identity(KIND_KEY, self.own_id, self.key).to_hex())
    }
}

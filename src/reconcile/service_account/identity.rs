//! Which id an account has: that of its object, or that of the deleted account that it continues.

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use super::{Observed, inactive};
use crate::{
    api::{DeletionPolicy, ZenServiceAccount, annotation, reason},
    auth::{api_key::Pepper, directory::KIND_ACCOUNT},
    reconcile::{
        error::Invalid,
        plan::Verdict,
        record::{is_over, revival::Lookup},
    },
};

/// An account's id, and by what right it has it.
#[derive(Debug)]
pub(super) struct Identity {
    pub id: String,
    pub proof: Option<String>,
    pub restored_from: Option<String>,
}

/// Whether it was ever given an id.
pub(super) fn is_set_up(account: &ZenServiceAccount) -> bool {
    account
        .status
        .as_ref()
        .is_some_and(|s| s.account_id.is_some())
}

/// Whether it may continue another before it was given an id.
fn may_continue(account: &ZenServiceAccount) -> bool {
    account.annotations().contains_key(annotation::RESTORE)
        || account.spec.deletion_policy == DeletionPolicy::Retain
}

/// Whether its id may be another than its UID.
pub(super) fn has_past(account: &ZenServiceAccount) -> bool {
    match is_set_up(account) {
        true => account
            .status
            .as_ref()
            .is_some_and(|s| s.id_proof.is_some()),
        false => may_continue(account),
    }
}

/// The id that verifiers of an account's keys are bound to. `None` until it is known, which its
/// own look finds out.
pub fn identity(account: &ZenServiceAccount, pepper: &Pepper) -> Option<Uuid> {
    let own: Uuid = account.uid()?.parse().ok()?;
    if !is_set_up(account) {
        return (!may_continue(account)).then_some(own);
    }
    Some(given(account, own, pepper).unwrap_or(own))
}

/// The id that it was given, if status shows that we gave it.
fn given(account: &ZenServiceAccount, own: Uuid, pepper: &Pepper) -> Option<Uuid> {
    let status = account.status.as_ref()?;
    let id = status.account_id.as_ref()?.parse().ok()?;
    let shown = status.id_proof.as_ref()?.parse().ok()?;
    let is_ours: bool = pepper
        .identity(KIND_ACCOUNT, own, id)
        .matches(&shown)
        .into();
    is_ours.then_some(id)
}

impl ZenServiceAccount {
    /// Its id.
    ///
    /// # Errors
    /// What is waited for, or that what it is to continue is not there.
    pub(super) fn identify(&self, seen: &Observed, now: Timestamp) -> Result<Identity, Invalid> {
        let uid = self.uid().unwrap_or_default();
        let waits = || {
            let server = &self.spec.server_ref.name;
            let message = format!("waits for the auth Secret of ZenServer {server}");
            let reason = reason::SERVER_NOT_READY;
            refused(reason, Verdict::Waiting { reason, message })
        };
        let own: Uuid = uid.parse().map_err(|_| waits())?;
        let as_own = || Identity {
            id: uid.clone(),
            proof: None,
            restored_from: None,
        };
        let pepper = match &seen.keyring {
            Some(keyring) => keyring.pepper(),
            None if has_past(self) => return Err(waits()),
            None => return Ok(as_own()),
        };
        let (id, restored_from) = match &seen.past {
            Lookup::Continues(revival) if !is_over(&revival.record, now) => {
                let recorded = revival.record.status.get("accountId");
                let id = recorded.and_then(|id| id.as_str()?.parse().ok());
                (id, Some(revival.record.uid.clone()))
            }
            Lookup::New => {
                let status = self.status.as_ref();
                let restored_from = status.and_then(|s| s.restored_from.clone());
                (given(self, own, pepper), restored_from)
            }
            Lookup::Continues(_) | Lookup::Missing => {
                let verdict = Verdict::Stalled {
                    reason: reason::RECORD_NOT_FOUND,
                    message:
                        "the record that the annotation zenop.dev/restore names is gone, over, \
                              or of another account; remove the annotation for a new account"
                            .into(),
                };
                return Err(refused(reason::RECORD_NOT_FOUND, verdict));
            }
        };
        Ok(id.map_or_else(as_own, |id: Uuid| Identity {
            id: id.to_string(),
            proof: Some(pepper.identity(KIND_ACCOUNT, own, id).to_hex()),
            restored_from,
        }))
    }
}

fn refused(reason: &'static str, verdict: Verdict) -> Invalid {
    Invalid {
        facts: vec![inactive(
            reason,
            "it is not known yet which account it continues",
        )],
        verdict,
        unwatched: true,
    }
}

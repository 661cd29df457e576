//! The audit lines of credentials that a request showed and that were refused. Each is counted; of
//! a flood, so many are written in each second as a disk can bear, and the next line says how many
//! were not.

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::info;
use uuid::Uuid;

use super::{
    App,
    changes::shown,
    extract::{ClientAddress, RequestId},
    layers::{CredentialKind, RefusedFor},
};
use crate::auth::{principal::Refused, token::Claims};

/// How many lines are written for one reason in one second.
const LINES: u64 = 5;

/// What is known of a credential so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trace {
    /// What it is.
    pub(super) kind: CredentialKind,
    /// The id in a key, whoever has it.
    pub(super) key: Option<Uuid>,
    /// Whose password it is, if it is somebody's.
    pub(super) user: Option<Uuid>,
    /// What a token says that this server signed.
    pub(super) claims: Option<Claims>,
}

/// How many were refused lately, by reason.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    seconds: Mutex<[Second; RefusedFor::ALL.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    at: i64,
    written: u64,
    unwritten: u64,
}

impl Refusals {
    /// Whether a line is to be written, and how many were not since the last one.
    fn count(&self, reason: RefusedFor, now: Timestamp) -> Option<u64> {
        let place = RefusedFor::ALL.iter().position(|one| *one == reason)?;
        let mut seconds = self.seconds.lock();
        let second = seconds.get_mut(place)?;
        if second.at != now.as_second() {
            second.at = now.as_second();
            second.written = 0;
        }
        if second.written == LINES {
            second.unwritten = second.unwritten.saturating_add(1);
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.unwritten))
    }
}

impl App {
    /// Counts a credential that is refused, and writes of it: ids and closed words, never the
    /// credential.
    pub(super) fn refused(
        &self,
        request: Option<&RequestId>,
        trace: &Trace,
        why: &Refused,
        address: ClientAddress,
    ) {
        let (credential, reason) = (trace.kind, reason(why));
        self.metrics().refused(credential, reason);
        let Some(unwritten) = self.refusals().count(reason, self.now()) else {
            return;
        };
        let principal = trace.claims.map(|claims| claims.principal);
        let key = trace.key.or(principal.and_then(|who| who.by.key()));
        let device = principal.and_then(|who| who.by.device());
        let account = shown(principal.map(|who| who.account).or(trace.user));
        let (key, device) = (shown(key), shown(device));
        let request = request.map(ToString::to_string).unwrap_or_default();
        let address = self.shown_address(address);
        info!(
            target: "zenop::audit",
            request, ?credential, ?reason, account, key, device, address, unwritten,
            "credential refused"
        );
    }
}

fn reason(why: &Refused) -> RefusedFor {
    match why {
        Refused::InactiveKey { .. } => RefusedFor::InactiveKey,
        Refused::InactiveAccount { .. } | Refused::InactiveUser { .. } => {
            RefusedFor::InactiveAccount
        }
        Refused::InactiveDevice { .. } => RefusedFor::InactiveDevice,
        Refused::NoCsrf | Refused::BadCsrf => RefusedFor::Csrf,
        Refused::Revoked => RefusedFor::Revoked,
        Refused::BadKey | Refused::BadPassword | Refused::BadActivation | Refused::BadToken => {
            RefusedFor::Bad
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let refusals = Refusals::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let written = |second| refusals.count(RefusedFor::Bad, at(second));
        let lines = (0..1000).filter_map(|_| written(7)).collect::<Vec<_>>();
        assert_eq!(lines, [0; 5]);
        assert_eq!(refusals.count(RefusedFor::Revoked, at(7)), Some(0));
        assert_eq!(written(8), Some(995));
        assert_eq!(written(8), Some(0));
    }
}

//! ZenDevice: nothing is made for one; its status says how it is, and a day after its end it goes.
//!
//! It promises: one that is locked stays, however old: the lock also holds against being approved
//! again. What is removed is the version that was seen: one that was approved again just now stays.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, core::ApiResource};

use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    plan::{Doomed, Fact, Note, Plan, Verdict},
};
use crate::{
    api::{
        ApiDuration, Authorization, DevicePhase, ZenDevice, ZenDeviceStatus, ZenServer, condition,
        reason, whole_seconds,
    },
    auth::device::{self, Terms},
};

/// How long one that is over is shown.
const SHOWN: SignedDuration = SignedDuration::from_hours(24);
/// How long a denial is kept when the code that it is of is over: clocks may differ. No longer, as
/// anybody who may log in can make one.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// What a decision about a device needs.
#[derive(Debug)]
pub struct Observed {
    server: Option<Arc<ZenServer>>,
}

/// A device that was approved.
#[derive(Debug)]
pub struct Valid {
    phase: DevicePhase,
    end: Timestamp,
    /// When time alone will change something.
    changes: Option<Timestamp>,
    doomed: Option<Doomed>,
}

impl Reconciled for ZenDevice {
    type State = ZenDeviceStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = ();

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        Ok(Observed {
            server: read.server(&namespace, &self.spec.server_ref.name),
        })
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        let Some(server) = seen.server else {
            let server = &self.spec.server_ref.name;
            let message = format!("waits for ZenServer {server} of this namespace to be created");
            return Err(waits(reason::SERVER_NOT_FOUND, message));
        };
        let Some(approved) = &self.spec.authorization else {
            let message = "waits to be approved by its user; see zenml login".into();
            return Err(waits(reason::NOT_APPROVED, message));
        };
        let end = end(self, approved, &terms(&server));
        let phase = phase(self, approved, end, now);
        let shown = match phase {
            DevicePhase::Denied => KEPT,
            _ => SHOWN,
        };
        let removal = end.saturating_add(shown).unwrap_or(Timestamp::MAX);
        let is_over = matches!(phase, DevicePhase::Expired | DevicePhase::Denied);
        let goes = is_over && removal <= now;
        let changes = match phase {
            DevicePhase::Locked => None,
            DevicePhase::Expired | DevicePhase::Denied => Some(removal),
            DevicePhase::Approved | DevicePhase::Active => Some(end),
        };
        Ok(Valid {
            phase,
            end,
            changes,
            doomed: goes.then(|| itself(self)),
        })
    }

    fn plan(valid: Valid, _: &mut impl Fresh) -> Plan<ZenDeviceStatus> {
        let message = match valid.phase {
            DevicePhase::Denied => "removed a denial: the code that it is of is over",
            _ => "removed a device that was over for a day",
        };
        let gone = Note {
            warning: false,
            reason: reason::EXPIRED,
            action: "Delete",
            message: message.into(),
        };
        Plan {
            record: None,
            children: Vec::new(),
            notes: valid.doomed.iter().map(|_| gone.clone()).collect(),
            entries: Vec::new(),
            prune: valid.doomed.into_iter().collect(),
            restarts: Vec::new(),
            verdict: Verdict::Ready {
                message: "the device is known to its server".into(),
            },
            facts: vec![activity(valid.phase)],
            deadline: valid.changes,
            status: ZenDeviceStatus {
                state: Some(valid.phase),
                expires_at: Some(whole_seconds(valid.end)),
                ..ZenDeviceStatus::default()
            },
        }
    }
}

fn waits(reason: &'static str, message: String) -> Invalid {
    Invalid {
        facts: vec![inactive(reason, &message)],
        verdict: Verdict::Waiting { reason, message },
        unwatched: false,
    }
}

fn terms(server: &ZenServer) -> Terms {
    let auth = &server.spec.auth.device;
    let signed = |of: ApiDuration| SignedDuration::try_from(of.0).unwrap_or(SignedDuration::MAX);
    Terms {
        trusted: signed(auth.trusted_ttl),
        untrusted: signed(auth.untrusted_ttl),
        code: signed(auth.code_ttl),
        trust_allowed: server.spec.policy.devices.trust_allowed,
        ..Terms::default()
    }
}

/// When a device is over. The sidecar decides the same by itself.
fn end(device: &ZenDevice, approved: &Authorization, terms: &Terms) -> Timestamp {
    let redeemed = approved.redemption.as_ref().map(|r| r.time.0);
    let until = device.spec.expires_at.as_ref().map(|at| at.0);
    if approved.denied {
        // Not by the policy: the code says for itself how long it lives.
        return until.unwrap_or(approved.approved_time.0);
    }
    device::end(
        approved.approved_time.0,
        redeemed,
        terms,
        device.spec.trusted,
        until,
    )
}

fn phase(
    device: &ZenDevice,
    approved: &Authorization,
    end: Timestamp,
    now: Timestamp,
) -> DevicePhase {
    if approved.denied {
        DevicePhase::Denied
    } else if device.spec.locked {
        DevicePhase::Locked
    } else if end <= now {
        DevicePhase::Expired
    } else if approved.redemption.is_none() {
        DevicePhase::Approved
    } else {
        DevicePhase::Active
    }
}

fn activity(phase: DevicePhase) -> Fact {
    match phase {
        DevicePhase::Active => Fact {
            condition: condition::ACTIVE,
            holds: true,
            reason: reason::ACTIVE,
            message: "its token is accepted".into(),
        },
        DevicePhase::Approved => inactive(
            reason::NOT_REDEEMED,
            "approved; its client did not fetch the token yet",
        ),
        DevicePhase::Locked => inactive(
            reason::LOCKED,
            "spec.locked is true; set it to false to accept its token again",
        ),
        DevicePhase::Denied => inactive(
            reason::DENIED,
            "it was denied; this request gets no token, whoever approves it",
        ),
        DevicePhase::Expired => inactive(
            reason::EXPIRED,
            "its time is over; log in anew from it, with zenml login",
        ),
    }
}

fn inactive(reason: &'static str, message: &str) -> Fact {
    Fact {
        condition: condition::ACTIVE,
        holds: false,
        reason,
        message: message.into(),
    }
}

fn itself(device: &ZenDevice) -> Doomed {
    Doomed {
        resource: ApiResource::erase::<ZenDevice>(&()),
        name: device.name_any(),
        uid: device.uid().unwrap_or_default(),
        version: device.resource_version(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Beginning of 2026, and so many hours later.
    fn at(hours: i64) -> Timestamp {
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        begun + SignedDuration::from_hours(hours)
    }

    fn device(change: &Value, redeemed: bool) -> ZenDevice {
        let mut authorization = json!({
            "deviceId": "d", "accountId": "a", "proof": "00", "approvedTime": at(0).to_string(),
        });
        if redeemed {
            authorization["redemption"] = json!({"time": at(0).to_string(), "id": "r"});
        }
        let mut spec = json!({
            "serverRef": {"name": "prod"}, "clientId": "c", "userRef": {"name": "ana"},
            "authorization": authorization,
        });
        let changes = change.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice",
            "metadata": {"name": "dev-1", "namespace": "ml", "uid": "u", "resourceVersion": "7"},
            "spec": spec,
        }))
        .unwrap()
    }

    fn judged(device: &ZenDevice, hours: i64) -> Result<Valid, Invalid> {
        let server: ZenServer = serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer",
            "metadata": {"name": "prod", "namespace": "ml"}, "spec": {},
        }))
        .unwrap();
        let server = Some(Arc::new(server));
        device.validate(Observed { server }, &(), at(hours))
    }

    #[test]
    fn is_what_spec_and_time_say_and_goes_a_day_after_its_end() {
        use DevicePhase::{Active, Approved, Expired, Locked};
        let (plain, trusted) = (json!({}), json!({"trusted": true}));
        let locked = json!({"locked": true});
        let cut = json!({"expiresAt": at(2).to_string()});
        let cases = [
            (&plain, false, 0, Approved, false),
            (&plain, false, 1, Expired, false),
            (&plain, false, 25, Expired, true),
            (&plain, true, 23, Active, false),
            (&plain, true, 24, Expired, false),
            (&plain, true, 47, Expired, false),
            (&plain, true, 48, Expired, true),
            (&trusted, true, 719, Active, false),
            (&trusted, true, 744, Expired, true),
            (&locked, true, 1, Locked, false),
            (&locked, true, 9999, Locked, false),
            (&cut, true, 2, Expired, false),
        ];
        for (change, redeemed, hours, phase, goes) in cases {
            let valid = judged(&device(change, redeemed), hours).unwrap();
            let seen = (valid.phase, valid.doomed.is_some());
            assert_eq!(seen, (phase, goes), "{change} {redeemed} {hours}");
        }
        let mut denied = device(&json!({"expiresAt": at(1).to_string()}), false);
        denied.spec.authorization.as_mut().unwrap().denied = true;
        for (hours, goes) in [(0, false), (1, false), (2, true)] {
            let valid = judged(&denied, hours).unwrap();
            let seen = (valid.phase, valid.doomed.is_some());
            assert_eq!(seen, (DevicePhase::Denied, goes), "{hours}");
        }
        let doomed = judged(&device(&plain, true), 48).unwrap().doomed.unwrap();
        assert_eq!(doomed.version.as_deref(), Some("7"));
    }

    #[test]
    fn waits_until_it_is_approved() {
        let never = json!({"authorization": null, "locked": true});
        let refused = judged(&device(&never, false), 9999).unwrap_err();
        let Verdict::Waiting { reason, .. } = refused.verdict else {
            panic!("{refused:?}")
        };
        assert_eq!(reason, reason::NOT_APPROVED);
    }
}

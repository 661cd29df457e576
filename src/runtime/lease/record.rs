//! The Lease as it is on the wire.

use jiff::{Timestamp, ToSpan};
use kube::{
    api::{ApiResource, ObjectMeta},
    core::{NotUsed, Object},
};
use serde::{Deserialize, Serialize};

/// A Lease object.
pub(super) type Lease = Object<Record, NotUsed>;

/// The `spec` of a Lease.
///
/// A type of our own, because its times are texts: people can write times into a Lease that the API server accepts and
/// [`Timestamp`] cannot hold, and such a Lease must not stop the election. All we ask of a time is whether it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
}

impl Record {
    /// Who holds it, or nobody.
    pub fn holder(&self) -> Option<&str> {
        self.holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }
}

/// What the API server needs to know to find Leases.
pub(super) fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&())
}

/// The object to write in the place of the one that was read, or where there is none.
pub(super) fn object(read: Option<&Lease>, name: &str, record: Record) -> Lease {
    let mut object = Lease::new(name, &resource(), record);
    if let Some(read) = read {
        object.metadata = ObjectMeta {
            managed_fields: None,
            ..read.metadata.clone()
        };
    }
    object
}

/// The time of day as a Lease has it, different from the one that stands there.
///
/// A write that changes nothing changes no version either: to others, a leader whose clock stands still would look dead.
pub(super) fn stamp(now: Timestamp, before: Option<&str>) -> String {
    let text = |time: Timestamp| format!("{time:.6}");
    let stamp = text(now);
    if before != Some(&stamp) {
        return stamp;
    }
    text(now.checked_add(1.microsecond()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_microseconds_and_differs() {
        let now: Timestamp = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
        let first = stamp(now, None);
        assert_eq!(first, "2026-01-02T03:04:05.123456Z");
        assert_eq!(stamp(now, Some(&first)), "2026-01-02T03:04:05.123457Z");
        let whole: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(stamp(whole, None), "2026-01-02T03:04:05.000000Z");
    }

    #[test]
    fn what_others_wrote_is_read() {
        let spec = serde_json::json!({
            "holderIdentity": "x", "leaseDurationSeconds": 15, "leaseTransitions": 7, "strategy": "OldestEmulationVersion",
            "acquireTime": "9999-12-31T23:59:59.999999Z", "renewTime": "0000-01-01T00:00:00.000000Z",
        });
        let record: Record = serde_json::from_value(spec).unwrap();
        assert_eq!(record.holder(), Some("x"));
        assert_eq!(
            record.acquire_time.as_deref(),
            Some("9999-12-31T23:59:59.999999Z")
        );
        assert_eq!(
            serde_json::from_str::<Record>("{}").unwrap(),
            Record::default()
        );
    }
}

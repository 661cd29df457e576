//! What every kind shares: names, references, conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The API group of every kind.
pub const GROUP: &str = "zenop.dev";
/// The one version served so far.
pub const VERSION: &str = "v1alpha1";
/// The field manager of every write of the operator.
pub const FIELD_MANAGER: &str = "zenop";
/// The finalizer on what is to be recorded before it goes.
pub const RECORD_FINALIZER: &str = "zenop.dev/record";
/// The finalizer on a ZenSecret that others refer to, or whose Secrets are to stay.
pub const HOLD_FINALIZER: &str = "zenop.dev/hold";

/// Label and annotation keys that we set.
pub mod label {
    /// Who made the object; the operator's watches select on it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`MANAGED_BY`].
    pub const MANAGED_BY_ZENOP: &str = "zenop";
    /// The value of [`MANAGED_BY`] on what the sidecar makes for ZenML's API.
    pub const MANAGED_BY_API: &str = "zenop-api";
    /// What the object is a part of.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// The object that this one was made for.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// The role of the object.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// The product.
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// On a Secret: the ZenServer that may show it to its OIDC provider.
    pub const CLIENT_SECRET_OF: &str = "zenop.dev/client-secret-of";
    /// On a Secret or PersistentVolumeClaim: the ZenServer whose pods may mount it.
    pub const VOLUME_OF: &str = "zenop.dev/volume-of";
    /// UID of the custom resource that the object was made for.
    pub const OWNER_UID: &str = "zenop.dev/owner-uid";
    /// Hash of what we last asked for, so that a field we no longer set is noticed.
    pub const APPLIED: &str = "zenop.dev/applied";
    /// Generation of the API key that a delivered Secret holds.
    pub const KEY_GENERATION: &str = "zenop.dev/key-generation";
    /// On a Secret: the kind of the deleted object that it is the record of.
    pub const RECORD: &str = "zenop.dev/record";
    /// On a record: hash of kind and name of the deleted object.
    pub const RECORD_OF: &str = "zenop.dev/record-of";
    /// `"true"`: the object was deleted with `deletionPolicy: Retain` and made again.
    pub const RETAINED: &str = "zenop.dev/retained";
}

/// Annotations that people set.
pub mod annotation {
    /// `"true"`: nothing is made, rotated or published. Revocation and expiry go on.
    pub const PAUSED: &str = "zenop.dev/paused";
    /// `"true"`: what is due happens now, outside windows; lets a takeover go on; a deletion is
    /// final, and waits for nobody.
    pub const FORCE: &str = "zenop.dev/force";
    /// `"true"`: an admission policy refuses to delete the object.
    pub const DELETION_PROTECTION: &str = "zenop.dev/deletion-protection";
    /// On a Secret: `namespace/name` of the object that may take it over.
    pub const ADOPT: &str = "zenop.dev/adopt";
    /// On a Secret made of a ZenSecret: what stands for the value of each entry.
    pub const FINGERPRINTS: &str = "zenop.dev/fingerprints";
    /// On a server's pods: differs where what is secret in the ZenML server's environment differs.
    pub const ENVIRONMENT: &str = "zenop.dev/environment";
    /// On a server's Deployment: the template of its pods, and what that was made of.
    pub const REVISION: &str = "zenop.dev/revision";
    /// On the Job of a migration: the image and the database that it brings together, as a hash.
    pub const MIGRATION_FITS: &str = "zenop.dev/migration-fits";
    /// On it: what makes another try worth while, as a hash.
    pub const MIGRATION_ATTEMPT: &str = "zenop.dev/migration-attempt";
    /// On the Secret with what was generated: when each entry was, and by which trigger.
    pub const GENERATED: &str = "zenop.dev/generated";
    /// On a new object: UID of the deleted one that it is to continue.
    pub const RESTORE: &str = "zenop.dev/restore";
    /// On what a deleted server left: its UID.
    pub const KEPT_OF: &str = "zenop.dev/kept-of";
    /// On a pod template: when we last restarted the workload.
    pub const RESTARTED_AT: &str = "zenop.dev/restarted-at";
    /// On a pod template, followed by a key's UID: the generation that it was restarted for.
    pub const RESTARTED_FOR: &str = "zenop.dev/key.";
}

/// Condition types.
pub mod condition {
    /// The object does what its spec says, for this generation.
    pub const READY: &str = "Ready";
    /// Work is under way, or waits for something that can resolve itself. Present only then.
    pub const RECONCILING: &str = "Reconciling";
    /// A person must act. Present only then.
    pub const STALLED: &str = "Stalled";
    /// The identity or key may be used.
    pub const ACTIVE: &str = "Active";
    /// The delivered Secret holds the current key.
    pub const SECRET_PUBLISHED: &str = "SecretPublished";
    /// An object of the wanted name belongs to somebody else.
    pub const CONFLICT: &str = "Conflict";
    /// An older account or user of this server has the same name.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The current key dies within the next days. Present only then.
    pub const EXPIRING_SOON: &str = "ExpiringSoon";
    /// A rotation is due and does not happen. Present only then.
    pub const ROTATION_OVERDUE: &str = "RotationOverdue";
    /// The annotation `zenop.dev/paused` is set. Present only then.
    pub const PAUSED: &str = "Paused";
    /// Somebody changed or deleted the Secret, and `driftPolicy` is `Report`. Present only then.
    pub const DRIFTED: &str = "Drifted";
    /// The references of a component lead to what they must.
    pub const REFERENCES_RESOLVED: &str = "ReferencesResolved";
    /// It was deleted and waits for those who refer to it. Present only then.
    pub const IN_USE: &str = "InUse";
    /// The server answers requests.
    pub const AVAILABLE: &str = "Available";
    /// The ZenML server's database fits its image.
    pub const MIGRATION_SUCCEEDED: &str = "MigrationSucceeded";
    /// The pods are not as this release of zenop or the spec would have them, as `update.policy` wants it.
    /// Present only then.
    pub const UPDATE_AVAILABLE: &str = "UpdateAvailable";
    /// What leads to the server from outside its cluster was taken up there. Present where there
    /// is something.
    pub const EXPOSED: &str = "Exposed";
    /// The server does something that `allowInsecure` had to be set for. Present only then.
    pub const INSECURE: &str = "Insecure";
    /// Nobody said that the API server encrypts Secrets where it stores them, and nobody who is only its
    /// client can see it. Present only then.
    pub const ENCRYPTION_AT_REST_UNKNOWN: &str = "EncryptionAtRestUnknown";
}

/// Condition reasons. Stable: people alert on them.
pub mod reason {
    /// All is as the spec says.
    pub const READY: &str = "Ready";
    /// A new generation of the object is being worked on.
    pub const PROGRESSING: &str = "Progressing";
    /// `serverRef` names no ZenServer of this namespace.
    pub const SERVER_NOT_FOUND: &str = "ServerNotFound";
    /// The ZenServer has no auth Secret yet.
    pub const SERVER_NOT_READY: &str = "ServerNotReady";
    /// `serviceAccountRef` names no ZenServiceAccount of this namespace.
    pub const ACCOUNT_NOT_FOUND: &str = "ServiceAccountNotFound";
    /// The name is held by an older account or user.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// An object of the wanted name belongs to somebody else.
    pub const CONFLICT: &str = "Conflict";
    /// Somebody changed or deleted the Secret, and `driftPolicy` is `Report`.
    pub const DRIFTED: &str = "Drifted";
    /// A sealed entry cannot be opened.
    pub const NOT_OPENED: &str = "NotOpened";
    /// The keys that open sealed entries were there and are gone.
    pub const SEALING_KEY_LOST: &str = "SealingKeyLost";
    /// The Secret is immutable, and what it is to hold is not what it was made of.
    pub const IMMUTABLE: &str = "Immutable";
    /// The server's auth Secret was there and is gone.
    pub const AUTH_SECRET_LOST: &str = "AuthSecretLost";
    /// A deleted server left its pepper, and nobody said whether it is to be taken up.
    pub const KEPT: &str = "KeptFromDeleted";
    /// The server's auth Secret cannot be read as one.
    pub const AUTH_SECRET_INVALID: &str = "AuthSecretInvalid";
    /// The delivered Secret is gone or altered and `onSecretLoss` is `Fail`; or a generated value is
    /// nowhere to be found any more.
    pub const SECRET_LOST: &str = "SecretLost";
    /// Status says that no key was ever made, yet the delivered Secret exists.
    pub const STATUS_LOST: &str = "StatusLost";
    /// `spec.active` is false.
    pub const DEACTIVATED: &str = "Deactivated";
    /// `spec.active` of the account is false.
    pub const ACCOUNT_DEACTIVATED: &str = "ServiceAccountDeactivated";
    /// Nobody approved the device yet.
    pub const NOT_APPROVED: &str = "NotApproved";
    /// The device was approved, and its client did not fetch the token yet.
    pub const NOT_REDEEMED: &str = "NotRedeemed";
    /// Somebody denied it.
    pub const DENIED: &str = "Denied";
    /// `spec.locked` is true.
    pub const LOCKED: &str = "Locked";
    /// `expiresAt` is over.
    pub const EXPIRED: &str = "Expired";
    /// Usable now.
    pub const ACTIVE: &str = "Active";
    /// The delivered Secret is in place.
    pub const PUBLISHED: &str = "Published";
    /// `validFrom` is in the future.
    pub const NOT_YET_VALID: &str = "NotYetValid";
    /// The account's `expiresAt` is over, or its `validFrom` in the future.
    pub const ACCOUNT_NOT_VALID: &str = "ServiceAccountNotValid";
    /// The server's policy does not allow it.
    pub const POLICY_VIOLATION: &str = "PolicyViolation";
    /// The source of the key or value does not exist.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// The source holds no usable key or value.
    pub const SOURCE_INVALID: &str = "SourceInvalid";
    /// Another key has the same id.
    pub const KEY_ID_CONFLICT: &str = "KeyIdConflict";
    /// Schedule, time zone or template cannot be read.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The annotation `zenop.dev/paused` is set.
    pub const PAUSED: &str = "Paused";
    /// The current key dies soon.
    pub const EXPIRING_SOON: &str = "ExpiringSoon";
    /// A rotation is due outside its windows.
    pub const OUTSIDE_WINDOW: &str = "OutsideWindow";
    /// A rotation is due and did not happen.
    pub const ROTATION_OVERDUE: &str = "RotationOverdue";
    /// The record that `zenop.dev/restore` names is gone, over, or of another object.
    pub const RECORD_NOT_FOUND: &str = "RecordNotFound";
    /// The Secret that the password is to come from does not exist.
    pub const PASSWORD_NOT_FOUND: &str = "PasswordNotFound";
    /// What is to be the password may not be one.
    pub const PASSWORD_INVALID: &str = "PasswordInvalid";
    /// The user has to choose a password first.
    pub const AWAITING_ACTIVATION: &str = "AwaitingActivation";
    /// The time to choose a password is over.
    pub const ACTIVATION_EXPIRED: &str = "ActivationExpired";
    /// Nobody said so.
    pub const NOT_STATED: &str = "NotStated";
    /// The server asks nobody who they are.
    pub const NO_AUTHENTICATION: &str = "NoAuthentication";
    /// The server asks its provider by a connection that others can change.
    pub const PLAIN_PROVIDER: &str = "PlainProvider";
    /// The Secret of `auth.external.clientSecretFrom` is not there, or not released to the server.
    pub const CLIENT_SECRET_NOT_RELEASED: &str = "ClientSecretNotReleased";
    /// Something that the pods are to mount is not there, or its owner did not release it to the server.
    pub const VOLUME_NOT_RELEASED: &str = "VolumeNotReleased";
    /// The server logs nobody in in this way.
    pub const METHOD_NOT_ACCEPTED: &str = "MethodNotAccepted";
    /// An older user of this server is the same person of the provider.
    pub const SUBJECT_CONFLICT: &str = "SubjectConflict";
    /// Each reference leads to a value.
    pub const RESOLVED: &str = "Resolved";
    /// A reference leads to no value, and need not.
    pub const UNCHECKED: &str = "Unchecked";
    /// A reference names a secret that is not there.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// A reference names a key that its secret does not have.
    pub const KEY_MISSING: &str = "KeyMissing";
    /// A text looks like a reference and is none.
    pub const MALFORMED_REFERENCE: &str = "MalformedReference";
    /// Others refer to it.
    pub const IN_USE: &str = "InUse";
    /// The ZenML server's database is brought to its image's schema.
    pub const MIGRATING: &str = "Migrating";
    /// That failed; the database is as it was.
    pub const MIGRATION_FAILED: &str = "MigrationFailed";
    /// The ZenML server's database has its image's schema.
    pub const MIGRATED: &str = "Migrated";
    /// `update.policy` leaves the pods as they are.
    pub const HELD_BACK: &str = "HeldBack";
    /// The cluster does not have a kind that the spec asks for.
    pub const KIND_MISSING: &str = "KindMissing";
    /// The Ingress has no address: nobody took it up.
    pub const NO_ADDRESS: &str = "NoAddress";
    /// The Gateway did not take the route, or did not answer.
    pub const ROUTE_NOT_ACCEPTED: &str = "RouteNotAccepted";
    /// The certificate was not issued, or is not in its Secret.
    pub const CERTIFICATE_NOT_READY: &str = "CertificateNotReady";
    /// The server's pods are not ready.
    pub const PODS_NOT_READY: &str = "PodsNotReady";
    /// The API server refused or did not answer; it will be tried again.
    pub const API_ERROR: &str = "KubernetesError";
}

/// What an object may be called. A name becomes part of a path: one with `/` in it, or of dots
/// alone, would be a path to somewhere else.
pub(crate) const OBJECT_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Whether a text can be the name of an object, as `OBJECT_NAME` says.
pub fn is_object_name(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(inside)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A reference to an object of another kind in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object. Example: `prod`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// Whether an object that nobody owns may become ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Never: `Conflict` names it.
    #[default]
    Never,
    /// If it has no controller and its annotation `zenop.dev/adopt` says `namespace/name` of this
    /// object.
    IfUnowned,
    /// If it has no controller and this object has the annotation `zenop.dev/force: "true"`.
    Force,
}

/// What becomes of a credential or an identity when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is refused at once, and gone once the server's `policy.undoWindow` is over.
    #[default]
    Delete,
    /// It stays: the operator makes the object again, labelled `zenop.dev/retained`. A key must
    /// have an end for that, and is not rotated until somebody takes the label off.
    Retain,
}

/// What every status has.
pub trait KindStatus: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    /// The conditions, in any order.
    fn conditions(&self) -> &[Condition];

    /// The generation of the spec that this speaks of; -1 before the first.
    fn observed_generation(&self) -> i64;

    /// Says which generation of the spec this speaks of, and how it is.
    fn report(&mut self, generation: i64, conditions: Vec<Condition>);

    /// The part that the operator writes, in one order, to be compared.
    #[must_use]
    fn own_part(&self) -> Self;
}

/// A status with `observed_generation` and `conditions`; the closure clears what somebody else
/// writes and sorts what has no order.
macro_rules! kind_status {
    ($status:ty, $normalise:expr) => {
        impl $crate::api::common::KindStatus for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn observed_generation(&self) -> i64 {
                self.observed_generation
            }

            fn report(&mut self, generation: i64, conditions: Vec<Condition>) {
                self.observed_generation = generation;
                self.conditions = conditions;
            }

            fn own_part(&self) -> Self {
                let normalise: fn(&mut Self) = $normalise;
                let mut own = self.clone();
                own.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
                normalise(&mut own);
                own
            }
        }
    };
}
pub(super) use kind_status;

/// A list of conditions that server-side apply merges by type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// A time as the API keeps it: in whole seconds, rounded down. A finer one would differ from itself
/// when it is read back.
pub fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// What a status reports before the operator saw the object: nothing of this generation.
pub(super) fn unobserved() -> i64 {
    -1
}

/// `true`, for serde.
pub(super) fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_object_is_no_path() {
        for good in ["a", "prod", "a-b.c-1", "0", &"x".repeat(253)] {
            assert!(is_object_name(good), "{good}");
        }
        let long = "x".repeat(254);
        let bad = [
            "", ".", "..", "a..b", "a.", "-a", "a-", "a/b", "../b", "%2e", "a?b", "a#b", "A",
            "a_b", "a b", "a\n", &long,
        ];
        for bad in bad {
            assert!(!is_object_name(bad), "{bad}");
        }
    }
}

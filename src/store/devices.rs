//! Changes to devices, in domain words.
//!
//! An approval or a denial is the one thing that is written of a device authorization, and its
//! redemption the one change that must happen once: all are decided by whoever keeps the state, not
//! by the view.

use jiff::Timestamp;
use uuid::Uuid;

use super::registrar::{Changing, Object};
use crate::auth::{
    api_key::Verifier,
    device::{Approval, Terms},
    device_code::Origin,
};

/// Makes, redeems, changes and deletes devices of one server.
pub trait DeviceRegistrar: Send + Sync + 'static {
    /// Writes an approval down. The device of this client and holder gets it, or is made. The same
    /// approval twice is one.
    ///
    /// Refused with `Exists` if somebody else approved this device, or its holder a later one of
    /// this client, with `Locked` if the device of
    /// this client and holder is locked, with `TooMany` if the holder has as many as it may have.
    fn approve(&self, device: NewDevice) -> Changing<'_, Object>;

    /// Writes a denial down: nobody approves this device any more. The same one twice is one.
    ///
    /// Refused with `Exists` if somebody approved it, with `TooMany` if this holder denied as many
    /// in a short time as it may.
    fn deny(&self, denial: NewDenial) -> Changing<'_, ()>;

    /// Writes down that the device's client fetches its token, by the attempt of this id. Of any
    /// number of attempts one is done.
    ///
    /// Refused with `Exists` if another was, or if more than one approved this device; with
    /// `Locked` or `Gone` if it is.
    fn redeem(&self, device: Object, attempt: Redeeming) -> Changing<'_, ()>;

    /// Locks a device, whoever made it, or unlocks it, unless somebody else wrote its spec.
    fn set_locked(&self, device: Object, locked: bool) -> Changing<'_, ()>;

    /// Deletes a device. One that is locked and of which somebody else wrote the spec stays.
    fn delete(&self, device: Object) -> Changing<'_, ()>;
}

/// A device that was approved.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// What was approved.
    pub approval: Approval,
    /// Proves it.
    pub proof: Verifier,
    /// Who approved it: the object.
    pub holder: Object,
    /// Whether that is a user, or a service account.
    pub is_user: bool,
    /// Whether it is to live longer.
    pub trusted: bool,
    /// What its client said of itself.
    pub origin: Origin,
    /// What the server allows.
    pub terms: Terms,
}

/// A device that was denied.
#[derive(Clone, Debug)]
pub struct NewDenial {
    /// What was denied; its time is when.
    pub decision: Approval,
    /// Stands where an approval has its proof.
    pub proof: Verifier,
    /// Who denied it: the object.
    pub holder: Object,
    /// Whether that is a user, or a service account.
    pub is_user: bool,
    /// When its code is over, in whole seconds, rounded up. Until then it must be known.
    pub expires: Timestamp,
    /// How many denials of this holder may be known at a time.
    pub at_most: usize,
}

/// An attempt to fetch a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redeeming {
    /// The device's id on the wire.
    pub device: Uuid,
    /// The attempt's own id.
    pub id: Uuid,
    /// Now, in whole seconds.
    pub at: Timestamp,
}

//! The kinds of group `zenop.dev`, version `v1alpha1`: types, schema, rules. No client, no crypto, no async.

mod api_key;
mod common;
mod crds;
mod duration;
mod reference;
mod server;
mod service_account;

pub use api_key::{
    Delivery, DeliveryStatus, KeyGeneration, KeyState, OnSecretLoss, ZenAPIKey, ZenAPIKeySpec,
    ZenAPIKeyStatus,
};
pub use common::{FIELD_MANAGER, GROUP, KindStatus, LocalRef, VERSION, condition, label, reason};
pub use crds::{all_crds, crd_file_name, crd_yaml};
pub use duration::ApiDuration;
pub use reference::reference;
pub use server::{
    Auth, AuthSecretStatus, SecureHeaders, ZenServer, ZenServerSpec, ZenServerStatus,
};
pub use service_account::{
    KeyCount, ZenServiceAccount, ZenServiceAccountSpec, ZenServiceAccountStatus,
};

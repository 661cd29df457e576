//! The values of secrets, and changes to secrets, in domain words.
//!
//! Values are read for one answer and forgotten. New ones are sealed for the operator, which alone
//! can read them, and delivers them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use futures::future::BoxFuture;
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::registrar::{Changing, Object};
use crate::auth::{sealed::Recipient, shelf::Owner};

/// Reads, makes, changes and deletes secrets of one server.
pub trait Vault: Send + Sync + 'static {
    /// The values of a secret.
    fn read(&self, from: Place) -> BoxFuture<'_, Result<Values, NotRead>>;

    /// Makes a secret. Its name is no other's in its scope.
    fn create_secret(&self, new: NewSecret) -> Changing<'_, Object>;

    /// Changes a secret.
    fn update_secret(&self, secret: Object, update: SecretUpdate) -> Changing<'_, Updated>;

    /// Takes back a change, unless somebody made another since.
    fn restore_secret(&self, updated: Updated) -> Changing<'_, ()>;

    /// Deletes a secret.
    fn delete_secret(&self, secret: Object) -> Changing<'_, ()>;
}

/// Values by key. Wiped when they are let go.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<String, Zeroizing<Vec<u8>>>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

/// Where values are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which secret: a Kubernetes Secret that does not belong to it is left alone.
    pub id: Uuid,
    /// Name of the Kubernetes Secret.
    pub secret: String,
    /// What is to be read of it.
    pub keys: Vec<String>,
}

/// Why values were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotRead {
    /// The Secret is not there.
    #[error("its Secret is not there")]
    Gone,
    /// The Secret belongs to somebody else.
    #[error("its Secret belongs to somebody else")]
    Foreign,
    /// We lack the right.
    #[error("the server lacks the right to read its Secret")]
    Forbidden,
    /// Nobody answered.
    #[error("the Kubernetes API did not answer in time")]
    Unreachable,
}

/// A secret to be made.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// Its name in ZenML.
    pub name: String,
    /// Whether its owner alone may see it.
    pub private: bool,
    /// Whose it is.
    pub owner: Owner,
    /// Its values.
    pub values: Values,
    /// Whom they are sealed for.
    pub recipient: Recipient,
}

/// What of a secret is to be changed; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct SecretUpdate {
    /// The name in ZenML.
    pub name: Option<String>,
    /// Whether its owner alone may see it.
    pub private: Option<bool>,
    /// Other values.
    pub values: Option<NewValues>,
}

/// Other values of a secret.
#[derive(Clone, Debug)]
pub struct NewValues {
    /// Those that are new.
    pub set: Values,
    /// Which of the others go.
    pub remove: Removed,
    /// Whom the new ones are sealed for.
    pub recipient: Recipient,
}

/// Which values go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// All that are not set.
    Others,
    /// Those of these keys.
    Keys(BTreeSet<String>),
}

/// A change that was written, so that it can be waited for and taken back.
#[derive(Clone, Debug)]
pub struct Updated {
    /// Which secret.
    pub secret: Object,
    /// Which version of its spec that is.
    pub generation: i64,
    /// The version that the change brought; empty where there is none.
    pub version: String,
    /// What is to be put back, in the words of the implementation.
    pub before: serde_json::Value,
}

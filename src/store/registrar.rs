//! Changes to accounts, keys and users, in domain words.
//!
//! What is declared, by a person or by a GitOps tool, is theirs to change: here only what was made
//! here is changed. A change is done when its future ends; a view shows it a moment later.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use thiserror::Error;
use uuid::Uuid;

use crate::auth::{api_key::KeyDigest, credential::Credential};

/// Makes, changes and deletes accounts, keys and users of one server.
pub trait Registrar: Send + Sync + 'static {
    /// Makes an account. Its name is nobody else's.
    fn create_account(&self, account: NewAccount) -> Changing<'_, Object>;

    /// Changes an account.
    fn update_account(&self, account: Object, update: Update) -> Changing<'_, ()>;

    /// Deletes an account and its keys. One that has declared keys stays.
    fn delete_account(&self, account: Object) -> Changing<'_, ()>;

    /// Makes a key of an account. Its name is no other's of that account.
    fn create_key(&self, account: Object, key: NewKey) -> Changing<'_, Object>;

    /// Changes a key.
    fn update_key(&self, key: Object, update: Update) -> Changing<'_, ()>;

    /// Replaces a key by another of the same id.
    fn rotate_key(&self, key: Object, replacement: Replacement) -> Changing<'_, Replaced>;

    /// Takes back a replacement, unless it is too late for it.
    fn restore_key(&self, replaced: Replaced) -> Changing<'_, ()>;

    /// Deletes a key.
    fn delete_key(&self, key: Object) -> Changing<'_, ()>;

    /// Makes a user. Its name is no other user's.
    fn create_user(&self, user: NewUser) -> Changing<'_, Object>;

    /// Changes a user. With nothing to change, only says whether it could be.
    fn update_user(&self, user: Object, update: UserUpdate) -> Changing<'_, ()>;

    /// Raises a user's epoch, so that all that was issued to it is over. Also of declared users:
    /// it is what one does when something is wrong.
    fn sign_out(&self, user: Object) -> Changing<'_, SignedOut>;

    /// Deletes a user.
    fn delete_user(&self, user: Object) -> Changing<'_, ()>;

    /// Stores what a user proves to be itself with, if what is stored is still `from`: of two at
    /// once, one finds that it [exists](NotChanged::Exists). Also for declared users.
    fn store_credential(
        &self,
        user: Uuid,
        from: Option<Arc<Credential>>,
        to: Credential,
    ) -> Changing<'_, ()>;
}

/// A change under way.
pub type Changing<'a, T> = BoxFuture<'a, Result<T, NotChanged>>;

/// One object, and no other that ever has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub uid: Uuid,
    /// Its name. An account's or a key's name in ZenML is another.
    pub name: String,
}

/// An account to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name in ZenML.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it may log in.
    pub active: bool,
}

/// A key to be made. Its text is not told.
#[derive(Clone)]
pub struct NewKey {
    /// The id in its text.
    pub id: Uuid,
    /// What stands for it.
    pub digest: KeyDigest,
    /// Its name in ZenML.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How many keys the account may have with it.
    pub at_most: usize,
}

/// What is to be changed; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The name in ZenML.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it may log in.
    pub active: Option<bool>,
}

/// A user to be made. It has no password yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Its name in ZenML.
    pub name: String,
    /// A name for people.
    pub full_name: String,
    /// Its mail address.
    pub email: Option<String>,
    /// Whether it agreed to share that.
    pub email_opted_in: Option<bool>,
    /// Whether it may manage users, accounts and keys.
    pub admin: bool,
}

/// What of a user is to be changed; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserUpdate {
    /// The name in ZenML.
    pub name: Option<String>,
    /// A name for people.
    pub full_name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// Whether it agreed to share that.
    pub email_opted_in: Option<bool>,
    /// Whether it may log in.
    pub active: Option<bool>,
    /// Whether it may manage users, accounts and keys.
    pub admin: Option<bool>,
}

/// A user that was signed out everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOut {
    /// Its epoch now. What was issued in an earlier one is over.
    pub epoch: i64,
    /// Where its epoch is declared, if it is, and may be put back.
    pub declared: Option<Declared>,
}

/// What replaces a key.
#[derive(Clone, Copy)]
pub struct Replacement {
    /// What stands for the new one.
    pub digest: KeyDigest,
    /// How long the old one is still accepted.
    pub retain: Duration,
}

/// What was before a replacement, so that it can be taken back.
#[derive(Clone)]
pub struct Replaced {
    /// Which key.
    pub key: Object,
    /// The version that the replacement brought; empty where there is none.
    pub version: String,
    /// What is to be put back, in the words of the implementation.
    pub before: serde_json::Value,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotChanged {
    /// Another has the name.
    #[error("the name is taken")]
    Exists,
    /// There is no such object any more.
    #[error("it does not exist")]
    Gone,
    /// The account has as many keys or devices as it may have.
    #[error("there are {0}, which is all that there may be")]
    TooMany(usize),
    /// It is locked.
    #[error("it is locked")]
    Locked,
    /// It was made by somebody else.
    #[error("{0}")]
    Declared(Declared),
    /// A rule of the cluster does not allow it, and says why.
    #[error("a rule of the cluster does not allow it: {0}")]
    Refused(String),
    /// We lack the right.
    #[error("the server lacks the right")]
    Forbidden,
    /// Nobody answered, or others changed it all the time. It may have been done.
    #[error("the Kubernetes API did not do it in time")]
    Unreachable,
}

/// Where something is declared that cannot be changed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// `service account`, `API key` or `user`.
    pub what: &'static str,
    /// Its name in ZenML.
    pub name: String,
    /// Kind, namespace and name of the object.
    pub object: String,
    /// Who keeps it as it is, if that is known.
    pub owner: Option<String>,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            name,
            object,
            owner,
        } = self;
        write!(
            f,
            "The {what} '{name}' is declared in Kubernetes as {object}"
        )?;
        if let Some(owner) = owner {
            write!(f, ", managed by {owner}")?;
        }
        f.write_str(": change it there.")
    }
}

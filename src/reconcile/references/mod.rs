//! References of objects to values of secrets: who refers to which, what is found, and the values.

mod index;
mod texts;
mod value;

use std::{collections::BTreeSet, sync::Arc};

use kube::{Resource, ResourceExt};

pub use self::index::Referrers;
pub(super) use self::texts::{Leads, Missing};
pub(super) use self::value::{Delivered, delivered, is_declared};
use super::{reader::Views, secret::SecretName};
use crate::{
    api::{EntryStatus, OwnerRef, SecretScope, ZenComponent, ZenSecret, ZenServer},
    auth::reference::Reference,
};

/// What may refer to secrets.
pub trait Refers: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
    /// The server whose secrets it refers to.
    fn server(&self) -> &str;

    /// Whose secrets come before those of the workspace.
    fn asks(&self) -> Option<&OwnerRef>;

    /// The ZenML names of the secrets that it refers to.
    fn names(&self) -> BTreeSet<String>;
}

impl Refers for ZenComponent {
    fn server(&self) -> &str {
        &self.spec.server_ref.name
    }

    fn asks(&self) -> Option<&OwnerRef> {
        self.spec.owner_ref.as_ref()
    }

    fn names(&self) -> BTreeSet<String> {
        let read = super::component::Attributes::of(&self.spec);
        let read = read.iter().flat_map(super::component::Attributes::names);
        read.map(str::to_owned).collect()
    }
}

impl Refers for ZenSecret {
    fn server(&self) -> &str {
        &self.spec.server_ref.name
    }

    /// What is shown to all of the workspace is made of nobody's own.
    fn asks(&self) -> Option<&OwnerRef> {
        self.owner()
    }

    /// But its own.
    fn names(&self) -> BTreeSet<String> {
        let own = self.zenml_name();
        let texts = self.spec.target.secret_template.data.values();
        let names = texts::references(texts.map(String::as_str)).map(|reference| reference.name);
        names
            .filter(|name| *name != own)
            .map(str::to_owned)
            .collect()
    }
}

impl Refers for ZenServer {
    fn server(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// It belongs to nobody.
    fn asks(&self) -> Option<&OwnerRef> {
        None
    }

    fn names(&self) -> BTreeSet<String> {
        let texts: Vec<_> = self.environment().map(|(_, text)| text).collect();
        let names = texts::references(texts.iter().map(|text| &**text));
        names.map(|reference| reference.name.to_owned()).collect()
    }
}

/// What a reference leads to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// There is no such secret, or not for the one who asks: nobody can tell which.
    Nothing,
    /// The secret has no such key, or no value of it yet.
    NoKey(Arc<ZenSecret>),
    /// A value.
    Value(Arc<ZenSecret>),
}

impl Found {
    /// The secret that has the value.
    pub(super) fn secret(&self) -> Option<Arc<ZenSecret>> {
        match self {
            Self::Value(secret) => Some(Arc::clone(secret)),
            Self::Nothing | Self::NoKey(_) => None,
        }
    }

    /// Where the secret was found.
    pub(super) fn scope(&self) -> Option<SecretScope> {
        match self {
            Self::Nothing => None,
            Self::NoKey(secret) | Self::Value(secret) => Some(secret.spec.scope),
        }
    }
}

/// What a reference of an object leads to, as the watched views show it.
pub(super) fn find(views: &Views, of: &impl Refers, reference: Reference<'_>) -> Found {
    let namespace = of.namespace().unwrap_or_default();
    let name = SecretName::new(&namespace, of.server(), reference.name);
    let found = views.secret_names.find(&name, of.asks());
    let Some(secret) = found.and_then(|found| views.declared.get(&found)) else {
        return Found::Nothing;
    };
    match print_of(&secret, reference.key) {
        Some(_) => Found::Value(secret),
        None => Found::NoKey(secret),
    }
}

/// What stands for a delivered value.
fn print_of<'a>(secret: &'a ZenSecret, key: &str) -> Option<&'a EntryStatus> {
    let keys = secret.status.iter().flat_map(|status| &status.keys);
    keys.into_iter().find(|entry| entry.name == key)
}

/// What a reference that leads nowhere says, with what to do. The same words for a secret that is
/// not there and for one that is somebody else's.
pub(super) fn remedy(found: &Found, reference: Reference<'_>) -> String {
    let Reference { name, key } = reference;
    match found {
        Found::Nothing => format!(
            "{reference}: there is no secret {name} to be used here; make a ZenSecret of that name \
             for this server, or correct the reference"
        ),
        Found::NoKey(secret) if is_declared(secret, key) => {
            let object = secret.name_any();
            format!(
                "{reference}: the value of {key} is not there yet; see kubectl describe zensecret \
                 {object}"
            )
        }
        Found::NoKey(secret) => {
            let object = secret.name_any();
            format!(
                "{reference}: the secret has no key {key}; add it to spec.data of ZenSecret \
                 {object}, or correct the reference"
            )
        }
        Found::Value(_) => format!("{reference}: found"),
    }
}

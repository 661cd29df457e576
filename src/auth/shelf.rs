//! The secrets of one server as they are known without their values, and who may see which.
//!
//! Of several that claim a name in one scope the oldest has it; the others do not exist until it is
//! free. Somebody else's private secret does not exist either.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use uuid::Uuid;

use super::directory::Directory;

/// A secret, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its id on the wire, and that of its object.
    pub id: Uuid,
    /// Its object's name.
    pub object: String,
    /// Its name in ZenML.
    pub name: String,
    /// Whether its owner alone may see it.
    pub private: bool,
    /// Whose it is, if anybody's.
    pub owner: Option<Owner>,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// The version of its spec.
    pub generation: i64,
    /// The version of its spec that the operator saw last.
    pub observed: i64,
    /// What is delivered of it; nothing yet, maybe.
    pub delivered: Option<Delivered>,
    /// Who refers to it.
    pub used_by: Uses,
}

/// Where the values of a secret are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Name of the Secret.
    pub secret: String,
    /// By name of the entry, what stands for its value.
    pub keys: Vec<(Box<str>, Box<str>)>,
}

/// Who refers to a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// How many objects.
    pub count: usize,
    /// The first of them, as kind and name.
    pub first: Vec<String>,
}

/// Whether an owner is a user or a service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerKind {
    /// A user.
    User,
    /// A service account.
    Account,
}

/// Whose a secret is, as its object says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// What it is.
    pub kind: OwnerKind,
    /// The name of its object.
    pub object: String,
    /// The id of its object; whoever has the name, if there is none.
    pub uid: Option<Uuid>,
}

impl Owner {
    /// Whether the two may be the same one: where either says no id, the name decides.
    fn may_be(&self, other: &Self) -> bool {
        let both = self.uid.zip(other.uid);
        self.kind == other.kind
            && self.object == other.object
            && both.is_none_or(|(one, other)| one == other)
    }
}

impl Secret {
    /// Who came first.
    fn seniority(&self) -> (Timestamp, Uuid) {
        (self.created, self.id)
    }

    /// To whom its name is to be nobody else's; to all, if it is not private.
    fn scope(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|_| self.private)
    }

    fn is_in_scope_of(&self, owner: Option<&Owner>) -> bool {
        match (self.scope(), owner) {
            (None, None) => true,
            (Some(one), Some(other)) => one.may_be(other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// Secrets by id and by name.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    by_id: HashMap<Uuid, Arc<Secret>>,
    by_name: HashMap<String, Vec<Uuid>>,
}

impl Shelf {
    fn put(&mut self, secret: Secret) {
        self.remove(secret.id);
        let claims = self.by_name.entry(secret.name.clone()).or_default();
        // A Vec would make room for four, and nearly every name is claimed once.
        claims.reserve_exact(1);
        claims.push(secret.id);
        self.by_id.insert(secret.id, Arc::new(secret));
    }

    fn remove(&mut self, id: Uuid) -> Option<Arc<Secret>> {
        let secret = self.by_id.remove(&id)?;
        if let Some(claims) = self.by_name.get_mut(&secret.name) {
            claims.retain(|other| *other != id);
            if claims.is_empty() {
                self.by_name.remove(&secret.name);
            }
        }
        Some(secret)
    }

    fn claimants<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Secret>> {
        let claims = self.by_name.get(name).into_iter().flatten();
        claims.filter_map(|id| self.by_id.get(id))
    }

    fn holds_name(&self, secret: &Secret) -> bool {
        let older = |other: &Arc<Secret>| {
            other.seniority() < secret.seniority() && other.is_in_scope_of(secret.scope())
        };
        !self.claimants(&secret.name).any(older)
    }
}

/// Reading.
impl Directory {
    /// All secrets that somebody may see, in no order. `viewer` is an id on the wire.
    pub fn secrets_seen_by(&self, viewer: Uuid) -> impl Iterator<Item = &Arc<Secret>> {
        let me = self.as_owner(viewer);
        let all = self.shelf.by_id.values();
        all.filter(move |secret| self.sees(viewer, me.as_ref(), secret))
    }

    /// A secret, if this viewer may see it.
    pub fn secret(&self, id: Uuid, viewer: Uuid) -> Option<&Arc<Secret>> {
        let me = self.as_owner(viewer);
        let secret = self.shelf.by_id.get(&id)?;
        self.sees(viewer, me.as_ref(), secret).then_some(secret)
    }

    /// The secret that has a name among those that are not private, or among the private ones of
    /// an owner.
    pub fn secret_named(&self, name: &str, private_of: Option<&Owner>) -> Option<&Arc<Secret>> {
        let all = self.shelf.claimants(name);
        all.filter(|secret| secret.is_in_scope_of(private_of))
            .min_by_key(|secret| secret.seniority())
    }

    /// What a secret says whose owner this is. `id` is one on the wire.
    pub fn as_owner(&self, id: Uuid) -> Option<Owner> {
        if let Some(account) = self.account(id) {
            return Some(Owner {
                kind: OwnerKind::Account,
                object: account.object.clone(),
                uid: Some(account.uid),
            });
        }
        let user = self.user(id)?;
        Some(Owner {
            kind: OwnerKind::User,
            object: user.object.clone(),
            uid: Some(user.id),
        })
    }

    /// The id on the wire of an owner, if it is there.
    pub fn owner_id(&self, owner: &Owner) -> Option<Uuid> {
        let is_it = |id: &Uuid| self.as_owner(*id).is_some_and(|me| is(*id, &me, owner));
        // Accounts go by another id than their object's if they continue one.
        if let Some(id) = owner.uid.filter(is_it) {
            return Some(id);
        }
        match owner.kind {
            OwnerKind::User => {
                let mut users = self.users().map(|user| (user.id, &user.object));
                users.find(|(_, object)| **object == owner.object)
            }
            OwnerKind::Account => {
                let mut accounts = self.accounts().map(|account| (account.id, &account.object));
                accounts.find(|(_, object)| **object == owner.object)
            }
        }
        .map(|(id, _)| id)
        .filter(is_it)
    }

    /// Whether somebody is the owner of a secret. `id` is one on the wire.
    pub fn owns(&self, id: Uuid, secret: &Secret) -> bool {
        let me = self.as_owner(id);
        me.zip(secret.owner.as_ref())
            .is_some_and(|(me, owner)| is(id, &me, owner))
    }

    /// Whether somebody is the owner of any secret. `id` is one on the wire.
    pub fn owns_secrets(&self, id: Uuid) -> bool {
        let Some(me) = self.as_owner(id) else {
            return false;
        };
        let mut owners = self.shelf.by_id.values().filter_map(|s| s.owner.as_ref());
        owners.any(|owner| is(id, &me, owner))
    }

    fn sees(&self, viewer: Uuid, me: Option<&Owner>, secret: &Secret) -> bool {
        let own = || {
            me.zip(secret.owner.as_ref())
                .is_some_and(|(me, owner)| is(viewer, me, owner))
        };
        (!secret.private || own()) && self.shelf.holds_name(secret)
    }
}

/// Whether an owner is the one of this id on the wire, which as an owner is `me`. Who continues a
/// deleted account has its id.
fn is(id: Uuid, me: &Owner, owner: &Owner) -> bool {
    let continued = owner.uid == Some(id);
    owner.kind == me.kind && owner.object == me.object && (continued || owner.may_be(me))
}

/// Writing: what a watch saw.
impl Directory {
    /// Adds or replaces a secret.
    pub fn put_secret(&mut self, secret: Secret) {
        self.shelf.put(secret);
    }

    /// Removes a secret.
    pub fn remove_secret(&mut self, id: Uuid) -> Option<Arc<Secret>> {
        self.shelf.remove(id)
    }

    /// Drops every secret that is not among `ids`.
    pub fn keep_secrets(&mut self, ids: &HashSet<Uuid>) {
        let known = self.shelf.by_id.keys();
        let gone: Vec<Uuid> = known.filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            self.shelf.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::directory::{Account, User};

    const ANA: Uuid = Uuid::from_u128(0xa);
    const BEN: Uuid = Uuid::from_u128(0xb);
    const BOT: Uuid = Uuid::from_u128(0xc);

    fn people() -> Directory {
        let mut directory = Directory::default();
        for (id, name) in [(ANA, "ana"), (BEN, "ben")] {
            directory.put_user(User::new(
                id,
                name.into(),
                name.into(),
                Timestamp::UNIX_EPOCH,
            ));
        }
        // A service account may have a user's name.
        let bot = Account::new(BOT, "ana".into(), "bot".into(), Timestamp::UNIX_EPOCH);
        directory.put_account(bot);
        directory
    }

    fn secret(n: u8, name: &str, owner: Option<Owner>) -> Secret {
        Secret {
            id: Uuid::from_u128(u128::from(n) + 100),
            object: format!("s{n}"),
            name: name.into(),
            private: owner.is_some(),
            owner,
            created: Timestamp::from_second(n.into()).unwrap(),
            updated: Timestamp::UNIX_EPOCH,
            generation: 1,
            observed: 1,
            delivered: None,
            used_by: Uses::default(),
        }
    }

    fn user(name: &str, uid: Option<Uuid>) -> Option<Owner> {
        Some(Owner {
            kind: OwnerKind::User,
            object: name.into(),
            uid,
        })
    }

    fn seen(directory: &Directory, viewer: Uuid) -> Vec<String> {
        let seen = directory.secrets_seen_by(viewer);
        let mut seen: Vec<_> = seen.map(|secret| secret.object.clone()).collect();
        seen.sort();
        seen
    }

    #[test]
    fn a_private_secret_is_its_owners_alone() {
        let mut directory = people();
        directory.put_secret(secret(1, "x", None));
        directory.put_secret(secret(2, "x", user("ana", Some(ANA))));
        directory.put_secret(secret(3, "x", user("ben", None)));
        // One who had the name before.
        directory.put_secret(secret(4, "y", user("ana", Some(BEN))));
        let ownerless = Secret {
            private: true,
            ..secret(5, "z", None)
        };
        directory.put_secret(ownerless);
        assert_eq!(seen(&directory, ANA), ["s1", "s2"]);
        assert_eq!(seen(&directory, BEN), ["s1", "s3"]);
        assert_eq!(
            seen(&directory, BOT),
            ["s1"],
            "another kind of the same name"
        );
        assert_eq!(seen(&directory, Uuid::nil()), ["s1"]);
        let id = Uuid::from_u128(102);
        assert!(directory.secret(id, ANA).is_some() && directory.secret(id, BEN).is_none());
        assert!(directory.owns_secrets(ANA) && !directory.owns_secrets(BOT));
        let owners = [
            user("ana", Some(ANA)),
            user("ben", None),
            user("ana", Some(BEN)),
        ];
        let ids = owners.map(|owner| directory.owner_id(&owner.unwrap()));
        assert_eq!(ids, [Some(ANA), Some(BEN), None]);
    }

    #[test]
    fn who_continues_an_account_has_its_secrets() {
        let mut directory = people();
        let mut again = Account::new(Uuid::max(), "bot".into(), "b".into(), Timestamp::UNIX_EPOCH);
        let before = Uuid::from_u128(0xd);
        again.id = before;
        directory.put_account(again);
        let owner = Owner {
            kind: OwnerKind::Account,
            object: "bot".into(),
            uid: Some(before),
        };
        directory.put_secret(secret(1, "x", Some(owner.clone())));
        assert_eq!(seen(&directory, before), ["s1"]);
        assert_eq!(directory.owner_id(&owner), Some(before));
    }

    proptest! {
        /// Of any changes in any order: each sees of a name one public and one private secret at
        /// most, the oldest, and nothing is left of what is gone.
        #[test]
        fn a_name_has_one_holder_in_its_scope(
            changes in prop::collection::vec(
                (0..6_u8, "[xy]", prop::option::of(0..2_usize), any::<bool>()), 1..40
            )
        ) {
            let (mut directory, mut there) = (people(), HashMap::new());
            for (n, name, owner, goes) in changes {
                let owner = owner.and_then(|of| user(["ana", "ben"][of], Some([ANA, BEN][of])));
                let one = secret(n, &name, owner);
                if goes {
                    there.remove(&n);
                    directory.remove_secret(one.id);
                } else {
                    there.insert(n, one.clone());
                    directory.put_secret(one);
                }
            }
            prop_assert_eq!(directory.shelf.by_id.len(), there.len());
            let names: usize = directory.shelf.by_name.values().map(Vec::len).sum();
            prop_assert_eq!(names, there.len());
            for viewer in [ANA, BEN] {
                let mut wanted: Vec<_> = there
                    .values()
                    .filter(|one| one.owner.as_ref().is_none_or(|o| o.uid == Some(viewer)))
                    .filter(|one| !there.values().any(|other| {
                        other.name == one.name && other.owner == one.owner && other.created < one.created
                    }))
                    .map(|one| one.object.clone())
                    .collect();
                wanted.sort();
                prop_assert_eq!(seen(&directory, viewer), wanted);
            }
        }
    }
}

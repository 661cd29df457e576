//! Identities by id and by name. Of several that claim a name, who came first has it; the others
//! do not exist until it is free.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

/// What a roster holds.
pub(super) trait Member {
    /// Its id on the wire.
    fn id(&self) -> Uuid;

    /// Its name in ZenML.
    fn name(&self) -> &str;

    /// When it was made.
    fn created(&self) -> Timestamp;

    /// Takes over from the one that it replaces when that was last seen.
    fn learn(&self, old: &Self);
}

/// The members of one kind.
#[derive(Debug)]
pub(super) struct Roster<T> {
    members: HashMap<Uuid, T>,
    names: HashMap<String, BTreeSet<(Timestamp, Uuid)>>,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            names: HashMap::new(),
        }
    }
}

impl<T: Member> Roster<T> {
    pub(super) fn get(&self, id: Uuid) -> Option<&T> {
        self.members
            .get(&id)
            .filter(|member| self.holds_name(member))
    }

    pub(super) fn named(&self, name: &str) -> Option<&T> {
        let (_, id) = self.names.get(name)?.first()?;
        self.members.get(id)
    }

    /// All, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.members
            .values()
            .filter(|member| self.holds_name(member))
    }

    pub(super) fn put(&mut self, member: T) {
        if let Some(old) = self.remove(member.id()) {
            member.learn(&old);
        }
        self.names
            .entry(member.name().to_owned())
            .or_default()
            .insert(seniority(&member));
        self.members.insert(member.id(), member);
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<T> {
        let member = self.members.remove(&id)?;
        if let Some(claims) = self.names.get_mut(member.name()) {
            claims.remove(&seniority(&member));
            if claims.is_empty() {
                self.names.remove(member.name());
            }
        }
        Some(member)
    }

    /// Drops every one that is not among `ids`.
    pub(super) fn keep(&mut self, ids: &HashSet<Uuid>) {
        let known = self.members.keys();
        let gone: Vec<Uuid> = known.filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            self.remove(id);
        }
    }

    fn holds_name(&self, member: &T) -> bool {
        let first = self.names.get(member.name()).and_then(BTreeSet::first);
        first == Some(&seniority(member))
    }
}

fn seniority(member: &impl Member) -> (Timestamp, Uuid) {
    (member.created(), member.id())
}

//! Identities by id and by name. Of several that claim a name, who came first has it; the others
//! do not exist until it is free.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use jiff::Timestamp;
use uuid::Uuid;

/// What a roster holds.
pub(super) trait Member {
    /// The id of its object.
    fn uid(&self) -> Uuid {
        self.id()
    }

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
    /// The id on the wire, by the id of the object.
    ids: HashMap<Uuid, Uuid>,
    names: HashMap<String, BTreeSet<(Timestamp, Uuid)>>,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            ids: HashMap::new(),
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

    /// All, those too whose name another has.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.members.values()
    }

    /// All, those too whose name another has, in no order.
    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.members.values_mut()
    }

    /// Adds or replaces; what was replaced.
    pub(super) fn put(&mut self, member: T) -> Option<T> {
        let old = self.remove(member.uid());
        old.iter().for_each(|old| member.learn(old));
        // One that it continues may still be told to be there.
        if let Some(past) = self.members.get(&member.id()).map(Member::uid) {
            self.remove(past);
        }
        self.ids.insert(member.uid(), member.id());
        self.names
            .entry(member.name().to_owned())
            .or_default()
            .insert(seniority(&member));
        self.members.insert(member.id(), member);
        old
    }

    /// Removes the one of an object.
    pub(super) fn remove(&mut self, uid: Uuid) -> Option<T> {
        let Entry::Occupied(held) = self.members.entry(self.ids.remove(&uid)?) else {
            return None;
        };
        // One that continues it has its id.
        if held.get().uid() != uid {
            return None;
        }
        let member = held.remove();
        if let Some(claims) = self.names.get_mut(member.name()) {
            claims.remove(&seniority(&member));
            if claims.is_empty() {
                self.names.remove(member.name());
            }
        }
        Some(member)
    }

    /// Drops every one whose object is not among `uids`.
    pub(super) fn keep(&mut self, uids: &HashSet<Uuid>) {
        let known = self.ids.keys();
        let gone: Vec<Uuid> = known.filter(|uid| !uids.contains(uid)).copied().collect();
        for uid in gone {
            self.remove(uid);
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

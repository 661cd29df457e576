//! What we wrote ourselves, so that neither its echo in a watch causes work, nor a view that does
//! not show it yet is taken for the state.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use kube::{ResourceExt, api::ObjectMeta};
use parking_lot::Mutex;

use super::made::Made;
use crate::api::KindStatus;

/// How often a view may be behind our last write before we go on with what it shows. Whoever is
/// wrong then meets a conflict; but an API server restored from a backup counts on from less, and
/// must not be waited for.
const PATIENCE: u8 = 100;

/// The last versions that this process wrote.
#[derive(Debug, Default)]
pub struct Echoes {
    children: Mutex<HashMap<Uid, String>>,
    /// And how often the view was behind it.
    statuses: Mutex<HashMap<Uid, (u64, u8)>>,
    /// Digests of the last two statuses, until they are seen; 0 is none.
    said: Mutex<HashMap<Uid, [u64; 2]>>,
}

/// Stands for a UID in a map that has an entry for each of ten thousands of objects: an eighth of
/// its text. The API server draws UIDs, so nobody can choose two that are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uid(u64);

impl From<&str> for Uid {
    fn from(uid: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What tells a status from another, in the part that the operator writes.
pub fn digest(status: Option<&impl KindStatus>) -> u64 {
    let text = status.map(|status| serde_json::to_string(&status.own_part()).unwrap_or_default());
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Echoes {
    /// We wrote a child.
    pub fn wrote_child(&self, meta: &ObjectMeta) {
        if let (Some(uid), Some(version)) = (&meta.uid, &meta.resource_version) {
            self.children
                .lock()
                .insert(uid.as_str().into(), version.clone());
        }
    }

    /// Whether a watch shows just what we wrote. Each is recognised once, and then forgotten.
    pub fn is_own_child(&self, child: &Made) -> bool {
        let uid = Uid::from(&*child.uid);
        let mut children = self.children.lock();
        let own = children.get(&uid).map(String::as_str) == Some(&*child.version);
        if own {
            children.remove(&uid);
        }
        own
    }

    /// We are about to write a status of this digest. Said before, as a watch may be faster than
    /// the answer.
    pub fn will_say(&self, uid: &str, digest: u64) {
        let mut said = self.said.lock();
        let last = said.entry(uid.into()).or_default();
        *last = [last[1], digest];
    }

    /// A status may not have been written. If a watch shows it yet, that is news.
    pub fn takes_back(&self, uid: &str) {
        self.said.lock().remove(&Uid::from(uid));
    }

    /// Whether a watch shows a status that we wrote. Each is recognised once, and then forgotten.
    pub fn is_own_status(&self, uid: &str, digest: u64) -> bool {
        let uid = Uid::from(uid);
        let mut said = self.said.lock();
        let Some(last) = said.get_mut(&uid) else {
            return false;
        };
        let Some(own) = last.iter_mut().find(|said| **said == digest) else {
            return false;
        };
        *own = 0;
        if *last == [0, 0] {
            said.remove(&uid);
        }
        true
    }

    /// We wrote the status of an object.
    pub fn wrote_status(&self, object: &impl ResourceExt) {
        if let (Some(uid), Some(version)) = (uid(object), version(object)) {
            self.statuses.lock().insert(uid, (version, 0));
        }
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        let uid = Uid::from(uid);
        self.children.lock().remove(&uid);
        self.statuses.lock().remove(&uid);
        self.said.lock().remove(&uid);
    }

    /// Whether a view does not show our last write of the object yet.
    pub fn is_behind(&self, object: &impl ResourceExt) -> bool {
        let (Some(uid), Some(seen)) = (uid(object), version(object)) else {
            return false;
        };
        let mut statuses = self.statuses.lock();
        if let Some((written, tries)) = statuses.get_mut(&uid)
            && seen < *written
            && *tries < PATIENCE
        {
            *tries += 1;
            return true;
        }
        statuses.remove(&uid);
        false
    }
}

fn uid(object: &impl ResourceExt) -> Option<Uid> {
    object.meta().uid.as_deref().map(Uid::from)
}

/// Versions of one object are numbers that grow (KEP-5504, Kubernetes 1.35).
fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ZenServer, ZenServerStatus};

    #[test]
    fn what_we_said_is_recognised_once_in_any_order() {
        let echoes = Echoes::default();
        echoes.will_say("u", 1);
        echoes.will_say("u", 2);
        assert_eq!(
            [2, 3, 1, 1, 2].map(|d| echoes.is_own_status("u", d)),
            [true, false, true, false, false]
        );
    }

    #[test]
    fn a_status_is_told_from_none_and_from_another() {
        let some = |replicas| {
            digest(Some(&ZenServerStatus {
                replicas,
                ..ZenServerStatus::default()
            }))
        };
        let all = [digest(None::<&ZenServerStatus>), some(0), some(1)];
        assert!(all[0] != all[1] && all[1] != all[2]);
        assert_eq!(some(1), some(1));
    }

    #[test]
    fn a_view_that_never_catches_up_is_taken_in_the_end() {
        let at = |version: &str| -> ZenServer {
            serde_json::from_value(json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer", "spec": {},
                "metadata": {"name": "prod", "uid": "u", "resourceVersion": version},
            }))
            .unwrap()
        };
        let echoes = Echoes::default();
        echoes.wrote_status(&at("10"));
        assert!(echoes.is_behind(&at("9")));
        assert!(!echoes.is_behind(&at("10")) && !echoes.is_behind(&at("9")));
        echoes.wrote_status(&at("10"));
        let waits = (0..1000).take_while(|_| echoes.is_behind(&at("9"))).count();
        assert_eq!(waits, usize::from(PATIENCE));
    }
}

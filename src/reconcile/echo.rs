//! What we wrote ourselves, so that neither its echo in a watch causes work, nor a view that does
//! not show it yet is taken for the state.

use std::collections::HashMap;

use kube::{ResourceExt, api::ObjectMeta};
use parking_lot::Mutex;

/// The last versions that this process wrote, by UID.
#[derive(Debug, Default)]
pub struct Echoes {
    children: Mutex<HashMap<String, String>>,
    statuses: Mutex<HashMap<String, u64>>,
}

impl Echoes {
    /// We wrote a child.
    pub fn wrote_child(&self, meta: &ObjectMeta) {
        if let (Some(uid), Some(version)) = (&meta.uid, &meta.resource_version) {
            self.children.lock().insert(uid.clone(), version.clone());
        }
    }

    /// Whether a watch shows just what we wrote. Each is recognised once, and then forgotten.
    pub fn is_own_child(&self, meta: &ObjectMeta) -> bool {
        let (Some(uid), Some(version)) = (&meta.uid, &meta.resource_version) else {
            return false;
        };
        let mut children = self.children.lock();
        let own = children.get(uid) == Some(version);
        if own {
            children.remove(uid);
        }
        own
    }

    /// We wrote the status of an object.
    pub fn wrote_status(&self, object: &impl ResourceExt) {
        if let (Some(uid), Some(version)) = (object.uid(), version(object)) {
            self.statuses.lock().insert(uid, version);
        }
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        self.children.lock().remove(uid);
        self.statuses.lock().remove(uid);
    }

    /// Whether a view does not show our last write of the object yet.
    pub fn is_behind(&self, object: &impl ResourceExt) -> bool {
        let (Some(uid), Some(seen)) = (object.uid(), version(object)) else {
            return false;
        };
        let mut statuses = self.statuses.lock();
        let behind = statuses.get(&uid).is_some_and(|written| seen < *written);
        if !behind {
            statuses.remove(&uid);
        }
        behind
    }
}

/// Versions of one object are numbers that grow (KEP-5504, Kubernetes 1.35).
fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

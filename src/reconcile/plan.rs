//! What a pass decided: a value that can be compared and printed. Making it cannot fail.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ApiResource;
use serde_json::Value;

/// All that one pass is going to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// Status to record before any child is written: facts that must not be lost if we die
    /// halfway.
    pub record: Option<S>,
    /// What must exist, in the order in which it is made.
    pub children: Vec<Child>,
    /// What is to be stored in Secrets that we made for somebody else, after the children are in
    /// place.
    pub entries: Vec<Entries>,
    /// What we made once and is to go, after the children are in place.
    pub prune: Vec<Doomed>,
    /// Workloads that were handed to us to be restarted.
    pub restarts: Vec<Restart>,
    /// Status to report once that is done, but for its conditions.
    pub status: S,
    /// How it is.
    pub verdict: Verdict,
    /// Conditions that only this kind has.
    pub facts: Vec<Fact>,
    /// Events, told once the plan was carried out.
    pub notes: Vec<Note>,
    /// When time alone will change something.
    pub deadline: Option<Timestamp>,
}

/// What `Ready`, `Reconciling` and `Stalled` say (kstatus).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object does what its spec says.
    Ready {
        /// In one sentence.
        message: String,
    },
    /// Work under way, or waiting for what can resolve itself.
    Waiting {
        /// One of `api::reason`.
        reason: &'static str,
        /// What for, and what to do if it lasts.
        message: String,
    },
    /// A person must act.
    Stalled {
        /// One of `api::reason`.
        reason: &'static str,
        /// What to do.
        message: String,
    },
}

/// A condition of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// One of `api::condition`.
    pub condition: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// One of `api::reason`.
    pub reason: &'static str,
    /// In one sentence, with a remedy where it is needed.
    pub message: String,
}

/// An event. Its text is made of names and fixed words, never of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// In `PascalCase`, stable.
    pub reason: &'static str,
    /// What we did.
    pub action: &'static str,
    /// In one sentence.
    pub message: String,
}

/// An object that must exist, beside what was there when we looked.
#[derive(Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name, in the owner's namespace.
    pub name: String,
    /// The fields that we own, without owner, type and labels of ours, which `apply` adds.
    pub body: Value,
    /// What was there.
    pub live: Option<Live>,
    /// Whether an existing one is left as it is.
    pub create_only: bool,
    /// Whether one that nobody controls becomes ours.
    pub adopts: bool,
    /// Whether it stays when its owner goes, and becomes that of the next of its name.
    pub kept: bool,
}

/// Changes to entries of a Secret that we made for somebody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Entries {
    /// The Secret's name, in the owner's namespace.
    pub secret: String,
    /// Its identity: another of that name is left alone.
    pub uid: String,
    /// Its version: what was stored since we looked is not overwritten.
    pub resource_version: String,
    /// What each is to hold; nothing, for one that is to go.
    pub values: BTreeMap<String, Option<String>>,
}

/// A workload whose pods are to be started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name, in the owner's namespace.
    pub name: String,
    /// Its identity: another of that name is left alone.
    pub uid: String,
    /// Its version: one that somebody restarted since we looked is looked at again.
    pub resource_version: String,
    /// What its pods' template is to say; a template that says something new makes new pods.
    pub annotations: BTreeMap<String, String>,
}

/// An object as it was when we looked.
#[derive(Clone, PartialEq)]
pub struct Live {
    /// Its identity: what we write to must still be this.
    pub uid: String,
    /// Its version: what we write to must not have changed.
    pub resource_version: String,
    /// Who controls it.
    pub controller: Option<OwnerReference>,
    /// All of it.
    pub body: Value,
}

/// An object of ours that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name, in the owner's namespace.
    pub name: String,
    /// Its identity: another of that name stays.
    pub uid: String,
    /// Its version, if one that was changed since is to stay.
    pub version: Option<String>,
}

impl Live {
    /// Whether the object with this UID controls it.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller.as_ref().is_some_and(|c| c.uid == uid)
    }

    /// Whose it is, in words.
    pub fn owner(&self) -> String {
        match &self.controller {
            Some(owner) => format!("{} {}", owner.kind, owner.name),
            None => "nobody that says so in its ownerReferences".to_owned(),
        }
    }
}

// Bodies may hold keys: they are never shown.
impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = if self.live.is_some() {
            "present"
        } else {
            "absent"
        };
        write!(f, "{} {} ({seen})", self.resource.kind, self.name)
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.keys().collect();
        write!(f, "entries {names:?} of Secret {}", self.secret)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {} of {}",
            self.uid,
            self.resource_version,
            self.owner()
        )
    }
}

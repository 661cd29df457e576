//! Objects of a name that we want and that are not ours.

use kube::ResourceExt;

use super::{
    error::Invalid,
    plan::{Fact, Live, Verdict},
};
use crate::api::{Adoption, annotation, condition, reason};

/// Who wants an object, and what a person can do if somebody else has it.
pub(super) struct Claim<'a> {
    /// The kind of the custom resource.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// What to do besides deleting the object in the way.
    pub remedy: &'a str,
}

impl Claim<'_> {
    /// Checks that an object of this kind and name, if there is one, is ours.
    ///
    /// # Errors
    /// What to report. It may end at any moment, and no watch would show it: what is not ours is
    /// not watched.
    pub(super) fn check(&self, kind: &str, name: &str, live: Option<&Live>) -> Result<(), Invalid> {
        let Some(foreign) = live.filter(|live| !live.is_controlled_by(self.uid)) else {
            return Ok(());
        };
        if self.is_of_predecessor(foreign) {
            let message = format!(
                "waits for {kind} {name} of the deleted {} {} to be removed",
                self.kind, self.name
            );
            let reason = reason::PROGRESSING;
            return Err(Invalid {
                verdict: Verdict::Waiting { reason, message },
                facts: Vec::new(),
                unwatched: true,
            });
        }
        let message = format!(
            "{kind} {name} exists and belongs to {}; it was left alone: delete it, or {}",
            foreign.owner(),
            self.remedy
        );
        let reason = reason::CONFLICT;
        let fact = Fact {
            condition: condition::CONFLICT,
            holds: true,
            reason,
            message: message.clone(),
        };
        Err(Invalid {
            verdict: Verdict::Stalled { reason, message },
            facts: vec![fact],
            unwatched: true,
        })
    }

    /// Whether it belongs to an object of our kind and name that was there before us: then the
    /// garbage collector is about to remove it.
    fn is_of_predecessor(&self, live: &Live) -> bool {
        let controller = live.controller.as_ref();
        controller.is_some_and(|c| c.kind == self.kind && c.name == self.name)
    }
}

/// Whether an object that nobody controls may become that of `wants`.
pub(super) fn may_adopt(wants: &impl ResourceExt, adoption: Adoption, live: &Live) -> bool {
    if live.controller.is_some() {
        return false;
    }
    match adoption {
        Adoption::Never => false,
        Adoption::IfUnowned => {
            let wanted = format!(
                "{}/{}",
                wants.namespace().unwrap_or_default(),
                wants.name_any()
            );
            let annotations = live.body.pointer("/metadata/annotations");
            annotations.and_then(|all| all.get(annotation::ADOPT)?.as_str()) == Some(&wanted)
        }
        Adoption::Force => is_set(wants, annotation::FORCE),
    }
}

/// Whether a person set an annotation to `"true"`.
pub(super) fn is_set(object: &impl ResourceExt, name: &str) -> bool {
    let set = object.annotations().get(name);
    set.is_some_and(|value| value == "true")
}

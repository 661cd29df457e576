//! What the references of a component lead to, and whether that is enough.

use super::attributes::Place;
use crate::{
    api::{ReferenceState, ReferenceStatus, ValidationLevel, condition, reason},
    auth::reference::Reference,
    reconcile::{
        plan::{Fact, Verdict},
        references::{Found, remedy},
    },
};

/// The longest path that a status shows, in bytes.
const MOST_PATH: usize = 500;

/// A reference with what it leads to.
#[derive(Debug)]
pub(super) struct Seen {
    pub place: Place,
    pub found: Found,
}

impl Seen {
    pub(super) fn reference(&self) -> Option<Reference<'_>> {
        self.place.reference()
    }

    fn state(&self, level: ValidationLevel) -> ReferenceState {
        if self.place.fault.is_some() {
            return ReferenceState::Malformed;
        }
        match (&self.found, level) {
            (Found::Value(_), _) => ReferenceState::Resolved,
            (_, ValidationLevel::None) => ReferenceState::Unchecked,
            (Found::Nothing, _) => ReferenceState::SecretMissing,
            (Found::NoKey(_), ValidationLevel::SecretExists) => ReferenceState::Unchecked,
            (Found::NoKey(_), ValidationLevel::SecretAndKeyExists) => ReferenceState::KeyMissing,
        }
    }

    /// What status says of it.
    pub(super) fn status(&self, level: ValidationLevel) -> ReferenceStatus {
        let reference = self.reference();
        ReferenceStatus {
            path: shortened(&self.place.path),
            secret: shortened(reference.map_or("", |reference| reference.name)),
            key: shortened(reference.map_or("", |reference| reference.key)),
            scope: self.found.scope(),
            state: self.state(level),
            fault: self.place.fault.map(|fault| fault.to_string()),
        }
    }

    /// What is wrong with it, and what to do.
    fn complaint(&self) -> String {
        let path = shortened(&self.place.path);
        match (self.place.fault, self.reference()) {
            (Some(fault), _) => format!("{path}, {fault}"),
            (None, Some(reference)) => format!("{path}: {}", remedy(&self.found, reference)),
            (None, None) => path,
        }
    }
}

/// What follows from all references of a component.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Whether they lead to what they must.
    pub fact: Fact,
    /// Why the component is not ready; nothing, if it is.
    pub verdict: Option<Verdict>,
    /// Whether each leads to a value.
    pub is_resolved: bool,
}

/// Holds references to a level.
pub(super) fn judge(seen: &[Seen], level: ValidationLevel) -> Judgement {
    let are = |state| seen.iter().filter(move |one| one.state(level) == state);
    let worst = [
        (ReferenceState::Malformed, reason::MALFORMED_REFERENCE),
        (ReferenceState::SecretMissing, reason::SECRET_MISSING),
        (ReferenceState::KeyMissing, reason::KEY_MISSING),
    ];
    let broken = worst.into_iter().find_map(|(state, reason)| {
        let first = are(state).next()?;
        Some((state, reason, first.complaint()))
    });
    let unchecked = are(ReferenceState::Unchecked).count();
    let Some((state, reason, complaint)) = broken else {
        let (reason, message) = match unchecked {
            0 => (reason::RESOLVED, counted(seen.len(), "lead to a value")),
            _ => {
                let message = counted(unchecked, "lead to no value, and need not");
                (reason::UNCHECKED, message)
            }
        };
        return Judgement {
            fact: fact(true, reason, message),
            verdict: None,
            is_resolved: unchecked == 0,
        };
    };
    let others = worst.iter().map(|(state, _)| are(*state).count());
    let others = others.sum::<usize>().saturating_sub(1);
    let message = match others {
        0 => complaint,
        _ => format!("{complaint}; and {others} more, see status.references"),
    };
    let verdict = match state {
        ReferenceState::Malformed => Verdict::Stalled {
            reason,
            message: message.clone(),
        },
        _ => Verdict::Waiting {
            reason,
            message: message.clone(),
        },
    };
    Judgement {
        fact: fact(false, reason, message),
        verdict: Some(verdict),
        is_resolved: false,
    }
}

fn fact(holds: bool, reason: &'static str, message: String) -> Fact {
    Fact {
        condition: condition::REFERENCES_RESOLVED,
        holds,
        reason,
        message,
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => "it refers to no secret".to_owned(),
        1 => format!("1 reference: {what}"),
        _ => format!("{count} references: {what}"),
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MOST_PATH {
        return text.to_owned();
    }
    let ends = text.floor_char_boundary(MOST_PATH);
    format!("{}…", text.get(..ends).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        api::{ZenComponent, ZenSecret},
        reconcile::component::attributes::Attributes,
    };

    fn secret() -> Arc<ZenSecret> {
        let object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret",
            "metadata": {"name": "login-object", "namespace": "ml"},
            "spec": {"serverRef": {"name": "prod"}, "name": "login", "data": [{"key": "late"}]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn seen(text: &str, found: Found) -> Seen {
        let object: ZenComponent = serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenComponent",
            "metadata": {"name": "c"},
            "spec": {
                "serverRef": {"name": "prod"}, "type": "alerter", "flavor": "slack",
                "attributes": {"a": text},
            },
        }))
        .unwrap();
        let attributes = Attributes::of(&object.spec).unwrap();
        let place = attributes.places()[0].clone();
        Seen { place, found }
    }

    fn all() -> [fn() -> Found; 3] {
        [
            || Found::Nothing,
            || Found::NoKey(secret()),
            || Found::Value(secret()),
        ]
    }

    #[test]
    fn each_level_holds_references_to_what_zenml_does() {
        use ReferenceState::{KeyMissing, Resolved, SecretMissing, Unchecked};
        let table = [
            (ValidationLevel::None, [Unchecked, Unchecked, Resolved]),
            (
                ValidationLevel::SecretExists,
                [SecretMissing, Unchecked, Resolved],
            ),
            (
                ValidationLevel::SecretAndKeyExists,
                [SecretMissing, KeyMissing, Resolved],
            ),
        ];
        for (level, states) in table {
            for (found, state) in all().into_iter().zip(states) {
                let one = seen("{{login.user}}", found());
                assert_eq!(one.state(level), state, "{level:?}");
                let judged = judge(&[one], level);
                assert_eq!(
                    judged.fact.holds,
                    matches!(state, Resolved | Unchecked),
                    "{level:?}"
                );
                assert_eq!(judged.is_resolved, state == Resolved);
                assert_eq!(judged.verdict.is_none(), judged.fact.holds);
            }
        }
    }

    #[test]
    fn the_worst_is_told_with_its_place_and_what_to_do() {
        let level = ValidationLevel::SecretAndKeyExists;
        let of = |seen: &[Seen]| judge(seen, level).fact.message;
        let gone = of(&[seen("{{login.user}}", Found::Nothing)]);
        assert!(
            gone.starts_with("/a: {{login.user}}: there is no secret login"),
            "{gone}"
        );
        let keyless = of(&[seen("{{login.user}}", Found::NoKey(secret()))]);
        assert!(keyless.contains("no key user; add it to spec.data of ZenSecret login-object"));
        let late = of(&[seen("{{login.late}}", Found::NoKey(secret()))]);
        assert!(late.contains("not there yet; see kubectl describe zensecret login-object"));
        let many = [
            seen("{{login.user}}", Found::Nothing),
            seen("{{login.user", Found::Nothing),
            seen("{{login.user}}", Found::Value(secret())),
        ];
        let judged = judge(&many, level);
        assert!(matches!(judged.verdict, Some(Verdict::Stalled { .. })));
        assert_eq!(
            judged.fact.message,
            "/a, column 1: {{ has no }} after it; and 1 more, see status.references"
        );
    }

    #[test]
    fn a_status_holds_what_it_may() {
        let mut one = seen("{{login.user}}", Found::Nothing);
        one.place.path = "/ä".repeat(400);
        let status = one.status(ValidationLevel::None);
        assert!(status.path.len() <= 512 && status.path.ends_with('…'));
    }
}

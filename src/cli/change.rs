//! Changes to objects that exist: on the version that was read, and not behind a tool's back.

use kube::{
    ResourceExt,
    api::{DynamicObject, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    Session,
    arguments::DryRun,
    cluster::{Cluster, FIELD_MANAGER, Found},
    failure::{Exit, Failure},
    noun::Noun,
    owner::{Owner, owner},
};

/// How often a change is decided anew because somebody else was faster: the sidecar notes each
/// use of a key, the operator each step.
const ATTEMPTS: usize = 5;

/// What to do about an object that a tool applies from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Refuse.
    Refuse,
    /// Say so and go on: it cannot wait.
    Warn,
    /// Go on: the person knows.
    Given,
}

impl Consent {
    /// From `--override`.
    pub const fn of(override_owner: bool) -> Self {
        match override_owner {
            true => Self::Given,
            false => Self::Refuse,
        }
    }

    /// Refuses or warns if a tool manages the object. `instead` begins a sentence on what to do
    /// there.
    ///
    /// # Errors
    /// If it refuses.
    pub fn ask(
        self,
        session: &Session,
        title: &str,
        metadata: &ObjectMeta,
        instead: impl Fn(&Owner) -> String,
    ) -> Result<(), Failure> {
        let Some(owner) = owner(metadata).filter(|_| self != Self::Given) else {
            return Ok(());
        };
        let managed = format!("{title} is managed by {owner}; {}", owner.undoes());
        let instead = instead(&owner);
        match self {
            Self::Refuse => Err(Failure::new(
                Exit::Conflict,
                format!("{managed}. Instead, {instead}\nor say --override."),
            )),
            _ => {
                let warning = format!("warning: {managed}. To make it last, {instead}");
                session.out.note(&warning);
                Ok(())
            }
        }
    }
}

/// A change of a spec.
pub struct Change {
    /// A merge patch.
    pub patch: Value,
    /// The same as lines of a manifest.
    pub file: String,
    /// What to do about a tool's objects.
    pub consent: Consent,
    /// Whether it is made.
    pub dry: DryRun,
}

impl Change {
    /// Makes it, unless `needed` says that it is so already. Returns the object afterwards and
    /// whether it was changed.
    ///
    /// # Errors
    /// If the object is not there, `needed` or the API server refuses, a tool manages it, or
    /// others change it all the time.
    pub async fn make<K: Noun>(
        &self,
        session: &Session,
        cluster: &Cluster,
        name: &str,
        needed: impl Fn(&K) -> Result<bool, Failure>,
    ) -> Result<(Found<K>, bool), Failure> {
        let title = cluster.title::<K>(name);
        let mut warned = false;
        for _ in 0..ATTEMPTS {
            let found = cluster.read::<K>(name).await?;
            if !needed(&found.typed)? {
                return Ok((found, false));
            }
            if !std::mem::replace(&mut warned, true) {
                let instead =
                    |owner: &Owner| format!("set {}:\n\n{}\n", owner.place(), indented(&self.file));
                self.consent
                    .ask(session, &title, &found.raw.metadata, instead)?;
            }
            match self.send::<K>(cluster, found.raw).await {
                Ok(raw) => return Ok((cluster.understood(raw)?, true)),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(Failure::of(&format!("changing {title}"), &error)),
            }
        }
        Err(Failure::new(
            Exit::Conflict,
            format!("{title} is changed by others all the time; try again"),
        ))
    }

    async fn send<K: Noun>(
        &self,
        cluster: &Cluster,
        mut object: DynamicObject,
    ) -> kube::Result<DynamicObject> {
        let mut patch = self.patch.clone();
        if self.dry == DryRun::Client {
            merge(&mut object.data, &patch);
            return Ok(object);
        }
        merge(
            &mut patch,
            &json!({"metadata": {"resourceVersion": object.resource_version()}}),
        );
        let parameters = PatchParams {
            dry_run: self.dry == DryRun::Server,
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let api = cluster.raw::<K>();
        api.patch(&object.name_any(), &parameters, &Patch::Merge(patch))
            .await
    }
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// RFC 7396 without removals, which no command makes.
fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            let Some(object) = into.as_object_mut() else {
                return;
            };
            for (name, value) in fields {
                merge(object.entry(name).or_insert(Value::Null), value);
            }
        }
        other => *into = other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let mut object = json!({"spec": {"active": true, "rotation": {"interval": "1h"}}});
        merge(
            &mut object,
            &json!({"spec": {"active": false, "rotation": {"trigger": "now"}}, "new": {"a": 1}}),
        );
        assert_eq!(
            object,
            json!({
                "spec": {"active": false, "rotation": {"interval": "1h", "trigger": "now"}},
                "new": {"a": 1},
            })
        );
    }
}

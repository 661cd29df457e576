//! What accounts and keys have in common on the command line.

use std::fmt::Debug;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource,
    api::DynamicObject,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::de::DeserializeOwned;

use super::{
    Session, arguments::WriteArguments, describe::Page, failure::Failure, output::full_name,
};
use crate::api::{DeletionPolicy, KindStatus};

/// A kind that has a noun.
pub trait Noun:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + HasStatus<Status: KindStatus>
    + 'static
{
    /// The word on the command line.
    const NOUN: &'static str;
    /// What deleting one does, as a sentence.
    const DELETED: &'static str;
    /// What puts it out of use and can be undone.
    const OFF: &'static str = "deactivate";

    /// `spec.active`.
    fn is_active(&self) -> bool;

    /// `spec.deletionPolicy`, where the kind has one.
    fn deletion_policy(&self) -> DeletionPolicy {
        DeletionPolicy::Delete
    }

    /// What deleting it leaves behind, as a sentence.
    fn left(&self) -> Option<String> {
        None
    }

    /// What `describe` says of it between its name and its conditions.
    fn tell(&self, page: &mut Page);

    /// The status's conditions.
    fn conditions(&self) -> &[Condition] {
        self.status().map_or(&[], KindStatus::conditions)
    }

    /// A condition by its type.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions().iter().find(|c| c.type_ == kind)
    }

    /// Whether the operator has seen the object as it is now.
    fn is_observed(&self) -> bool {
        let observed = self.status().map_or(-1, KindStatus::observed_generation);
        Some(observed) == self.meta().generation
    }
}

/// One or more objects by name.
#[derive(Clone, Debug, Args)]
pub struct Names {
    /// The names.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Says what was done, or shows the object.
///
/// # Errors
/// If it cannot be written.
pub fn report(
    session: &Session,
    write: &WriteArguments,
    object: &DynamicObject,
    done: &str,
) -> Result<(), Failure> {
    match write.output {
        Some(form) => session.out.object(form, object),
        None => session.out.prose(&format!(
            "{} {done}{}",
            full_name(object),
            write.dry_run.mark()
        )),
    }
}

/// Does something to each object, also after one failed: the second key of an emergency is not
/// to stay alive because the first was gone. Ends as the first failure.
pub async fn each(
    session: &Session,
    names: &Names,
    act: impl AsyncFn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut first = None;
    for name in &names.names {
        if let Err(failure) = act(name).await {
            session.complain(&failure);
            first.get_or_insert(failure.exit);
        }
    }
    match first {
        None => Ok(()),
        Some(exit) => Err(Failure::new(exit, "")),
    }
}

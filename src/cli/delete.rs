//! `delete`.

use clap::Args;
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};

use super::{
    Session,
    arguments::{DryRun, WaitArguments},
    change::Consent,
    cluster::Cluster,
    failure::{Exit, Failure},
    noun::{Names, Noun, each},
    output::full_name,
    wait::{self, Goal},
};
use crate::api::{DeletionPolicy, annotation};

/// `delete`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    pub names: Names,

    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,

    /// Do it although Flux, Argo CD or Helm manages the object and may make it again.
    #[arg(long = "override")]
    pub override_owner: bool,

    /// Change nothing: client only reads the object, server has the deletion checked there.
    #[arg(long, value_enum, default_value = "none", value_name = "MODE")]
    pub dry_run: DryRun,

    #[command(flatten)]
    pub wait: WaitArguments,
}

/// Deletes objects, after asking.
///
/// # Errors
/// If one is not there, protected, managed elsewhere, or stays for too long.
pub async fn delete<K: Noun>(
    session: &Session,
    arguments: &DeleteArguments,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    each(session, &arguments.names, async |name| {
        let found = cluster.read::<K>(name).await?;
        protected(&cluster, &found.typed)?;
        let consent = Consent::of(arguments.override_owner);
        consent.ask(
            session,
            &cluster.title::<K>(name),
            &found.raw.metadata,
            |owner| {
                let place = owner.place();
                format!(
                    "delete it {place}; it is out of use at once if you {} it,",
                    K::OFF
                )
            },
        )?;
        let title = cluster.title::<K>(name);
        let left = found.typed.left();
        let told = [Some(K::DELETED), left.as_deref()].into_iter().flatten();
        let told = told.collect::<Vec<_>>().join(" ");
        let asks = arguments.dry_run == DryRun::None && !arguments.yes;
        if asks && !session.out.consent(&format!("Delete {title}? {told}"))? {
            return Err(Failure::new(
                Exit::Failed,
                format!("{title} was not deleted"),
            ));
        }
        remove(&cluster, &found.typed, arguments.dry_run).await?;
        if arguments.wait.wait && arguments.dry_run == DryRun::None {
            let patience = &arguments.wait.patience;
            wait::until::<K>(session, &cluster, name, &Goal::Gone, patience).await?;
        }
        session.out.prose(&format!(
            "{} deleted{}",
            full_name(&found.raw),
            arguments.dry_run.mark()
        ))?;
        if let Some(left) = left.filter(|_| !asks) {
            session.out.note(&left);
        }
        Ok(())
    })
    .await
}

/// The cluster's admission policy refuses as well, where it is installed.
fn protected<K: Noun>(cluster: &Cluster, object: &K) -> Result<(), Failure> {
    let is_set = |name| {
        object
            .annotations()
            .get(name)
            .is_some_and(|value| value == "true")
    };
    if object.deletion_policy() == DeletionPolicy::Retain && !is_set(annotation::FORCE) {
        return Err(Failure::new(
            Exit::Conflict,
            format!(
                "{} would be made again, as its spec.deletionPolicy is Retain; set that to Delete \
                 first, or {} it",
                cluster.title::<K>(&object.name_any()),
                K::OFF
            ),
        ));
    }
    match is_set(annotation::DELETION_PROTECTION) {
        false => Ok(()),
        true => Err(Failure::new(
            Exit::Conflict,
            format!(
                "{} is protected from deletion; remove its annotation {} first, or {} it",
                cluster.title::<K>(&object.name_any()),
                annotation::DELETION_PROTECTION,
                K::OFF
            ),
        )),
    }
}

/// Deletes the very object that was read and asked about, not one of the same name made since.
///
/// # Errors
/// If it is another one by now, or the API server refuses.
pub async fn remove<K: Noun>(cluster: &Cluster, object: &K, dry: DryRun) -> Result<(), Failure> {
    if dry == DryRun::Client {
        return Ok(());
    }
    let parameters = DeleteParams {
        dry_run: dry == DryRun::Server,
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let name = object.name_any();
    let doing = format!("deleting {}", cluster.title::<K>(&name));
    let deleted = cluster.api::<K>().delete(&name, &parameters).await;
    deleted.map_err(|error| Failure::of(&doing, &error))?;
    Ok(())
}

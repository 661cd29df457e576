//! `activate` and `deactivate`.

use clap::Args;
use serde_json::json;

use super::{
    Session,
    arguments::{DryRun, WaitArguments, WriteArguments},
    change::{Change, Consent},
    failure::{Exit, Failure},
    noun::{Names, Noun, each, report},
    wait::{self, Goal},
};
use crate::api::condition;

/// `activate` and `deactivate`.
#[derive(Clone, Debug, Args)]
pub struct ActiveArguments {
    #[command(flatten)]
    pub names: Names,

    #[command(flatten)]
    pub write: WriteArguments,

    #[command(flatten)]
    pub wait: WaitArguments,
}

/// `activate`.
#[derive(Clone, Debug, Args)]
pub struct ActivateArguments {
    #[command(flatten)]
    pub common: ActiveArguments,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    pub override_owner: bool,
}

/// Sets `spec.active` to true. Refused where a tool applies the object from files.
///
/// # Errors
/// If one is not there, managed elsewhere, or does not become active in time.
pub async fn activate<K: Noun>(
    session: &Session,
    arguments: &ActivateArguments,
) -> Result<(), Failure> {
    let consent = Consent::of(arguments.override_owner);
    set_active::<K>(session, &arguments.common, true, consent).await
}

/// Sets `spec.active` to false. An emergency: who else manages the object is warned of, not
/// asked.
///
/// # Errors
/// If one is not there, or is not refused in time.
pub async fn deactivate<K: Noun>(
    session: &Session,
    arguments: &ActiveArguments,
) -> Result<(), Failure> {
    set_active::<K>(session, arguments, false, Consent::Warn).await
}

async fn set_active<K: Noun>(
    session: &Session,
    arguments: &ActiveArguments,
    active: bool,
    consent: Consent,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let change = Change {
        patch: json!({"spec": {"active": active}}),
        file: format!("spec:\n  active: {active}"),
        consent,
        dry: arguments.write.dry_run,
    };
    let (verb, status) = match active {
        true => ("activated", "True"),
        false => ("deactivated", "False"),
    };
    each(session, &arguments.names, async |name| {
        let (found, changed) = change
            .make(session, &cluster, name, |object: &K| {
                Ok(object.is_active() != active)
            })
            .await?;
        if arguments.wait.wait && arguments.write.dry_run == DryRun::None {
            let goal = Goal::condition(condition::ACTIVE, status);
            let patience = &arguments.wait.patience;
            wait::until::<K>(session, &cluster, name, &goal, patience)
                .await
                .map_err(|failure| unconfirmed(failure, verb))?;
        }
        let said = match changed {
            true => verb.to_owned(),
            false => format!("is {verb} already"),
        };
        report(session, &arguments.write, &found.raw, &said)
    })
    .await
}

/// Whoever waited in vain for the word of an operator that is down must not believe that a key
/// is alive.
fn unconfirmed(failure: Failure, verb: &str) -> Failure {
    match failure.exit {
        Exit::TimedOut => Failure::new(
            Exit::TimedOut,
            format!(
                "{failure}\nIt is {verb} all the same: the servers follow the object itself, \
                 without the operator"
            ),
        ),
        _ => failure,
    }
}

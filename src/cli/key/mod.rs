//! `kubectl zen key`: API keys.

mod create;
mod new;
mod rotate;
mod show;
mod tell;

pub use show::delivered;

use clap::{Args, Subcommand};

use super::{
    Session,
    active::{self, ActivateArguments, ActiveArguments},
    arguments::ListArguments,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments},
    failure::Failure,
    list,
    restore::{self, RestoreArguments},
};
use crate::api::ZenAPIKey;

/// API keys: what a program logs in with.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List keys.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen key list
  kubectl zen key list --service-account ci -o wide
  kubectl zen key list --retained
  kubectl zen key list -A -o json"
    )]
    List(KeyList),

    /// Tell all of some keys: generations, rotation, conditions, events.
    #[command(after_long_help = "\
Examples:
  kubectl zen key describe ci-main
  kubectl zen key describe ci-main -o yaml")]
    Describe(DescribeArguments),

    /// Make a key, and wait until its Secret is there.
    #[command(
        long_about = "Make a key of a service account, and wait until it is in its Secret, ready \
                      for envFrom. The key itself is not shown, unless --show is given.\n\n\
                      Times are numbers with w, d, h, m and s: 30d, 12h, 90m, 1h30m. A day is 24 \
                      hours.",
        after_long_help = "\
Examples:
  kubectl zen key create ci-main --service-account ci
  # Each key lives 90 days, and is replaced after 30; the old one is accepted for 2 hours more:
  kubectl zen key create ci-main --service-account ci --ttl 90d --rotate-every 30d --retain 2h
  # A file for Git instead of an object:
  kubectl zen key create ci-main --service-account ci --dry-run=client -o yaml > key.yaml"
    )]
    Create(Box<create::KeyCreate>),

    /// Replace a key; the old one is accepted for a while.
    #[command(
        long_about = "Replace a key. The new one is accepted before it is in the Secret, and the \
                      old one for spec.rotation.retainFor afterwards, so that a client that reads \
                      the Secret is refused at no moment.\n\n\
                      It sets spec.rotation.trigger to the present time, and spec.rotation.retainFor \
                      if --retain is given. A key that Flux, Argo CD or Helm manages is rotated by \
                      the same change of its file.",
        after_long_help = "\
Examples:
  kubectl zen key rotate ci-main --wait
  # The old key is known to others: refuse it at once.
  kubectl zen key rotate ci-main --retain 0s"
    )]
    Rotate(rotate::KeyRotate),

    /// Let keys log in again.
    #[command(after_long_help = "\
Examples:
  kubectl zen key activate ci-main --wait")]
    Activate(ActivateArguments),

    /// Refuse keys, and all tokens that came from them, at once.
    #[command(
        long_about = "Refuse keys at once, and every token that came from them. Nothing is lost: \
                      `kubectl zen key activate` restores them.\n\n\
                      It works without the operator, as the servers watch the keys themselves; \
                      --wait waits for the operator to confirm it. A key that Flux, Argo CD or \
                      Helm manages is deactivated too, with a warning on how to make it last.",
        after_long_help = "\
Examples:
  kubectl zen key deactivate ci-main
  kubectl zen key deactivate ci-main ci-nightly --wait"
    )]
    Deactivate(ActiveArguments),

    /// Delete keys.
    #[command(
        long_about = "Delete keys. They and their tokens are refused at once, and their Secrets \
                      go with them.",
        after_long_help = "\
Examples:
  kubectl zen key delete ci-main
  kubectl zen key delete ci-main --yes --wait"
    )]
    Delete(DeleteArguments),

    /// Have a deleted key back.
    #[command(
        long_about = "Make a deleted key again, while spec.policy.undoWindow of its ZenServer \
                      lasts. The same key text is accepted again.",
        after_long_help = "\
Examples:
  kubectl zen key list --retained
  kubectl zen key restore ci-main"
    )]
    Restore(RestoreArguments),

    /// Print a delivered key, to a terminal.
    #[command(
        long_about = "Print a key from the Secret that it was delivered to. It goes to a terminal \
                      only, unless --unsafe-output is given.",
        after_long_help = "\
Examples:
  kubectl zen key show ci-main
  # Into the secrets of a CI system that is not in the cluster:
  kubectl zen key show ci-main --unsafe-output | gh secret set ZENML_STORE_API_KEY"
    )]
    Show(show::KeyShow),

    /// Make a key without a cluster, and a manifest with its hash.
    #[command(
        long_about = "Make a key without a cluster. The key is shown once, on the terminal, or \
                      written to a file that only you can read. Standard output is a manifest with \
                      its hash, which is safe in Git: the key is 256 random bits, and neither Git \
                      nor the cluster ever has it.",
        after_long_help = "\
Examples:
  kubectl zen key new --offline --service-account ci --name laptop -n ml > laptop.yaml
  kubectl zen key new --offline --service-account ci --key-file laptop.key > laptop.yaml
  kubectl apply -f laptop.yaml"
    )]
    New(new::KeyNew),
}

/// `key list`.
#[derive(Clone, Debug, Args)]
pub struct KeyList {
    #[command(flatten)]
    list: ListArguments,

    /// Those that were deleted and can be had back, instead.
    #[arg(long, conflicts_with_all = ["all_namespaces", "selector", "output"])]
    retained: bool,

    /// Only those of this service account.
    #[arg(
        long,
        visible_alias = "sa",
        value_name = "NAME",
        conflicts_with = "retained"
    )]
    service_account: Option<String>,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If it fails, in words.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) if arguments.retained => {
                restore::list::<ZenAPIKey>(session).await
            }
            Self::List(arguments) => {
                let field = arguments.service_account.as_ref();
                let field = field.map(|name| format!("spec.serviceAccountRef.name={name}"));
                list::list::<ZenAPIKey>(session, &arguments.list, field).await
            }
            Self::Describe(arguments) => describe::describe::<ZenAPIKey>(session, arguments).await,
            Self::Create(arguments) => arguments.run(session).await,
            Self::Rotate(arguments) => arguments.run(session).await,
            Self::Activate(arguments) => active::activate::<ZenAPIKey>(session, arguments).await,
            Self::Deactivate(arguments) => {
                active::deactivate::<ZenAPIKey>(session, arguments).await
            }
            Self::Delete(arguments) => delete::delete::<ZenAPIKey>(session, arguments).await,
            Self::Restore(arguments) => restore::restore::<ZenAPIKey>(session, arguments).await,
            Self::Show(arguments) => arguments.run(session).await,
            Self::New(arguments) => arguments.run(session),
        }
    }
}

//! `kubectl zen sa`: service accounts.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Session,
    active::{self, ActivateArguments, ActiveArguments},
    arguments::{ListArguments, Patience, WriteArguments},
    create,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, yes_no},
    failure::Failure,
    list,
    noun::Noun,
    restore::{self, RestoreArguments},
    span::moment,
};
use crate::api::{DeletionPolicy, ZenServiceAccount};

/// Service accounts: the identities that keys belong to.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List service accounts.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen sa list
  kubectl zen sa list --retained
  kubectl zen sa list -A -o wide
  kubectl zen sa list --server prod -o name"
    )]
    List(AccountList),

    /// Tell all of some service accounts.
    #[command(after_long_help = "\
Examples:
  kubectl zen sa describe ci
  kubectl zen sa describe ci -o yaml")]
    Describe(DescribeArguments),

    /// Make a service account.
    #[command(
        long_about = "Make a service account. It can log in once it has a key: see \
                      `kubectl zen key create`.",
        after_long_help = "\
Examples:
  kubectl zen sa create ci
  kubectl zen sa create ci --server prod --description 'CI of the forecasting team' --wait
  # A file for Git instead of an object:
  kubectl zen sa create ci --server prod --dry-run=client -o yaml > ci.yaml"
    )]
    Create(Box<AccountCreate>),

    /// Let service accounts log in again.
    #[command(after_long_help = "\
Examples:
  kubectl zen sa activate ci --wait")]
    Activate(ActivateArguments),

    /// Refuse service accounts, all their keys and all their tokens, at once.
    #[command(
        long_about = "Refuse service accounts at once: every key of theirs, and every token \
                      already issued. Nothing is lost: `kubectl zen sa activate` restores them.\n\n\
                      It works without the operator, as the servers watch the accounts \
                      themselves; --wait waits for the operator to confirm it. An account that \
                      Flux, Argo CD or Helm manages is deactivated too, with a warning on how to \
                      make it last.",
        after_long_help = "\
Examples:
  kubectl zen sa deactivate ci
  kubectl zen sa deactivate ci nightly --wait"
    )]
    Deactivate(ActiveArguments),

    /// Delete service accounts.
    #[command(
        long_about = "Delete service accounts. Their keys and tokens are refused at once, and \
                      stay dead when an account of the same name is made again.",
        after_long_help = "\
Examples:
  kubectl zen sa delete ci
  kubectl zen sa delete ci --yes --wait"
    )]
    Delete(DeleteArguments),

    /// Have a deleted service account back.
    #[command(
        long_about = "Make a deleted service account again, while spec.policy.undoWindow of its ZenServer \
                      lasts. Its id is the one that it had, and its keys are accepted again.",
        after_long_help = "\
Examples:
  kubectl zen sa list --retained
  kubectl zen sa restore ci"
    )]
    Restore(RestoreArguments),
}

/// `sa list`.
#[derive(Clone, Debug, Args)]
pub struct AccountList {
    #[command(flatten)]
    list: ListArguments,

    /// Those that were deleted and can be had back, instead.
    #[arg(long, conflicts_with_all = ["all_namespaces", "selector", "output"])]
    retained: bool,

    /// Only those of this ZenServer.
    #[arg(long, conflicts_with = "retained")]
    server: Option<String>,
}

/// `sa create`.
#[derive(Clone, Debug, Args)]
pub struct AccountCreate {
    /// The account's name.
    name: String,

    /// The ZenServer it belongs to. Default: the only one of the namespace.
    #[arg(long)]
    server: Option<String>,

    /// Its name in ZenML, if that is another.
    #[arg(long, value_name = "NAME")]
    zenml_name: Option<String>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Let it manage service accounts and API keys through ZenML's API.
    #[arg(long)]
    admin: bool,

    /// From when on it may log in: 2027-03-31, or 2027-03-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    valid_from: Option<Timestamp>,

    /// When its keys and tokens die: 2027-03-31, or 2027-03-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<Timestamp>,

    #[command(flatten)]
    write: WriteArguments,

    /// Wait until it is set up.
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    patience: Patience,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If it fails, in words.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) if arguments.retained => {
                restore::list::<ZenServiceAccount>(session).await
            }
            Self::List(arguments) => {
                let field = arguments.server.as_ref();
                let field = field.map(|name| format!("spec.serverRef.name={name}"));
                list::list::<ZenServiceAccount>(session, &arguments.list, field).await
            }
            Self::Describe(arguments) => {
                describe::describe::<ZenServiceAccount>(session, arguments).await
            }
            Self::Create(arguments) => arguments.run(session).await,
            Self::Activate(arguments) => {
                active::activate::<ZenServiceAccount>(session, arguments).await
            }
            Self::Deactivate(arguments) => {
                active::deactivate::<ZenServiceAccount>(session, arguments).await
            }
            Self::Delete(arguments) => {
                delete::delete::<ZenServiceAccount>(session, arguments).await
            }
            Self::Restore(arguments) => {
                restore::restore::<ZenServiceAccount>(session, arguments).await
            }
        }
    }
}

impl AccountCreate {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let patience = self.wait.then_some(&self.patience);
        let (name, server) = (&*self.name, self.server.as_deref());
        let spec = |server: &str| self.spec(server);
        create::create::<ZenServiceAccount>(session, name, server, spec, &self.write, patience)
            .await
    }

    /// What was asked for and nothing else: what has a default is the API server's to fill in.
    fn spec(&self, server: &str) -> Value {
        let mut spec = Map::new();
        spec.insert("serverRef".into(), json!({"name": server}));
        let fields = [
            ("name", self.zenml_name.clone().map(Value::from)),
            ("description", self.description.clone().map(Value::from)),
            ("isAdmin", self.admin.then_some(Value::from(true))),
            ("validFrom", self.valid_from.map(|t| t.to_string().into())),
            ("expiresAt", self.expires_at.map(|t| t.to_string().into())),
        ];
        let set = fields.into_iter().filter_map(|(k, v)| Some((k, v?)));
        spec.extend(set.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(spec)
    }
}

impl Noun for ZenServiceAccount {
    const NOUN: &'static str = "sa";
    const DELETED: &'static str = "Its keys and tokens are refused at once.";

    fn is_active(&self) -> bool {
        self.spec.active
    }

    fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Server", &*spec.server_ref.name);
        page.field("Name in ZenML", self.zenml_name());
        page.optional("Description", Some(&*spec.description));
        page.field("Active", yes_no(spec.active));
        page.field("Admin", yes_no(spec.is_admin));
        page.time("Valid from", spec.valid_from.as_ref());
        page.time("Expires", spec.expires_at.as_ref());
        let Some(status) = &self.status else { return };
        page.optional("Account id", status.account_id.clone());
        let (active, total) = (status.keys.active, status.keys.total);
        page.field("Keys", format!("{active} of {total} may log in"));
        page.time("Next key expires", status.next_expiry_time.as_ref());
        page.time("Last login", status.last_authenticated_time.as_ref());
    }
}

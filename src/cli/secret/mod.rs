//! `kubectl zen secret`: what a server's people and workloads share.

mod backup;
mod seal;
mod show;
mod unseal;
mod values;
mod write;

use clap::{Args, Subcommand};

use self::{
    backup::{SecretBackup, SecretRestore},
    seal::Seal,
    show::{SecretExport, SecretGet},
    unseal::Unseal,
    write::{SecretCreate, SecretRename, SecretUpdate},
};
pub use self::{
    seal::{recipient, sealed},
    values::{Values, object, with_entries},
};
use super::{
    Session,
    arguments::ListArguments,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, word, yes_no},
    failure::Failure,
    list,
    noun::Noun,
    span::relative,
};
use crate::api::{DeletionPolicy, ZenSecret};

/// Secrets: values that people and workloads share, without plaintext in Git.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List secrets.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen secret list
  kubectl zen secret list -A -o wide"
    )]
    List(SecretList),

    /// Tell all of some secrets but their values.
    #[command(after_long_help = "\
Examples:
  kubectl zen secret describe mlflow-login")]
    Describe(DescribeArguments),

    /// Print the values of a secret, or one of them.
    #[command(
        long_about = "Print the values of a secret, or one of them as it is. They are read from the \
                      Secret that the operator delivered, with your own rights.",
        after_long_help = "\
Examples:
  kubectl zen secret get mlflow-login
  kubectl zen secret get mlflow-login password --unsafe-output | pbcopy"
    )]
    Get(SecretGet),

    /// Write the values of a secret to a file, as YAML that `create --values` takes.
    #[command(after_long_help = "\
Examples:
  kubectl zen secret export mlflow-login --filename mlflow-login.yaml")]
    Export(SecretExport),

    /// Make a secret.
    #[command(
        long_about = "Make a secret of the values that you give. They are sealed here, for the key \
                      of the server: what is sent, and kept in the custom resource, only the \
                      operator can read.\n\n\
                      What stands on a command line is kept by shells and shown by ps: use a file, \
                      or --interactive.",
        after_long_help = "\
Examples:
  kubectl zen secret create mlflow-login --username=ana --password=@password.txt --wait
  kubectl zen secret create mlflow-login --values '{\"username\": \"ana\"}'
  kubectl zen secret create mlflow-login --values @login.yaml
  kubectl zen secret create mlflow-login --interactive
  kubectl zen secret create token --private --owner ana -i"
    )]
    Create(Box<SecretCreate>),

    /// Add, change or remove entries of a secret, or change who may read it.
    #[command(after_long_help = "\
Examples:
  kubectl zen secret update mlflow-login --password=@password.txt
  kubectl zen secret update mlflow-login --remove username
  kubectl zen secret update token --public")]
    Update(Box<SecretUpdate>),

    /// Give a secret another name in ZenML, by which it is referred to.
    #[command(after_long_help = "\
Examples:
  kubectl zen secret rename mlflow-login mlflow")]
    Rename(SecretRename),

    /// Write a manifest that is safe in Git.
    #[command(
        long_about = "Write a ZenSecret whose values only the operator of one server can read, to \
                      standard output. Nothing is changed in the cluster; with --server and \
                      --recipient none is needed.\n\n\
                      Each value is good for its entry of this name alone: who copies it elsewhere \
                      has nothing.",
        after_long_help = "\
Examples:
  kubectl zen secret seal mlflow-login --password=@password.txt > mlflow-login.yaml
  kubectl zen secret seal mlflow-login -i --server prod --recipient age1... > mlflow-login.yaml"
    )]
    Seal(Box<Seal>),

    /// Open what was sealed, or check that it can be opened.
    #[command(
        long_about = "Open the sealed values of a manifest with the keys of its server, and print \
                      them; or, with --verify, only say whether all of them can be opened. The keys \
                      are in Secret SERVER-sealing, which you need the right to read, or in a backup \
                      of its entry keys.txt.",
        after_long_help = "\
Examples:
  kubectl zen secret unseal --verify -f mlflow-login.yaml
  kubectl zen secret unseal --keys keys.txt -f mlflow-login.yaml"
    )]
    Unseal(Unseal),

    /// Write all secrets with their values to a file that only you can open.
    #[command(
        long_about = "Write all secrets of the namespace with their values to an age file, for a \
                      key pair of your own (age-keygen). It takes the right to read the Secrets that \
                      were delivered.",
        after_long_help = "\
Examples:
  kubectl zen secret backup --recipient age1... --filename secrets.age"
    )]
    Backup(SecretBackup),

    /// Make the secrets of a backup that are not there.
    #[command(
        long_about = "Make the secrets of a backup that are not there, of this server or another \
                      one; what is there stays as it is. What was sealed is sealed anew, what was \
                      drawn is the same again, and what comes from other Secrets comes from there.",
        after_long_help = "\
Examples:
  kubectl zen secret restore --identity key.txt --filename secrets.age"
    )]
    Restore(SecretRestore),

    /// Delete secrets.
    #[command(
        long_about = "Delete secrets, and what was delivered of them. One that something refers to \
                      stays until nothing does.",
        after_long_help = "\
Examples:
  kubectl zen secret delete mlflow-login
  kubectl zen secret delete mlflow-login --yes --wait"
    )]
    Delete(DeleteArguments),
}

/// `secret list`.
#[derive(Clone, Debug, Args)]
pub struct SecretList {
    #[command(flatten)]
    list: ListArguments,

    /// Only those of this ZenServer.
    #[arg(long)]
    server: Option<String>,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If it fails, in words.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => {
                let server = arguments.server.as_ref();
                let field = server.map(|name| format!("spec.serverRef.name={name}"));
                list::list::<ZenSecret>(session, &arguments.list, field).await
            }
            Self::Describe(arguments) => describe::describe::<ZenSecret>(session, arguments).await,
            Self::Get(arguments) => arguments.run(session).await,
            Self::Export(arguments) => arguments.run(session).await,
            Self::Create(arguments) => arguments.run(session).await,
            Self::Update(arguments) => arguments.run(session).await,
            Self::Rename(arguments) => arguments.run(session).await,
            Self::Seal(arguments) => arguments.run(session).await,
            Self::Unseal(arguments) => arguments.run(session).await,
            Self::Backup(arguments) => arguments.run(session).await,
            Self::Restore(arguments) => arguments.run(session).await,
            Self::Delete(arguments) => delete::delete::<ZenSecret>(session, arguments).await,
        }
    }
}

impl Noun for ZenSecret {
    const NOUN: &'static str = "secret";
    const DELETED: &'static str = "What was delivered of it goes too.";

    fn is_active(&self) -> bool {
        true
    }

    fn deletion_policy(&self) -> DeletionPolicy {
        // What is retained of one is its Secret; it is not made again itself.
        DeletionPolicy::Delete
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Server", &*spec.server_ref.name);
        page.field("Name in ZenML", self.zenml_name());
        page.field("Scope", word(spec.scope));
        let owner = spec.owner_ref.as_ref();
        page.optional(
            "Owner",
            owner.map(|o| format!("{} {}", word(o.kind), o.name)),
        );
        page.field("Immutable", yes_no(spec.immutable));
        let Some(status) = &self.status else { return };
        page.optional("Secret", status.secret_name.as_deref());
        page.time("Changed", status.last_changed_time.as_ref());
        let users = status.used_by.refs.iter();
        let mut users: Vec<_> = users
            .map(|user| format!("{} {}", user.kind, user.name))
            .collect();
        let more = i64::from(status.used_by.count) - users.len() as i64;
        if more > 0 {
            users.push(format!("{more} more"));
        }
        page.optional("Used by", Some(users.join(", ")));
        let now = page.now;
        let keys = status.keys.iter().map(|key| {
            vec![
                key.name.clone(),
                word(key.source),
                key.fingerprint.clone(),
                relative(key.last_changed_time.0, now),
            ]
        });
        page.table(
            "Keys",
            &["NAME", "SOURCE", "FINGERPRINT", "CHANGED"],
            keys.collect(),
        );
    }
}

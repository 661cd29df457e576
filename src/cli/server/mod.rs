//! `kubectl zen server`: what ZenML clients connect to.

mod client;
mod connect;
mod deploy;
mod logs;
mod status;
mod update;

use clap::Subcommand;
use kube::ResourceExt;

use super::{
    Session,
    arguments::ListArguments,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, word, yes_no},
    failure::{Exit, Failure},
    get::{self, GetArguments},
    list,
    noun::Noun,
};
use crate::api::{BackupMethod, Database, DatabaseType, MigrationStatus, ZenServer, annotation};

/// Servers: what ZenML clients connect to.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List servers.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen server list
  kubectl zen server list -A -o wide"
    )]
    List(ListArguments),

    /// Print servers as they are.
    #[command(after_long_help = "\
Examples:
  kubectl zen server get prod -o json")]
    Get(GetArguments),

    /// Tell all of some servers.
    #[command(after_long_help = "\
Examples:
  kubectl zen server describe prod")]
    Describe(DescribeArguments),

    /// Tell in a few lines where a server is and how it is.
    #[command(
        long_about = "Tell in a few lines where a server is, whether the zenml client of this machine \
                      is connected to it, and how it is, in ZenML's words: active, inactive, \
                      scaled_to_zero, pending_startup, pending_shutdown, error.",
        after_long_help = "\
Examples:
  kubectl zen server status prod"
    )]
    Status(status::Status),

    /// Make a server, and wait until it serves.
    #[command(
        long_about = "Make a server, and wait until it serves. With --image the ZenML server runs in \
                      its pods, with a SQLite on a volume of its own, or with a MySQL that is there \
                      already. What it can do besides, the fields of ZenServer say: \
                      `kubectl explain zenserver.spec`.",
        after_long_help = "\
Examples:
  kubectl zen server deploy prod --image zenmldocker/zenml-server:0.98.0 --url https://zenml.example.org
  # With a MySQL, which waits for its password: that is sealed for the server, so it comes second.
  kubectl zen server deploy prod --image zenmldocker/zenml-server:0.98.0 --replicas 2 --no-wait \\
    --mysql-host mysql.db.svc --mysql-username '{{db.user}}' --mysql-password '{{db.password}}'
  kubectl zen secret create db --server prod --user=zenml --password=@password.txt
  # A file for Git instead of an object:
  kubectl zen server deploy prod --dry-run=client -o yaml > prod.yaml"
    )]
    Deploy(Box<deploy::Deploy>),

    /// Change a server, and wait until it serves so.
    #[command(
        long_about = "Change what is named of a server and nothing else, and wait until it serves so. \
                      Another image migrates the database first, after a backup.",
        after_long_help = "\
Examples:
  kubectl zen server update prod --image zenmldocker/zenml-server:0.99.0
  kubectl zen server update prod --replicas 3 --no-wait
  kubectl zen server update prod --suspend"
    )]
    Update(Box<update::Update>),

    /// Delete servers; what they stored stays.
    #[command(
        visible_alias = "delete",
        after_long_help = "\
Examples:
  kubectl zen server remove prod
  kubectl zen server remove prod --yes --wait"
    )]
    Remove(DeleteArguments),

    /// Print the logs of a server: of all containers, and of the migration of its database.
    #[command(after_long_help = "\
Examples:
  kubectl zen server logs prod --since 10m
  kubectl zen server logs prod --follow --tail 20
  kubectl zen server logs prod --container migration")]
    Logs(logs::Logs),

    /// Connect the zenml client of this machine to a server.
    #[command(
        long_about = "Connect the zenml client of this machine to a server: runs `zenml login` with the \
                      server's address, and with the certificates in entry ca.crt of ConfigMap \
                      NAME-connection where there is one.",
        after_long_help = "\
Examples:
  kubectl zen server connect prod
  kubectl port-forward service/prod 8080:80 &
  kubectl zen server connect prod --url http://127.0.0.1:8080"
    )]
    Connect(connect::Connect),

    /// Disconnect the zenml client of this machine from a server, and end its device there.
    #[command(
        long_about = "Disconnect the zenml client of this machine from a server: runs `zenml logout`, \
                      which forgets the client's credentials, and deletes the ZenDevice that its \
                      login made, so that no copy of them is of use. If several devices may be it, \
                      they are listed and none is deleted.\n\n\
                      A client that was installed without its extra `local` cannot log out, of any \
                      release so far; its device is ended all the same.",
        after_long_help = "\
Examples:
  kubectl zen server disconnect prod
  kubectl zen server disconnect prod --url http://127.0.0.1:8080
  kubectl zen server disconnect prod --keep-device"
    )]
    Disconnect(connect::Disconnect),
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// As each command says.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => list::list::<ZenServer>(session, arguments, None).await,
            Self::Get(arguments) => get::get::<ZenServer>(session, arguments).await,
            Self::Describe(arguments) => describe::describe::<ZenServer>(session, arguments).await,
            Self::Status(arguments) => arguments.run(session).await,
            Self::Deploy(arguments) => arguments.run(session).await,
            Self::Update(arguments) => arguments.run(session).await,
            Self::Remove(arguments) => delete::delete::<ZenServer>(session, arguments).await,
            Self::Logs(arguments) => arguments.run(session).await,
            Self::Connect(arguments) => arguments.run(session).await,
            Self::Disconnect(arguments) => arguments.run(session).await,
        }
    }
}

/// Where a server is reached, as it says itself. `flag` is what to say instead.
///
/// # Errors
/// If it does not say so yet.
pub fn address(server: &ZenServer, flag: &str) -> Result<String, Failure> {
    let status = server.status.as_ref();
    let url = status.and_then(|status| status.url.clone());
    url.ok_or_else(|| {
        let message = format!(
            "ZenServer {} has no address yet; say {flag}",
            server.name_any()
        );
        Failure::new(Exit::NotFound, message)
    })
}

impl Noun for ZenServer {
    const NOUN: &'static str = "server";
    const DELETED: &'static str = "Its keys, devices and tokens are refused at once.";
    const OFF: &'static str = "suspend";

    fn is_active(&self) -> bool {
        !self.spec.suspend
    }

    fn left(&self) -> Option<String> {
        if self.spec.image.is_none() {
            let proof = "What proves them goes with it: they are never accepted again.";
            return Some(proof.to_owned());
        }
        let (data, backup) = (self.data_volume_name(), self.backup_volume_name());
        let dumped = self.spec.migration.backup == BackupMethod::Dump;
        let what = match &self.spec.database.mysql {
            None => format!("volume {data} with its database stays"),
            Some(mysql) => {
                let database = format!("database {} at {}", mysql.database, mysql.host);
                match dumped {
                    true => format!("{database} stays, and volume {backup} with its backup"),
                    false => format!("{database} stays"),
                }
            }
        };
        let (kept, restore) = (self.kept_secret_name(), annotation::RESTORE);
        let uid = self.uid().unwrap_or_default();
        Some(format!(
            "What it stored is kept: {what}, and what proves its keys in Secret {kept}. The next ZenServer of \
             this name goes on with both if it has the annotation {restore}={uid}."
        ))
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        page.optional("URL", status.url);
        page.optional("Internal URL", status.internal_url);
        page.optional("Image", spec.image.as_deref());
        page.optional("Release of zenop", status.version);
        page.field("Login", word(spec.auth.scheme));
        page.field("Suspended", yes_no(spec.suspend));
        let pods = format!(
            "{} of {} pods serve",
            status.ready_replicas, status.replicas
        );
        page.field("Replicas", pods);
        if spec.image.is_some() {
            page.field("Database", database(self, &spec.database));
            let schema = status.database.and_then(|database| database.schema);
            page.optional("Schema", schema);
            if let Some(last) = &status.last_migration {
                page.field("Last migration", migration(last));
                page.time("Migrated", last.finished_time.as_ref());
                page.optional("Backup", last.backup.as_deref());
            }
        }
        page.field("Signing keys", status.signing_keys.len().to_string());
        page.time("Next signing key", status.next_signing_key_time.as_ref());
        let sealed = status.sealing.map(|sealing| sealing.recipient);
        page.optional("Sealed for", sealed);
    }
}

fn database(server: &ZenServer, database: &Database) -> String {
    let kind = word(database.kind);
    match (&database.mysql, database.kind) {
        (Some(of), DatabaseType::Mysql) => {
            format!("{kind} {} at {}:{}", of.database, of.host, of.port)
        }
        _ => format!("{kind} on volume {}", server.data_volume_name()),
    }
}

fn migration(last: &MigrationStatus) -> String {
    let from = last.from.as_deref().unwrap_or("nothing");
    let to = last.to.as_deref().unwrap_or("nothing");
    format!(
        "{} from {from} to {to} by {}",
        word(last.result),
        last.image
    )
}

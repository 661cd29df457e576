//! `kubectl zen secret create`, `update` and `rename`.

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::{
    seal::{ScopeArguments, named, recipient, sealed, spec},
    values::{ValueArguments, Values},
};
use crate::{
    api::ZenSecret,
    auth::sealed::Recipient,
    cli::{
        Session,
        arguments::{DryRun, WaitArguments, WriteArguments},
        change::{Change, Consent},
        cluster::Cluster,
        create,
        failure::{Exit, Failure},
        noun::report,
        wait::{self, Goal},
    },
};

/// `secret create`.
#[derive(Clone, Debug, Args)]
pub struct SecretCreate {
    /// The secret's name.
    name: String,

    #[command(flatten)]
    values: ValueArguments,

    /// The ZenServer it belongs to. Default: the only one of the namespace.
    #[arg(long)]
    server: Option<String>,

    #[command(flatten)]
    scope: ScopeArguments,

    #[command(flatten)]
    write: WriteArguments,

    #[command(flatten)]
    wait: WaitArguments,
}

/// `secret update`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("readers").args(["private", "public"]))]
pub struct SecretUpdate {
    /// The secret's name.
    name: String,

    #[command(flatten)]
    values: ValueArguments,

    /// An entry to remove. May be repeated.
    #[arg(short, long, value_name = "KEY")]
    remove: Vec<String>,

    /// For all of the server.
    #[arg(long)]
    public: bool,

    #[command(flatten)]
    scope: ScopeArguments,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    override_owner: bool,

    #[command(flatten)]
    write: WriteArguments,

    #[command(flatten)]
    wait: WaitArguments,
}

/// `secret rename`.
#[derive(Clone, Debug, Args)]
pub struct SecretRename {
    /// The name of the object.
    name: String,

    /// Its new name in ZenML. The object keeps its own.
    new_name: String,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    override_owner: bool,

    #[command(flatten)]
    write: WriteArguments,

    #[command(flatten)]
    wait: WaitArguments,
}

impl SecretCreate {
    /// Makes it.
    ///
    /// # Errors
    /// If a value cannot be taken, there is a secret of that name, or it is refused.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        named(&self.name)?;
        let values = self.values.read(session.out)?;
        let cluster = session.cluster().await?;
        let (server, to) = recipient(&cluster, self.server.as_deref()).await?;
        let entries = sealed(&to, &self.name, &values)?;
        let spec = |server: &str| spec(server, &self.scope, entries);
        let patience = self.wait.wait.then_some(&self.wait.patience);
        let (name, server) = (&*self.name, Some(&*server));
        create::create::<ZenSecret>(session, name, server, spec, &self.write, patience).await
    }
}

impl SecretUpdate {
    /// Changes it.
    ///
    /// # Errors
    /// If there is nothing to change, an entry is not there, or it is refused.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let values = self.values.read(session.out)?;
        let fields: Map<String, Value> = self
            .scope
            .fields()
            .chain(self.public.then(|| ("scope", json!("Workspace"))))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        if values.is_empty() && self.remove.is_empty() && fields.is_empty() {
            return Err(Failure::usage(
                "nothing to change: give entries, --remove, --private or --public",
            ));
        }
        if let Some(both) = self.remove.iter().find(|key| values.contains_key(*key)) {
            return Err(Failure::usage(format!("{both} is both given and removed")));
        }
        let cluster = session.cluster().await?;
        let found = cluster.read::<ZenSecret>(&self.name).await?.typed;
        let (_, to) = recipient(&cluster, Some(&found.spec.server_ref.name)).await?;
        let mut spec = fields;
        if !values.is_empty() || !self.remove.is_empty() {
            let data = self.merged(&cluster, &found, &to, &values)?;
            spec.insert("data".to_owned(), data);
        }
        let before = found.spec.data.clone();
        let unchanged = |now: &ZenSecret| match now.spec.data == before {
            true => Ok(true),
            false => Err(Failure::new(
                Exit::Conflict,
                "somebody else changed its entries meanwhile; see them, and try again",
            )),
        };
        let change = Change {
            patch: json!({"spec": spec}),
            file: "spec:\n  data: # see kubectl zen secret seal".to_owned(),
            consent: Consent::of(self.override_owner),
            dry: self.write.dry_run,
        };
        let (found, _) = change
            .make(session, &cluster, &self.name, unchanged)
            .await?;
        waited(
            session,
            &cluster,
            &self.name,
            &self.wait,
            self.write.dry_run,
        )
        .await?;
        report(session, &self.write, &found.raw, "changed")
    }

    /// The entries as they are to be: those that are given replace others of their name.
    fn merged(
        &self,
        cluster: &Cluster,
        found: &ZenSecret,
        to: &Recipient,
        values: &Values,
    ) -> Result<Value, Failure> {
        let is_there = |key: &String| found.spec.data.iter().any(|entry| entry.key == *key);
        if let Some(unknown) = self.remove.iter().find(|key| !is_there(key)) {
            let title = cluster.title::<ZenSecret>(&self.name);
            return Err(Failure::new(
                Exit::NotFound,
                format!("{title} has no entry {unknown}"),
            ));
        }
        let kept =
            found.spec.data.iter().filter(|entry| {
                !self.remove.contains(&entry.key) && !values.contains_key(&entry.key)
            });
        let mut data: Vec<Value> = kept
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        data.extend(sealed(to, &self.name, values)?);
        Ok(Value::Array(data))
    }
}

impl SecretRename {
    /// Renames it.
    ///
    /// # Errors
    /// If it is not there or it is refused.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let change = Change {
            patch: json!({"spec": {"name": self.new_name}}),
            file: format!("spec:\n  name: {:?}", self.new_name),
            consent: Consent::of(self.override_owner),
            dry: self.write.dry_run,
        };
        let needed = |now: &ZenSecret| Ok(now.zenml_name() != self.new_name);
        let (found, _) = change.make(session, &cluster, &self.name, needed).await?;
        waited(
            session,
            &cluster,
            &self.name,
            &self.wait,
            self.write.dry_run,
        )
        .await?;
        let said = format!("is called {:?} in ZenML", self.new_name);
        report(session, &self.write, &found.raw, &said)
    }
}

async fn waited(
    session: &Session,
    cluster: &Cluster,
    name: &str,
    wait: &WaitArguments,
    dry: DryRun,
) -> Result<(), Failure> {
    if wait.wait && dry == DryRun::None {
        let goal = Goal::ready();
        wait::until::<ZenSecret>(session, cluster, name, &goal, &wait.patience).await?;
    }
    Ok(())
}

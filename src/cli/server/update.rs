//! `kubectl zen server update`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::deploy::Shape;
use crate::{
    api::ZenServer,
    cli::{
        Session,
        arguments::{DryRun, Patience, WriteArguments},
        change::{Change, Consent},
        failure::{Exit, Failure},
        noun::report,
        wait::{self, Goal},
    },
};

/// Which server, and what is to change of it.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("timeout", |timeout| timeout.default_value("10m")))]
pub struct Update {
    /// The server's name.
    name: String,

    #[command(flatten)]
    shape: Shape,

    /// Let no pod run; data and keys are kept.
    #[arg(long, conflicts_with = "resume")]
    suspend: bool,

    /// Let pods run again.
    #[arg(long)]
    resume: bool,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    override_owner: bool,

    #[command(flatten)]
    write: WriteArguments,

    /// Do not wait until it serves so.
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    patience: Patience,
}

impl Update {
    /// Changes it.
    ///
    /// # Errors
    /// If nothing is to change, it is refused or managed elsewhere, or does not serve so in time.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let fields = self.fields()?;
        let patch = json!({"spec": fields});
        let file = serde_yaml_ng::to_string(&patch)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let change = Change {
            patch,
            file,
            consent: Consent::of(self.override_owner),
            dry: self.write.dry_run,
        };
        let cluster = session.cluster().await?;
        let differs = |server: &ZenServer| Ok(differs(server, &fields));
        let (mut found, changed) = change.make(session, &cluster, &self.name, differs).await?;
        if !self.no_wait && self.write.dry_run == DryRun::None {
            let goal = Goal::ready();
            wait::until::<ZenServer>(session, &cluster, &self.name, &goal, &self.patience).await?;
            found = cluster.read(&self.name).await?;
        }
        let said = match changed {
            true => "changed",
            false => "is so already",
        };
        report(session, &self.write, &found.raw, said)
    }

    fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = self.shape.fields();
        if self.suspend || self.resume {
            fields.insert("suspend".into(), self.suspend.into());
        }
        match fields.is_empty() {
            false => Ok(fields),
            true => Err(Failure::usage(
                "nothing is to change: say --image, --replicas, --url, --suspend or --resume",
            )),
        }
    }
}

fn differs(server: &ZenServer, fields: &Map<String, Value>) -> bool {
    let spec = json!(server.spec);
    fields
        .iter()
        .any(|(name, value)| spec.get(name) != Some(value))
}

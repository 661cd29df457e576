//! `kubectl zen key create`.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::show;
use crate::{
    api::ZenAPIKey,
    cli::{
        Session,
        arguments::{DryRun, Patience, UnsafeOutput, WriteArguments},
        cluster::{Cluster, Found, manifest},
        failure::Failure,
        noun::report,
        output::Stream,
        span::{Span, moment},
        wait::{self, Goal},
    },
};

/// What a key shall be like.
#[derive(Clone, Debug, Args)]
pub struct KeyCreate {
    /// The key's name.
    name: String,

    /// The service account it belongs to.
    #[arg(long, visible_alias = "sa", value_name = "NAME")]
    service_account: String,

    /// Its name in ZenML, if that is another.
    #[arg(long, value_name = "NAME")]
    zenml_name: Option<String>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// How long each key lives from its making: 90d.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_at")]
    ttl: Option<Span>,

    /// When it dies: 2027-03-31, or 2027-03-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<Timestamp>,

    /// How old a key may become before it is replaced: 30d.
    #[arg(long, value_name = "TIME")]
    rotate_every: Option<Span>,

    /// How long a replaced key is still accepted: 2h. Default: 1h.
    #[arg(long, value_name = "TIME")]
    retain: Option<Span>,

    /// The Secret to deliver it to. Default: the key's name and -key.
    #[arg(long, value_name = "NAME")]
    secret_name: Option<String>,

    #[command(flatten)]
    write: WriteArguments,

    /// Do not wait until the key is in its Secret.
    #[arg(long, conflicts_with = "show")]
    no_wait: bool,

    #[command(flatten)]
    patience: Patience,

    /// Print the key once it is there.
    #[arg(long, conflicts_with_all = ["output", "dry_run"])]
    show: bool,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

impl KeyCreate {
    /// Makes it.
    ///
    /// # Errors
    /// If it is refused or does not become Ready in time.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        if self.show {
            let instead = format!("leave --show out and use Secret {}", self.secret());
            session
                .out
                .may_show_key(Stream::Out, self.unsafe_output, &instead)?;
        }
        let cluster = session.cluster().await?;
        let dry = self.write.dry_run;
        let object = manifest::<ZenAPIKey>(&self.name, self.spec());
        let made = cluster.create::<ZenAPIKey>(object, dry).await?;
        if dry != DryRun::None || self.no_wait {
            return report(session, &self.write, &made.raw, "created");
        }
        let goal = Goal::ready();
        wait::until::<ZenAPIKey>(session, &cluster, &self.name, &goal, &self.patience).await?;
        let made = cluster.read::<ZenAPIKey>(&self.name).await?;
        self.tell(session, &cluster, &made).await
    }

    async fn tell(
        &self,
        session: &Session,
        cluster: &Cluster,
        made: &Found<ZenAPIKey>,
    ) -> Result<(), Failure> {
        report(session, &self.write, &made.raw, "created")?;
        if self.write.output.is_some() {
            return Ok(());
        }
        let secret = made.typed.secret_name();
        session.out.prose(&format!(
            "The key is in Secret {secret} of namespace {}. A container uses it with\n\n\
             \x20   envFrom:\n\
             \x20     - secretRef:\n\
             \x20         name: {secret}",
            cluster.namespace
        ))?;
        match self.show {
            false => Ok(()),
            true => {
                let key = show::delivered(cluster, &made.typed).await?;
                session.out.text("")?;
                session.out.key(Stream::Out, &key)
            }
        }
    }

    fn secret(&self) -> String {
        let default = || format!("{}-key", self.name);
        self.secret_name.clone().unwrap_or_else(default)
    }

    /// What was asked for and nothing else: what has a default is the API server's to fill in.
    fn spec(&self) -> Value {
        let mut spec = Map::new();
        spec.insert(
            "serviceAccountRef".into(),
            json!({"name": self.service_account}),
        );
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let span = |span: Option<Span>| span.map(|span| Value::from(span.to_string()));
        let delivery = fields([("secretName", text(&self.secret_name))]);
        let rotation = fields([
            ("interval", span(self.rotate_every)),
            ("retainFor", span(self.retain)),
        ]);
        let some = |object: Map<String, Value>| (!object.is_empty()).then_some(object.into());
        spec.extend(fields([
            ("name", text(&self.zenml_name)),
            ("description", text(&self.description)),
            ("ttl", span(self.ttl)),
            ("expiresAt", self.expires_at.map(|t| t.to_string().into())),
            ("delivery", some(delivery)),
            ("rotation", some(rotation)),
        ]));
        Value::Object(spec)
    }
}

/// The fields that are set.
pub fn fields<const N: usize>(all: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let set = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

//! `kubectl zen secret seal`.

use clap::Args;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::values::{ValueArguments, Values};
use crate::{
    api::{ZenSecret, ZenServer, is_object_name},
    auth::sealed::{Place, Recipient, seal},
    cli::{
        Session,
        arguments::ObjectForm,
        cluster::{Cluster, manifest},
        failure::{Exit, Failure},
    },
};

/// What is sealed, and for whom.
#[derive(Clone, Debug, Args)]
pub struct Seal {
    /// The name of the ZenSecret.
    name: String,

    #[command(flatten)]
    values: ValueArguments,

    /// The ZenServer it belongs to. Default: the only one of the namespace.
    #[arg(long)]
    server: Option<String>,

    /// What to seal for: status.sealing.recipient of the ZenServer. Default: what the cluster says.
    #[arg(long, value_name = "AGE", requires = "server")]
    recipient: Option<Recipient>,

    #[command(flatten)]
    scope: ScopeArguments,

    /// How to write it.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: ManifestForm,
}

/// How a manifest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ManifestForm {
    /// For people and Git.
    Yaml,
    /// For programs.
    Json,
}

/// Who may read a secret.
#[derive(Clone, Debug, Default, Args)]
pub struct ScopeArguments {
    /// For its owner alone, instead of all of the server.
    #[arg(long, requires = "owner")]
    pub private: bool,

    /// The ZenUser it belongs to, or the ZenServiceAccount with --owner-kind.
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,

    /// The kind of the owner.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "ZenUser",
        value_parser = ["ZenUser", "ZenServiceAccount"],
        requires = "owner"
    )]
    pub owner_kind: String,
}

impl ScopeArguments {
    /// The fields of the spec that say so.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let owner = self.owner.as_ref();
        let owner = owner.map(|name| json!({"kind": self.owner_kind, "name": name}));
        let scope = self.private.then(|| json!("User"));
        let fields = [("scope", scope), ("ownerRef", owner)];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }
}

impl Seal {
    /// Prints the manifest.
    ///
    /// # Errors
    /// If a value cannot be taken, or it is not known for whom to seal.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        named(&self.name)?;
        let values = self.values.read(session.out)?;
        let (server, recipient) = match (&self.server, &self.recipient) {
            (Some(server), Some(recipient)) => (server.clone(), recipient.clone()),
            (server, _) => recipient(&session.cluster().await?, server.as_deref()).await?,
        };
        let entries = sealed(&recipient, &self.name, &values)?;
        let spec = spec(&server, &self.scope, entries);
        let mut object: DynamicObject = manifest::<ZenSecret>(&self.name, spec);
        object.metadata.namespace = session.connection.namespace.clone();
        let form = match self.output {
            ManifestForm::Yaml => ObjectForm::Yaml,
            ManifestForm::Json => ObjectForm::Json,
        };
        session.out.object(form, &object)
    }
}

/// Whether a ciphertext for this name can be used: it is bound to it.
///
/// # Errors
/// If no object can have the name.
pub fn named(name: &str) -> Result<(), Failure> {
    match is_object_name(name) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{name:?} cannot be the name of an object: lower-case letters, digits and hyphens; a \
             name of any other kind in ZenML is given with `kubectl zen secret rename`"
        ))),
    }
}

/// The spec of a secret.
pub fn spec(server: &str, scope: &ScopeArguments, entries: Vec<Value>) -> Value {
    let mut spec = json!({"serverRef": {"name": server}, "data": entries});
    if let Value::Object(fields) = &mut spec {
        fields.extend(scope.fields().map(|(name, value)| (name.to_owned(), value)));
    }
    spec
}

/// The entries of a secret, each sealed for itself.
///
/// # Errors
/// If one cannot be sealed.
pub fn sealed(to: &Recipient, name: &str, values: &Values) -> Result<Vec<Value>, Failure> {
    let entry = |(key, value): (&String, &zeroize::Zeroizing<String>)| {
        let place = Place {
            object: name,
            entry: key,
        };
        let text = seal(to, &place, value.as_bytes());
        let text = text.map_err(|why| Failure::new(Exit::Failed, format!("{key}: {why}")))?;
        Ok(json!({"key": key, "encrypted": text}))
    };
    values.iter().map(entry).collect()
}

/// A server, and whom values are sealed for there.
///
/// # Errors
/// If it is not there, or has no key yet.
pub async fn recipient(
    cluster: &Cluster,
    server: Option<&str>,
) -> Result<(String, Recipient), Failure> {
    let name = match server {
        Some(server) => server.to_owned(),
        None => cluster.only_server().await?,
    };
    let title = format!("ZenServer {}/{name}", cluster.namespace);
    let found = cluster.core::<ZenServer>().get(&name).await;
    let found = found.map_err(|error| Failure::of(&format!("reading {title}"), &error))?;
    let status = found.status.as_ref();
    let recipient = status.and_then(|status| status.sealing.as_ref());
    let recipient = recipient.and_then(|sealing| sealing.recipient.parse().ok());
    let recipient = recipient.ok_or_else(|| {
        let message = format!(
            "{title} has no key to seal for yet; is zenop running? See kubectl describe zenserver \
             {name}"
        );
        Failure::new(Exit::Failed, message)
    })?;
    Ok((name, recipient))
}

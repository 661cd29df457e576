//! `kubectl zen secret get` and `export`.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use crate::{
    api::{ZenSecret, label},
    cli::{
        Session,
        arguments::UnsafeOutput,
        cluster::Cluster,
        failure::{Exit, Failure},
        output::Stream,
    },
};

/// Which values.
#[derive(Clone, Debug, Args)]
pub struct SecretGet {
    /// The secret's name.
    name: String,

    /// One entry, printed as it is.
    key: Option<String>,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

/// Where the values go.
#[derive(Clone, Debug, Args)]
pub struct SecretExport {
    /// The secret's name.
    name: String,

    /// A new file, which only you may read. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

/// Values by entry.
pub type Delivered = BTreeMap<String, Zeroizing<Vec<u8>>>;

impl SecretGet {
    /// Prints them.
    ///
    /// # Errors
    /// If they may not be shown here, or are not there.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let instead = "use the Secret that they are in";
        session
            .out
            .may_show_key(Stream::Out, self.unsafe_output, instead)?;
        let cluster = session.cluster().await?;
        let values = delivered(&cluster, &self.name).await?;
        let text = match &self.key {
            Some(key) => {
                let value = values.get(key).ok_or_else(|| {
                    let has: Vec<_> = values.keys().map(String::as_str).collect();
                    let title = cluster.title::<ZenSecret>(&self.name);
                    let message = format!("{title} has no entry {key}, but {}", has.join(", "));
                    Failure::new(Exit::NotFound, message)
                })?;
                Zeroizing::new(text(key, value)?.to_owned())
            }
            None => yaml(&values)?,
        };
        session.out.key(Stream::Out, &text)
    }
}

impl SecretExport {
    /// Writes them.
    ///
    /// # Errors
    /// If they may not be shown, are not there, or the file exists.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        if self.filename.is_none() {
            let instead = "say --filename";
            session
                .out
                .may_show_key(Stream::Out, self.unsafe_output, instead)?;
        }
        let cluster = session.cluster().await?;
        let text = yaml(&delivered(&cluster, &self.name).await?)?;
        let Some(path) = &self.filename else {
            return session.out.key(Stream::Out, &text);
        };
        new_file(path, text.as_bytes())?;
        let said = format!("{} has the values of {}", path.display(), self.name);
        session.out.prose(&said)
    }
}

/// Writes a new file that only its owner may read.
///
/// # Errors
/// If there is one, or it cannot be written.
pub fn new_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("writing {}: {error}", path.display()))
    };
    let mut new = OpenOptions::new();
    let file = new.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(failed)
}

fn text<'a>(key: &str, value: &'a [u8]) -> Result<&'a str, Failure> {
    str::from_utf8(value).map_err(|_| {
        let message = format!("the value of {key} is not text; see `kubectl get secret`");
        Failure::new(Exit::Failed, message)
    })
}

fn yaml(values: &Delivered) -> Result<Zeroizing<String>, Failure> {
    let texts = values
        .iter()
        .map(|(key, value)| Ok((&**key, text(key, value)?)));
    let texts: BTreeMap<&str, &str> = texts.collect::<Result<_, Failure>>()?;
    let text = serde_yaml_ng::to_string(&texts);
    let text = text.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(Zeroizing::new(text))
}

/// The values of a secret, from the Secret that the operator made for this very one: a Secret of the
/// same name may be somebody else's.
///
/// # Errors
/// If nothing was delivered, or it may not be read.
pub async fn delivered(cluster: &Cluster, name: &str) -> Result<Delivered, Failure> {
    let of = cluster.read::<ZenSecret>(name).await?.typed;
    let title = cluster.title::<ZenSecret>(name);
    let failed = |message: String| Failure::new(Exit::NotFound, format!("{title}: {message}"));
    let status = of.status.as_ref();
    let Some(at) = status.and_then(|status| status.secret_name.as_ref()) else {
        let see = format!("see `kubectl zen secret describe {name}`");
        return Err(failed(format!("nothing was delivered yet; {see}")));
    };
    let secret = cluster.core::<Secret>().get(at).await;
    let doing = format!("reading Secret {}/{at}", cluster.namespace);
    let secret = secret.map_err(|error| Failure::of(&doing, &error))?;
    if secret.labels().get(label::OWNER_UID) != of.metadata.uid.as_ref() {
        return Err(failed(format!("Secret {at} was not made for it")));
    }
    let keys = status.iter().flat_map(|status| &status.keys);
    let data = secret.data.unwrap_or_default();
    keys.map(|key| {
        let bytes = data.get(&key.name);
        let bytes = bytes.ok_or_else(|| failed(format!("Secret {at} lacks {}", key.name)))?;
        Ok((key.name.clone(), Zeroizing::new(bytes.0.clone())))
    })
    .collect()
}

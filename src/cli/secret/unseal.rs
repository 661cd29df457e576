//! `kubectl zen secret unseal`.

use std::{fs, path::PathBuf};

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    api::ZenSecret,
    auth::sealed::{OPENING_KEYS_ENTRY, OpeningKeys, Place},
    cli::{
        Session,
        arguments::UnsafeOutput,
        cluster::Cluster,
        failure::{Exit, Failure},
        output::Stream,
    },
};

/// What is opened, and with what.
#[derive(Clone, Debug, Args)]
pub struct Unseal {
    /// The file with the manifest; - for standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// Only say whether all of it can be opened.
    #[arg(long)]
    verify: bool,

    /// A file with the keys, as in entry keys.txt of Secret SERVER-sealing. Default: what the cluster
    /// has.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

impl Unseal {
    /// Opens it.
    ///
    /// # Errors
    /// If the file is none, the keys may not be read, or an entry cannot be opened.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        if !self.verify {
            let instead = "say --verify to check it only";
            session
                .out
                .may_show_key(Stream::Out, self.unsafe_output, instead)?;
        }
        let secrets = self.secrets()?;
        let mut bad = 0;
        let mut shown = Zeroizing::new(String::new());
        for secret in &secrets {
            let name = secret.metadata.name.clone().unwrap_or_default();
            let keys = self.opening_keys(session, secret).await?;
            for entry in &secret.spec.data {
                let Some(text) = &entry.encrypted else {
                    continue;
                };
                let place = Place {
                    object: &name,
                    entry: &entry.key,
                };
                match keys.open(&place, text) {
                    Ok(_) if self.verify => {}
                    Ok(value) => {
                        shown.push_str(&entry.key);
                        shown.push_str(": ");
                        shown.push_str(&String::from_utf8_lossy(&value));
                        shown.push('\n');
                    }
                    Err(why) => {
                        bad += 1;
                        let said = format!("ZenSecret {name}, entry {}: {why}", entry.key);
                        session.out.note(&said);
                    }
                }
            }
        }
        if bad > 0 {
            let message = match bad {
                1 => "one entry cannot be opened: seal it again".to_owned(),
                n => format!("{n} entries cannot be opened: seal them again"),
            };
            return Err(Failure::new(Exit::Failed, message));
        }
        match self.verify {
            true => session.out.text("all sealed entries can be opened"),
            false => session.out.key(Stream::Out, &shown),
        }
    }

    fn secrets(&self) -> Result<Vec<ZenSecret>, Failure> {
        let path = self.filename.display();
        let failed = |why: String| Failure::new(Exit::Failed, format!("reading {path}: {why}"));
        let text = match self.filename.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => fs::read_to_string(&self.filename),
        };
        let text = text.map_err(|error| failed(error.to_string()))?;
        let mut secrets = Vec::new();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = serde_yaml_ng::Value::deserialize(document);
            let value = value.map_err(|error| failed(error.to_string()))?;
            let kind = value.get("kind").and_then(serde_yaml_ng::Value::as_str);
            if kind == Some("ZenSecret") {
                let secret = serde_yaml_ng::from_value(value);
                secrets.push(secret.map_err(|error| failed(error.to_string()))?);
            }
        }
        match secrets.is_empty() {
            true => Err(failed("there is no ZenSecret in it".to_owned())),
            false => Ok(secrets),
        }
    }

    async fn opening_keys(
        &self,
        session: &Session,
        of: &ZenSecret,
    ) -> Result<OpeningKeys, Failure> {
        let (text, place) = match &self.keys {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| {
                    let message = format!("reading {}: {error}", path.display());
                    Failure::new(Exit::Failed, message)
                })?;
                (Zeroizing::new(text), path.display().to_string())
            }
            None => {
                let cluster = session.cluster().await?;
                kept(&cluster, &of.spec.server_ref.name).await?
            }
        };
        OpeningKeys::read(&text)
            .map_err(|why| Failure::new(Exit::Failed, format!("the keys in {place}: {why}")))
    }
}

async fn kept(cluster: &Cluster, server: &str) -> Result<(Zeroizing<String>, String), Failure> {
    let name = format!("{server}-sealing");
    let place = format!("Secret {}/{name}", cluster.namespace);
    let secret = cluster.core::<Secret>().get(&name).await;
    let secret = secret.map_err(|error| Failure::of(&format!("reading {place}"), &error))?;
    let data = secret.data.unwrap_or_default();
    let text = data.get(OPENING_KEYS_ENTRY);
    let text = text.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let text = text.ok_or_else(|| {
        let message = format!("{place} has no entry {OPENING_KEYS_ENTRY}");
        Failure::new(Exit::NotFound, message)
    })?;
    Ok((Zeroizing::new(text.to_owned()), place))
}

//! `kubectl zen secret backup` and `restore`: all secrets of a namespace with their values, in an age
//! file that only the holder of a key of one's own can open.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::PathBuf,
};

use age::{Decryptor, Encryptor, armor::ArmoredReader, x25519};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::PostParams, core::DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    seal::recipient,
    show::{delivered, new_file},
};
use crate::{
    api::{Adoption, ZenSecret, annotation},
    auth::sealed::{Place, Recipient, seal},
    cli::{
        Session,
        cluster::{Cluster, FIELD_MANAGER, Selection, manifest},
        failure::{Exit, Failure},
    },
};

/// What a backup begins with, so that another file is not taken for one.
const FORMAT: &str = "zenop.dev/backup/1";

/// For whom, and where to.
#[derive(Clone, Debug, Args)]
pub struct SecretBackup {
    /// The public key of who may open it, as `age-keygen` prints it. May be repeated.
    #[arg(long, value_name = "AGE", required = true)]
    recipient: Vec<Recipient>,

    /// A new file.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// Only the secrets of this ZenServer.
    #[arg(long)]
    server: Option<String>,
}

/// From where, and with what.
#[derive(Clone, Debug, Args)]
pub struct SecretRestore {
    /// The backup.
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// A file with the private key, as `age-keygen` writes it.
    #[arg(short, long, value_name = "FILE")]
    identity: PathBuf,

    /// The ZenServer that they are to belong to. Default: each the one that it belonged to.
    #[arg(long)]
    server: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Backup {
    format: String,
    secrets: Vec<Kept>,
}

/// A secret with its values.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    spec: Value,
    /// By entry, in Base64.
    values: BTreeMap<String, String>,
}

impl SecretBackup {
    /// Writes it.
    ///
    /// # Errors
    /// If one secret cannot be read: a backup that lacks one is none.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let server = self.server.as_ref();
        let wanted = Selection {
            field: server.map(|name| format!("spec.serverRef.name={name}")),
            ..Selection::default()
        };
        let mut secrets = Vec::new();
        for object in cluster.list::<ZenSecret>(&wanted).await? {
            let name = object.name_any();
            let values = delivered(&cluster, &name).await?;
            let encoded =
                |(key, value): (String, Zeroizing<Vec<u8>>)| (key, STANDARD.encode(value));
            secrets.push(Kept {
                name,
                spec: object.data.get("spec").cloned().unwrap_or_default(),
                values: values.into_iter().map(encoded).collect(),
            });
        }
        let count = secrets.len();
        let backup = Backup {
            format: FORMAT.to_owned(),
            secrets,
        };
        let text = serde_json::to_vec(&backup).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let sealed = self.encrypted(&text)?;
        new_file(&self.filename, &sealed)?;
        let said = format!(
            "{} has {count} secrets with their values",
            self.filename.display()
        );
        session.out.prose(&said)
    }

    fn encrypted(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = |why: String| Failure::new(Exit::Failed, format!("encrypting: {why}"));
        let keys: Vec<x25519::Recipient> = self
            .recipient
            .iter()
            .map(|key| {
                key.to_string()
                    .parse()
                    .map_err(|why: &str| failed(why.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let to = Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient));
        let to = to.map_err(|error| failed(error.to_string()))?;
        let mut sealed = Vec::new();
        let mut writer = to
            .wrap_output(&mut sealed)
            .map_err(|error| failed(error.to_string()))?;
        let written = writer.write_all(text).and_then(|()| writer.finish());
        written.map_err(|error| failed(error.to_string()))?;
        Ok(sealed)
    }
}

impl SecretRestore {
    /// Makes those that are not there. What is there stays as it is.
    ///
    /// # Errors
    /// If the file cannot be opened, or one cannot be made.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let backup = self.opened()?;
        let cluster = session.cluster().await?;
        let mut left = 0;
        for kept in &backup.secrets {
            match self.restored(&cluster, kept).await {
                Ok(()) => {
                    let said = format!("zensecret.zenop.dev/{} restored", kept.name);
                    session.out.prose(&said)?;
                }
                Err(failure) if failure.exit == Exit::Conflict => {
                    left += 1;
                    session.out.note(&format!("left alone: {failure}"));
                }
                Err(failure) => return Err(failure),
            }
        }
        if left > 0 {
            let done = backup.secrets.len() - left;
            session
                .out
                .note(&format!("{done} were restored, {left} were there"));
        }
        Ok(())
    }

    fn opened(&self) -> Result<Backup, Failure> {
        let path = self.filename.display();
        let failed = |why: &str| Failure::new(Exit::Failed, format!("opening {path}: {why}"));
        let read = |path: &PathBuf| {
            let failed = |error| {
                let message = format!("reading {}: {error}", path.display());
                Failure::new(Exit::Failed, message)
            };
            fs::read(path).map(Zeroizing::new).map_err(failed)
        };
        let keys = read(&self.identity)?;
        let keys = String::from_utf8_lossy(&keys);
        let lines = keys.lines().map(str::trim);
        let keys: Vec<x25519::Identity> = lines.filter_map(|line| line.parse().ok()).collect();
        if keys.is_empty() {
            let path = self.identity.display();
            let message = format!("{path} has no age secret key");
            return Err(Failure::new(Exit::Failed, message));
        }
        let sealed = read(&self.filename)?;
        let file = Decryptor::new_buffered(ArmoredReader::new(&sealed[..]));
        let file = file.map_err(|_| failed("it is no age file"))?;
        let content = file.decrypt(keys.iter().map(|key| key as &dyn age::Identity));
        let mut content = content.map_err(|_| failed("it is not for this key"))?;
        let mut text = Zeroizing::new(Vec::new());
        let read = content.read_to_end(&mut text);
        read.map_err(|_| failed("it was altered or cut off"))?;
        let backup: Option<Backup> = serde_json::from_slice(&text).ok();
        let backup = backup.filter(|backup| backup.format == FORMAT);
        backup.ok_or_else(|| failed("it is no backup of secrets"))
    }

    /// What was sealed is sealed anew, as the server may be another one; what was drawn is put where a
    /// ZenSecret takes it over.
    async fn restored(&self, cluster: &Cluster, kept: &Kept) -> Result<(), Failure> {
        let title = cluster.title::<ZenSecret>(&kept.name);
        let broken = || Failure::new(Exit::Failed, format!("{title}: the backup is broken"));
        let mut spec = kept.spec.clone();
        let server = self.server.as_deref();
        let server = server.or_else(|| spec.pointer("/serverRef/name")?.as_str());
        let (server, to) = recipient(cluster, Some(server.ok_or_else(broken)?)).await?;
        let mut values = BTreeMap::new();
        for (key, text) in &kept.values {
            let value = STANDARD.decode(text).map(Zeroizing::new);
            values.insert(key.clone(), value.map_err(|_| broken())?);
        }
        let fields = spec.as_object_mut().ok_or_else(broken)?;
        fields.insert("serverRef".to_owned(), json!({"name": server}));
        let entries = fields.get_mut("data").and_then(Value::as_array_mut);
        let mut draws = false;
        for entry in entries.into_iter().flatten() {
            let key = entry.get("key").and_then(Value::as_str).unwrap_or_default();
            let place = Place {
                object: &kept.name,
                entry: key,
            };
            draws |= entry.get("generate").is_some();
            if entry.get("encrypted").is_some() {
                let value = values.get(key).ok_or_else(broken)?;
                let text = seal(&to, &place, value);
                let text =
                    text.map_err(|why| Failure::new(Exit::Failed, format!("{key}: {why}")))?;
                *entry = json!({"key": key, "encrypted": text});
            }
        }
        if draws {
            fields.insert("adoption".to_owned(), json!(Adoption::IfUnowned));
        }
        let target = fields
            .get("target")
            .and_then(|target| target.get("secretName")?.as_str())
            .unwrap_or(&kept.name)
            .to_owned();
        let object: DynamicObject = manifest::<ZenSecret>(&kept.name, spec);
        if let Some(there) = there(cluster, &kept.name).await? {
            return Err(Failure::new(Exit::Conflict, there));
        }
        if draws {
            adoptable(cluster, &kept.name, &target, values).await?;
        }
        let dry = crate::cli::arguments::DryRun::None;
        cluster.create::<ZenSecret>(object, dry).await.map(drop)
    }
}

async fn there(cluster: &Cluster, name: &str) -> Result<Option<String>, Failure> {
    let title = cluster.title::<ZenSecret>(name);
    let found = cluster.api::<ZenSecret>().get_opt(name).await;
    let found = found.map_err(|error| Failure::of(&format!("reading {title}"), &error))?;
    Ok(found.map(|_| format!("{title} exists")))
}

/// The Secret that a ZenSecret is to take over with the values in it.
async fn adoptable(
    cluster: &Cluster,
    owner: &str,
    name: &str,
    values: BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> Result<(), Failure> {
    let mut secret = Secret::default();
    secret.metadata.name = Some(name.to_owned());
    let adopt = format!("{}/{owner}", cluster.namespace);
    secret.metadata.annotations = Some([(annotation::ADOPT.to_owned(), adopt)].into());
    let data = values
        .into_iter()
        .map(|(key, value)| (key, ByteString(value.to_vec())));
    secret.data = Some(data.collect());
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        dry_run: false,
    };
    let made = cluster.core::<Secret>().create(&parameters, &secret).await;
    let title = format!("Secret {}/{name}", cluster.namespace);
    match made {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Err(Failure::new(Exit::Conflict, format!("{title} exists")))
        }
        made => made
            .map(drop)
            .map_err(|error| Failure::of(&format!("creating {title}"), &error)),
    }
}

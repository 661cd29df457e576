//! `kubectl zen key new --offline`: a key that neither Git nor the cluster ever has.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::json;
use zeroize::Zeroizing;

use super::create::fields;
use crate::{
    api::ZenAPIKey,
    auth::api_key::{ApiKey, KeySecret},
    cli::{
        Session,
        arguments::{ObjectForm, UnsafeOutput},
        cluster::manifest,
        failure::{Exit, Failure},
        output::Stream,
        span::{Span, moment},
    },
};

/// Stands in the manifest for an account that was not named.
const NO_ACCOUNT: &str = "fill-in-the-service-account";

/// What the key shall be like.
#[derive(Clone, Debug, Args)]
pub struct KeyNew {
    /// Without a cluster. There is no other way: see `key create` for keys that the operator
    /// makes.
    #[arg(long, required = true)]
    offline: bool,

    /// The service account it belongs to. Default: to be filled in.
    #[arg(long, visible_alias = "sa", value_name = "NAME")]
    service_account: Option<String>,

    /// Its name. Default: `key-` and the beginning of its id.
    #[arg(long)]
    name: Option<String>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// How long it lives from the day it is applied: 90d.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_at")]
    ttl: Option<Span>,

    /// When it dies: 2027-03-31, or 2027-03-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<Timestamp>,

    /// Write the key to a new file that only you can read, instead of the terminal.
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,

    /// How to write the manifest.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: ObjectForm,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

impl KeyNew {
    /// Makes it.
    ///
    /// # Errors
    /// If there is no safe place for the key.
    pub fn run(&self, session: &Session) -> Result<(), Failure> {
        if self.key_file.is_none() {
            session.out.may_show_key(
                Stream::Err,
                self.unsafe_output,
                "give it a file with --key-file PATH",
            )?;
        }
        let key = drawn(session.random);
        let text = key.text();
        match &self.key_file {
            // First: a manifest of a key that nobody has is of no use.
            Some(path) => write_private(path, &text)?,
            None => {
                session.out.note("The key, shown this once:");
                session.out.key(Stream::Err, &text)?;
            }
        }
        if self.service_account.is_none() {
            session.out.note(
                "Fill in spec.serviceAccountRef.name of the manifest, or say --service-account.",
            );
        }
        let manifest = self.manifest(&key, session.connection.namespace.clone());
        session.out.object(self.output, &manifest)
    }

    fn manifest(&self, key: &ApiKey, namespace: Option<String>) -> DynamicObject {
        let id = key.id.to_string();
        let account = self.service_account.as_deref().unwrap_or(NO_ACCOUNT);
        let mut spec = fields([
            ("description", self.description.clone().map(Into::into)),
            ("ttl", self.ttl.map(|ttl| ttl.to_string().into())),
            ("expiresAt", self.expires_at.map(|t| t.to_string().into())),
        ]);
        spec.insert("serviceAccountRef".into(), json!({"name": account}));
        spec.insert(
            "source".into(),
            json!({
                "type": "Verifier",
                "verifier": {"keyId": id, "sha256": key.secret.digest().to_hex()},
            }),
        );
        spec.insert("delivery".into(), json!({"mode": "None"}));
        let default = || format!("key-{}", id.chars().take(8).collect::<String>());
        let name = self.name.clone().unwrap_or_else(default);
        let mut object = manifest::<ZenAPIKey>(&name, spec.into());
        object.metadata.namespace = namespace;
        object
    }
}

fn drawn(random: fn(&mut [u8])) -> ApiKey {
    let mut id = [0; 16];
    random(&mut id);
    let mut bytes = Zeroizing::new([0; 32]);
    random(&mut *bytes);
    ApiKey {
        id: uuid::Builder::from_random_bytes(id).into_uuid(),
        secret: KeySecret::from_random(&bytes),
    }
}

/// A file that was not there before and that nobody else can read, from its first byte on.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            Exit::Conflict,
            format!("{shown} exists already, and may hold a key; choose another file"),
        ),
        _ => Failure::new(Exit::Failed, format!("writing {shown}: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn counting(bytes: &mut [u8]) {
        for (n, byte) in (0..).zip(bytes) {
            *byte = n;
        }
    }

    #[test]
    fn a_drawn_key_is_random_and_its_id_a_uuid_of_version_4() {
        let key = drawn(counting);
        assert_eq!(
            key.id,
            Uuid::from_u128(0x0001_0203_0405_4607_8809_0a0b_0c0d_0e0f)
        );
        let wanted: Vec<u8> = (0..32).collect();
        let wanted = KeySecret::from_random(&wanted.try_into().unwrap());
        assert!(key.secret.digest() == wanted.digest());
    }

    #[test]
    fn a_file_is_private_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        write_private(&path, "one").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            write_private(&path, "two").unwrap_err().exit,
            Exit::Conflict
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    }
}

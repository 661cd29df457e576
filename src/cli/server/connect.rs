//! `kubectl zen server connect` and `disconnect`: the `zenml` client of this machine.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ListParams};

use super::{
    address,
    client::{self, Client, is_address},
};
use crate::{
    api::{ZenDevice, ZenServer},
    cli::{
        Session,
        arguments::DryRun,
        cluster::Cluster,
        delete,
        describe::word,
        failure::{Exit, Failure},
        table::aligned,
    },
};

/// The entry of ConfigMap `<name>-connection` with the certificates of who vouches for the server.
const CA_ENTRY: &str = "ca.crt";

/// Which server, and where it is reached.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The server's name.
    name: String,

    /// Where the server is reached from here, say behind kubectl port-forward. Default: as the
    /// ZenServer says.
    #[arg(long)]
    url: Option<String>,
}

/// `connect`.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    #[command(flatten)]
    place: Place,
}

/// `disconnect`.
#[derive(Clone, Debug, Args)]
pub struct Disconnect {
    #[command(flatten)]
    place: Place,

    /// Leave the ZenDevice as it is.
    #[arg(long)]
    keep_device: bool,
}

impl Place {
    async fn find(&self, cluster: &Cluster) -> Result<(ZenServer, String), Failure> {
        let server = cluster.read::<ZenServer>(&self.name).await?.typed;
        let url = match &self.url {
            Some(url) if is_address(url) => url.clone(),
            Some(url) => return Err(Failure::usage(format!("{url:?} is no URL of a server"))),
            None => address(&server, "--url")?,
        };
        Ok((server, url.trim_end_matches('/').to_owned()))
    }
}

impl Connect {
    /// Connects the client.
    ///
    /// # Errors
    /// If the server has no address, or the client is not there or refuses.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let (server, url) = self.place.find(&cluster).await?;
        let status = server.status.as_ref();
        let internal = status.and_then(|status| status.internal_url.as_deref());
        if self.place.url.is_none() && internal == Some(&*url) {
            let name = server.name_any();
            session.out.note(&format!(
                "{url} is reached in the cluster only; from elsewhere:\n  kubectl port-forward -n {} \
                 service/{name} 8080:80 &\n  kubectl zen server connect -n {} {name} --url \
                 http://127.0.0.1:8080",
                cluster.namespace, cluster.namespace
            ));
        }
        let ca = match url.starts_with("https://") {
            true => Certificates::of(session, &cluster, &server).await?,
            false => None,
        };
        let ca = ca.as_ref().map(|ca| ca.path.to_string_lossy());
        let mut arguments = vec!["login", &*url];
        if let Some(path) = &ca {
            arguments.extend(["--ssl-ca-cert", path]);
        }
        client::run(session, &arguments).await?;
        session.out.prose(&format!("zenml is connected to {url}"))
    }
}

/// The server's certificates in a file, for as long as this lives: the client copies them.
struct Certificates {
    path: PathBuf,
}

impl Certificates {
    async fn of(
        session: &Session,
        cluster: &Cluster,
        server: &ZenServer,
    ) -> Result<Option<Self>, Failure> {
        let name = format!("{}-connection", server.name_any());
        let found = cluster.core::<ConfigMap>().get_opt(&name).await;
        let doing = format!("reading ConfigMap {}/{name}", cluster.namespace);
        let found = found.map_err(|error| Failure::of(&doing, &error))?;
        let entries = found.and_then(|map| map.data).unwrap_or_default();
        let Some(text) = entries.get(CA_ENTRY) else {
            return Ok(None);
        };
        // A name that nobody can know before, as whoever made the file could say whom to trust.
        let mut random = [0; 16];
        (session.random)(&mut random);
        let file = format!("zenml-ca-{}.pem", hex::encode(random));
        let certificates = Self {
            path: std::env::temp_dir().join(file),
        };
        let written = write_private(&certificates.path, text);
        written.map_err(|error| {
            let path = certificates.path.display();
            Failure::new(Exit::Failed, format!("writing {path}: {error}"))
        })?;
        Ok(Some(certificates))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = fs::remove_file(&self.path);
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

impl Disconnect {
    /// Disconnects the client, and ends its device.
    ///
    /// # Errors
    /// If the client is connected elsewhere, not there or refuses; if devices may not be listed or
    /// deleted, or several may be its.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let (_, url) = self.place.find(&cluster).await?;
        let client = Client::read()?;
        elsewhere(&client, &url)?;
        // Looked up before, as the client forgets it.
        let devices = match self.keep_device {
            true => Vec::new(),
            false => devices(&cluster, &self.place.name, &client, &url).await?,
        };
        // What it cannot forget is to be of no use at least.
        let forgotten = client::run(session, &["logout", &url, "--clear"]).await;
        if forgotten.is_ok() {
            session
                .out
                .prose(&format!("zenml is disconnected from {url}"))?;
        }
        if !self.keep_device {
            end(session, &cluster, &devices).await?;
        }
        forgotten
    }
}

/// Ends the device of the client, if it can be told which that is.
async fn end(session: &Session, cluster: &Cluster, devices: &[ZenDevice]) -> Result<(), Failure> {
    match devices {
        [] => {
            session
                .out
                .note("No ZenDevice is this client's: it logged in otherwise, or not at all.");
            Ok(())
        }
        [device] => {
            delete::remove(cluster, device, DryRun::None).await?;
            let name = device.name_any();
            session
                .out
                .prose(&format!("zendevice.zenop.dev/{name} deleted"))
        }
        several => {
            session.out.prose(&listed(several))?;
            Err(Failure::new(
                Exit::Failed,
                "it cannot be told which of these devices is this client's, and none was deleted: \
                 delete it with `kubectl zen device delete NAME`",
            ))
        }
    }
}

/// `zenml logout` disconnects the client wherever it is connected to.
fn elsewhere(client: &Client, url: &str) -> Result<(), Failure> {
    let Some(other) = client.server.as_deref().filter(|_| !client.is_at(url)) else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Conflict,
        format!(
            "zenml is connected to {other}, and `zenml logout {url}` would end that. If that is this \
             server, say --url {other}; else go to this one first: zenml login {url}"
        ),
    ))
}

/// The devices that may be the client's: the one of its token, else all that it logged in as.
async fn devices(
    cluster: &Cluster,
    server: &str,
    client: &Client,
    url: &str,
) -> Result<Vec<ZenDevice>, Failure> {
    let wanted = ListParams::default().fields(&format!("spec.serverRef.name={server}"));
    let all = cluster.core::<ZenDevice>().list(&wanted).await;
    let all = all.map_err(|error| Failure::of("listing zendevices", &error))?;
    let token = client.device_at(url)?;
    let approved = |device: &&ZenDevice| {
        let of = device.spec.authorization.as_ref();
        of.is_some_and(|of| !of.denied)
    };
    let of_token = |device: &&ZenDevice| {
        let of = device.spec.authorization.as_ref();
        of.is_some_and(|of| Some(&of.device_id) == token.as_ref())
    };
    let of_client = |device: &&ZenDevice| Some(&device.spec.client_id) == client.id.as_ref();
    let approved: Vec<_> = all.iter().filter(approved).collect();
    let found: Vec<_> = approved.iter().copied().filter(of_token).cloned().collect();
    match found.is_empty() {
        false => Ok(found),
        true => Ok(approved.into_iter().filter(of_client).cloned().collect()),
    }
}

fn listed(devices: &[ZenDevice]) -> String {
    let heads = ["NAME", "USER", "HOST", "LAST USED"].map(str::to_owned);
    let row = |device: &ZenDevice| {
        let spec = &device.spec;
        let host = spec
            .authorization
            .as_ref()
            .and_then(|of| of.hostname.clone());
        let used = device
            .status
            .as_ref()
            .and_then(|status| status.last_used_time.as_ref());
        vec![
            device.name_any(),
            format!("{} {}", word(spec.user_ref.kind), spec.user_ref.name),
            host.unwrap_or_else(|| "-".to_owned()),
            used.map_or_else(|| "-".to_owned(), |at| at.0.to_string()),
        ]
    };
    let rows: Vec<_> = std::iter::once(heads.to_vec())
        .chain(devices.iter().map(row))
        .collect();
    aligned(&rows, 0)
}

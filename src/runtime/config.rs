//! Arguments and environment, read once.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::{self, ApiDuration};

/// Kubernetes operator and auth sidecar for ZenML.
#[derive(Debug, Parser)]
#[command(name = "zenop", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// How log lines look.
    #[arg(
        long,
        global = true,
        value_enum,
        env = "ZENOP_LOG_FORMAT",
        default_value = "json"
    )]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the cluster as the custom resources say.
    Operator(OperatorConfig),
    /// Be the front door of one ZenServer.
    Sidecar(SidecarConfig),
    /// Print the CustomResourceDefinitions, or write them to folders.
    Crds(CrdsConfig),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Args)]
pub struct CrdsConfig {
    /// A folder to write to, a file for each kind. May be given more than once.
    #[arg(long)]
    pub dir: Vec<PathBuf>,

    /// The file to write the API reference to.
    #[arg(long)]
    pub docs: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct OperatorConfig {
    /// The image of the servers' pods: this program's own.
    #[arg(long, env = "ZENOP_IMAGE")]
    pub image: String,

    /// When the servers' pods pull it: Always, IfNotPresent or Never.
    #[arg(long, env = "ZENOP_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,

    /// Watch only this namespace. Default: all.
    #[arg(long, env = "ZENOP_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// Where probes and metrics are served.
    #[arg(long, default_value = "[::]:8081")]
    pub admin_listen: SocketAddr,

    /// Our name in events and in the Lease: the pod's.
    #[arg(long, env = "POD_NAME", default_value = "zenop")]
    pub identity: String,

    #[command(flatten)]
    pub lease: LeaseArguments,

    /// How many ZenAPIKeys are worked on at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// The delay after a first failure.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub retry_base: Duration,

    /// The longest delay after failures.
    #[arg(long, default_value = "300s", value_parser = duration)]
    pub retry_cap: Duration,

    /// Every object is looked at again after this time at the latest.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub resync: Duration,

    /// Says that the API server encrypts Secrets where it stores them, which cannot be seen from here.
    #[arg(long)]
    pub secrets_encrypted_at_rest: bool,

    /// A metric for each ZenAPIKey, by namespace and name: when it dies.
    #[arg(long)]
    pub metrics_per_key: bool,
}

/// Of several operators one works: the holder of a Lease.
#[derive(Clone, Debug, Args)]
pub struct LeaseArguments {
    /// The namespace of the Lease: the pod's.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,

    /// Its name.
    #[arg(long, default_value = "zenop")]
    pub lease_name: String,

    /// How long others wait before they take it from one that fell silent.
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// How long after a renewal the holder still writes.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub renew_deadline: Duration,

    /// How often it is renewed, or tried for.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub retry_period: Duration,
}

#[derive(Clone, Debug, Args)]
pub struct SidecarConfig {
    /// Name of the ZenServer.
    #[arg(long, env = "ZENOP_SERVER")]
    pub server: String,

    /// Its namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// The file with the secret that this server has at its OIDC provider.
    #[arg(long)]
    pub client_secret_file: Option<PathBuf>,

    /// The ZenML server behind this one, which is asked what is not answered here. Default: none.
    #[arg(long)]
    pub upstream: Option<String>,

    /// The file with the certificate that clients are shown, and those of whoever signed it. It is
    /// read again when it changes. Default: none, and clients are served plain http.
    #[arg(long, requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// The file with the certificate's key.
    #[arg(long, requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,

    /// Where clients are served.
    #[arg(long, default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Where probes and metrics are served.
    #[arg(long, default_value = "[::]:8081")]
    pub admin_listen: SocketAddr,
}

/// A time as Kubernetes writes it; milliseconds too, for tests.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<ApiDuration>()?;
    if parsed.0.is_zero() {
        Err("must be longer than nothing".into())
    } else {
        Ok(parsed.0)
    }
}

/// Prints the definitions, or writes them and the reference to files.
pub fn write_crds(config: &CrdsConfig) -> anyhow::Result<()> {
    if let Some(file) = &config.docs {
        write(file, &api::reference())?;
    }
    for crd in api::all_crds() {
        let yaml = api::crd_yaml(&crd)?;
        if config.dir.is_empty() && config.docs.is_none() {
            println!("---\n{yaml}");
        }
        for dir in &config.dir {
            write(&dir.join(api::crd_file_name(&crd)), &yaml)?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

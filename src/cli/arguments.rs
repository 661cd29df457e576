//! The flags that several commands share.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::span::Span;

/// Which cluster, which namespace.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Connection {
    /// The namespace. Default: the kubeconfig context's.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,

    /// The context of the kubeconfig. Default: its current one.
    #[arg(long, global = true)]
    pub context: Option<String>,

    /// The kubeconfig file. Default: the KUBECONFIG variable, else ~/.kube/config.
    #[arg(long, global = true, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// Which objects to list, and how to show them.
#[derive(Clone, Debug, Args)]
pub struct ListArguments {
    /// Those of all namespaces, whatever -n says.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,

    /// Only those with these labels, such as team=forecasting.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,

    /// How to show them.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: ListForm,
}

/// How a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListForm {
    /// The columns of kubectl get.
    Table,
    /// More columns.
    Wide,
    /// A v1 List.
    Json,
    /// A v1 List.
    Yaml,
    /// kind/name, one a line.
    Name,
}

/// How one object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectForm {
    /// The object.
    Json,
    /// The object.
    Yaml,
    /// kind/name.
    Name,
}

/// How a change is made and shown.
#[derive(Clone, Debug, Args)]
pub struct WriteArguments {
    /// Show the object instead of a sentence.
    #[arg(short, long, value_enum)]
    pub output: Option<ObjectForm>,

    /// Change nothing: client only prints what would be sent, server has it checked there.
    #[arg(long, value_enum, default_value = "none", value_name = "MODE")]
    pub dry_run: DryRun,
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// It is made.
    None,
    /// It is not sent.
    Client,
    /// It is sent, checked, and not kept.
    Server,
}

impl DryRun {
    /// What a sentence about the change ends with.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// Whether to wait until the operator has done it, for commands that do not by themselves.
#[derive(Clone, Debug, Args)]
pub struct WaitArguments {
    /// Wait until the operator has done it.
    #[arg(long)]
    pub wait: bool,

    #[command(flatten)]
    pub patience: Patience,
}

/// How long to wait.
#[derive(Clone, Debug, Args)]
pub struct Patience {
    /// How long to wait at most: 30s, 5m, 1h.
    #[arg(long, default_value = "60s", value_name = "TIME")]
    pub timeout: Span,
}

impl Patience {
    /// The same as the standard library has it.
    pub const fn duration(&self) -> Duration {
        self.timeout.0
    }
}

/// Whether a key may be shown to what is not a terminal.
#[derive(Clone, Copy, Debug, Args)]
pub struct UnsafeOutput {
    /// Print the key also to what is not a terminal: a pipe, a file, the log of a CI job.
    #[arg(long)]
    pub unsafe_output: bool,
}

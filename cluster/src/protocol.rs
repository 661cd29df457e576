//! What the library and the supervisor process say to each other: one JSON value a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Options;

/// Asked of the supervisor, on its stdin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Do this to kube-apiserver.
    Apiserver(Act),
}

/// What can be done to a part of the cluster.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Act {
    /// Kill it, as a crash would.
    Stop,
    /// Start it again on the same port and data, and wait until it is ready.
    Start,
    /// Freeze it: connections stay open, nothing answers.
    Pause,
    /// Let it go on.
    Resume,
}

/// Said by the supervisor, on its stdout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The first answer: everything runs.
    Ready(Box<Running>),
    /// The request was done.
    Done,
    /// It was not, and why.
    Failed(String),
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The library's options.
    pub options: Options,
    /// Whether there should be a node with real containers.
    pub node: bool,
}

/// How to reach what the node keeps to itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inside {
    /// The node's network namespace.
    pub network: PathBuf,
    /// Names its DNS server.
    pub resolv_conf: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
}

/// A cluster that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The supervisor's process.
    pub supervisor: u32,
    /// What was asked for.
    pub wanted: Wanted,
    /// Its temporary folder.
    pub folder: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where kube-apiserver listens.
    pub server: String,
    /// The authority of its certificate.
    pub ca_pem: String,
    /// The audit log, if one was asked for.
    pub audit_log: Option<PathBuf>,
    /// A folder to put on `PATH`: the cluster's own kubectl, and helm if it is built.
    pub bin: PathBuf,
    /// Only with a node.
    pub inside: Option<Inside>,
}

//! A real local Kubernetes, built from Go modules, for tests and the demo.
//!
//! - [`shared`]: the control plane that all tests of one binary use; [`with_namespace`] gives a test its own corner of it.
//! - [`fault`]: a proxy before the API server that does harm on demand.
//! - [`ControlPlane::start`]: one of your own, for tests that stop or pause the API server.
//! - [`Node::start`]: real containers, for root on Linux; [`image`] makes what they run.
//! - The binary `zenop-cluster`: the same for people.
//!
//! A cluster lives in a process of its own, the supervisor, which tears everything down when the process that holds its
//! pipe ends. See `README.md` beside this crate.

mod audit;
mod cache;
mod certs;
mod control_plane;
mod dump;
pub mod fault;
mod folder;
pub mod image;
mod kubeconfig;
mod launch;
mod namespace;
mod node;
mod packages;
mod process;
mod progress;
mod protocol;
mod shared;
mod supervisor;
mod tools;

#[doc(hidden)]
pub mod cli;

use serde::{Deserialize, Serialize};

pub use control_plane::ControlPlane;
pub use dump::dump;
pub use kubeconfig::client as client_from;
pub use launch::tool;
pub use namespace::{TestNamespace, with_namespace};
pub use node::Node;
pub use shared::shared;

/// What a control plane should have beyond etcd, kube-apiserver and kube-controller-manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Write an audit log: one JSON event a line, at level Metadata, for every request when it is done.
    pub audit: bool,
    /// With `audit`: have in the log what was asked and answered too, at level RequestResponse, but for Secrets,
    /// ConfigMaps and tokens, which stay at level Metadata.
    pub audit_bodies: bool,
    /// Run kwok and one node, `kwok`: every pod is put there and turns Ready, though nothing runs.
    pub kwok: bool,
    /// Have helm beside kubectl in [`ControlPlane::bin`].
    pub helm: bool,
    /// More arguments for kube-apiserver. They come last, so they win over ours.
    pub apiserver_args: Vec<String>,
}

//! The programs that a cluster is made of, as Go modules pinned by `tools/<module>/go.mod` and `go.sum`.

mod build;
mod table;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

pub use build::{ensure, install};
pub use table::TOOLS;

/// What is built together, because it is needed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// etcd, kube-apiserver, kube-controller-manager and kubectl.
    ControlPlane,
    /// kwok: nodes that only pretend, whose pods turn Ready.
    Kwok,
    /// helm.
    Helm,
    /// What a node of real containers needs: containerd, kubelet, kube-proxy, kube-scheduler, CoreDNS.
    Node,
    /// An OpenID provider, for tests of logins at one.
    Oidc,
    /// age, by its author: what zenop seals is opened by it in tests, and the other way round.
    Age,
}

impl Group {
    /// The group's tools, in the order in which they build fastest.
    #[must_use]
    pub fn tools(self) -> Vec<&'static Tool> {
        TOOLS.iter().filter(|tool| tool.group == self).collect()
    }
}

/// One program and where it comes from.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its file name.
    pub name: &'static str,
    /// The group it belongs to.
    pub group: Group,
    module: &'static Module,
    package: &'static str,
    /// Measured on two idle cores with an empty build cache, in the order of [`TOOLS`].
    cold_seconds: u64,
    /// Whether the folder that `KUBEBUILDER_ASSETS` names has it.
    in_kubebuilder: bool,
}

/// A Go module of ours that does nothing but pin tools.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    linker_flags: &'static str,
}

impl Tool {
    /// Where the built tool lies: its name and a hash of what decides its bytes.
    fn cached(&self) -> Result<PathBuf> {
        Ok(crate::cache::bin()?.join(format!("{}-{}", self.name, self.module.hash())))
    }

    /// The user's own build of the tool, if `KUBEBUILDER_ASSETS` gives one.
    fn given(&self) -> Result<Option<PathBuf>> {
        let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|_| self.in_kubebuilder) else {
            return Ok(None);
        };
        let path = PathBuf::from(folder).join(self.name);
        if !path.is_file() {
            bail!(
                "KUBEBUILDER_ASSETS is set, but there is no {}: correct it, or unset it to build the tool",
                path.display()
            );
        }
        Ok(Some(path))
    }
}

impl Module {
    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, text) in self.files {
            hash.update(name);
            hash.update(text);
        }
        hash.update(self.linker_flags);
        hash.finalize()
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

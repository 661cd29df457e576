//! The programs that a cluster is made of, as Go modules pinned by `tools/<module>/go.mod` and `go.sum`.

mod build;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

pub use build::{ensure, install};

/// What is built together, because it is needed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// etcd, kube-apiserver, kube-controller-manager and kubectl.
    ControlPlane,
    /// kwok: nodes that only pretend, whose pods turn Ready.
    Kwok,
    /// helm.
    Helm,
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

macro_rules! module {
    ($name:literal, $flags:expr) => {
        Module {
            name: $name,
            files: &[
                (
                    "go.mod",
                    include_str!(concat!("../../tools/", $name, "/go.mod")),
                ),
                (
                    "go.sum",
                    include_str!(concat!("../../tools/", $name, "/go.sum")),
                ),
            ],
            linker_flags: $flags,
        }
    };
}

static ETCD: Module = module!("etcd", "-s -w");
static KWOK: Module = module!("kwok", "-s -w");
static HELM: Module = module!("helm", "-s -w");
/// Without the version the API server calls itself v0.0.0, and Helm refuses charts with a `kubeVersion`.
static KUBERNETES: Module = module!(
    "kubernetes",
    "-s -w \
     -X k8s.io/component-base/version.gitVersion=v1.37.2 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
     -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2 \
     -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=37"
);

/// Every tool. Those that share packages follow each other, so that the build cache serves the later ones.
pub static TOOLS: &[Tool] = &[
    Tool {
        name: "etcd",
        group: Group::ControlPlane,
        module: &ETCD,
        package: "go.etcd.io/etcd/server/v3",
        cold_seconds: 40,
        in_kubebuilder: true,
    },
    Tool {
        name: "kube-apiserver",
        group: Group::ControlPlane,
        module: &KUBERNETES,
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        cold_seconds: 245,
        in_kubebuilder: true,
    },
    Tool {
        name: "kube-controller-manager",
        group: Group::ControlPlane,
        module: &KUBERNETES,
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        cold_seconds: 75,
        in_kubebuilder: false,
    },
    Tool {
        name: "kubectl",
        group: Group::ControlPlane,
        module: &KUBERNETES,
        package: "k8s.io/kubernetes/cmd/kubectl",
        cold_seconds: 21,
        in_kubebuilder: true,
    },
    Tool {
        name: "helm",
        group: Group::Helm,
        module: &HELM,
        package: "helm.sh/helm/v4/cmd/helm",
        cold_seconds: 94,
        in_kubebuilder: false,
    },
    Tool {
        name: "kwok",
        group: Group::Kwok,
        module: &KWOK,
        package: "sigs.k8s.io/kwok/cmd/kwok",
        cold_seconds: 62,
        in_kubebuilder: false,
    },
];

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

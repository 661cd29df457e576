//! Which tools there are, and from which modules they come.

use super::{Group, Module, Tool};

macro_rules! module {
    ($name:literal, [$($file:literal),+], $flags:expr) => {
        Module {
            name: $name,
            files: &[$(($file, include_str!(concat!("../../tools/", $name, "/", $file)))),+],
            linker_flags: $flags,
        }
    };
}

const STRIPPED: &str = "-s -w";

static ETCD: Module = module!("etcd", ["go.mod", "go.sum"], STRIPPED);
static KWOK: Module = module!("kwok", ["go.mod", "go.sum"], STRIPPED);
static HELM: Module = module!("helm", ["go.mod", "go.sum"], STRIPPED);
static CONTAINERD: Module = module!("containerd", ["go.mod", "go.sum"], STRIPPED);
static COREDNS: Module = module!("coredns", ["go.mod", "go.sum", "main.go"], STRIPPED);
static OIDC: Module = module!("oidc", ["go.mod", "go.sum", "main.go"], STRIPPED);
static AGE: Module = module!("age", ["go.mod", "go.sum"], STRIPPED);
static PAUSE: Module = module!("pause", ["go.mod", "main.go"], STRIPPED);
/// Without the version the API server calls itself v0.0.0, and Helm refuses charts with a `kubeVersion`.
static KUBERNETES: Module = module!(
    "kubernetes",
    ["go.mod", "go.sum"],
    "-s -w \
     -X k8s.io/component-base/version.gitVersion=v1.37.2 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
     -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2 \
     -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=37"
);

/// Every tool. Those that share packages follow each other, so that the build cache serves the later ones.
///
/// The seconds were measured on two idle cores with an empty build cache, in this order.
pub static TOOLS: &[Tool] = &[
    tool(
        Group::ControlPlane,
        &ETCD,
        "etcd",
        "go.etcd.io/etcd/server/v3",
        40,
    )
    .in_kubebuilder(),
    tool(
        Group::ControlPlane,
        &KUBERNETES,
        "kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        245,
    )
    .in_kubebuilder(),
    tool(
        Group::ControlPlane,
        &KUBERNETES,
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        75,
    ),
    tool(
        Group::ControlPlane,
        &KUBERNETES,
        "kubectl",
        "k8s.io/kubernetes/cmd/kubectl",
        21,
    )
    .in_kubebuilder(),
    tool(Group::Helm, &HELM, "helm", "helm.sh/helm/v4/cmd/helm", 94),
    tool(Group::Kwok, &KWOK, "kwok", "sigs.k8s.io/kwok/cmd/kwok", 62),
    tool(
        Group::Node,
        &KUBERNETES,
        "kube-scheduler",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        10,
    ),
    tool(
        Group::Node,
        &KUBERNETES,
        "kubelet",
        "k8s.io/kubernetes/cmd/kubelet",
        20,
    ),
    tool(
        Group::Node,
        &KUBERNETES,
        "kube-proxy",
        "k8s.io/kubernetes/cmd/kube-proxy",
        8,
    ),
    tool(
        Group::Node,
        &CONTAINERD,
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd",
        45,
    ),
    tool(
        Group::Node,
        &CONTAINERD,
        "containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        2,
    ),
    tool(
        Group::Node,
        &CONTAINERD,
        "ctr",
        "github.com/containerd/containerd/v2/cmd/ctr",
        4,
    ),
    tool(Group::Node, &COREDNS, "coredns", ".", 50),
    tool(Group::Node, &PAUSE, "pause", ".", 1),
    tool(Group::Oidc, &OIDC, "oidc-provider", ".", 30),
    tool(Group::Age, &AGE, "age", "filippo.io/age/cmd/age", 6),
];

const fn tool(
    group: Group,
    module: &'static Module,
    name: &'static str,
    package: &'static str,
    cold_seconds: u64,
) -> Tool {
    Tool {
        name,
        group,
        module,
        package,
        cold_seconds,
        in_kubebuilder: false,
    }
}

impl Tool {
    const fn in_kubebuilder(self) -> Self {
        Self {
            in_kubebuilder: true,
            ..self
        }
    }
}

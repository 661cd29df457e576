//! The command lines of a control plane.

use std::{
    ffi::OsString,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{kwok, node};
use crate::{
    certs::{self, file, private},
    folder::random_hex,
    kubeconfig,
    process::Spec,
    protocol::Wanted,
};

/// Everything that is settled before the first process starts.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cluster's folder.
    pub folder: PathBuf,
    /// Where built tools are found by their plain names.
    pub bin: PathBuf,
    /// Where kube-apiserver listens.
    pub server: String,
    /// The authority of its certificate.
    pub ca_pem: String,
    /// The port that kube-apiserver listens on.
    pub apiserver_port: u16,
    etcd: String,
    etcd_peer: String,
}

impl Site {
    /// Settles ports and writes keys, certificates, tokens and kubeconfig.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let [etcd, peer, apiserver] = free_ports()?;
        let names = [
            "127.0.0.1",
            "localhost",
            "10.96.0.1",
            "kubernetes.default.svc",
            "kubernetes.default",
            node::ADDRESS,
        ];
        let ca_pem = certs::write(folder, &names.map(String::from))?;
        let site = Self {
            folder: folder.into(),
            bin: folder.join("bin"),
            server: format!("https://127.0.0.1:{apiserver}"),
            ca_pem,
            apiserver_port: apiserver,
            etcd: format!("http://127.0.0.1:{etcd}"),
            etcd_peer: format!("http://127.0.0.1:{peer}"),
        };
        let token = random_hex::<32>()?;
        private(
            &site.folder.join("tokens.csv"),
            &format!("{token},admin,admin,\"system:masters\"\n"),
        )?;
        kubeconfig::write(&site.kubeconfig(), &site.server, &site.ca_pem, &token)?;
        private(&site.folder.join("kwok.yaml"), kwok::STAGES)?;
        for bodies in [false, true] {
            let policy = audit_policy(bodies).to_string();
            private(&site.folder.join(audit_policy_name(bodies)), &policy)?;
        }
        Ok(site)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Where the audit log is, if there is one.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// etcd, on memory's terms: its data is thrown away with the folder.
    pub fn etcd(&self) -> Spec {
        let args = vec![
            "--name=default".into(),
            self.path_flag("data-dir", "etcd"),
            "--unsafe-no-fsync".into(),
            format!("--listen-client-urls={}", self.etcd),
            format!("--advertise-client-urls={}", self.etcd),
            format!("--listen-peer-urls={}", self.etcd_peer),
            format!("--initial-advertise-peer-urls={}", self.etcd_peer),
            format!("--initial-cluster=default={}", self.etcd_peer),
            "--log-level=warn".into(),
        ];
        self.spec("etcd", args)
    }

    /// kube-apiserver, with the caller's own arguments last, where they win.
    pub fn apiserver(&self, wanted: &Wanted) -> Spec {
        let mut args = vec![
            format!("--etcd-servers={}", self.etcd),
            format!("--secure-port={}", self.apiserver_port),
            self.path_flag("tls-cert-file", file::SERVER.0),
            self.path_flag("tls-private-key-file", file::SERVER.1),
            self.path_flag("client-ca-file", file::CA),
            self.path_flag("token-auth-file", "tokens.csv"),
            "--authorization-mode=Node,RBAC".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            self.path_flag("service-account-key-file", file::ACCOUNTS.0),
            self.path_flag("service-account-signing-key-file", file::ACCOUNTS.1),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--allow-privileged=true".into(),
            "--profiling=false".into(),
        ];
        args.extend(if wanted.node {
            node::apiserver_args(self)
        } else {
            self.loopback_only()
        });
        if wanted.options.audit {
            let policy = audit_policy_name(wanted.options.audit_bodies);
            args.push(self.path_flag("audit-policy-file", policy));
            args.push(format!("--audit-log-path={}", self.audit_log().display()));
            // Megabytes. A test reads the whole log: it must not be rotated away.
            args.push("--audit-log-maxsize=4096".into());
        }
        args.extend(wanted.options.apiserver_args.iter().cloned());
        self.spec("kube-apiserver", args)
    }

    /// Without a node nobody but our own machine has to reach the API server.
    fn loopback_only(&self) -> Vec<String> {
        [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ]
        .map(String::from)
        .into()
    }

    /// kube-controller-manager, without the default limit of 20 requests a second: tests wait for it.
    pub fn controller_manager(&self, wanted: &Wanted) -> Spec {
        let mut args = vec![
            format!("--kubeconfig={}", self.kubeconfig().display()),
            self.path_flag("service-account-private-key-file", file::ACCOUNTS.1),
            self.path_flag("root-ca-file", file::CA),
            "--use-service-account-credentials=false".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ];
        if wanted.options.kwok {
            // It would find that kwok's node has no heartbeat, and evict its pods.
            args.push("--controllers=*,-node-lifecycle-controller".into());
        }
        self.spec("kube-controller-manager", args)
    }

    /// kwok, playing kubelet for every node there is.
    pub fn kwok(&self) -> Spec {
        let args = vec![
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--manage-all-nodes=true".into(),
            self.path_flag("config", "kwok.yaml"),
        ];
        self.spec("kwok", args)
    }

    /// One of the built tools.
    pub fn spec(&self, name: &'static str, args: Vec<String>) -> Spec {
        let program = self.bin.join(name).into_os_string();
        let args = args.into_iter().map(OsString::from);
        let command = std::iter::once(program).chain(args).collect();
        Spec {
            name,
            command,
            bin: self.bin.clone(),
        }
    }

    /// A flag that names a file of the cluster's folder.
    pub fn path_flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.folder.join(name).display())
    }
}

fn audit_policy_name(bodies: bool) -> &'static str {
    if bodies {
        "audit-policy-bodies.yaml"
    } else {
        "audit-policy.yaml"
    }
}

/// What the audit log says of a request: who asked what; with bodies, also what was said, but for what is secret by its
/// kind, as in the policy that Kubernetes recommends.
fn audit_policy(bodies: bool) -> Value {
    let secret = json!({"level": "Metadata", "resources": [
        {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
        {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
    ]});
    let rules = match bodies {
        true => json!([secret, {"level": "RequestResponse"}]),
        false => json!([{"level": "Metadata"}]),
    };
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"], "rules": rules,
    })
}

/// Loopback ports that nobody listens on.
///
/// They lie below the range from which the kernel takes ports for outgoing connections: one of those could otherwise sit
/// on kube-apiserver's port while it restarts.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    for _ in 0..1000 {
        let seed = u16::from_str_radix(&random_hex::<2>()?, 16).context("drawing a port")?;
        held.extend(TcpListener::bind(("127.0.0.1", 12_000 + seed % 20_000)));
        if held.len() == N {
            let ports: Vec<u16> = held
                .iter()
                .filter_map(|socket| Some(socket.local_addr().ok()?.port()))
                .collect();
            return ports.try_into().ok().context("reading the ports");
        }
    }
    bail!("no free loopback ports between 12000 and 32000")
}

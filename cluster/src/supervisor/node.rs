//! What makes a node of real containers: its settings, its programs, and the order in which they start.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::Command;

use super::components::Site;
use crate::{
    certs::{file, private},
    image,
    process::Spec,
    protocol::Inside,
};

/// The node's only address. It is also the gateway of every pod, and where DNS and the API server are.
pub const ADDRESS: &str = "10.244.0.1";
/// What the node is called.
pub const NAME: &str = "node";
const DOMAIN: &str = "cluster.local";
const PAUSE: &str = "zenop.dev/pause:1";

/// Readies the namespaces. Fresh file systems hide what programs insist on writing to, and the kernel settings that
/// kubelet would change for the whole machine look to it as if it had.
pub const SETUP: &str = "
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
ip link set lo up
ip address add 10.244.0.1/32 dev lo
ip route add 10.96.0.0/16 dev lo src 10.244.0.1
echo 1 > /proc/sys/net/ipv4/ip_forward
mkdir $folder/sysctl
pretend() {
    test -e /proc/sys/$1 || return 0
    echo $2 > $folder/sysctl/${1##*/}
    mount --bind $folder/sysctl/${1##*/} /proc/sys/$1
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000
";

/// Where Debian, other distributions and the plugins' own releases put them.
pub const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];

/// What the API server needs beyond a control plane's arguments.
pub fn apiserver_args(site: &Site) -> Vec<String> {
    vec![
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={ADDRESS}"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        site.path_flag("kubelet-client-certificate", file::KUBELET_CLIENT.0),
        site.path_flag("kubelet-client-key", file::KUBELET_CLIENT.1),
    ]
}

/// Where its parts are, seen from outside.
pub fn inside(site: &Site, network: PathBuf) -> Inside {
    Inside {
        network,
        resolv_conf: site.folder.join("resolv.conf"),
        containerd: socket(site),
    }
}

/// Writes the settings of all its programs.
pub fn write_settings(site: &Site) -> Result<()> {
    let save = |name: &str, text: &str| private(&site.folder.join(name), text);
    for folder in ["containerd", "cni", "kubelet"] {
        crate::cache::make(&site.folder.join(folder))?;
    }
    save("containerd/config.toml", &containerd_toml(&site.folder))?;
    save("cni/10-zenop.conflist", &cni().to_string())?;
    save(
        "kubelet/config.yaml",
        &kubelet_settings(&site.folder)?.to_string(),
    )?;
    save("kube-proxy.yaml", &kube_proxy_settings(site).to_string())?;
    save("Corefile", &corefile(site))?;
    save("empty", "")?;
    let search = format!("default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}");
    save(
        "resolv.conf",
        &format!("nameserver {ADDRESS}\nsearch {search}\noptions ndots:5\n"),
    )
}

/// containerd, to be started first.
pub fn containerd(site: &Site) -> Spec {
    let config = site.folder.join("containerd/config.toml");
    site.spec(
        "containerd",
        vec!["--config".into(), config.display().to_string()],
    )
}

/// The way from the machine's own loopback to the API server.
pub fn forward(site: &Site, network: &Path) -> Spec {
    let address = format!("127.0.0.1:{}", site.apiserver_port);
    let network = network.display().to_string();
    let args = [
        "/proc/self/exe",
        "forward",
        "--listen",
        &address,
        "--network",
        &network,
        "--to",
        &address,
    ];
    Spec {
        name: "forward",
        command: args.map(OsString::from).into(),
        bin: site.bin.clone(),
    }
}

/// Everything in the network alone.
pub fn in_network(site: &Site) -> Vec<Spec> {
    let kubeconfig = format!("--kubeconfig={}", site.kubeconfig().display());
    let scheduler = vec![
        kubeconfig,
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
    ];
    let corefile = site.folder.join("Corefile").display().to_string();
    vec![
        site.spec("kube-scheduler", scheduler),
        site.spec(
            "kube-proxy",
            vec![site.path_flag("config", "kube-proxy.yaml")],
        ),
        site.spec("coredns", vec!["-conf".into(), corefile]),
    ]
}

/// kubelet, once containerd answers and has the sandbox's image.
pub fn kubelet(site: &Site) -> Spec {
    let args = vec![
        format!("--kubeconfig={}", site.kubeconfig().display()),
        site.path_flag("config", "kubelet/config.yaml"),
        site.path_flag("root-dir", "kubelet"),
        site.path_flag("cert-dir", "kubelet/pki"),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={ADDRESS}"),
    ];
    site.spec("kubelet", args)
}

/// Gives containerd the image of the process that holds a pod together. Fails while containerd does not answer.
pub async fn load_pause(site: &Site) -> Result<()> {
    let archive = site.folder.join("pause.tar");
    if !archive.exists() {
        let pause = fs::canonicalize(site.bin.join("pause")).context("finding pause")?;
        image::save(&pause, PAUSE, "/pause", &archive)?;
    }
    let output = import(&site.bin, &socket(site), &archive)
        .output()
        .await
        .context("running ctr")?;
    if !output.status.success() {
        bail!(
            "loading an image: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The command that loads an archive of images.
pub fn import(bin: &Path, containerd: &Path, archive: &Path) -> Command {
    let mut command = Command::new(bin.join("ctr"));
    command
        .arg("--address")
        .arg(containerd)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive);
    command
}

/// Whether kubelet says that the node takes pods.
pub async fn is_ready(client: &Client) -> bool {
    let Ok(node) = Api::<Node>::all(client.clone()).get(NAME).await else {
        return false;
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether CoreDNS serves, which it says in its log once it knows the cluster's Services.
pub fn dns_answers(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.contains("CoreDNS-"))
}

fn socket(site: &Site) -> PathBuf {
    site.folder.join("containerd/containerd.sock")
}

/// `restrict_oom_score_adj` because without `CAP_SYS_RESOURCE`, which not every machine gives, no container starts.
fn containerd_toml(folder: &Path) -> String {
    let home = folder.join("containerd");
    let (home, folder) = (home.display(), folder.display());
    let cni = CNI_FOLDERS.map(|folder| format!("'{folder}'")).join(", ");
    format!(
        "version = 3
root = '{home}/root'
state = '{home}/state'
grpc.address = '{home}/containerd.sock'
ttrpc.address = '{home}/containerd.sock.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '{home}/opt'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{cni}]
conf_dir = '{folder}/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
"
    )
}

/// Each pod has a cable of its own to the node, which routes. A bridge would need br_netfilter, or a pod that reaches
/// another by a Service gets its answers from a stranger's address.
fn cni() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "zenop",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.244.0.0/24", "gateway": ADDRESS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet_settings(folder: &Path) -> Result<Value> {
    let cgroup = folder
        .file_name()
        .and_then(|name| name.to_str())
        .context("the folder has no name")?;
    Ok(json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": folder.join(file::CA) } },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "clusterDNS": [ADDRESS],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": format!("unix://{}/containerd/containerd.sock", folder.display()),
        "enforceNodeAllocatable": [],
        // A developer's disk may be nearly full.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "failCgroupV1": false,
        "failSwapOn": false,
        "healthzPort": 0,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "oomScoreAdj": 0,
        "podLogsDir": folder.join("logs/pods"),
        "resolvConf": folder.join("empty"),
        "volumePluginDir": folder.join("kubelet/volume-plugins"),
    }))
}

fn kube_proxy_settings(site: &Site) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": site.kubeconfig() },
        "clusterCIDR": "10.244.0.0/24",
        // The machine's own limits stay as they are.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "healthzBindAddress": "",
        "hostnameOverride": NAME,
        "metricsBindAddress": "",
        "mode": "nftables",
        "nftables": { "minSyncPeriod": "100ms" },
        "oomScoreAdj": 0,
    })
}

fn corefile(site: &Site) -> String {
    let kubeconfig = site.kubeconfig();
    format!(
        ".:53 {{
    bind {ADDRESS}
    errors
    kubernetes {DOMAIN} {{
        kubeconfig {}
        ttl 1
    }}
}}
",
        kubeconfig.display()
    )
}

//! The node: real containers, reached by name, and nothing of them left behind. For root on Linux.

mod common;

use std::{
    fs,
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use common::{await_end, holder, parts_of};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deployment_completed},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, from_value, json};
use tokio::time::timeout;
use zenop_cluster::{ControlPlane, Node, Options, client_from, dump, image};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "zenop.dev/hello:test";
const PARTS: [&str; 8] = [
    "containerd",
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
];

/// An archive with the image of `fixtures/hello.rs`, compiled once.
fn hello() -> Result<&'static Path> {
    static ARCHIVE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    archive
        .as_deref()
        .map_err(|reason| anyhow::anyhow!("no image: {reason}"))
}

fn compile() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (binary, archive) = (folder.join("hello"), folder.join("hello.tar"));
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition",
            "2024",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
        ])
        .args(["--target", &target, "-o"])
        .arg(&binary)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/hello.rs"
        ))
        .status()?;
    ensure!(status.success(), "rustc failed");
    image::build(&binary, IMAGE, &archive)?;
    Ok(archive)
}

/// Runs two pods of hello with a volume behind the Service `hello`, as restricted as can be, and waits until they are
/// Ready.
async fn deploy(client: &Client) -> Result<()> {
    let labels = json!({ "app": "hello" });
    let deployment = json!({
        "metadata": { "name": "hello" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "securityContext": {
                        "fsGroup": 1000, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "hello",
                        "image": IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["serve"],
                        "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
                        "resources": { "limits": { "memory": "32Mi", "cpu": "200m" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                    }],
                    "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "hello" } }],
                },
            },
        },
    });
    let service = json!({
        "metadata": { "name": "hello" },
        "spec": { "selector": labels, "ports": [{ "port": 8080 }] },
    });
    // Of no class by name, as people's claims are.
    let claim = json!({
        "metadata": { "name": "hello" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let params = PostParams::default();
    Api::<PersistentVolumeClaim>::default_namespaced(client.clone())
        .create(&params, &from_value(claim)?)
        .await?;
    Api::<Service>::default_namespaced(client.clone())
        .create(&params, &from_value(service)?)
        .await?;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments
        .create(&params, &from_value(deployment)?)
        .await?;
    let completed = await_condition(deployments, "hello", is_deployment_completed());
    if timeout(PATIENCE, completed).await.is_err() {
        anyhow::bail!(
            "hello did not become available\n{}",
            dump(client, "default").await
        );
    }
    Ok(())
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn pods_run_and_are_reached_by_name_from_pods_and_from_the_node() -> Result<()> {
    let started = Instant::now();
    let node = Node::start(Options::default()).await?;
    eprintln!("node ready in {:?}", started.elapsed());
    node.load_image(hello()?).await?;
    let client = node.client().await?;
    let deploying = Instant::now();
    deploy(&client).await?;
    eprintln!("two pods Ready in {:?}", deploying.elapsed());

    let pods = Api::<Pod>::default_namespaced(client)
        .list(&ListParams::default())
        .await?;
    let pod = pods.iter().next().context("no pod")?.name_any();
    let logs = stdout(node.command("kubectl")?.args(["logs", &pod]))?;
    assert_eq!(logs, format!("{pod} serves\n"));
    // The last name leads through a Service to one of the pods, at times the one that asks.
    for host in [
        "hello",
        "hello.default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
    ] {
        let hello = stdout(
            node.command("kubectl")?
                .args(["exec", &pod, "--", "/zenop", "fetch", host]),
        )?;
        ensure!(
            hello.starts_with("hello from hello-"),
            "a pod got {hello:?} from {host}"
        );
    }
    // Pods and their connections outlive an API server's crash.
    node.restart_apiserver().await?;
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hello");
    let hello = stdout(node.command(binary)?.args(["fetch", "hello.default.svc"]))?;
    ensure!(
        hello.starts_with("hello from hello-"),
        "the node got {hello:?}"
    );
    Ok(())
}

/// Beyond processes and folder: mounts and cgroups.
fn ensure_no_trace(folder: &Path) -> Result<()> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .context("no name")?;
    ensure!(
        !fs::read_to_string("/proc/self/mounts")?.contains(name),
        "a mount is left"
    );
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        ensure!(!hierarchy?.path().join(name).exists(), "a cgroup is left");
    }
    ensure!(
        !Path::new("/sys/fs/cgroup").join(name).exists(),
        "a cgroup is left"
    );
    Ok(())
}

/// Where the way into the node's network begins, as its kubeconfig says: `127.0.0.1:<port>`.
fn server(folder: &Path) -> Result<String> {
    let config: Value = serde_json::from_slice(&fs::read(folder.join("kubeconfig"))?)?;
    let url = config
        .pointer("/clusters/0/cluster/server")
        .and_then(Value::as_str)
        .context("no server")?;
    Ok(url.trim_start_matches("https://").to_owned())
}

#[tokio::test]
async fn the_holder_is_killed_while_pods_run() -> Result<()> {
    let settings = [
        "vm/overcommit_memory",
        "kernel/panic",
        "kernel/panic_on_oops",
        "net/ipv4/ip_forward",
    ];
    let kernel = || settings.map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).ok());
    let before = kernel();
    let (mut holder, folder, lock) = holder(&["--node"])?;
    let parts = parts_of(&folder);
    for part in PARTS {
        ensure!(
            parts.iter().any(|found| found == part),
            "no {part} among {parts:?}"
        );
    }
    let ctr = folder.join("bin/ctr");
    let socket = folder.join("containerd/containerd.sock");
    stdout(
        Command::new(ctr)
            .arg("-a")
            .arg(socket)
            .args(["-n", "k8s.io", "images", "import"])
            .arg(hello()?),
    )?;
    deploy(&client_from(&folder.join("kubeconfig")).await?).await?;
    ensure!(
        parts_of(&folder).iter().any(|part| part == "zenop"),
        "the pods are not where they are looked for"
    );
    assert_eq!(
        kernel(),
        before,
        "the machine's own kernel settings changed"
    );

    let server = server(&folder)?;
    TcpStream::connect(&server)?;
    holder.kill()?;
    assert_eq!(holder.wait()?.signal(), Some(Signal::KILL.as_raw()));
    await_end(&folder, &lock)?;
    ensure!(
        TcpStream::connect(&server).is_err(),
        "{server} still listens"
    );
    ensure_no_trace(&folder)
}

#[tokio::test]
async fn the_supervisor_itself_is_killed_while_pods_run() -> Result<()> {
    let node = Node::start(Options::default()).await?;
    node.load_image(hello()?).await?;
    deploy(&node.client().await?).await?;
    let folder = node.folder().to_owned();
    let supervisor = node.supervisor_id().context("not ours")?;
    kill_process(
        Pid::from_raw(supervisor.try_into()?).context("no such process")?,
        Signal::KILL,
    )?;
    let started = Instant::now();
    while !parts_of(&folder).is_empty() {
        ensure!(
            started.elapsed() < PATIENCE,
            "still there: {:?}",
            parts_of(&folder)
        );
        thread::sleep(Duration::from_millis(20));
    }
    // Nobody was left to remove folder and cgroups: the next one does.
    drop(ControlPlane::start(Options::default()).await?);
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure_no_trace(&folder)
}

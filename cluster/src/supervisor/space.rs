//! The namespaces that a node lives in, so that no process, mount, interface or rule of it outlives them.
//!
//! Network, mounts and processes are its own. The process namespace's first process is [`init`], and all others are
//! killed by the kernel when it ends: containers and shims need no further care. It ends when its stdin does or when
//! `unshare`, its parent, is killed, and that dies with the supervisor.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Stdio, exit},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{WaitOptions, wait};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::process::{Spec, path_with, tied};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The namespaces of one node. Dropping them kills everything inside.
#[derive(Debug)]
pub struct Space {
    unshare: Child,
    stdin: Option<ChildStdin>,
    pid: u32,
    folder: PathBuf,
}

impl Space {
    /// Makes them, and the cgroup that the folder gives its name to.
    pub async fn open(folder: &Path) -> Result<Self> {
        let log = fs::File::create(folder.join("logs/space.log")).context("opening a log")?;
        let mut unshare = tied("unshare".as_ref())
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
            ])
            .arg(env::current_exe().context("finding this program")?)
            .arg("init")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("making the node's namespaces")?;
        let stdin = unshare.stdin.take();
        let pid = unshare.id().context("unshare has ended")?;
        let mut ready = String::new();
        let stdout = unshare.stdout.take().context("unshare has no stdout")?;
        BufReader::new(stdout).read_line(&mut ready).await?;
        let space = Self {
            unshare,
            stdin,
            pid,
            folder: folder.into(),
        };
        ensure!(
            !ready.is_empty(),
            "no namespaces: {}",
            fs::read_to_string(folder.join("logs/space.log"))?.trim()
        );
        make_cgroups(folder)?;
        Ok(space)
    }

    /// The file that names the network.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid).into()
    }

    /// The same program, in the network.
    pub fn in_network(&self, spec: Spec) -> Spec {
        prefixed(spec, vec![nsenter(), flag("--net=", &self.network())])
    }

    /// The same program, in all namespaces.
    pub fn inside(&self, spec: Spec) -> Spec {
        prefixed(spec, self.enter())
    }

    /// Runs a shell script in all namespaces, with the folder as `$folder`.
    pub async fn script(&self, text: &str) -> Result<()> {
        let mut words = self.enter().into_iter();
        let output = Command::new(words.next().context("no program")?)
            .args(words)
            .args(["sh", "-euc", text])
            .env("folder", &self.folder)
            .env("PATH", path_with(&self.folder.join("bin")))
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "setting up the node failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Kills everything inside and waits until it is gone.
    pub async fn close(&mut self) {
        drop(self.stdin.take());
        if timeout(Duration::from_secs(10), self.unshare.wait())
            .await
            .is_err()
        {
            let _ = self.unshare.kill().await;
        }
        remove_cgroups(&self.folder);
    }

    fn enter(&self) -> Vec<OsString> {
        let ns = |name: &str| PathBuf::from(format!("/proc/{}/ns/{name}", self.pid));
        vec![
            nsenter(),
            flag("--net=", &ns("net")),
            flag("--mount=", &ns("mnt")),
            flag("--pid=", &ns("pid_for_children")),
        ]
    }
}

/// The first process of the node's own: tells that it runs, buries the dead, and ends when stdin does.
pub fn init() -> Result<()> {
    println!("ready");
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        exit(0);
    });
    loop {
        if wait(WaitOptions::empty()).is_err() {
            // Nobody to wait for yet.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn nsenter() -> OsString {
    "nsenter".into()
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}

fn prefixed(spec: Spec, mut prefix: Vec<OsString>) -> Spec {
    prefix.extend(spec.command);
    Spec {
        command: prefix,
        ..spec
    }
}

/// The pods' cgroup, by the folder's name, in every hierarchy that there is.
fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let Some(name) = folder.file_name() else {
        return Vec::new();
    };
    let root = PathBuf::from(CGROUPS);
    let hierarchies = if root.join("cgroup.controllers").exists() {
        vec![root]
    } else {
        let entries = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        // Links are second names, as cpu and cpuacct have.
        entries
            .filter(|path| path.is_dir() && !path.is_symlink())
            .collect()
    };
    hierarchies
        .iter()
        .map(|hierarchy| hierarchy.join(name))
        .collect()
}

fn make_cgroups(folder: &Path) -> Result<()> {
    cgroups(folder).iter().try_for_each(|path| {
        fs::create_dir(path).with_context(|| format!("making {}", path.display()))
    })
}

/// Removes the pods' cgroups, whose processes must have ended.
pub fn remove_cgroups(folder: &Path) {
    cgroups(folder).iter().for_each(|path| remove_tree(path));
}

/// A cgroup is removed by removing its folder, children first; its files are not files.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

//! A cluster with one node that runs real containers.

use std::{
    ffi::{OsStr, OsString},
    ops::Deref,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    ControlPlane, Options,
    process::path_with,
    protocol::{Inside, Running, Wanted},
};

/// A control plane with a node: pods, probes, Services and DNS are real. For root on Linux.
///
/// The node has a network of its own, in which all of it lives. The API server is reached from outside too, at the same
/// address; pods and Services only from inside, see [`Node::command`].
#[derive(Debug)]
pub struct Node {
    plane: ControlPlane,
}

impl Node {
    /// Starts one and waits until it takes pods. Debian packages that are missing are installed.
    ///
    /// # Errors
    ///
    /// If we are not root on Linux, `options` ask for kwok, a tool cannot be built or a part does not come up.
    pub async fn start(options: Options) -> Result<Self> {
        if options.kwok {
            bail!("kwok would pretend to be the node that is there");
        }
        let plane = ControlPlane::start_wanted(Wanted {
            options,
            node: true,
        })
        .await?;
        Ok(Self { plane })
    }

    /// A command in the node's network, where names of Services resolve, with `KUBECONFIG` set and kubectl on `PATH`.
    ///
    /// # Errors
    ///
    /// Never, for a node that was started.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let running = self.plane.running().context("a node is always ours")?;
        command(running, &[program.as_ref().to_owned()])
    }

    /// Gives the node the images of an archive, as [`image::build`](crate::image::build) makes it. Containers use them
    /// with `imagePullPolicy: Never` or `IfNotPresent`.
    ///
    /// # Errors
    ///
    /// If containerd refuses the archive.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let running = self.plane.running().context("a node is always ours")?;
        load_image(running, archive).await
    }
}

impl Deref for Node {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

/// Gives containerd the images of an archive.
pub async fn load_image(running: &Running, archive: &Path) -> Result<()> {
    let containerd = &inside(running)?.containerd;
    let output = crate::supervisor::import(&running.bin, containerd, archive)
        .output()
        .await
        .context("running ctr")?;
    if !output.status.success() {
        bail!(
            "loading {}: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The mount namespace is for DNS alone: everything else is the machine's. A local resolver that programs may ask
/// before they read resolv.conf is hidden.
const ENTER: &str = r#"
mount --bind "$0" /etc/resolv.conf
if test -e /run/systemd/resolve/io.systemd.Resolve; then
    mount --bind /dev/null /run/systemd/resolve/io.systemd.Resolve
fi
exec "$@"
"#;

/// The words of a command, in the node's network with its DNS.
pub fn entered(running: &Running, command: &[OsString]) -> Result<Vec<OsString>> {
    let inside = inside(running)?;
    let mut network = OsString::from("--net=");
    network.push(&inside.network);
    let mut words = vec!["nsenter".into(), network];
    words.extend(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            ENTER,
        ]
        .map(OsString::from),
    );
    words.push(inside.resolv_conf.clone().into());
    words.extend_from_slice(command);
    Ok(words)
}

/// The same as a command to be run.
pub fn command(running: &Running, words: &[OsString]) -> Result<Command> {
    let words = entered(running, words)?;
    let (program, args) = words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env("KUBECONFIG", &running.kubeconfig)
        .env("PATH", path_with(&running.bin));
    Ok(command)
}

fn inside(running: &Running) -> Result<&Inside> {
    running
        .inside
        .as_ref()
        .context("the cluster has no node: start it with --node")
}

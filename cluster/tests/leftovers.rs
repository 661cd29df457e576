//! Nothing is left behind, whoever dies, and however.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use zenop_cluster::{ControlPlane, Options};

const PATIENCE: Duration = Duration::from_secs(30);
const CONTROL_PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// The programs whose command line names the folder, as all parts of its cluster do.
fn parts_of(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    let programs = lines.filter_map(|line| {
        let program = Path::new(line.split('\0').next()?)
            .file_name()?
            .to_str()?
            .to_owned();
        line.contains(&name).then_some(program)
    });
    let mut parts: Vec<_> = programs.filter(|program| program != "sh").collect();
    parts.sort();
    parts
}

/// Waits until the supervisor has let go of the folder's lock, which it does last.
fn await_end(folder: &Path, lock: &File) -> Result<()> {
    lock.lock()?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure!(
        parts_of(folder).is_empty(),
        "still there: {:?}",
        parts_of(folder)
    );
    Ok(())
}

fn pid(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id().try_into()?).context("no such process")
}

/// A process that holds a cluster, in a process group of its own, as a shell would start it; and the cluster's folder.
fn holder() -> Result<(Child, PathBuf, File)> {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_zenop-cluster"))
        .args(["run", "--", "sh", "-c", "echo $KUBECONFIG; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let folder = Path::new(line.trim())
        .parent()
        .context("no folder")?
        .to_owned();
    assert_eq!(parts_of(&folder), CONTROL_PLANE);
    let lock = File::open(folder.join("lock"))?;
    Ok((holder, folder, lock))
}

#[test]
fn the_holder_ends() -> Result<()> {
    let (mut holder, folder, lock) = holder()?;
    drop(holder.stdin.take());
    assert_eq!(holder.wait()?.code(), Some(0));
    await_end(&folder, &lock)
}

#[test]
fn the_holder_is_killed() -> Result<()> {
    let (mut holder, folder, lock) = holder()?;
    holder.kill()?;
    assert_eq!(holder.wait()?.signal(), Some(Signal::KILL.as_raw()));
    await_end(&folder, &lock)
}

#[test]
fn somebody_presses_ctrl_c() -> Result<()> {
    let (mut holder, folder, lock) = holder()?;
    kill_process_group(pid(&holder)?, Signal::INT)?;
    assert_eq!(holder.wait()?.code(), Some(128 + Signal::INT.as_raw()));
    await_end(&folder, &lock)
}

#[tokio::test]
async fn a_test_panics() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let (folder, lock) = (
        plane.folder().to_owned(),
        File::open(plane.folder().join("lock"))?,
    );
    let panicked = thread::spawn(move || {
        let _held = plane;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    await_end(&folder, &lock)
}

#[tokio::test]
async fn the_supervisor_itself_is_killed() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let folder = plane.folder().to_owned();
    let supervisor = plane.supervisor_id().context("not ours")?;
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
        thread::yield_now();
    }
    // Nobody was left to remove the folder: the next one does.
    drop(ControlPlane::start(Options::default()).await?);
    ensure!(!folder.exists(), "{} is still there", folder.display());
    Ok(())
}

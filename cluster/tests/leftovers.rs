//! Nothing is left behind, whoever dies, and however.

mod common;

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use common::{await_end, holder, parts_of};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use zenop_cluster::{ControlPlane, Options};

const PATIENCE: Duration = Duration::from_secs(30);
const CONTROL_PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

fn pid(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id().try_into()?).context("no such process")
}

#[test]
fn the_holder_ends() -> Result<()> {
    let (mut holder, folder, lock) = holder(&[])?;
    assert_eq!(parts_of(&folder), CONTROL_PLANE);
    drop(holder.stdin.take());
    assert_eq!(holder.wait()?.code(), Some(0));
    await_end(&folder, &lock)
}

#[test]
fn the_holder_is_killed() -> Result<()> {
    let (mut holder, folder, lock) = holder(&[])?;
    assert_eq!(parts_of(&folder), CONTROL_PLANE);
    holder.kill()?;
    assert_eq!(holder.wait()?.signal(), Some(Signal::KILL.as_raw()));
    await_end(&folder, &lock)
}

#[test]
fn somebody_presses_ctrl_c() -> Result<()> {
    let (mut holder, folder, lock) = holder(&[])?;
    assert_eq!(parts_of(&folder), CONTROL_PLANE);
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

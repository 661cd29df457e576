//! What the tests about left-overs share: a holder that can be killed, and where to look afterwards.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The programs whose command line or cgroup names the folder, as all parts of its cluster do.
pub fn parts_of(folder: &Path) -> Vec<String> {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |path: PathBuf| {
        fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .ok()
    };
    let programs = processes.filter_map(|process| {
        let line = read(process.path().join("cmdline"))?;
        let cgroup = read(process.path().join("cgroup"))?;
        let program = Path::new(line.split('\0').next()?)
            .file_name()?
            .to_str()?
            .to_owned();
        (line.contains(name) || cgroup.contains(name)).then_some(program)
    });
    let mut parts: Vec<_> = programs.filter(|program| program != "sh").collect();
    parts.sort();
    parts
}

/// Waits until the supervisor has let go of the folder's lock, which it does last.
pub fn await_end(folder: &Path, lock: &File) -> Result<()> {
    lock.lock()?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure!(
        parts_of(folder).is_empty(),
        "still there: {:?}",
        parts_of(folder)
    );
    Ok(())
}

/// A process that holds a cluster, started with these options, in a process group of its own, as a shell would start it; and the cluster's folder.
pub fn holder(run: &[&str]) -> Result<(Child, PathBuf, File)> {
    // Whoever starts the tests may ignore Ctrl-C, as a shell does for what it starts with "&"; children inherit that.
    let mut holder = Command::new("env")
        .args([
            "--default-signal=INT",
            env!("CARGO_BIN_EXE_zenop-cluster"),
            "run",
        ])
        .args(run)
        .args(["--", "sh", "-c", "echo $KUBECONFIG; exec cat"])
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
    let lock = File::open(folder.join("lock"))?;
    Ok((holder, folder, lock))
}

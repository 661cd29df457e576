//! The programs under test, as processes of their own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A process that ends with us.
pub struct Process(Child);

impl Process {
    /// The operator, for one namespace.
    pub fn operator(kubeconfig: &Path, namespace: &str) -> Self {
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_zenop"))
                .args([
                    "operator",
                    "--image=zenop:bench",
                    "--admin-listen=127.0.0.1:0",
                ])
                .arg(format!("--watch-namespace={namespace}"))
                .arg(format!("--lease-name=bench-{namespace}"))
                .env("KUBECONFIG", kubeconfig),
        )
    }

    /// The sidecar of a server.
    pub fn sidecar(kubeconfig: &Path, namespace: &str, server: &str, address: &str) -> Self {
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_zenop"))
                .args(["sidecar", "--admin-listen=127.0.0.1:0"])
                .arg(format!("--server={server}"))
                .arg(format!("--namespace={namespace}"))
                .arg(format!("--listen={address}"))
                .env("KUBECONFIG", kubeconfig),
        )
    }

    /// A bare axum server: this program, asked to be one.
    pub fn bare(address: &str) -> Self {
        let me = std::env::current_exe().expect("we are a program");
        Self::start(Command::new(me).env("ZENOP_BENCH_BARE", address))
    }

    fn start(command: &mut Command) -> Self {
        let command = command.env("RUST_LOG", "warn").stdin(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_memory(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("Linux");
        let kib: f64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kib / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that is free now.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// Waits until `ready`, at most a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, ready: impl Fn() -> F) {
    for _ in 0..6000 {
        if ready().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited a minute for {what}");
}

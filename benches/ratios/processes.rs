//! The programs under test, as processes of their own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use super::load::exchange;

/// A process that ends with us.
pub struct Process {
    child: Child,
    /// Where its metrics are, if it has any.
    admin: String,
}

impl Process {
    /// The operator, for one namespace.
    pub fn operator(kubeconfig: &Path, namespace: &str) -> Self {
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_zenop"))
                .args(["operator", "--image=zenop:bench"])
                .arg(format!("--watch-namespace={namespace}"))
                .arg(format!("--lease-name=bench-{namespace}"))
                .env("KUBECONFIG", kubeconfig),
            true,
        )
    }

    /// The sidecar of a server.
    pub fn sidecar(kubeconfig: &Path, namespace: &str, server: &str, address: &str) -> Self {
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_zenop"))
                .arg("sidecar")
                .arg(format!("--server={server}"))
                .arg(format!("--namespace={namespace}"))
                .arg(format!("--listen={address}"))
                .env("KUBECONFIG", kubeconfig),
            true,
        )
    }

    /// A bare axum server: this program, asked to be one.
    pub fn bare(address: &str) -> Self {
        let me = std::env::current_exe().expect("we are a program");
        Self::start(Command::new(me).env("ZENOP_BENCH_BARE", address), false)
    }

    /// A server of somebody else.
    pub fn peer(command: &mut Command) -> Self {
        Self::start(command, false)
    }

    fn start(command: &mut Command, is_zenop: bool) -> Self {
        let admin = free_address();
        if is_zenop {
            command.arg(format!("--admin-listen={admin}"));
        }
        let command = command.env("RUST_LOG", "warn").stdin(Stdio::null());
        let child = command.spawn().expect("the program starts");
        Self { child, admin }
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_memory(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// The memory that it holds, in MiB.
    pub fn memory_now(&self) -> f64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib: f64 = line
            .expect("Linux")
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kib / 1024.0
    }

    /// How often it looked at a ZenAPIKey; 0 while it does not say.
    pub async fn passes(&self) -> f64 {
        let Ok(mut stream) = TcpStream::connect(&self.admin).await else {
            return 0.0;
        };
        let mut answer = Vec::new();
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        exchange(&mut stream, request, &mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        let passes = text.lines().filter(|line| {
            line.starts_with("zenop_reconcile_passes") && line.contains("\"ZenAPIKey\"")
        });
        passes
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks it to stop, as Kubernetes does, and waits until it has.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

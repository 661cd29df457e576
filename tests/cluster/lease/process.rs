//! Holders that are processes of their own, which signals stop.

use std::{
    env,
    path::Path,
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use zenop::runtime::{
    clock::monotonic,
    lease::{Elector, Lost},
};
use zenop_cluster::{TestNamespace, shared, with_namespace};

use super::support::{
    Candidate, LEASE, Lease, NAME, PATIENCE, RETRY, config, lease_when, leases, renewals, spec,
};

/// Set for the process that holds the Lease: the namespace. That process runs the same test, in the other role.
const ROLE: &str = "ZENOP_TEST_LEASE_NAMESPACE";
/// And the kubeconfig.
const KUBECONFIG: &str = "ZENOP_TEST_LEASE_KUBECONFIG";
/// What the process exits with when it has lost the lead.
const LOST: u8 = 42;

/// A process, and what it prints.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("it has no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// The rest of the next line that begins so.
    async fn says(&mut self, beginning: &str) -> Result<String> {
        let line = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.to_owned());
                }
            }
            bail!("it ended without saying {beginning:?}")
        };
        timeout(PATIENCE, line).await?
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        let id = Pid::from_raw(id.try_into()?).context("no process")?;
        Ok(kill_process(id, signal)?)
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(timeout(PATIENCE, self.child.wait()).await??)
    }
}

#[test]
fn a_stopped_process_does_not_hold_its_claim_when_it_goes_on() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if let (Ok(namespace), Ok(kubeconfig)) = (env::var(ROLE), env::var(KUBECONFIG)) {
        return runtime.block_on(hold(&namespace, Path::new(&kubeconfig)));
    }
    runtime.block_on(with_namespace("lease-stopped", stop_a_holder))
}

async fn stop_a_holder(ns: TestNamespace) -> Result<()> {
    let name = thread::current()
        .name()
        .context("tests have names")?
        .to_owned();
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["--exact", &name, "--nocapture"])
        .env(ROLE, ns.name())
        .env(KUBECONFIG, shared().await?.kubeconfig());
    let mut holder = Process::start(&mut command)?;
    let identity = holder.says("leads as ").await?;
    let mut second = Candidate::start(ns.client().clone(), config(ns.name(), "second"));
    renewals(&ns, 2).await?;

    holder.signal(Signal::STOP)?;
    let stopped = monotonic();
    let led = second.leads().await?;
    assert!(led.duration_since(stopped) > LEASE - RETRY);
    let lease = lease_when(&ns, |lease| spec(lease)["holderIdentity"] != *identity).await?;
    assert_eq!(spec(&lease)["holderIdentity"], *second.identity);

    holder.signal(Signal::CONT)?;
    assert_eq!(holder.says("awake, and holds its claim: ").await?, "false");
    let why = holder.says("lost: ").await?;
    assert!(
        why.starts_with("the lease was not renewed within 1.5s"),
        "{why}"
    );
    assert_eq!(holder.ended().await?.code(), Some(LOST.into()));
    assert!(second.claim.is_held());
    Ok(second.stop().await?)
}

/// Leads, and tells what it finds when it was stopped and goes on.
async fn hold(namespace: &str, kubeconfig: &Path) -> Result<()> {
    let options = KubeConfigOptions::default();
    let access =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    let (elector, claim) = Elector::new(Client::try_from(access)?, config(namespace, "process"));
    let identity = elector.identity().to_owned();
    let leader = elector.acquire(std::future::pending()).await;
    let leader = leader.context("nobody asked it to stop")?;
    let watching = thread::spawn(move || {
        let mut before = monotonic();
        loop {
            let now = monotonic();
            let holds = claim.is_held();
            if now - before > LEASE / 2 {
                println!("awake, and holds its claim: {holds}");
                return;
            }
            before = now;
            thread::sleep(Duration::from_millis(1));
        }
    });
    println!("leads as {identity}");
    let lost: Lost = leader.run(std::future::pending()).await.unwrap_err();
    watching.join().expect("it does not panic");
    println!("lost: {lost}");
    std::process::exit(LOST.into());
}

/// The operator, with nothing to work on.
fn operator(ns: &TestNamespace, kubeconfig: &Path, identity: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zenop"));
    command
        .args([
            "operator",
            "--image",
            "none",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .args(["--identity", identity, "--watch-namespace", ns.name()])
        .args(["--lease-namespace", ns.name(), "--lease-name", NAME])
        .args(["--lease-duration", "2s", "--renew-deadline", "1500ms"])
        .args(["--retry-period", "300ms"])
        .env("KUBECONFIG", kubeconfig)
        .stderr(Stdio::null());
    command
}

/// Without its kinds the operator does not begin, and so does not end in good order.
async fn kinds(client: &Client) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in zenop::api::all_crds() {
        let (name, patch) = (crd.name_any(), Patch::Apply(&crd));
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &patch).await?;
        timeout(
            PATIENCE,
            await_condition(api.clone(), &name, is_crd_established()),
        )
        .await??;
    }
    Ok(())
}

/// Waits until an operator of that name holds the Lease.
async fn holds(ns: &TestNamespace, identity: &str) -> Result<Lease> {
    let prefix = format!("{identity}_");
    lease_when(ns, |lease| {
        let holder = spec(lease)["holderIdentity"].clone();
        holder
            .as_str()
            .is_some_and(|holder| holder.starts_with(&prefix))
    })
    .await
}

#[tokio::test]
async fn the_operator_exits_when_it_was_stopped_and_gives_the_lease_back_on_sigterm() -> Result<()>
{
    with_namespace("lease-operator", async |ns| {
        kinds(ns.client()).await?;
        let kubeconfig = shared().await?.kubeconfig();
        let mut first = Process::start(&mut operator(&ns, kubeconfig, "first"))?;
        holds(&ns, "first").await?;
        let mut second = Process::start(&mut operator(&ns, kubeconfig, "second"))?;
        renewals(&ns, 2).await?;
        first.signal(Signal::STOP)?;
        holds(&ns, "second").await?;
        first.signal(Signal::CONT)?;
        assert_eq!(first.ended().await?.code(), Some(1));

        let mut third = Process::start(&mut operator(&ns, kubeconfig, "third"))?;
        renewals(&ns, 3).await?;
        let asked = monotonic();
        second.signal(Signal::TERM)?;
        holds(&ns, "third").await?;
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        println!("failover of operators on SIGTERM: {took:?}");
        assert!(second.ended().await?.success());
        third.signal(Signal::TERM)?;
        assert!(third.ended().await?.success());
        let lease = leases(&ns).get(NAME).await?;
        assert_eq!(spec(&lease)["holderIdentity"], "");
        Ok(())
    })
    .await
}

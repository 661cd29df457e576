//! The real ZenML server behind the sidecar, with the environment that the operator made for its pod.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, Secret},
};
use serde_json::{Value, json};
use tokio::{process::Child, time::timeout};
use zenop::api::{ZenServiceAccount, ZenUser};

use crate::{
    door::{Answer, Sidecar, ask, delivered, free_address, set_up},
    interop::{HERE, python},
    pod::{Release, contained, migrate},
    support::{PATIENCE, Site, account, entry, ready, secret, site, user_with_password, with},
    users::declare_ana,
    zenml::{client, zenml},
};

/// A ZenML server as the pod's container runs it. Ends with us.
struct ZenmlServer {
    address: SocketAddr,
    log: std::path::PathBuf,
    _process: Child,
}

impl ZenmlServer {
    /// Migrates the database and starts the container of server `prod`, at a port of its own and with a home of its
    /// own.
    async fn start(site: &Site, home: &Path) -> Result<Self> {
        let (code, _) = migrate(site, home, Release::Now).await?;
        ensure!(code == 0, "the migration ends with {code}");
        let has = |deployment: &Deployment| container(deployment).is_some();
        let deployment: Deployment = site.until("prod", "with a ZenML server", has).await?;
        let container = container(&deployment).context("no container")?;
        let address = free_address()?;
        let mut command = contained(site, container, home, Release::Now).await?;
        // The last one counts.
        command.arg(format!("--port={}", address.port()));
        let log = home.join("server.log");
        let file = fs::File::create(&log)?;
        let process = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            address,
            log,
            _process: process,
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it itself, with a token.
    async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n");
        ask(self.address, &head, "").await
    }

    /// A token of zenop's own administrator there.
    async fn administrator(&self, site: &Site) -> Result<String> {
        let values: Secret = site.api().get("prod-environment").await?;
        let password = entry(&values, "ZENML_DEFAULT_USER_PASSWORD").context("no password")?;
        let form = format!("grant_type=password&username=zenop&password={password}");
        let head = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\n\
                    content-type: application/x-www-form-urlencoded\r\n";
        let answer = ask(self.address, head, &form).await?.expect(200)?.json()?;
        let token = answer["access_token"].as_str();
        token.map(str::to_owned).context("no token")
    }

    /// Waits until it says this of somebody; `None` is that it knows nobody of that name.
    async fn says(&self, token: &str, path: &str, wanted: Option<Value>) -> Result<()> {
        let is = async || {
            let answer = self.get(&format!("/api/v1/{path}"), token).await?;
            let Some(wanted) = wanted.as_ref().and_then(Value::as_object) else {
                return anyhow::Ok(answer.status == 404);
            };
            let said = match answer.status {
                200 => answer.json()?,
                _ => return Ok(false),
            };
            Ok(wanted
                .iter()
                .all(|(name, value)| said["body"][name] == *value))
        };
        let wait = async {
            while !is().await? {
                // It tells nobody of its changes.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, wait)
            .await
            .with_context(|| format!("{path} does not become {wanted:?}: {}", self.told()))?
    }

    /// Waits until it answers.
    async fn comes(&self) -> Result<()> {
        let up = async {
            while ask(self.address, "GET /ready HTTP/1.1\r\nhost: x\r\n", "")
                .await
                .is_err()
            {
                // Its first start makes the database.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(180), up)
            .await
            .with_context(|| self.told())
    }

    /// What it logged.
    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn container(deployment: &Deployment) -> Option<&Container> {
    let spec = deployment.spec.template.spec.as_ref()?;
    spec.containers.iter().find(|one| one.name == "zenml")
}

/// What the server says of somebody, asked as an administrator by way of the sidecar.
async fn there(sidecar: &Sidecar, token: &str, path: &str) -> Result<Value> {
    let answer = sidecar.get(path, Some(token)).await?;
    ensure!(answer.status == 200, "{path}: {answer:?}");
    answer.json()
}

/// Server `prod` with a ZenML server.
fn served() -> [(&'static str, Value); 2] {
    let env = json!([{"name": "ZENML_ANALYTICS_OPT_IN", "value": "false"}]);
    [
        ("spec.image", json!("zenml-server:test")),
        ("spec.podTemplate", json!({"env": env})),
    ]
}

/// Runs the pipeline as the holder of a delivered key.
async fn pipeline(site: &Site, of: [&str; 2]) -> Result<Value> {
    let secret: Secret = site.api().get("main-key").await?;
    let home = tempfile::tempdir()?;
    let mut command = python(client()?.with_file_name("python"));
    command
        .arg(format!("{HERE}/python/pipeline.py"))
        .args(of)
        .current_dir(home.path())
        .env("HOME", home.path());
    for name in ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"] {
        command.env(name, entry(&secret, name).context("no entry")?);
    }
    let output = timeout(2 * PATIENCE, command.output()).await;
    let output = output.context("the pipeline goes on")??;
    let (told, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let said = told
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    said.with_context(|| format!("no answer: {told}{complained}"))
}

#[tokio::test]
async fn a_pipeline_runs_by_way_of_the_sidecar_and_a_step_reads_a_secret() -> Result<()> {
    site("upstream", async |site| {
        let (address, home) = (free_address()?, tempfile::tempdir()?);
        let _operator = set_up(site, address, &served()).await?;
        let zenml_server = ZenmlServer::start(site, home.path()).await?;
        zenml_server.comes().await?;
        let sidecar = Sidecar::start_before(site, address, &zenml_server.url()).await?;
        let token = sidecar.token(&delivered(site, "main-key").await?).await?;
        let values = json!([{"key": "token", "generate": {"length": 40}}]);
        site.apply(&secret("wanted", values)).await?;
        site.until::<zenop::api::ZenSecret>("wanted", "Ready", ready)
            .await?;

        let told = pipeline(site, ["wanted", "token"]).await?;
        let ci: ZenServiceAccount = site.api().get("ci").await?;
        let id = ci
            .status
            .and_then(|status| status.account_id)
            .context("no id")?;
        ensure!(
            told["status"] == "completed" && told["output"] == 80,
            "{told}"
        );
        // One id of the account, whoever answers.
        for of in ["me", "stack of", "run of"] {
            ensure!(told[of] == json!(id), "{of}: {told}");
        }
        ensure!(told["runs"] == 1, "{told}");
        let listed = zenml(site, "main-key", &["stack", "list"]).await?;
        ensure!(
            listed.success && listed.text.contains("mine"),
            "{}",
            listed.text
        );
        let listed = zenml(site, "main-key", &["pipeline", "runs", "list"]).await?;
        ensure!(
            listed.success && listed.text.contains("through_the_door"),
            "{}",
            listed.text
        );

        // What it alone knows is asked of it, what it is not to know is not.
        let settings = there(&sidecar, &token, "/api/v1/settings").await?;
        ensure!(settings["body"]["active"] == true, "{settings}");
        let page = sidecar.get("/", None).await?;
        ensure!(
            page.status == 200 && page.body.contains("<html"),
            "{page:?}"
        );
        let refused = sidecar.get("/api/v1/stacks", None).await?;
        ensure!(refused.status == 401, "{refused:?}");
        let direct = zenml_server.get("/api/v1/stacks", &token).await?;
        ensure!(
            direct.status == 401,
            "the server takes our own tokens: {direct:?}"
        );

        // Gone: what needs it is refused in words, and logging in goes on.
        drop(zenml_server);
        let refused = sidecar.get("/api/v1/stacks", Some(&token)).await?;
        ensure!(refused.status == 503, "{refused:?}");
        ensure!(
            refused.body.contains("The ZenML server does not answer"),
            "{refused:?}"
        );
        sidecar.token(&delivered(site, "main-key").await?).await?;
        ensure!(!sidecar.log().contains("eyJ"), "a token is in the log");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn people_there_are_as_they_are_here() -> Result<()> {
    site("people", async |site| {
        let (address, home) = (free_address()?, tempfile::tempdir()?);
        let _operator = set_up(site, address, &served()).await?;
        declare_ana(site).await?;
        let root = with(user_with_password("ana"), "spec.isAdmin", json!(true));
        site.apply(&root).await?;
        let there = ZenmlServer::start(site, home.path()).await?;
        let _sidecar = Sidecar::start_before(site, address, &there.url()).await?;
        there.comes().await?;
        let token = there.administrator(site).await?;
        let says = async |path: &str, wanted: Value| there.says(&token, path, Some(wanted)).await;
        says("users/ana", json!({"active": true, "is_admin": true})).await?;
        says("service_accounts/ci", json!({"active": true})).await?;

        // What changes here changes there, and the person stays the same.
        let id = there
            .get("/api/v1/service_accounts/ci", &token)
            .await?
            .json()?["id"]
            .clone();
        site.apply(&with(account("ci"), "spec.active", json!(false)))
            .await?;
        says("service_accounts/ci", json!({"active": false})).await?;
        site.apply(&with(account("ci"), "spec.name", json!("robot")))
            .await?;
        says("service_accounts/robot", json!({"active": true})).await?;
        there.says(&token, "service_accounts/ci", None).await?;
        let robot = there
            .get("/api/v1/service_accounts/robot", &token)
            .await?
            .json()?;
        ensure!(robot["id"] == id, "another account than before: {robot}");
        site.apply(&user_with_password("ana")).await?;
        says("users/ana", json!({"active": true, "is_admin": false})).await?;

        // Who goes is gone.
        site.delete::<ZenServiceAccount>("ci").await?;
        there.says(&token, "service_accounts/robot", None).await?;
        site.delete::<ZenUser>("ana").await?;
        there.says(&token, "users/ana", None).await
    })
    .await
}

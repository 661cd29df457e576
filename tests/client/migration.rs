//! The migration of a ZenML server's database, with the real ZenML of two releases, in a file and in a real MySQL
//! (MariaDB), by the container of the operator's Job.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::ResourceExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use zenop::api::{ZenSecret, ZenServer, condition, reason};

use crate::{
    door::free_address,
    pod::{Release, migrate, migration},
    support::{
        PATIENCE, Site, garbage_collector, message, ready, says, secret, server, site, stalled,
        with, with_mysql, with_zenml,
    },
};

/// A MySQL server of its own. Ends with us.
struct Mysql {
    folder: TempDir,
    address: SocketAddr,
    _process: Child,
}

impl Mysql {
    /// One where user `zen` may do everything with this password.
    async fn start(password: &str) -> Result<Self> {
        let (folder, address) = (tempfile::tempdir()?, free_address()?);
        let path = |name: &str| folder.path().join(name);
        let data = format!("--datadir={}", path("data").display());
        let made = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(&data)
            .arg(format!("--user={}", whoami().await?))
            .stdin(Stdio::null())
            .output()
            .await
            .context("no mariadb-install-db: run `make peers`")?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let setup = path("setup.sql");
        let grant = format!(
            "DELETE FROM mysql.global_priv WHERE User = '';\nFLUSH PRIVILEGES;\n\
             CREATE USER zen@'%' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO zen@'%';\n"
        );
        fs::write(&setup, grant)?;
        let log = fs::File::create(path("log"))?;
        let process = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--skip-log-bin",
                "--innodb-buffer-pool-size=32M",
            ])
            .arg(data)
            .arg(format!("--user={}", whoami().await?))
            .arg(format!("--socket={}", path("socket").display()))
            .arg(format!("--pid-file={}", path("pid").display()))
            .arg(format!("--init-file={}", setup.display()))
            .arg(format!("--bind-address={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("no mariadbd: run `make peers`")?;
        let server = Self {
            folder,
            address,
            _process: process,
        };
        let up = async {
            while server.ask("SELECT 1").await.is_err() {
                // It tells nobody that it listens.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let log = || fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
        timeout(PATIENCE, up).await.with_context(log)?;
        Ok(server)
    }

    fn client(&self, statement: &str) -> Command {
        let mut command = Command::new("mariadb");
        command
            .args([
                "--no-defaults",
                "-uroot",
                "--batch",
                "--skip-column-names",
                "-S",
            ])
            .arg(self.folder.path().join("socket"))
            .args(["-e", statement])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn ask(&self, statement: &str) -> Result<String> {
        let output = self.client(statement).output().await?;
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{statement}: {complained}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

async fn whoami() -> Result<String> {
    let output = Command::new("id").arg("-un").output().await?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A database, and how to look into it from outside.
enum Place {
    File(PathBuf),
    Server(Box<Mysql>),
}

impl Place {
    async fn ask(&self, statement: &str) -> Result<String> {
        match self {
            Self::Server(mysql) => mysql.ask(&format!("USE zenml; {statement}")).await,
            Self::File(path) => {
                let script = "import sqlite3, sys\n\
                              with sqlite3.connect(sys.argv[1]) as c:\n\
                              \x20 print(*[row[0] for row in c.execute(sys.argv[2])])";
                let output = Command::new("python3")
                    .args(["-c", script])
                    .arg(path)
                    .arg(statement)
                    .output()
                    .await?;
                let complained = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{statement}: {complained}");
                Ok(String::from_utf8(output.stdout)?.trim().to_owned())
            }
        }
    }

    async fn revision(&self) -> Result<String> {
        self.ask("SELECT version_num FROM alembic_version").await
    }

    /// Who holds a lock on what the migration changes, until dropped.
    async fn hold(&self) -> Result<Child> {
        let mut command = match self {
            Self::Server(mysql) => {
                mysql.client("USE zenml; LOCK TABLES user READ; SELECT 'held'; SELECT SLEEP(600)")
            }
            Self::File(path) => {
                let script = "import sqlite3, sys, time\n\
                              c = sqlite3.connect(sys.argv[1])\n\
                              c.execute('BEGIN IMMEDIATE')\n\
                              print('held', flush=True)\n\
                              time.sleep(600)";
                let mut command = Command::new("python3");
                command.args(["-c", script]).arg(path);
                command
            }
        };
        command.kill_on_drop(true);
        Ok(command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?)
    }
}

/// A server whose database a test looks into.
struct Scene<'a> {
    site: &'a Site,
    home: TempDir,
    place: Place,
    server: Value,
}

impl<'a> Scene<'a> {
    async fn of_file(site: &'a Site) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let place = Place::File(home.path().join("zenml.db"));
        Ok(Self {
            site,
            home,
            place,
            server: with_zenml(server("prod")),
        })
    }

    async fn of_mysql(site: &'a Site, backup: &str) -> Result<Self> {
        let password = "pa'ss-0123456789";
        let mysql = Mysql::start(&password.replace('\'', "\\'")).await?;
        let vault = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault"},
            "stringData": {"pass": password},
        });
        site.apply(&vault).await?;
        let from = json!({"secretKeyRef": {"name": "vault", "key": "pass"}});
        site.apply(&secret("db", json!([{"key": "pass", "valueFrom": from}])))
            .await?;
        site.until::<ZenSecret>("db", "Ready", ready).await?;
        let server = with_mysql(server("prod"), "{{db.pass}}");
        let server = with(
            server,
            "spec.database.mysql.host",
            json!(mysql.address.ip().to_string()),
        );
        let port = json!(mysql.address.port());
        let server = with(server, "spec.database.mysql.port", port);
        Ok(Self {
            site,
            home: tempfile::tempdir()?,
            server: with(server, "spec.migration", json!({"backup": backup})),
            place: Place::Server(Box::new(mysql)),
        })
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    async fn wants(&self, image: &str) -> Result<()> {
        let server = with(self.server.clone(), "spec.image", json!(image));
        self.site.apply(&server).await.map(drop)
    }

    async fn migrates(&self, release: Release) -> Result<(i32, Value)> {
        migrate(self.site, self.home(), release).await
    }

    async fn fits(&self) -> Result<()> {
        let fits = says::<ZenServer>(condition::MIGRATION_SUCCEEDED, "True", reason::MIGRATED);
        self.site.until("prod", "migrated", fits).await.map(drop)
    }

    async fn fails(&self, why: &str) -> Result<()> {
        let fails = |server: &ZenServer| {
            stalled::<ZenServer>(reason::MIGRATION_FAILED)(server)
                && message(server, condition::MIGRATION_SUCCEEDED).contains(why)
        };
        self.site.until("prod", "failed", fails).await.map(drop)
    }

    /// What was in it is in it, in this schema.
    async fn holds(&self, release: Release) -> Result<()> {
        let revision = self.place.revision().await?;
        ensure!(revision == release.revision(), "it is at {revision}");
        let name = self
            .place
            .ask("SELECT server_name FROM server_settings")
            .await?;
        ensure!(name == "kept", "what was stored is lost: {name}");
        Ok(())
    }

    /// Whether a migration is at a place where it must not be cut off.
    async fn is_marked(&self, backup: &str) -> bool {
        match (&self.place, backup) {
            (Place::Server(mysql), "Database") => {
                let asked = mysql.ask("SELECT 1 FROM zenml_zenop_backup.zenop_migration");
                asked.await.is_ok()
            }
            _ => self.home().join("zenop-backup.zenop_migration").exists(),
        }
    }

    /// Kills a migration where the database may be half changed.
    async fn is_cut_off(&self, backup: &str) -> Result<()> {
        let held = self.place.hold().await?;
        let mut process = migration(self.site, self.home(), Release::Now).await?;
        let mut process = process
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let marked = async {
            while !self.is_marked(backup).await {
                // It tells nobody how far it is.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, marked).await.context("it never begins")?;
        process.kill().await?;
        drop(held);
        self.site.migrates("prod", 137, Value::Null).await?;
        Ok(())
    }
}

/// One story for each place: up, cut off, up again, back, a failure, and up.
async fn upgrade_and_roll_back(scene: Scene<'_>, backup: &str) -> Result<()> {
    scene.wants("zenml:before").await?;
    let (code, report) = scene.migrates(Release::Before).await?;
    ensure!(code == 0 && report["to"] == "0.97.0", "{report}");
    scene.fits().await?;
    let stored = "UPDATE server_settings SET server_name = 'kept'";
    match &scene.place {
        Place::Server(_) => scene.place.ask(stored).await.map(drop)?,
        Place::File(_) => scene
            .place
            .ask(&format!("{stored} RETURNING id"))
            .await
            .map(drop)?,
    }

    scene.wants("zenml:now").await?;
    scene.is_cut_off(backup).await?;
    let (code, report) = scene.migrates(Release::Now).await?;
    ensure!(
        code == 0 && report["from"] == "0.97.0" && report["to"] == "0.98.0",
        "{report}"
    );
    ensure!(report["backup"].is_string(), "without a backup: {report}");
    scene.fits().await?;
    scene.holds(Release::Now).await?;

    // An older release does not know the schema; the backup is one that it knows.
    scene.wants("zenml:before").await?;
    let (code, report) = scene.migrates(Release::Before).await?;
    ensure!(code == 3, "{report}");
    scene.fails("allowDowngrade").await?;
    scene.holds(Release::Now).await?;
    let scene = Scene {
        server: with(
            scene.server.clone(),
            "spec.migration.allowDowngrade",
            json!(true),
        ),
        ..scene
    };
    scene.wants("zenml:before").await?;
    let (code, report) = scene.migrates(Release::Before).await?;
    ensure!(code == 0 && report["to"] == "0.97.0", "{report}");
    scene.fits().await?;
    scene.holds(Release::Before).await?;

    // A migration that fails: what is there is as it was.
    let in_the_way = "ALTER TABLE user ADD COLUMN oidc_claims TEXT";
    scene.place.ask(in_the_way).await?;
    scene.wants("zenml:now").await?;
    let (code, report) = scene.migrates(Release::Now).await?;
    ensure!(code == 3, "{report}");
    scene.fails("oidc_claims").await?;
    scene.holds(Release::Before).await?;
    let image = |deployment: &Deployment| {
        let text = serde_json::to_string(deployment).unwrap_or_default();
        text.contains("zenml:before") && !text.contains("zenml:now")
    };
    scene.site.until("prod", "as before", image).await?;

    scene
        .place
        .ask("ALTER TABLE user DROP COLUMN oidc_claims")
        .await?;
    let job: Job = scene.site.api().get("prod-migration").await?;
    scene.site.delete::<Job>("prod-migration").await?;
    let uid = job.uid().context("no uid")?;
    scene.site.until_gone::<Job>("prod-migration", &uid).await?;
    let (code, report) = scene.migrates(Release::Now).await?;
    ensure!(code == 0, "{report}");
    scene.fits().await?;
    scene.holds(Release::Now).await
}

#[tokio::test]
async fn f08_a_file_is_upgraded_and_rolled_back() -> Result<()> {
    garbage_collector().await?;
    site("file", async |site| {
        let _operator = site.operator().await?;
        upgrade_and_roll_back(Scene::of_file(site).await?, "Dump").await
    })
    .await
}

#[tokio::test]
async fn f09_a_mysql_is_upgraded_and_rolled_back_by_a_dump() -> Result<()> {
    garbage_collector().await?;
    site("dump", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        upgrade_and_roll_back(Scene::of_mysql(site, "Dump").await?, "Dump").await
    })
    .await
}

#[tokio::test]
async fn f11_a_mysql_is_upgraded_and_rolled_back_by_another_database() -> Result<()> {
    garbage_collector().await?;
    site("clone", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        upgrade_and_roll_back(Scene::of_mysql(site, "Database").await?, "Database").await
    })
    .await
}

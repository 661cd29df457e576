//! A ZenML server's database: its volume, and the Job that brings it to the image's schema before the pods, on a real
//! API server with its Job controller. What the Job runs is tested in tests/client/migration.rs.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::api::{MigrationResult, ZenServer, condition, reason};

use super::components::{login, vault};
use crate::support::{
    Site, entry, garbage_collector, message, says, server, site, stalled, waiting, with,
    with_mysql, with_zenml,
};

fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.replicas
}

/// The image of the ZenML server in the pods.
fn image(deployment: &Deployment) -> Option<&str> {
    let spec = deployment.spec.template.spec.as_ref()?;
    let zenml = spec.containers.iter().find(|one| one.name == "zenml")?;
    zenml.image.as_deref()
}

fn of_release(server: Value, release: &str) -> Value {
    with(
        server,
        "spec.image",
        json!(format!("zenml-server:{release}")),
    )
}

async fn fits(site: &Site, release: &str) -> Result<ZenServer> {
    let wanted = format!("zenml-server:{release}");
    let fits = |server: &ZenServer| {
        let database = server.status.as_ref().and_then(|it| it.database.as_ref());
        database.is_some_and(|database| database.image == wanted)
            && says::<ZenServer>(condition::MIGRATION_SUCCEEDED, "True", reason::MIGRATED)(server)
    };
    site.until("prod", "with a database that fits", fits).await
}

async fn generation(site: &Site) -> Result<Option<i64>> {
    let deployment = site.api::<Deployment>().get("prod").await?;
    Ok(deployment.metadata.generation)
}

/// What ZenML encrypts with.
async fn encrypts(site: &Site) -> Result<String> {
    let name = "ZENML_SECRETS_STORE_ENCRYPTION_KEY";
    let made = |secret: &Secret| entry(secret, name).is_some();
    let environment = site.until("prod-environment", "made", made).await?;
    entry(&environment, name).context("no key")
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn f07_a_file_is_migrated_while_no_pod_runs_and_is_kept_for_the_next_server() -> Result<()> {
    garbage_collector().await?;
    site("sqlite", async |site| {
        let _operator = site.operator().await?;
        let of = |release: &str| of_release(with_zenml(server("prod")), release);
        site.apply(&of("1")).await?;
        let job = site.migration("prod").await?;
        site.until("prod", "migrating", waiting::<ZenServer>(reason::MIGRATING))
            .await?;
        ensure!(
            site.api::<Deployment>().get_opt("prod").await?.is_none(),
            "pods before their database"
        );
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let pod = pod.context("no pod")?;
        let volume = pod.volumes.iter().flatten().find(|one| one.name == "data");
        let claim = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
        ensure!(claim.is_some_and(|claim| claim.claim_name == "prod-data"), "{pod:?}");
        let whole = serde_json::to_string(&job)?;
        ensure!(whole.contains("prod-environment") && whole.contains("runAsNonRoot"), "{whole}");
        let report = json!({"begun": true, "from": null, "to": "0.1"});
        site.migrates("prod", 0, report).await?;
        let done = fits(site, "1").await?;
        let status = done.status.context("no status")?;
        let last = status.last_migration.context("no migration")?;
        ensure!(last.result == MigrationResult::Succeeded && last.to.as_deref() == Some("0.1"));
        ensure!(status.database.and_then(|it| it.schema).as_deref() == Some("0.1"));
        let runs = |release: &'static str| {
            move |it: &Deployment| {
                image(it) == Some(&format!("zenml-server:{release}")) && replicas(it) == Some(1)
            }
        };
        let deployment: Deployment = site.until("prod", "running", runs("1")).await?;
        let strategy = deployment.spec.strategy.as_ref();
        let strategy = strategy.and_then(|it| it.type_.as_deref());
        ensure!(strategy == Some("Recreate"), "two writers of a file");
        let data = site.api::<PersistentVolumeClaim>().get("prod-data").await?;
        ensure!(data.owner_references().is_empty(), "it goes with its server");

        // Another release: pods end, the Job runs, fails, and the pods of before come back.
        site.apply(&of("2")).await?;
        let ended = |it: &Deployment| image(it) == Some("zenml-server:1") && replicas(it) == Some(0);
        site.until("prod", "ended", ended).await?;
        let report = json!({
            "begun": true, "from": "0.1", "to": "0.1", "backup": "/there", "message": "Duplicate column",
        });
        let job = site.migrates("prod", 3, report).await?;
        ensure!(serde_json::to_string(&job)?.contains("zenml-server:2"), "by the old image");
        let failed = stalled::<ZenServer>(reason::MIGRATION_FAILED);
        let failed = site.until("prod", "failed", failed).await?;
        let said = message(&failed, condition::MIGRATION_SUCCEEDED);
        ensure!(said.contains("Duplicate column") && said.contains("job/prod-migration"), "{said}");
        site.until("prod", "running as before", runs("1")).await?;

        // Nobody tries again unasked; when the Job is deleted, somebody asked.
        let uid = job.uid().context("no uid")?;
        site.delete::<Job>("prod-migration").await?;
        site.until_gone::<Job>("prod-migration", &uid).await?;
        let again = site.migrates("prod", 3, json!({"begun": true, "message": "still"})).await?;
        ensure!(again.uid().as_deref() != Some(&uid), "the same Job");
        let told = |it: &ZenServer| message(it, condition::MIGRATION_SUCCEEDED).contains("still");
        site.until("prod", "told so", told).await?;

        // The old image fits what was put back, without another Job.
        site.apply(&of("1")).await?;
        fits(site, "1").await?;
        site.until("prod", "running", runs("1")).await?;
        let last = site.api::<Job>().get("prod-migration").await?;
        ensure!(last.uid() == again.uid(), "a Job for nothing");

        // The data outlives the server, and is the next one's; so is what encrypts it, if somebody says so.
        let key = encrypts(site).await?;
        let old: Secret = site.api().get("prod-auth").await?;
        let gone = site.api::<ZenServer>().get("prod").await?;
        let gone = gone.uid().context("no uid")?;
        site.delete::<ZenServer>("prod").await?;
        site.until_gone::<ZenServer>("prod", &gone).await?;
        site.until_gone::<Job>("prod-migration", &again.uid().context("no uid")?)
            .await?;
        site.until_gone::<Secret>("prod-auth", &old.uid().context("no uid")?)
            .await?;
        site.apply(&of("1")).await?;
        let asks = stalled::<ZenServer>(reason::KEPT);
        let asks = site.until("prod", "asking", asks).await?;
        let said = message(&asks, condition::READY);
        ensure!(said.contains(&format!("zenop.dev/restore={gone}")), "{said}");
        ensure!(
            site.api::<Secret>().get_opt("prod-auth").await?.is_none(),
            "another pepper without a word"
        );
        let continues = json!({"zenop.dev/restore": gone});
        site.apply(&with(of("1"), "metadata.annotations", continues))
            .await?;
        let report = json!({"begun": true, "from": "0.1", "to": "0.1"});
        site.migrates("prod", 0, report).await?;
        fits(site, "1").await?;
        ensure!(encrypts(site).await? == key, "what is encrypted is lost");
        let kept = site.api::<PersistentVolumeClaim>().get("prod-data").await?;
        ensure!(kept.uid() == data.uid(), "another volume");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn f09_with_mysql_the_pods_of_before_stay_until_a_migration_succeeded() -> Result<()> {
    garbage_collector().await?;
    site("mysql", async |site| {
        let _operator = site.operator().await?;
        site.apply(&vault(json!({"user": "zen", "pass": "s3cret"})))
            .await?;
        site.apply(&login("db", &["user", "pass"])).await?;
        let of = |release: &str| of_release(with_mysql(server("prod"), "{{db.pass}}"), release);
        site.apply(&of("1")).await?;
        site.migrates("prod", 0, json!({"begun": true, "to": "0.1"}))
            .await?;
        fits(site, "1").await?;
        let on_first = |it: &Deployment| image(it) == Some("zenml-server:1");
        site.until("prod", "running", on_first).await?;
        let environment: Secret = site.api().get("prod-environment").await?;
        let password = entry(&environment, "ZENML_STORE_PASSWORD");
        ensure!(password.as_deref() == Some("s3cret"), "no password");
        let backups = site
            .api::<PersistentVolumeClaim>()
            .get("prod-backup")
            .await?;
        ensure!(
            backups.owner_references().is_empty(),
            "the backup goes with its server"
        );

        // The database cannot be reached: that passes, and is tried again by itself.
        let before = generation(site).await?;
        site.apply(&of("2")).await?;
        let refused = json!({"message": "Can't connect to MySQL server"});
        let first = site.migrates("prod", 3, refused).await?;
        let waits = |it: &ZenServer| {
            let said = message(it, condition::MIGRATION_SUCCEEDED);
            waiting::<ZenServer>(reason::MIGRATING)(it) && said.contains("Can't connect")
        };
        site.until("prod", "told so", waits).await?;
        ensure!(generation(site).await? == before, "the pods were touched");
        site.until_gone::<Job>("prod-migration", &first.uid().context("no uid")?)
            .await?;
        site.migrates(
            "prod",
            0,
            json!({"begun": true, "from": "0.1", "to": "0.2"}),
        )
        .await?;
        fits(site, "2").await?;
        let on_second = |it: &Deployment| image(it) == Some("zenml-server:2");
        site.until("prod", "running", on_second).await?;

        // Another password is no reason to migrate.
        site.apply(&vault(json!({"user": "zen", "pass": "other"})))
            .await?;
        let changed =
            |secret: &Secret| entry(secret, "ZENML_STORE_PASSWORD").as_deref() == Some("other");
        site.until("prod-environment", "with the other password", changed)
            .await?;
        fits(site, "2").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_is_refused() -> Result<()> {
    site("databases", async |site| {
        let sqlite = with_zenml(server("prod"));
        let mysql = with_mysql(server("prod"), "{{db.pass}}");
        let no_backup = json!({"backup": "None"});
        for (object, why) in [
            (
                with(sqlite.clone(), "spec.replicas", json!(2)),
                "SQLite allows one replica",
            ),
            (
                with(sqlite.clone(), "spec.database", json!({"type": "MySQL"})),
                "must match database.type",
            ),
            (
                with(mysql.clone(), "spec.database.type", json!("SQLite")),
                "must match database.type",
            ),
            (
                with_mysql(server("prod"), "s3cret"),
                "a password belongs in a ZenSecret",
            ),
            (
                with(sqlite.clone(), "spec.migration", no_backup),
                "needs acceptNoBackup",
            ),
            (
                with(sqlite.clone(), "spec.migration.backup", json!("Database")),
                "needs database.type: MySQL",
            ),
            (
                with(sqlite.clone(), "spec.migration.timeout", json!("5s")),
                "between 1m and 24h",
            ),
            (
                with(mysql.clone(), "spec.database.mysql.host", json!("a/b")),
                "should match",
            ),
        ] {
            match site.apply(&object).await {
                Ok(_) => bail!("taken: {object}"),
                Err(error) => ensure!(format!("{error:#}").contains(why), "{error:#}"),
            }
        }
        site.apply(&sqlite).await?;
        match site.apply(&mysql).await {
            Ok(_) => bail!("another database without a word"),
            Err(error) => ensure!(
                format!("{error:#}").contains("allowDatabaseChange"),
                "{error:#}"
            ),
        }
        site.apply(&with(
            mysql,
            "spec.migration.allowDatabaseChange",
            json!(true),
        ))
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_volume_or_job_of_somebody_else_is_left_alone() -> Result<()> {
    site("foreign", async |site| {
        let _operator = site.operator().await?;
        let theirs = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "prod-data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        site.apply(&theirs).await?;
        let before = site.api::<PersistentVolumeClaim>().get("prod-data").await?;
        site.apply(&with_zenml(server("prod"))).await?;
        let held = stalled::<ZenServer>(reason::CONFLICT);
        let held = site.until("prod", "in conflict", held).await?;
        let said = message(&held, condition::READY);
        ensure!(said.contains("prod-data"), "{said}");
        let after = site.api::<PersistentVolumeClaim>().get("prod-data").await?;
        ensure!(before.metadata.resource_version == after.metadata.resource_version);
        ensure!(site.api::<Job>().get_opt("prod-migration").await?.is_none());
        Ok(())
    })
    .await
}

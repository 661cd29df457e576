//! How the database of a ZenML server follows its image: by a Job under the new image, before the pods.
//!
//! There is one Job of that name, so that two never run at once. Until it succeeded the pods stay as they
//! are; those with SQLite end first, as a file has one writer, and come back under the old image if it
//! fails. What the Job does is in `migrate.py`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use kube::{ResourceExt, core::ApiResource};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    children::{SCRATCH, of_zenml},
    database,
    environment::Environment,
    overlay,
};
use crate::{
    api::{
        BackupMethod, DatabaseStatus, DatabaseType, MigrationResult, MigrationStatus, VOLUME_PATH,
        ZenServer, annotation, condition, label, reason,
    },
    reconcile::{
        Reader,
        apply::short_hash,
        error::CallError,
        plan::{Child, Doomed, Fact, Live, Note, Verdict},
    },
};

/// What the Job runs.
const SCRIPT: &str = include_str!("migrate.py");

/// What it says at its end.
const REPORT: &str = "/dev/termination-log";

/// How it ends if trying again changes nothing: `FAILED` of `migrate.py`.
const FAILED: i32 = 3;

/// When to look again for what no watch shows.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// When to try again to reach a database.
const LATER: SignedDuration = SignedDuration::from_secs(30);

/// Where a dump is written to.
const DUMP: &str = "zenop-backup";

/// The kind of the Job.
pub(super) fn job_resource() -> ApiResource {
    ApiResource::erase::<Job>(&())
}

/// The Job of a server with a database, if there is one.
///
/// # Errors
/// If the API server does not say.
pub(super) async fn observe(read: &Reader, server: &ZenServer) -> Result<Option<Live>, CallError> {
    if server.spec.image.is_none() {
        return Ok(None);
    }
    let namespace = server.namespace().unwrap_or_default();
    let name = server.migration_name();
    read.live(&job_resource(), &namespace, &name).await
}

/// What a decision needs.
#[derive(Clone, Copy)]
pub(super) struct Situation<'a> {
    pub server: &'a ZenServer,
    pub environment: &'a Environment,
    pub job: Option<&'a Live>,
    /// The pods of the server and of the Job; read while the database does not fit.
    pub pods: &'a [Live],
    /// Whether the database is left as it is until `update.trigger` says otherwise.
    pub is_held: bool,
    pub now: Timestamp,
}

/// What becomes of the database, and of the pods meanwhile.
#[derive(Debug, Default)]
pub(super) struct Migration {
    /// What the pods run. None: they are left as they are.
    pub image: Option<String>,
    /// No pod may run.
    pub drains: bool,
    pub job: Option<Child>,
    pub doomed: Option<Doomed>,
    /// Why the server is not as its spec says.
    pub waits: Option<Verdict>,
    pub fact: Option<Fact>,
    pub note: Option<Note>,
    pub deadline: Option<Timestamp>,
    pub fits: Option<DatabaseStatus>,
    pub last: Option<MigrationStatus>,
}

/// Whether the database is for the server's image, as far as status remembers.
pub(super) fn is_recorded(server: &ZenServer) -> bool {
    let recorded = server
        .status
        .as_ref()
        .and_then(|status| status.database.as_ref());
    match &server.spec.image {
        Some(image) => recorded.is_some_and(|recorded| recorded.fits == fits(server, image)),
        None => true,
    }
}

/// The image and where the database is.
fn fits(server: &ZenServer, image: &str) -> String {
    let database = &server.spec.database;
    let mysql = database.mysql.as_ref();
    let place = mysql.map(|mysql| (&mysql.host, mysql.port, &mysql.database));
    short_hash(&json!([image, database.kind, place]).to_string())
}

/// The Job, as it was when we looked.
struct Seen<'a> {
    live: &'a Live,
    /// None while it runs.
    end: Option<End>,
    fits: &'a str,
    attempt: &'a str,
    image: &'a str,
}

/// How it ended.
#[derive(Clone, Copy)]
struct End {
    succeeded: bool,
    at: Timestamp,
}

/// What it said at its end.
#[derive(Debug, Default, Deserialize)]
struct Report {
    /// Whether it could reach the database, and nobody else was at it.
    #[serde(default)]
    begun: bool,
    from: Option<String>,
    to: Option<String>,
    backup: Option<String>,
    message: Option<String>,
}

impl Report {
    /// One that says nothing was cut off, and may have been.
    fn was_begun(&self) -> bool {
        self.begun || self.message.is_none()
    }
}

impl<'a> Seen<'a> {
    fn of(live: &'a Live) -> Self {
        let text = |path: &str| live.body.pointer(path).and_then(Value::as_str);
        let annotations = live.body.pointer("/metadata/annotations");
        let annotated = |name: &str| annotations.and_then(|all| all.get(name)?.as_str());
        let conditions = live
            .body
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let end = |condition: &Value| {
            let is = |field: &str| condition.get(field).and_then(Value::as_str);
            let succeeded = match (is("type")?, is("status")?) {
                ("Complete", "True") => true,
                ("Failed", "True") => false,
                _ => return None,
            };
            let at = is("lastTransitionTime")?.parse().ok()?;
            Some(End { succeeded, at })
        };
        Self {
            live,
            end: conditions.into_iter().flatten().find_map(end),
            fits: annotated(annotation::MIGRATION_FITS).unwrap_or_default(),
            attempt: annotated(annotation::MIGRATION_ATTEMPT).unwrap_or_default(),
            image: text("/spec/template/spec/containers/0/image").unwrap_or_default(),
        }
    }

    fn doomed(&self, server: &ZenServer) -> Doomed {
        Doomed {
            resource: job_resource(),
            name: server.migration_name(),
            uid: self.live.uid.clone(),
            version: None,
        }
    }

    /// What the last of its pods said.
    fn report(&self, pods: &[Live]) -> Report {
        let ended = |pod: &Live| {
            let state = pod
                .body
                .pointer("/status/containerStatuses/0/state/terminated")?;
            let at = state.get("finishedAt")?.as_str()?.to_owned();
            let message = state.get("message")?.as_str()?;
            Some((at, serde_json::from_str(message).ok()?))
        };
        let pods = pods
            .iter()
            .filter(|pod| pod.is_controlled_by(&self.live.uid));
        let last = pods
            .filter_map(ended)
            .max_by(|(one, _), (other, _)| one.cmp(other));
        last.map_or_else(Report::default, |(_, report): (String, Report)| report)
    }
}

impl Situation<'_> {
    /// Decides.
    pub(super) fn turn(self) -> Migration {
        let status = self.server.status.as_ref();
        let recorded = status.and_then(|status| status.database.clone());
        let last = status.and_then(|status| status.last_migration.clone());
        let kept = Migration {
            fits: recorded,
            last,
            ..Migration::default()
        };
        let Some(image) = self.server.spec.image.as_deref() else {
            return kept;
        };
        let seen = self.job.map(Seen::of);
        match &seen {
            Some(job) => match job.end {
                None => self.runs(kept),
                Some(end) => self.ended(image, job, end, kept),
            },
            None if is_recorded(self.server) => self.fitting(image, kept),
            None if self.is_held => self.held(image, kept),
            None => self.start(image, kept),
        }
    }

    fn is_sqlite(self) -> bool {
        self.server.spec.database.kind == DatabaseType::Sqlite
    }

    /// The image of before, for pods that cannot just be left as they are.
    fn before(self, kept: &Migration) -> Option<String> {
        let fits = kept.fits.as_ref().filter(|_| self.is_sqlite())?;
        Some(fits.image.clone())
    }

    /// Nothing about the pods changes but that they end first, where they must.
    fn meanwhile(self, waits: &str, kept: Migration) -> Migration {
        let message = format!(
            "{waits}; see kubectl logs job/{}",
            self.server.migration_name()
        );
        Migration {
            image: self.before(&kept),
            drains: self.is_sqlite(),
            waits: Some(Verdict::Waiting {
                reason: reason::MIGRATING,
                message: message.clone(),
            }),
            fact: Some(fact(false, reason::MIGRATING, message)),
            ..kept
        }
    }

    fn runs(self, kept: Migration) -> Migration {
        self.meanwhile("the database is brought to the schema of the image", kept)
    }

    fn fitting(self, image: &str, kept: Migration) -> Migration {
        let schema = kept.fits.as_ref().and_then(|it| it.schema.as_deref());
        let message = match schema {
            Some(schema) => format!("the database has the schema {schema} of the image"),
            None => "the database has the schema of the image".to_owned(),
        };
        Migration {
            image: Some(image.to_owned()),
            fact: Some(fact(true, reason::MIGRATED, message)),
            ..kept
        }
    }

    /// Database and pods go on as they are.
    fn held(self, image: &str, kept: Migration) -> Migration {
        let before = kept.fits.as_ref().map(|fits| fits.image.clone());
        let message = format!("another update.trigger brings the database to {image}");
        Migration {
            image: before.or_else(|| Some(image.to_owned())),
            fact: Some(fact(true, reason::HELD_BACK, message)),
            ..kept
        }
    }

    fn ended(self, image: &str, job: &Seen<'_>, end: End, kept: Migration) -> Migration {
        let wanted = fits(self.server, image);
        let finished = Time(end.at);
        let is_known = kept
            .last
            .as_ref()
            .and_then(|last| last.finished_time.as_ref())
            == Some(&finished);
        let report = job.report(self.pods);
        let kept = match is_known {
            true => kept,
            false => self.recorded(job, end, &report, kept),
        };
        if kept.fits.as_ref().is_some_and(|it| it.fits == wanted) {
            return self.tidied(image, job, end, kept);
        }
        if self.is_held {
            return self.held(image, kept);
        }
        let is_same = job.fits == wanted && job.attempt == self.attempt(&wanted);
        let was_begun = is_known || report.was_begun();
        match (end.succeeded, is_same, was_begun) {
            (false, true, true) => self.failed(&report, kept),
            (false, true, false) if end.at.saturating_add(LATER).is_ok_and(|at| at > self.now) => {
                let why = report.message.unwrap_or_default();
                let waits = format!("the migration could not begin and is tried again: {why}");
                Migration {
                    deadline: end.at.saturating_add(LATER).ok(),
                    ..self.meanwhile(&waits, kept)
                }
            }
            // In the way of the next.
            _ => Migration {
                doomed: Some(job.doomed(self.server)),
                deadline: self.now.saturating_add(SOON).ok(),
                ..self.meanwhile("a migration is about to begin", kept)
            },
        }
    }

    /// Notes what a Job that ended did.
    fn recorded(self, job: &Seen<'_>, end: End, report: &Report, kept: Migration) -> Migration {
        let wanted = MigrationStatus {
            image: job.image.to_owned(),
            result: match end.succeeded {
                true => MigrationResult::Succeeded,
                false => MigrationResult::Failed,
            },
            from: report.from.clone(),
            to: report.to.clone(),
            backup: report.backup.clone(),
            finished_time: Some(Time(end.at)),
        };
        let to = report.to.as_deref().unwrap_or("the image's");
        let note = match end.succeeded {
            true => Note {
                warning: false,
                reason: "Migrated",
                action: "Migrate",
                message: format!("the database has the schema {to} now"),
            },
            false => Note {
                warning: true,
                reason: reason::MIGRATION_FAILED,
                action: "Migrate",
                message: failure(self.server, report),
            },
        };
        let fits = end.succeeded.then(|| DatabaseStatus {
            fits: job.fits.to_owned(),
            image: job.image.to_owned(),
            schema: report.to.clone(),
        });
        let was_begun = report.was_begun();
        Migration {
            fits: fits.or(kept.fits.clone()),
            note: (end.succeeded || was_begun).then_some(note),
            last: match end.succeeded || was_begun {
                true => Some(wanted),
                false => kept.last.clone(),
            },
            ..kept
        }
    }

    /// The Job and its log stay for a while.
    fn tidied(self, image: &str, job: &Seen<'_>, end: End, kept: Migration) -> Migration {
        let keep = self.server.spec.migration.ttl_seconds_after_finished;
        let over = end
            .at
            .saturating_add(SignedDuration::from_secs(keep.into()));
        let over = over.unwrap_or(Timestamp::MAX);
        Migration {
            doomed: (over <= self.now).then(|| job.doomed(self.server)),
            deadline: (over > self.now).then_some(over),
            ..self.fitting(image, kept)
        }
    }

    /// The pods of before go on.
    fn failed(self, report: &Report, kept: Migration) -> Migration {
        let message = match &report.message {
            Some(_) => failure(self.server, report),
            // Said once; the pod may be gone by now.
            None => told(self.server).unwrap_or_else(|| failure(self.server, report)),
        };
        Migration {
            image: self.before(&kept),
            waits: Some(Verdict::Stalled {
                reason: reason::MIGRATION_FAILED,
                message: message.clone(),
            }),
            fact: Some(fact(false, reason::MIGRATION_FAILED, message)),
            ..kept
        }
    }

    fn start(self, image: &str, kept: Migration) -> Migration {
        if self.environment.waits.is_some() {
            // Whatever it waits for is said.
            return kept;
        }
        if let Some(running) = self.writer().filter(|_| self.is_sqlite()) {
            let waits = self.meanwhile("the pods end, then the database is migrated", kept);
            return Migration {
                deadline: self.now.saturating_add(SOON).ok(),
                // Status may have been lost.
                image: waits.image.or(Some(running)),
                ..waits
            };
        }
        Migration {
            job: Some(self.job(image)),
            ..self.meanwhile("a migration begins", kept)
        }
    }

    /// The image of a pod that may write to the database.
    fn writer(self) -> Option<String> {
        let containers = |pod: &Live| {
            let all = pod.body.pointer("/spec/containers")?.as_array()?;
            let is_zenml = |one: &&Value| {
                let name = one.get("name").and_then(Value::as_str);
                name.is_some_and(|name| [overlay::ZENML, overlay::MIGRATION].contains(&name))
            };
            Some(
                all.iter()
                    .find(is_zenml)?
                    .get("image")?
                    .as_str()?
                    .to_owned(),
            )
        };
        let runs = |pod: &&Live| {
            let phase = pod.body.pointer("/status/phase").and_then(Value::as_str);
            !phase.is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase))
        };
        self.pods.iter().filter(runs).find_map(containers)
    }

    /// What makes another try worth while.
    fn attempt(self, fits: &str) -> String {
        let migration = &self.server.spec.migration;
        short_hash(
            &json!([
                fits,
                migration.backup,
                migration.allow_downgrade,
                migration.timeout,
                self.environment.print,
                overlay::of_migration(&self.server.spec.pod_template),
            ])
            .to_string(),
        )
    }

    fn job(self, image: &str) -> Child {
        let fits = fits(self.server, image);
        let attempt = self.attempt(&fits);
        let labels = json!({
            label::NAME: ZenServer::MIGRATION_PODS,
            label::INSTANCE: self.server.name_any(),
            label::COMPONENT: "migration",
        });
        let migration = &self.server.spec.migration;
        let body = json!({
            "metadata": {
                "labels": labels,
                "annotations": {
                    annotation::MIGRATION_FITS: fits,
                    annotation::MIGRATION_ATTEMPT: attempt,
                },
            },
            "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": migration.timeout.0.as_secs(),
                "podFailurePolicy": {"rules": [
                    {"action": "FailJob", "onExitCodes": {
                        "containerName": "migration", "operator": "In", "values": [FAILED],
                    }},
                    // A node that is emptied: what was cut off is put back by the next pod.
                    {"action": "Ignore", "onPodConditions": [
                        {"type": "DisruptionTarget", "status": "True"},
                    ]},
                ]},
                "template": self.pod_template(image, &labels),
            },
        });
        Child {
            resource: job_resource(),
            name: self.server.migration_name(),
            body,
            live: None,
            create_only: true,
            adopts: false,
            kept: false,
        }
    }

    fn pod_template(self, image: &str, labels: &Value) -> Value {
        let runs = json!({"command": ["python3"], "args": self.arguments()});
        let env = &self.environment.variables;
        let mut template = json!({
            "metadata": {"labels": labels},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                // Long enough to put a backup back.
                "terminationGracePeriodSeconds": 600,
                "securityContext": {
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumes": [{"name": SCRATCH, "emptyDir": {}}],
                "containers": [of_zenml(overlay::MIGRATION, image, env, runs)],
            },
        });
        if let Some((claim, _)) = database::wanted(self.server) {
            database::mount(&mut template, 0, &claim);
        }
        overlay::lay(
            &self.server.spec.pod_template,
            overlay::MIGRATION,
            &mut template,
        );
        template
    }

    fn arguments(self) -> Vec<String> {
        let migration = &self.server.spec.migration;
        let backup = match migration.backup {
            BackupMethod::None => "None",
            BackupMethod::Dump => "Dump",
            BackupMethod::Database => "Database",
        };
        let mut all = vec![
            "-c".to_owned(),
            SCRIPT.to_owned(),
            format!("--backup={backup}"),
            format!("--file={VOLUME_PATH}/{DUMP}"),
            format!("--report={REPORT}"),
        ];
        all.extend(
            migration
                .allow_downgrade
                .then(|| "--allow-downgrade".to_owned()),
        );
        all
    }
}

fn fact(holds: bool, reason: &'static str, message: String) -> Fact {
    Fact {
        condition: condition::MIGRATION_SUCCEEDED,
        holds,
        reason,
        message,
    }
}

fn failure(server: &ZenServer, report: &Report) -> String {
    let job = server.migration_name();
    let why = report.message.as_deref().unwrap_or("it was ended");
    format!(
        "the migration failed: {why}. The pods stay as they were; see kubectl logs job/{job}. Put \
         spec.image back, or mend the cause and kubectl delete job/{job} to try again"
    )
}

/// What status says of the failure already.
fn told(server: &ZenServer) -> Option<String> {
    let conditions = server.status.as_ref()?.conditions.iter();
    let mut of = conditions.filter(|it| it.type_ == condition::MIGRATION_SUCCEEDED);
    of.find(|it| it.reason == reason::MIGRATION_FAILED)
        .map(|it| it.message.clone())
}

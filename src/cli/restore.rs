//! `restore`: to have back what was deleted, and `list --retained`, which tells what can be.

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ListParams};

use super::{
    Session,
    arguments::{DryRun, Patience, WriteArguments},
    cluster::Cluster,
    failure::{Exit, Failure},
    noun::{Noun, report},
    span::relative,
    table::{aligned, printable},
    wait::{self, Goal},
};
use crate::api::{Record, label};

/// `restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArguments {
    /// The name that it had, or its UID.
    #[arg(value_name = "NAME|UID")]
    wanted: String,

    #[command(flatten)]
    write: WriteArguments,

    /// Do not wait until it is Ready.
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    patience: Patience,
}

/// Makes a deleted object again, from its record.
///
/// # Errors
/// If there is no record of it, or several, or its name is in use.
pub async fn restore<K: Noun>(
    session: &Session,
    arguments: &RestoreArguments,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let records = records::<K>(&cluster).await?;
    let record = chosen::<K>(records, &arguments.wanted, &cluster)?;
    let object: DynamicObject = serde_json::from_value(record.successor()).map_err(|error| {
        Failure::new(Exit::Failed, format!("the record cannot be read: {error}"))
    })?;
    let dry = arguments.write.dry_run;
    let mut found = cluster.create::<K>(object, dry).await?;
    if !arguments.no_wait && dry == DryRun::None {
        let (goal, patience) = (Goal::ready(), &arguments.patience);
        wait::until::<K>(session, &cluster, &record.name, &goal, patience).await?;
        found = cluster.read(&record.name).await?;
    }
    report(session, &arguments.write, &found.raw, "restored")
}

/// Shows what was deleted and can be had back.
///
/// # Errors
/// If the Secrets with the records may not be listed.
pub async fn list<K: Noun>(session: &Session) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let mut records = records::<K>(&cluster).await?;
    if records.is_empty() {
        let namespace = &cluster.namespace;
        session.out.note(&format!(
            "No deleted {} can be had back in namespace {namespace}.",
            K::plural(&())
        ));
        return Ok(());
    }
    records.sort_by(|a, b| (&a.name, a.deleted.0).cmp(&(&b.name, b.deleted.0)));
    let now = (cluster.now)();
    let heads = ["NAME", "UID", "DELETED", "UNTIL"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heads.to_vec())
        .chain(records.iter().map(|record| row(record, now)))
        .collect();
    session.out.prose(&aligned(&rows, 0))
}

fn row(record: &Record, now: Timestamp) -> Vec<String> {
    let until = record.until.as_ref();
    vec![
        printable(&record.name),
        printable(&record.uid),
        relative(record.deleted.0, now),
        until.map_or("retained".to_owned(), |until| relative(until.0, now)),
    ]
}

/// The records of the namespace that are not over. Only the operator can say whether one is genuine, and does.
async fn records<K: Noun>(cluster: &Cluster) -> Result<Vec<Record>, Failure> {
    let kind = K::kind(&());
    let selector = format!("{}={}", label::RECORD, kind.to_lowercase());
    let parameters = ListParams::default().labels(&selector);
    let found = cluster.core::<Secret>().list(&parameters).await;
    let found = found.map_err(|error| Failure::of("listing the Secrets with records", &error))?;
    let now = (cluster.now)();
    let record = |secret: Secret| -> Option<Record> {
        let data = secret.data?;
        let record: Record = serde_json::from_slice(&data.get(Record::ENTRY)?.0).ok()?;
        let is_open = record.until.as_ref().is_none_or(|until| now < until.0);
        (record.kind == kind && is_open).then_some(record)
    };
    Ok(found.into_iter().filter_map(record).collect())
}

fn chosen<K: Noun>(all: Vec<Record>, wanted: &str, cluster: &Cluster) -> Result<Record, Failure> {
    let fits = |record: &Record| record.name == wanted || record.uid == wanted;
    let mut fitting: Vec<_> = all.into_iter().filter(fits).collect();
    let title = cluster.title::<K>(wanted);
    let noun = K::NOUN;
    if fitting.len() > 1 {
        let uids: Vec<_> = fitting
            .iter()
            .map(|record| printable(&record.uid))
            .collect();
        return Err(Failure::usage(format!(
            "{title} was deleted more than once; say which, by its UID: {}",
            uids.join(", ")
        )));
    }
    fitting.pop().ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!(
                "there is no record of {title}: see `kubectl zen {noun} list --retained`. What is \
                 deleted can be had back while spec.policy.undoWindow of its ZenServer lasts"
            ),
        )
    })
}

//! `create`.

use serde_json::Value;

use super::{
    Session,
    arguments::{DryRun, Patience, WriteArguments},
    cluster::{Cluster, manifest},
    failure::Failure,
    noun::{Noun, report},
    wait::{self, Goal},
};

/// Makes an object of the server that is named, or of the only one, and says so: at once, or with
/// patience once it is Ready.
///
/// # Errors
/// If it is not clear which server, the object is refused, or it does not become Ready in time.
pub async fn create<K: Noun>(
    session: &Session,
    name: &str,
    server: Option<&str>,
    spec: impl FnOnce(&str) -> Value,
    write: &WriteArguments,
    patience: Option<&Patience>,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let server = match server {
        Some(server) => server.to_owned(),
        None => cluster.only_server().await?,
    };
    make::<K>(session, &cluster, name, spec(&server), write, patience).await
}

/// Makes an object and says so: at once, or with patience once it is Ready.
///
/// # Errors
/// If the object is refused, or does not become Ready in time.
pub async fn make<K: Noun>(
    session: &Session,
    cluster: &Cluster,
    name: &str,
    spec: Value,
    write: &WriteArguments,
    patience: Option<&Patience>,
) -> Result<(), Failure> {
    let object = manifest::<K>(name, spec);
    let mut found = cluster.create::<K>(object, write.dry_run).await?;
    if let Some(patience) = patience
        && write.dry_run == DryRun::None
    {
        wait::until::<K>(session, cluster, name, &Goal::ready(), patience).await?;
        found = cluster.read(name).await?;
    }
    report(session, write, &found.raw, "created")
}

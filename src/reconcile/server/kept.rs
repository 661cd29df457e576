//! What outlives a server that has a database: its pepper. ZenML encrypts secrets in its database with a
//! key that comes of it, and API keys are what they are under it.
//!
//! It stands in a Secret of its own, which belongs to nobody and so stays when the server goes. The next
//! server of that name takes it up if its author says so: whoever may make Secrets, and no servers, could
//! else choose a pepper.

use kube::ResourceExt;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    children::{AuthSecret, auth_secret_resource, pepper_in},
    stalled,
};
use crate::{
    api::{ZenServer, annotation, label, reason},
    auth::keyring::PEPPER_ENTRY,
    reconcile::{
        error::Invalid,
        plan::{Child, Live},
    },
};

/// The pepper that the server is to begin with, if it is to continue an earlier one.
///
/// # Errors
/// If there is one, and nobody said what to do about it, or it is not this server's.
pub(super) fn check(
    server: &ZenServer,
    kept: Option<&Live>,
    auth: Option<&(Live, AuthSecret)>,
) -> Result<Option<Zeroizing<[u8; 32]>>, Invalid> {
    let Some(kept) = kept.filter(|_| server.spec.image.is_some()) else {
        return Ok(None);
    };
    let name = server.kept_secret_name();
    let Some(of) = of(kept) else {
        return Err(stalled(
            reason::CONFLICT,
            format!(
                "Secret {name} exists and is of no deleted ZenServer; it was left alone: delete it, or make \
                 this server under another name"
            ),
        ));
    };
    let found = pepper_in(kept);
    match auth {
        Some((live, _)) if pepper_in(live) == found => Ok(None),
        Some(_) => Err(stalled(
            reason::AUTH_SECRET_INVALID,
            format!(
                "Secret {name} is of an earlier server, and this one has another pepper: keep it \
                 elsewhere if its database is still needed, then delete it"
            ),
        )),
        None if continues(server, of) => match found {
            Some(pepper) => Ok(Some(pepper)),
            None => Err(stalled(
                reason::AUTH_SECRET_INVALID,
                format!("Secret {name} holds no pepper: restore it from a backup, or delete it"),
            )),
        },
        None => Err(stalled(
            reason::KEPT,
            format!(
                "Secret {name} was kept of a deleted ZenServer. To go on with its keys and what its \
                 database encrypts: kubectl annotate zenserver {} {}={}. To begin anew: delete the Secret",
                server.name_any(),
                annotation::RESTORE,
                of
            ),
        )),
    }
}

fn continues(server: &ZenServer, of: &str) -> bool {
    let said = server.annotations().get(annotation::RESTORE);
    said.is_some_and(|said| said == of)
}

/// The UID of the server that it was made for.
fn of(kept: &Live) -> Option<&str> {
    let annotations = kept.body.pointer("/metadata/annotations")?;
    annotations.get(annotation::KEPT_OF)?.as_str()
}

/// The Secret, for a server with this auth Secret. One that is there stays as it is.
pub(super) fn secret(server: &ZenServer, auth: &Child, live: Option<Live>) -> Option<Child> {
    server.spec.image.as_ref()?;
    let entry = format!("/data/{PEPPER_ENTRY}");
    let there = || auth.live.as_ref()?.body.pointer(&entry);
    let pepper = auth.body.pointer(&entry).or_else(there)?;
    let body = json!({
        "type": "Opaque",
        "metadata": {
            "labels": {label::NAME: "zenserver", label::COMPONENT: "kept"},
            "annotations": {annotation::KEPT_OF: server.uid()},
        },
        "data": {PEPPER_ENTRY: pepper},
    });
    Some(Child {
        resource: auth_secret_resource(),
        name: server.kept_secret_name(),
        body,
        live,
        create_only: true,
        adopts: false,
        kept: true,
    })
}

//! Writes down when accounts were last used: at most once per account and five minutes.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde_json::json;
use uuid::Uuid;

use super::KubeStore;
use crate::{api::ZenServiceAccount, auth::directory::Account};

/// The field manager of what the sidecar writes.
pub const FIELD_MANAGER: &str = "zenop-sidecar";
/// How old a recorded time may become.
const RESOLUTION: SignedDuration = SignedDuration::from_mins(5);
/// How often we look whose time is old.
const LOOK: Duration = Duration::from_secs(5);
/// How many are written at one look; the others wait for the next.
const AT_ONCE: usize = 50;
/// How long a write may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// An account whose recorded time is old.
struct Due {
    object: String,
    id: Uuid,
    seen: Timestamp,
}

/// Writes for ever. What fails is tried again at the next look; nobody waits for it.
pub(super) async fn record(store: Arc<KubeStore>, api: Api<ZenServiceAccount>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        for due in store.due(AT_ONCE) {
            if let Err(error) = write(&api, &due).await {
                tracing::debug!(account = %due.id, error, "last use not recorded");
            }
        }
    }
}

/// Whether a time is to be written, and which.
pub(super) fn due(account: &Account) -> Option<Timestamp> {
    let seen = account.last_seen()?;
    let old = account
        .last_recorded
        .is_none_or(|at| seen.duration_since(at) >= RESOLUTION);
    old.then_some(seen)
}

impl KubeStore {
    fn due(&self, at_most: usize) -> Vec<Due> {
        let describe = |account: &Account| {
            let seen = due(account)?;
            Some(Due {
                object: account.object.clone(),
                id: account.id,
                seen,
            })
        };
        self.with_directory(|d| d.accounts().filter_map(describe).take(at_most).collect())
    }
}

async fn write(api: &Api<ZenServiceAccount>, due: &Due) -> Result<(), String> {
    let second = Timestamp::from_second(due.seen.as_second()).unwrap_or(due.seen);
    let body = json!({
        "apiVersion": ZenServiceAccount::api_version(&()),
        "kind": ZenServiceAccount::kind(&()),
        "metadata": {"name": due.object, "uid": due.id},
        "status": {"lastAuthenticatedTime": Time(second)},
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    let call = api.patch_status(&due.object, &parameters, &patch);
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

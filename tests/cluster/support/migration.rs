//! The node's part in the migration of a database, where no node is.

use anyhow::{Context, Result};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use zenop::runtime::clock;

use super::Site;

impl Site {
    /// The running migration of a server, once there is one.
    pub async fn migration(&self, server: &str) -> Result<Job> {
        let runs = |job: &Job| {
            let status = job.status.as_ref();
            status.is_some_and(|status| status.active == Some(1))
                && job.metadata.deletion_timestamp.is_none()
        };
        self.until(&format!("{server}-migration"), "running", runs)
            .await
    }

    /// Lets the pod of the running migration end in this way, with this report. Returns the Job.
    pub async fn migrates(&self, server: &str, code: i32, report: Value) -> Result<Job> {
        let job = self.migration(server).await?;
        let uid = job.uid().context("no uid")?;
        let pods = self.api::<Pod>();
        let of_job =
            ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={uid}"));
        let all = pods.list(&of_job).await?;
        let pod = all
            .iter()
            .find(|pod| {
                pod.status
                    .as_ref()
                    .is_some_and(|it| it.phase.as_deref() == Some("Pending"))
            })
            .context("no pod of the migration")?;
        let now = clock::now();
        let ended = json!({
            "exitCode": code, "reason": "Ended", "message": report.to_string(),
            "startedAt": now, "finishedAt": now,
        });
        let status = json!({"status": {
            "phase": if code == 0 { "Succeeded" } else { "Failed" },
            "containerStatuses": [{
                "name": "migration", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": ended},
            }],
        }});
        pods.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await?;
        Ok(job)
    }
}

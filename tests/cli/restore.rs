//! What was deleted is had back.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use zenop::api::{ZenAPIKey, ZenServiceAccount};

use crate::{
    support::{account, key, server, site, with},
    zen::Zen,
};

#[tokio::test]
async fn a_deleted_account_and_its_key_are_had_back() -> Result<()> {
    site("cli-restore", async |site| {
        let _operator = site.operator().await?;
        let policy = json!({"undoWindow": "1h"});
        site.apply(&with(server("prod"), "spec.policy", policy))
            .await?;
        site.apply(&account("ci")).await?;
        site.apply(&key("main")).await?;
        let zen = Zen::new(site);
        let first = site.key_ready("main", 1).await?;
        let text = site.check_delivered("main", 1).await?;
        let ci: ZenServiceAccount = site.api().get("ci").await?;

        // Nothing was deleted yet.
        let none = zen.run(&["key", "list", "--retained"]).await?;
        ensure!(none.code == 0 && none.out.is_empty(), "{none:?}");
        let missing = zen.fails(3, &["key", "restore", "main"]).await?;
        ensure!(missing.contains("list --retained"), "{missing}");

        zen.ok(&["key", "delete", "main", "--yes", "--wait"])
            .await?;
        zen.ok(&["sa", "delete", "ci", "--yes", "--wait"]).await?;
        let listed = zen.ok(&["key", "list", "--retained"]).await?;
        let uid = first.uid().unwrap_or_default();
        ensure!(
            listed.starts_with("NAME") && listed.contains(&uid),
            "{listed}"
        );
        ensure!(listed.contains("in 5"), "{listed}");

        let said = zen.ok(&["sa", "restore", "ci"]).await?;
        ensure!(
            said == "zenserviceaccount.zenop.dev/ci restored\n",
            "{said}"
        );
        zen.ok(&["key", "restore", &uid]).await?;
        let back: ZenServiceAccount = site.api().get("ci").await?;
        let id = back.status.as_ref().and_then(|s| s.account_id.clone());
        ensure!(id == ci.uid() && back.uid() != ci.uid());
        let key: ZenAPIKey = site.api().get("main").await?;
        ensure!(key.uid() != first.uid());
        ensure!(site.check_delivered("main", 1).await? == text);
        site.settled().await?;
        zen.fails(3, &["key", "restore", "main"]).await?;

        // One that would be made again is not deleted here.
        let spec =
            json!({"deletionPolicy": "Retain", "ttl": "100h", "serviceAccountRef": {"name": "ci"}});
        let retained = with(crate::support::key("main"), "spec", spec);
        site.apply(&retained).await?;
        let refused = zen.fails(4, &["key", "delete", "main", "--yes"]).await?;
        ensure!(refused.contains("deletionPolicy is Retain"), "{refused}");
        Ok(())
    })
    .await
}

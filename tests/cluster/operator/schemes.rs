//! A server that asks nobody says so.

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;
use zenop::api::{ZenServer, condition, reason};

use crate::support::{says, server, site, with};

#[tokio::test]
async fn h4_a_server_that_asks_nobody_says_so_once_and_no_longer_than_it_is_so() -> Result<()> {
    site("scheme", async |site| {
        let _operator = site.operator().await?;
        let open = with(server("prod"), "spec.auth.scheme", json!("NoAuth"));
        let open = with(open, "spec.auth.allowInsecure", json!(true));
        site.apply(&open).await?;
        let insecure = says::<ZenServer>(condition::INSECURE, "True", reason::NO_AUTHENTICATION);
        site.until("prod", "Insecure", insecure).await?;
        site.settled().await?;
        let events = site.api::<Event>().list(&ListParams::default()).await?;
        let told = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some(reason::NO_AUTHENTICATION));
        let told: Vec<_> = told.collect();
        ensure!(told.len() == 1 && told[0].series.is_none(), "{told:?}");
        ensure!(told[0].type_.as_deref() == Some("Warning"), "{told:?}");

        site.apply(&server("prod")).await?;
        let over = |server: &ZenServer| {
            let status = server.status.as_ref();
            status.is_some_and(|status| {
                let mut conditions = status.conditions.iter();
                conditions.all(|c| c.type_ != condition::INSECURE)
            })
        };
        site.until("prod", "no longer insecure", over).await?;
        Ok(())
    })
    .await
}

//! Servers that ask people in other ways than by password for a token, and what the real client
//! makes of them.

use anyhow::{Result, ensure};
use serde_json::json;
use zenop::api::ZenUser;

use crate::{
    door::{Sidecar, free_address, set_up},
    support::{password_of, ready, server, site, user_with_password, with},
    zenml::{zenml, zenml_with},
};

const PASSWORD: &str = "correct horse";

#[tokio::test]
async fn h4_the_real_client_works_with_http_basic_by_password_and_by_key() -> Result<()> {
    site("basic", async |site| {
        let address = free_address()?;
        let basic = [("spec.auth.scheme", json!("HTTPBasic"))];
        let _operator = set_up(site, address, &basic).await?;
        site.apply(&password_of("ana", PASSWORD)).await?;
        site.apply(&user_with_password("ana")).await?;
        site.until::<ZenUser>("ana", "Ready", ready).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let info = sidecar.get("/api/v1/info", None).await?.expect(200)?;
        ensure!(info.json()?["auth_scheme"] == "HTTP_BASIC", "{info:?}");
        let variables = [
            ("ZENML_STORE_URL", format!("http://{address}")),
            ("ZENML_STORE_USERNAME", "ana".to_owned()),
            ("ZENML_STORE_PASSWORD", PASSWORD.to_owned()),
        ];
        let outcome = zenml_with(&variables, &["status"]).await?;
        ensure!(
            outcome.success && outcome.text.contains("ana"),
            "{}",
            outcome.text
        );
        let outcome = zenml(site, "main-key", &["service-account", "list"]).await?;
        ensure!(
            outcome.success && outcome.text.contains("ci"),
            "{}",
            outcome.text
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn h4_the_real_client_is_everybody_where_nobody_is_asked() -> Result<()> {
    site("open", async |site| {
        let address = free_address()?;
        let open = [
            ("spec.auth.scheme", json!("NoAuth")),
            ("spec.auth.allowInsecure", json!(true)),
        ];
        let _operator = set_up(site, address, &open).await?;
        site.apply(&password_of("default", PASSWORD)).await?;
        site.apply(&user_with_password("default")).await?;
        site.until::<ZenUser>("default", "Ready", ready).await?;
        let sidecar = Sidecar::start(site, address).await?;
        ensure!(sidecar.log().contains("INSECURE"), "{}", sidecar.log());
        let me = sidecar
            .get("/api/v1/current-user", None)
            .await?
            .expect(200)?;
        ensure!(me.json()?["name"] == "default", "{me:?}");
        // The key is of account `ci`, which nobody looks at.
        let outcome = zenml(site, "main-key", &["status"]).await?;
        ensure!(
            outcome.success && outcome.text.contains("default"),
            "{}",
            outcome.text
        );

        // From now on it asks again.
        let url = json!(format!("http://{address}"));
        site.apply(&with(server("prod"), "spec.url", url)).await?;
        let asks = async || {
            let answer = sidecar.get("/api/v1/current-user", None).await;
            answer.is_ok_and(|answer| answer.status == 401)
        };
        sidecar.until("one that asks", asks).await?;
        Ok(())
    })
    .await
}

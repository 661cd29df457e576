//! A key that a ZenML server made, imported by the hash in its database.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    api::{KeyState, ZenAPIKey},
    auth::api_key::{ApiKey, KeySecret},
};

use crate::{
    door::{Sidecar, free_address, set_up},
    support::{key, site, with},
};

/// Of 64 times `5a`: passlib 1.7.4 with bcrypt 4.0.1, as ZenML 0.98.0 hashes a key.
const OF_5A: &str = "$2b$12$EHZSNrwSi60skCjA25aRFOGpWkNs4sG7AKx/pRcWaui2EJ0wbdgJS";

fn made(byte: u8) -> ApiKey {
    ApiKey {
        id: Uuid::from_u128(0x9793_0558_3af3_4395_9bed_78a6_d649_c1b7),
        secret: KeySecret::from_random(&[byte; 32]),
    }
}

fn imported(mut verifier: Value) -> Value {
    verifier["keyId"] = json!(made(0).id.to_string());
    let source = json!({"type": "Verifier", "verifier": verifier});
    let key = with(key("imported"), "spec.source", source);
    with(key, "spec.delivery", json!({"mode": "None"}))
}

#[tokio::test]
async fn a_key_of_a_zenml_database_logs_in_and_is_replaced_with_overlap() -> Result<()> {
    site("imported", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        let sidecar = Sidecar::start(site, address).await?;
        site.apply(&imported(json!({"bcrypt": OF_5A}))).await?;
        site.key_ready("imported", 1).await?;
        let (old, new) = (made(0x5a).text(), made(0x5b).text());
        let accepts = async || sidecar.login(&old).await.is_ok_and(|a| a.status == 200);
        sidecar.until("aware of the imported key", accepts).await?;
        sidecar.login(&new).await?.expect(401)?;
        let token = sidecar.token(&old).await?;
        sidecar.me(&token).await?.expect(200)?;
        sidecar.me(&old).await?.expect(200)?;

        // One that starts later computes it again, for a bearer too.
        let second = Sidecar::start(site, free_address()?).await?;
        second.me(&old).await?.expect(200)?;
        second.me(&token).await?.expect(200)?;

        // Another key in its place: the one before is accepted for its time.
        let sha256 = made(0x5b).secret.digest().to_hex();
        let mut replaced = imported(json!({"sha256": sha256}));
        site.apply(&replaced).await?;
        let now: ZenAPIKey = site.key_ready("imported", 2).await?;
        let states = now.status.context("no status")?.generations;
        let states: Vec<_> = states
            .iter()
            .map(|g| (g.state, g.bcrypt.is_some()))
            .collect();
        ensure!(
            states == [(KeyState::Previous, true), (KeyState::Current, false)],
            "{states:?}"
        );
        let accepts = async || sidecar.login(&new).await.is_ok_and(|a| a.status == 200);
        sidecar.until("aware of the new key", accepts).await?;
        sidecar.login(&old).await?.expect(200)?;
        sidecar.me(&token).await?.expect(200)?;

        replaced["spec"]["active"] = json!(false);
        site.apply(&replaced).await?;
        for door in [&sidecar, &second] {
            let refuses = async || door.me(&token).await.is_ok_and(|a| a.status == 401);
            door.until("aware that it is over", refuses).await?;
            door.login(&old).await?.expect(401)?;
            door.login(&new).await?.expect(401)?;
        }
        Ok(())
    })
    .await
}

//! Users of a real server: with a password from a Secret, with a token, by the real client.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde_json::{Value, json};
use zenop::api::{ZenUser, condition, reason};

use crate::{
    door::{Sidecar, free_address, set_up},
    support::{Site, entry, password_of, ready, says, site, user, user_with_password, with},
    zenml::{Outcome, zenml_with},
};

pub const PASSWORD: &str = "correct horse";

/// Administrator `ana`, whose password is in a Secret.
pub async fn declare_ana(site: &Site) -> Result<()> {
    site.apply(&password_of("ana", PASSWORD)).await?;
    let ana = with(user_with_password("ana"), "spec.isAdmin", json!(true));
    site.apply(&ana).await?;
    site.until::<ZenUser>("ana", "Ready", ready).await?;
    Ok(())
}

async fn is(sidecar: &Sidecar, status: u16, token: &str) -> Result<()> {
    let refused = async || sidecar.me(token).await.is_ok_and(|a| a.status == status);
    sidecar
        .until(&format!("one that answers {status}"), refused)
        .await
}

#[tokio::test]
async fn a_password_that_changes_in_its_secret_ends_all_tokens_and_so_does_an_epoch() -> Result<()>
{
    site("user-tokens", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        declare_ana(site).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let token = one.session("ana", PASSWORD).await?;
        let me = other.me(&token).await?.expect(200)?.json()?;
        ensure!(
            me["name"] == "ana" && me["body"]["is_admin"] == true,
            "{me}"
        );
        let seen = |ana: &ZenUser| {
            let status = ana.status.as_ref();
            status.is_some_and(|s| s.last_authenticated_time.is_some())
        };
        site.until("ana", "seen", seen).await?;

        // Its own password it changes where it is.
        let change = json!({"password": "battery staple", "old_password": PASSWORD});
        let refused = one
            .put("/api/v1/current-user", &token, &change)
            .await?
            .expect(403)?;
        ensure!(refused.body.contains("ana-password"), "{refused:?}");

        let epoch = with(user_with_password("ana"), "spec.sessionEpoch", json!(1));
        let epoch = with(epoch, "spec.isAdmin", json!(true));
        site.apply(&epoch).await?;
        is(&one, 401, &token).await?;
        is(&other, 401, &token).await?;
        let token = other.session("ana", PASSWORD).await?;
        site.apply(&password_of("ana", "battery staple")).await?;
        site.apply(&with(epoch.clone(), "spec.fullName", json!("Ana")))
            .await?;
        is(&one, 401, &token).await?;
        is(&other, 401, &token).await?;
        one.login_with("ana", PASSWORD).await?.expect(401)?;
        let token = one.session("ana", "battery staple").await?;

        site.apply(&with(epoch, "spec.active", json!(false)))
            .await?;
        is(&one, 401, &token).await?;
        is(&other, 401, &token).await?;
        one.login_with("ana", "battery staple").await?.expect(401)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_activation_token_lets_one_of_many_choose_a_password_on_any_replica() -> Result<()> {
    site("user-activation", async |site| {
        let _operator = set_up(site, free_address()?, &[]).await?;
        site.apply(&user("bo")).await?;
        site.until::<ZenUser>("bo", "Ready", ready).await?;
        let one = Sidecar::start(site, free_address()?).await?;
        let other = Sidecar::start(site, free_address()?).await?;
        let secret: Secret = site.api().get("bo-activation").await?;
        let token = entry(&secret, "token").context("no token")?;
        let id = entry(&secret, "user-id").context("no id")?;
        let path = format!("/api/v1/users/{id}/activate");
        let attempts = (0..6).map(|n| {
            let sidecar = if n % 2 == 0 { &one } else { &other };
            let body = json!({"activation_token": token, "password": format!("password {n}")});
            let path = &path;
            async move { sidecar.put(path, "", &body).await }
        });
        let answers = futures::future::try_join_all(attempts).await?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let winners: Vec<usize> = (0..6).filter(|n| statuses[*n] == 200).collect();
        ensure!(winners.len() == 1, "{statuses:?}");
        let won = format!("password {}", winners[0]);
        let active = says::<ZenUser>(condition::ACTIVE, "True", reason::ACTIVE);
        site.until("bo", "active", active).await?;
        let uid = secret.metadata.uid.context("no UID")?;
        site.until_gone::<Secret>("bo-activation", &uid).await?;
        let session = other.session("bo", &won).await?;
        is(&one, 200, &session).await?;

        // What it chose, it changes itself.
        let change = json!({"password": "battery staple", "old_password": won});
        one.put("/api/v1/current-user", &session, &change)
            .await?
            .expect(200)?;
        is(&other, 401, &session).await?;
        other.session("bo", "battery staple").await?;
        site.settled().await?;
        let bo: ZenUser = site.api().get("bo").await?;
        let public = serde_json::to_string(&bo)? + &site.logs() + &one.log() + &other.log();
        for secret in [&*token, &*won, "battery staple"] {
            ensure!(!public.contains(secret), "{secret} is seen");
        }
        Ok(())
    })
    .await
}

/// An administrator with nothing but name and password.
struct Person {
    url: String,
}

impl Person {
    async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let variables = [
            ("ZENML_STORE_URL", self.url.clone()),
            ("ZENML_STORE_USERNAME", "ana".to_owned()),
            ("ZENML_STORE_PASSWORD", PASSWORD.to_owned()),
        ];
        zenml_with(&variables, arguments).await
    }

    /// What a command prints that succeeds.
    async fn does(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.run(arguments).await?;
        ensure!(outcome.success, "{arguments:?}: {}", outcome.text);
        Ok(outcome.text)
    }
}

#[tokio::test]
async fn the_real_client_manages_users_with_a_password() -> Result<()> {
    site("user-commands", async |site| {
        let address = free_address()?;
        let _operator = set_up(site, address, &[]).await?;
        declare_ana(site).await?;
        let sidecar = Sidecar::start(site, address).await?;
        let ana = Person {
            url: format!("http://{address}"),
        };
        let list = ana.does(&["user", "list"]).await?;
        ensure!(list.contains("ana"), "{list}");
        ana.does(&["user", "create", "eve", "--password", "password of eve"])
            .await?;
        sidecar.session("eve", "password of eve").await?;
        let made = site.api::<ZenUser>().list(&ListParams::default()).await?;
        let eve = made
            .iter()
            .find(|user| user.zenml_name() == "eve")
            .context("no eve")?;
        ensure!(eve.metadata.labels.as_ref().is_some_and(|labels| {
            labels
                .get("app.kubernetes.io/managed-by")
                .is_some_and(|by| by == "zenop-api")
        }));
        // `zenml user describe` of 0.98 fails on an attribute that its own model lacks.
        ana.does(&["user", "update", "eve", "--name", "eva", "--admin"])
            .await?;
        let told = ana.does(&["user", "deactivate", "eva"]).await?;
        let is_hex = |text: &&str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let words = told.split(|c: char| !c.is_ascii_alphanumeric());
        let token = words
            .into_iter()
            .find(is_hex)
            .context("no token")?
            .to_owned();
        sidecar
            .login_with("eva", "password of eve")
            .await?
            .expect(401)?;
        let body = json!({"activation_token": token, "password": "battery staple"});
        sidecar
            .put("/api/v1/users/eva/activate", "", &body)
            .await?
            .expect(200)?;
        let session = sidecar.session("eva", "battery staple").await?;
        ana.does(&["user", "delete", "eva"]).await?;
        is(&sidecar, 401, &session).await?;
        // What is declared is told of.
        let refused = ana
            .run(&["user", "update", "ana", "--name", "anna"])
            .await?;
        ensure!(
            !refused.success && refused.text.contains("ZenUser"),
            "{}",
            refused.text
        );
        let all: Value = json!(
            site.api::<ZenUser>()
                .list(&ListParams::default())
                .await?
                .items
        );
        for secret in [PASSWORD, "password of eve", "battery staple", &token] {
            ensure!(
                !all.to_string().contains(secret),
                "{secret} is in a ZenUser"
            );
        }
        Ok(())
    })
    .await
}

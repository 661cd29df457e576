//! Users: a password from a Secret, a token to choose one with, and who has a name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    api::{ZenUser, condition, reason},
    auth::{
        credential::{Activation, ActivationToken, Credential, Password, Verifier},
        keyring::Keyring,
    },
    runtime::clock::now,
};

use crate::support::{
    Site, entry, message, password_of, ready, says, server, site, stalled, user,
    user_with_password, waiting, with,
};

/// A user who may log in, or may not for that reason.
async fn active(site: &Site, name: &str, reason: &str) -> Result<ZenUser> {
    let holds = match reason {
        reason::ACTIVE => "True",
        _ => "False",
    };
    site.until(name, reason, says(condition::ACTIVE, holds, reason))
        .await
}

async fn stored(site: &Site, user: &ZenUser) -> Result<Option<Credential>> {
    let secret: Secret = site.api().get("prod-passwords").await?;
    let json = entry(&secret, &user.uid().context("no UID")?);
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

async fn keyring(site: &Site) -> Result<Keyring> {
    let secret: Secret = site.api().get("prod-auth").await?;
    let data = secret.data.context("no data")?;
    let keyring = Keyring::from_entries(|name| data.get(name).map(|bytes| &*bytes.0));
    Ok(keyring?)
}

fn id(user: &ZenUser) -> Uuid {
    user.uid().unwrap().parse().unwrap()
}

/// Whether this is the password that is stored.
async fn has_password(site: &Site, user: &ZenUser, password: &str) -> Result<bool> {
    let Some(Credential::Password(verifier)) = stored(site, user).await? else {
        return Ok(false);
    };
    let keyring = keyring(site).await?;
    let password = Password::presented(password);
    Ok(verifier.fits(keyring.pepper(), id(user), &password))
}

/// What a sidecar does for who brings the token.
async fn choose(site: &Site, user: &ZenUser, password: &str) -> Result<()> {
    let keyring = keyring(site).await?;
    let password = password.parse()?;
    let verifier = Verifier::new(keyring.pepper(), id(user), &password, [9; 16])?;
    let credential = Credential::Password(verifier.at(now()));
    let patch = json!({"stringData": {(id(user).to_string()): credential.to_json()}});
    let api = site.api::<Secret>();
    api.patch(
        "prod-passwords",
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await?;
    Ok(())
}

/// Two users who come: ana with a password in a Secret, ben chooses one with a token.
pub async fn come(site: &Site) -> Result<()> {
    site.apply(&password_of("ana", "correct horse\n")).await?;
    for object in [user_with_password("ana"), user("ben")] {
        site.apply(&object).await?;
    }
    active(site, "ana", reason::ACTIVE).await?;
    let ben = site.until::<ZenUser>("ben", "Ready", ready).await?;
    choose(site, &ben, "battery staple").await?;
    active(site, "ben", reason::ACTIVE).await?;
    let token = site.api::<Secret>().get_opt("ben-activation").await?;
    if let Some(uid) = token.and_then(|token| token.uid()) {
        site.until_gone::<Secret>("ben-activation", &uid).await?;
    }
    Ok(())
}

/// That both have their passwords, and nothing else is left of how they came to them.
pub async fn may_log_in(site: &Site) -> Result<()> {
    for (name, password) in [("ana", "correct horse"), ("ben", "battery staple")] {
        let user: ZenUser = site.api().get(name).await?;
        ensure!(has_password(site, &user, password).await?, "{name}");
    }
    let token = site.api::<Secret>().get_opt("ben-activation").await?;
    ensure!(token.is_none(), "the token stays");
    Ok(())
}

#[tokio::test]
async fn a_password_comes_from_a_secret_and_is_stored_once() -> Result<()> {
    site("password", async |site| {
        let operator = site.operator().await?;
        site.apply(&user_with_password("ana")).await?;
        let alone = waiting::<ZenUser>(reason::SERVER_NOT_FOUND);
        site.until("ana", "without a server", alone).await?;
        site.apply(&server("prod")).await?;
        let missing = waiting::<ZenUser>(reason::PASSWORD_NOT_FOUND);
        let ana = site.until("ana", "without a password", missing).await?;
        ensure!(message(&ana, condition::READY).contains("Secret ana-password"));

        site.apply(&password_of("ana", "1234567\n")).await?;
        poke(site, 1).await?;
        let weak = stalled::<ZenUser>(reason::PASSWORD_INVALID);
        site.until("ana", "with a weak password", weak).await?;
        ensure!(stored(site, &ana).await?.is_none());

        site.apply(&password_of("ana", "correct horse\n")).await?;
        poke(site, 2).await?;
        let ana: ZenUser = site.until("ana", "Ready", ready).await?;
        active(site, "ana", reason::ACTIVE).await?;
        ensure!(has_password(site, &ana, "correct horse").await?);
        site.told("PasswordSet").await?;
        site.settled().await?;
        let before = stored(site, &ana).await?;

        // Neither a restart nor another version of the source with the same in it writes anything.
        operator.stop().await?;
        let _operator = site.operator().await?;
        site.settled().await?;
        let label = json!({"metadata": {"labels": {"touched": "yes"}}});
        let api = site.api::<Secret>();
        api.patch(
            "ana-password",
            &PatchParams::default(),
            &Patch::Merge(&label),
        )
        .await?;
        site.no_write(Duration::from_secs(2)).await?;
        ensure!(stored(site, &ana).await? == before);

        site.apply(&password_of("ana", "battery staple")).await?;
        poke(site, 3).await?;
        let changed = |user: &ZenUser| {
            let set = user
                .status
                .as_ref()
                .and_then(|s| s.password_set_time.clone());
            ready(user)
                && set
                    > ana
                        .status
                        .as_ref()
                        .and_then(|s| s.password_set_time.clone())
        };
        site.until("ana", "with another password", changed).await?;
        ensure!(has_password(site, &ana, "battery staple").await?);
        ensure!(!has_password(site, &ana, "correct horse").await?);

        // Its Secret goes: the password stays, and status says so.
        site.delete::<Secret>("ana-password").await?;
        poke(site, 4).await?;
        let missing = waiting::<ZenUser>(reason::PASSWORD_NOT_FOUND);
        site.until("ana", "without its Secret", missing).await?;
        active(site, "ana", reason::ACTIVE).await?;
        ensure!(has_password(site, &ana, "battery staple").await?);

        site.apply(&with(
            user_with_password("ana"),
            "spec.active",
            json!(false),
        ))
        .await?;
        active(site, "ana", reason::DEACTIVATED).await?;
        Ok(())
    })
    .await
}

/// Makes the operator look at the source now, and not within half a minute.
async fn poke(site: &Site, times: u8) -> Result<()> {
    let name = json!(format!("Ana {times}"));
    let ana = with(user_with_password("ana"), "spec.fullName", name);
    site.apply(&ana).await.map(drop)
}

#[tokio::test]
async fn an_activation_token_is_made_once_and_gone_once_it_was_used() -> Result<()> {
    site("activation", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&user("ana")).await?;
        let ana: ZenUser = site.until("ana", "Ready", ready).await?;
        let waits = active(site, "ana", reason::AWAITING_ACTIVATION).await?;
        ensure!(message(&waits, condition::ACTIVE).contains("ana-activation"));
        let secret: Secret = site.api().get("ana-activation").await?;
        ensure!(entry(&secret, "username").as_deref() == Some("ana"));
        ensure!(entry(&secret, "user-id") == ana.uid());
        let token: ActivationToken = entry(&secret, "token").context("no token")?.parse()?;
        let is_of = |activation: &Activation, keyring: &Keyring| {
            activation.is_of(keyring.pepper(), id(&ana), &token)
        };
        let Some(Credential::Activation(activation)) = stored(site, &ana).await? else {
            anyhow::bail!("no activation is stored");
        };
        ensure!(is_of(&activation, &keyring(site).await?));
        let days = activation.expires().duration_since(now()).as_hours();
        ensure!((71..=72).contains(&days), "{days} hours");
        site.told("ActivationTokenMade").await?;
        site.settled().await?;
        site.no_write(Duration::from_secs(1)).await?;

        choose(site, &ana, "correct horse").await?;
        let uid = secret.uid().context("no UID")?;
        site.until_gone::<Secret>("ana-activation", &uid).await?;
        let ana = active(site, "ana", reason::ACTIVE).await?;
        let used = ana.status.as_ref().and_then(|s| s.activation.clone());
        ensure!(used.is_some_and(|activation| activation.used));
        site.settled().await?;
        site.no_write(Duration::from_secs(1)).await?;
        ensure!(has_password(site, &ana, "correct horse").await?);

        // Another place asks for another token, and forgets the password.
        let again = with(user("ana"), "spec.activation.secretName", json!("again"));
        site.apply(&again).await?;
        active(site, "ana", reason::AWAITING_ACTIVATION).await?;
        let second: Secret = site.api().get("again").await?;
        ensure!(entry(&second, "token").as_deref() != Some(token.text()));
        ensure!(!has_password(site, &ana, "correct horse").await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_token_that_nobody_uses_in_time_ends() -> Result<()> {
    site("expires", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&with(user("ana"), "spec.activation.ttl", json!("3s")))
            .await?;
        let over = stalled::<ZenUser>(reason::ACTIVATION_EXPIRED);
        site.until("ana", "over", over).await?;
        let left = site.api::<Secret>().list(&ListParams::default()).await?;
        ensure!(
            !left
                .iter()
                .any(|secret| secret.name_any() == "ana-activation")
        );
        site.settled().await?;
        site.no_write(Duration::from_secs(1)).await
    })
    .await
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() -> Result<()> {
    site("foreign-token", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let theirs = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ana-activation"},
            "stringData": {"token": "theirs"},
        });
        let before = site.apply(&theirs).await?;
        site.apply(&user("ana")).await?;
        let conflict = stalled::<ZenUser>(reason::CONFLICT);
        let ana = site.until("ana", "in conflict", conflict).await?;
        ensure!(message(&ana, condition::READY).contains("spec.activation.secretName"));
        let after: Secret = site.api().get("ana-activation").await?;
        ensure!(after.resource_version() == before.resource_version());
        ensure!(stored(site, &ana).await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_older_of_two_users_has_the_name() -> Result<()> {
    site("user-names", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        // An account may have the same: its name space is another.
        site.apply(&crate::support::account("ana")).await?;
        site.apply(&user("ana")).await?;
        site.until::<ZenUser>("ana", "Ready", ready).await?;
        super::parties::another_second().await?;
        site.apply(&with(user("late"), "spec.name", json!("ana")))
            .await?;
        let conflict = stalled::<ZenUser>(reason::NAME_CONFLICT);
        site.until("late", "in conflict", conflict).await?;
        active(site, "late", reason::NAME_CONFLICT).await?;
        site.apply(&with(user("ana"), "spec.name", json!("anna")))
            .await?;
        site.until::<ZenUser>("late", "Ready", ready).await?;
        Ok(())
    })
    .await
}

/// Nobody is shut out as one user and let in as another.
#[tokio::test]
async fn of_two_users_who_are_one_person_the_older_counts() -> Result<()> {
    site("one-person", async |site| {
        let _operator = site.operator().await?;
        site.apply(&asks_a_provider()).await?;
        site.apply(&person("elder", "00u1")).await?;
        active(site, "elder", reason::ACTIVE).await?;
        super::parties::another_second().await?;
        for (name, subject) in [("younger", "00u1"), ("other", "00u2")] {
            site.apply(&person(name, subject)).await?;
        }
        active(site, "other", reason::ACTIVE).await?;
        let in_conflict = async || {
            let conflict = stalled(reason::SUBJECT_CONFLICT);
            let younger: ZenUser = site.until("younger", "in conflict", conflict).await?;
            let told = message(&younger, condition::READY);
            ensure!(told.contains("the older ZenUser elder"), "{told}");
            active(site, "younger", reason::SUBJECT_CONFLICT).await?;
            let elder: ZenUser = site.until("elder", "Ready", ready).await?;
            ensure!(says(condition::ACTIVE, "True", reason::ACTIVE)(&elder));
            anyhow::Ok(())
        };
        in_conflict().await?;

        // It turns out to be somebody else, and then not.
        site.apply(&person("elder", "00u3")).await?;
        site.until::<ZenUser>("younger", "Ready", ready).await?;
        active(site, "younger", reason::ACTIVE).await?;
        site.apply(&person("elder", "00u1")).await?;
        in_conflict().await?;

        site.delete::<ZenUser>("elder").await?;
        site.until::<ZenUser>("younger", "Ready", ready).await?;
        active(site, "younger", reason::ACTIVE).await?;
        Ok(())
    })
    .await
}

const PROVIDER: &str = "https://sso.example.org";

fn asks_a_provider() -> Value {
    let external = json!({"issuer": PROVIDER, "clientId": "zenml"});
    let auth = json!({"scheme": "External", "external": external});
    let url = json!("https://zen.example.org");
    with(with(server("prod"), "spec.url", url), "spec.auth", auth)
}

fn person(name: &str, subject: &str) -> Value {
    let mut user = user(name);
    user["spec"] = json!({
        "serverRef": {"name": "prod"}, "external": {"issuer": PROVIDER, "subject": subject},
    });
    user
}

#[tokio::test]
async fn exactly_one_way_to_a_password_is_accepted() -> Result<()> {
    site("user-schema", async |site| {
        let both = with(
            user("ana"),
            "spec.passwordFrom",
            user_with_password("ana")["spec"]["passwordFrom"].clone(),
        );
        let mut none = user("ana");
        none["spec"].as_object_mut().unwrap().remove("activation");
        for refused in [both, none] {
            let why = site.apply(&refused).await.err().context("accepted")?;
            let why = format!("{why:?}");
            ensure!(
                why.contains("exactly one of passwordFrom, activation"),
                "{why}"
            );
        }
        site.apply(&user("ana")).await?;
        let moved: Value = with(user("ana"), "spec.serverRef.name", json!("other"));
        let why = site.apply(&moved).await.err().context("accepted")?;
        ensure!(format!("{why:?}").contains("serverRef cannot change"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_stood_for_the_password_of_a_deleted_user_goes() -> Result<()> {
    site("user-goes", async |site| {
        let _operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        come(site).await?;
        site.delete::<ZenUser>("ana").await?;
        let touched = with(server("prod"), "spec.auth", json!({"tokenTTL": "2h"}));
        site.apply(&touched).await?;
        let ben: ZenUser = site.api().get("ben").await?;
        let alone = |secret: &Secret| {
            let entries = secret
                .data
                .as_ref()
                .map(|data| data.keys().cloned().collect());
            entries == Some(Vec::from_iter(ben.uid()))
        };
        site.until::<Secret>("prod-passwords", "with one entry", alone)
            .await?;
        ensure!(has_password(site, &ben, "battery staple").await?);
        site.settled().await?;
        site.no_write(Duration::from_secs(1)).await
    })
    .await
}

//! The stories: what is there, what happens, and how it is to end.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::ResourceExt;
use serde_json::{Value, json};
use zenop::{
    api::{
        DeletionPolicy, SigningKeyState, ZenAPIKey, ZenSecret, ZenServer, ZenServiceAccount,
        condition, reason,
    },
    auth::api_key::{ApiKey, KeySecret},
};

use super::{components, secrets};
use crate::{
    operator::{
        retain::{forgiving, restored},
        users,
    },
    support::{PATIENCE, Site, accepted, account, key, ready, says, server, with, with_zenml},
};

/// What the operator is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Story {
    /// Server, account and key are there, and nothing else.
    Create,
    /// The delivered Secret is deleted.
    Replace,
    /// The key is asked to be rotated; the old one is accepted for an hour.
    Rotate,
    /// The same, with the old key in the Secret too, and it goes after two seconds.
    Retire,
    /// The Secret that another tool keeps has another key.
    Given,
    /// The spec has another hash.
    Verifier,
    /// Key and account are switched off.
    Deactivate,
    /// The key is deleted.
    Delete,
    /// The key is deleted, and is to be retained.
    Retain,
    /// The key is deleted, and had back.
    Restore,
    /// Two users are made: one has a password in a Secret, the other chooses one with a token.
    Users,
    /// The next key is to sign tokens.
    SignAnew,
    /// The key that signs tokens is revoked.
    Revoke,
    /// A secret is made: of another tool's value, a drawn one and a sealed one.
    Secret,
    /// Another value is to be drawn, and an entry goes.
    Draw,
    /// A secret is to be delivered under another name, and gets one.
    Move,
    /// A secret is deleted.
    Forget,
    /// Values are to be sealed for another key.
    Reseal,
    /// A component is made, and then the secret that it refers to.
    Refer,
    /// The secret that a component refers to gets another value.
    Follow,
    /// A secret in use is deleted, and then the component that uses it; what was delivered is to stay.
    Part,
    /// A server gets a ZenML server, whose database is made first.
    Migrate,
}

/// How a story ends, or how it is before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The current generation; `None`: there is no key.
    pub generation: Option<i64>,
    /// Those that are accepted.
    pub accepted: &'static [i64],
    /// How many keys the account says may log in.
    pub active: i32,
}

const ONE: Scene = Scene {
    generation: Some(1),
    accepted: &[1],
    active: 1,
};
const OVERLAP: Scene = Scene {
    generation: Some(2),
    accepted: &[1, 2],
    active: 1,
};

impl Story {
    pub const ALL: [Self; 22] = [
        Self::Create,
        Self::Replace,
        Self::Rotate,
        Self::Retire,
        Self::Given,
        Self::Verifier,
        Self::Deactivate,
        Self::Delete,
        Self::Retain,
        Self::Restore,
        Self::Users,
        Self::SignAnew,
        Self::Revoke,
        Self::Secret,
        Self::Draw,
        Self::Move,
        Self::Forget,
        Self::Reseal,
        Self::Refer,
        Self::Follow,
        Self::Part,
        Self::Migrate,
    ];

    /// What is there when the operator starts; settled as [`ONE`], if anything is.
    pub fn before(self) -> Vec<Value> {
        let all = |key: Value| vec![server("prod"), account("ci"), key];
        match self {
            Self::Create => Vec::new(),
            Self::Retire => all(rotated(self, "1")),
            Self::Given => [vec![theirs(1)], all(given("1"))].concat(),
            Self::Verifier => all(hashed(1)),
            Self::Retain => {
                let key = with(key("main"), "spec.deletionPolicy", json!("Retain"));
                all(with(key, "spec.expiresAt", json!("2126-01-01T00:00:00Z")))
            }
            Self::Restore => vec![forgiving("1h"), account("ci"), key("main")],
            Self::SignAnew => vec![signing("1"), account("ci"), key("main")],
            Self::Follow | Self::Part => [
                vec![components::values()],
                all(key("main")),
                vec![components::login("pass"), components::tracker()],
            ]
            .concat(),
            Self::Draw | Self::Move | Self::Forget => [
                vec![secrets::vault()],
                all(key("main")),
                vec![secrets::declared("1")],
            ]
            .concat(),
            _ => all(key("main")),
        }
    }

    /// What happens.
    pub async fn happen(self, site: &Site) -> Result<()> {
        let change = match self {
            Self::Replace => return site.delete::<Secret>("main-key").await,
            Self::Delete => return site.delete::<ZenAPIKey>("main").await,
            Self::Retain => {
                deleted(site).await?;
                let again = |key: &ZenAPIKey| key.metadata.deletion_timestamp.is_none();
                return site.until("main", "made again", again).await.map(drop);
            }
            Self::Restore => {
                let uid = deleted(site).await?;
                vec![restored(key("main"), &uid)]
            }
            Self::Users => return users::come(site).await,
            Self::SignAnew => {
                let first = signs(site, None).await?;
                site.apply(&signing("2")).await?;
                return signs(site, Some(&first)).await.map(drop);
            }
            Self::Revoke => {
                let first = signs(site, None).await?;
                let revoked = json!({"jwt": {"revoked": [first]}});
                site.apply(&with(server("prod"), "spec.auth", revoked))
                    .await?;
                return signs(site, Some(&first)).await.map(drop);
            }
            Self::Refer => return components::come(site).await,
            Self::Follow => return components::change(site).await,
            Self::Part => return components::part(site).await,
            Self::Migrate => return migrated(site).await,
            Self::Secret => return secrets::come(site).await,
            Self::Draw => vec![secrets::another()],
            Self::Move => vec![secrets::moved()],
            Self::Forget => {
                let uid = site.api::<Secret>().get("token").await?.uid();
                site.delete::<ZenSecret>("token").await?;
                return site
                    .until_gone::<Secret>("token", &uid.context("no uid")?)
                    .await;
            }
            Self::Reseal => return secrets::reseal(site).await,
            Self::Create => vec![server("prod"), account("ci"), key("main")],
            Self::Rotate | Self::Retire => vec![rotated(self, "2")],
            // It is looked at every half a minute, and when its key changes.
            Self::Given => vec![theirs(2), given("2")],
            Self::Verifier => vec![hashed(2)],
            Self::Deactivate => vec![
                with(key("main"), "spec.active", json!(false)),
                with(account("ci"), "spec.active", json!(false)),
            ],
        };
        for object in change {
            site.apply(&object).await?;
        }
        Ok(())
    }

    /// How it is to end.
    pub fn after(self) -> Scene {
        match self {
            Self::Create | Self::Retain | Self::Restore => ONE,
            Self::Users | Self::SignAnew | Self::Revoke => ONE,
            Self::Secret | Self::Draw | Self::Move | Self::Forget | Self::Reseal => ONE,
            Self::Refer | Self::Follow | Self::Part | Self::Migrate => ONE,
            Self::Replace | Self::Rotate | Self::Given | Self::Verifier => OVERLAP,
            Self::Retire => Scene {
                accepted: &[2],
                ..OVERLAP
            },
            Self::Deactivate => Scene { active: 0, ..ONE },
            Self::Delete => Scene {
                generation: None,
                accepted: &[],
                active: 0,
            },
        }
    }

    /// The Secrets with values that the server's pods may read when the story begins.
    pub fn secrets_before(self) -> &'static [&'static str] {
        match self {
            Self::Draw | Self::Move | Self::Forget => &["token"],
            Self::Follow | Self::Part => &["login"],
            _ => &[],
        }
    }

    /// The same at its end.
    pub fn secrets_after(self) -> &'static [&'static str] {
        match self {
            Self::Secret | Self::Draw => &["token"],
            Self::Move => &["elsewhere"],
            Self::Refer | Self::Follow => &["login"],
            _ => &[],
        }
    }

    /// How often the Secret of the key is made.
    pub fn deliveries(self) -> i64 {
        match self {
            Self::Replace => 2,
            Self::Verifier => 0,
            _ => 1,
        }
    }

    /// The key that a generation must be, where we did not draw it.
    pub fn text(self, generation: i64) -> Option<String> {
        let given = matches!(self, Self::Given | Self::Verifier);
        given.then(|| made_elsewhere(generation).text().to_string())
    }
}

impl Scene {
    pub const BEFORE: Self = ONE;

    /// Waits until it is so and the operator is done.
    pub async fn settled(&self, site: &Site) -> Result<()> {
        match self.generation {
            Some(generation) => {
                let key = site.key_ready("main", generation).await?;
                let is = |key: &ZenAPIKey| ready(key) && accepted(key) == self.accepted;
                let what = format!("with generations {:?}", self.accepted);
                site.until("main", &what, is).await?;
                let held = key.spec.deletion_policy == DeletionPolicy::Retain
                    || site
                        .api::<ZenServer>()
                        .get("prod")
                        .await?
                        .spec
                        .policy
                        .undo_window
                        .is_some();
                ensure!(
                    key.finalizers().is_empty() != held,
                    "{:?}",
                    key.finalizers()
                );
            }
            None => {
                let gone = |secret: Option<&Secret>| secret.is_none();
                let gone = kube::runtime::wait::await_condition(site.api(), "main-key", gone);
                let gone = tokio::time::timeout(PATIENCE, gone).await;
                gone.context("the Secret stays")??;
            }
        }
        let total = i32::from(self.generation.is_some());
        let counted = |account: &ZenServiceAccount| {
            let keys = account
                .status
                .as_ref()
                .map(|s| (s.keys.active, s.keys.total));
            ready(account) && keys == Some((self.active, total))
        };
        site.until("ci", "Ready with its keys counted", counted)
            .await?;
        site.settled().await
    }
}

/// The server gets a ZenML server: first the database, then the pods.
async fn migrated(site: &Site) -> Result<()> {
    site.apply(&with_zenml(server("prod"))).await?;
    let report = json!({"begun": true, "to": "0.98.0"});
    site.migrates("prod", 0, report).await?;
    let fits = says::<ZenServer>(condition::MIGRATION_SUCCEEDED, "True", reason::MIGRATED);
    site.until("prod", "migrated", fits).await?;
    let has_both = |deployment: &Deployment| {
        let pod = deployment.spec.template.spec.as_ref();
        pod.is_some_and(|pod| pod.containers.len() == 2)
    };
    site.until("prod", "with both containers", has_both)
        .await
        .map(drop)
}

/// Deletes the key, and waits until it is gone. Returns its UID.
async fn deleted(site: &Site) -> Result<String> {
    let key: ZenAPIKey = site.api().get("main").await?;
    let uid = key.uid().context("no uid")?;
    site.delete::<ZenAPIKey>("main").await?;
    site.until_gone::<ZenAPIKey>("main", &uid).await?;
    Ok(uid)
}

/// A server whose keys may sign as soon as anything does.
fn signing(trigger: &str) -> Value {
    let jwt = json!({"jwksMaxAge": "1s", "trigger": trigger});
    with(
        server("prod"),
        "spec.auth",
        json!({"maxStaleness": "5s", "jwt": jwt}),
    )
}

/// The key that signs tokens, once it is another, and that there is a next one.
pub async fn signs(site: &Site, other_than: Option<&str>) -> Result<String> {
    let current = |server: &ZenServer| {
        let keys = &server.status.as_ref()?.signing_keys;
        let of = |state| {
            keys.iter()
                .find(|key| key.state == state && key.published_time.is_some())
        };
        let current = of(SigningKeyState::Current)?.kid.clone();
        of(SigningKeyState::Next)?;
        (Some(&*current) != other_than).then_some(current)
    };
    let what = "signing with a key, another one next";
    let server = site.until("prod", what, |s| current(s).is_some()).await?;
    current(&server).context("no current key")
}

fn rotated(story: Story, trigger: &str) -> Value {
    let key = with(key("main"), "spec.rotation", json!({"trigger": trigger}));
    if story == Story::Rotate {
        return key;
    }
    let key = with(key, "spec.rotation.retainFor", json!("2s"));
    let template = json!({"secretTemplate": {"includePrevious": true}});
    with(key, "spec.delivery", template)
}

/// A key of one id, another for each generation.
fn made_elsewhere(generation: i64) -> ApiKey {
    let byte = |n: u8| n.wrapping_mul(7).wrapping_add(generation as u8);
    ApiKey {
        id: uuid::Uuid::from_u128(0x7d1b_3f0e_52a4_4a53_9c7e_5f6f_0f6b_2a11),
        secret: KeySecret::from_random(&std::array::from_fn(|n| byte(n as u8))),
    }
}

fn theirs(generation: i64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"},
        "stringData": {"key": *made_elsewhere(generation).text()},
    })
}

fn given(description: &str) -> Value {
    let from = json!({"secretKeyRef": {"name": "theirs", "key": "key"}});
    let key = with(key("main"), "spec.description", json!(description));
    with(
        key,
        "spec.source",
        json!({"type": "ValueFrom", "valueFrom": from}),
    )
}

fn hashed(generation: i64) -> Value {
    let key_made = made_elsewhere(generation);
    let verifier = json!({
        "keyId": key_made.id.to_string(),
        "sha256": key_made.secret.digest().to_hex(),
    });
    let key = with(
        key("main"),
        "spec.source",
        json!({"type": "Verifier", "verifier": verifier}),
    );
    with(key, "spec.delivery", json!({"mode": "None"}))
}

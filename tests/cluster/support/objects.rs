//! The objects that most tests use, and how to look into them.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::Secret, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    ResourceExt,
    api::PostParams,
    runtime::{
        WatchStreamExt,
        watcher::{Config, watcher},
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;
use zenop::{
    api::{
        KeyState, KindStatus, ZenAPIKey, ZenComponent, ZenDevice, ZenSecret, ZenServer,
        ZenServiceAccount, ZenUser, condition,
    },
    auth::{
        api_key::{ApiKey, Verifier},
        keyring::Keyring,
    },
};

use super::{PATIENCE, Site, site::resource};

/// Server `prod`, account `ci`, key `main`: what most tests begin with.
pub fn server(name: &str) -> Value {
    json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer", "metadata": {"name": name}, "spec": {}})
}

/// The server with a ZenML server beside it, whose database is SQLite.
pub fn with_zenml(server: Value) -> Value {
    with(server, "spec.image", json!("zenml-server:test"))
}

/// The server with a ZenML server beside it, whose database is a MySQL that it enters with this password.
pub fn with_mysql(server: Value, password: &str) -> Value {
    let mysql = json!({"host": "mysql.db.svc", "username": "zen", "password": password});
    let database = json!({"type": "MySQL", "mysql": mysql});
    with(with_zenml(server), "spec.database", database)
}

pub fn account(name: &str) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServiceAccount", "metadata": {"name": name},
        "spec": {"serverRef": {"name": "prod"}},
    })
}

pub fn key(name: &str) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "metadata": {"name": name},
        "spec": {"serviceAccountRef": {"name": "ci"}},
    })
}

/// A user who chooses its password with the token in Secret `<name>-activation`.
pub fn user(name: &str) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenUser", "metadata": {"name": name},
        "spec": {
            "serverRef": {"name": "prod"}, "activation": {"secretName": format!("{name}-activation")},
        },
    })
}

/// A user whose password is in Secret `<name>-password`.
pub fn user_with_password(name: &str) -> Value {
    let from = json!({"secretKeyRef": {"name": format!("{name}-password"), "key": "password"}});
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenUser", "metadata": {"name": name},
        "spec": {"serverRef": {"name": "prod"}, "passwordFrom": from},
    })
}

/// The Secret that holds such a password.
pub fn password_of(name: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-password")},
        "stringData": {"password": password},
    })
}

/// A secret of these entries.
pub fn secret(name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret", "metadata": {"name": name},
        "spec": {"serverRef": {"name": "prod"}, "data": data},
    })
}

/// An experiment tracker with these attributes.
pub fn component(name: &str, attributes: Value) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenComponent", "metadata": {"name": name},
        "spec": {
            "serverRef": {"name": "prod"}, "type": "experiment_tracker", "flavor": "mlflow",
            "attributes": attributes,
        },
    })
}

/// The same with another spec field set.
pub fn with(mut object: Value, path: &str, value: Value) -> Value {
    let mut place = &mut object;
    for part in path.split('.') {
        place = &mut place[part];
    }
    *place = value;
    object
}

/// What has conditions.
pub trait Conditioned {
    fn conditions(&self) -> &[Condition];
    fn observed(&self) -> i64;
    fn generation(&self) -> Option<i64>;
}

macro_rules! conditioned {
    ($($kind:ty),*) => {$(
        impl Conditioned for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| KindStatus::conditions(status))
            }
            fn observed(&self) -> i64 {
                self.status.as_ref().map_or(-1, |status| status.observed_generation)
            }
            fn generation(&self) -> Option<i64> {
                self.metadata.generation
            }
        }
    )*};
}
conditioned!(
    ZenServer,
    ZenServiceAccount,
    ZenAPIKey,
    ZenDevice,
    ZenUser,
    ZenSecret,
    ZenComponent
);

/// Whether a condition holds, for the generation that there is. `Ready` means `True`; `Ready=x` means `False` with that
/// reason; any other, `True` or `False` with that reason.
pub fn says<K: Conditioned>(kind: &str, status: &str, reason: &str) -> impl Fn(&K) -> bool {
    move |object| {
        Some(object.observed()) == object.generation()
            && object.conditions().iter().any(|c| {
                c.type_ == kind
                    && c.status == status
                    && c.reason == reason
                    && c.observed_generation == object.generation()
            })
    }
}

pub fn ready<K: Conditioned>(object: &K) -> bool {
    says(condition::READY, "True", "Ready")(object)
}

/// Stalled for that reason.
pub fn stalled<K: Conditioned>(reason: &str) -> impl Fn(&K) -> bool {
    says(condition::STALLED, "True", reason)
}

/// Waiting for that reason.
pub fn waiting<K: Conditioned>(reason: &str) -> impl Fn(&K) -> bool {
    says(condition::RECONCILING, "True", reason)
}

/// What a condition says in words; nothing, if there is none.
pub fn message<K: Conditioned>(object: &K, kind: &str) -> String {
    let found = object.conditions().iter().find(|c| c.type_ == kind);
    found.map(|c| c.message.clone()).unwrap_or_default()
}

/// Which generations of a key are accepted.
pub fn accepted(key: &ZenAPIKey) -> Vec<i64> {
    let generations = key.status.iter().flat_map(|s| &s.generations);
    let mut numbers: Vec<_> = generations.map(|g| g.generation).collect();
    numbers.sort_unstable();
    numbers
}

/// What an entry of a Secret says.
pub fn entry(secret: &Secret, name: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(name)?.0;
    String::from_utf8(bytes.clone()).ok()
}

impl Site {
    /// Server, account and key, in this order.
    pub async fn apply_three(&self) -> Result<()> {
        self.apply_with(&key("main")).await
    }

    /// Server, account and this key.
    pub async fn apply_with(&self, key: &Value) -> Result<()> {
        for object in [&server("prod"), &account("ci"), key] {
            self.apply(object).await?;
        }
        Ok(())
    }

    /// Changes the status of a key as somebody who may write it.
    pub async fn edit_status(&self, name: &str, change: impl Fn(&mut Value)) -> Result<()> {
        let api = self.dynamic(&resource("zenop.dev/v1alpha1", "ZenAPIKey"));
        let parameters = PostParams::default();
        loop {
            let mut object = api.get(name).await?;
            let mut status = object.data["status"].take();
            change(&mut status);
            object.data["status"] = status;
            let written = api.replace_status(name, &parameters, &object);
            match written.await {
                Err(kube::Error::Api(refused)) if refused.code == 409 => {}
                written => return written.map(drop).context("writing the status"),
            }
        }
    }

    /// Makes the keys of an object older, as time would. What others write about them stays.
    pub async fn age(&self, name: &str, by: SignedDuration) -> Result<()> {
        let earlier = |time: &mut Value| {
            let at: Option<Timestamp> = time.as_str().and_then(|text| text.parse().ok());
            if let Some(at) = at {
                *time = json!((at - by).to_string());
            }
        };
        self.edit_status(name, |status| {
            earlier(&mut status["lastRotatedTime"]);
            let generations = status["generations"].as_array_mut();
            for generation in generations.into_iter().flatten() {
                earlier(&mut generation["createdTime"]);
                if !generation["validUntil"].is_null() {
                    earlier(&mut generation["validUntil"]);
                }
            }
        })
        .await
    }

    /// The Event of that reason, once there is one.
    pub async fn told(&self, reason: &str) -> Result<Event> {
        let mut events = watcher(self.api::<Event>(), Config::default())
            .default_backoff()
            .applied_objects()
            .boxed();
        let told = async {
            while let Some(event) = events.next().await {
                if let Some(event) = event.ok().filter(|e| e.reason.as_deref() == Some(reason)) {
                    return Some(event);
                }
            }
            None
        };
        let told = timeout(PATIENCE, told).await;
        told.with_context(|| format!("no Event {reason}"))?
            .context("the watch ended")
    }

    /// The key once it is Ready with that generation.
    pub async fn key_ready(&self, name: &str, generation: i64) -> Result<ZenAPIKey> {
        let is = |key: &ZenAPIKey| {
            ready(key) && key.status.as_ref().and_then(|s| s.generation) == Some(generation)
        };
        self.until(name, &format!("Ready with generation {generation}"), is)
            .await
    }

    /// The text of the key in a Secret.
    pub async fn key_text(&self, secret: &str) -> Result<String> {
        let secret = self.api::<Secret>().get(secret).await?;
        entry(&secret, "ZENML_STORE_API_KEY").context("it holds no key")
    }

    /// The verifier of a key's text, as the sidecar of server `prod` computes it for account `ci`.
    pub async fn verifier(&self, text: &str) -> Result<Verifier> {
        let secret = self.api::<Secret>().get("prod-auth").await?;
        let data = secret.data.context("an empty auth Secret")?;
        let keyring = Keyring::from_entries(|name| data.get(name).map(|bytes| &*bytes.0))?;
        let account: ZenServiceAccount = self.api().get("ci").await?;
        let given = account.status.as_ref().and_then(|s| s.account_id.clone());
        let account = given.or(account.uid()).context("no uid")?.parse()?;
        let key: ApiKey = text.parse()?;
        Ok(keyring
            .pepper()
            .verifier(account, key.id, key.secret.digest()))
    }

    /// Which generation of a key a text is of, if it is accepted now.
    pub async fn generation_of(
        &self,
        key: &ZenAPIKey,
        text: &str,
    ) -> Result<Option<(KeyState, i64)>> {
        let verifier = self.verifier(text).await?;
        let parsed: ApiKey = text.parse()?;
        let id = key.status.as_ref().and_then(|status| status.key_id.clone());
        ensure!(Some(parsed.id.to_string()) == id, "the id of another key");
        let generations = key.status.iter().flat_map(|status| &status.generations);
        for generation in generations {
            let recorded: Verifier = generation.verifier.parse()?;
            if recorded.matches(&verifier).into() {
                return Ok(Some((generation.state, generation.generation)));
            }
        }
        Ok(None)
    }

    /// Checks that a key has one current generation, of that number, and that its Secret holds it. Returns its text.
    pub async fn check_delivered(&self, name: &str, generation: i64) -> Result<String> {
        let key: ZenAPIKey = self.api().get(name).await?;
        let states: Vec<_> = key
            .status
            .iter()
            .flat_map(|s| &s.generations)
            .map(|g| g.state)
            .collect();
        let count = |state| states.iter().filter(|s| **s == state).count();
        ensure!(count(KeyState::Current) == 1, "{states:?}");
        ensure!(count(KeyState::Prepared) == 0, "{states:?}");
        let text = self.key_text(&key.secret_name()).await?;
        let holds = self.generation_of(&key, &text).await?;
        ensure!(
            holds == Some((KeyState::Current, generation)),
            "the Secret holds {holds:?}"
        );
        Ok(text)
    }
}

//! The delivered Secret: what the `zenml` client needs, ready for `envFrom`.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::decide::Held;
use crate::{
    api::label,
    auth::api_key::{ApiKey, Pepper},
    reconcile::plan::{Child, Live},
};

/// Entry with the server's address.
const URL_ENTRY: &str = "ZENML_STORE_URL";
/// Entry with the key.
const KEY_ENTRY: &str = "ZENML_STORE_API_KEY";

/// What a delivered Secret says.
pub(super) struct DeliveredSecret<'a> {
    pub url: &'a str,
    pub key: &'a ApiKey,
    pub generation: i64,
}

/// The Secret as it must be.
pub(super) fn delivered(name: &str, secret: &DeliveredSecret<'_>, live: Option<Live>) -> Child {
    let text = secret.key.text();
    let body = json!({
        "type": "Opaque",
        "metadata": {"labels": {
            label::NAME: "zenapikey",
            label::COMPONENT: "credentials",
            label::KEY_GENERATION: secret.generation.to_string(),
        }},
        "data": {
            URL_ENTRY: STANDARD.encode(secret.url),
            KEY_ENTRY: STANDARD.encode(text.as_bytes()),
        },
    });
    let resource = ApiResource::erase::<Secret>(&());
    Child {
        resource,
        name: name.to_owned(),
        body,
        live,
        create_only: false,
    }
}

/// The key in a Secret of ours, and what would stand for it.
pub(super) fn held_key(secret: &Live, id: Uuid, account: Uuid, pepper: &Pepper) -> Held {
    let key = key_in(&secret.body).filter(|key| key.id == id);
    match key {
        None => Held::Nothing,
        Some(key) => {
            let verifier = pepper.verifier(account, id, key.secret.digest());
            Held::Key {
                secret: key.secret,
                verifier,
            }
        }
    }
}

fn key_in(secret: &Value) -> Option<ApiKey> {
    let encoded = secret.pointer(&format!("/data/{KEY_ENTRY}"))?.as_str()?;
    let text = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    std::str::from_utf8(&text).ok()?.parse().ok()
}

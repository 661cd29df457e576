//! All of a namespace, without what differs from run to run: two runs that did the same have the same.

use anyhow::Result;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Map, Value, json};

use super::{Site, site::resource};

const KINDS: [(&str, &str); 18] = [
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("v1", "PersistentVolumeClaim"),
    ("zenop.dev/v1alpha1", "ZenServer"),
    ("zenop.dev/v1alpha1", "ZenServiceAccount"),
    ("zenop.dev/v1alpha1", "ZenAPIKey"),
    ("zenop.dev/v1alpha1", "ZenUser"),
    ("zenop.dev/v1alpha1", "ZenSecret"),
    ("zenop.dev/v1alpha1", "ZenComponent"),
];

/// Times, versions, addresses.
const PASSING: [&str; 28] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastRotatedTime",
    "lastChangedTime",
    "passwordSetTime",
    "issuedTime",
    "nextRotationTime",
    "createdTime",
    "validUntil",
    "publishedTime",
    "signsSince",
    "nextSigningKeyTime",
    // Of keys that were drawn.
    "revoked",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
    "finishedTime",
    "zenop.dev/kept-of",
    "clusterIP",
    "clusterIPs",
    "deployment.kubernetes.io/revision",
    "zenop.dev/owner-uid",
    // Times in it, with as many digits as they have.
    "zenop.dev/generated",
    // The pods' template once more, with the namespace's name in it.
    "zenop.dev/revision",
    // As long as age likes.
    "encrypted",
];
/// What is drawn, or made of it.
const DRAWN: [&str; 25] = [
    "idProof",
    "restoredFrom",
    "zenop.dev/environment",
    "zenop.dev/migration-attempt",
    "ZENML_SERVER_JWT_SECRET_KEY",
    "ZENML_DEFAULT_USER_PASSWORD",
    "ZENML_SECRETS_STORE_ENCRYPTION_KEY",
    "zenop.dev/restore",
    "verifier",
    "fingerprint",
    "keyId",
    "kid",
    "accountId",
    "userId",
    "expiresAt",
    "ZENML_STORE_API_KEY",
    "ZENML_STORE_API_KEY_PREVIOUS",
    "pepper",
    "keyset.json",
    "keys.txt",
    "recipient",
    "drawn",
    "zenop.dev/fingerprints",
    "zenop.dev/applied",
    "templateRevision",
];

impl Site {
    /// What is there, each object by kind and name.
    pub async fn state(&self) -> Result<Value> {
        let mut all = Map::new();
        for (version, kind) in KINDS {
            let api = self.dynamic(&resource(version, kind));
            for object in api.list(&ListParams::default()).await? {
                let name = format!("{kind} {}", object.name_any());
                let mut object = serde_json::to_value(object)?;
                if ["Deployment", "Job", "PodDisruptionBudget"].contains(&kind) {
                    object["status"] = Value::Null;
                }
                // By user, whose ids are drawn.
                if name.ends_with("-passwords") {
                    object["data"] = json!(object["data"].as_object().map(Map::len));
                }
                all.insert(name, lasting(object));
            }
        }
        let text = Value::Object(all)
            .to_string()
            .replace(self.name(), "NAMESPACE");
        Ok(serde_json::from_str(&text)?)
    }
}

fn lasting(value: Value) -> Value {
    let field = |(name, value): (String, Value)| {
        let value = match DRAWN.contains(&&*name) {
            true => json!({"length": value.as_str().map(str::len)}),
            false if name == "ZENML_STORE_URL" => decoded(&value),
            false => lasting(value),
        };
        (name, value)
    };
    match value {
        Value::Object(fields) => {
            let known = fields
                .into_iter()
                .filter(|(name, _)| !PASSING.contains(&&**name));
            known.map(field).collect()
        }
        Value::Array(items) => items.into_iter().map(lasting).collect(),
        other => other,
    }
}

/// It holds the namespace's name.
fn decoded(value: &Value) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default());
    json!(String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default())
}

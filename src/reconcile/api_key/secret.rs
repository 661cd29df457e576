//! The delivered Secret: what the `zenml` client needs, ready for `envFrom`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::decide::HeldKey;
use crate::{
    api::{SecretTemplate, label},
    auth::api_key::{ApiKey, Pepper},
    reconcile::plan::{Child, Live},
};

/// What a delivered Secret says.
pub(super) struct DeliveredSecret<'a> {
    pub key: &'a ApiKey,
    /// The one before, as long as it is accepted.
    pub previous: Option<&'a ApiKey>,
    pub generation: i64,
    pub names: &'a Names,
}

/// What may stand in a template, besides the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub url: String,
    pub key_name: String,
    pub account: String,
    pub account_id: String,
    pub server: String,
    pub namespace: String,
}

/// A template that was found to be right.
#[derive(Clone, Debug)]
pub(super) struct Template {
    spec: SecretTemplate,
    data: BTreeMap<String, Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Url,
    Key,
    KeyId,
    KeyName,
    Generation,
    Account,
    AccountId,
    Server,
    Namespace,
}

impl Template {
    /// # Errors
    /// Which entry cannot be read, and what may stand in it.
    pub(super) fn parse(spec: &SecretTemplate) -> Result<Self, String> {
        let parse = |(name, text): (&String, &String)| {
            let parts = parts(text)
                .map_err(|error| format!("spec.delivery.secretTemplate.data[{name:?}]: {error}"))?;
            Ok((name.clone(), parts))
        };
        let data: Result<_, String> = spec.data.iter().map(parse).collect();
        Ok(Self {
            spec: spec.clone(),
            data: data?,
        })
    }

    /// Whether the key before the current one is delivered too.
    pub(super) fn includes_previous(&self) -> bool {
        self.spec.include_previous
    }

    /// The Secret as it must be.
    pub(super) fn delivered(
        &self,
        name: &str,
        secret: &DeliveredSecret<'_>,
        live: Option<Live>,
    ) -> Child {
        let mut labels: Map<String, Value> = self
            .spec
            .labels
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        for (key, value) in [
            (label::NAME, "zenapikey"),
            (label::COMPONENT, "credentials"),
            (label::KEY_GENERATION, &secret.generation.to_string()),
        ] {
            labels.insert(key.to_owned(), json!(value));
        }
        let annotations = &self.spec.annotations;
        let metadata = if annotations.is_empty() {
            json!({"labels": labels})
        } else {
            json!({"labels": labels, "annotations": annotations})
        };
        let body = json!({
            "type": self.spec.secret_type,
            "metadata": metadata,
            "data": self.data(secret),
        });
        Child {
            resource: ApiResource::erase::<Secret>(&()),
            name: name.to_owned(),
            body,
            adopts: live.as_ref().is_some_and(|live| live.controller.is_none()),
            kept: false,
            live,
            create_only: false,
        }
    }

    fn data(&self, secret: &DeliveredSecret<'_>) -> Map<String, Value> {
        let keys = &self.spec.keys;
        let mut data = Map::new();
        let mut put = |name: &str, bytes: &[u8]| {
            data.insert(name.to_owned(), json!(STANDARD.encode(bytes)));
        };
        put(&keys.url, secret.names.url.as_bytes());
        put(&keys.key, secret.key.text().as_bytes());
        if let Some(previous) = secret.previous {
            put(&keys.previous_key, previous.text().as_bytes());
        }
        for (name, parts) in &self.data {
            put(name, render(parts, secret).as_bytes());
        }
        data
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        parts.push(Part::Text(before.to_owned()));
        let (name, after) = after
            .split_once("}}")
            .ok_or_else(|| "\"{{\" has no \"}}\" after it".to_owned())?;
        parts.push(Part::Variable(variable(name.trim())?));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    parts.retain(|part| *part != Part::Text(String::new()));
    Ok(parts)
}

fn variable(name: &str) -> Result<Variable, String> {
    Ok(match name {
        "url" => Variable::Url,
        "key" => Variable::Key,
        "keyId" => Variable::KeyId,
        "keyName" => Variable::KeyName,
        "generation" => Variable::Generation,
        "account" => Variable::Account,
        "accountId" => Variable::AccountId,
        "server" => Variable::Server,
        "namespace" => Variable::Namespace,
        _ => {
            return Err(format!(
                "{name:?} is no variable; there are url, key, keyId, keyName, generation, account, \
                 accountId, server and namespace"
            ));
        }
    })
}

fn render(parts: &[Part], secret: &DeliveredSecret<'_>) -> Zeroizing<String> {
    let names = secret.names;
    let mut text = Zeroizing::new(String::new());
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Variable(Variable::Url) => text.push_str(&names.url),
            Part::Variable(Variable::Key) => text.push_str(&secret.key.text()),
            Part::Variable(Variable::KeyId) => text.push_str(&secret.key.id.to_string()),
            Part::Variable(Variable::KeyName) => text.push_str(&names.key_name),
            Part::Variable(Variable::Generation) => text.push_str(&secret.generation.to_string()),
            Part::Variable(Variable::Account) => text.push_str(&names.account),
            Part::Variable(Variable::AccountId) => text.push_str(&names.account_id),
            Part::Variable(Variable::Server) => text.push_str(&names.server),
            Part::Variable(Variable::Namespace) => text.push_str(&names.namespace),
        }
    }
    text
}

/// The keys of this id in a Secret, under whatever names, and what would stand for each.
pub(super) fn held_keys(secret: &Live, id: Uuid, account: Uuid, pepper: &Pepper) -> Vec<HeldKey> {
    let ours = keys_in(secret).into_iter().filter(|key| key.id == id);
    ours.map(|key| HeldKey {
        verifier: pepper.verifier(account, id, key.secret.digest()),
        secret: key.secret,
    })
    .collect()
}

/// All that reads as a key in a Secret.
pub(super) fn keys_in(secret: &Live) -> Vec<ApiKey> {
    let data = secret.body.get("data").and_then(Value::as_object);
    let entries = data.into_iter().flat_map(Map::values);
    entries
        .filter_map(|entry| key_of(entry.as_str()?))
        .collect()
}

fn key_of(encoded: &str) -> Option<ApiKey> {
    let text = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    std::str::from_utf8(&text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_and_what_is_unknown_is_named() {
        let text = |t: &str| Part::Text(t.to_owned());
        assert_eq!(
            parts("A={{url}}\nB={{ key }}").unwrap(),
            [
                text("A="),
                Part::Variable(Variable::Url),
                text("\nB="),
                Part::Variable(Variable::Key)
            ]
        );
        assert_eq!(parts("plain } {").unwrap(), [text("plain } {")]);
        for (template, told) in [("{{url", "no \"}}\""), ("{{pepper}}", "is no variable")] {
            assert!(parts(template).unwrap_err().contains(told), "{template}");
        }
    }
}

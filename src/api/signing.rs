//! How the keys that sign tokens are rotated, and where each of them stands.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::duration::ApiDuration;

/// The name of a key: its JWK thumbprint.
const KID: &str = "^[A-Za-z0-9_-]{43}$";

/// How the keys that sign tokens (EdDSA) are rotated.
///
/// There is always a next key, published before it signs. A rotation lets it sign; the old key
/// verifies until no token of it can be alive, and goes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("duration(self.rotateEvery) >= duration('24h') && duration(self.rotateEvery) <= duration('17520h')", "rotateEvery must be between 24h and 17520h"),
    validation = ("duration(self.overlap) <= duration('17520h')", "overlap must be at most 17520h"),
    validation = ("duration(self.jwksMaxAge) >= duration('1s') && duration(self.jwksMaxAge) <= duration('1h')", "jwksMaxAge must be between 1s and 1h")
)]
pub struct Jwt {
    /// How long a key signs. Example: `720h`.
    #[serde(default = "rotate_every")]
    pub rotate_every: ApiDuration,

    /// How long a key verifies at the least after it signed last. It is never less than the longest
    /// life of a token: of `tokenTTL`, of a trusted device, and seven days. Example: `48h`.
    #[serde(default = "overlap")]
    pub overlap: ApiDuration,

    /// How long others may keep `/.well-known/jwks.json`. A key is published for that long, and
    /// `maxStaleness`, before it signs. Example: `5m`.
    #[serde(default = "jwks_max_age")]
    pub jwks_max_age: ApiDuration,

    /// Another value than the one handled last rotates once, as soon as the next key was
    /// published for long enough. Example: `"2026-11-23"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trigger: Option<String>,

    /// Names of keys that are revoked: every token of one is refused at once, by sidecars that see
    /// this, whether or not the operator runs. Then they are deleted, for good, and may be taken
    /// off this list. Who signed yields to the next key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kids")]
    pub revoked: Vec<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            rotate_every: rotate_every(),
            overlap: overlap(),
            jwks_max_age: jwks_max_age(),
            trigger: None,
            revoked: Vec::new(),
        }
    }
}

fn rotate_every() -> ApiDuration {
    ApiDuration::from_secs(720 * 3600)
}

fn overlap() -> ApiDuration {
    ApiDuration::from_secs(48 * 3600)
}

fn jwks_max_age() -> ApiDuration {
    ApiDuration::from_secs(300)
}

fn kids(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "items": {"type": "string", "minLength": 43, "maxLength": 43, "pattern": KID},
    })
}

/// A key that signs tokens, without the key. Only what stands here counts: a key in the auth
/// Secret that does not is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// Its name, `kid` in the header of a token: its JWK thumbprint (RFC 7638).
    #[schemars(length(min = 43, max = 43))]
    pub kid: String,

    /// What it is for.
    pub state: SigningKeyState,

    /// When it was stored. Absent before: a key is written down here first, so that none comes to
    /// be that nobody wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_time: Option<Time>,

    /// Since when it signs, or signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_since: Option<Time>,

    /// From when on it verifies nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningKeyState {
    /// It is known to all who verify, and will sign.
    Next,
    /// It signs.
    Current,
    /// It signed, and verifies until `validUntil`.
    Previous,
    /// It is over or revoked, and about to be deleted.
    Retired,
}

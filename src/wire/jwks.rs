//! Public keys (RFC 7517, RFC 8037): the members that are public, and no other.

use serde::Serialize;

/// A set of keys.
#[derive(Clone, Debug, Serialize)]
pub struct JwkSet<'a> {
    /// All of them.
    pub keys: Vec<Jwk<'a>>,
}

/// An Ed25519 key that signs tokens.
#[derive(Clone, Debug, Serialize)]
pub struct Jwk<'a> {
    /// Its name.
    pub kid: &'a str,
    /// `OKP`.
    pub kty: &'static str,
    /// `Ed25519`.
    pub crv: &'static str,
    /// `EdDSA`.
    pub alg: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: &'static str,
    /// The public half, in base64url.
    pub x: String,
}

impl<'a> Jwk<'a> {
    /// The key of a name whose public half is this.
    pub fn ed25519(kid: &'a str, x: String) -> Self {
        Self {
            kid,
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            x,
        }
    }
}

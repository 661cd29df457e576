//! How a server is reached from outside its cluster, and who vouches for it there.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{common::OBJECT_NAME, common::yes, template};

/// Which host names there are: labels of RFC 1123, and no wildcard.
const HOST_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

/// How a server is reached from outside its cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.mode == 'Ingress' ? has(self.ingress) && !has(self.gateway) : self.mode == 'Gateway' ? has(self.gateway) && !has(self.ingress) : !has(self.ingress) && !has(self.gateway)", "expose fields must match expose.mode: mode Ingress has ingress, mode Gateway has gateway, mode None has neither")
)]
pub struct Expose {
    /// `None`, `Ingress` or `Gateway`.
    #[serde(default)]
    pub mode: ExposeMode,

    /// For mode `Ingress`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressFront>,

    /// For mode `Gateway`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayFront>,
}

/// What leads to a server from outside its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExposeMode {
    /// Nothing that zenop makes. The default.
    #[default]
    None,
    /// An Ingress of the server's name.
    Ingress,
    /// An HTTPRoute of the server's name, at a Gateway that is there.
    Gateway,
}

/// An Ingress to a server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = template::ANNOTATIONS)]
pub struct IngressFront {
    /// Whose it is. Default: the cluster's own choice. Example: `nginx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub class_name: Option<String>,

    /// The name by which people reach the server. Example: `zenml.example.org`.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST_NAME))]
    pub hostname: String,

    /// What its controller is told.
    /// Example: `{nginx.ingress.kubernetes.io/proxy-body-size: "0"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template::annotations")]
    pub annotations: BTreeMap<String, String>,

    /// Under which path. Of another than `/` the controller has to take it off before it passes a
    /// request on, as annotations tell it. Example: `/`.
    #[serde(default = "root")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^/([-A-Za-z0-9._~]+(/[-A-Za-z0-9._~]+)*)?$")
    )]
    pub path: String,
}

fn root() -> String {
    "/".to_owned()
}

/// A route to a server from a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayFront {
    /// The Gateway, which must let routes of this namespace in.
    pub parent_ref: ParentRef,

    /// The name by which people reach the server. Example: `zenml.example.org`.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST_NAME))]
    pub hostname: String,

    /// Whether the Gateway's listener ends TLS. Else keys and passwords pass it in plain text, and
    /// `status.url` begins with `http`.
    #[serde(default = "yes")]
    pub https: bool,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its name. Example: `public`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// Its namespace. Default: the server's. Example: `gateways`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,

    /// The listener. Default: all that let the route in. Example: `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub section_name: Option<String>,
}

/// Who vouches for the server where TLS ends.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.mode != 'CertManager' || has(self.issuerRef)", "CertManager needs issuerRef"),
    validation = ("self.mode == 'CertManager' || !has(self.issuerRef)", "issuerRef is for mode CertManager"),
    validation = ("self.mode != 'Provided' || has(self.secretName)", "Provided needs secretName"),
    validation = ("self.mode == 'Provided' || !has(self.secretName)", "secretName is for mode Provided")
)]
pub struct Tls {
    /// `None`, `CertManager` or `Provided`.
    #[serde(default)]
    pub mode: TlsMode,

    /// Who signs. For mode `CertManager`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,

    /// A Secret of type `kubernetes.io/tls` in this namespace. For mode `Provided`, which needs it.
    /// Example: `zenml-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub secret_name: Option<String>,
}

/// Where the certificate comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// There is none. The default.
    #[default]
    None,
    /// cert-manager makes it, for a Certificate `<name>-tls`.
    CertManager,
    /// Somebody keeps it in a Secret.
    Provided,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name. Example: `letsencrypt`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// Its kind. Example: `ClusterIssuer`.
    #[serde(default = "issuer")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,

    /// Its group. Example: `cert-manager.io`.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".to_owned()
}

fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}

impl Expose {
    /// The name by which people reach the server, if it is exposed.
    pub fn hostname(&self) -> Option<&str> {
        match self.mode {
            ExposeMode::None => None,
            ExposeMode::Ingress => Some(&self.ingress.as_ref()?.hostname),
            ExposeMode::Gateway => Some(&self.gateway.as_ref()?.hostname),
        }
    }

    /// Where people reach the server, if it is exposed.
    pub fn url(&self, tls: TlsMode) -> Option<String> {
        let (is_https, path) = match self.mode {
            ExposeMode::None => return None,
            ExposeMode::Ingress => (tls != TlsMode::None, &*self.ingress.as_ref()?.path),
            ExposeMode::Gateway => (self.gateway.as_ref()?.https, ""),
        };
        let scheme = if is_https { "https" } else { "http" };
        let path = path.trim_end_matches('/');
        Some(format!("{scheme}://{}{path}", self.hostname()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn url(expose: Value, tls: TlsMode) -> Option<String> {
        from_value::<Expose>(expose).unwrap().url(tls)
    }

    #[test]
    fn f15_the_address_is_where_tls_ends_and_has_no_slash_at_its_end() {
        let ingress = |path: &str| json!({"mode": "Ingress", "ingress": {"hostname": "zenml.example.org", "path": path}});
        let at = |https: bool| {
            let gateway = json!({"parentRef": {"name": "public"}, "hostname": "zenml.example.org", "https": https});
            json!({"mode": "Gateway", "gateway": gateway})
        };
        let cases = [
            (json!({}), TlsMode::None, None),
            (
                ingress("/"),
                TlsMode::None,
                Some("http://zenml.example.org"),
            ),
            (
                ingress("/"),
                TlsMode::Provided,
                Some("https://zenml.example.org"),
            ),
            (
                ingress("/zen"),
                TlsMode::CertManager,
                Some("https://zenml.example.org/zen"),
            ),
            (at(true), TlsMode::None, Some("https://zenml.example.org")),
            (at(false), TlsMode::None, Some("http://zenml.example.org")),
        ];
        for (expose, tls, expected) in cases {
            assert_eq!(url(expose.clone(), tls).as_deref(), expected, "{expose}");
        }
    }
}

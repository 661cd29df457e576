//! Kinds of others, which a cluster has or has not: as much of them as it takes to make one.

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The spec of an HTTPRoute, whatever it holds.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    namespaced,
    schema = "disabled",
    doc = "HTTPRoute leads from a Gateway to a Service."
)]
pub struct HTTPRouteSpec {
    /// Its fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The spec of a Certificate of cert-manager, whatever it holds.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "Certificate",
    namespaced,
    schema = "disabled",
    doc = "Certificate asks cert-manager for a certificate in a Secret."
)]
pub struct CertificateSpec {
    /// Its fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

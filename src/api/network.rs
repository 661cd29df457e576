//! What a server's pods may reach, and who may reach them.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::common::yes;

/// What a server's pods may reach, and who may reach them: a NetworkPolicy of the server's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkGuard {
    /// Whether there is one. It lets in whoever asks for the ports of clients and of probes, and
    /// out to DNS, the API server, https (443), the ports of provider and database in the spec,
    /// and what `egress` lists.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// What else the pods may reach, such as an artifact store at a port of its own.
    /// Example: `[{ports: [9000]}, {cidr: 10.20.0.0/16}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub egress: Vec<Egress>,
}

impl Default for NetworkGuard {
    fn default() -> Self {
        Self {
            enabled: yes(),
            egress: Vec::new(),
        }
    }
}

/// Something that pods may reach by TCP.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.cidr) || has(self.ports) && size(self.ports) > 0", "say cidr, ports or both: an entry without them would open everything"),
    validation = ("!has(self.cidr) || isCIDR(self.cidr) && cidr(self.cidr) == cidr(self.cidr).masked()", "cidr must be a network as 10.20.0.0/16 is, without bits after its prefix")
)]
pub struct Egress {
    /// A network. Default: any. Example: `10.20.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub cidr: Option<String>,

    /// Ports. Default: any. Example: `[9000]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub ports: Vec<u16>,
}

fn ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32,
        "items": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
    })
}

//! Volumes and containers that a ZenServer's author adds to its pods.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    common::{OBJECT_NAME, yes},
    placement::{Amount, Resources},
};

const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A volume of one of these kinds; of no other, as those reach into the node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.persistentVolumeClaim)].filter(x, x).size() == 1", "a volume is one of configMap, secret, emptyDir and persistentVolumeClaim"),
    validation = ("!(self.name in ['api-access', 'ca-bundle', 'client-secret', 'data', 'scratch', 'tls']) && !self.name.startsWith('zenop-')", "a volume of this name is zenop's own")
)]
pub struct PodVolume {
    /// Its name, by which it is mounted. Example: `models`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,

    /// A ConfigMap. Example: `{name: models}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,

    /// A Secret that its owner released to this server. Example: `{secretName: cloud-login}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,

    /// An empty folder that goes with the pod. Example: `{sizeLimit: 1Gi}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,

    /// A PersistentVolumeClaim that its owner released to this server.
    /// Example: `{claimName: models, readOnly: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
}

/// A ConfigMap as a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Its name, in the server's namespace. Example: `models`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// Which entries are files, and where. Default: all, by their names.
    /// Example: `[{key: models.yaml, path: models.yaml}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<EntryFile>,
}

/// A Secret as a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Its name, in the server's namespace. Example: `cloud-login`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub secret_name: String,

    /// Which entries are files, and where. Default: all, by their names.
    /// Example: `[{key: key.json, path: key.json}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<EntryFile>,
}

/// An entry that is a file.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!self.path.matches('(^|/)[.][.](/|$)') && !self.path.startsWith('..')", "path must stay in the volume"))]
pub struct EntryFile {
    /// The entry. Example: `key.json`.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._A-Za-z0-9]+$"))]
    pub key: String,

    /// The file, in the volume. Example: `key.json`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/:\s]+(/[^/:\s]+)*$"))]
    pub path: String,
}

/// An empty folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// How much fits in. Default: what the node has. Example: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_limit")]
    pub size_limit: Option<Amount>,
}

fn size_limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0, "maximum": 1_000_000_000, "maxLength": 16,
        "pattern": "^[0-9]{1,9}(k|M|G|T|Ki|Mi|Gi|Ti)?$",
    })
}

/// A PersistentVolumeClaim as a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// Its name, in the server's namespace. Example: `models`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub claim_name: String,

    /// Whether it is read only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Where a container sees a volume.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.subPath) || !self.subPath.matches('(^|/)[.][.](/|$)')", "subPath must stay in the volume"))]
pub struct VolumeMount {
    /// Which of `podTemplate.volumes`. Example: `models`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,

    /// Where. Example: `/models`.
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^(/[^/:\s]+)+$"))]
    pub mount_path: String,

    /// What of it. Default: all. Example: `prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^/\s]+(/[^/\s]+)*$"))]
    pub sub_path: Option<String>,

    /// Whether it is read only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A container beside the ZenML server. How it is secured is not for its author to say: it is no
/// root, gets no more rights than it begins with, and has none of root's.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(self.name in ['sidecar', 'zenml', 'migration']) && !self.name.startsWith('zenop-')", "a container of this name is zenop's own")
)]
pub struct ExtraContainer {
    /// Its name. Example: `sql-proxy`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,

    /// Its image. Example: `sql-proxy:2`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\s\x00-\x1f]+$"))]
    pub image: String,

    /// What it runs. Default: what the image says. Example: `[/sql-proxy]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "words")]
    pub command: Vec<String>,

    /// With what. Default: what the image says. Example: `["--port=3306"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "words")]
    pub args: Vec<String>,

    /// Its environment. What is secret it reads from a volume.
    /// Example: `[{name: LOG_LEVEL, value: info}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "plain_variables")]
    pub env: Vec<PlainVariable>,

    /// At which ports others reach it, as far as the NetworkPolicy lets them.
    /// Example: `[{containerPort: 9090}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub ports: Vec<ContainerPort>,

    /// What it takes of a node. Default: what is left.
    /// Example: `{requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 128Mi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Where it sees volumes. Example: `[{name: models, mountPath: /models}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "mounts")]
    pub volume_mounts: Vec<VolumeMount>,

    /// Whom it runs as, where its image names a user or root. Example: `65532`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,

    /// Whether it can write to nothing but its volumes.
    #[serde(default = "yes")]
    pub read_only_root_filesystem: bool,
}

/// A variable that is no secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.name.matches('(PASSWORD|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY|ENCRYPTION_KEY|API_KEY)$')", "a value of such a name belongs in a Secret: mount it as a volume"),
    validation = ("!self.value.matches('://[^/@]*:[^/@]+@')", "a password belongs in a Secret: mount it as a volume")
)]
pub struct PlainVariable {
    /// Its name. Example: `LOG_LEVEL`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,

    /// Its value. Example: `info`.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A port of a container, by TCP.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(self.containerPort in [8080, 8081, 8237])", "this port is zenop's own")
)]
pub struct ContainerPort {
    /// Its number. Example: `9090`.
    #[schemars(range(min = 1, max = 65_535))]
    pub container_port: i32,
}

/// At most so many, told apart by these fields.
pub(super) fn listed<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    most: u32,
    keys: &[&str],
) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<T>(),
        "maxItems": most,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys,
    })
}

fn words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 64,
        "items": {"type": "string", "minLength": 1, "maxLength": 4096},
    })
}

fn plain_variables(generator: &mut SchemaGenerator) -> Schema {
    listed::<PlainVariable>(generator, 32, &["name"])
}

fn ports(generator: &mut SchemaGenerator) -> Schema {
    listed::<ContainerPort>(generator, 16, &["containerPort"])
}

fn mounts(generator: &mut SchemaGenerator) -> Schema {
    listed::<VolumeMount>(generator, 16, &["mountPath"])
}

/// Those of the ZenML server do not hide what is zenop's.
pub(super) fn mounts_of_zenml(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = mounts(generator);
    schema.insert(
        "x-kubernetes-validations".into(),
        serde_json::json!([{
            "rule": "self.all(m, !(m.mountPath in ['/zenml', '/var/lib/zenml']) && !m.mountPath.startsWith('/var/run/zenop'))",
            "message": "something of zenop's own is mounted there",
        }]),
    );
    schema
}

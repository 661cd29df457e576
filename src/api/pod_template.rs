//! What a ZenServer's author adds to its pods.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    common::{LocalRef, OBJECT_NAME},
    placement::{Affinity, Resources, Toleration, TopologySpread},
    template,
    volumes::{ExtraContainer, PodVolume, VolumeMount, listed},
};

/// What is added to the pods of a server, and to those that migrate its database. Nothing of it makes
/// them less secure: what pods may do, whom they run as, and with whose rights, zenop says alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = template::LABELS,
    validation = ("!has(self.labels) || self.labels.all(k, k.matches('^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && !k.matches('(^|[.])kubernetes[.]io/') && k != 'pod-template-hash')", "labels must be as Kubernetes takes them, and none of its own"),
    validation = ("!has(self.annotations) || self.annotations.all(k, k.matches('^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && !k.startsWith('zenop.dev/') && !k.startsWith('io.kubernetes.') && (!k.matches('(^|[.])(kubernetes|k8s)[.]io/') || k.startsWith('cluster-autoscaler.kubernetes.io/')))", "annotations must not be zenop's own (zenop.dev/) nor such as Kubernetes gives a meaning to, but for cluster-autoscaler.kubernetes.io/"),
    validation = ("!has(self.priorityClassName) || !self.priorityClassName.startsWith('system-')", "priorityClassName must not be one of Kubernetes' own"),
    validation = ("(has(self.volumeMounts) ? self.volumeMounts : []).all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))", "volumeMounts must name volumes of podTemplate.volumes"),
    validation = ("(has(self.extraContainers) ? self.extraContainers : []).all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name)))", "an extra container's volumeMounts must name volumes of podTemplate.volumes")
)]
pub struct PodTemplate {
    /// The environment of the ZenML server, as its documentation names it. What zenop sets itself
    /// cannot be set here. There is no `envFrom`, as who writes what it names could set that too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "variables")]
    pub env: Vec<Variable>,

    /// Labels of the pods. Example: `{cost-centre: ml}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the pods.
    /// Example: `{cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template::annotations")]
    pub annotations: BTreeMap<String, String>,

    /// What the ZenML server takes of a node, and its migration; what is said replaces all of the
    /// default. Default: requests of 100m and 512Mi, a limit of 2Gi memory.
    /// Example: `{requests: {cpu: 500m, memory: 2Gi}, limits: {memory: 4Gi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// What the sidecar takes of a node; what is said replaces all of the default. Default: requests
    /// of 10m and 32Mi, a limit of 256Mi memory. Example: `{limits: {memory: 512Mi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_resources: Option<Resources>,

    /// Labels that a node must have. Example: `{kubernetes.io/arch: amd64}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that do not matter.
    /// Example: `[{key: dedicated, operator: Equal, value: ml, effect: NoSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Near which nodes and pods they are to run, or far from which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How the server's pods are spread. Default: over nodes and zones, as well as it can be done.
    /// Example: `[{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "spreads")]
    pub topology_spread_constraints: Vec<TopologySpread>,

    /// Which pods they may push aside. Example: `team-critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,

    /// What runs the containers, where there is more than one. Example: `gvisor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub runtime_class_name: Option<String>,

    /// Secrets with what the nodes log in to registries with. The pods cannot read them.
    /// Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "pull_secrets")]
    pub image_pull_secrets: Vec<LocalRef>,

    /// Volumes for the ZenML server, its migration and extra containers. A Secret or a
    /// PersistentVolumeClaim is mounted once its owner labels it `zenop.dev/volume-of: <this server>`.
    /// Another content of a Secret or ConfigMap makes the pods anew, within a minute.
    /// Example: `[{name: models, persistentVolumeClaim: {claimName: models}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "pod_volumes")]
    pub volumes: Vec<PodVolume>,

    /// Where the ZenML server and its migration see them. Example: `[{name: models, mountPath: /models}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::volumes::mounts_of_zenml")]
    pub volume_mounts: Vec<VolumeMount>,

    /// Containers that run beside the ZenML server and its migration, begin before them and end after
    /// them: a proxy of a database, say. They have neither the sidecar's rights nor its volumes.
    /// Example: `[{name: sql-proxy, image: "sql-proxy:2", args: ["--port=3306"]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "extra_containers")]
    pub extra_containers: Vec<ExtraContainer>,
}

impl PodTemplate {
    /// What goes with the ZenML server, in CEL: without one it would mean nothing.
    pub(super) const NEEDS_IMAGE: (&str, &str) = (
        "has(self.spec.image) || !has(self.spec.podTemplate.resources) && !has(self.spec.podTemplate.volumes) && !has(self.spec.podTemplate.volumeMounts) && !has(self.spec.podTemplate.extraContainers)",
        "podTemplate's resources, volumes, volumeMounts and extraContainers go with the ZenML server: they need image",
    );
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string", "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

fn spreads(generator: &mut SchemaGenerator) -> Schema {
    listed::<TopologySpread>(generator, 8, &["topologyKey", "whenUnsatisfiable"])
}

fn pull_secrets(generator: &mut SchemaGenerator) -> Schema {
    listed::<LocalRef>(generator, 16, &["name"])
}

fn pod_volumes(generator: &mut SchemaGenerator) -> Schema {
    listed::<PodVolume>(generator, 16, &["name"])
}

fn extra_containers(generator: &mut SchemaGenerator) -> Schema {
    listed::<ExtraContainer>(generator, 8, &["name"])
}

/// A variable of the ZenML server's environment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(self.name in ['ZENML_SERVER', 'ZENML_SERVER_AUTH_SCHEME', 'ZENML_SERVER_JWT_SECRET_KEY', 'ZENML_SERVER_JWT_TOKEN_ALGORITHM', 'ZENML_SERVER_JWT_TOKEN_ISSUER', 'ZENML_SERVER_JWT_TOKEN_AUDIENCE', 'ZENML_SERVER_AUTO_ACTIVATE', 'ZENML_SERVER_ROOT_URL_PATH', 'ZENML_DEFAULT_USER_NAME', 'ZENML_DEFAULT_USER_PASSWORD', 'ZENML_STORE_TYPE', 'ZENML_STORE_URL', 'ZENML_STORE_USERNAME', 'ZENML_STORE_PASSWORD', 'ZENML_STORE_SSL', 'ZENML_STORE_SSL_CA', 'ZENML_STORE_SSL_VERIFY_SERVER_CERT', 'DISABLE_DATABASE_MIGRATION', 'ZENML_SECRETS_STORE_TYPE', 'ZENML_SECRETS_STORE_ENCRYPTION_KEY'])", "this variable is set by zenop itself"),
    validation = ("!self.name.matches('(PASSWORD|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY|ENCRYPTION_KEY|API_KEY)$') || self.value.contains('{{')", "a value of such a name belongs in a ZenSecret: refer to it, as {{name.key}}"),
    validation = ("!self.value.matches('://[^/@{]*:[^/@{]+@')", "a password belongs in a ZenSecret: refer to it, as in smtp://{{mail.user}}:{{mail.password}}@host")
)]
pub struct Variable {
    /// Its name. Example: `ZENML_LOGGING_VERBOSITY`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,

    /// Its value; references `{{name.key}}` in it stand for values of the workspace's ZenSecrets of
    /// this server. Example: `mysql://{{db.user}}:{{db.password}}@mysql.db.svc/zenml`.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// At most 64, each name once.
fn variables(generator: &mut SchemaGenerator) -> Schema {
    listed::<Variable>(generator, 64, &["name"])
}

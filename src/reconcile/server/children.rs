//! What a server is made of.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{ResourceExt, core::ApiResource};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    Settings, database, environment::Environment, migration::Migration, overlay, revision::Revision,
};
use crate::{
    api::{DatabaseType, GROUP, SecretKeyRef, ZenServer, annotation, label},
    auth::{
        keyring::{BadSecret, KEYSET_ENTRY, Keyring, PEPPER_ENTRY},
        keyset::Keyset,
        upstream,
    },
    reconcile::plan::{Child, Entries, Live},
};

/// The port that clients use, in the pod.
pub const HTTP_PORT: u16 = 8080;
/// The port of probes and metrics, in the pod.
pub const ADMIN_PORT: u16 = 8081;

/// How long a pod that is to end serves on if others take over from it, in seconds: until every node knows
/// that its connections go elsewhere.
const LINGER: i64 = 5;
/// How long the ZenML server serves on: until the sidecar has nothing more to ask it. Together with its own
/// end that is less than what a pod has.
const UPSTREAM_LINGER: i64 = 25;
const GRACE: i64 = 30;

/// The volume, and the file in it, with what the server proves itself with at its provider.
const CLIENT_SECRET: &str = "client-secret";
const MOUNT: &str = "/var/run/zenop/provider";

/// The volume of what the sidecar proves itself with at the API server, and where a client in a cluster
/// looks for that.
const API_ACCESS: &str = "api-access";
const API_ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The volume of the ZenML server's home, and where it is.
pub(super) const SCRATCH: &str = "scratch";
const SCRATCH_PATH: &str = "/zenml";

/// Who the ZenML server runs as, as in ZenML's own chart. Its image names its user, and of a name Kubernetes
/// cannot tell that it is not root: no pod would start.
const ZENML_USER: i64 = 1000;

/// The kind of the auth Secret.
pub(super) fn auth_secret_resource() -> ApiResource {
    ApiResource::erase::<Secret>(&())
}

/// All other children, each with the server's name, in the order in which they are made: rights
/// before the pods that use them.
pub(super) fn resources() -> [ApiResource; 5] {
    [
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<Role>(&()),
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<Deployment>(&()),
    ]
}

/// The auth Secret. Of one that is there only the signing keys change, see [`keyset_entry`].
pub(super) fn auth_secret(name: &str, entries: &[(&str, &str)], live: Option<Live>) -> Child {
    let data: Map<String, Value> = entries
        .iter()
        .map(|(name, text)| ((*name).to_owned(), STANDARD.encode(text).into()))
        .collect();
    let body = json!({
        "type": "Opaque",
        "metadata": {"labels": {label::NAME: "zenserver", label::COMPONENT: "auth"}},
        "data": data,
    });
    Child {
        resource: auth_secret_resource(),
        name: name.to_owned(),
        body,
        live,
        create_only: true,
        adopts: false,
        kept: false,
    }
}

/// What stands for the users' passwords. Made empty; users and sidecars store entries in it.
pub(super) fn passwords_secret(name: &str, live: Option<Live>) -> Child {
    let body = json!({
        "type": "Opaque",
        "metadata": {"labels": {label::NAME: "zenserver", label::COMPONENT: "passwords"}},
    });
    Child {
        resource: auth_secret_resource(),
        name: name.to_owned(),
        body,
        live,
        create_only: true,
        adopts: false,
        kept: false,
    }
}

/// What an auth Secret holds that is compared or changed.
pub(super) struct AuthSecret {
    /// What tells its pepper from another's.
    pub fingerprint: String,
    /// Its signing keys.
    pub keyset: Keyset,
}

impl AuthSecret {
    /// Reads it.
    ///
    /// # Errors
    /// Names the entry that is missing or malformed.
    pub(super) fn read(secret: &Live) -> Result<Self, BadSecret> {
        let decode = |name: &str| decoded(secret, name);
        let keyset = decode(KEYSET_ENTRY).ok_or(BadSecret::Missing(KEYSET_ENTRY))?;
        let pepper = decode(PEPPER_ENTRY).ok_or(BadSecret::Missing(PEPPER_ENTRY))?;
        Ok(Self {
            fingerprint: Keyring::fingerprint(|_| Some(&pepper)),
            keyset: Keyset::read(&keyset)?,
        })
    }
}

fn decoded(secret: &Live, name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let encoded = secret.body.get("data")?.get(name)?.as_str()?;
    STANDARD.decode(encoded).ok().map(Zeroizing::new)
}

/// The pepper in a Secret, if it holds one.
pub(super) fn pepper_in(secret: &Live) -> Option<Zeroizing<[u8; 32]>> {
    let text = decoded(secret, PEPPER_ENTRY)?;
    let mut pepper = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&*text, pepper.as_mut()).ok()?;
    Some(pepper)
}

/// Replaces the signing keys of an auth Secret.
pub(super) fn keyset_entry(name: &str, live: &Live, keyset: &Keyset) -> Entries {
    let json = keyset.to_json().to_string();
    Entries {
        secret: name.to_owned(),
        uid: live.uid.clone(),
        resource_version: live.resource_version.clone(),
        values: [(KEYSET_ENTRY.to_owned(), Some(json))].into(),
    }
}

/// With the labels of what belongs to a server's pods.
pub(super) fn with_labels(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        let labels = json!({label::NAME: "zenserver", label::COMPONENT: "sidecar"});
        fields.insert("metadata".into(), json!({"labels": labels}));
    }
    body
}

/// A container of ZenML's image: in what environment it runs, with what rights, and, in `runs`, what.
pub(super) fn of_zenml<'a>(
    name: &str,
    image: &str,
    env: impl IntoIterator<Item = &'a Value>,
    runs: Value,
) -> Value {
    // Without a home that can be written, ZenML does not start.
    let home = [("HOME", SCRATCH_PATH), ("ZENML_CONFIG_PATH", SCRATCH_PATH)];
    let home = home.map(|(name, value)| json!({"name": name, "value": value}));
    let mut container = json!({
        "name": name,
        "image": image,
        "env": home.into_iter().chain(env.into_iter().cloned()).collect::<Vec<_>>(),
        "resources": {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"memory": "2Gi"},
        },
        "volumeMounts": [{"name": SCRATCH, "mountPath": SCRATCH_PATH}],
        "securityContext": {
            "runAsUser": ZENML_USER,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    if let (Value::Object(fields), Value::Object(runs)) = (&mut container, runs) {
        fields.extend(runs);
    }
    container
}

/// Adds to a list in a body.
pub(super) fn push(body: &mut Value, list: &str, item: Value) {
    if let Some(Value::Array(items)) = body.pointer_mut(list) {
        items.push(item);
    }
}

/// What a client in a cluster proves itself with, as the API server adds it to pods that do not say
/// otherwise, for each of their containers. The kubelet renews the token.
fn api_access() -> Value {
    let namespace = json!({"fieldPath": "metadata.namespace", "apiVersion": "v1"});
    json!({"name": API_ACCESS, "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {
            "name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]}})
}

/// A server and what is set for all of them.
pub(super) struct Parts<'a> {
    pub server: &'a ZenServer,
    pub settings: &'a Settings,
    /// Whether the pods get the secret for the provider, if there is one.
    pub provides_secret: bool,
    pub environment: &'a Environment,
    pub migration: &'a Migration,
    /// Whether the pods are spread over nodes and zones.
    pub spreads: bool,
}

impl Parts<'_> {
    /// The fields that we own of a child of a kind.
    pub(super) fn body(&self, kind: &str, revision: &Revision) -> Value {
        match kind {
            "ServiceAccount" => with_labels(json!({"automountServiceAccountToken": false})),
            "Role" => self.role(),
            "RoleBinding" => self.role_binding(),
            "Service" => self.service(),
            _ => self.deployment(revision),
        }
    }

    /// Selects the pods.
    pub(super) fn selector(&self) -> String {
        let labels = self.server.pod_labels();
        labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The sidecar reads identities and secrets without values of its namespace and its own server and
    /// its two Secrets, makes and changes identities and secrets for ZenML's API, stores what stands
    /// for passwords that users choose, and writes when identities were last used. The values of
    /// secrets it may read one by one, see `readable.rs`.
    fn role(&self) -> Value {
        let used = ["zenserviceaccounts", "zenapikeys", "zendevices", "zenusers"];
        let changed: Vec<&str> = used.into_iter().chain(["zensecrets"]).collect();
        let kinds: Vec<&str> = [&["zenservers"], &*changed].concat();
        let (auth, passwords) = (
            self.server.auth_secret_name(),
            self.server.passwords_secret_name(),
        );
        with_labels(json!({"rules": [
            {"apiGroups": [GROUP], "resources": kinds, "verbs": ["get", "list", "watch"]},
            {"apiGroups": [GROUP], "resources": changed, "verbs": ["create", "patch", "delete"]},
            {"apiGroups": [GROUP], "resources": used.map(|kind| format!("{kind}/status")),
             "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"],
             "resourceNames": [auth]},
            {"apiGroups": [""], "resources": ["secrets"],
             "verbs": ["get", "list", "watch", "patch"], "resourceNames": [passwords]},
        ]}))
    }

    fn role_binding(&self) -> Value {
        let (name, namespace) = (self.server.name_any(), self.server.namespace());
        with_labels(json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }))
    }

    fn service(&self) -> Value {
        with_labels(json!({"spec": {
            "selector": self.server.pod_labels(),
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        }}))
    }

    fn deployment(&self, revision: &Revision) -> Value {
        // A file has one writer.
        let strategy = match self.has_file() {
            true => json!({"type": "Recreate"}),
            false => json!({
                "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            }),
        };
        let mut spec = json!({
            "selector": {"matchLabels": self.server.pod_labels()},
            "strategy": strategy,
            "template": revision.template,
        });
        let replicas = match self.server.spec.suspend || self.migration.drains {
            true => Some(0),
            false => self.server.spec.replicas,
        };
        if let (Some(replicas), Value::Object(fields)) = (replicas, &mut spec) {
            fields.insert("replicas".into(), replicas.into());
        }
        let mut body = with_labels(json!({"spec": spec}));
        if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
            let revision = json!({(annotation::REVISION): revision.text()});
            metadata.insert("annotations".into(), revision);
        }
        body
    }

    /// Whether the database is a file of the pod's.
    fn has_file(&self) -> bool {
        let spec = &self.server.spec;
        spec.image.is_some() && spec.database.kind == DatabaseType::Sqlite
    }

    /// What the pods are like, as this release makes them.
    pub(super) fn pod_template(&self) -> Value {
        let mut labels = self.server.pod_labels();
        labels.insert(label::COMPONENT.into(), "sidecar".into());
        let mut template = json!({
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": self.server.name_any(),
                // For the sidecar alone, by a volume: the ZenML server has no business with it.
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": GRACE,
                "securityContext": {
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumes": [api_access()],
                "containers": [self.lingering(self.container(), LINGER)],
            },
        });
        let over = &self.server.spec.pod_template;
        if let Some(said) = overlay::spread(over, &json!(self.server.pod_labels())) {
            if let Some(Value::Object(spec)) = template.get_mut("spec") {
                spec.insert("topologySpreadConstraints".into(), said);
            }
        } else if self.spreads {
            let over = |key: &str| {
                json!({
                    "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": self.server.pod_labels()},
                })
            };
            let over = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(over);
            if let Some(Value::Object(spec)) = template.get_mut("spec") {
                spec.insert("topologySpreadConstraints".into(), json!(over));
            }
        }
        // Left out where there is none, so that no pod of another server is made anew.
        if let Some(secret) = self.client_secret() {
            // Optional: without it nobody logs in at the provider, and all else goes on.
            let volume = json!({"name": CLIENT_SECRET, "secret": {
                "secretName": secret.name, "optional": true,
                "items": [{"key": secret.key, "path": CLIENT_SECRET}],
            }});
            push(&mut template, "/spec/volumes", volume);
        }
        if let Some(image) = &self.migration.image {
            let scratch = json!({"name": SCRATCH, "emptyDir": {}});
            let zenml = self.lingering(self.zenml(image), UPSTREAM_LINGER);
            push(&mut template, "/spec/containers", zenml);
            push(&mut template, "/spec/volumes", scratch);
            if self.has_file() {
                database::mount(&mut template, 1, &self.server.data_volume_name());
            }
            // Another value makes the pods anew.
            let print = json!({(annotation::ENVIRONMENT): self.environment.print});
            if let Some(Value::Object(meta)) = template.get_mut("metadata") {
                meta.insert("annotations".into(), print);
            }
        }
        overlay::lay(over, overlay::ZENML, &mut template);
        template
    }

    /// The ZenML server. The sidecar asks it how it is, as it listens to nobody else.
    fn zenml(&self, image: &str) -> Value {
        let (host, port) = upstream::ADDRESS.split_once(':').unwrap_or_default();
        let probe = |path: &str, period: i32, failures: i32| {
            json!({
                "httpGet": {"path": path, "port": ADMIN_PORT, "scheme": "HTTP"},
                "periodSeconds": period,
                "timeoutSeconds": 10,
                "failureThreshold": failures,
            })
        };
        let given = [json!({"name": upstream::NO_MIGRATION, "value": "true"})];
        let env = given.iter().chain(&self.environment.variables);
        let runs = json!({
            "command": ["uvicorn"],
            "args": [
                "zenml.zen_server.zen_server_api:app",
                "--no-server-header",
                "--proxy-headers",
                format!("--forwarded-allow-ips={host}"),
                format!("--host={host}"),
                format!("--port={port}"),
            ],
            "startupProbe": probe("/upstream/livez", 2, 150),
            "readinessProbe": probe("/upstream/readyz", 5, 3),
            "livenessProbe": probe("/upstream/livez", 15, 5),
        });
        of_zenml(overlay::ZENML, image, env, runs)
    }

    /// A container that serves on for so long when its pod is to end. Where the next pod waits for the end
    /// of this one, that would only be a longer wait.
    fn lingering(&self, mut container: Value, seconds: i64) -> Value {
        if let (false, Value::Object(fields)) = (self.has_file(), &mut container) {
            let sleep = json!({"preStop": {"sleep": {"seconds": seconds}}});
            fields.insert("lifecycle".into(), sleep);
        }
        container
    }

    pub(super) fn client_secret(&self) -> Option<&SecretKeyRef> {
        self.server.client_secret().filter(|_| self.provides_secret)
    }

    fn container(&self) -> Value {
        let probe = |path: &str, period: i32| {
            json!({
                "httpGet": {"path": path, "port": "admin", "scheme": "HTTP"},
                "periodSeconds": period,
                "timeoutSeconds": 2,
                "failureThreshold": 3,
            })
        };
        let mut container = json!({
            "name": "sidecar",
            "image": self.settings.image,
            "imagePullPolicy": self.settings.image_pull_policy,
            "args": [
                "sidecar",
                format!("--server={}", self.server.name_any()),
                format!("--namespace={}", self.server.namespace().unwrap_or_default()),
                format!("--listen=[::]:{HTTP_PORT}"),
                format!("--admin-listen=[::]:{ADMIN_PORT}"),
            ],
            "ports": [
                {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
                {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
            ],
            "readinessProbe": probe("/readyz", 2),
            "livenessProbe": probe("/livez", 10),
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"memory": "256Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            },
            "volumeMounts": [
                {"name": API_ACCESS, "mountPath": API_ACCESS_PATH, "readOnly": true},
            ],
        });
        if self.server.spec.image.is_some() {
            let upstream = format!("--upstream=http://{}", upstream::ADDRESS);
            push(&mut container, "/args", upstream.into());
        }
        if self.client_secret().is_some() {
            let mount = json!({"name": CLIENT_SECRET, "mountPath": MOUNT, "readOnly": true});
            let file = format!("--client-secret-file={MOUNT}/{CLIENT_SECRET}");
            push(&mut container, "/args", file.into());
            push(&mut container, "/volumeMounts", mount);
        }
        container
    }
}

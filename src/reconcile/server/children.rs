//! What a server is made of.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{ResourceExt, core::ApiResource};
use serde_json::{Map, Value, json};

use super::Settings;
use crate::{
    api::{GROUP, ZenServer, label},
    auth::keyring::Keyring,
    reconcile::plan::{Child, Live},
};

/// The port that clients use, in the pod.
pub const HTTP_PORT: u16 = 8080;
/// The port of probes and metrics, in the pod.
pub const ADMIN_PORT: u16 = 8081;

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

/// The auth Secret. One that is there is never written again.
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
    }
}

/// What tells the content of an auth Secret from another's.
pub(super) fn fingerprint(secret: &Live) -> String {
    let decode = |name: &str| {
        let encoded = secret.body.get("data")?.get(name)?.as_str()?;
        STANDARD.decode(encoded).ok()
    };
    let entries = [
        crate::auth::keyring::PEPPER_ENTRY,
        crate::auth::keyring::KEYSET_ENTRY,
    ]
    .map(|name| (name, decode(name)));
    let entry = |name: &str| {
        entries
            .iter()
            .find(|(n, _)| *n == name)
            .and_then(|(_, bytes)| bytes.as_deref())
    };
    Keyring::fingerprint(entry)
}

/// A server and what is set for all of them.
pub(super) struct Parts<'a> {
    pub server: &'a ZenServer,
    pub settings: &'a Settings,
}

impl Parts<'_> {
    /// The fields that we own of a child of a kind.
    pub(super) fn body(&self, kind: &str) -> Value {
        match kind {
            "ServiceAccount" => self.with_labels(json!({"automountServiceAccountToken": false})),
            "Role" => self.role(),
            "RoleBinding" => self.role_binding(),
            "Service" => self.service(),
            _ => self.deployment(),
        }
    }

    /// Where clients in the cluster reach the server.
    pub(super) fn internal_url(&self) -> String {
        let namespace = self.server.namespace().unwrap_or_default();
        format!("http://{}.{namespace}.svc", self.server.name_any())
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

    fn with_labels(&self, mut body: Value) -> Value {
        if let Value::Object(fields) = &mut body {
            let labels = json!({label::NAME: "zenserver", label::COMPONENT: "sidecar"});
            fields.insert("metadata".into(), json!({"labels": labels}));
        }
        body
    }

    /// The sidecar reads identities of its namespace and its own server and its two Secrets, makes
    /// and changes identities for ZenML's API, stores what stands for passwords that users choose,
    /// and writes when identities were last used.
    fn role(&self) -> Value {
        let changed = ["zenserviceaccounts", "zenapikeys", "zendevices", "zenusers"];
        let kinds: Vec<&str> = std::iter::once("zenservers").chain(changed).collect();
        let (auth, passwords) = (
            self.server.auth_secret_name(),
            self.server.passwords_secret_name(),
        );
        self.with_labels(json!({"rules": [
            {"apiGroups": [GROUP], "resources": kinds, "verbs": ["get", "list", "watch"]},
            {"apiGroups": [GROUP], "resources": changed, "verbs": ["create", "patch", "delete"]},
            {"apiGroups": [GROUP], "resources": changed.map(|kind| format!("{kind}/status")),
             "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"],
             "resourceNames": [auth]},
            {"apiGroups": [""], "resources": ["secrets"],
             "verbs": ["get", "list", "watch", "patch"], "resourceNames": [passwords]},
        ]}))
    }

    fn role_binding(&self) -> Value {
        let (name, namespace) = (self.server.name_any(), self.server.namespace());
        self.with_labels(json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }))
    }

    fn service(&self) -> Value {
        self.with_labels(json!({"spec": {
            "selector": self.server.pod_labels(),
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        }}))
    }

    fn deployment(&self) -> Value {
        let mut spec = json!({
            "selector": {"matchLabels": self.server.pod_labels()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": self.pod_template(),
        });
        if let (Some(replicas), Value::Object(fields)) = (self.server.spec.replicas, &mut spec) {
            fields.insert("replicas".into(), replicas.into());
        }
        self.with_labels(json!({"spec": spec}))
    }

    fn pod_template(&self) -> Value {
        let mut labels = self.server.pod_labels();
        labels.insert(label::COMPONENT.into(), "sidecar".into());
        json!({
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": self.server.name_any(),
                "automountServiceAccountToken": true,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 30,
                "securityContext": {
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [self.container()],
            },
        })
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
        json!({
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
        })
    }
}

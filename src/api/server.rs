//! ZenServer: one server deployment.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    api_key::SecretKeyRef,
    common::{LocalRef, conditions, kind_status, unobserved, yes},
    component::ValidationLevel,
    database::{Database, DatabaseStatus, Migration, MigrationStatus},
    duration::ApiDuration,
    expose::{Expose, Tls},
    network::NetworkGuard,
    pod_template::PodTemplate,
    signing::{Jwt, SigningKeyStatus},
    update::Update,
};

/// One server that ZenML clients connect to.
///
/// It promises: a Deployment of sidecars behind a Service, with rights on nothing but this
/// namespace's identities and the server's own auth Secret. That Secret holds the pepper of the
/// key verifiers, which is made once and never replaced, and the keys that sign tokens, which
/// are rotated.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = ("!has(oldSelf.image) || self.database.type == oldSelf.database.type || self.migration.allowDatabaseChange", "another database.type is another database, without what is in this one: set migration.allowDatabaseChange if that is meant")
)]
#[kube(
    group = "zenop.dev",
    version = "v1alpha1",
    kind = "ZenServer",
    plural = "zenservers",
    shortname = "zsrv",
    category = "zen",
    namespaced,
    status = "ZenServerStatus",
    derive = "PartialEq",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')", "the name must be one of a Service: at most 63 lower-case letters, digits and hyphens, and begin with a letter"),
    validation = ("!has(self.spec.auth.external) || has(self.spec.url) || self.spec.expose.mode != 'None'", "auth.external needs spec.url, or spec.expose: the provider sends people back to <url>/login/external/callback"),
    validation = ("self.spec.tls.mode == 'None' || self.spec.expose.mode != 'Gateway'", "with a Gateway TLS ends at its listener: say the certificate there, and leave tls.mode None"),
    validation = ("self.spec.tls.mode == 'None' || self.spec.expose.mode != 'None'", "TLS ends at the front door: tls.mode needs expose.mode Ingress; pods and Service speak plain http"),
    validation = ("has(self.spec.image) || !has(self.spec.podTemplate.env) || size(self.spec.podTemplate.env) == 0", "podTemplate.env is the environment of the ZenML server: it needs image"),
    validation = PodTemplate::NEEDS_IMAGE,
    validation = ("!has(self.spec.image) || self.spec.database.type != 'SQLite' || !has(self.spec.replicas) || self.spec.replicas <= 1", "SQLite allows one replica"),
    validation = ("self.spec.migration.backup != 'Database' || self.spec.database.type == 'MySQL'", "migration.backup: Database needs database.type: MySQL"),
    doc = "ZenServer is one server that ZenML clients connect to: a Deployment behind a Service, and the Secret with its signing keys.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods that serve"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ZenServerSpec {
    /// How many pods. Default: one, and left to a HorizontalPodAutoscaler where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 50))]
    pub replicas: Option<i32>,

    /// No pod runs, whatever `replicas` and autoscalers say; data and keys are kept, and what is revoked
    /// meanwhile stays so.
    #[serde(default)]
    pub suspend: bool,

    /// Where clients reach the server, written to the delivered Secrets; no slash at the end.
    /// Default: where `expose` leads to it from, else the address of its Service in the cluster.
    /// Example: `https://zenml.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 1024),
        regex(pattern = r"^https?://[^/?#@\s\x00-\x1f]+(/[^?#\s\x00-\x1f]*[^/?#\s\x00-\x1f])?$")
    )]
    pub url: Option<String>,

    /// How the server is reached from outside its cluster. Default: not at all.
    #[serde(default)]
    pub expose: Expose,

    /// Who vouches for the server where TLS ends, which is in the Ingress. Default: nobody, and
    /// the Ingress speaks http.
    #[serde(default)]
    pub tls: Tls,

    /// What its pods may reach, and who may reach them.
    #[serde(default)]
    pub network_policy: NetworkGuard,

    /// Tokens, and how old the sidecar's view may be.
    #[serde(default)]
    pub auth: Auth,

    /// What accounts and keys may be like.
    #[serde(default)]
    pub policy: Policy,

    /// Which pages of other sites may call the server from a browser. Default: none.
    #[serde(default)]
    pub cors: Cors,

    /// Security headers of every answer.
    #[serde(default)]
    pub secure_headers: SecureHeaders,

    /// The key that values are sealed for which stand encrypted in a ZenSecret.
    #[serde(default)]
    pub sealing: Sealing,

    /// The image of the ZenML server, which runs in the pods beside the sidecar and answers what the
    /// sidecar does not answer itself; 0.94 or newer. Default: none, and the sidecar alone serves
    /// identities and secrets. Example: `zenmldocker/zenml-server:0.98.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\s\x00-\x1f]+$"))]
    pub image: Option<String>,

    /// The database of the ZenML server.
    #[serde(default)]
    pub database: Database,

    /// How the database follows the image.
    #[serde(default)]
    pub migration: Migration,

    /// When the pods follow the spec, and a new release of zenop.
    #[serde(default)]
    pub update: Update,

    /// What is added to the pods.
    // Boxed: it is large and mostly empty, and servers are passed around by value.
    #[serde(default)]
    pub pod_template: Box<PodTemplate>,
}

/// How the key is replaced that values are sealed for. What was sealed for an earlier one can be read
/// as long as the Secret `<name>-sealing` is there: keep a backup of it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("duration(self.rotateEvery) >= duration('24h') && duration(self.rotateEvery) <= duration('87600h')", "rotateEvery must be between 24h and 87600h")
)]
pub struct Sealing {
    /// How long values are sealed for the same key. Example: `8760h`.
    #[serde(default = "sealed_for")]
    pub rotate_every: ApiDuration,

    /// Another value than the one handled last makes another key, once. It is also how a new one is
    /// made when the Secret with the keys is lost for good. Example: `"2026-11-23"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trigger: Option<String>,
}

impl Default for Sealing {
    fn default() -> Self {
        Self {
            rotate_every: sealed_for(),
            trigger: None,
        }
    }
}

fn sealed_for() -> ApiDuration {
    ApiDuration::from_secs(8760 * 3600)
}

/// What accounts and keys may be like.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.undoWindow) || duration(self.undoWindow) > duration('0s') && duration(self.undoWindow) <= duration('720h')", "undoWindow must be longer than 0s and at most 720h")
)]
pub struct Policy {
    /// What keys may be like.
    #[serde(default)]
    pub keys: KeyPolicy,

    /// What devices may be like.
    #[serde(default)]
    pub devices: DevicePolicy,

    /// What the references of components are held to that do not say it themselves.
    #[serde(default)]
    pub secret_validation: ValidationLevel,

    /// How long a deleted account or key can be had back with `kubectl zen sa restore` or
    /// `kubectl zen key restore`. It is refused from its deletion on, window or not. Default: not
    /// at all. Example: `72h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_window: Option<ApiDuration>,
}

/// What devices may be like. It is judged when one is approved and as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevicePolicy {
    /// How many devices a user or account may have that are not over. Example: `20`.
    #[serde(default = "max_per_user")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_per_user: i32,

    /// Whether a device may be approved as trusted. `false` ends those that are as if they were
    /// not.
    #[serde(default = "yes")]
    pub trust_allowed: bool,

    /// Whether a device is approved from the network that it asked from only: the same IPv4 /24 or
    /// IPv6 /64. Without this, who approves from elsewhere is warned. Whoever has one family here
    /// and the other there cannot approve. Proxies must be in `auth.trustedProxies`, as else all
    /// requests are from one network.
    #[serde(default)]
    pub same_network: bool,
}

impl Default for DevicePolicy {
    fn default() -> Self {
        Self {
            max_per_user: max_per_user(),
            trust_allowed: true,
            same_network: false,
        }
    }
}

fn max_per_user() -> i32 {
    20
}

/// What keys may be like. It is judged when a key is made and as long as it lives.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.maxTTL) || duration(self.maxTTL) >= duration('5m')", "maxTTL must be at least 5m"),
    validation = ("!has(self.defaultTTL) || duration(self.defaultTTL) >= duration('5m')", "defaultTTL must be at least 5m"),
    validation = ("!has(self.defaultTTL) || !has(self.maxTTL) || duration(self.defaultTTL) <= duration(self.maxTTL)", "defaultTTL must not be longer than maxTTL"),
    validation = ("!has(self.requireRotationWithin) || duration(self.requireRotationWithin) >= duration('10m')", "requireRotationWithin must be at least 10m")
)]
pub struct KeyPolicy {
    /// How long a generation of a key lives that has neither `ttl` nor `expiresAt`. Default: for
    /// ever. Example: `2160h`.
    #[serde(
        rename = "defaultTTL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub default_ttl: Option<ApiDuration>,

    /// How long a generation of a key lives at the most, whatever the key says. Default: any time.
    /// Example: `8760h`.
    #[serde(rename = "maxTTL", default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<ApiDuration>,

    /// How many keys an account may have; of more, the youngest are not issued. Example: `20`.
    #[serde(default = "max_per_account")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_per_account: i32,

    /// How old a key may become before it is rotated, whatever it says itself. One that cannot be
    /// rotated here, as it was made elsewhere, reports `RotationOverdue`. Example: `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_rotation_within: Option<ApiDuration>,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self {
            default_ttl: None,
            max_ttl: None,
            max_per_account: max_per_account(),
            require_rotation_within: None,
        }
    }
}

fn max_per_account() -> i32 {
    20
}

/// Tokens, and how old the sidecar's view may be.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("duration(self.tokenTTL) >= duration('1m') && duration(self.tokenTTL) <= duration('168h')", "tokenTTL must be between 1m and 168h"),
    validation = ("duration(self.maxStaleness) >= duration('5s') && duration(self.maxStaleness) <= duration('10m')", "maxStaleness must be between 5s and 10m"),
    validation = ("self.scheme != 'NoAuth' || self.allowInsecure", "with scheme NoAuth whoever reaches the server is the user 'default', without any credential; if that is what you want, say so with allowInsecure: true"),
    validation = ("has(self.external) == (self.scheme == 'External')", "scheme External needs auth.external, and no other scheme has it"),
    validation = ("!has(self.external) || self.external.issuer.startsWith('https://') || self.allowInsecure", "the issuer must be https, as whoever is on the way to it could say who logs in; for a test, say so with allowInsecure: true")
)]
pub struct Auth {
    /// How people prove who they are. Service accounts come with API keys in any case, but where
    /// nobody is asked. Example: `OAuth2PasswordBearer`.
    #[serde(default)]
    pub scheme: AuthScheme,

    /// Whether a scheme that lets everybody in may be set, or a provider that is not asked by
    /// https. The server then says so, by the condition `Insecure`.
    #[serde(default)]
    pub allow_insecure: bool,

    /// The OIDC provider that says who people are. For scheme `External`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,

    /// How long a token from an API key lives. Example: `1h`.
    #[serde(rename = "tokenTTL", default = "token_ttl")]
    pub token_ttl: ApiDuration,

    /// How old the sidecar's view of accounts and keys may be before it refuses every request
    /// and turns unready. Example: `30s`.
    #[serde(default = "max_staleness")]
    pub max_staleness: ApiDuration,

    /// How often who may fail before who has to wait.
    #[serde(default)]
    pub rate_limit: RateLimit,

    /// Networks of the proxies in front of the server. What they say in `X-Forwarded-For` of a
    /// client's address is believed; of any other sender it is not, and while there are none,
    /// of nobody. Example: `[10.0.0.0/8, "2001:db8::/32"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "networks")]
    pub trusted_proxies: Vec<String>,

    /// Whether the addresses of clients are written down: in the audit lines of the log, and
    /// in ZenDevices. Limits know them in any case, in memory.
    #[serde(default = "record_addresses")]
    pub record_addresses: bool,

    /// Devices that people log in from.
    #[serde(default)]
    pub device: DeviceAuth,

    /// The keys that sign tokens.
    #[serde(default)]
    pub jwt: Jwt,
}

/// How people prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthScheme {
    /// A password is exchanged for a token. The default.
    #[default]
    #[serde(rename = "OAuth2PasswordBearer")]
    OAuth2PasswordBearer,
    /// The same, or name and password with every request.
    #[serde(rename = "HTTPBasic")]
    HttpBasic,
    /// An OIDC provider says who people are: see `external`.
    External,
    /// Nobody is asked: whoever reaches the server is the ZenUser of the name `default`. Needs
    /// `allowInsecure`.
    NoAuth,
}

/// An OIDC provider, and what this server is there. People are sent to it by their browsers
/// (authorization code with PKCE); it sends them back to `<url>/login/external/callback`. Who of
/// them is who here says each ZenUser, in `spec.external`; others are not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// The provider's address, exactly as it calls itself. Example: `https://sso.example.org`.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https?://[^/?#@\s\x00-\x1f]+(/[^?#\s\x00-\x1f]*)?$")
    )]
    pub issuer: String,

    /// This server's id there. Example: `zenml`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[ -~]+$"))]
    pub client_id: String,

    /// Where the secret is that goes with it. The pods get this entry as a file, and read it anew
    /// for each login. Default: none, for a client that is public there.
    /// Example: `{secretKeyRef: {name: sso, key: client-secret}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_from: Option<ClientSecretFrom>,

    /// What is asked for beside `openid`, if the provider wants that. Example: `[groups]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "scopes")]
    pub scopes: Vec<String>,

    /// The only authorities that vouch for the provider's address, in PEM. Default: the public
    /// ones, as Mozilla lists them. Example: `-----BEGIN CERTIFICATE-----…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 65_536),
        regex(pattern = r"^\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s-]+$")
    )]
    pub ca_bundle: Option<String>,

    /// What people call the provider: `Continue with …`. Example: `Example SSO`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub display_name: Option<String>,

    /// Whether users who have a password may log in with it beside the provider. Else it is of no
    /// use, and what was issued for it is over. For an emergency.
    #[serde(default)]
    pub password_login: bool,
}

/// Where the secret is that this server has at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretFrom {
    /// An entry of a Secret of this namespace, which its owner labels
    /// `zenop.dev/client-secret-of: <this server>`; a line end after it does not count.
    /// Example: `{name: sso, key: client-secret}`.
    pub secret_key_ref: SecretKeyRef,
}

fn scopes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "items": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[!#-\[\]-~]+$"},
    })
}

/// How devices are authorized, and for how long.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("duration(self.trustedTTL) >= duration(self.untrustedTTL) && duration(self.untrustedTTL) > duration('0s') && duration(self.trustedTTL) <= duration('2160h')", "0 < untrustedTTL <= trustedTTL <= 2160h"),
    validation = ("duration(self.codeTTL) >= duration('1m') && duration(self.codeTTL) <= duration('30m')", "codeTTL must be between 1m and 30m"),
    validation = ("duration(self.pollInterval) >= duration('1s') && duration(self.pollInterval) <= duration('1m')", "pollInterval must be between 1s and 1m")
)]
pub struct DeviceAuth {
    /// How long a trusted device may act, from its login on. Example: `720h`.
    #[serde(rename = "trustedTTL", default = "trusted_ttl")]
    pub trusted_ttl: ApiDuration,

    /// How long any other device may. Example: `24h`.
    #[serde(rename = "untrustedTTL", default = "untrusted_ttl")]
    pub untrusted_ttl: ApiDuration,

    /// How long a person has to approve a device, and the device to take up the approval.
    /// Example: `300s`.
    #[serde(rename = "codeTTL", default = "code_ttl")]
    pub code_ttl: ApiDuration,

    /// How often a device may ask whether it was approved. Example: `5s`.
    #[serde(default = "poll_interval")]
    pub poll_interval: ApiDuration,

    /// After how many wrong codes an authorization is refused, whatever follows. Each replica
    /// counts for itself. Example: `3`.
    #[serde(default = "max_failed_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_failed_attempts: i32,
}

impl Default for DeviceAuth {
    fn default() -> Self {
        Self {
            trusted_ttl: trusted_ttl(),
            untrusted_ttl: untrusted_ttl(),
            code_ttl: code_ttl(),
            poll_interval: poll_interval(),
            max_failed_attempts: max_failed_attempts(),
        }
    }
}

fn trusted_ttl() -> ApiDuration {
    ApiDuration::from_secs(720 * 3600)
}

fn untrusted_ttl() -> ApiDuration {
    ApiDuration::from_secs(24 * 3600)
}

fn code_ttl() -> ApiDuration {
    ApiDuration::from_secs(300)
}

fn poll_interval() -> ApiDuration {
    ApiDuration::from_secs(5)
}

fn max_failed_attempts() -> i32 {
    3
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            scheme: AuthScheme::default(),
            allow_insecure: false,
            external: None,
            token_ttl: token_ttl(),
            max_staleness: max_staleness(),
            rate_limit: RateLimit::default(),
            trusted_proxies: Vec::new(),
            record_addresses: record_addresses(),
            device: DeviceAuth::default(),
            jwt: Jwt::default(),
        }
    }
}

/// Limits, each a number in a period (`m`, `h`, `d`), or two of them that both hold. The replicas
/// that are ready share them evenly. They are held in memory, and begin anew with a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Failed logins of one key id, and from one address (IPv6: of one /64 network). Who fails
    /// more often is told to wait. A right API key is let in all the same. Example: `5/m,1000/d`.
    #[serde(default = "login_rate")]
    #[schemars(
        length(max = 16),
        regex(pattern = r"^[1-9][0-9]{0,3}/[mhd](,[1-9][0-9]{0,3}/[mhd])?$")
    )]
    pub login: String,

    /// What strangers may ask for, all together: device authorizations that are begun, and failed
    /// logins with a password, each counted for itself. One address may have a tenth of it. Beyond
    /// that they are told to come back (429 to the address, 503 to all). What comes with a token,
    /// a right API key or the code of a device that waits is never refused by it. `none` for
    /// no limit. Example: `1000/m`.
    #[serde(default = "global_rate")]
    #[schemars(
        length(max = 16),
        regex(pattern = r"^(none|[1-9][0-9]{0,3}/[mhd](,[1-9][0-9]{0,3}/[mhd])?)$")
    )]
    pub global: String,

    /// Requests of one API key, or of one user: with the key itself, and with tokens that came of
    /// it. More are told to wait. `none` for no limit. Example: `600/m`.
    #[serde(default = "none")]
    #[schemars(
        length(max = 16),
        regex(pattern = r"^(none|[1-9][0-9]{0,3}/[mhd](,[1-9][0-9]{0,3}/[mhd])?)$")
    )]
    pub per_key: String,

    /// Wrong codes of devices that one user tries, and twice as many from one address. Who tries
    /// more is told to wait, also with a right code. A right one frees nothing. Example: `5/m`.
    #[serde(default = "user_code_rate")]
    #[schemars(
        length(max = 16),
        regex(pattern = r"^[1-9][0-9]{0,3}/[mhd](,[1-9][0-9]{0,3}/[mhd])?$")
    )]
    pub user_code: String,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            login: login_rate(),
            global: global_rate(),
            per_key: none(),
            user_code: user_code_rate(),
        }
    }
}

fn user_code_rate() -> String {
    "5/m".into()
}

fn login_rate() -> String {
    "10/m,1000/d".into()
}

fn global_rate() -> String {
    "1000/m".into()
}

// Not `off`, which YAML 1.1 takes for a boolean, and Helm and kubectl with it.
fn none() -> String {
    "none".into()
}

fn record_addresses() -> bool {
    true
}

fn networks(_: &mut SchemaGenerator) -> Schema {
    // An IPv6 address has too many spellings for a pattern; one that is none is not trusted.
    let byte = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])";
    let v4 = format!("({byte}\\.){{3}}{byte}(/(3[0-2]|[12]?[0-9]))?");
    let v6 = "[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?";
    json_schema!({
        "type": "array", "maxItems": 16,
        "items": {"type": "string", "minLength": 2, "maxLength": 64, "pattern": format!("^({v4}|{v6})$")},
    })
}

fn token_ttl() -> ApiDuration {
    ApiDuration::from_secs(3600)
}

fn max_staleness() -> ApiDuration {
    ApiDuration::from_secs(30)
}

/// Which pages of other sites may call the server from a browser.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.allowCredentials || !has(self.origins) || !self.origins.exists(o, o == '*')", "origin * cannot be used with credentials")
)]
pub struct Cors {
    /// Their origins, or `*` for all. Example: `[https://dashboard.example.org]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "origins")]
    pub origins: Vec<String>,

    /// Whether they may send cookies along.
    #[serde(default)]
    pub allow_credentials: bool,
}

fn origins(_: &mut SchemaGenerator) -> Schema {
    let origin = r"^(\*|https?://[^/?#@*\s]+)$";
    json_schema!({
        "type": "array", "maxItems": 32,
        "items": {"type": "string", "maxLength": 253, "pattern": origin},
    })
}

/// Security headers by name, each the default, `"off"` (in quotes, as
/// YAML takes it for a boolean), or a text of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecureHeaders {
    /// `server`. Default: the server's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub server: Option<String>,
    /// `strict-transport-security`. Default: `max-age=63072000; includeSubdomains`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub hsts: Option<String>,
    /// `x-frame-options`. Default: `SAMEORIGIN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub xfo: Option<String>,
    /// `x-content-type-options`. Default: `nosniff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub content: Option<String>,
    /// `content-security-policy`. Default: `default-src 'none'; frame-ancestors 'none'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub csp: Option<String>,
    /// `referrer-policy`. Default: `no-referrer-when-downgrade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub referrer: Option<String>,
    /// `cache-control`. Default: `no-store, no-cache, must-revalidate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub cache: Option<String>,
    /// `permissions-policy`. Default: every sensor and device off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "header")]
    pub permissions: Option<String>,
}

fn header(_: &mut SchemaGenerator) -> Schema {
    // Visible ASCII and blanks: what may stand in a header value, so that none splits an answer.
    json_schema!({"type": "string", "minLength": 1, "maxLength": 2048, "pattern": "^[ -~]+$"})
}

/// What the operator saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZenServerStatus {
    /// The generation of the spec that this status speaks of; -1 before the first.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, Available, Exposed, Conflict, ReferencesResolved, `MigrationSucceeded`, `UpdateAvailable`, Insecure,
    /// `EncryptionAtRestUnknown`.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// Where clients reach the server.
    #[serde(rename = "url", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub url: Option<String>,

    /// Where clients in the cluster reach it.
    #[serde(
        rename = "internalURL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 1024))]
    pub internal_url: Option<String>,

    /// The ConfigMap with what clients need to connect: `url`, `internalURL`, and `ca.crt` where the
    /// server has a CA of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<LocalRef>,

    /// The release of zenop that its pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,

    /// Which template its pods have, as a hash: the one in the Deployment's annotation
    /// `zenop.dev/revision`, unless somebody else changed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub template_revision: Option<String>,

    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Pods that serve.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,

    /// The Secret with pepper and signing keys. While it is confirmed here and gone or altered,
    /// the server is Stalled: a new one would end every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret: Option<AuthSecretStatus>,

    /// The keys that sign tokens: the next, the current, and previous ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub signing_keys: Vec<SigningKeyStatus>,

    /// What values are sealed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<SealingStatus>,

    /// Which ZenML server the database is for. Its pods have that image until a migration to another
    /// one succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,

    /// What became of the last migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_migration: Option<MigrationStatus>,

    /// When the next key is to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_signing_key_time: Option<Time>,

    /// The value of `auth.jwt.trigger` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_handled_signing_trigger: Option<String>,
}

/// The key that values are sealed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealingStatus {
    /// The public key, as age writes it. Example: `age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p`.
    #[schemars(length(min = 62, max = 62))]
    pub recipient: String,

    /// When it was made.
    pub created_time: Time,

    /// How many keys there are that open what was sealed.
    #[serde(default)]
    pub keys: i32,

    /// The last `spec.sealing.trigger` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trigger: Option<String>,
}

/// Which auth Secret is the server's: a fact that only the operator could have recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthSecretStatus {
    /// Its name, in the server's namespace.
    #[schemars(length(max = 253))]
    pub name: String,

    /// Hash of its pepper, 256 random bits. Recorded before the Secret is made, so that nobody
    /// else's Secret is taken for it.
    #[schemars(length(min = 64, max = 64))]
    pub fingerprint: String,

    /// Whether the Secret was made. Until then there is nothing to lose.
    pub confirmed: bool,

    /// What was recorded before it, while nobody knew whether a Secret was made: one that is made
    /// late is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 64, max = 64)))]
    pub unconfirmed: Vec<String>,
}

impl AuthSecretStatus {
    /// How many Secrets may be on their way.
    const MOST: usize = 8;

    /// Whether a Secret with this fingerprint is the server's.
    pub fn is_of(&self, fingerprint: &str) -> bool {
        let late = !self.confirmed && self.unconfirmed.iter().any(|other| other == fingerprint);
        late || self.fingerprint == fingerprint
    }

    /// What is recorded for another try, which `self` may yet forestall.
    pub fn tries(&self) -> Vec<String> {
        let mut all = self.unconfirmed.clone();
        all.push(self.fingerprint.clone());
        all.split_off(all.len().saturating_sub(Self::MOST))
    }
}

kind_status!(ZenServerStatus, |_| ());

impl Default for ZenServerStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            url: None,
            internal_url: None,
            connection_ref: None,
            version: None,
            template_revision: None,
            replicas: 0,
            ready_replicas: 0,
            selector: None,
            auth_secret: None,
            signing_keys: Vec::new(),
            sealing: None,
            database: None,
            last_migration: None,
            next_signing_key_time: None,
            last_handled_signing_trigger: None,
        }
    }
}

impl ZenServer {
    /// `app.kubernetes.io/name` of the pods of servers.
    pub const PODS: &str = "zenserver";
    /// The same of the pods that migrate their databases, which no Service selects.
    pub const MIGRATION_PODS: &str = "zenserver-migration";

    /// Name of the Secret with pepper and signing keys.
    pub fn auth_secret_name(&self) -> String {
        format!("{}-auth", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Name of the Secret with what stands for the users' passwords.
    pub fn passwords_secret_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-passwords")
    }

    /// Name of the Secret with the keys that open what was sealed.
    pub fn sealing_secret_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-sealing")
    }

    /// Name of the Secret with the environment of the ZenML server.
    pub fn environment_secret_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-environment")
    }

    /// Name of the Secret with what outlives it: its pepper.
    pub fn kept_secret_name(&self) -> String {
        format!("{}-kept", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Name of the volume of its SQLite.
    pub fn data_volume_name(&self) -> String {
        format!("{}-data", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Name of the volume that its MySQL is dumped to.
    pub fn backup_volume_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-backup")
    }

    /// Name of the Job that brings the database to the image's schema.
    pub fn migration_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-migration")
    }

    /// What its author says of the ZenML server's environment: variables with their texts.
    pub fn environment(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let said = self.spec.pod_template.env.iter();
        let said = said.map(|variable| (&*variable.name, Cow::Borrowed(&*variable.value)));
        let database = self
            .spec
            .image
            .is_some()
            .then(|| self.spec.database.environment());
        database.into_iter().flatten().chain(said)
    }

    /// Name of the ConfigMap with what clients need to connect.
    pub fn connection_name(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-connection")
    }

    /// Name of the Certificate that is asked for, and of the Secret that it is put into.
    pub fn certificate_name(&self) -> String {
        format!("{}-tls", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Where people reach the server from outside its cluster, if somebody said so.
    pub fn public_url(&self) -> Option<String> {
        let spec = &self.spec;
        let said = spec.url.clone();
        said.or_else(|| spec.expose.url(spec.tls.mode))
    }

    /// Where clients in the cluster reach it: its Service.
    pub fn internal_url(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("http://{name}.{namespace}.svc")
    }

    /// Where clients reach it. Everybody who needs an address takes this one, by way of status.
    pub fn url(&self) -> String {
        self.public_url().unwrap_or_else(|| self.internal_url())
    }

    /// Whether nobody reported yet on its spec as it is now.
    pub fn is_changed(&self) -> bool {
        let observed = self.status.as_ref().map(|s| s.observed_generation);
        observed != self.metadata.generation
    }

    /// Where the secret is that the server has at its provider, if it has one.
    pub fn client_secret(&self) -> Option<&SecretKeyRef> {
        let external = self.spec.auth.external.as_ref()?;
        Some(&external.client_secret_from.as_ref()?.secret_key_ref)
    }

    /// Selects the server's pods and those of its migration.
    pub fn selector_of_all_pods(&self) -> String {
        use super::common::label::{INSTANCE, NAME};
        let (serving, migrating) = (Self::PODS, Self::MIGRATION_PODS);
        let server = self.metadata.name.as_deref().unwrap_or_default();
        format!("{NAME} in ({serving},{migrating}),{INSTANCE}={server}")
    }

    /// Labels that select the server's pods.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        use super::common::label;
        let name = self.metadata.name.clone().unwrap_or_default();
        BTreeMap::from([
            (label::NAME.into(), Self::PODS.into()),
            (label::INSTANCE.into(), name),
        ])
    }
}

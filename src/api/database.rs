//! Where a ZenML server keeps what it knows, and how that follows its releases.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{common::OBJECT_NAME, duration::ApiDuration};

/// The database of the ZenML server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.type == 'MySQL' ? has(self.mysql) && !has(self.sqlite) : !has(self.mysql)", "database fields must match database.type")
)]
pub struct Database {
    /// `SQLite`: a file on a volume of the server's own, for one replica, which pauses to be replaced.
    /// `MySQL`: a server that is there already, MySQL or MariaDB.
    #[serde(rename = "type", default)]
    pub kind: DatabaseType,

    /// For `SQLite`: the volume. It stays when the ZenServer is deleted, and is taken up again by
    /// the next one of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<Volume>,

    /// For `MySQL`: which, and as whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql: Option<Mysql>,
}

/// The kinds of databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseType {
    /// A file on a volume.
    #[default]
    #[serde(rename = "SQLite")]
    Sqlite,
    /// A server.
    #[serde(rename = "MySQL")]
    Mysql,
}

/// A volume that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Whose volumes. Default: those of the cluster's default StorageClass. Cannot change once the
    /// volume is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub storage_class_name: Option<String>,

    /// How large. It may grow, where the StorageClass can, and never shrinks. Example: `10Gi`.
    #[serde(default = "size")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$"))]
    pub size: String,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            storage_class_name: None,
            size: size(),
        }
    }
}

fn size() -> String {
    "10Gi".to_owned()
}

/// A MySQL server. References `{{name.key}}` in the texts stand for values of the workspace's
/// ZenSecrets of this server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.password.matches('^[{][{][^{}]+[}][}]$')", "a password belongs in a ZenSecret: refer to it, as in {{db.password}}")
)]
pub struct Mysql {
    /// Its host. Example: `mysql.db.svc`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$")
    )]
    pub host: String,

    /// Its port.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// The database. It is made if it is missing and the user may.
    #[serde(default = "database_name")]
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub database: String,

    /// As whom. Example: `{{db.user}}`.
    #[schemars(length(min = 1, max = 512))]
    pub username: String,

    /// A reference to the password. Example: `{{db.password}}`.
    #[schemars(length(min = 1, max = 512))]
    pub password: String,

    /// How the connection is protected. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<MysqlTls>,
}

fn port() -> i32 {
    3306
}

fn database_name() -> String {
    "zenml".to_owned()
}

/// TLS to the MySQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MysqlTls {
    /// The certificates of who vouches for it, in PEM, or a reference to them. Default: those that the
    /// image trusts. Example: `{{db.ca}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub ca: Option<String>,

    /// Whether the server's certificate must name its host.
    #[serde(default = "super::common::yes")]
    pub verify: bool,
}

/// How the database follows the releases of the ZenML server: by a Job before the pods, under the
/// new image, with a backup that was verified. If it fails the backup is put back, and the pods stay
/// as they are.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.backup != 'None' || self.acceptNoBackup", "a migration without a backup needs acceptNoBackup: true"),
    validation = ("duration(self.timeout) >= duration('1m') && duration(self.timeout) <= duration('24h')", "timeout must be between 1m and 24h")
)]
pub struct Migration {
    /// What is kept of the database as it was, until the next migration.
    #[serde(default)]
    pub backup: BackupMethod,

    /// For `Dump` with MySQL: the volume that it is written to. It stays when the ZenServer is deleted.
    #[serde(default)]
    pub backup_target: Volume,

    /// How long it may take. Then it ends as one that failed.
    #[serde(default = "timeout")]
    pub timeout: ApiDuration,

    /// How long the Job and its log are kept once it succeeded, in seconds. One that failed is kept.
    #[serde(default = "keep")]
    #[schemars(range(min = 3600, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,

    /// An image that does not know the database's schema, being older, may have the backup of the last
    /// migration put back: what was stored since then is lost.
    #[serde(default)]
    pub allow_downgrade: bool,

    /// There may be no backup.
    #[serde(default)]
    pub accept_no_backup: bool,

    /// `database.type` may change. The other database is another one: nothing is copied.
    #[serde(default)]
    pub allow_database_change: bool,
}

impl Default for Migration {
    fn default() -> Self {
        Self {
            backup: BackupMethod::default(),
            backup_target: Volume::default(),
            timeout: timeout(),
            ttl_seconds_after_finished: keep(),
            allow_downgrade: false,
            accept_no_backup: false,
            allow_database_change: false,
        }
    }
}

/// How the database is backed up before it is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupMethod {
    /// Not at all.
    None,
    /// To a file: beside that of SQLite, or on a volume of its own for MySQL.
    #[default]
    Dump,
    /// To another database of the same MySQL server, of the same name with `_zenop_backup` behind it,
    /// which the user must be allowed to make.
    Database,
}

fn timeout() -> ApiDuration {
    ApiDuration::from_secs(30 * 60)
}

fn keep() -> i32 {
    86_400
}

/// Which ZenML server the database is for, as far as a migration said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// Hash of the image and of where the database is.
    #[schemars(length(min = 16, max = 16))]
    pub fits: String,

    /// The image.
    #[schemars(length(max = 1024))]
    pub image: String,

    /// The revision of its schema. Example: `0.98.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub schema: Option<String>,
}

/// The last migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The image that did it.
    #[schemars(length(max = 1024))]
    pub image: String,

    /// What became of it.
    pub result: MigrationResult,

    /// The schema's revision before. None, if there was no database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub from: Option<String>,

    /// The schema's revision afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub to: Option<String>,

    /// Where the backup is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub backup: Option<String>,

    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_time: Option<Time>,
}

/// What becomes of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationResult {
    /// The database fits the image.
    Succeeded,
    /// It does not; it is as it was before, unless the Job's log says otherwise.
    Failed,
}

/// Where the volume of SQLite is, and where dumps are written to, in a pod.
pub const VOLUME_PATH: &str = "/var/lib/zenml";

impl Database {
    /// What tells a ZenML server where its database is, with references as they stand.
    pub fn environment(&self) -> Vec<(&str, Cow<'_, str>)> {
        let Some(mysql) = &self.mysql else {
            let url = format!("sqlite:///{VOLUME_PATH}/zenml.db");
            return vec![("ZENML_STORE_URL", url.into())];
        };
        let Mysql {
            host,
            port,
            database,
            ..
        } = mysql;
        let url = format!("mysql://{host}:{port}/{database}");
        let mut all = vec![
            ("ZENML_STORE_URL", url.into()),
            ("ZENML_STORE_USERNAME", Cow::Borrowed(&*mysql.username)),
            ("ZENML_STORE_PASSWORD", Cow::Borrowed(&*mysql.password)),
        ];
        if let Some(tls) = &mysql.tls {
            let ca = tls.ca.as_deref().map(Cow::Borrowed);
            all.push(("ZENML_STORE_SSL", "true".into()));
            all.push((
                "ZENML_STORE_SSL_VERIFY_SERVER_CERT",
                tls.verify.to_string().into(),
            ));
            all.extend(ca.map(|ca| ("ZENML_STORE_SSL_CA", ca)));
        }
        all
    }
}

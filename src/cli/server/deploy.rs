//! `kubectl zen server deploy`.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    api::ZenServer,
    auth::reference::is_reference,
    cli::{
        Session,
        arguments::{Patience, WriteArguments},
        create,
        failure::Failure,
    },
};

/// What a server shall be like.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("timeout", |timeout| timeout.default_value("10m")))]
pub struct Deploy {
    /// The server's name.
    name: String,

    #[command(flatten)]
    shape: Shape,

    #[command(flatten)]
    mysql: MysqlArguments,

    #[command(flatten)]
    write: WriteArguments,

    /// Do not wait until it serves.
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    patience: Patience,
}

/// What may also change later.
#[derive(Clone, Debug, Args)]
pub struct Shape {
    /// The image of the ZenML server; 0.94 or newer.
    #[arg(long)]
    image: Option<String>,

    /// How many pods.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=50))]
    replicas: Option<i32>,

    /// Where clients reach it.
    #[arg(long)]
    url: Option<String>,
}

/// A MySQL that is there already.
#[derive(Clone, Debug, Args)]
struct MysqlArguments {
    /// The host of its MySQL. Default: none, and the database is a SQLite on a volume.
    #[arg(long, value_name = "HOST", requires_all = ["image", "mysql_username", "mysql_password"])]
    mysql_host: Option<String>,

    /// The port of its MySQL. Default: 3306.
    #[arg(long, value_name = "PORT", requires = "mysql_host")]
    mysql_port: Option<u16>,

    /// The database there. Default: zenml.
    #[arg(long, value_name = "NAME", requires = "mysql_host")]
    mysql_database: Option<String>,

    /// As whom, or a reference to an entry of a ZenSecret: '{{db.user}}'.
    #[arg(long, value_name = "NAME", requires = "mysql_host")]
    mysql_username: Option<String>,

    /// The entry of a ZenSecret in which the password is: '{{db.password}}'.
    #[arg(long, value_name = "REFERENCE", requires = "mysql_host")]
    mysql_password: Option<String>,
}

impl Deploy {
    /// Makes it.
    ///
    /// # Errors
    /// If it is refused, or does not serve in time.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let mut spec = self.shape.fields();
        if let Some(database) = self.mysql.database()? {
            spec.insert("database".into(), database);
        }
        let cluster = session.cluster().await?;
        let patience = (!self.no_wait).then_some(&self.patience);
        let (name, write) = (&*self.name, &self.write);
        create::make::<ZenServer>(session, &cluster, name, spec.into(), write, patience).await
    }
}

impl Shape {
    /// The fields of the spec that were named, and no other.
    pub fn fields(&self) -> Map<String, Value> {
        set([
            ("image", self.image.clone().map(Value::from)),
            ("replicas", self.replicas.map(Value::from)),
            ("url", self.url.clone().map(Value::from)),
        ])
    }
}

impl MysqlArguments {
    /// `spec.database`. What is no reference is not even sent, nor said again.
    fn database(&self) -> Result<Option<Value>, Failure> {
        let Some(host) = &self.mysql_host else {
            return Ok(None);
        };
        let password = self.mysql_password.as_deref().unwrap_or_default();
        if !is_reference(password) {
            return Err(Failure::usage(
                "--mysql-password takes no password, but a reference to one in a ZenSecret, such as \
                 '{{db.password}}': see `kubectl zen secret create --help`",
            ));
        }
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let mysql = set([
            ("host", Some(host.clone().into())),
            ("port", self.mysql_port.map(Value::from)),
            ("database", text(&self.mysql_database)),
            ("username", text(&self.mysql_username)),
            ("password", Some(password.into())),
        ]);
        Ok(Some(json!({"type": "MySQL", "mysql": mysql})))
    }
}

fn set<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let set = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

//! The `zenml` client of this machine: its configuration, and running it.

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::cli::{
    Session,
    failure::{Exit, Failure},
};

/// What the client of this machine is configured to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Where it is connected to, if to a server.
    pub server: Option<String>,
    /// The id that it tells servers when it logs in: `spec.clientId` of a ZenDevice.
    pub id: Option<String>,
    folder: Option<PathBuf>,
}

/// `config.yaml`, as far as it concerns us.
#[derive(Debug, Default, Deserialize)]
struct Configuration {
    user_id: Option<String>,
    store: Option<Store>,
}

#[derive(Debug, Deserialize)]
struct Store {
    url: Option<String>,
}

/// An entry of `credentials.yaml`. The credentials themselves are not read.
#[derive(Debug, Deserialize)]
struct Credentials {
    api_token: Option<Token>,
}

#[derive(Debug, Deserialize)]
struct Token {
    device_id: Option<String>,
}

impl Client {
    /// Reads it, with what its variables override. A client that never ran is connected to nothing.
    ///
    /// # Errors
    /// If there is a configuration and it cannot be read.
    pub fn read() -> Result<Self, Failure> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let folder = folder(variable);
        let file = folder.as_ref().map(|folder| folder.join("config.yaml"));
        let found: Option<Configuration> = file.map(|file| read(&file)).transpose()?.flatten();
        let found = found.unwrap_or_default();
        let store = found.store.and_then(|store| store.url);
        let url = variable("ZENML_STORE_URL").or(store);
        Ok(Self {
            server: url.filter(|url| is_address(url)),
            id: variable("ZENML_USER_ID").or(found.user_id),
            folder,
        })
    }

    /// Whether it is connected to the server at an address.
    pub fn is_at(&self, url: &str) -> bool {
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        self.server.as_deref().map(bare) == Some(bare(url))
    }

    /// The id of the device that its token for an address belongs to, if it keeps one there.
    ///
    /// # Errors
    /// If it keeps tokens and they cannot be read.
    pub fn device_at(&self, url: &str) -> Result<Option<String>, Failure> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let found: Option<BTreeMap<String, Credentials>> = read(&folder.join("credentials.yaml"))?;
        let mut found = found.unwrap_or_default();
        let token = found
            .remove(url)
            .and_then(|credentials| credentials.api_token);
        Ok(token.and_then(|token| token.device_id))
    }
}

/// Whether a text is the address of a server.
pub fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Where the client keeps its configuration, as `click.get_app_dir("zenml")` says it.
fn folder(variable: impl Fn(&'static str) -> Option<String>) -> Option<PathBuf> {
    if let Some(named) = variable("ZENML_CONFIG_PATH") {
        return Some(named.into());
    }
    let home = || variable("HOME").map(PathBuf::from);
    let parent = match env::consts::OS {
        "windows" => variable("APPDATA").map(PathBuf::from),
        "macos" => home().map(|home| home.join("Library/Application Support")),
        _ => variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| home().map(|home| home.join(".config"))),
    };
    parent.map(|parent| parent.join("zenml"))
}

/// A file of the client, if it is there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let failed = |why: &str| {
        let path = path.display();
        let remedy = "is it of another release of zenml?";
        Failure::new(Exit::Failed, format!("reading {path}: {why}; {remedy}"))
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error.to_string())),
    };
    // What the parser would say may quote a credential.
    serde_yaml_ng::from_str(&text).map_err(|_| failed("it is not as expected"))
}

/// Runs the client at this terminal.
///
/// # Errors
/// If it is not there, or ends with a failure.
pub async fn run(session: &Session, arguments: &[&str]) -> Result<(), Failure> {
    session
        .out
        .note(&format!("Running: zenml {}", arguments.join(" ")));
    let ended = Command::new("zenml").args(arguments).status().await;
    let ended = ended.map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => {
                "there is no program zenml on the PATH: install ZenML's client, \
                                    `pip install zenml`, or activate the environment that it is in"
                    .to_owned()
            }
            _ => format!("running zenml: {error}"),
        };
        Failure::new(Exit::Failed, message)
    })?;
    match ended.success() {
        true => Ok(()),
        false => {
            let message = format!("zenml did not do it ({ended}); what it said is above");
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_clients() {
        let all = |name: &str| Some(format!("/{name}"));
        assert_eq!(folder(all), Some("/ZENML_CONFIG_PATH".into()));
        let home = |name: &str| (name == "HOME").then(|| "/home/ana".to_owned());
        if env::consts::OS == "linux" {
            assert_eq!(folder(home), Some("/home/ana/.config/zenml".into()));
            let xdg = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "/x".to_owned());
            assert_eq!(folder(xdg), Some("/x/zenml".into()));
        }
        assert_eq!(folder(|_| None), None);
    }

    #[test]
    fn an_address_is_one_with_or_without_its_slash() {
        let client = Client {
            server: Some("https://zenml.example.org/".into()),
            ..Client::default()
        };
        assert!(client.is_at("https://zenml.example.org"));
        assert!(!client.is_at("https://zenml.example.org/b"));
        assert!(!Client::default().is_at(""));
    }

    #[test]
    fn what_is_kept_of_a_device_is_read_and_nothing_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client {
            folder: Some(folder.path().to_owned()),
            ..Client::default()
        };
        assert_eq!(client.device_at("https://a").unwrap(), None);
        let path = folder.path().join("credentials.yaml");
        let text = "https://a:\n  url: https://a\n  api_token:\n    access_token: s3cret\n    device_id: d-1\n\
                    https://b:\n  api_key: s3cret\n";
        fs::write(&path, text).unwrap();
        let device = client.device_at("https://a").unwrap();
        assert_eq!(device.as_deref(), Some("d-1"));
        assert_eq!(client.device_at("https://b").unwrap(), None);
        fs::write(&path, "https://a: s3cret\n").unwrap();
        let said = client.device_at("https://a").unwrap_err().to_string();
        assert!(
            said.contains("credentials.yaml") && !said.contains("s3cret"),
            "{said}"
        );
    }
}

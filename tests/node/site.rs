//! A node with zenop installed, and people's clients of it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use zenop_cluster::{Node, Options, dump, image};

/// Where the servers are. Only restricted pods may run there.
pub const NAMESPACE: &str = "zenml";
const SYSTEM: &str = "zenop-system";
const IMAGE: &str = "zenop.dev/zenop:test";

/// What `make node-test` prepared.
fn prepared(name: &str) -> Result<PathBuf> {
    let path =
        env::var_os(name).with_context(|| format!("{name} is not set: run `make node-test`"));
    path.map(PathBuf::from)
}

/// What a command prints, or what it complains of.
pub fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let (told, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{command:?}: {told}{complained}");
    Ok(told.into_owned())
}

/// A node that runs zenop's operator.
pub struct Site {
    pub node: Node,
    /// The program of the client.
    pub zenml: String,
    /// Where clients in the cluster reach the server.
    pub url: String,
}

impl Site {
    /// Starts one that has zenop's image and those that variables name, and installs the chart there.
    pub async fn start(images: &[&str]) -> Result<Self> {
        let options = Options {
            helm: true,
            ..Options::default()
        };
        let node = Node::start(options).await?;
        let work = tempfile::tempdir()?;
        let archive = work.path().join("zenop.tar");
        image::build(&prepared("ZENOP_IMAGE_BINARY")?, IMAGE, &archive)?;
        node.load_image(&archive).await?;
        for image in images {
            node.load_image(&prepared(image)?).await?;
        }
        let site = Self {
            node,
            zenml: prepared("ZENOP_ZENML")?.display().to_string(),
            url: format!("http://prod.{NAMESPACE}.svc"),
        };
        for namespace in [SYSTEM, NAMESPACE] {
            site.kubectl(&["create", "namespace", namespace])?;
            let restricted = "pod-security.kubernetes.io/enforce=restricted";
            site.kubectl(&["label", "namespace", namespace, restricted])?;
        }
        let (repository, tag) = IMAGE.split_once(':').context("no tag")?;
        let mut helm = site.node.command("helm")?;
        helm.args(["install", "zenop", "charts/zenop", "--namespace", SYSTEM])
            .args([
                "--wait",
                "--timeout",
                "2m",
                "--set",
                "image.pullPolicy=Never",
            ])
            .args([
                "--set",
                &format!("image.repository={repository},image.tag={tag}"),
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        said(&mut helm)?;
        Ok(site)
    }

    /// What is there and what it logged, if a story fails.
    pub async fn tells_all(&self, story: impl Future<Output = Result<()>>) -> Result<()> {
        let told = story.await;
        if told.is_err() {
            eprintln!("{}", dump(&self.node.client().await?, NAMESPACE).await);
            let logs = ["logs", "--all-containers", "--prefix", "--tail=50"];
            for label in ["app.kubernetes.io/instance=prod", "app=mysql"] {
                let logs = self.kubectl(&[&logs[..], &["-l", label]].concat());
                eprintln!("{}", logs.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        told
    }

    /// kubectl, in the servers' namespace.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut kubectl = self.node.command("kubectl")?;
        said(kubectl.args(["--namespace", NAMESPACE]).args(words))
    }

    /// The plugin, in the servers' namespace.
    pub fn kubectl_zen(&self, words: &[&str]) -> Result<String> {
        let mut zen = self.node.command(env!("CARGO_BIN_EXE_kubectl-zen"))?;
        said(zen.args(words).args(["--namespace", NAMESPACE]))
    }

    pub fn apply(&self, manifest: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest)?;
        let path = file.path().display().to_string();
        self.kubectl(&["apply", "--filename", &path]).map(drop)
    }

    /// A manifest of the guide, with the image that is here.
    pub fn apply_example(&self, name: &str) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/zenml");
        let manifest = std::fs::read_to_string(folder.join(name))?;
        self.apply(&manifest.replace("zenmldocker/", "zenop.dev/"))
    }

    /// A Secret with a password that nobody knows.
    pub fn password(&self, secret: &str, key: &str) -> Result<()> {
        let mut bytes = [0; 16];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {secret}}}, stringData: {{{key}: p{text}, user: zenml}}}}"
        ))
    }

    pub fn ready(&self, objects: &[&str]) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", "--timeout=5m"];
        self.kubectl(&[&wait[..], objects].concat()).map(drop)
    }

    pub fn rolled_out(&self, deployment: &str) -> Result<()> {
        let name = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", &name, "--timeout=5m"])
            .map(drop)
    }

    /// The client's own Python.
    pub fn python(&self) -> Result<String> {
        let python = Path::new(&self.zenml).with_file_name("python");
        Ok(python.display().to_string())
    }
}

/// The client of one person at one machine, in the node's network.
pub struct Laptop {
    home: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Laptop {
    pub fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        Ok(Self {
            home,
            variables: Vec::new(),
        })
    }

    /// With nothing but the two variables of a delivered Secret.
    pub fn with_key(site: &Site, secret: &str) -> Result<Self> {
        let mut laptop = Self::new()?;
        for name in ["ZENML_STORE_URL", "ZENML_STORE_API_KEY"] {
            let template = format!("go-template={{{{.data.{name}|base64decode}}}}");
            let value = site.kubectl(&["get", "secret", secret, "-o", &template])?;
            laptop.variables.push((name, value));
        }
        Ok(laptop)
    }

    /// A program with an environment of its own. What is secret in it is not in its arguments.
    pub fn command(&self, site: &Site, program: &str) -> Result<Command> {
        let mut command = site.node.command(program)?;
        let home = self.home.path();
        command
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "2000")
            .env("PYTHONUNBUFFERED", "1")
            .env("BROWSER", "true")
            .env("ZENML_ANALYTICS_OPT_IN", "false")
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(home)
            .stdin(Stdio::null());
        Ok(command)
    }

    pub fn zenml(&self, site: &Site, words: &[&str]) -> Result<String> {
        let mut command = self.command(site, &site.zenml)?;
        said(command.args(words))
    }
}

//! Servers: made, changed, told, removed; their logs; the client of this machine connected to one.

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use tokio::time::timeout;
use zenop::api::{ZenDevice, ZenServer};

use crate::{
    door::{self, Sidecar, free_address},
    link::decided,
    program::{cached, client},
    support::{PATIENCE, Site, account, key, server, site, with, with_zenml},
    zen::Zen,
};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_server_comes_and_is_changed_and_goes() -> Result<()> {
    site("cli-server", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site).variable("ZENML_CONFIG_PATH", "/nonexistent");
        let deploy = ["server", "deploy", "prod", "--replicas", "0"];
        let made = zen.run(&deploy).await?;
        ensure!(made.code == 0, "{made:?}");
        ensure!(made.out == "zenserver.zenop.dev/prod created\n", "{made:?}");
        ensure!(
            made.err.contains("Waiting for ZenServer"),
            "no progress: {made:?}"
        );
        let again = zen.fails(4, &deploy).await?;
        ensure!(
            again.contains("kubectl zen server describe prod"),
            "{again}"
        );

        let list = zen.ok(&["server", "list"]).await?;
        for part in ["READY", "REPLICAS", "URL", "AGE", "prod", "True"] {
            ensure!(list.contains(part), "{part}: {list}");
        }
        let shown = zen.run(&["server", "get", "prod", "-o", "json"]).await?;
        ensure!(shown.json()?["spec"]["replicas"] == 0, "{shown:?}");
        let told = zen.ok(&["server", "describe", "prod"]).await?;
        for part in [
            "Internal URL:",
            "Signing keys:",
            "Suspended:",
            "scaled to zero",
        ] {
            ensure!(told.contains(part), "{part}: {told}");
        }
        let status = zen.ok(&["server", "status", "prod"]).await?;
        for part in [
            "url:             http://prod.",
            "connected:       no",
            "status:          scaled_to_zero",
            "statusMessage:   scaled to zero (Ready)",
        ] {
            ensure!(status.contains(part), "{part}: {status}");
        }

        let nothing = zen.fails(2, &["server", "update", "prod"]).await?;
        ensure!(nothing.contains("--suspend"), "{nothing}");
        let url = ["--url", "https://zenml.example.org"];
        let change = [&["server", "update", "prod"][..], &url].concat();
        let said = zen.ok(&change).await?;
        ensure!(said == "zenserver.zenop.dev/prod changed\n", "{said}");
        let said = zen.ok(&change).await?;
        ensure!(said.contains("is so already"), "{said}");
        let status = zen.ok(&["server", "status", "prod"]).await?;
        ensure!(status.contains("https://zenml.example.org"), "{status}");
        zen.ok(&["server", "update", "prod", "--suspend"]).await?;
        let now: ZenServer = site.api().get("prod").await?;
        ensure!(now.spec.suspend && now.spec.replicas == Some(0));
        ensure!(now.spec.url.as_deref() == Some(url[1]), "{:?}", now.spec);
        let status = zen.ok(&["server", "status", "prod"]).await?;
        ensure!(status.contains("inactive"), "{status}");

        // No pod becomes ready here: what is wrong is told in time.
        let resume = ["--resume", "--replicas", "1", "--timeout", "3s"];
        let resume = [&["server", "update", "prod"][..], &resume].concat();
        let late = zen.fails(5, &resume).await?;
        for part in [
            "not Ready after 3s",
            "0 of 1 pods are ready",
            "PodsNotReady",
        ] {
            ensure!(late.contains(part), "{part}: {late}");
        }
        let late = ["server", "deploy", "late", "--timeout", "3s"];
        let late = zen.fails(5, &late).await?;
        ensure!(late.contains("0 of 1 pods are ready"), "{late}");

        zen.fails(2, &["server", "remove", "late"]).await?;
        let gone = ["server", "remove", "late", "prod", "--yes", "--wait"];
        let gone = zen.run(&gone).await?;
        ensure!(gone.code == 0, "{gone:?}");
        ensure!(
            gone.out.contains("zenserver.zenop.dev/prod deleted"),
            "{gone:?}"
        );
        ensure!(!gone.err.contains("is kept"), "nothing was: {gone:?}");
        zen.fails(3, &["server", "status", "prod"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn its_database_is_named_by_reference_and_stays() -> Result<()> {
    site("cli-server-db", async |site| {
        let zen = Zen::new(site);
        let deploy = |name: &'static str, password: &'static str| {
            let mysql = [
                "--mysql-host",
                "mysql.db.svc",
                "--mysql-username",
                "{{db.user}}",
            ];
            let image = ["server", "deploy", name, "--image", "zenml-server:test"];
            [&image[..], &mysql, &["--mysql-password", password]].concat()
        };
        let refused = zen.fails(2, &deploy("prod", "hunter2")).await?;
        ensure!(
            refused.contains("kubectl zen secret create") && !refused.contains("hunter2"),
            "{refused}"
        );
        zen.fails(2, &["server", "deploy", "prod", "--mysql-host", "db"])
            .await?;
        let file = ["--dry-run=client", "-o", "yaml"];
        let file = [&deploy("prod", "{{db.password}}")[..], &file].concat();
        let file = zen.run(&file).await?;
        let wanted = json!({
            "image": "zenml-server:test",
            "database": {"type": "MySQL", "mysql": {
                "host": "mysql.db.svc", "username": "{{db.user}}", "password": "{{db.password}}",
            }},
        });
        ensure!(file.yaml()?["spec"] == wanted, "{file:?}");
        ensure!(site.api::<ZenServer>().get_opt("prod").await?.is_none());
        let made = [&deploy("prod", "{{db.password}}")[..], &["--no-wait"]].concat();
        zen.ok(&made).await?;
        site.apply(&with_zenml(server("small"))).await?;

        for (name, database, left) in [
            (
                "prod",
                "MySQL zenml at mysql.db.svc:3306",
                "database zenml at mysql.db.svc stays, and volume prod-backup",
            ),
            (
                "small",
                "SQLite on volume small-data",
                "volume small-data with its database stays",
            ),
        ] {
            let told = zen.ok(&["server", "describe", name]).await?;
            ensure!(told.contains(database), "{told}");
            let asked = zen.fails(2, &["server", "delete", name]).await?;
            for part in [left, "keys, devices and tokens are refused", "--yes"] {
                ensure!(asked.contains(part), "{part}: {asked}");
            }
            let gone = zen.run(&["server", "remove", name, "--yes"]).await?;
            ensure!(gone.code == 0 && gone.err.contains(left), "{gone:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_tool_applies_is_changed_in_its_files() -> Result<()> {
    site("cli-server-flux", async |site| {
        let zen = Zen::new(site);
        let flux = json!({"kustomize.toolkit.fluxcd.io/name": "apps"});
        let mut object = server("prod");
        object["metadata"]["labels"] = flux;
        site.apply(&object).await?;
        let update = ["server", "update", "prod", "--replicas", "0", "--suspend"];
        let refused = zen.fails(4, &update).await?;
        for part in ["Flux", "replicas: 0", "suspend: true", "--override"] {
            ensure!(refused.contains(part), "{part}: {refused}");
        }
        let refused = zen.fails(4, &["server", "remove", "prod", "--yes"]).await?;
        ensure!(refused.contains("if you suspend it"), "{refused}");
        let still: ZenServer = site.api().get("prod").await?;
        ensure!(!still.spec.suspend && still.spec.replicas.is_none());
        zen.ok(&[&update[..], &["--override", "--no-wait"]].concat())
            .await?;
        let now: ZenServer = site.api().get("prod").await?;
        ensure!(now.spec.suspend && now.spec.replicas == Some(0));
        Ok(())
    })
    .await
}

/// No pod runs here, so none has a log: that is said, and why.
#[tokio::test]
async fn a_server_without_logs_says_why() -> Result<()> {
    site("cli-server-logs", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        zen.fails(3, &["server", "logs", "prod"]).await?;
        zen.ok(&["server", "deploy", "prod", "--replicas", "0"])
            .await?;
        let said = zen.fails(3, &["server", "logs", "prod"]).await?;
        ensure!(said.contains("has no pods: scaled to zero"), "{said}");

        let update = ["server", "update", "prod", "--replicas", "1", "--no-wait"];
        zen.ok(&update).await?;
        let of_server = ListParams::default().labels("app.kubernetes.io/instance=prod");
        let there = async || {
            let pods = site.api::<Pod>().list(&of_server).await?;
            anyhow::Ok(pods.items.first().map(ResourceExt::name_any))
        };
        let pod = appears(there).await?;
        let said = zen.fails(3, &["server", "logs", "prod"]).await?;
        for part in [&*format!("{pod}/sidecar "), "no container of ZenServer"] {
            ensure!(said.contains(part), "{part}: {said}");
        }
        let none = ["server", "logs", "prod", "--container", "nosuch"];
        let said = zen.fails(3, &none).await?;
        ensure!(
            said.contains("no pod with a container \"nosuch\""),
            "{said}"
        );
        zen.fails(2, &["server", "logs", "prod", "--since", "soon"])
            .await?;
        Ok(())
    })
    .await
}

async fn appears(look: impl AsyncFn() -> Result<Option<String>>) -> Result<String> {
    let wait = async {
        loop {
            if let Some(found) = look().await? {
                return anyhow::Ok(found);
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.context("nothing appears")?
}

/// A person's machine: a home, and the client on the PATH.
struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    /// With the client as it is installed with its extra `local`, which it needs to log out.
    fn new() -> Result<Self> {
        let python = cached(
            "ZENOP_ZENML_SERVER",
            "zenml-server-0.98.0/bin/python",
            "make zenml-server",
        )?;
        Self::of(&python.with_file_name("zenml"))
    }

    fn of(client: &Path) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let programs = home.path().join("bin");
        fs::create_dir(&programs)?;
        symlink(client, programs.join("zenml"))?;
        Ok(Self { home })
    }

    fn zen(&self, site: &Site) -> Zen {
        let programs = self.home.path().join("bin");
        Zen::new(site)
            .variable("PATH", format!("{}:/usr/bin:/bin", programs.display()))
            .variable("HOME", self.home.path())
            .variable("XDG_CONFIG_HOME", self.home.path().join(".config"))
            .variable("COLUMNS", "2000")
            .variable("PYTHONUNBUFFERED", "1")
            // It opens the link in a browser.
            .variable("BROWSER", "true")
            .variable("ZENML_ANALYTICS_OPT_IN", "false")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(".config/zenml").join(name)
    }

    /// Runs `connect`, and approves its link as the account of a key. All that was said.
    async fn connects(&self, site: &Site, arguments: &[&str], key: &str) -> Result<String> {
        let zen = self.zen(site);
        let connect = [&["server", "connect", "prod"][..], arguments].concat();
        let mut command = zen.command(&connect);
        command.current_dir("/").stdin(Stdio::null());
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let approve = async |link: &str| {
            let words = ["device", "approve", link, "--key", key];
            zen.ok(&words).await.map(drop)
        };
        let (said, link) = decided(&mut process, approve).await?;
        let status = timeout(PATIENCE, process.wait()).await??;
        ensure!(status.success() && link.is_some(), "{said}");
        Ok(said)
    }
}

async fn devices(site: &Site) -> Result<Vec<ZenDevice>> {
    let all = site.api::<ZenDevice>().list(&ListParams::default()).await?;
    Ok(all.items)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn the_client_of_this_machine_is_connected_and_disconnected() -> Result<()> {
    site("cli-connect", async |site| {
        let address = free_address()?;
        let url = format!("http://{address}");
        let _operator = door::set_up(site, address, &[]).await?;
        let _sidecar = Sidecar::start(site, address).await?;
        let machine = Machine::new()?;
        let zen = machine.zen(site);
        let status = async |wanted: &str| {
            let said = zen.ok(&["server", "status", "prod"]).await?;
            ensure!(
                said.contains(&format!("connected:       {wanted}\n")),
                "{said}"
            );
            anyhow::Ok(())
        };
        status("no").await?;

        let said = machine.connects(site, &[], "main").await?;
        for part in [
            format!("Running: zenml login {url}"),
            format!("zenml is connected to {url}"),
        ] {
            ensure!(said.contains(&part), "{part}: {said}");
        }
        status("yes").await?;
        let made = devices(site).await?;
        ensure!(made.len() == 1, "{made:?}");
        // Another machine's device is none of this client's business.
        let other = Machine::of(&client()?)?;
        other.connects(site, &["--url", &url], "main").await?;
        ensure!(devices(site).await?.len() == 2);

        let kept = fs::read_to_string(machine.file("credentials.yaml"))?;
        let gone = zen.run(&["server", "disconnect", "prod"]).await?;
        let name = made[0].name_any();
        ensure!(gone.code == 0, "{gone:?}");
        for part in [
            format!("zenml is disconnected from {url}"),
            format!("zendevice.zenop.dev/{name} deleted"),
        ] {
            ensure!(gone.out.contains(&part), "{part}: {gone:?}");
        }
        let left = devices(site).await?;
        ensure!(left.len() == 1 && left[0].name_any() != name, "{left:?}");
        status("no").await?;
        let forgotten = fs::read_to_string(machine.file("credentials.yaml"))?;
        ensure!(kept.contains("access_token") && !forgotten.contains("access_token"));

        // It may come again, and leave the device alone.
        machine.connects(site, &[], "main").await?;
        zen.ok(&["server", "disconnect", "prod", "--keep-device"])
            .await?;
        ensure!(devices(site).await?.len() == 2);
        // Nothing tells now but the client's id: the only device of it is the one.
        let gone = zen.ok(&["server", "disconnect", "prod"]).await?;
        ensure!(gone.contains("deleted"), "{gone}");
        let none = zen.run(&["server", "disconnect", "prod"]).await?;
        ensure!(
            none.code == 0 && none.err.contains("No ZenDevice"),
            "{none:?}"
        );

        // The same client as two accounts: the token tells, and without it nobody does.
        site.apply(&account("other")).await?;
        let of_other = with(key("second"), "spec.serviceAccountRef.name", json!("other"));
        site.apply(&of_other).await?;
        site.key_ready("second", 1).await?;
        machine.connects(site, &[], "main").await?;
        zen.ok(&["server", "disconnect", "prod", "--keep-device"])
            .await?;
        machine.connects(site, &[], "second").await?;
        ensure!(devices(site).await?.len() == 3);
        fs::remove_file(machine.file("credentials.yaml"))?;
        let several = zen.run(&["server", "disconnect", "prod"]).await?;
        ensure!(several.code == 1, "{several:?}");
        for part in ["ZenServiceAccount ci", "ZenServiceAccount other"] {
            ensure!(several.out.contains(part), "{part}: {several:?}");
        }
        ensure!(several.err.contains("none was deleted"), "{several:?}");
        ensure!(devices(site).await?.len() == 3);

        // What is connected elsewhere is left there.
        let elsewhere = [
            "server",
            "disconnect",
            "prod",
            "--url",
            "http://127.0.0.1:1",
        ];
        let refused = other.zen(site).fails(4, &elsewhere).await?;
        ensure!(
            refused.contains(&format!("connected to {url}")),
            "{refused}"
        );

        // A client without its extra cannot log out; its token is of no use all the same.
        let half = other
            .zen(site)
            .run(&["server", "disconnect", "prod"])
            .await?;
        ensure!(half.code == 1 && half.out.contains("deleted"), "{half:?}");
        ensure!(half.err.contains("what it said is above"), "{half:?}");
        ensure!(devices(site).await?.len() == 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_cannot_connect_is_told_what_to_do() -> Result<()> {
    site("cli-connect-not", async |site| {
        let home = tempfile::tempdir()?;
        let empty = home.path().to_str().context("no path")?.to_owned();
        let zen = Zen::new(site)
            .variable("PATH", &*empty)
            .variable("ZENML_CONFIG_PATH", &*empty);
        zen.fails(3, &["server", "connect", "prod"]).await?;
        site.apply(&server("prod")).await?;
        let early = zen.fails(3, &["server", "connect", "prod"]).await?;
        ensure!(early.contains("has no address yet; say --url"), "{early}");
        let no_url = ["server", "connect", "prod", "--url", "mysql://db/zenml"];
        zen.fails(2, &no_url).await?;
        let flag = ["server", "connect", "prod", "--url=--local"];
        zen.fails(2, &flag).await?;
        let at = ["server", "connect", "prod", "--url", "http://127.0.0.1:1"];
        let absent = zen.fails(1, &at).await?;
        ensure!(absent.contains("pip install zenml"), "{absent}");
        fs::write(home.path().join("config.yaml"), "user_id: [")?;
        let status = zen.ok(&["server", "status", "prod"]).await?;
        ensure!(
            status.contains("connected:       unknown: reading"),
            "{status}"
        );
        Ok(())
    })
    .await
}

/// The certificates of the connection reach the client in a file, which is gone afterwards.
#[tokio::test]
async fn the_client_is_given_the_certificates() -> Result<()> {
    site("cli-connect-ca", async |site| {
        let home = tempfile::tempdir()?;
        let told = home.path().join("told");
        let program = home.path().join("zenml");
        let script = format!(
            "#!/bin/sh\necho \"$@\" > {0}\ntest -z \"$4\" || cat \"$4\" >> {0}\n",
            told.display()
        );
        executable(&program, &script)?;
        let path = format!("{}:/usr/bin:/bin", home.path().display());
        let zen = Zen::new(site)
            .variable("PATH", path)
            .variable("TMPDIR", home.path());
        site.apply(&server("prod")).await?;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prod-connection"},
            "data": {"ca.crt": "certificates\n"},
        });
        site.apply(&map).await?;
        let at = |url| ["server", "connect", "prod", "--url", url];
        zen.ok(&at("https://zenml.example.org/")).await?;
        let said = fs::read_to_string(&told)?;
        let begin = "login https://zenml.example.org --ssl-ca-cert ";
        ensure!(
            said.starts_with(begin) && said.ends_with("\ncertificates\n"),
            "{said}"
        );
        let file = said.split_whitespace().nth(3).context("no file")?;
        ensure!(!Path::new(file).exists(), "it is left");
        zen.ok(&at("http://127.0.0.1:8080")).await?;
        let said = fs::read_to_string(&told)?;
        ensure!(said == "login http://127.0.0.1:8080\n", "{said}");
        Ok(())
    })
    .await
}

fn executable(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

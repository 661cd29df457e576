//! Secrets: made, sealed, opened, changed, shown, deleted.

use std::{fs, os::unix::fs::PermissionsExt, sync::Mutex};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;
use zenop::{
    api::{SecretScope, ZenSecret, ZenServer},
    auth::sealed::OpeningKeys,
    runtime::clock::now,
};

use crate::{
    support::{Site, entry, ready, secret, server, site},
    zen::Zen,
};

/// What is delivered of a secret, once it is Ready.
async fn delivered(site: &Site, name: &str, key: &str) -> Result<Option<String>> {
    site.until(name, "Ready", ready::<ZenSecret>).await?;
    let secret: Secret = site.api().get(name).await?;
    Ok(entry(&secret, key))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_secret_comes_is_changed_and_goes() -> Result<()> {
    crate::support::garbage_collector().await?;
    site("cli-secret", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        site.apply(&server("prod")).await?;
        site.sealing(|_| true).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("password.txt");
        fs::write(&file, "hunter2")?;
        let password = format!("--password=@{}", file.display());

        let create = [
            "secret",
            "create",
            "login",
            "--username=ana",
            &password,
            "--wait",
        ];
        let made = zen.run(&create).await?;
        ensure!(made.code == 0, "{made:?}");
        ensure!(
            made.out == "zensecret.zenop.dev/login created\n",
            "{made:?}"
        );
        ensure!(delivered(site, "login", "password").await?.as_deref() == Some("hunter2"));
        let object: ZenSecret = site.api().get("login").await?;
        ensure!(
            !serde_json::to_string(&object)?.contains("hunter2"),
            "a value is in the resource"
        );
        let again = zen.fails(4, &create).await?;
        ensure!(again.contains("exists already"), "{again}");

        // Nothing is shown that was not asked for.
        let told = zen.ok(&["secret", "describe", "login"]).await?;
        ensure!(
            told.contains("FINGERPRINT") && told.contains("Encrypted"),
            "{told}"
        );
        ensure!(!told.contains("hunter2"), "{told}");
        let list = zen.ok(&["secret", "list", "--server", "prod"]).await?;
        ensure!(
            list.contains("SCOPE") && list.contains("Workspace"),
            "{list}"
        );
        let refused = zen.fails(2, &["secret", "get", "login"]).await?;
        ensure!(refused.contains("not a terminal"), "{refused}");
        let shown = zen
            .ok(&["secret", "get", "login", "--unsafe-output"])
            .await?;
        ensure!(shown == "password: hunter2\nusername: ana\n", "{shown}");
        let one = zen
            .ok(&["secret", "get", "login", "password", "--unsafe-output"])
            .await?;
        ensure!(one == "hunter2\n", "{one}");
        zen.fails(3, &["secret", "get", "login", "nothing", "--unsafe-output"])
            .await?;

        // Written to a file, it can be read back.
        let out = folder.path().join("login.yaml");
        let path = out.to_str().context("no path")?;
        zen.ok(&["secret", "export", "login", "--filename", path])
            .await?;
        ensure!(fs::metadata(&out)?.permissions().mode() & 0o777 == 0o600);
        zen.fails(1, &["secret", "export", "login", "--filename", path])
            .await?;
        let values = format!("@{path}");
        zen.ok(&["secret", "create", "copy", "--values", &values, "--wait"])
            .await?;
        ensure!(delivered(site, "copy", "password").await?.as_deref() == Some("hunter2"));

        // Entries are added, changed and removed; the others stay as they are.
        let before = object
            .spec
            .data
            .iter()
            .find(|entry| entry.key == "password")
            .cloned();
        zen.ok(&[
            "secret",
            "update",
            "login",
            "--host=db",
            "-r",
            "username",
            "--wait",
        ])
        .await?;
        let secret: Secret = site.api().get("login").await?;
        let data = secret.data.clone().unwrap_or_default();
        ensure!(data.keys().eq(["host", "password"]), "{:?}", data.keys());
        let object: ZenSecret = site.api().get("login").await?;
        let after = object
            .spec
            .data
            .iter()
            .find(|entry| entry.key == "password")
            .cloned();
        ensure!(before.is_some() && before == after, "it was sealed anew");
        zen.fails(3, &["secret", "update", "login", "-r", "nothing"])
            .await?;
        zen.fails(2, &["secret", "update", "login"]).await?;
        zen.fails(2, &["secret", "update", "login", "--host=x", "-r", "host"])
            .await?;
        zen.fails(2, &["secret", "update", "login", "--private"])
            .await?;
        zen.ok(&[
            "secret",
            "update",
            "login",
            "--private",
            "--owner",
            "ana",
            "--wait",
        ])
        .await?;
        let object: ZenSecret = site.api().get("login").await?;
        ensure!(object.spec.scope == SecretScope::User);
        ensure!(
            object
                .spec
                .owner_ref
                .is_some_and(|owner| owner.name == "ana")
        );
        zen.ok(&["secret", "update", "login", "--public"]).await?;
        zen.ok(&["secret", "rename", "login", "db creds", "--wait"])
            .await?;
        let object: ZenSecret = site.api().get("login").await?;
        ensure!(object.zenml_name() == "db creds" && object.spec.scope == SecretScope::Workspace);

        // What a tool keeps is its own.
        let flux = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret",
            "metadata": {"name": "copy", "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
        });
        site.apply(&flux).await?;
        let refused = zen.fails(4, &["secret", "update", "copy", "--x=1"]).await?;
        ensure!(refused.contains("Flux"), "{refused}");

        zen.fails(2, &["secret", "delete", "login"]).await?;
        zen.ok(&["secret", "delete", "login", "--yes", "--wait"])
            .await?;
        let uid = secret.uid().context("no uid")?;
        site.until_gone::<Secret>("login", &uid).await
    })
    .await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_manifest_is_sealed_here_and_opened_there() -> Result<()> {
    site("cli-seal", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        let bare = zen.fails(3, &["secret", "seal", "login", "--a=1"]).await?;
        ensure!(bare.contains("has no ZenServer"), "{bare}");
        site.apply(&server("prod")).await?;
        let recipient = site.sealing(|_| true).await?.recipient;
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            Ok::<_, anyhow::Error>(path.to_str().context("no path")?.to_owned())
        };

        let sealed = zen
            .ok(&["secret", "seal", "login", "--password=hunter2"])
            .await?;
        ensure!(
            !sealed.contains("hunter2") && sealed.contains("BEGIN AGE ENCRYPTED FILE"),
            "{sealed}"
        );
        ensure!(
            site.api::<ZenSecret>().get_opt("login").await?.is_none(),
            "it was made"
        );
        let path = write("login.yaml", &sealed)?;
        let verified = zen
            .ok(&["secret", "unseal", "--verify", "-f", &path])
            .await?;
        ensure!(
            verified == "all sealed entries can be opened\n",
            "{verified}"
        );
        zen.fails(2, &["secret", "unseal", "-f", &path]).await?;
        let opened = zen
            .ok(&["secret", "unseal", "-f", &path, "--unsafe-output"])
            .await?;
        ensure!(opened == "password: hunter2\n", "{opened}");
        site.kubectl(&["apply", "-f", &path]).await?;
        ensure!(delivered(site, "login", "password").await?.as_deref() == Some("hunter2"));

        // Without a cluster, for a key that is known, and with a backup of the keys.
        let offline = Zen::with(site, &folder.path().join("absent"));
        let server = ["--server", "prod", "--recipient", &recipient];
        let seal = [
            "secret",
            "seal",
            "other",
            "--password=hunter3",
            "-o",
            "json",
        ];
        let sealed = offline.run(&[&seal[..], &server].concat()).await?;
        ensure!(sealed.code == 0, "{sealed:?}");
        ensure!(
            sealed.json()?["spec"]["serverRef"]["name"] == "prod",
            "{sealed:?}"
        );
        let path = write("other.json", &sealed.out)?;
        let kept: Secret = site.api().get("prod-sealing").await?;
        let keys = write("keys.txt", &entry(&kept, "keys.txt").context("no keys")?)?;
        let unseal = ["secret", "unseal", "-f", &path, "--keys", &keys];
        let opened = offline
            .ok(&[&unseal[..], &["--unsafe-output"]].concat())
            .await?;
        ensure!(opened == "password: hunter3\n", "{opened}");

        // What was moved is named, and nothing of it is shown.
        let moved = write("moved.json", &sealed.out.replace("\"other\"", "\"third\""))?;
        let refused = zen
            .fails(1, &["secret", "unseal", "--verify", "-f", &moved])
            .await?;
        ensure!(
            refused.contains("ZenSecret third, entry password"),
            "{refused}"
        );
        let none = write("none.yaml", "kind: ConfigMap\n")?;
        let refused = zen
            .fails(1, &["secret", "unseal", "--verify", "-f", &none])
            .await?;
        ensure!(refused.contains("no ZenSecret"), "{refused}");
        let cases: &[(&[&str], &str)] = &[
            (&["--recipient", "age1nothing"], "not an age recipient"),
            (
                &["--server", "prod", "--recipient", "age1nothing"],
                "not an age recipient",
            ),
            (&["--bad key=1"], "cannot be the key"),
            (&["--bad"], "unexpected argument"),
            (&["stray"], "unexpected argument"),
            (&["--values", "a: &a [*a]"], "--values"),
            (&["--server", "test"], "\"test\" not found"),
        ];
        for (flags, told) in cases {
            let ran = zen
                .run(&[&["secret", "seal", "x"][..], flags].concat())
                .await?;
            ensure!(
                ran.code != 0 && ran.out.is_empty() && ran.err.contains(told),
                "{ran:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_typed_is_not_shown() -> Result<()> {
    site("cli-ask", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        site.apply(&server("prod")).await?;
        site.sealing(|_| true).await?;
        let talk = [
            ("Key (empty to end): ", "username"),
            ("Value of username: ", "ana-the-first"),
            ("Key (empty to end): ", "password"),
            ("Value of password: ", "hunter2"),
            ("Key (empty to end): ", ""),
        ];
        let ran = zen
            .talks(&["secret", "create", "login", "-i", "--wait"], &talk)
            .await?;
        ensure!(ran.code == 0, "{ran:?}");
        ensure!(
            ran.err.contains("username"),
            "what is typed as a key is shown: {ran:?}"
        );
        ensure!(
            !ran.err.contains("hunter2") && !ran.err.contains("ana-the-first"),
            "{ran:?}"
        );
        ensure!(delivered(site, "login", "password").await?.as_deref() == Some("hunter2"));
        let nobody = zen.fails(2, &["secret", "create", "x", "-i"]).await?;
        ensure!(
            nobody.contains("there is no terminal to answer at"),
            "{nobody}"
        );
        Ok(())
    })
    .await
}

/// D5: what was lost is had back, by whoever has the key for it, in another namespace too.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn d5_a_backup_is_restored_elsewhere() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (file, keys) = (path("secrets.age"), path("key.txt"));
    let mut own = OpeningKeys::default();
    own.add(&[5; 32], now());
    fs::write(&keys, own.to_text().as_bytes())?;
    let recipient = own.current().context("no key")?.0.to_string();
    let drawn = Mutex::new(None);
    site("cli-backup", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        site.apply(&server("prod")).await?;
        site.sealing(|_| true).await?;
        site.apply(&secret("token", json!([{"key": "drawn", "generate": {}}])))
            .await?;
        *drawn.lock().unwrap() = delivered(site, "token", "drawn").await?;
        let create = ["secret", "create", "login", "--password=hunter2", "--wait"];
        zen.ok(&create).await?;
        let backup = [
            "secret",
            "backup",
            "--recipient",
            &recipient,
            "--filename",
            &file,
        ];
        let said = zen.ok(&backup).await?;
        ensure!(said.contains("2 secrets"), "{said}");
        let bytes = fs::read(&file)?;
        let shown = String::from_utf8_lossy(&bytes);
        ensure!(
            !shown.contains("hunter2") && !shown.contains("password"),
            "it is readable"
        );
        zen.fails(1, &backup).await?;
        let restore = [
            "secret",
            "restore",
            "--identity",
            &keys,
            "--filename",
            &file,
        ];
        let left = zen.run(&restore).await?;
        ensure!(
            left.code == 0 && left.err.contains("2 were there"),
            "{left:?}"
        );
        Ok(())
    })
    .await?;
    let drawn = drawn.into_inner().unwrap();
    ensure!(drawn.is_some());
    site("cli-restore", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        site.apply(&server("other")).await?;
        let is = |server: &ZenServer| server.status.as_ref().is_some_and(|s| s.sealing.is_some());
        site.until("other", "with a sealing key", is).await?;
        let restore = [
            "secret",
            "restore",
            "--filename",
            &file,
            "--server",
            "other",
            "--identity",
        ];
        let none = path("none.txt");
        fs::write(&none, "# no key\n")?;
        zen.fails(1, &[&restore[..], &[&none]].concat()).await?;
        let mut others = OpeningKeys::default();
        others.add(&[6; 32], now());
        fs::write(&none, others.to_text().as_bytes())?;
        let refused = zen.fails(1, &[&restore[..], &[&none]].concat()).await?;
        ensure!(refused.contains("not for this key"), "{refused}");
        let said = zen.ok(&[&restore[..], &[&keys]].concat()).await?;
        ensure!(said.lines().count() == 2, "{said}");
        ensure!(delivered(site, "login", "password").await?.as_deref() == Some("hunter2"));
        ensure!(
            delivered(site, "token", "drawn").await? == drawn,
            "another was drawn"
        );
        Ok(())
    })
    .await
}

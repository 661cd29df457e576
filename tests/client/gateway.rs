//! A real nginx that asks the real sidecar before it lets a request through to something else.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    door::{Answer, Sidecar, ask, delivered, free_address, set_up},
    support::{PATIENCE, key, site, with},
};

/// As the guide says it, with what nginx needs to run in a folder.
fn configuration(
    folder: &Path,
    gateway: SocketAddr,
    behind: SocketAddr,
    zenop: SocketAddr,
) -> String {
    let folder = folder.display();
    format!(
        r#"
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {behind};
    location / {{ return 200 "$http_x_zenop_name is $http_x_zenop_kind"; }}
  }}
  server {{
    listen {gateway};
    location / {{
      auth_request /_zenop;
      auth_request_set $name $upstream_http_x_zenop_name;
      auth_request_set $kind $upstream_http_x_zenop_kind;
      proxy_set_header X-Zenop-Name $name;
      proxy_set_header X-Zenop-Kind $kind;
      proxy_set_header Authorization "";
      proxy_pass http://{behind};
    }}
    location = /_zenop {{
      internal;
      proxy_pass http://{zenop}/auth/verify;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method;
    }}
  }}
}}
"#
    )
}

async fn through(gateway: SocketAddr, more: &str) -> Result<Answer> {
    ask(
        gateway,
        &format!("GET /x HTTP/1.1\r\nhost: x\r\n{more}"),
        "",
    )
    .await
}

async fn nginx(folder: &Path, configuration: &str) -> Result<Child> {
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    Command::new("nginx")
        .args(["-e", "stderr", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("no nginx: run `make peers`")
}

#[tokio::test]
async fn h06_nginx_lets_through_whom_the_sidecar_knows() -> Result<()> {
    site("gateway", async |site| {
        let (zenop, gateway, behind) = (free_address()?, free_address()?, free_address()?);
        let _operator = set_up(site, zenop, &[]).await?;
        let _sidecar = Sidecar::start(site, zenop).await?;
        let folder = tempfile::tempdir()?;
        let configuration = configuration(folder.path(), gateway, behind, zenop);
        let mut nginx = nginx(folder.path(), &configuration).await?;
        let up = async {
            while through(gateway, "").await.is_err() {
                ensure!(nginx.try_wait()?.is_none(), "nginx ended");
                // It tells nobody that it listens.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, up).await??;

        ensure!(
            through(gateway, "").await?.status == 401,
            "a stranger is let through"
        );
        let text = delivered(site, "main-key").await?;
        let shown = format!("authorization: Bearer {text}\r\nx-zenop-name: root\r\n");
        let known = through(gateway, &shown).await?;
        ensure!(
            known.status == 200 && known.body == "ci is service-account",
            "{known:?}"
        );

        site.apply(&with(key("main"), "spec.active", json!(false)))
            .await?;
        let revoked = async {
            while through(gateway, &shown).await?.status == 200 {
                // A watch tells the sidecar; nginx is told by nobody.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, revoked).await??;
        ensure!(through(gateway, &shown).await?.status == 401);
        Ok(())
    })
    .await
}

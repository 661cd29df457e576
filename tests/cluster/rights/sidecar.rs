//! A server made by an operator with rights in one namespace, and what its sidecar may do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{sleep, timeout},
};
use zenop::api::{ZenAPIKey, ZenDevice, ZenServiceAccount, ZenUser};
use zenop_cluster::TestNamespace;

use super::ask::{NEVER, Rules, Subject, asked, client_of, minus, nameless, rules, snapshot, tell};
use crate::support::{
    Operator, PATIENCE, Site, account,
    helm::{RELEASE, restricted},
    site, with,
};

/// Two things at once, as each needs the other: with rights in one namespace alone the operator makes a server, whose pod
/// then meets the restricted standard and has rights on what is its own.
#[tokio::test]
async fn with_rights_in_one_namespace_it_makes_a_server_whose_sidecar_has_fewer() -> Result<()> {
    site("narrow", async |site| {
        let (plane, namespace) = (site.plane, site.name());
        let admin = plane.client().await?;
        restricted(&admin, namespace).await?;
        let operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        let has_pod = |deployment: &Deployment| {
            deployment
                .status
                .as_ref()
                .is_some_and(|status| status.replicas == Some(1))
        };
        site.until("prod", "given its pod", has_pod).await?;
        operator.stop().await?;

        let elsewhere = TestNamespace::create(&admin, "elsewhere").await?;
        let operator = client_of(plane, namespace, RELEASE).await?;
        let anybody = client_of(plane, namespace, "default").await?;
        let anybody = rules(&anybody, elsewhere.name()).await?;
        assert_eq!(
            tell(&rules(&operator, elsewhere.name()).await?),
            tell(&anybody)
        );
        let user = format!("system:serviceaccount:{namespace}:{RELEASE}");
        let (_, refused) = asked(plane, &user).await?;
        ensure!(refused.is_empty(), "refused: {}", tell(&refused));
        let granted = the_sidecar_has_few(site, &elsewhere, &anybody).await?;
        they_suffice(site, &granted).await
    })
    .await
}

async fn the_sidecar_has_few(
    site: &Site,
    elsewhere: &TestNamespace,
    anybody: &Rules,
) -> Result<Rules> {
    let client = client_of(site.plane, site.name(), "prod").await?;
    let here = minus(&rules(&client, site.name()).await?, anybody);
    snapshot("sidecar-rights", &tell(&here));
    assert_eq!(
        tell(&rules(&client, elsewhere.name()).await?),
        tell(anybody)
    );

    let sidecar = Subject::service_account(site.ns.client(), site.name(), "prod");
    sidecar.check(false, site.name(), NEVER).await?;
    let configured = ["get configmaps", "create configmaps", "patch configmaps"];
    sidecar.check(false, site.name(), &configured).await?;
    let may = [
        "get secrets prod-auth",
        "watch secrets prod-auth",
        "list zenop.dev/zenapikeys",
        "patch zenop.dev/zenapikeys/status",
        "create zenop.dev/zenapikeys",
        "delete zenop.dev/zenserviceaccounts",
        "create zenop.dev/zensecrets",
    ];
    sidecar.check(true, site.name(), &may).await?;
    let may_not = [
        "get secrets main-key",
        "get secrets",
        "list secrets",
        "watch secrets",
        "create secrets",
        "patch secrets prod-auth",
        "delete secrets prod-auth",
        "patch zenop.dev/zenservers/status",
        "patch zenop.dev/zenservers",
        "patch zenop.dev/zensecrets/status",
        "list services",
        "create events.k8s.io/events",
    ];
    sidecar.check(false, site.name(), &may_not).await?;
    let may_not = [
        "get secrets prod-auth",
        "list zenop.dev/zenapikeys",
        "get zenop.dev/zenservers",
    ];
    sidecar.check(false, elsewhere.name(), &may_not).await?;
    Ok(here)
}

/// The real sidecar serves with these rights: somebody logs in with the delivered key, which is noted, and makes,
/// changes and deletes an account and a key.
async fn they_suffice(site: &Site, granted: &Rules) -> Result<()> {
    let plane = site.plane;
    let operator = site.operator().await?;
    let admin = with(account("ci"), "spec.isAdmin", json!(true));
    site.apply(&admin).await?;
    let kubeconfig = plane.kubeconfig_for_service_account(site.name(), "prod", None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_zenop"));
    command
        .args(["sidecar", "--server", "prod", "--namespace", site.name()])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("KUBECONFIG", kubeconfig.await?);
    let sidecar = Operator::spawn(&mut command)?;
    sidecar.log.says(&["\"serving\""]).await?;
    let log = sidecar.log.text();
    let line = log.lines().find(|line| line.contains("\"serving\""));
    let line: Value = serde_json::from_str(line.context("no address")?)?;
    let address = line["address"].as_str().context("no address")?;
    let key = site.key_text("main-key").await?;
    let logged_in = async {
        // Until it has read everything it answers 503.
        while !log_in(address, &key).await?.starts_with("HTTP/1.1 200") {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, logged_in)
        .await
        .context("nobody can log in")??;
    let seen = |account: &ZenServiceAccount| {
        let status = account.status.as_ref();
        status.is_some_and(|status| status.last_authenticated_time.is_some())
    };
    site.until("ci", "noted as seen", seen).await?;
    let used = |key: &ZenAPIKey| {
        let status = key.status.as_ref();
        status.is_some_and(|status| status.last_used_time.is_some())
    };
    site.until("main", "noted as used", used).await?;
    make_and_change(site, address, &key).await?;
    sidecar.stop().await?;
    operator.stop().await?;

    let user = format!("system:serviceaccount:{}:prod", site.name());
    let (used, mut refused) = asked(plane, &user).await?;
    // The right to a new Secret comes a moment after it: until then it asks again.
    refused.retain(|(resource, verb)| resource != "secrets" || verb != "get");
    ensure!(refused.is_empty(), "refused: {}", tell(&refused));
    let mut idle = minus(&nameless(granted), &used);
    // One object is got by a list with its name, as that tells from when to watch.
    idle.retain(|(_, verb)| verb != "get");
    assert_eq!(tell(&idle), "", "rights that are granted and not used");
    Ok(())
}

async fn make_and_change(site: &Site, address: &str, key: &str) -> Result<()> {
    let accounts = "/api/v1/service_accounts";
    let ask = async |method: &str, path: &str, body: Value| {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n"
        );
        let answer = exchange(address, &head, &body).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "{method} {path}: {answer}"
        );
        anyhow::Ok(serde_json::from_str::<Value>(body)?)
    };
    let becomes_admin = async {
        // Until the sidecar has seen that it is one it answers 403.
        let unchanged = format!("{accounts}/ci");
        while ask("PUT", &unchanged, json!({})).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, becomes_admin).await?;
    let made = ask("POST", accounts, json!({"name": "bot", "active": true})).await?;
    let keys = format!(
        "{accounts}/{}/api_keys",
        made["id"].as_str().context("no id")?
    );
    ask("POST", &keys, json!({"name": "k"})).await?;
    ask("PUT", &format!("{keys}/k/rotate"), json!({})).await?;
    ask("PUT", &format!("{accounts}/bot"), json!({"active": false})).await?;
    ask("DELETE", &format!("{keys}/k"), Value::Null).await?;
    let device = authorize(site, address, &ask).await?;
    ask("PUT", &device, json!({"locked": true})).await?;
    ask("DELETE", &device, Value::Null).await?;
    ask("DELETE", &format!("{accounts}/bot"), Value::Null).await?;
    let secrets = "/api/v1/secrets";
    let body = json!({"name": "s", "values": {"k": "v"}});
    let made = ask("POST", secrets, body).await?;
    let secret = format!("{secrets}/{}", made["id"].as_str().context("no id")?);
    let read = ask("GET", &secret, Value::Null).await?;
    ensure!(read["body"]["values"] == json!({"k": "v"}), "{read}");
    ask("PUT", &secret, json!({"values": {"k": "w"}})).await?;
    ask("DELETE", &secret, Value::Null).await?;
    make_a_user(site, address, &ask).await
}

/// Makes a user who chooses a password and logs in with it, until that is noted.
async fn make_a_user(
    site: &Site,
    address: &str,
    ask: &impl AsyncFn(&str, &str, Value) -> Result<Value>,
) -> Result<()> {
    let made = ask(
        "POST",
        "/api/v1/users",
        json!({"name": "ana", "is_admin": false}),
    )
    .await?;
    let path = format!("/api/v1/users/{}", made["id"].as_str().context("no id")?);
    let token = &made["body"]["activation_token"];
    let chosen = json!({"activation_token": token, "password": "correct horse"});
    ask("PUT", &format!("{path}/activate"), chosen).await?;
    let head = "POST /api/v1/login HTTP/1.1\r\n\
                content-type: application/x-www-form-urlencoded\r\n";
    let form = "username=ana&password=correct+horse";
    let answer = exchange(address, head, form).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "login: {answer}");
    let seen = |user: &ZenUser| {
        let status = user.status.as_ref();
        status.is_some_and(|status| status.last_authenticated_time.is_some())
    };
    let users = site.api::<ZenUser>().list(&ListParams::default()).await?;
    let user = users.items.first().context("no user")?;
    site.until(&user.name_any(), "noted as seen", seen).await?;
    ask("PUT", &path, json!({"full_name": "Ana"})).await?;
    ask("DELETE", &path, Value::Null).await?;
    Ok(())
}

/// Authorizes a device, and uses its token until that is noted. Its path.
async fn authorize(
    site: &Site,
    address: &str,
    ask: &impl AsyncFn(&str, &str, Value) -> Result<Value>,
) -> Result<String> {
    let client = "client_id=7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11";
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let post = async |path: &str, body: &str| {
        let answer = exchange(address, &format!("POST {path} HTTP/1.1\r\n{form}"), body).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        anyhow::Ok(serde_json::from_str::<Value>(body)?)
    };
    let begun = post("/api/v1/device_authorization", client).await?;
    let link = begun["verification_uri_complete"].as_str();
    let id = link.and_then(|link| link.split(['=', '&']).nth(1));
    let device = format!("/api/v1/devices/{}", id.context("no link")?);
    let decision = json!({"user_code": begun["user_code"]});
    ask("PUT", &format!("{device}/verify"), decision).await?;
    let code = begun["device_code"].as_str().context("no code")?;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let poll = format!("grant_type={grant}&{client}&device_code={code}");
    let granted = post("/api/v1/login", &poll).await?;
    let token = granted["access_token"].as_str().context("no token")?;
    let head = format!("GET /api/v1/current-user HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
    exchange(address, &head, "").await?;
    let made = site.api::<ZenDevice>().list(&ListParams::default()).await?;
    let name = made.items.first().context("no ZenDevice")?.name_any();
    let noted = |device: &ZenDevice| {
        let status = device.status.as_ref();
        status.is_some_and(|status| status.last_used_time.is_some())
    };
    site.until(&name, "noted as used", noted).await?;
    Ok(device)
}

/// What the server answers to a login.
async fn log_in(address: &str, key: &str) -> Result<String> {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("password", key)
        .finish();
    let head = "POST /api/v1/login HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    exchange(address, head, &form).await
}

/// Sends a request, whose head lacks what all have, and reads the answer.
async fn exchange(address: &str, head: &str, body: &str) -> Result<String> {
    let head = format!(
        "{head}host: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

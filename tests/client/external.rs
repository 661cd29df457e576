//! Login at a real OpenID provider, by a browser that is played here.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use axum::http::{
    Method, Request, Response,
    header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
};
use k8s_openapi::api::apps::v1::Deployment;
use oauth2::url::Url;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use zenop::{
    api::{ZenUser, condition, reason},
    http::Outside,
    runtime::outside::Web,
};

use crate::{
    device_login::Laptop,
    door::{Sidecar, free_address, set_up},
    driver::{self, Setup},
    support::{Site, password_of, ready, says, site, user_with_password},
};

const SECRET: &str = "not much of a secret: é%& +";

/// A provider with two users. `id1` is `test-user@127.0.0.1`, `id2` is `test-user2`.
struct Provider {
    issuer: String,
    authority: String,
    process: Child,
}

impl Provider {
    /// Starts one that sends people back to `redirect`.
    async fn start(folder: &Path, redirect: &str) -> Result<Self> {
        let tool = tokio::task::spawn_blocking(|| zenop_cluster::tool("oidc"));
        let authority = folder.join("ca.pem");
        let mut process = Command::new(tool.await??)
            .args([
                "--listen",
                &free_address()?.to_string(),
                "--client",
                "zenop",
            ])
            .args(["--secret", SECRET, "--redirect", redirect, "--authority"])
            .arg(&authority)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = process.stdout.take().context("no stdout")?;
        let issuer = BufReader::new(lines).lines().next_line().await?;
        Ok(Self {
            issuer: issuer.context("the provider does not start")?,
            authority: std::fs::read_to_string(authority)?,
            process,
        })
    }
}

/// A browser: it keeps cookies by host, and follows where it is sent.
struct Browser {
    authority: String,
    web: Web,
    cookies: BTreeMap<(bool, String), String>,
}

impl Browser {
    fn new(provider: &Provider) -> Self {
        Self {
            authority: provider.authority.clone(),
            web: Web::new(None),
            cookies: BTreeMap::new(),
        }
    }

    async fn send(&mut self, method: Method, url: &Url, form: &str) -> Result<Response<Vec<u8>>> {
        let is_provider = url.scheme() == "https";
        let own = self
            .cookies
            .iter()
            .filter(|((of, _), _)| *of == is_provider);
        let cookies: Vec<_> = own
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(COOKIE, cookies.join("; "))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.as_bytes().to_vec())?;
        let answer = self
            .web
            .ask(request, Some(self.authority.as_str().into()))
            .await?;
        for set in answer.headers().get_all(SET_COOKIE) {
            let (pair, rest) = set.to_str()?.split_once(';').context("a bare cookie")?;
            let (name, value) = pair.split_once('=').context("no cookie")?;
            let key = (is_provider, name.to_owned());
            match rest.contains("Max-Age=0") {
                true => self.cookies.remove(&key),
                false => self.cookies.insert(key, value.to_owned()),
            };
        }
        Ok(answer)
    }

    /// Where it is sent next.
    async fn sent(&mut self, url: &Url) -> Result<Url> {
        let answer = self.send(Method::GET, url, "").await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        let place = answer.headers().get(LOCATION);
        let place = place.with_context(|| format!("{url}: {} {body}", answer.status()))?;
        Ok(url.join(place.to_str()?)?)
    }

    /// Begins a login, and logs in at the provider. Where that sends it back to.
    async fn log_in(&mut self, begin: &Url, user: &str) -> Result<Url> {
        let there = self.sent(begin).await?;
        ensure!(
            there
                .query()
                .is_some_and(|q| q.contains("code_challenge_method=S256")),
            "{there}"
        );
        let form = self.sent(&there).await?;
        let id = form.query_pairs().find(|(name, _)| name == "authRequestID");
        let id = id.context("no id")?.1.into_owned();
        let fields = [("username", user), ("password", "verysecure"), ("id", &id)];
        let fields = serde_urlencoded::to_string(fields)?;
        let answer = self.send(Method::POST, &form, &fields).await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        let next = answer
            .headers()
            .get(LOCATION)
            .with_context(|| format!("no login: {body}"))?;
        self.sent(&form.join(next.to_str()?)?).await
    }

    async fn get(&mut self, url: &Url) -> Result<(u16, String)> {
        let answer = self.send(Method::GET, url, "").await?;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        Ok((answer.status().as_u16(), body))
    }
}

/// The same address at another replica. Cookies do not know ports.
fn at(url: &Url, sidecar: &Sidecar) -> Result<Url> {
    let mut url = url.clone();
    url.set_port(Some(sidecar.address.port()))
        .ok()
        .context("no port")?;
    Ok(url)
}

fn person(name: &str, issuer: &str, subject: &str) -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenUser", "metadata": {"name": name},
        "spec": {"serverRef": {"name": "prod"}, "external": {"issuer": issuer, "subject": subject}},
    })
}

fn external(provider: &Provider) -> [(&'static str, Value); 2] {
    let external = json!({
        "issuer": provider.issuer, "clientId": "zenop", "caBundle": provider.authority,
        "clientSecretFrom": {"secretKeyRef": {"name": "sso", "key": "secret"}},
        "displayName": "Test",
    });
    [
        ("spec.auth.scheme", json!("External")),
        ("spec.auth.external", external),
    ]
}

async fn is_declared(site: &Site, name: &str, issuer: &str, subject: &str) -> Result<()> {
    site.apply(&person(name, issuer, subject)).await?;
    let active = says::<ZenUser>(condition::ACTIVE, "True", reason::ACTIVE);
    site.until(name, "active", active).await?;
    Ok(())
}

/// H5, V19, V21: who it is decides issuer and subject; any replica can go on; each login is one.
#[tokio::test]
async fn h5_a_person_logs_in_at_a_real_provider_on_any_replica_and_approves_a_device() -> Result<()>
{
    site("external", async |site| {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n"))?;
        let base = Url::parse(&format!("http://{address}"))?;
        let redirect = base.join("/login/external/callback")?;
        let mut provider = Provider::start(folder.path(), redirect.as_str()).await?;
        let _operator = set_up(site, address, &external(&provider)).await?;
        is_declared(site, "ana", &provider.issuer, "id1").await?;
        let one = Sidecar::start_knowing(site, address, &secret).await?;
        let other = Sidecar::start_knowing(site, free_address()?, &secret).await?;
        let info = one.get("/api/v1/info", None).await?.expect(200)?;
        ensure!(info.json()?["auth_scheme"] == "EXTERNAL", "{info:?}");

        // Begun at one replica, and ended at the other.
        let begin = base.join("/login/external?return_to=devices")?;
        let me = base.join("/api/v1/current-user")?;
        let mut browser = Browser::new(&provider);
        let back = browser.log_in(&begin, "test-user@127.0.0.1").await?;
        let held = browser.cookies.clone();
        let done = browser.sent(&at(&back, &other)?).await?;
        ensure!(done.path() == "/devices", "{done}");
        for sidecar in [&one, &other] {
            let (status, text) = browser.get(&at(&me, sidecar)?).await?;
            ensure!(
                status == 200 && text.contains(r#""name":"ana""#),
                "{status} {text}"
            );
        }

        // Not twice.
        let (status, body) = browser.get(&back).await?;
        ensure!(
            status == 400 && body.contains("Begin again"),
            "{status} {body}"
        );
        belongs_to_one_browser(&provider, &begin, (&back, held)).await?;
        a_stranger_is_told_as_whom_to_be_declared(site, &one, &provider, &begin).await?;
        approves_a_device(&one, &browser).await?;
        passwords_are_of_no_use(site, &one).await?;

        // The provider is gone: who is logged in stays, who is not is told.
        provider.process.kill().await?;
        let third = Sidecar::start_knowing(site, free_address()?, &secret).await?;
        let (status, body) = browser.get(&at(&begin, &third)?).await?;
        ensure!(
            status == 503 && body.contains("cannot be reached"),
            "{status} {body}"
        );
        let (status, _) = browser.get(&at(&me, &third)?).await?;
        ensure!(status == 200, "{status}");

        // Deactivation ends it, as it ends every session.
        let mut inactive = person("ana", &provider.issuer, "id1");
        inactive["spec"]["active"] = json!(false);
        site.apply(&inactive).await?;
        let cookies = browser.cookies.clone();
        let over = async || {
            let mut browser = Browser {
                cookies: cookies.clone(),
                ..Browser::new(&provider)
            };
            browser
                .get(&me)
                .await
                .is_ok_and(|(status, _)| status == 401)
        };
        one.until("one that refuses her", over).await?;
        let said = one.log() + &other.log() + &third.log() + &site.logs();
        ensure!(!said.contains(SECRET), "the client secret is in a log");
        Ok(())
    })
    .await
}

/// With what the browser held before, in none, and for another login.
async fn belongs_to_one_browser(
    provider: &Provider,
    begin: &Url,
    (back, held): (&Url, BTreeMap<(bool, String), String>),
) -> Result<()> {
    for cookies in [held, BTreeMap::new()] {
        let mut browser = Browser {
            cookies,
            ..Browser::new(provider)
        };
        ensure!(browser.get(back).await?.0 == 400);
    }
    let mut eve = Browser::new(provider);
    let eves = eve.log_in(begin, "test-user2").await?;
    let mut bo = Browser::new(provider);
    bo.sent(begin).await?;
    let (status, body) = bo.get(&eves).await?;
    ensure!(status == 400, "V21: {status} {body}");
    Ok(())
}

async fn a_stranger_is_told_as_whom_to_be_declared(
    site: &Site,
    sidecar: &Sidecar,
    provider: &Provider,
    begin: &Url,
) -> Result<()> {
    let mut eve = Browser::new(provider);
    let back = eve.log_in(begin, "test-user2").await?;
    let (status, body) = eve.get(&back).await?;
    ensure!(status == 403 && body.contains("id2"), "{status} {body}");
    is_declared(site, "eve", &provider.issuer, "id2").await?;
    let known = async || {
        let back = eve_again(provider, begin).await;
        back.is_ok_and(|status| status == 303)
    };
    sidecar.until("one that knows her", known).await
}

async fn eve_again(provider: &Provider, begin: &Url) -> Result<u16> {
    let mut browser = Browser::new(provider);
    let back = browser.log_in(begin, "test-user2").await?;
    Ok(browser.get(&back).await?.0)
}

/// With the cookie, as the page does.
async fn approves_a_device(sidecar: &Sidecar, browser: &Browser) -> Result<()> {
    let client = "client_id=61394d02-925d-4af1-8159-d0af7a36de63";
    let codes = sidecar
        .post("/device_authorization", client)
        .await?
        .expect(200)?
        .json()?;
    let text = |name: &str| codes[name].as_str().unwrap_or_default().to_owned();
    let link = text("verification_uri_complete");
    let device = link.split(['=', '&']).nth(1).context("no device")?;
    let own = browser.cookies.iter().filter(|((of, _), _)| !of);
    let cookies: Vec<_> = own
        .map(|((_, name), value)| format!("{name}={value}"))
        .collect();
    let verify = Request::builder()
        .method(Method::PUT)
        .uri(format!(
            "http://{}/api/v1/devices/{device}/verify",
            sidecar.address
        ))
        .header(COOKIE, cookies.join("; "))
        .header(CONTENT_TYPE, "application/json")
        .body(
            json!({"user_code": text("user_code"), "trusted_device": false})
                .to_string()
                .into(),
        )?;
    let answer = browser.web.ask(verify, None).await?;
    ensure!(answer.status().as_u16() == 200, "{answer:?}");
    let poll = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:device_code&{client}&device_code={}",
        text("device_code")
    );
    let token = sidecar.post("/login", &poll).await?.expect(200)?.json()?;
    let me = sidecar
        .me(token["access_token"].as_str().context("no token")?)
        .await?;
    ensure!(me.expect(200)?.json()?["name"] == "ana");
    Ok(())
}

async fn passwords_are_of_no_use(site: &Site, sidecar: &Sidecar) -> Result<()> {
    site.apply(&password_of("bo", "correct horse")).await?;
    site.apply(&user_with_password("bo")).await?;
    site.until::<ZenUser>("bo", "Ready", ready).await?;
    let off = says::<ZenUser>(condition::ACTIVE, "False", reason::METHOD_NOT_ACCEPTED);
    site.until("bo", "not accepted", off).await?;
    let refused = sidecar
        .login_with("bo", "correct horse")
        .await?
        .expect(400)?;
    ensure!(
        refused.body.contains("Unsupported grant type: password."),
        "{refused:?}"
    );
    Ok(())
}

/// A person at a real browser, who opens a link of `zenml login` and signs in at the provider. What
/// our page says then.
async fn sign_in(
    browser: &driver::Browser,
    provider: &Provider,
    link: &str,
    user: &str,
) -> Result<String> {
    browser.open(link).await?;
    browser.until("h1", "Sign in").await?;
    ensure!(
        browser.count("#password").await? == 0,
        "no password of ours"
    );
    browser.follow("main a.button").await?;
    let there = browser.url().await?;
    ensure!(there.starts_with(&provider.issuer), "{there}");
    browser.fill("[name=username]", user).await?;
    browser.fill("[name=password]", "verysecure").await?;
    browser.follow("[type=submit]").await?;
    browser.text("h1").await
}

/// H5: from the terminal by way of two browsers' pages to a token, and no password of ours.
#[tokio::test]
async fn h5_the_real_client_logs_in_by_a_real_browser_at_a_real_provider() -> Result<()> {
    site("external-client", async |site| {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let secret = folder.path().join("secret");
        std::fs::write(&secret, SECRET)?;
        let redirect = format!("http://{address}/login/external/callback");
        let provider = Provider::start(folder.path(), &redirect).await?;
        let _operator = set_up(site, address, &external(&provider)).await?;
        is_declared(site, "ana", &provider.issuer, "id1").await?;
        let sidecar = Sidecar::start_knowing(site, address, &secret).await?;
        let trusting = Setup {
            trusting: true,
            ..Setup::default()
        };
        let browser = driver::Browser::start(trusting).await?;

        let laptop = Laptop::new()?;
        let approved = async |link: &str| {
            // Whom the provider knows and nobody declared is told so, and decides nothing.
            let told = sign_in(&browser, &provider, link, "test-user2").await?;
            ensure!(told == "You are not signed in", "{told}");
            let told = browser.text("main").await?;
            ensure!(told.contains("id2"), "{told}");
            let told = sign_in(&browser, &provider, link, "test-user@127.0.0.1").await?;
            ensure!(told == "Is this you?", "{told}");
            let who = browser.text("footer").await?;
            ensure!(who == "Signed in as ana", "{who}");
            browser.follow("button[value=approve]").await?;
            browser.until("h1", "Approved").await
        };
        let outcome = laptop.log_in_by(&sidecar, approved).await?;
        ensure!(outcome.success, "{}", outcome.text);
        let status = laptop.ok(&["status"]).await?;
        ensure!(status.contains("ana"), "{status}");
        let users = laptop.ok(&["user", "list"]).await?;
        ensure!(users.contains("ana"), "{users}");
        let devices = laptop.ok(&["authorized-device", "list"]).await?;
        ensure!(devices.contains("active"), "{devices}");

        // In the browser it goes on, without the provider; and out everywhere is out.
        browser.open(&format!("http://{address}/devices")).await?;
        browser.until("h1", "Your devices").await?;
        browser.click(".all summary").await?;
        browser.follow(".all button").await?;
        browser.until("h1", "Sign in").await?;
        let refused = laptop.run(&["authorized-device", "list"]).await?;
        ensure!(!refused.success, "{}", refused.text);
        Ok(())
    })
    .await
}

/// L3, S02: who owns the Secret says whether the provider may be shown it.
#[tokio::test]
async fn a_client_secret_reaches_the_pods_once_its_owner_releases_it() -> Result<()> {
    site("released", async |site| {
        let provider = Provider {
            issuer: "https://sso.example.org".into(),
            authority: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            process: Command::new("true").spawn()?,
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sso"},
            "stringData": {"secret": SECRET},
        });
        site.apply(&secret).await?;
        let _operator = set_up(site, free_address()?, &external(&provider)).await?;
        let deployment = async || site.api::<Deployment>().get("prod").await;
        let pod = |of: &Deployment| serde_json::to_string(&of.spec).unwrap_or_default();
        ensure!(!pod(&deployment().await?).contains("client-secret"));
        let mut released = secret.clone();
        released["metadata"]["labels"] = json!({"zenop.dev/client-secret-of": "prod"});
        site.apply(&released).await?;
        let mounted = |of: &Deployment| {
            pod(of).contains("--client-secret-file=/var/run/zenop/provider/client-secret")
        };
        // It is looked at every thirty seconds; a change of the server asks at once.
        let url = json!("http://127.0.0.1:1");
        let server = crate::support::with(crate::support::server("prod"), "spec.url", url);
        let server = external(&provider)
            .into_iter()
            .fold(server, |object, (path, value)| {
                crate::support::with(object, path, value)
            });
        site.apply(&server).await?;
        site.until("prod", "has the secret", mounted).await?;
        Ok(())
    })
    .await
}

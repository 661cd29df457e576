//! The pages, as a browser without JavaScript uses them, told by the rows of the attacks that they
//! must stand.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use zenop::{
    auth::address::Proxies,
    http::{Limits, Options},
    store::{NotChanged, Settings},
};

use super::{
    canary::Log,
    client::{Server, now},
    sockets::Served,
    support,
};

const CLIENT: Uuid = Uuid::from_u128(0xc11e_0000_0000_4000_8000_0000_0000_0001);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const UNUSABLE: &str = "This code cannot be used";

thread_local! {
    static SHIFT: Cell<i64> = const { Cell::new(0) };
}

/// A clock that each test moves for itself: a test and its server are one thread.
fn moved() -> Timestamp {
    now() + SignedDuration::from_secs(SHIFT.get())
}

/// A server with the users `ana` and `bo`, and what was asked of it last.
struct Scene {
    served: Served,
    ana: Uuid,
}

impl Scene {
    async fn new() -> Self {
        SHIFT.set(0);
        let server = Server::with(Options::default(), moved);
        let ana = server.change(|state| {
            support::add_user(state, 2, "bo", false);
            support::add_user(state, 1, "ana", true)
        });
        let served = Served::of(server, Limits::default()).await;
        let scene = Self { served, ana };
        // So that a request may come from anywhere.
        scene.set(|settings| settings.proxies = Proxies::new(["127.0.0.0/8"]));
        scene
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.served.server.change(|state| {
            let mut settings = (*state.settings).clone();
            change(&mut settings);
            state.directory.set_terms(settings.devices);
            state.settings = settings.into();
        });
    }

    fn browser(&self) -> Browser<'_> {
        Browser {
            served: &self.served,
            cookies: Vec::new(),
            from: "192.0.2.1".into(),
            host: self.served.address.to_string(),
        }
    }

    async fn logged_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        browser.log_in(name, "devices").await;
        browser
    }

    /// A device that asks, from an address, with a `User-Agent`.
    async fn asks(&self, from: &str, agent: &str) -> Asked {
        let mut laptop = self.browser();
        laptop.from = from.into();
        let form = format!("client_id={CLIENT}");
        let head = format!("user-agent: {agent}\r\n");
        let answer = laptop
            .send("POST", "/api/v1/device_authorization", &head, &form)
            .await;
        let told: serde_json::Value = serde_json::from_str(&answer.expect(200).body).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let link = text("verification_uri_complete");
        Asked {
            device: link.split(['=', '&']).nth(1).unwrap().to_owned(),
            link,
            user_code: text("user_code"),
            device_code: text("device_code"),
        }
    }

    async fn device(&self) -> Asked {
        let agent = "Host/lab ZenML/0.98.0 Python/3.11.7 OS/Linux";
        self.asks("192.0.2.9", agent).await
    }

    /// What a poll of a device is told: an error, or `granted`.
    async fn polled(&self, asked: &Asked) -> String {
        let told = self.poll(asked).await;
        told["error"].as_str().unwrap_or("granted").to_owned()
    }

    async fn poll(&self, asked: &Asked) -> serde_json::Value {
        let client = CLIENT.to_string();
        let form = [
            ("grant_type", GRANT),
            ("client_id", &client),
            ("device_code", &asked.device_code),
        ];
        let form = serde_urlencoded::to_string(form).unwrap();
        let answer = self
            .browser()
            .send("POST", "/api/v1/login", "", &form)
            .await;
        serde_json::from_str(&answer.body).unwrap()
    }

    /// What a token is answered at `/current-user`.
    async fn me(&self, token: &str) -> u16 {
        let bearer = format!("authorization: Bearer {token}\r\n");
        let mut program = self.browser();
        let page = program.send("GET", "/api/v1/current-user", &bearer, "");
        page.await.status
    }
}

/// A device that asked.
struct Asked {
    link: String,
    device: String,
    user_code: String,
    device_code: String,
}

/// A browser: cookies, and where it is.
struct Browser<'a> {
    served: &'a Served,
    cookies: Vec<(String, String)>,
    from: String,
    host: String,
}

/// An answer.
#[derive(Debug)]
struct Page {
    status: u16,
    head: String,
    body: String,
}

impl Page {
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n\n{}", self.head, self.body);
        self
    }

    fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(of, _)| of.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers(name);
        assert_eq!(found.len(), 1, "{name}: {}", self.head);
        found[0]
    }

    fn says(&self, text: &str) -> &Self {
        assert!(self.body.contains(text), "not {text:?} in {}", self.body);
        self
    }

    /// The token of the form with that action.
    fn csrf(&self, action: &str) -> String {
        let (_, form) = self
            .body
            .split_once(&format!("action=\"{action}\""))
            .unwrap_or_else(|| panic!("no form {action}: {}", self.body));
        let (_, value) = form.split_once("name=\"csrf\" value=\"").unwrap();
        value.split('"').next().unwrap().to_owned()
    }
}

impl Browser<'_> {
    async fn send(&mut self, method: &str, path: &str, head: &str, body: &str) -> Page {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookie = match cookies.is_empty() {
            true => String::new(),
            false => format!("cookie: {}\r\n", cookies.join("; ")),
        };
        let (host, from) = (&self.host, &self.from);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             x-forwarded-for: {from}\r\n{cookie}{head}\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.served.exchange(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let page = Page {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        for cookie in page.headers("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        page
    }

    async fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, "", "").await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let form = serde_urlencoded::to_string(fields).unwrap();
        let own = "sec-fetch-site: same-origin\r\norigin: null\r\n";
        self.send("POST", path, own, &form).await
    }

    /// Logs in, and is sent on.
    async fn log_in(&mut self, name: &str, return_to: &str) -> Page {
        let csrf = self.get("/login").await.expect(200).csrf("login");
        let password = format!("password of {name}");
        let fields = [
            ("csrf", &*csrf),
            ("username", name),
            ("password", &password),
            ("return_to", return_to),
        ];
        self.post("/login", &fields).await.expect(303)
    }

    /// Opens the link of a device, and decides with the form that it shows.
    async fn decide(&mut self, asked: &Asked, decision: &str) -> Page {
        let page = self.get(&asked.link).await.expect(200);
        let csrf = page.csrf("verify");
        self.send_decision(asked, &csrf, decision).await
    }

    async fn send_decision(&mut self, asked: &Asked, csrf: &str, decision: &str) -> Page {
        let fields = [
            ("csrf", csrf),
            ("device_id", &asked.device),
            ("user_code", &asked.user_code),
            ("decision", decision),
        ];
        self.post("/devices/verify", &fields).await
    }
}

#[tokio::test]
async fn v13_a_device_is_shown_and_approved_by_a_click_only() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    SHIFT.set(60);
    let page = ana.get(&asked.link).await.expect(200);
    for text in [
        "<strong>ana</strong>",
        "lab",
        "Linux",
        "ZenML 0.98.0, Python 3.11.7",
        "192.0.2.9",
        "1 minute ago",
        "in 4 minutes",
        &CLIENT.to_string(),
        "on a machine that you hold",
        "30 days, otherwise for 1 day",
    ] {
        page.says(text);
    }
    assert_eq!(scene.polled(&asked).await, "authorization_pending");
    ana.decide(&asked, "approve")
        .await
        .expect(200)
        .says("Approved");
    assert_eq!(scene.polled(&asked).await, "granted");
    let devices = ana.get("/devices").await.expect(200);
    devices.says("lab").says("Active").says(&asked.device);
}

#[tokio::test]
async fn v01_who_is_not_logged_in_does_that_first_and_learns_nothing() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let wrong = asked.link.replace("user_code=", "user_code=A");
    let mut places = Vec::new();
    for link in [&asked.link, &wrong] {
        let sent = scene.browser().get(link).await.expect(303);
        places.push(
            sent.header("location")
                .replace("user_code%3DA", "user_code%3D"),
        );
        assert_eq!(sent.body, "");
    }
    assert_eq!(places[0], places[1]);
    assert!(places[0].starts_with("../login?return_to=devices%2Fverify%3Fdevice_id%3D"));
    // And it leads back.
    let mut browser = scene.browser();
    let query = places[0].split_once("return_to=").unwrap().1;
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&format!("x={query}")).unwrap();
    let sent = browser.log_in("ana", &pairs[0].1).await;
    assert_eq!(format!("/{}", sent.header("location")), asked.link);
    // A decision without a session is none.
    let page = scene.browser().send_decision(&asked, "x", "approve").await;
    page.expect(403).says("not signed in");
    assert_eq!(scene.polled(&asked).await, "authorization_pending");
}

#[tokio::test]
async fn v02_too_many_wrong_codes_of_a_user_are_told_to_wait_and_right_ones_too() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    // V03: right ones free nothing.
    for _ in 0..4 {
        let page = ana.get("/devices/verify?user_code=wrong").await;
        page.expect(400).says(UNUSABLE);
        ana.get(&asked.link).await.expect(200);
    }
    ana.get("/devices/verify?user_code=wrong").await.expect(400);
    ana.get("/devices/verify?user_code=wrong").await.expect(429);
    let limited = ana.get(&asked.link).await.expect(429);
    let wait: i64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=70).contains(&wait), "{wait}");
    limited.says("Too many attempts");
    // ZenML's own route too.
    let token = ana.cookies[0].1.clone();
    let head = format!("authorization: Bearer {token}\r\n");
    let path = format!(
        "/api/v1/devices/{}?user_code={}",
        asked.device, asked.user_code
    );
    scene
        .browser()
        .send("GET", &path, &head, "")
        .await
        .expect(429);
    // Others are not concerned.
    scene
        .logged_in("bo")
        .await
        .get(&asked.link)
        .await
        .expect(200);
    SHIFT.set(wait);
    ana.get(&asked.link).await.expect(200);
}

#[tokio::test]
async fn v02_v03_too_many_wrong_codes_from_an_address_are_told_to_wait() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    for name in ["ana", "bo"] {
        let mut browser = scene.logged_in(name).await;
        browser.get(&asked.link).await.expect(200);
        for _ in 0..5 {
            let page = browser.get("/devices/verify?user_code=wrong").await;
            page.expect(400);
        }
    }
    // The eleventh from there, whoever it is of.
    scene
        .served
        .server
        .change(|state| support::add_user(state, 3, "cy", false));
    let mut cy = scene.logged_in("cy").await;
    cy.get("/devices/verify?user_code=wrong").await.expect(429);
    cy.get(&asked.link).await.expect(429);
    cy.from = "198.51.100.1".into();
    cy.get(&asked.link).await.expect(200);
}

#[tokio::test]
async fn v05_wrong_over_used_and_denied_codes_are_one() {
    let scene = Scene::new().await;
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    let (over, used) = (scene.device().await, scene.device().await);
    let denied = scene.device().await;
    ana.decide(&used, "approve").await.expect(200);
    ana.decide(&denied, "deny").await.expect(200);
    let shown = async |browser: &mut Browser<'_>, link: &str| {
        let page = browser.get(link).await.expect(400);
        page.says(UNUSABLE);
        page.body
    };
    let mut pages = vec![
        shown(&mut bo, "/devices/verify?user_code=wrong").await,
        shown(
            &mut bo,
            &format!("/devices/verify?user_code={}", over.device_code),
        )
        .await,
        shown(&mut bo, &used.link).await,
        shown(&mut bo, &denied.link).await,
    ];
    SHIFT.set(301);
    pages.push(shown(&mut bo, &over.link).await);
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:#?}");
}

#[tokio::test]
async fn v06_what_nobody_pastes_is_refused() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    for bad in ["a%00", "a%0d%0ab", &"a".repeat(10_000)] {
        let page = ana.get(&format!("/devices/verify?user_code={bad}")).await;
        page.expect(400).says("cannot be read");
    }
    let spaced = format!("%20{}%20", asked.user_code.replace('A', "A%20"));
    let page = ana
        .get(&format!("/devices/verify?user_code={spaced}"))
        .await;
    page.expect(200).says("Is this you?");
    ana.get("/devices/verify")
        .await
        .expect(200)
        .says("Link or code");
}

#[tokio::test]
async fn v07_v21_no_form_but_ours_of_this_session_and_device_decides() {
    let scene = Scene::new().await;
    let (asked, other) = (scene.device().await, scene.device().await);
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    let own = ana.get(&asked.link).await.csrf("verify");
    let of_bo = bo.get(&asked.link).await.csrf("verify");
    let of_other = ana.get(&other.link).await.csrf("verify");
    // By GET.
    let link = format!("{}&decision=approve&csrf={own}", asked.link);
    ana.get(&link).await.expect(200).says("Is this you?");
    for csrf in ["", "x", &of_bo, &of_other, &own.to_uppercase()] {
        let page = ana.send_decision(&asked, csrf, "approve").await;
        page.expect(403).says("Nothing was changed");
    }
    // The form of one device with the code of another.
    let mixed = Asked {
        device: asked.device.clone(),
        link: String::new(),
        user_code: other.user_code.clone(),
        device_code: String::new(),
    };
    let page = ana.send_decision(&mixed, &own, "approve").await;
    page.expect(400).says(UNUSABLE);
    // A right form that another page sends.
    let fields = [
        ("csrf", &*own),
        ("device_id", &asked.device),
        ("user_code", &asked.user_code),
        ("decision", "approve"),
    ];
    let form = serde_urlencoded::to_string(fields).unwrap();
    for head in [
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: https://evil.example.com\r\n",
    ] {
        ana.send("POST", "/devices/verify", head, &form)
            .await
            .expect(403);
    }
    for asked in [&asked, &other] {
        assert_eq!(scene.polled(asked).await, "authorization_pending");
    }
    // The same form, as it is.
    ana.send("POST", "/devices/verify", "", &form)
        .await
        .expect(200);
    assert_eq!(scene.polled(&asked).await, "granted");
}

#[tokio::test]
async fn v08_v17_cookies_are_of_this_host_alone_and_new_with_each_login() {
    let scene = Scene::new().await;
    let mut plain = scene.browser();
    plain.log_in("ana", "devices").await;
    let first = plain.cookies.clone();
    assert!(first[0].0.starts_with("zenml-server-"), "{first:?}");
    scene.set(|settings| settings.url = "https://zen.example.com".into());
    let mut browser = scene.browser();
    let page = browser.get("/login").await.expect(200);
    let form = page.header("set-cookie").to_owned();
    assert!(form.starts_with("__Host-zenop-form-"), "{form}");
    assert!(form.contains("; HttpOnly; Path=/; SameSite=Strict; ") && form.ends_with("; Secure"));
    // A cookie that somebody planted is not taken over.
    let name = form
        .split('=')
        .next()
        .unwrap()
        .replace("zenop-form", "zenml-server");
    browser.cookies.push((name.clone(), "planted".into()));
    let mut seen = Vec::new();
    for _ in 0..2 {
        SHIFT.set(SHIFT.get() + 1);
        let csrf = browser.get("/login").await.expect(200).csrf("login");
        let fields = [
            ("csrf", &*csrf),
            ("username", "ana"),
            ("password", "password of ana"),
        ];
        let sent = browser.post("/login", &fields).await.expect(303);
        let cookies = sent.headers("set-cookie");
        let session = cookies.iter().find(|c| c.starts_with(&name)).unwrap();
        assert!(session.contains("; HttpOnly; Path=/; SameSite=Lax; Max-Age=3600; Secure"));
        assert!(!session.contains("Domain"));
        let token = session.split(['=', ';']).nth(1).unwrap().to_owned();
        assert!(!seen.contains(&token) && token != "planted");
        seen.push(token);
        assert_eq!(cookies.len(), 2, "that of the form ends");
        let csrf = browser.get("/devices").await.expect(200).csrf("logout");
        let out = browser
            .post("/logout", &[("csrf", &csrf)])
            .await
            .expect(200);
        out.says("You are signed out");
        browser.get("/devices").await.expect(303);
    }
}

#[tokio::test]
async fn v09_v18_no_page_is_framed_kept_or_tells_where_it_was() {
    let scene = Scene::new().await;
    // Whatever is said of other answers.
    scene.set(|settings| {
        settings.headers.csp = Some("off".into());
        settings.headers.xfo = Some("off".into());
        settings.headers.referrer = Some("unsafe-url".into());
        settings.headers.cache = Some("off".into());
    });
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    let mut pages = vec![
        scene.browser().get("/login").await.expect(200),
        scene.browser().get(&asked.link).await.expect(303),
        scene.browser().post("/login", &[]).await.expect(403),
    ];
    for path in [
        "/devices",
        "/devices/verify",
        &asked.link,
        "/devices/verify?user_code=x",
    ] {
        pages.push(ana.get(path).await);
    }
    for page in pages {
        let csp = page.header("content-security-policy");
        assert_eq!(
            csp,
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(!page.body.contains("<script") && !page.body.contains("style="));
        if page.status != 303 {
            let style = page.body.split_once("stylesheet\" href=\"").unwrap().1;
            let name = style.split('"').next().unwrap().trim_start_matches("../");
            let style = ana.get(&format!("/{name}")).await.expect(200);
            assert!(style.header("cache-control").contains("immutable"));
            assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
        }
    }
    ana.get("/assets/pages-0.css").await.expect(404);
}

#[tokio::test]
async fn v10_what_a_client_says_of_itself_is_text() {
    let scene = Scene::new().await;
    let agent = "Host/<script>alert(1)</script> ZenML/\"><img/src=x> OS/'onload='x";
    let asked = scene.asks("192.0.2.9", agent).await;
    let mut ana = scene.logged_in("ana").await;
    let page = ana.get(&asked.link).await.expect(200);
    page.says("&#60;script&#62;alert(1)&#60;/script&#62;");
    assert!(!page.body.contains("<script") && !page.body.contains("<img/"));
    let page = ana
        .get("/devices/verify?user_code=%3Cscript%3E")
        .await
        .expect(400);
    assert!(!page.body.contains("script"), "no input is repeated");
    let page = scene
        .browser()
        .get("/login?return_to=%22%3E%3Cscript%3E")
        .await;
    assert!(!page.expect(200).body.contains("script"));
}

#[tokio::test]
async fn v11_v12_no_link_and_no_host_leads_elsewhere() {
    let scene = Scene::new().await;
    for bad in [
        "//evil",
        "/\\evil",
        "https:evil",
        "%2f%2fevil",
        "javascript:alert(1)",
    ] {
        let sent = scene.browser().log_in("ana", bad).await;
        assert_eq!(sent.header("location"), "devices", "{bad}");
    }
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    ana.host = "evil.example.com".into();
    let head = "x-forwarded-host: evil.example.com\r\nx-forwarded-proto: http\r\n";
    for path in ["/login", "/devices", &asked.link] {
        let page = ana.send("GET", path, head, "").await;
        assert!(!page.body.contains("evil") && !page.head.contains("evil"));
    }
    let form = format!("client_id={CLIENT}");
    scene.set(|settings| settings.public_url = Some("https://zen.example.com".into()));
    let start = ana
        .send("POST", "/api/v1/device_authorization", head, &form)
        .await;
    start
        .expect(200)
        .says("https://zen.example.com/devices/verify?");
}

#[tokio::test]
async fn v14_a_device_of_another_network_is_warned_of_or_refused() {
    let scene = Scene::new().await;
    let (near, far) = (
        scene.device().await,
        scene.asks("203.0.113.7", "Host/x").await,
    );
    let mut ana = scene.logged_in("ana").await;
    let warning = "from another network than yours";
    assert!(!ana.get(&near.link).await.expect(200).body.contains(warning));
    ana.get(&far.link).await.expect(200).says(warning);
    scene.set(|settings| settings.devices.same_network = true);
    let page = ana.decide(&far, "approve").await.expect(403);
    page.says("From another network");
    assert_eq!(scene.polled(&far).await, "authorization_pending");
    ana.decide(&near, "approve").await.expect(200);
    // Who denies may be anywhere.
    ana.decide(&far, "deny").await.expect(200);
}

#[tokio::test]
async fn v15_v22_one_approves_once() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    let theirs = bo.get(&asked.link).await.expect(200).csrf("verify");
    let own = ana.get(&asked.link).await.expect(200).csrf("verify");
    ana.send_decision(&asked, &own, "approve")
        .await
        .expect(200)
        .says("Approved");
    let again = ana.send_decision(&asked, &own, "approve").await.expect(200);
    again.says("You approved this already");
    // Nor is it denied by whoever has the link.
    for decision in ["approve", "deny"] {
        let page = bo.send_decision(&asked, &theirs, decision).await;
        page.expect(400).says(UNUSABLE);
    }
    assert_eq!(scene.polled(&asked).await, "granted");
    let count = scene
        .served
        .server
        .change(|state| state.directory.devices().count());
    assert_eq!(count, 1);
}

#[tokio::test]
async fn v16_d19_what_was_denied_is_denied_for_ever() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    let page = ana.get(&asked.link).await.expect(200).csrf("verify");
    ana.send_decision(&asked, &page, "deny")
        .await
        .expect(200)
        .says("Denied");
    assert_eq!(scene.polled(&asked).await, "access_denied");
    ana.send_decision(&asked, &page, "approve")
        .await
        .expect(400);
    bo.get(&asked.link).await.expect(400).says(UNUSABLE);
    SHIFT.set(299);
    assert_eq!(scene.polled(&asked).await, "access_denied");
    SHIFT.set(3000);
    assert_eq!(scene.polled(&asked).await, "access_denied");
    let count = scene
        .served
        .server
        .change(|state| state.directory.devices().count());
    assert_eq!(count, 0);
}

#[tokio::test]
async fn v18_no_code_is_in_the_log() {
    let scene = Scene::new().await;
    let log = Log::default();
    let guard = log.json();
    let (asked, other) = (scene.device().await, scene.device().await);
    let mut ana = scene.logged_in("ana").await;
    ana.decide(&asked, "approve").await.expect(200);
    ana.decide(&other, "deny").await.expect(200);
    let long = "a".repeat(3000);
    ana.get(&format!("/devices/verify?user_code={long}"))
        .await
        .expect(400);
    drop(guard);
    let text = log.text();
    assert!(text.contains("/devices/verify"), "it is logged at all");
    for secret in [
        &asked.user_code,
        &other.user_code,
        &asked.device_code,
        "password of",
        &long,
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
    let decisions: Vec<_> = log
        .audit()
        .into_iter()
        .filter(|line| line["message"] == "change")
        .map(|line| (line["what"].clone(), line["of"].clone()))
        .collect();
    let wanted = [
        ("ApproveDevice", &asked.device),
        ("DenyDevice", &other.device),
    ];
    let wanted = wanted.map(|(what, of)| (what.into(), of.as_str().into()));
    assert_eq!(decisions, wanted);
}

#[tokio::test]
async fn v19_who_may_not_log_in_any_more_decides_nothing() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let mut ana = scene.logged_in("ana").await;
    let csrf = ana.get(&asked.link).await.expect(200).csrf("verify");
    scene.served.server.change(|state| {
        let mut user = state.directory.remove_user(scene.ana).unwrap();
        user.active = false;
        state.directory.put_user(user);
    });
    for decision in ["approve", "deny"] {
        ana.send_decision(&asked, &csrf, decision).await.expect(403);
    }
    ana.get("/devices").await.expect(303);
    assert_eq!(scene.polled(&asked).await, "authorization_pending");
    let csrf = ana.get("/login").await.expect(200).csrf("login");
    let fields = [
        ("csrf", &*csrf),
        ("username", "ana"),
        ("password", "password of ana"),
    ];
    ana.post("/login", &fields).await.expect(401);
}

#[tokio::test]
async fn v23_who_is_shown_many_is_asked_once_more() {
    let scene = Scene::new().await;
    let mut ana = scene.logged_in("ana").await;
    let question = "I started this very one";
    for _ in 0..5 {
        let page = ana.get(&scene.device().await.link).await.expect(200);
        assert!(!page.body.contains(question));
    }
    let asked = scene.device().await;
    let page = ana.get(&asked.link).await.expect(200);
    let csrf = page.says(question).csrf("verify");
    let page = ana
        .send_decision(&asked, &csrf, "approve")
        .await
        .expect(409);
    page.says("Nothing was approved").says(question);
    assert_eq!(scene.polled(&asked).await, "authorization_pending");
    let fields = [
        ("csrf", &*csrf),
        ("device_id", &asked.device),
        ("user_code", &asked.user_code),
        ("decision", "approve"),
        ("sure", "yes"),
    ];
    ana.post("/devices/verify", &fields).await.expect(200);
    assert_eq!(scene.polled(&asked).await, "granted");
    // To deny asks nothing more.
    ana.decide(&scene.device().await, "deny").await.expect(200);
}

#[tokio::test]
async fn a_login_that_fails_is_told_so_and_limited() {
    let scene = Scene::new().await;
    let mut browser = scene.browser();
    let csrf = browser.get("/login").await.expect(200).csrf("login");
    let wrong = |name| [("csrf", &*csrf), ("username", name), ("password", "wrong")];
    let page = browser.post("/login", &wrong("ana")).await.expect(401);
    page.says("role=\"alert\"").says("value=\"ana\"");
    let stranger = browser.post("/login", &wrong("nobody")).await.expect(401);
    assert_eq!(page.body.replace("\"ana\"", "\"nobody\""), stranger.body);
    for _ in 0..8 {
        browser.post("/login", &wrong("ana")).await.expect(401);
    }
    let limited = browser.post("/login", &wrong("ana")).await.expect(429);
    limited.says("Too many attempts").header("retry-after");
    // The form of another browser is none.
    let mut other = scene.browser();
    other.get("/login").await.expect(200);
    let fields = [
        ("csrf", &*csrf),
        ("username", "bo"),
        ("password", "password of bo"),
    ];
    other.post("/login", &fields).await.expect(403);
}

#[tokio::test]
async fn somebody_sees_and_changes_their_own_devices_only() {
    let scene = Scene::new().await;
    let asked = scene.device().await;
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    ana.decide(&asked, "approve").await.expect(200);
    let page = bo.get("/devices").await.expect(200);
    page.says("No computer is logged in as you");
    let csrf = ana.get("/devices").await.expect(200).csrf("devices/change");
    let act = |change, csrf| {
        [
            ("csrf", csrf),
            ("device_id", &*asked.device),
            ("change", change),
        ]
    };
    bo.post("/devices/change", &act("lock", &csrf))
        .await
        .expect(403);
    ana.post("/devices/change", &act("lock", "x"))
        .await
        .expect(403);
    let sent = ana
        .post("/devices/change", &act("lock", &csrf))
        .await
        .expect(303);
    assert_eq!(sent.header("location"), "../devices?done=locked");
    ana.get("/devices?done=locked")
        .await
        .expect(200)
        .says("It is locked");
    assert_eq!(scene.polled(&asked).await, "access_denied");
    // A locked device is not approved again.
    let next = scene.device().await;
    ana.decide(&next, "approve")
        .await
        .expect(403)
        .says("This computer is locked");
    ana.post("/devices/change", &act("unlock", &csrf))
        .await
        .expect(303);
    assert_eq!(scene.polled(&asked).await, "granted");
    ana.post("/devices/change", &act("remove", &csrf))
        .await
        .expect(303);
    ana.post("/devices/change", &act("remove", &csrf))
        .await
        .expect(404);
    ana.get("/devices")
        .await
        .expect(200)
        .says("No computer is logged in as you");
}

const OUT: &str = "devices/sign-out";

/// C13: browsers and computers, and what was approved and not fetched; nobody else's.
#[tokio::test]
async fn c13_who_signs_out_everywhere_is_out_everywhere() {
    let scene = Scene::new().await;
    let log = Log::default();
    let guard = log.json();
    let (mut ana, mut other) = (scene.logged_in("ana").await, scene.logged_in("ana").await);
    let mut bo = scene.logged_in("bo").await;
    let device = scene.device().await;
    ana.decide(&device, "approve").await.expect(200);
    let token = scene.poll(&device).await["access_token"].clone();
    let token = token.as_str().unwrap();
    assert_eq!(scene.me(token).await, 200);
    let csrf = ana.get("/devices").await.expect(200).csrf(OUT);
    let done = ana.post("/devices/sign-out", &[("csrf", &csrf)]).await;
    assert_eq!(
        done.expect(303).header("location"),
        "../login?done=everywhere"
    );
    assert!(ana.cookies.is_empty(), "{:?}", ana.cookies);
    let page = ana.get("/login?done=everywhere").await.expect(200);
    page.says("You are signed out everywhere");
    let page = ana.get("/login?done=nothing").await.expect(200);
    assert!(!page.body.contains("signed out"));
    other.get("/devices").await.expect(303);
    assert_eq!(scene.me(token).await, 401);
    bo.get("/devices").await.expect(200);
    drop(guard);
    let mut lines = log.audit().into_iter();
    let line = lines
        .find(|line| line["what"] == "SignOutEverywhere")
        .unwrap();
    let id = scene.ana.to_string();
    assert!(
        line["account"] == id && line["of"] == id && line["outcome"] == "Done",
        "{line}"
    );

    // Who was quick to approve has nothing of it, and the same computer can log in anew.
    let mut ana = scene.logged_in("ana").await;
    ana.get("/devices").await.expect(200).says("Signed out");
    let late = scene.device().await;
    ana.decide(&late, "approve").await.expect(200);
    let csrf = ana.get("/devices").await.expect(200).csrf(OUT);
    ana.post("/devices/sign-out", &[("csrf", &csrf)])
        .await
        .expect(303);
    assert_eq!(scene.polled(&late).await, "invalid_grant");
    let mut ana = scene.logged_in("ana").await;
    let anew = scene.device().await;
    ana.decide(&anew, "approve").await.expect(200);
    assert_eq!(scene.polled(&anew).await, "granted");
    ana.get("/devices").await.expect(200).says("Active");
}

/// C13, V07: by its own form, and no half of it.
#[tokio::test]
async fn c13_nobody_is_signed_out_by_another_form_or_by_half() {
    let scene = Scene::new().await;
    let (mut ana, mut bo) = (scene.logged_in("ana").await, scene.logged_in("bo").await);
    let page = ana.get("/devices").await.expect(200);
    let theirs = bo.get("/devices").await.expect(200).csrf(OUT);
    for token in [&*theirs, &page.csrf("logout"), "", "x"] {
        ana.post("/devices/sign-out", &[("csrf", token)])
            .await
            .expect(403);
    }
    let own = page.csrf(OUT);
    let fields = [("csrf", &*own)];
    let nobody = scene.browser().post("/devices/sign-out", &fields).await;
    nobody.expect(403).says("You are not signed in");
    let foreign = "sec-fetch-site: cross-site\r\n";
    let form = format!("csrf={own}");
    let foreign = ana.send("POST", "/devices/sign-out", foreign, &form).await;
    foreign.expect(403);
    let store = &scene.served.server.store;
    store.set_failure(Some(NotChanged::Unreachable));
    let failed = ana.post("/devices/sign-out", &fields).await.expect(503);
    failed.says("That did not work");
    ana.get("/devices").await.expect(200);
    // Where the epoch is declared, it is told that it may not last, where, and what would.
    store.set_failure(None);
    store.set_epochs_declared(true);
    let page = ana.post("/devices/sign-out", &fields).await.expect(200);
    page.says("signed out, for now")
        .says("spec.sessionEpoch to be set to 1 there")
        .says("Object memory/ana, managed by the test");
    ana.get("/devices").await.expect(303);
}

#[tokio::test]
async fn somebody_with_a_token_chooses_a_password_once() {
    let scene = Scene::new().await;
    let mut api = scene.browser();
    let login = "username=ana&password=password+of+ana";
    let login = api
        .send("POST", "/api/v1/login", "", login)
        .await
        .expect(200);
    let json = |page: &Page| serde_json::from_str::<serde_json::Value>(&page.body).unwrap();
    let bearer = json(&login)["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("authorization: Bearer {bearer}\r\n");
    let made = r#"{"name": "eve", "is_admin": false}"#;
    let request = format!(
        "POST /api/v1/users HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{bearer}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{made}",
        made.len()
    );
    let made = scene.served.exchange(request.as_bytes()).await;
    let (_, made) = made.split_once("\r\n\r\n").unwrap();
    let made: serde_json::Value = serde_json::from_str(made).unwrap();
    let token = made["body"]["activation_token"].as_str().unwrap();
    let id = made["id"].as_str().unwrap();
    let link = format!("/activate-user?user={id}&username=eve&token={token}");

    let mut eve = scene.browser();
    let page = eve.get(&link).await.expect(200);
    page.says("Choose a password")
        .says(&format!("value=\"{id}\""));
    let csrf = page.csrf("activate-user");
    let choose = async |browser: &mut Browser<'_>, token: &str, password: &str, again: &str| {
        let fields = [
            ("csrf", &*csrf),
            ("user", id),
            ("token", token),
            ("password", password),
            ("again", again),
        ];
        browser.post("/activate-user", &fields).await
    };
    choose(&mut eve, token, "password of eve", "another")
        .await
        .expect(400)
        .says("differ");
    choose(&mut eve, token, "short", "short")
        .await
        .expect(400)
        .says("cannot be used");
    // Nobody is told what of it is wrong: the token, the user, or that it was used.
    let wrong = "0".repeat(64);
    let used = "This link was used, its time is over, or it is not for this user.";
    choose(&mut eve, &wrong, "password of eve", "password of eve")
        .await
        .expect(401)
        .says(used);
    let mut other = scene.browser();
    other.get(&link).await.expect(200);
    choose(&mut other, token, "password of eve", "password of eve")
        .await
        .expect(403);
    let done = choose(&mut eve, token, "password of eve", "password of eve")
        .await
        .expect(200);
    done.says("Your password is set");
    choose(&mut eve, token, "password of eve", "password of eve")
        .await
        .expect(401)
        .says(used);
    scene.browser().log_in("eve", "devices").await;
    for _ in 0..20 {
        let page = choose(&mut eve, &wrong, "password of eve", "password of eve").await;
        if page.status == 429 {
            page.says("Too many attempts").header("retry-after");
            return;
        }
    }
    panic!("tokens may be tried without end");
}

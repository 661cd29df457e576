//! Every way to ask people who they are, by every credential (features H1, H4; zenml-wire 2, 16.3).

use axum::{
    body::Body,
    http::{
        Method,
        header::{AUTHORIZATION, COOKIE},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use prometheus_client::encoding::text::encode;
use uuid::Uuid;
use zenop::{
    auth::{
        address::Proxies,
        credential::{Credential, Verifier},
        directory::User,
        scheme::Scheme,
    },
    http::Limits,
};

use super::{
    client::{Answer, Server, bearer, request},
    limits::set,
    sockets::{Served, statuses},
    support,
};

const ME: &str = "/api/v1/current-user";

/// A server of a scheme with users `ana`, an administrator, and `default`.
fn server(scheme: Scheme) -> (Server, Uuid) {
    let server = Server::new();
    set(&server, |settings| settings.scheme = scheme);
    let ana = server.change(|state| {
        support::add_user(state, 2, "default", false);
        support::add_user(state, 1, "ana", true)
    });
    (server, ana)
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn ask(server: &Server, header: &str, value: &str) -> Answer {
    let request = request(Method::GET, ME).header(header, value);
    server.send(request.body(Body::empty()).unwrap()).await
}

async fn as_ana(server: &Server) -> Answer {
    let right = basic("ana", "password of ana");
    ask(server, AUTHORIZATION.as_str(), &right).await
}

async fn ana_logs_in(server: &Server) -> Answer {
    let form = "username=ana&password=password+of+ana";
    server.post_form("/api/v1/login", form).await
}

/// Who a credential is of, or what is asked for instead.
fn outcome(answer: &Answer) -> String {
    match answer.status.as_u16() {
        200 => answer.json()["name"].as_str().unwrap().to_owned(),
        status => format!(
            "{status} {}",
            answer.header("www-authenticate").unwrap_or("-")
        ),
    }
}

fn change_user(server: &Server, id: Uuid, change: impl FnOnce(&mut User)) {
    server.change(|state| {
        let mut user = state.directory.remove_user(id).unwrap();
        change(&mut user);
        state.directory.put_user(user);
    });
}

/// How often a password was tried with success, or not.
fn tried(server: &Server, outcome: &str) -> u64 {
    let mut text = String::new();
    encode(&mut text, &server.registry).unwrap();
    let label = format!("outcome=\"{outcome}\"");
    let mut lines = text
        .lines()
        .filter(|l| l.contains("login") && l.contains(&label));
    lines
        .next()
        .map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn h1_h4_each_scheme_lets_in_by_each_credential_whom_it_should() {
    let kinds = [
        "nothing",
        "junk",
        "basic",
        "wrong basic",
        "bad basic",
        "key",
        "wrong key",
        "token",
        "key's token",
        "cookie",
        "junk cookie",
    ];
    let (b, none) = ("401 Bearer", "401 -");
    let bearer_only = [b, none, b, b, b, "ci", none, "ana", "ci", "ana", b];
    let with_basic = [
        "401 Basic",
        none,
        "ana",
        "401 Basic",
        "401 Basic",
        "ci",
        none,
        "ana",
        "ci",
        "ana",
        "401 Basic",
    ];
    let schemes = [
        (
            Scheme::PasswordBearer,
            "OAUTH2_PASSWORD_BEARER",
            bearer_only,
        ),
        (Scheme::Basic, "HTTP_BASIC", with_basic),
        (Scheme::NoAuth, "NO_AUTH", ["default"; 11]),
    ];
    for (scheme, name, wanted) in schemes {
        let (server, _) = server(scheme);
        let info = server.get("/api/v1/info").await.expect(200).json();
        assert_eq!(info["auth_scheme"], name);
        let login = ana_logs_in(&server).await.expect(200);
        let token = login.json()["access_token"].as_str().unwrap().to_owned();
        let cookie = login.header("set-cookie").unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let (authorization, cookies) = (AUTHORIZATION.as_str(), COOKIE.as_str());
        for (kind, wanted) in kinds.into_iter().zip(wanted) {
            let (header, value) = match kind {
                "nothing" => ("accept", "*/*".to_owned()),
                "junk" => (authorization, bearer("junk")),
                "basic" => (authorization, basic("ana", "password of ana")),
                "wrong basic" => (authorization, basic("ana", "password of eve")),
                "bad basic" => (authorization, "Basic ***".to_owned()),
                "key" => (authorization, bearer(&server.key.text())),
                "wrong key" => (authorization, bearer(&super::support::key_text(99).text())),
                "token" => (authorization, bearer(&token)),
                "key's token" => (authorization, bearer(&server.token().await)),
                "cookie" => (cookies, cookie.clone()),
                _ => (cookies, "zenml-server-x=junk".to_owned()),
            };
            let answer = ask(&server, header, &value).await;
            assert_eq!(outcome(&answer), wanted, "{name}: {kind}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_pair_is_tried_once_and_counts_as_long_as_it_is_right() {
    let (server, ana) = server(Scheme::Basic);
    let asked = (0..30).map(|_| as_ana(&server));
    for answer in futures::future::join_all(asked).await {
        answer.expect(200);
    }
    for _ in 0..30 {
        as_ana(&server).await.expect(200);
    }
    assert_eq!(tried(&server, "Granted"), 1);
    // By id too, which is another pair.
    let by_id = basic(&ana.to_string(), "password of ana");
    ask(&server, "authorization", &by_id).await.expect(200);
    assert_eq!(tried(&server, "Granted"), 2);

    change_user(&server, ana, |ana| ana.active = false);
    let refused = as_ana(&server).await.expect(401);
    assert!(refused.body.contains("not active"), "{}", refused.body);
    change_user(&server, ana, |ana| ana.active = true);
    as_ana(&server).await.expect(200);

    // Another has the name now, and no such password.
    change_user(&server, ana, |ana| ana.name = "anna".into());
    as_ana(&server).await.expect(401);
    server.change(|state| support::add_user(state, 5, "ana", false));
    let other = as_ana(&server).await.expect(200).json();
    assert_ne!(other["id"], ana.to_string());
    change_user(&server, ana, |ana| ana.name = "ana".into());
    assert_eq!(
        as_ana(&server).await.expect(200).json()["id"],
        ana.to_string()
    );

    server.change(|state| {
        let password = "battery staple".parse().unwrap();
        let pepper = state.keyring.pepper();
        let verifier = Verifier::new(pepper, ana, &password, [9; 16]).unwrap();
        let credential = Credential::Password(verifier);
        state.directory.set_credential(ana, credential);
    });
    as_ana(&server).await.expect(401);
    let new = basic("ana", "battery staple");
    ask(&server, "authorization", &new).await.expect(200);
}

/// Also the right guess is refused then, at the address of who guesses; the user elsewhere goes on.
#[tokio::test]
async fn who_guesses_pairs_is_told_to_wait_and_learns_nothing_from_what_is_remembered() {
    let (server, _) = server(Scheme::Basic);
    let served = Served::of(server, Limits::default()).await;
    set(&served.server, |settings| {
        settings.scheme = Scheme::Basic;
        settings.proxies = Proxies::new(["127.0.0.0/8"].into_iter());
        settings.login_rates = "5/m".parse().unwrap();
    });
    let ask = async |from: &str, password: &str| {
        let pair = basic("ana", password);
        let request = format!(
            "GET {ME} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-for: {from}\r\n\
             authorization: {pair}\r\n\r\n"
        );
        statuses(&served.exchange(request.as_bytes()).await)[0]
    };
    let (home, attacker) = ("203.0.113.9", "198.51.100.7");
    let right = "password of ana";
    assert_eq!(ask(home, right).await, 200);
    for n in 0..5 {
        assert_eq!(ask(attacker, &format!("guess {n}")).await, 401);
    }
    for password in ["guess 6", right] {
        assert_eq!(ask(attacker, password).await, 429);
    }
    assert_eq!(ask(home, right).await, 200);
    // Not even in the same house is a right guess told from a wrong one.
    for n in 0..5 {
        assert_eq!(ask(home, &format!("guess {n}")).await, 429);
    }
    assert_eq!(ask(home, right).await, 429);
}

/// A browser sends what it remembers with whatever a page asks for.
#[tokio::test]
async fn a_page_of_another_site_changes_nothing_by_basic_or_without_any_credential() {
    for scheme in [Scheme::Basic, Scheme::NoAuth] {
        let (server, _) = server(scheme);
        let put = |site: Option<&str>| {
            let request = request(Method::PUT, ME)
                .header("authorization", basic("ana", "password of ana"))
                .header("content-type", "application/json");
            let request = match site {
                Some(site) => request.header("sec-fetch-site", site),
                None => request,
            };
            server.send(request.body(Body::from(r#"{"full_name":"Eve"}"#)).unwrap())
        };
        for site in ["cross-site", "same-site"] {
            let refused = put(Some(site)).await.expect(403);
            assert!(
                refused.body.contains("This page may not"),
                "{}",
                refused.body
            );
        }
        for own in [None, Some("same-origin")] {
            // It is declared, so it stays as it is; but it was asked.
            put(own).await.expect(409);
        }
    }
}

#[tokio::test]
async fn t04_two_credentials_at_the_token_endpoint_are_none() {
    let (server, _) = server(Scheme::Basic);
    let request = request(Method::POST, "/api/v1/login")
        .header("authorization", basic("ana", "password of ana"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("username=ana&password=password+of+ana"));
    let answer = server.send(request.unwrap()).await.expect(400).json();
    assert_eq!(answer["error"], "invalid_request");
}

#[tokio::test]
async fn without_authentication_there_are_no_devices_and_nobody_without_the_default_user() {
    let (server, _) = server(Scheme::NoAuth);
    let client = "client_id=61394d02-925d-4af1-8159-d0af7a36de63";
    let told = r#"{"detail":"Device authorization is not supported."}"#;
    let poll =
        format!("grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=x&{client}");
    for (path, form) in [("/device_authorization", client), ("/login", &*poll)] {
        let path = format!("/api/v1{path}");
        let answer = server.post_form(&path, form).await.expect(403);
        assert_eq!(answer.body, told);
    }
    let verify = format!("/api/v1/devices/{}/verify", Uuid::nil());
    let put = request(Method::PUT, &verify).header("content-type", "application/json");
    let put = put.body(Body::from(r#"{"user_code":"x","trusted_device":true}"#));
    assert_eq!(server.send(put.unwrap()).await.expect(403).body, told);

    // Whether it administers is what it says itself; without it nobody is let in.
    let create = |name: &str| {
        let body = format!(r#"{{"name":"{name}","is_admin":false,"password":"correct horse"}}"#);
        let request = request(Method::POST, "/api/v1/users");
        let request = request.header("content-type", "application/json");
        server.send(request.body(Body::from(body)).unwrap())
    };
    create("eve").await.expect(403);
    let default = server.change(|state| {
        let id = state.directory.user_by_name("default").unwrap().id;
        let mut user = state.directory.remove_user(id).unwrap();
        user.admin = true;
        state.directory.put_user(user);
        id
    });
    create("eve").await.expect(200);
    change_user(&server, default, |user| user.active = false);
    let refused = server.get(ME).await.expect(401);
    assert_eq!(refused.json()["detail"][0], "AuthorizationException");
    assert!(refused.body.contains("make a ZenUser"), "{}", refused.body);
}

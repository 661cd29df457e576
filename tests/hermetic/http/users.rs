//! Users: how they log in, what they see, who changes them, and how they come to a password.

use axum::http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    auth::{
        credential::Credential,
        directory::{Origin, User},
    },
    http::Options,
    store::NotChanged,
};

use super::{
    client::{Answer, Server, bearer, now, request},
    limits::set,
    support,
};

const LOGIN: &str = "/api/v1/login";
pub const ME: &str = "/api/v1/current-user";
pub const USERS: &str = "/api/v1/users";

/// A server with administrator `ana` and user `bo`.
pub struct Scene {
    pub server: Server,
    ana: Uuid,
    pub bo: Uuid,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(now)
    }

    fn with(clock: fn() -> jiff::Timestamp) -> Self {
        let server = Server::with(Options::default(), clock);
        let (ana, bo) = server.change(|state| {
            (
                support::add_user(state, 1, "ana", true),
                support::add_user(state, 2, "bo", false),
            )
        });
        Self { server, ana, bo }
    }

    async fn form(&self, fields: &[(&str, &str)]) -> Answer {
        let form = serde_urlencoded::to_string(fields).unwrap();
        self.server.post_form(LOGIN, &form).await
    }

    async fn login(&self, name: &str, password: &str) -> Answer {
        let fields = [
            ("grant_type", "password"),
            ("username", name),
            ("password", password),
        ];
        self.form(&fields).await
    }

    /// The cookie of a browser in which somebody logged in.
    pub async fn cookie(&self, name: &str) -> String {
        let answer = self.login(name, &format!("password of {name}")).await;
        let answer = answer.expect(200);
        let set = answer.header("set-cookie").unwrap();
        set.split(';').next().unwrap().to_owned()
    }

    pub async fn token(&self, name: &str) -> String {
        let answer = self.login(name, &format!("password of {name}")).await;
        text(&answer.expect(200).json()["access_token"])
    }

    pub async fn send(&self, credential: &str, method: Method, path: &str, body: &Value) -> Answer {
        let request = request(method, path)
            .header("authorization", bearer(credential))
            .header("content-type", "application/json");
        let body = axum::body::Body::from(body.to_string());
        self.server.send(request.body(body).unwrap()).await
    }

    pub async fn put(&self, credential: &str, path: &str, body: &Value) -> Answer {
        self.send(credential, Method::PUT, path, body).await
    }

    fn change_user(&self, id: Uuid, change: impl FnOnce(&mut User)) {
        self.server.change(|state| {
            let mut user = state.directory.remove_user(id).unwrap();
            change(&mut user);
            state.directory.put_user(user);
        });
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A refusal as ZenML raises it.
pub fn refused(answer: Answer, status: u16, class: &str, says: &str) {
    let detail = answer.expect(status).json()["detail"].clone();
    assert_eq!(detail[0], class);
    assert!(text(&detail[1]).contains(says), "{detail}");
}

#[tokio::test]
async fn a_user_logs_in_by_name_or_id_with_or_without_a_grant() {
    let scene = Scene::new();
    let (id, password) = (scene.ana.to_string(), "password of ana");
    for fields in [
        &[
            ("grant_type", "password"),
            ("username", "ana"),
            ("password", password),
        ][..],
        &[("username", "ana"), ("password", password)],
        &[("username", id.as_str()), ("password", password)],
    ] {
        let answer = scene.form(fields).await.expect(200);
        let token = answer.json();
        assert_eq!(token["token_type"], "bearer");
        assert_eq!(token["expires_in"], 3600);
        assert_eq!(token["csrf_token"], Value::Null);
        let me = scene.server.get_as(&text(&token["access_token"]), ME).await;
        let me = me.expect(200).json();
        assert_eq!(me["id"], id);
        assert_eq!(me["name"], "ana");
        assert_eq!(me["body"]["is_admin"], true);
        assert_eq!(me["body"]["is_service_account"], false);
        assert_eq!(me["body"]["active"], true);
        assert!(me["metadata"]["password_changed_at"].is_string());
    }
}

/// Wrong name and wrong password are one: only who knows the password learns more.
#[tokio::test]
async fn a_login_that_fails_tells_nothing() {
    let scene = Scene::new();
    let mut bodies = Vec::new();
    for (name, password) in [
        ("ana", "password of bo"),
        ("ana", ""),
        ("nobody", "password of ana"),
        // A service account is no user.
        ("ci", "password of ana"),
    ] {
        let answer = scene.login(name, password).await.expect(401);
        bodies.push(answer.body.clone());
        refused(
            answer,
            401,
            "CredentialsNotValid",
            "invalid username or password",
        );
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    scene.change_user(scene.ana, |ana| ana.active = false);
    let told = scene.login("ana", "password of ana").await;
    refused(told, 401, "CredentialsNotValid", "user ana is not active");
    let untold = scene.login("ana", "password of bo").await;
    refused(
        untold,
        401,
        "CredentialsNotValid",
        "invalid username or password",
    );
}

/// V03: by name or id, a user has one budget; a stranger has as much, so nobody learns who is there.
#[tokio::test]
async fn h10_too_many_wrong_passwords_are_told_to_wait_and_so_is_the_right_one() {
    let scene = Scene::new();
    set(&scene.server, |settings| {
        settings.login_rates = "4/m,1000/d".parse().unwrap();
    });
    let bo = scene.bo.to_string();
    for _ in 0..2 {
        for name in ["bo", "bo", &bo] {
            scene.login(name, "password of ana").await.expect(401);
        }
        // What succeeds is no failure, and forgets those before.
        scene.login("bo", "password of bo").await.expect(200);
    }
    for name in ["bo", "bo", &bo, &bo] {
        scene.login(name, "password of ana").await.expect(401);
    }
    let told = scene.login("bo", "password of bo").await.expect(429);
    assert!(told.header("retry-after").is_some());
    for _ in 0..4 {
        scene.login("nobody", "password of bo").await.expect(401);
    }
    let unknown = scene.login("nobody", "password of bo").await.expect(429);
    assert_eq!(unknown.body, told.body);
    // Others are not concerned.
    scene.login("ana", "password of ana").await.expect(200);
}

#[tokio::test]
async fn deactivation_an_epoch_and_another_password_end_every_token() {
    let scene = Scene::new();
    let token = scene.token("bo").await;
    let me = async || scene.server.get_as(&token, ME).await.status.as_u16();
    assert_eq!(me().await, 200);
    scene.change_user(scene.bo, |bo| bo.active = false);
    assert_eq!(me().await, 401);
    scene.change_user(scene.bo, |bo| bo.active = true);
    assert_eq!(me().await, 200);
    scene.change_user(scene.bo, |bo| bo.epoch = 1);
    assert_eq!(me().await, 401);
    scene.change_user(scene.bo, |bo| bo.epoch = 0);
    assert_eq!(me().await, 200);
    scene.server.change(|state| {
        support::add_user(state, 2, "bo", false);
        let stolen = state.directory.user(scene.ana).unwrap();
        let stolen = state.directory.credential(stolen).unwrap();
        let stolen = Credential::clone(stolen);
        state.directory.set_credential(scene.bo, stolen);
    });
    assert_eq!(me().await, 401);
    // What stands for another's password is of no use.
    scene.login("bo", "password of ana").await.expect(401);
}

#[tokio::test]
async fn a_browser_has_a_cookie_that_other_pages_cannot_use() {
    let scene = Scene::new();
    let set = scene.login("ana", "password of ana").await.expect(200);
    let cookie = set.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.contains("; HttpOnly; Path=/; SameSite=Lax; Max-Age=3600"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap().to_owned();
    let ask = async |method: Method, extra: &[(&str, &str)]| {
        let mut request = request(method, ME).header("cookie", &pair);
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json");
        scene.server.send(request.body("{}".into()).unwrap()).await
    };
    ask(Method::GET, &[]).await.expect(200);
    ask(Method::GET, &[("sec-fetch-site", "cross-site")])
        .await
        .expect(200);
    ask(Method::PUT, &[("sec-fetch-site", "same-origin")])
        .await
        .expect(200);
    for foreign in ["cross-site", "same-site"] {
        let answer = ask(Method::PUT, &[("sec-fetch-site", foreign)]).await;
        refused(answer, 403, "IllegalOperationError", "This page may not");
    }
    let gone = scene.server.get("/api/v1/logout").await.expect(200);
    assert!(gone.header("set-cookie").unwrap().contains("Max-Age=0"));

    // Keys are not for browsers.
    let login = scene
        .server
        .login(&scene.server.key.text())
        .await
        .expect(200);
    assert_eq!(login.header("set-cookie"), None);

    scene.server.change(|state| {
        let mut settings = zenop::store::Settings::clone(&state.settings);
        settings.url = "https://zen.example.com".into();
        state.settings = settings.into();
    });
    let set = scene.login("ana", "password of ana").await.expect(200);
    let cookie = set.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-zenml-server-") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
}

#[tokio::test]
async fn a_page_of_another_site_gets_no_cookie_and_proves_each_request() {
    let scene = Scene::new();
    let form = "username=ana&password=password+of+ana";
    let login = request(Method::POST, LOGIN)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", "https://dash.example.com")
        .body(form.into());
    let answer = scene.server.send(login.unwrap()).await.expect(200);
    assert_eq!(answer.header("set-cookie"), None);
    let (token, csrf) = (
        text(&answer.json()["access_token"]),
        text(&answer.json()["csrf_token"]),
    );
    let ask = async |given: Option<&str>| {
        let mut request = request(Method::GET, ME).header("authorization", bearer(&token));
        if let Some(given) = given {
            request = request.header("x-csrf-token", given);
        }
        scene.server.send(request.body("".into()).unwrap()).await
    };
    refused(
        ask(None).await,
        401,
        "CredentialsNotValid",
        "missing CSRF token",
    );
    let wrong = csrf.replace(['0', '1', '2', '3'], "4");
    refused(
        ask(Some(&wrong)).await,
        401,
        "CredentialsNotValid",
        "Invalid CSRF token",
    );
    ask(Some(&csrf)).await.expect(200);
}

#[tokio::test]
async fn who_is_no_administrator_sees_and_changes_itself_only() {
    let scene = Scene::new();
    let (ana, bo) = (scene.token("ana").await, scene.token("bo").await);
    let total = async |token: &str| {
        let list = scene.server.get_as(token, USERS).await.expect(200).json();
        list["total"].as_u64().unwrap()
    };
    assert_eq!((total(&ana).await, total(&bo).await), (2, 1));
    for other in ["ana", "nobody"] {
        let path = format!("{USERS}/{other}");
        for (method, action) in [
            (Method::GET, "get other user"),
            (Method::PUT, "update other user account"),
            (Method::DELETE, "delete user"),
        ] {
            let answer = scene.send(&bo, method, &path, &json!({})).await;
            refused(answer, 403, "IllegalOperationError", action);
        }
        let answer = scene
            .put(&bo, &format!("{path}/deactivate"), &json!({}))
            .await;
        refused(answer, 403, "IllegalOperationError", "deactivate user");
    }
    let create = json!({"name": "eve", "is_admin": true});
    let answer = scene.send(&bo, Method::POST, USERS, &create).await;
    refused(answer, 403, "IllegalOperationError", "create user");
    let answer = scene
        .put(&bo, &format!("{USERS}/bo"), &json!({"is_admin": true}))
        .await;
    refused(
        answer,
        403,
        "IllegalOperationError",
        "admin status of your own",
    );
    let seen = scene
        .server
        .get_as(&bo, &format!("{USERS}/bo"))
        .await
        .expect(200)
        .json();
    assert_eq!(seen["metadata"]["password_changed_at"], Value::Null);
    let missing = scene.server.get_as(&ana, &format!("{USERS}/nobody")).await;
    refused(
        missing,
        404,
        "KeyError",
        "No user account with the 'nobody' name or ID",
    );
}

#[tokio::test]
async fn a_user_is_made_activated_once_changed_and_deleted() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "full_name": "Eve", "is_admin": false, "password": null});
    let made = scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(200)
        .json();
    assert_eq!(made["body"]["active"], false);
    assert_eq!(made["body"]["full_name"], "Eve");
    let token = text(&made["body"]["activation_token"]);
    let again = scene.send(&ana, Method::POST, USERS, &create).await;
    refused(
        again,
        409,
        "EntityExistsError",
        "Unable to create user with name 'eve'",
    );

    let path = format!("{USERS}/eve/activate");
    let activate = async |token: &str, password: &str| {
        let body = json!({"activation_token": token, "password": password});
        let request = request(Method::PUT, &path).header("content-type", "application/json");
        let request = request.body(body.to_string().into()).unwrap();
        scene.server.send(request).await
    };
    let bad = "invalid activation token";
    refused(
        activate("", "password of eve").await,
        401,
        "CredentialsNotValid",
        bad,
    );
    refused(
        activate(&"0".repeat(64), "password of eve").await,
        401,
        "CredentialsNotValid",
        bad,
    );
    let weak = activate(&token, "short").await.expect(422).json();
    assert_eq!(
        weak,
        json!(["ValueError", "a password has at least 8 bytes."])
    );
    let active = activate(&token, "password of eve").await.expect(200).json();
    assert_eq!(active["body"]["active"], true);
    assert_eq!(active["body"]["activation_token"], Value::Null);
    refused(
        activate(&token, "password of mallory").await,
        401,
        "CredentialsNotValid",
        bad,
    );
    let eve = scene.token("eve").await;

    // Shut out, and back with another token.
    let shut = scene
        .put(&ana, &format!("{USERS}/eve/deactivate"), &json!({}))
        .await;
    let second = text(&shut.expect(200).json()["body"]["activation_token"]);
    assert_ne!(second, token);
    assert_eq!(scene.server.get_as(&eve, ME).await.status, 401);
    scene.login("eve", "password of eve").await.expect(401);
    activate(&second, "password of eve").await.expect(200);
    scene.token("eve").await;
}

#[tokio::test]
async fn a_user_is_renamed_and_deleted() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "is_admin": false, "password": "password of eve"});
    let made = scene.send(&ana, Method::POST, USERS, &create).await;
    assert_eq!(made.expect(200).json()["body"]["active"], true);
    let renamed = scene
        .put(&ana, &format!("{USERS}/eve"), &json!({"name": "eva"}))
        .await;
    assert_eq!(renamed.expect(200).json()["name"], "eva");
    let taken = scene
        .put(&ana, &format!("{USERS}/eva"), &json!({"name": "bo"}))
        .await;
    refused(
        taken,
        409,
        "EntityExistsError",
        "Unable to update user with name 'bo'",
    );
    let path = format!("{USERS}/eva");
    scene
        .send(&ana, Method::DELETE, &path, &Value::Null)
        .await
        .expect(200);
    assert_eq!(scene.server.get_as(&ana, &path).await.status, 404);
}

/// Of two who bring the same token at the same time, one chooses the password.
#[tokio::test]
async fn a_token_that_is_raced_is_used_once() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "is_admin": false});
    let made = scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(200)
        .json();
    let token = text(&made["body"]["activation_token"]);
    let race = (0..8).map(|n| {
        let body = json!({"activation_token": token, "password": format!("password {n}")});
        let request = request(Method::PUT, &format!("{USERS}/eve/activate"))
            .header("content-type", "application/json")
            .body(body.to_string().into());
        scene.server.send(request.unwrap())
    });
    let answers = futures::future::join_all(race).await;
    let statuses: Vec<u16> = answers.iter().map(|a| a.status.as_u16()).collect();
    assert_eq!(
        statuses.iter().filter(|s| **s == 200).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|s| matches!(s, 200 | 401)),
        "{statuses:?}"
    );
    let winner = statuses.iter().position(|s| *s == 200).unwrap();
    scene
        .login("eve", &format!("password {winner}"))
        .await
        .expect(200);
}

#[tokio::test]
async fn an_activation_token_ends_with_its_time() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "is_admin": false});
    let made = scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(200)
        .json();
    let token = text(&made["body"]["activation_token"]);
    let late = || now() + SignedDuration::from_hours(72);
    let later = support::ground(&scene.server.store, late);
    let mut registry = prometheus_client::registry::Registry::default();
    let app = zenop::http::App::new(later, &mut registry, Options::default());
    let body = json!({"activation_token": token, "password": "password of eve"});
    let request = request(Method::PUT, &format!("{USERS}/eve/activate"))
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body.to_string()));
    let answer = tower::ServiceExt::oneshot(app.router(), request.unwrap()).await;
    assert_eq!(answer.unwrap().status(), 401);
}

/// H10: who holds a session, and not the password, guesses no faster than at the login.
#[tokio::test]
async fn h10_wrong_old_passwords_are_limited_as_logins_are() {
    let scene = Scene::new();
    set(&scene.server, |settings| {
        settings.login_rates = "4/m,1000/d".parse().unwrap();
    });
    let token = scene.token("bo").await;
    let change = async |old: &str| {
        let body = json!({"password": "battery staple", "old_password": old});
        scene.put(&token, ME, &body).await
    };
    for _ in 0..3 {
        change("wrong").await.expect(403);
    }
    scene.login("bo", "wrong").await.expect(401);
    let limited = change("password of bo").await.expect(429);
    assert!(limited.header("retry-after").is_some());
    scene.login("bo", "password of bo").await.expect(429);
    scene.login("ana", "password of ana").await.expect(200);
}

#[tokio::test]
async fn a_user_changes_its_password_with_the_one_before() {
    let scene = Scene::new();
    let token = scene.token("bo").await;
    let change = async |token: &str, body: Value| scene.put(token, ME, &body).await;
    let illegal = "IllegalOperationError";
    let bare = change(&token, json!({"password": "battery staple"})).await;
    refused(bare, 403, illegal, "current password must be supplied");
    let wrong = json!({"password": "battery staple", "old_password": "wrong"});
    refused(
        change(&token, wrong).await,
        403,
        illegal,
        "current password is incorrect",
    );
    let right = json!({"password": "battery staple", "old_password": "password of bo"});
    change(&token, right).await.expect(200);
    assert_eq!(scene.server.get_as(&token, ME).await.status, 401);
    scene.login("bo", "password of bo").await.expect(401);
    scene.login("bo", "battery staple").await.expect(200);

    let ana = scene.token("ana").await;
    let others = json!({"password": "battery staple", "old_password": "password of ana"});
    let answer = scene.put(&ana, &format!("{USERS}/bo"), &others).await;
    refused(
        answer,
        403,
        illegal,
        "cannot change the password of other users",
    );
    scene.change_user(scene.ana, |ana| ana.origin = Origin::Secret("vault".into()));
    let declared = json!({"password": "battery staple", "old_password": "password of ana"});
    refused(
        change(&ana, declared).await,
        403,
        illegal,
        "comes from Secret vault",
    );
}

#[tokio::test]
async fn the_last_administrator_stays_and_declared_users_are_told_of() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let illegal = "IllegalOperationError";
    let path = format!("{USERS}/ana");
    let own = scene.send(&ana, Method::DELETE, &path, &Value::Null).await;
    refused(
        own,
        403,
        illegal,
        "cannot delete the user account currently used",
    );
    let own = scene
        .put(&ana, &format!("{path}/deactivate"), &json!({}))
        .await;
    refused(own, 403, illegal, "Cannot deactivate yourself");
    // By a service account that administers too.
    scene.server.change_account(|account| account.admin = true);
    let key = scene.server.key.text();
    let last = scene.send(&key, Method::DELETE, &path, &Value::Null).await;
    refused(last, 403, illegal, "at least one admin account");
    for body in [json!({"active": false}), json!({"is_admin": false})] {
        refused(
            scene.put(&key, &path, &body).await,
            403,
            illegal,
            "at least one admin",
        );
    }
    let last = scene
        .put(&key, &format!("{path}/deactivate"), &json!({}))
        .await;
    refused(last, 403, illegal, "at least one active admin");

    let bo = format!("{USERS}/bo");
    let declared = scene.send(&ana, Method::DELETE, &bo, &Value::Null).await;
    refused(declared, 403, illegal, "declared in Kubernetes");
    let declared = scene.put(&ana, &bo, &json!({"is_admin": true})).await;
    refused(declared, 409, "EntityExistsError", "declared in Kubernetes");
    let declared = scene
        .put(&ana, &format!("{bo}/deactivate"), &json!({}))
        .await;
    refused(declared, 409, "EntityExistsError", "declared in Kubernetes");
    scene.login("bo", "password of bo").await.expect(200);
    let open = scene
        .put("", "/api/v1/activate", &json!({"admin_username": "eve"}))
        .await;
    refused(open, 403, illegal, "The server is already active.");
}

/// A user that cannot be given a password is not left behind.
#[tokio::test]
async fn a_user_is_made_whole_or_not_at_all() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    scene.server.store.set_failure(Some(NotChanged::Forbidden));
    let create = json!({"name": "eve", "is_admin": false, "password": "password of eve"});
    scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(500);
    scene.server.store.set_failure(None);
    scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(200);
    scene.token("eve").await;
}

//! The device flow, told by the rows of the attacks that it must stand.

use std::cell::Cell;

use axum::{
    Router,
    body::Body,
    http::{Method, header::AUTHORIZATION},
};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    auth::device::{Device, Terms},
    http::{App, Options},
    store::{NotChanged, Settings},
};

use super::{
    client::{Answer, Server, bearer, now, request},
    support,
};

const START: &str = "/api/v1/device_authorization";
const LOGIN: &str = "/api/v1/login";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CLIENT: Uuid = Uuid::from_u128(0xc11e_0000_0000_4000_8000_0000_0000_0001);
const OTHER: Uuid = Uuid::from_u128(0xc11e_0000_0000_4000_8000_0000_0000_0002);

thread_local! {
    static SHIFT: Cell<i64> = const { Cell::new(0) };
}

/// A clock that each test moves for itself: a test and its server are one thread.
fn moved() -> Timestamp {
    now() + SignedDuration::from_secs(SHIFT.get())
}

fn pass(seconds: i64) {
    SHIFT.set(SHIFT.get() + seconds);
}

fn server() -> Server {
    SHIFT.set(0);
    Server::with(Options::default(), moved)
}

fn change_settings(server: &Server, change: impl FnOnce(&mut Settings)) {
    server.change(|state| {
        let mut settings = (*state.settings).clone();
        change(&mut settings);
        state.directory.set_terms(settings.devices);
        state.settings = settings.into();
    });
}

/// What a device was told.
#[derive(Clone)]
struct Begun {
    client: Uuid,
    device: String,
    device_code: String,
    user_code: String,
}

async fn begin(server: &Server, client: Uuid) -> Begun {
    let form = format!("client_id={client}");
    let told = server.post_form(START, &form).await.expect(200).json();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let link = text("verification_uri_complete");
    let device = link.split(['=', '&']).nth(1).unwrap().to_owned();
    Begun {
        client,
        device,
        device_code: text("device_code"),
        user_code: text("user_code"),
    }
}

impl Begun {
    fn form(&self) -> String {
        let (client, code) = (self.client, &self.device_code);
        let form = [
            ("grant_type", GRANT),
            ("client_id", &client.to_string()),
            ("device_code", code),
        ];
        serde_urlencoded::to_string(form).unwrap()
    }

    async fn poll(&self, server: &Server) -> Answer {
        server.post_form(LOGIN, &self.form()).await
    }

    /// Polls, and is refused with this error.
    async fn refused(&self, server: &Server, error: &str) {
        let answer = self.poll(server).await;
        assert_oauth(&answer, error);
    }

    async fn approve(&self, server: &Server, credential: &str, trusted: bool) -> Answer {
        let body = json!({"user_code": self.user_code, "trusted_device": trusted});
        put(
            server,
            credential,
            &format!("{}/verify", self.device),
            &body,
        )
        .await
    }

    /// Is approved by the first account, and polls. The token.
    async fn token(&self, server: &Server) -> String {
        let key = server.key.text();
        self.approve(server, &key, false).await.expect(200);
        let token = self.poll(server).await.expect(200).json();
        token["access_token"].as_str().unwrap().to_owned()
    }
}

/// The whole of an error that a device is told: one member more, and the real client fails.
fn assert_oauth(answer: &Answer, error: &str) {
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.body);
    let body = answer.json();
    assert_eq!(body["error"], error, "{body}");
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["error", "error_description", "error_uri"]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

async fn send(server: &Server, method: Method, credential: &str, path: &str, body: Body) -> Answer {
    let request = request(method, &format!("/api/v1/devices/{path}"))
        .header(AUTHORIZATION, bearer(credential))
        .header("content-type", "application/json");
    server.send(request.body(body).unwrap()).await
}

async fn put(server: &Server, credential: &str, path: &str, body: &Value) -> Answer {
    send(
        server,
        Method::PUT,
        credential,
        path,
        body.to_string().into(),
    )
    .await
}

async fn delete(server: &Server, credential: &str, path: &str) -> Answer {
    send(server, Method::DELETE, credential, path, Body::empty()).await
}

async fn acts(server: &Server, token: &str) -> Answer {
    server.get_as(token, "/api/v1/current-user").await
}

fn count(server: &Server) -> usize {
    server.change(|state| state.directory.devices().count())
}

fn claims(token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Another account with a key, as a person at the same machine.
fn another(server: &Server) -> (Uuid, String) {
    server.change(|state| {
        let account = support::add_account(state, 2, "bot");
        let key = support::add_key(state, account, 2, "default");
        (account, key.text().to_string())
    })
}

#[tokio::test]
async fn a_device_is_authorized_used_and_ended() {
    let server = server();
    let key = server.key.text();
    let begun = begin(&server, CLIENT).await;
    begun.refused(&server, "authorization_pending").await;
    let code = format!(
        "/api/v1/devices/{}?user_code={}",
        begun.device, begun.user_code
    );
    let pending = server.get_as(&key, &code).await.expect(200).json();
    assert_eq!(pending["body"]["status"], "pending");
    assert_eq!(pending["resources"]["user"], Value::Null);

    let verified = begun.approve(&server, &key, true).await.expect(200).json();
    assert_eq!(verified["body"]["status"], "verified");
    assert_eq!(verified["body"]["user_id"], json!(server.account));
    assert_eq!(verified["resources"]["user"]["name"], "ci");
    assert!(verified.get("name").is_none(), "devices have none");

    let granted = begun.poll(&server).await.expect(200);
    assert_eq!(granted.header("cache-control"), Some("no-store"));
    let granted = granted.json();
    assert_eq!(granted["expires_in"], 30 * 86_400, "trusted");
    let token = granted["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["device_id"], json!(begun.device));
    assert_eq!(acts(&server, token).await.expect(200).json()["name"], "ci");

    let list = server.get_as(token, "/api/v1/devices?hydrate=True&sort_by=desc:created");
    let list = list.await.expect(200).json();
    assert_eq!(
        (&list["total"], &list["items"][0]["body"]["status"]),
        (&json!(1), &json!("active"))
    );
    assert_eq!(list["items"][0]["body"]["trusted_device"], true);

    let lock = json!({"locked": true});
    put(&server, &key, &begun.device, &lock).await.expect(200);
    let told = acts(&server, token).await.expect(401).json();
    let told = told["detail"][1].as_str().unwrap().to_owned();
    assert_eq!(
        told,
        format!(
            "Authentication error: device {} is not active",
            begun.device
        )
    );
    let unlock = json!({"locked": false});
    put(&server, &key, &begun.device, &unlock).await.expect(200);
    acts(&server, token).await.expect(200);
    delete(&server, &key, &begun.device).await.expect(200);
    acts(&server, token).await.expect(401);
    delete(&server, &key, &begun.device).await.expect(404);
}

#[tokio::test]
async fn an_untrusted_device_lives_a_day_and_unlocking_revives_nothing_that_is_over() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    let token = begun.token(&server).await;
    let claims = claims(&token);
    let issued = Timestamp::from_second(claims["iat"].as_f64().unwrap() as i64).unwrap();
    assert_eq!(claims["exp"], issued.as_second() + 86_400);
    pass(86_399);
    acts(&server, &token).await.expect(200);
    pass(1);
    acts(&server, &token).await.expect(401);
    let key = server.key.text();
    put(&server, &key, &begun.device, &json!({"locked": false}))
        .await
        .expect(200);
    acts(&server, &token).await.expect(401);
}

#[tokio::test]
async fn d01_d07_a_start_without_one_client_id_is_refused() {
    let server = server();
    for form in [
        "",
        "client_id=",
        "client_id=x",
        &format!("client_id={CLIENT}&client_id={OTHER}"),
    ] {
        let answer = server.post_form(START, form).await.expect(422);
        assert_eq!(answer.json()[0], "ValueError", "{form}");
    }
}

#[tokio::test]
async fn d05_start_knows_post_only() {
    let server = server();
    for method in [Method::GET, Method::PUT] {
        let request = request(method, START).body(Body::empty()).unwrap();
        let answer = server.send(request).await.expect(405);
        assert_eq!(answer.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn d06_d09_a_start_is_a_short_form() {
    let server = server();
    let send = async |kind: &str, body: String| {
        let request = request(Method::POST, START).header("content-type", kind);
        server.send(request.body(Body::from(body)).unwrap()).await
    };
    let body = json!({"client_id": CLIENT}).to_string();
    send("application/json", body).await.expect(422);
    send("multipart/form-data; boundary=x", String::new())
        .await
        .expect(403);
    let long = format!("client_id={CLIENT}&x={}", "x".repeat(16 << 10));
    send("application/x-www-form-urlencoded", long)
        .await
        .expect(413);
}

#[tokio::test]
async fn d08_there_are_no_scopes() {
    let server = server();
    let form = format!("client_id={CLIENT}&scope=admin");
    assert_oauth(&server.post_form(START, &form).await, "invalid_scope");
    let form = format!("client_id={CLIENT}&scope=&device_id={OTHER}");
    server.post_form(START, &form).await.expect(200);
}

#[tokio::test]
async fn d10_d12_a_start_leaves_nothing_and_is_not_kept() {
    let server = server();
    for _ in 0..200 {
        let form = format!("client_id={CLIENT}");
        let answer = server.post_form(START, &form).await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(count(&server), 0);
}

#[tokio::test]
async fn d15_d16_who_waits_is_told_so_and_who_cannot_wait_too() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun.refused(&server, "authorization_pending").await;
    pass(5);
    begun.refused(&server, "authorization_pending").await;
    pass(1);
    begun.refused(&server, "slow_down").await;
    pass(5);
    begun.refused(&server, "slow_down").await;
    pass(15);
    begun.refused(&server, "authorization_pending").await;
    // An approval is not kept from who was too fast.
    begun.token(&server).await;
}

#[tokio::test]
async fn d18_d31_a_code_is_over_in_time_whatever_the_clock_does() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    pass(-600);
    begun.refused(&server, "invalid_grant").await;
    pass(600 + 299);
    begun.refused(&server, "authorization_pending").await;
    pass(1);
    begun.refused(&server, "expired_token").await;
    let late = begun.approve(&server, &server.key.text(), false).await;
    assert!(
        late.expect(400)
            .body
            .contains("device verification expired")
    );
}

#[tokio::test]
async fn d18_an_approval_that_nobody_took_up_in_time_is_over() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    pass(300);
    begun.refused(&server, "expired_token").await;
}

/// D20, D26, D32: one text is the code, and no other is.
#[tokio::test]
async fn d20_d26_d32_no_other_text_is_the_code() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    let code = begun.device_code.clone();
    let mut others = vec![
        begun.user_code.clone(),
        code[1..].to_owned(),
        code[..code.len() - 1].to_owned(),
        format!("{code}A"),
        format!("{code}="),
        format!(" {code}"),
        code.to_lowercase(),
        "A".repeat(10_000),
    ];
    for at in 0..code.len() {
        let mut flipped = code.clone().into_bytes();
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        others.push(String::from_utf8(flipped).unwrap());
    }
    for device_code in others {
        if device_code != code {
            let changed = Begun {
                device_code,
                ..begun.clone()
            };
            changed.refused(&server, "invalid_grant").await;
        }
    }
    begun.poll(&server).await.expect(200);
}

#[tokio::test]
async fn d21_d22_a_code_is_of_the_client_that_it_was_given_to() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    let stolen = Begun {
        client: OTHER,
        ..begun.clone()
    };
    stolen.refused(&server, "invalid_grant").await;
    let form = format!("grant_type={GRANT}&device_code={}", begun.device_code);
    let answer = server.post_form(LOGIN, &form).await.expect(400);
    assert!(
        answer
            .body
            .contains("device code and client ID are required")
    );
    begun.poll(&server).await.expect(200);
}

#[tokio::test]
async fn d23_d24_a_code_is_redeemed_once() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    let polls = (0..100).map(|_| begun.poll(&server));
    let answers = futures::future::join_all(polls).await;
    let granted = answers.iter().filter(|a| a.status.is_success()).count();
    assert_eq!(granted, 1);
    begun.refused(&server, "expired_token").await;
    // Nor is it approved again.
    let again = begun.approve(&server, &server.key.text(), false).await;
    assert!(again.expect(400).body.contains("not pending verification"));
}

/// D29: between any two steps, all that a process knows may be lost.
#[tokio::test]
async fn d29_a_restart_between_any_two_steps_changes_nothing() {
    let mut server = server();
    let restart = |server: &mut Server| {
        let ground = support::ground(&server.store, moved);
        let app = App::new(ground, &mut Registry::default(), Options::default());
        server.router = Router::new().merge(app.router());
    };
    let begun = begin(&server, CLIENT).await;
    restart(&mut server);
    begun.refused(&server, "authorization_pending").await;
    restart(&mut server);
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    restart(&mut server);
    let granted = begun.poll(&server).await.expect(200).json();
    restart(&mut server);
    let token = granted["access_token"].as_str().unwrap();
    acts(&server, token).await.expect(200);
    begun.refused(&server, "expired_token").await;
}

/// Its own end comes first, whatever happens to the clock and to the key that sealed it.
#[tokio::test]
async fn d30_d31_a_code_of_a_previous_key_is_good_until_its_own_end() {
    for (before, between, good) in [(0, 0, true), (200, 99, true), (200, 100, false)] {
        let server = server();
        let key = server.key.text();
        let begun = begin(&server, CLIENT).await;
        pass(before);
        let month = moved() + SignedDuration::from_hours(720);
        server.change(|state| state.keyring = support::rotated(1, month, 2));
        let approved = begun.approve(&server, &key, true).await;
        approved.expect(200);
        pass(between);
        match good {
            true => drop(begun.token(&server).await),
            false => begun.refused(&server, "expired_token").await,
        }
        // New ones are sealed by the new key, and the old one may go.
        let begun = begin(&server, OTHER).await;
        server.change(|state| state.keyring = support::rotated(3, month, 2));
        begun.refused(&server, "authorization_pending").await;
    }
}

#[tokio::test]
async fn d30_a_code_of_a_revoked_key_is_nothing() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    server.change(|state| state.keyring = support::keyring(2));
    begun.refused(&server, "invalid_grant").await;
}

#[tokio::test]
async fn v15_v22_a_code_is_approved_once_by_one() {
    let server = server();
    let (_, bot) = another(&server);
    let begun = begin(&server, CLIENT).await;
    let key = server.key.text();
    begun.approve(&server, &key, true).await.expect(200);
    let twice = begun.approve(&server, &key, false).await.expect(200).json();
    assert_eq!(
        twice["body"]["trusted_device"], true,
        "the first decision stays"
    );
    let theirs = begun.approve(&server, &bot, false).await.expect(400);
    assert!(theirs.body.contains("associated with another user"));
    assert_eq!(count(&server), 1);
}

#[tokio::test]
async fn v19_v20_who_may_not_log_in_gets_no_token_by_a_device() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    server.change_account(|account| account.active = false);
    begun.refused(&server, "invalid_grant").await;
    server.change_account(|account| account.active = true);
    let key = server.key.text();
    put(&server, &key, &begun.device, &json!({"locked": true}))
        .await
        .expect(200);
    begun.refused(&server, "access_denied").await;
    put(&server, &key, &begun.device, &json!({"locked": false}))
        .await
        .expect(200);
    let granted = begun.poll(&server).await.expect(200).json();
    let token = granted["access_token"].as_str().unwrap();
    server.change_account(|account| account.active = false);
    acts(&server, token).await.expect(401);
}

#[tokio::test]
async fn wrong_user_codes_end_a_decision_and_not_those_of_others() {
    let server = server();
    let key = server.key.text();
    let (begun, other) = (begin(&server, CLIENT).await, begin(&server, OTHER).await);
    let wrong = Begun {
        user_code: other.user_code.clone(),
        ..begun.clone()
    };
    for told in [
        "invalid user code",
        "invalid user code",
        "too many failed",
        "too many failed",
    ] {
        let answer = wrong.approve(&server, &key, false).await.expect(400);
        assert!(answer.body.contains(told), "{}", answer.body);
    }
    begun.approve(&server, &key, false).await.expect(400);
    other.approve(&server, &key, false).await.expect(200);
}

#[tokio::test]
async fn of_others_devices_nothing_can_be_seen_or_changed() {
    let server = server();
    let (_, bot) = another(&server);
    let begun = begin(&server, CLIENT).await;
    begun.token(&server).await;
    let list = server.get_as(&bot, "/api/v1/devices").await.expect(200);
    assert_eq!(list.json()["total"], 0);
    let path = format!("/api/v1/devices/{}", begun.device);
    let with_code = format!("{path}?user_code={}", begun.user_code);
    for path in [path, with_code] {
        server.get_as(&bot, &path).await.expect(404);
    }
    put(&server, &bot, &begun.device, &json!({"locked": true}))
        .await
        .expect(404);
    delete(&server, &bot, &begun.device).await.expect(404);
}

#[tokio::test]
async fn two_on_one_machine_have_a_device_each_and_a_start_knocks_nobody_out() {
    let server = server();
    let (_, bot) = another(&server);
    let first = begin(&server, CLIENT).await;
    let token = first.token(&server).await;
    let second = begin(&server, CLIENT).await;
    acts(&server, &token).await.expect(200);
    second.approve(&server, &bot, false).await.expect(200);
    second.poll(&server).await.expect(200);
    acts(&server, &token).await.expect(200);
    assert_eq!(count(&server), 2);
    // Another approval by the same person takes the place of the former, and of its token.
    pass(1);
    let third = begin(&server, CLIENT).await;
    acts(&server, &token).await.expect(200);
    let renewed = third.token(&server).await;
    acts(&server, &token).await.expect(401);
    acts(&server, &renewed).await.expect(200);
    assert_eq!(count(&server), 2);
    // What was replaced is not approved again.
    first
        .approve(&server, &server.key.text(), false)
        .await
        .expect(400);
    acts(&server, &renewed).await.expect(200);
}

#[tokio::test]
async fn the_policy_is_kept() {
    let server = server();
    let key = server.key.text();
    change_settings(&server, |settings| {
        settings.devices = Terms {
            at_most: 1,
            trust_allowed: false,
            ..Terms::default()
        };
        settings.public_url = Some("https://zenml.example.org/x".into());
    });
    let form = format!("client_id={CLIENT}");
    let told = server.post_form(START, &form).await.expect(200).json();
    assert_eq!(
        told["verification_uri"],
        "https://zenml.example.org/x/devices/verify"
    );
    let (one, two) = (begin(&server, CLIENT).await, begin(&server, OTHER).await);
    let refused = one.approve(&server, &key, true).await.expect(403);
    assert!(refused.body.contains("trustAllowed"), "{}", refused.body);
    one.approve(&server, &key, false).await.expect(200);
    let refused = two.approve(&server, &key, false).await.expect(403);
    assert!(refused.body.contains("maxPerUser"), "{}", refused.body);
    // One that is over makes room.
    pass(300);
    let two = begin(&server, OTHER).await;
    two.approve(&server, &key, false).await.expect(200);
}

/// Who may write objects, and no more, gets no token: not for a device of its own making, nor for
/// another account by changing one.
#[tokio::test]
async fn an_approval_that_the_server_did_not_write_is_none() {
    let server = server();
    let (victim, _) = another(&server);
    let begun = begin(&server, CLIENT).await;
    begun
        .approve(&server, &server.key.text(), false)
        .await
        .expect(200);
    server.change(|state| {
        let uid = state.directory.devices().next().unwrap().uid;
        let mut device: Device = state.directory.remove_device(uid).unwrap();
        device.approval.account = victim;
        device.account_object = "bot".into();
        state.directory.put_device(device);
    });
    begun.refused(&server, "invalid_grant").await;
}

#[tokio::test]
async fn what_kubernetes_does_not_do_is_told_so_that_the_client_goes_on() {
    let server = server();
    let begun = begin(&server, CLIENT).await;
    let key = server.key.text();
    server.store.set_failure(Some(NotChanged::Unreachable));
    begun.approve(&server, &key, false).await.expect(503);
    server.store.set_failure(None);
    begun.approve(&server, &key, false).await.expect(200);
    server.store.set_failure(Some(NotChanged::Unreachable));
    begun.refused(&server, "authorization_pending").await;
    server.store.set_failure(None);
    begun.poll(&server).await.expect(200);
}

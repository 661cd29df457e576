//! Accounts and keys made and changed by an administrator (zenml-wire.md 8).

use axum::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    http::{Access, Options, routes},
    store::NotChanged,
};

use super::{
    client::{Answer, Server, bearer, request},
    support,
};

const ACCOUNTS: &str = "/api/v1/service_accounts";

/// A server of which `ci` is an administrator.
fn server() -> Server {
    let server = Server::new();
    server.change_account(|account| account.admin = true);
    server
}

/// Sends JSON with the administrator's key.
async fn send(server: &Server, method: Method, path: &str, body: &Value) -> Answer {
    let key = server.key.text();
    send_as(server, &key, method, path, body, None).await
}

async fn send_as(
    server: &Server,
    credential: &str,
    method: Method,
    path: &str,
    body: &Value,
    once: Option<Uuid>,
) -> Answer {
    let mut request = request(method, path)
        .header("authorization", bearer(credential))
        .header("content-type", "application/json")
        .header("x-request-id", "req-1");
    if let Some(once) = once {
        request = request.header("idempotency-key", once.to_string());
    }
    let body = axum::body::Body::from(body.to_string());
    server.send(request.body(body).unwrap()).await
}

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    send(server, Method::POST, path, body).await
}

async fn put(server: &Server, path: &str, body: &Value) -> Answer {
    send(server, Method::PUT, path, body).await
}

async fn delete(server: &Server, path: &str) -> Answer {
    send(server, Method::DELETE, path, &Value::Null).await
}

async fn get(server: &Server, path: &str) -> Answer {
    server.get_as(&server.key.text(), path).await
}

/// An account made by the API, and the path of its keys.
async fn account(server: &Server, name: &str) -> (Value, String) {
    let body = json!({"name": name, "full_name": "", "description": "first bot", "active": true,
                      "avatar_url": null});
    let made = post(server, ACCOUNTS, &body).await.expect(200).json();
    let keys = format!("{ACCOUNTS}/{}/api_keys", made["id"].as_str().unwrap());
    (made, keys)
}

async fn key(server: &Server, keys: &str, name: &str) -> Value {
    let body = json!({"name": name, "description": "Default API key."});
    post(server, keys, &body).await.expect(200).json()
}

fn text(key: &Value) -> &str {
    key["body"]["key"].as_str().unwrap()
}

fn without_ids(answer: &Value) -> String {
    let mut text = serde_json::to_string_pretty(answer).unwrap();
    let ids = [&answer["id"], &answer["body"]["service_account"]["id"]];
    for id in ids.into_iter().filter_map(Value::as_str) {
        text = text.replace(id, "(id)");
    }
    if let Some(key) = answer["body"]["key"].as_str() {
        text = text.replace(key, "(key)");
    }
    text
}

#[tokio::test]
async fn an_account_is_made_shown_changed_and_deleted() {
    let server = server();
    let (made, _) = account(&server, "bot1").await;
    insta::assert_snapshot!("account-made", without_ids(&made));
    let id = made["id"].as_str().unwrap();
    for path in [
        format!("{ACCOUNTS}/bot1"),
        format!("{ACCOUNTS}/{id}"),
        format!("{ACCOUNTS}/{}", id.to_uppercase()),
    ] {
        assert_eq!(get(&server, &path).await.expect(200).json(), made);
    }
    // `null` stays, also when nothing else is sent.
    let unchanged = json!({"name": null, "full_name": null, "description": null, "active": null});
    let path = format!("{ACCOUNTS}/bot1");
    assert_eq!(
        put(&server, &path, &unchanged).await.expect(200).json(),
        made
    );
    let changed = json!({"name": "bot2", "description": "second bot", "active": false});
    let changed = put(&server, &path, &changed).await.expect(200).json();
    assert_eq!(changed["name"], "bot2");
    assert_eq!(changed["id"], made["id"]);
    assert_eq!(changed["body"]["active"], false);
    assert_eq!(changed["metadata"]["description"], "second bot");
    get(&server, &path).await.expect(404);
    let path = format!("{ACCOUNTS}/bot2");
    assert_eq!(delete(&server, &path).await.expect(200).body, "null");
    get(&server, &path).await.expect(404);
    delete(&server, &path).await.expect(404);
}

#[tokio::test]
async fn b3_a_key_is_shown_once_and_never_again() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let made = key(&server, &keys, "default").await;
    insta::assert_snapshot!("key-made", without_ids(&made));
    let shown = text(&made).to_owned();
    server.login(&shown).await.expect(200);
    let path = format!("{keys}/default");
    for path in [keys.clone(), path.clone(), format!("{keys}?hydrate=True")] {
        let answer = get(&server, &path).await.expect(200);
        assert!(!answer.body.contains(&shown), "{path}");
    }
    let renamed = json!({"name": "other", "description": "changed"});
    let renamed = put(&server, &path, &renamed).await.expect(200).json();
    assert_eq!(renamed["body"]["key"], Value::Null);
    assert_eq!(renamed["name"], "other");
    assert_eq!(renamed["metadata"]["description"], "changed");
    assert_eq!(renamed["id"], made["id"]);
    server.login(&shown).await.expect(200);
}

#[tokio::test]
async fn b8_rotation_with_retention_accepts_both_and_without_only_the_new() {
    let options = Options {
        seen_within: std::time::Duration::from_millis(50),
        ..Options::default()
    };
    let server = Server::with(options, super::client::now);
    server.change_account(|account| account.admin = true);
    let (_, keys) = account(&server, "bot1").await;
    let first = key(&server, &keys, "default").await;
    let path = format!("{keys}/default/rotate");
    let rotate = async |minutes: i64| {
        let body = json!({"retain_period_minutes": minutes});
        put(&server, &path, &body).await.expect(200).json()
    };
    let second = rotate(2_000_000 / 4).await;
    insta::assert_snapshot!("key-rotated", without_ids(&second));
    assert_eq!(second["id"], first["id"]);
    for key in [text(&first), text(&second)] {
        server.login(key).await.expect(200);
    }
    let third = rotate(0).await;
    for key in [text(&first), text(&second)] {
        server.login(key).await.expect(401);
    }
    server.login(text(&third)).await.expect(200);
    // Nothing said is no retention.
    let fourth = put(&server, &path, &json!({})).await.expect(200).json();
    server.login(text(&third)).await.expect(401);
    server.login(text(&fourth)).await.expect(200);
}

#[tokio::test]
async fn b16_a_key_is_deactivated_activated_and_deleted_with_its_tokens() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let made = key(&server, &keys, "default").await;
    let answer = server.login(text(&made)).await.expect(200).json();
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let path = format!("{keys}/default");
    let me = async |status| {
        let answer = server.get_as(&token, "/api/v1/current-user").await;
        answer.expect(status);
    };
    me(200).await;
    let set = |active: bool| json!({"active": active});
    let answer = put(&server, &path, &set(false)).await.expect(200).json();
    assert_eq!(answer["body"]["active"], false);
    me(401).await;
    put(&server, &path, &set(true)).await.expect(200);
    me(200).await;
    delete(&server, &path).await.expect(200);
    me(401).await;
    server.login(text(&made)).await.expect(401);
    get(&server, &path).await.expect(404);
}

#[tokio::test]
async fn an_account_takes_its_keys_along() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let made = key(&server, &keys, "default").await;
    delete(&server, &format!("{ACCOUNTS}/bot1"))
        .await
        .expect(200);
    server.login(text(&made)).await.expect(401);
    // Made again under the same name it is another.
    let (_, again) = account(&server, "bot1").await;
    assert_ne!(again, keys);
    server.login(text(&made)).await.expect(401);
}

#[tokio::test]
async fn names_are_taken_once() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    account(&server, "bot2").await;
    key(&server, &keys, "default").await;
    key(&server, &keys, "other").await;
    let account = |name: &str| json!({"name": name, "active": true});
    let taken = [
        (Method::POST, ACCOUNTS.to_owned(), account("bot1")),
        (Method::POST, ACCOUNTS.to_owned(), account("ci")),
        (
            Method::PUT,
            format!("{ACCOUNTS}/bot2"),
            json!({"name": "bot1"}),
        ),
        (Method::POST, keys.clone(), json!({"name": "default"})),
        (
            Method::PUT,
            format!("{keys}/other"),
            json!({"name": "default"}),
        ),
    ];
    let mut told = String::new();
    for (method, path, body) in taken {
        let answer = send(&server, method, &path, &body).await.expect(409);
        assert_eq!(answer.json()["detail"][0], "EntityExistsError");
        told += answer.json()["detail"][1].as_str().unwrap();
        told += "\n";
    }
    insta::assert_snapshot!("names-taken", told);
    // One's own name is not somebody else's.
    put(
        &server,
        &format!("{ACCOUNTS}/bot2"),
        &json!({"name": "bot2"}),
    )
    .await
    .expect(200);
    put(&server, &format!("{keys}/other"), &json!({"name": "other"}))
        .await
        .expect(200);
}

#[tokio::test]
async fn what_is_not_there_is_not_changed() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let nobody = format!("{ACCOUNTS}/00000000-0000-4000-8000-000000000000");
    let missing = [
        (Method::PUT, format!("{ACCOUNTS}/nosuch")),
        (Method::DELETE, format!("{ACCOUNTS}/nosuch")),
        (Method::POST, format!("{nobody}/api_keys")),
        (Method::PUT, format!("{keys}/nosuch")),
        (Method::PUT, format!("{keys}/nosuch/rotate")),
        (Method::DELETE, format!("{keys}/nosuch")),
        (Method::DELETE, format!("{nobody}/api_keys/default")),
    ];
    for (method, path) in missing {
        let answer = send(&server, method, &path, &json!({"name": "x"}))
            .await
            .expect(404);
        assert_eq!(answer.json()["detail"][0], "KeyError", "{path}");
    }
    // Below `api_keys` the account is given by its id.
    for (method, path) in [
        (Method::POST, "bot1/api_keys"),
        (Method::PUT, "bot1/api_keys/default"),
        (Method::PUT, "bot1/api_keys/default/rotate"),
        (Method::DELETE, "bot1/api_keys/default"),
    ] {
        let path = format!("{ACCOUNTS}/{path}");
        let answer = send(&server, method, &path, &json!({"name": "x"}))
            .await
            .expect(422);
        assert_eq!(answer.json()[0], "ValueError");
    }
}

/// What Git owns: nothing changes it, and who does is named.
#[tokio::test]
async fn what_is_declared_is_refused_with_its_owner() {
    let server = server();
    let keys = format!("{ACCOUNTS}/{}/api_keys", server.account);
    let declared = [
        (
            Method::PUT,
            format!("{ACCOUNTS}/ci"),
            json!({"active": false}),
        ),
        (Method::DELETE, format!("{ACCOUNTS}/ci"), Value::Null),
        (
            Method::PUT,
            format!("{keys}/default"),
            json!({"active": false}),
        ),
        (Method::PUT, format!("{keys}/default/rotate"), json!({})),
        (Method::DELETE, format!("{keys}/default"), Value::Null),
    ];
    for (method, path, body) in declared {
        // As ZenML's CLI shows it best.
        let (status, class) = match method == Method::DELETE && path.ends_with("/ci") {
            true => (403, "IllegalOperationError"),
            false => (409, "EntityExistsError"),
        };
        let answer = send(&server, method, &path, &body).await.expect(status);
        let answer = answer.json();
        assert_eq!(answer["detail"][0], class);
        let told = answer["detail"][1].as_str().unwrap();
        assert!(
            told.contains("is declared in Kubernetes as Object memory/"),
            "{told}"
        );
        assert!(
            told.ends_with(", managed by the test: change it there."),
            "{told}"
        );
    }
    server.login(&server.key.text()).await.expect(200);
    // A key of its own it may get, and lose again.
    key(&server, &keys, "mine").await;
    delete(&server, &format!("{keys}/mine")).await.expect(200);
    // An account of the API that has a declared key stays.
    let (made, _) = account(&server, "bot1").await;
    let id: Uuid = made["id"].as_str().unwrap().parse().unwrap();
    server.change(|state| support::add_key(state, id, 7, "declared"));
    delete(&server, &format!("{ACCOUNTS}/bot1"))
        .await
        .expect(403);
    get(&server, &format!("{ACCOUNTS}/bot1")).await.expect(200);
}

/// features.md A8, attacks.md S20.
#[tokio::test]
async fn a8_an_account_has_no_more_keys_than_the_policy_allows() {
    let server = server();
    server.change(|state| {
        let mut settings = (*state.settings).clone();
        settings.max_keys = 2;
        state.settings = settings.into();
    });
    let (_, keys) = account(&server, "bot1").await;
    key(&server, &keys, "one").await;
    key(&server, &keys, "two").await;
    let answer = post(&server, &keys, &json!({"name": "three"})).await;
    insta::assert_snapshot!("too-many-keys", answer.shown());
    delete(&server, &format!("{keys}/one")).await.expect(200);
    key(&server, &keys, "three").await;
}

#[tokio::test]
async fn what_cannot_be_read_or_kept_changes_nothing() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    key(&server, &keys, "default").await;
    let before = server.change(|state| format!("{:?}", state.directory));
    let long = "x".repeat(256);
    let names = [
        json!(""),
        json!(" "),
        json!(long),
        json!("a\u{1b}[31m"),
        json!("a\nb"),
        json!(Uuid::nil()),
        json!(1),
        json!(null),
    ];
    for name in names {
        let bodies = [
            (
                Method::POST,
                ACCOUNTS.to_owned(),
                json!({"name": name, "active": true}),
            ),
            (Method::POST, keys.clone(), json!({"name": name})),
            (
                Method::PUT,
                format!("{ACCOUNTS}/bot1"),
                json!({"name": name}),
            ),
            (
                Method::PUT,
                format!("{keys}/default"),
                json!({"name": name}),
            ),
        ];
        let nothing_is_sent = name.is_null();
        let bodies = bodies.into_iter().take(if nothing_is_sent { 2 } else { 4 });
        for (method, path, body) in bodies {
            let answer = send(&server, method, &path, &body).await.expect(422);
            assert_eq!(answer.json()[0], "ValueError", "{path} {body}");
            assert!(!answer.body.contains("[31m"), "repeats what was sent");
        }
    }
    assert_eq!(
        server.change(|state| format!("{:?}", state.directory)),
        before
    );
}

#[tokio::test]
async fn what_has_no_place_changes_nothing() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    key(&server, &keys, "default").await;
    let before = server.change(|state| format!("{:?}", state.directory));
    let others = [
        (Method::POST, ACCOUNTS.to_owned(), json!({"name": "bot3"})),
        (
            Method::POST,
            ACCOUNTS.to_owned(),
            json!({"name": "b", "active": true, "full_name": "B"}),
        ),
        (Method::POST, ACCOUNTS.to_owned(), json!([])),
        (
            Method::PUT,
            format!("{ACCOUNTS}/bot1"),
            json!({"description": "x".repeat(513)}),
        ),
        (
            Method::PUT,
            format!("{keys}/default"),
            json!({"description": "\0"}),
        ),
        (
            Method::PUT,
            format!("{keys}/default"),
            json!({"active": "maybe"}),
        ),
        (
            Method::PUT,
            format!("{keys}/default/rotate"),
            json!({"retain_period_minutes": -1}),
        ),
        (
            Method::PUT,
            format!("{keys}/default/rotate"),
            json!({"retain_period_minutes": 525_601}),
        ),
        (
            Method::PUT,
            format!("{keys}/default/rotate"),
            json!({"retain_period_minutes": 1.5}),
        ),
    ];
    for (method, path, body) in others {
        send(&server, method, &path, &body).await.expect(422);
    }
    let huge = json!({"name": "x", "description": "x".repeat(20_000)});
    post(&server, &keys, &huge).await.expect(413);
    assert_eq!(
        server.change(|state| format!("{:?}", state.directory)),
        before
    );
}

#[tokio::test]
async fn only_administrators_may() {
    let server = Server::new();
    let before = server.change(|state| format!("{:?}", state.directory.accounts().count()));
    let token = server.token().await;
    for route in routes() {
        let Access::Admin(action) = route.access else {
            continue;
        };
        let path = route.path.replace("{account}", &server.account.to_string());
        let path = path.replace("{key}", "default");
        let body = json!({"name": "x", "active": true});
        let answer = send_as(&server, &token, route.method, &path, &body, None).await;
        let told = format!("Only admin users can perform `{action}` without RBAC enabled.");
        assert_eq!(
            answer.expect(403).json()["detail"],
            json!(["IllegalOperationError", told])
        );
    }
    assert_eq!(
        server.change(|state| format!("{:?}", state.directory.accounts().count())),
        before
    );
    // Who was one is none at once.
    server.change_account(|account| account.admin = true);
    account(&server, "bot1").await;
    server.change_account(|account| account.admin = false);
    post(&server, ACCOUNTS, &json!({"name": "bot2", "active": true}))
        .await
        .expect(403);
}

/// Nobody takes the key up: it is taken back, and one is told what to look at.
#[tokio::test]
async fn without_the_operator_nothing_is_left() {
    let options = Options {
        seen_within: std::time::Duration::from_millis(50),
        ..Options::default()
    };
    let server = Server::with(options, super::client::now);
    server.change_account(|account| account.admin = true);
    let (_, keys) = account(&server, "bot1").await;
    let first = key(&server, &keys, "default").await;
    server.store.set_operator_away(true);
    let answer = post(&server, &keys, &json!({"name": "late"})).await;
    insta::assert_snapshot!("not-taken-up", answer.shown());
    assert_eq!(server.store.waiting_keys(), 0, "the key is left behind");
    put(&server, &format!("{keys}/default/rotate"), &json!({}))
        .await
        .expect(500);
    server.login(text(&first)).await.expect(200);
    server.store.set_operator_away(false);
    key(&server, &keys, "late").await;
}

#[tokio::test]
async fn what_kubernetes_does_not_do_is_told() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    for (name, why) in [
        ("kubernetes-silent", NotChanged::Unreachable),
        (
            "kubernetes-refuses",
            NotChanged::Refused("it is protected".into()),
        ),
        ("kubernetes-forbids", NotChanged::Forbidden),
    ] {
        server.store.set_failure(Some(why));
        let answer = post(&server, &keys, &json!({"name": "x"})).await;
        insta::assert_snapshot!(name, answer.shown());
    }
    server.store.set_failure(None);
    key(&server, &keys, "x").await;
}

/// zenml-wire.md 13.5: the client repeats requests by itself.
#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_was() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let (credential, once) = (server.key.text(), Uuid::from_u128(1));
    let ask = async |path: &str, name: &str, once| {
        let body = json!({"name": name});
        send_as(&server, &credential, Method::POST, path, &body, Some(once)).await
    };
    let first = ask(&keys, "default", once).await.expect(200);
    let again = ask(&keys, "default", once).await.expect(200);
    assert_eq!(first.body, again.body, "also the key, which is shown once");
    // Another body is another request, and is not taken for the first.
    let other = ask(&keys, "other", once).await;
    insta::assert_snapshot!("idempotency-key-reused", other.shown());
    // Another key, and it is executed: the name is taken.
    ask(&keys, "default", Uuid::from_u128(2)).await.expect(409);
    // Another account's is another's.
    let (_, elsewhere) = account(&server, "bot2").await;
    ask(&elsewhere, "default", once).await.expect(200);
    server.change_account(|account| account.admin = true);
    let list = get(&server, &keys).await.json();
    assert_eq!(list["total"], 1);
    let odd = request(Method::POST, &keys)
        .header("authorization", bearer(&credential))
        .header("idempotency-key", "no uuid")
        .body(axum::body::Body::from(r#"{"name":"x"}"#));
    server.send(odd.unwrap()).await.expect(422);
}

#[tokio::test]
async fn a_repeated_rotation_rotates_once() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    key(&server, &keys, "default").await;
    let credential = server.key.text();
    let path = format!("{keys}/default/rotate");
    let rotate = async |once| {
        let (body, once) = (json!({}), Some(Uuid::from_u128(once)));
        send_as(&server, &credential, Method::PUT, &path, &body, once)
            .await
            .expect(200)
    };
    let (first, second) = tokio::join!(rotate(1), rotate(1));
    assert_eq!(first.body, second.body, "two at once are one");
    server.login(text(&first.json())).await.expect(200);
    let third = rotate(2).await;
    assert_ne!(third.body, first.body);
    server.login(text(&first.json())).await.expect(401);
}

/// A refusal is not kept: the next attempt is a new one.
#[tokio::test]
async fn a_repeated_request_that_failed_is_tried_again() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    let credential = server.key.text();
    let ask = async || {
        let (body, once) = (json!({"name": "default"}), Some(Uuid::from_u128(1)));
        send_as(&server, &credential, Method::POST, &keys, &body, once).await
    };
    server.store.set_failure(Some(NotChanged::Unreachable));
    ask().await.expect(503);
    server.store.set_failure(None);
    ask().await.expect(200);
}

#[tokio::test]
async fn changes_are_counted_by_closed_words() {
    let server = server();
    let (_, keys) = account(&server, "bot1").await;
    key(&server, &keys, "default").await;
    post(&server, &keys, &json!({"name": "default"}))
        .await
        .expect(409);
    delete(&server, &format!("{keys}/default"))
        .await
        .expect(200);
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &server.registry).unwrap();
    for line in [
        r#"zenop_changes_total{change="CreateAccount",outcome="Done"} 1"#,
        r#"zenop_changes_total{change="CreateKey",outcome="Done"} 1"#,
        r#"zenop_changes_total{change="CreateKey",outcome="Refused"} 1"#,
        r#"zenop_changes_total{change="DeleteKey",outcome="Done"} 1"#,
        "zenop_revocation_seconds_count 1",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

//! Logging in with an API key.

use axum::{body::Body, http::Method};
use uuid::Uuid;
use zenop::auth::{
    api_key::{ApiKey, KeySecret},
    directory::{Account, Generation, Key, Lifetimes, Seen, Window},
};

use super::{
    client::{Server, bearer, now, request},
    support,
};

const LOGIN: &str = "/api/v1/login";

/// The key's id with another secret.
fn wrong(server: &Server) -> ApiKey {
    ApiKey {
        id: server.key.id,
        secret: KeySecret::from_random(&[9; 32]),
    }
}

#[tokio::test]
async fn a_key_becomes_a_token_in_zenmls_form() {
    let server = Server::new();
    let answer = server.login(&server.key.text()).await.expect(200);
    let json = answer.json();
    assert_eq!(
        json.as_object().unwrap().len(),
        8,
        "all members are always there"
    );
    assert_eq!(json["token_type"], "bearer");
    assert_eq!(json["expires_in"], 3600);
    assert!(answer.header("set-cookie").is_none());
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store, no-cache, must-revalidate")
    );
}

#[tokio::test]
async fn the_grant_is_told_by_the_fields_where_it_is_not_named() {
    let server = Server::new();
    let form = serde_urlencoded::to_string([("password", &*server.key.text())]).unwrap();
    server.post_form(LOGIN, &form).await.expect(200);
    server
        .post_form(LOGIN, &format!("{form}&username="))
        .await
        .expect(200);
    server
        .post_form(LOGIN, &format!("{form}&username=x"))
        .await
        .expect(401);
    server
        .post_form(LOGIN, &format!("{form}&grant_type=&other=1"))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_key_is_a_bearer_credential_too() {
    let server = Server::new();
    let key = server.key.text();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = request(Method::GET, "/api/v1/current-user")
            .header("authorization", format!("{scheme} {}", *key));
        server
            .send(request.body(Body::empty()).unwrap())
            .await
            .expect(200);
    }
}

/// Nor does one learn which of two credentials was taken: none is.
#[tokio::test]
async fn k10_a_key_elsewhere_is_no_credential() {
    let server = Server::new();
    let key = server.key.text();
    let path = "/api/v1/current-user";
    let requests = [
        request(Method::GET, &format!("{path}?access_token={}", *key)),
        request(Method::GET, path).header("cookie", format!("token={}", *key)),
        request(Method::GET, path).header("authorization", format!("Basic {}", *key)),
        request(Method::GET, path).header("authorization", &*key),
        request(Method::GET, path).header("authorization", "Bearer"),
        request(Method::GET, path).header("authorization", "Bearer  "),
        request(Method::GET, path)
            .header("authorization", bearer(&key))
            .header("authorization", bearer(&key)),
    ];
    for request in requests {
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            answer.expect(401).header("www-authenticate"),
            Some("Bearer")
        );
    }
    let query = format!("{LOGIN}?grant_type=zenml-api-key&password={}", *key);
    server.post_form(&query, "").await.expect(400);
}

#[tokio::test]
async fn k02_k03_an_unknown_key_and_a_wrong_one_are_answered_alike() {
    let server = Server::new();
    let unknown = support::key_text(99);
    let malformed = "ZENKEY_eyJpZCI6IngifQ==";
    let mut bodies = Vec::new();
    for key in [&*wrong(&server).text(), &*unknown.text(), malformed] {
        bodies.push(server.login(key).await.expect(401).body);
        let answer = server.get_as(key, "/api/v1/current-user").await;
        bodies.push(answer.expect(401).body);
    }
    bodies.dedup();
    assert_eq!(
        bodies,
        [r#"{"detail":["CredentialsNotValid","Authentication error: invalid API key"]}"#]
    );
}

/// Who does not hold the key learns nothing about its state either.
#[tokio::test]
async fn k03_a_wrong_key_does_not_tell_that_the_right_one_is_inactive() {
    let server = Server::new();
    let told = server.login(&wrong(&server).text()).await.body;
    server.change_key(|key| key.active = false);
    assert_eq!(server.login(&wrong(&server).text()).await.body, told);
    server.change_account(|account| account.active = false);
    assert_eq!(server.login(&wrong(&server).text()).await.body, told);
}

#[tokio::test]
async fn k06_a_replaced_key_is_accepted_until_its_time_is_over() {
    let server = Server::new();
    let (old, token) = (server.key.text(), server.token().await);
    let replace = |until| {
        server.change(|state| {
            let next = KeySecret::from_random(&[7; 32]);
            let pepper = state.keyring.pepper();
            let verifier = pepper.verifier(server.account, server.key.id, next.digest());
            let mut key = state.directory.remove_key(server.key.id).unwrap();
            key.generations.truncate(1);
            key.generations[0].valid_until = Some(until);
            key.generations.push(Generation {
                number: 2,
                verifier,
                created: None,
                valid_until: None,
                recorded: None,
                slow: None,
                recorded_from: None,
                seen: Seen::default(),
            });
            state.directory.put_key(key);
        });
    };
    replace(now() + jiff::SignedDuration::from_secs(1));
    server.login(&old).await.expect(200);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(200);
    replace(now());
    server.login(&old).await.expect(401);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(401);
    let next = ApiKey {
        id: server.key.id,
        secret: KeySecret::from_random(&[7; 32]),
    };
    server.login(&next.text()).await.expect(200);
}

#[tokio::test]
async fn k07_a_key_dies_with_its_account_and_does_not_serve_another_of_its_name() {
    let server = Server::new();
    let (key, token) = (server.key.text(), server.token().await);
    server.change(|state| drop(state.directory.remove_account(server.account)));
    server.login(&key).await.expect(401);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(401);
    server.change(|state| {
        support::add_account(state, 2, "ci");
    });
    server.login(&key).await.expect(401);
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(401);
}

#[tokio::test]
async fn k11_a_key_is_taken_as_it_was_given_only() {
    let server = Server::new();
    let key = server.key.text();
    let spellings = [
        key[..key.len() - 1].to_owned(),
        key.trim_end_matches('=').to_owned(),
        format!("{} ", *key),
        format!("{}\0", *key),
        format!("{}\n", *key),
        key.to_lowercase(),
        key.replacen('K', "\u{212a}", 1),
        format!("{}=", *key),
    ];
    for spelling in spellings {
        assert_ne!(spelling, *key);
        server.login(&spelling).await.expect(401);
    }
}

#[tokio::test]
async fn k12_random_keys_are_all_refused() {
    let server = Server::new();
    for n in 0..500_u64 {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&n.to_le_bytes());
        let id = if n % 2 == 0 {
            server.key.id
        } else {
            Uuid::from_u128(n.into())
        };
        let key = ApiKey {
            id,
            secret: KeySecret::from_random(&secret),
        };
        let told = server.login(&key.text()).await.status.as_u16();
        // One id is tried more often than it may.
        assert!(
            told == 401 || told == 429 && id == server.key.id && n >= 20,
            "{n}: {told}"
        );
    }
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &server.registry).unwrap();
    for line in [
        r#"zenop_logins_total{outcome="BadKey"} 260"#,
        r#"zenop_logins_total{outcome="Limited"} 240"#,
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

/// What the account and the key say of when and for how long counts, the tighter of both, for
/// keys and for tokens.
#[tokio::test]
async fn windows_and_lifetimes_refuse_keys_and_tokens() {
    let server = Server::new();
    let (key, token) = (server.key.text(), server.token().await);
    let hour = jiff::SignedDuration::from_hours(1);
    let expect = async |status| {
        server.login(&key).await.expect(status);
        let me = "/api/v1/current-user";
        server.get_as(&token, me).await.expect(status);
        server.get_as(&key, me).await.expect(status);
    };
    // The key was made a day ago, and its generation too.
    let refused: [fn(&mut Key, &mut Account); 7] = [
        |key, _| key.window.from = Some(now() + jiff::SignedDuration::from_secs(1)),
        |key, _| key.window.until = Some(now()),
        |_, account| account.window.from = Some(now() + jiff::SignedDuration::from_secs(1)),
        |_, account| account.window.until = Some(now()),
        |key, _| key.ttl = Some(jiff::SignedDuration::from_hours(24)),
        |key, _| key.active = false,
        |_, account| account.active = false,
    ];
    let change = |change: fn(&mut Key, &mut Account)| {
        server.change(|state| {
            let mut key = state.directory.remove_key(server.key.id).unwrap();
            let mut account = state.directory.remove_account(server.account).unwrap();
            (key.window, account.window) = (Window::default(), Window::default());
            (key.ttl, key.active, account.active) = (None, true, true);
            change(&mut key, &mut account);
            state.directory.put_account(account);
            state.directory.put_key(key);
        });
    };
    for harm in refused {
        change(harm);
        expect(401).await;
        change(|_, _| ());
        expect(200).await;
    }
    let policies = [
        (Some(24 * hour), None, 401),
        (Some(25 * hour), None, 200),
        (None, Some(24 * hour), 401),
        (None, Some(25 * hour), 200),
        (None, None, 200),
    ];
    for (default, max, status) in policies {
        server.change(|state| state.directory.set_policy(Lifetimes { default, max }));
        expect(status).await;
    }
}

#[tokio::test]
async fn a_token_ends_with_its_key_at_the_latest() {
    let server = Server::new();
    let minutes = |n| now() + jiff::SignedDuration::from_mins(n);
    let expires = async || server.login(&server.key.text()).await.json()["expires_in"].clone();
    assert_eq!(expires().await, 3600);
    server.change_key(|key| key.window.until = Some(minutes(10)));
    assert_eq!(expires().await, 600);
    server.change_account(|account| account.window.until = Some(minutes(5)));
    assert_eq!(expires().await, 300);
    server.change_key(|key| key.generations[0].valid_until = Some(minutes(1)));
    assert_eq!(expires().await, 60);
}

/// attacks.md: a key id that somebody else uses. Who came first has it.
#[tokio::test]
async fn of_two_keys_of_one_id_only_the_older_exists() {
    let server = Server::new();
    let mut thief = None;
    let taken = |made: i64| {
        server.change(|state| {
            let account = support::add_account(state, 2, "thief");
            let key = support::add_key(state, account, 9, "stolen");
            let mut stolen = state.directory.remove_key(key.id).unwrap();
            stolen.id = server.key.id;
            stolen.created = support::created() + jiff::SignedDuration::from_secs(made);
            let text = ApiKey {
                id: server.key.id,
                secret: key.secret,
            };
            let pepper = state.keyring.pepper();
            stolen.generations[0].verifier =
                pepper.verifier(account, text.id, text.secret.digest());
            state.directory.put_key(stolen);
            text
        })
    };
    for (made, owner, other) in [(1, 200, 401), (-1, 401, 200)] {
        let text = taken(made);
        server.login(&server.key.text()).await.expect(owner);
        server.login(&text.text()).await.expect(other);
        thief = Some(text);
    }
    // The older one goes, and the id is the other's again.
    let uid = support::key_text(9).id;
    server.change(|state| drop(state.directory.remove_key(uid)));
    server.login(&server.key.text()).await.expect(200);
    server.login(&thief.unwrap().text()).await.expect(401);
}

/// K07 for keys whose id is in the spec: made again under the same id and number, another key
/// does not revive the tokens of the first.
#[tokio::test]
async fn k07_a_key_made_again_revives_no_token() {
    let server = Server::new();
    let token = server.token().await;
    server.change(|state| {
        let mut key = state.directory.remove_key(server.key.id).unwrap();
        let secret = KeySecret::from_random(&[3; 32]);
        let pepper = state.keyring.pepper();
        key.generations[0].verifier = pepper.verifier(server.account, key.id, secret.digest());
        key.uid = Uuid::from_u128(77);
        state.directory.put_key(key);
    });
    server
        .get_as(&token, "/api/v1/current-user")
        .await
        .expect(401);
}

/// features.md B18.
#[tokio::test]
async fn the_last_use_of_a_key_is_shown() {
    let server = Server::new();
    let keys = format!("/api/v1/service_accounts/{}/api_keys", server.account);
    let shown = async || {
        let token = server.token().await;
        let key = server.get_as(&token, &format!("{keys}/default")).await;
        key.json()["metadata"]["last_login"].clone()
    };
    assert_eq!(shown().await, "2026-01-02T00:00:00");
    server.change_key(|key| key.last_recorded = Some(now() + jiff::SignedDuration::from_secs(1)));
    assert_eq!(shown().await, "2026-01-02T00:00:01");
}

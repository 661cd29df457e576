//! How often somebody may fail (zenml-wire 13.3, features H8 to H10).

use std::sync::Arc;

use uuid::Uuid;
use zenop::{
    auth::{
        address::Proxies,
        api_key::{ApiKey, KeySecret},
        limit::Rates,
    },
    store::Settings,
};

use super::{
    client::Server,
    sockets::{Served, statuses},
    support,
};

const ME: &str = "/api/v1/current-user";

/// Changes the settings.
pub fn set(server: &Server, change: impl FnOnce(&mut Settings)) {
    let mut settings = support::settings();
    change(&mut settings);
    server.change(|state| state.settings = Arc::new(settings));
}

/// The text of a key that nobody has.
fn wrong(id: Uuid, n: u8) -> String {
    let secret = KeySecret::from_random(&[n; 32]);
    ApiKey { id, secret }.text().to_string()
}

/// Logs in on a socket, as a proxy at the loopback would pass it on.
pub async fn login(served: &Served, key: &str, forwarded_for: &str) -> String {
    let form = format!("password={}", key.replace('=', "%3D"));
    let request = format!(
        "POST /api/v1/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{forwarded_for}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    served.exchange(request.as_bytes()).await
}

async fn status(served: &Served, key: &str, forwarded_for: &str) -> u16 {
    let forwarded_for = format!("x-forwarded-for: {forwarded_for}\r\n");
    let answer = login(served, key, &forwarded_for).await;
    statuses(&answer)[0]
}

#[tokio::test]
async fn h10_too_many_failures_of_a_key_are_told_to_wait_and_the_right_one_is_let_in() {
    let server = Server::new();
    set(&server, |settings| {
        settings.login_rates = "5/m,1000/d".parse().unwrap();
    });
    let right = server.key.text();
    for round in 0..2 {
        for n in 0..5 {
            let key = wrong(server.key.id, n);
            server.login(&key).await.expect(401);
        }
        let limited = server.login(&wrong(server.key.id, 9)).await.expect(429);
        let wait: u32 = limited.header("retry-after").unwrap().parse().unwrap();
        let told = limited
            .shown()
            .replace(&format!("after: {wait}"), "after: (seconds)");
        insta::assert_snapshot!("limited", told);
        assert!((1..=70).contains(&wait), "{wait}");
        // Others are not concerned, and who has the key is not either: it begins anew.
        server
            .login(&wrong(Uuid::from_u128(round), 1))
            .await
            .expect(401);
        server.login(&right).await.expect(200);
    }
}

#[tokio::test]
async fn h10_the_day_has_its_limit() {
    let server = Server::new();
    set(&server, |settings| {
        settings.login_rates = "1000/m,5/d".parse().unwrap();
    });
    for _ in 0..5 {
        server.login(&wrong(server.key.id, 1)).await.expect(401);
    }
    let limited = server.login(&wrong(server.key.id, 1)).await.expect(429);
    assert_eq!(
        limited.body,
        r#"{"detail":"Daily request limit exceeded."}"#
    );
}

/// A key that was right once, or that is switched off, is no guess.
#[tokio::test]
async fn who_holds_a_key_that_is_not_active_is_always_told_so() {
    let server = Server::new();
    server.change_key(|key| key.active = false);
    for _ in 0..50 {
        server.login(&server.key.text()).await.expect(401);
    }
}

/// H8: of three replicas each lets a third through.
#[tokio::test]
async fn h8_replicas_share_a_limit() {
    let server = Server::new();
    set(&server, |settings| {
        settings.login_rates = settings.login_rates.shared_by(3);
    });
    for _ in 0..4 {
        server.login(&wrong(server.key.id, 1)).await.expect(401);
    }
    server.login(&wrong(server.key.id, 1)).await.expect(429);
}

/// V03, H10: a success does not free the address.
#[tokio::test]
async fn v03_success_does_not_reset_the_address() {
    let served = Served::start().await;
    let right = served.server.key.text();
    for n in 0..10 {
        let key = wrong(Uuid::from_u128(n), 1);
        assert_eq!(status(&served, &key, "198.51.100.1").await, 401);
        assert_eq!(status(&served, &right, "198.51.100.1").await, 200);
    }
    for n in 10..13 {
        let key = wrong(Uuid::from_u128(n), 1);
        assert_eq!(status(&served, &key, "198.51.100.1").await, 429);
        assert_eq!(status(&served, &right, "198.51.100.1").await, 200);
    }
}

/// D11, H9: what a client says of its address gives it no other budget; what its proxy says does.
#[tokio::test]
async fn d11_forged_hops_share_one_budget() {
    let served = Served::start().await;
    let attempt =
        async |n: u128, hops: &str| status(&served, &wrong(Uuid::from_u128(n), 1), hops).await;
    for n in 0..10 {
        assert_eq!(attempt(n, &format!("10.0.0.{n}")).await, 401);
    }
    assert_eq!(attempt(10, "10.0.0.10").await, 429, "nobody is trusted");
    set(&served.server, |settings| {
        settings.proxies = Proxies::new(["127.0.0.0/8"]);
    });
    for n in 20..30 {
        let hops = format!("10.0.0.{n}, 2001:db8:0:1::{n}");
        assert_eq!(attempt(n, &hops).await, 401, "another address");
    }
    assert_eq!(
        attempt(30, "2001:db8:0:1:ffff::1").await,
        429,
        "one /64 is one"
    );
    assert_eq!(
        attempt(31, "2001:db8:0:2::1").await,
        401,
        "the next is another"
    );
}

/// P46, K12: a flood of addresses and key ids takes a bounded memory, and frees nobody.
#[tokio::test]
async fn k12_a_flood_frees_nobody() {
    let server = Server::new();
    for _ in 0..10 {
        server.login(&wrong(server.key.id, 1)).await.expect(401);
    }
    let (mut unknown, mut limited) = (0, 0);
    for n in 0..4_000 {
        match server
            .login(&wrong(Uuid::from_u128(1 << 64 | n), 1))
            .await
            .status
            .as_u16()
        {
            401 => unknown += 1,
            429 => limited += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(unknown + limited, 4_000);
    assert!(
        limited < 20,
        "{limited} of 20000 strangers share a place that is full"
    );
    server.login(&wrong(server.key.id, 1)).await.expect(429);
    server.login(&server.key.text()).await.expect(200);
}

/// H8: a key, or a user, that asks too often waits, whatever it asks with.
#[tokio::test]
async fn h8_each_key_has_a_budget_if_one_is_set() {
    let server = Server::new();
    let other = server.change(|state| {
        let account = support::add_account(state, 2, "training");
        support::add_key(state, account, 2, "default")
    });
    for _ in 0..100 {
        server.get_as(&server.key.text(), ME).await.expect(200);
    }
    let token = server.token().await;
    set(&server, |settings| {
        settings.key_rates = "5/m".parse().ok();
    });
    for _ in 0..2 {
        server.get_as(&token, ME).await.expect(200);
        server.get_as(&server.key.text(), ME).await.expect(200);
    }
    server.login(&server.key.text()).await.expect(200);
    for limited in [
        server.get_as(&token, ME).await,
        server.get_as(&server.key.text(), ME).await,
        server.login(&server.key.text()).await,
    ] {
        let limited = limited.expect(429);
        assert!(limited.header("retry-after").is_some());
        assert_eq!(
            limited.body,
            r#"{"detail":"Minute request limit exceeded."}"#
        );
    }
    server.get_as(&other.text(), ME).await.expect(200);
}

/// Wrong tokens to choose a password with count for the address, and a right one is let in.
#[tokio::test]
async fn h10_wrong_activation_tokens_are_limited_by_address() {
    let served = Served::start().await;
    let attempt = async || {
        let body = format!(
            r#"{{"activation_token":"{}","password":"long enough"}}"#,
            "0".repeat(64)
        );
        let request = format!(
            "PUT /api/v1/users/nobody/activate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        statuses(&served.exchange(request.as_bytes()).await)
    };
    for _ in 0..10 {
        assert_eq!(attempt().await, [401]);
    }
    assert_eq!(attempt().await, [429]);
}

/// H8: what all strangers may have is shared too, and the whole of it bounds passwords.
#[tokio::test]
async fn h8_wrong_passwords_of_all_together_are_limited() {
    let server = Server::new();
    set(&server, |settings| {
        settings.global_rates = "6/m".parse().ok().map(|rates: Rates| rates.shared_by(2));
    });
    let attempt = async |n: u32| {
        let form = format!("username=user{n}&password=wrong");
        server.post_form("/api/v1/login", &form).await
    };
    for n in 0..3 {
        attempt(n).await.expect(401);
    }
    let crowded = attempt(3).await.expect(503);
    assert!(crowded.header("retry-after").is_some());
    insta::assert_snapshot!("crowded", crowded.json());
    // None of this is in the way of who has a key, or of a device.
    server.login(&server.key.text()).await.expect(200);
    let start = "client_id=c11e0000-0000-4000-8000-000000000001";
    server
        .post_form("/api/v1/device_authorization", start)
        .await
        .expect(200);
}

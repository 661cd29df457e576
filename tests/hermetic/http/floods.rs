//! Floods: what many requests may cost, and whom they may be in the way of. Each is measured in a
//! process that does nothing else, over sockets, so that there are addresses to count by.

use std::fmt::Write;

use uuid::Uuid;
use zenop::auth::{
    address::Proxies,
    api_key::{ApiKey, KeySecret},
};

use super::{
    client::bearer,
    limits::{login, set},
    sockets::{Served, alone, resident, statuses},
};

const CLIENT: Uuid = Uuid::from_u128(0xc11e_0000_0000_4000_8000_0000_0000_0001);
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a server may grow by under a flood: tables of counts and caches that fill.
const GROWTH: u64 = 24 << 20;

fn post(path: &str, forwarded_for: &str, form: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {forwarded_for}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
}

fn start(forwarded_for: &str) -> String {
    let form = format!("client_id={CLIENT}");
    post("/api/v1/device_authorization", forwarded_for, &form)
}

/// Sends requests on one connection, one behind the other. The answers, whole.
async fn flood(served: &Served, requests: impl IntoIterator<Item = String>) -> String {
    let mut bytes: String = requests.into_iter().collect();
    let _ = write!(
        bytes,
        "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    served.exchange(bytes.as_bytes()).await
}

/// How many of the answers have a status.
fn of(answers: &str, wanted: u16) -> usize {
    let told = statuses(answers);
    let (_, told) = told.split_last().expect("the last answer is of /health");
    told.iter().filter(|status| **status == wanted).count()
}

fn wrong_key(id: u128) -> String {
    let secret = KeySecret::from_random(&[7; 32]);
    let id = Uuid::from_u128(id);
    ApiKey { id, secret }.text().to_string()
}

fn wrong_login(n: u128, forwarded_for: &str) -> String {
    let key = wrong_key(n).replace('=', "%3D");
    post("/api/v1/login", forwarded_for, &format!("password={key}"))
}

/// D10: 10,000 starts from one address.
#[test]
fn d10_ten_thousand_starts_of_one_address_are_a_hundred_and_take_no_memory() {
    alone(
        "http::floods::d10_ten_thousand_starts_of_one_address_are_a_hundred_and_take_no_memory",
        async {
            let served = Served::start().await;
            flood(&served, (0..10).map(|_| start("x"))).await;
            let before = resident();
            let (mut begun, mut limited) = (0, 0);
            for _ in 0..10 {
                let answers = flood(&served, (0..1000).map(|_| start("x"))).await;
                begun += of(&answers, 200);
                limited += of(&answers, 429);
                assert_eq!(answers.matches("retry-after: ").count(), of(&answers, 429));
            }
            assert_eq!((begun, limited), (90, 9_910));
            let grown = resident().saturating_sub(before);
            println!("{} KiB for 10,000 starts", grown >> 10);
            assert!(grown < GROWTH, "{grown} bytes");
            let devices = served
                .server
                .change(|state| state.directory.devices().count());
            assert_eq!(devices, 0);
        },
    );
}

/// D11: hops that a client made up give no more; addresses that are, each a share, and all
/// together what is set. Who has something to show is served.
#[test]
fn d11_a_flood_of_starts_is_capped_and_live_flows_survive() {
    alone(
        "http::floods::d11_a_flood_of_starts_is_capped_and_live_flows_survive",
        async {
            let served = Served::start().await;
            let hop = |n: usize| format!("198.51.{}.{}", n / 100, n % 100);
            let begun = flood(&served, [start("x")]).await;
            let forged = flood(&served, (0..2000).map(|n| start(&hop(n)))).await;
            assert_eq!((of(&forged, 200), of(&forged, 429)), (99, 1_901));

            set(&served.server, |settings| {
                settings.proxies = Proxies::new(["127.0.0.0/8"]);
            });
            // Two addresses may share a place, and a budget, so there are some to spare.
            let real = flood(&served, (0..1500).map(|n| start(&hop(n % 15)))).await;
            assert_eq!(of(&real, 200), 900, "100 were begun above");
            assert_eq!(of(&real, 200) + of(&real, 503) + of(&real, 429), 1_500);
            assert!(of(&real, 503) >= 400, "{}", of(&real, 503));
            assert!(real.contains("retry-after: "));
            assert!(real.contains("too many requests of strangers"));
            let other = flood(&served, [start("203.0.113.1")]).await;
            assert_eq!(of(&other, 503), 1, "{other}");

            let code = member(&begun, "device_code");
            let form = form(&code);
            let poll = flood(&served, [post("/api/v1/login", "203.0.113.1", &form)]).await;
            assert!(poll.contains("authorization_pending"), "{poll}");
            let key = served.server.key.text();
            let answer = login(&served, &key, "x-forwarded-for: 198.51.0.1\r\n").await;
            assert_eq!(statuses(&answer), [200]);
            let token = served.server.token().await;
            let me = format!(
                "GET /api/v1/current-user HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n",
                bearer(&token)
            );
            assert_eq!(of(&flood(&served, [me]).await, 200), 1);
        },
    );
}

/// D17: who polls too soon gets nothing, ever, and waits in the end.
#[test]
fn d17_a_thousand_early_polls_are_throttled_and_never_end_well() {
    alone(
        "http::floods::d17_a_thousand_early_polls_are_throttled_and_never_end_well",
        async {
            let served = Served::start().await;
            let answers = flood(&served, [start("x"), start("x")]).await;
            let codes: Vec<_> = answers
                .split("HTTP/1.1 ")
                .filter(|answer| answer.contains("device_code"))
                .map(|answer| member(answer, "device_code"))
                .collect();
            let poll = |code: &str| post("/api/v1/login", "x", &form(code));
            let told = flood(&served, (0..1000).map(|_| poll(&codes[0]))).await;
            assert_eq!(told.matches("authorization_pending").count(), 1);
            assert_eq!(
                told.matches("slow_down").count(),
                98,
                "2 of 100 were starts"
            );
            assert_eq!(of(&told, 429), 901);
            assert!(!told.contains("access_token"));
            // A neighbour at the same address, who waits as it should, is not concerned.
            let neighbour = flood(&served, [poll(&codes[1])]).await;
            assert!(neighbour.contains("authorization_pending"), "{neighbour}");
            // Codes that are none count as well.
            let told = flood(&served, (0..100).map(|_| poll("nonsense"))).await;
            assert_eq!(of(&told, 429), 100);
            let devices = served
                .server
                .change(|state| state.directory.devices().count());
            assert_eq!(devices, 0);
        },
    );
}

/// K12: random keys, of one address and of many. `ZENOP_TEST_KEYS` for more of them.
#[test]
fn k12_random_keys_are_all_refused_and_take_a_bounded_memory() {
    alone(
        "http::floods::k12_random_keys_are_all_refused_and_take_a_bounded_memory",
        async {
            let keys = std::env::var("ZENOP_TEST_KEYS").map(|keys| keys.parse().unwrap());
            let keys: u128 = keys.unwrap_or(6_000);
            let served = Served::start().await;
            set(&served.server, |settings| {
                settings.proxies = Proxies::new(["127.0.0.0/8"]);
            });
            // Of that many addresses in each thousand that every place of the tables is met.
            let hop = |n: u128| format!("198.{}.{}.{}", n >> 16 & 0x7f, n >> 8 & 0xff, n & 0xff);
            let warm = (1 << 70..(1 << 70) + keys / 2).map(|n| wrong_login(n, &hop(n)));
            let warm: Vec<_> = warm.collect();
            for part in warm.chunks(1000) {
                flood(&served, part.to_vec()).await;
            }
            let before = resident();
            let (mut refused, mut limited) = (0, 0);
            for first in (0..keys).step_by(1000) {
                let part = (first..first + 1000).map(|n| match n % 2 {
                    0 => wrong_login(n << 64, "192.0.2.1"),
                    _ => wrong_login(n << 64, &hop(n)),
                });
                let answers = flood(&served, part).await;
                refused += of(&answers, 401);
                limited += of(&answers, 429);
            }
            assert_eq!((refused + limited) as u128, keys);
            assert!(limited as u128 >= keys / 2 - 10, "one address has ten");
            let grown = resident().saturating_sub(before);
            println!(
                "{keys} keys: {refused} times 401, {limited} times 429, {} KiB",
                grown >> 10
            );
            assert!(grown < GROWTH, "{grown} bytes");
            let key = served.server.key.text();
            let answer = login(&served, &key, "x-forwarded-for: 192.0.2.1\r\n").await;
            assert_eq!(statuses(&answer), [200], "who has a right one is let in");
        },
    );
}

/// T13: clients that nobody knows push nobody out: one that began before is known after.
#[test]
fn t13_a_flood_of_unknown_clients_evicts_nobody() {
    alone(
        "http::floods::t13_a_flood_of_unknown_clients_evicts_nobody",
        async {
            let served = Served::start().await;
            set(&served.server, |settings| settings.global_rates = None);
            let begun = flood(&served, [start("x")]).await;
            let poll = || post("/api/v1/login", "x", &form(&member(&begun, "device_code")));
            assert!(
                flood(&served, [poll()])
                    .await
                    .contains("authorization_pending")
            );
            let client = |n: u128| Uuid::from_u128(n << 64 | 0xc11e);
            let unknown = |n: u128| {
                let form = format!("client_id={}", client(n));
                post("/api/v1/device_authorization", "x", &form)
            };
            let wrong = |n: u128| post("/api/v1/login", "x", &form_of(client(n), "nonsense"));
            for _ in 0..5 {
                let requests = (0..200).flat_map(|n| [unknown(n), wrong(n)]);
                let answers = flood(&served, requests).await;
                assert_eq!((of(&answers, 200), of(&answers, 400)), (200, 200));
            }
            // It is still known to have polled just now.
            assert!(flood(&served, [poll()]).await.contains("slow_down"));
        },
    );
}

fn form(code: &str) -> String {
    form_of(CLIENT, code)
}

fn form_of(client: Uuid, code: &str) -> String {
    let form = [
        ("grant_type", DEVICE_CODE),
        ("client_id", &client.to_string()),
        ("device_code", code),
    ];
    serde_urlencoded::to_string(form).unwrap()
}

/// A text of an answer in JSON.
fn member(answer: &str, name: &str) -> String {
    let (_, rest) = answer.split_once(&format!("\"{name}\":\"")).expect(name);
    rest.split('"').next().unwrap().to_owned()
}

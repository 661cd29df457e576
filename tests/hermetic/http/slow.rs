//! Keys that ZenML made, of which its bcrypt hash is all that is known.

use futures::future::join_all;
use uuid::Uuid;
use zenop::auth::{
    api_key::ApiKey,
    bcrypt::{BcryptHash, Slow},
    directory::{Generation, Seen},
};

use super::{
    client::{Server, now},
    support,
};

/// Of keys 7 and 8 of the tests: passlib 1.7.4 with bcrypt 4.0.1, as ZenML hashes, at the lowest cost.
const OF_7: &str = "$2b$04$eFr.KxoEZZaX7J25mdU62OQjihXhD9xRN4SIh3fTVO4cJpZjRkUEm";
const OF_8: &str = "$2b$04$ld.hHxupVkZ5Slb64Kf/iOnRf1kmhrNA3XIlupQjAVt361J4otMtG";

const ME: &str = "/api/v1/current-user";

/// The key of the server with the secret of key `n`.
fn key(server: &Server, n: u64) -> ApiKey {
    ApiKey {
        id: server.key.id,
        secret: support::key_text(n).secret,
    }
}

/// Has the server's key stand for this hash alone, as the operator records it, made for `account`.
fn import(server: &Server, hash: &str, number: i64, account: Uuid) {
    let hash: BcryptHash = hash.parse().unwrap();
    server.change(|state| {
        let pepper = state.keyring.pepper();
        let verifier = pepper.slow_verifier(account, server.key.id, &hash);
        let mut key = state.directory.remove_key(server.key.id).unwrap();
        key.generations = vec![Generation {
            number,
            verifier,
            slow: Some(Box::new(Slow::new(hash))),
            created: None,
            valid_until: None,
            recorded: None,
            recorded_from: None,
            seen: Seen::default(),
        }];
        state.directory.put_key(key);
    });
}

fn is_unproven(server: &Server, key: &ApiKey) -> bool {
    server.change(|state| {
        let directory = &state.directory;
        !directory.unproven(&state.keyring, key, now()).is_empty()
    })
}

#[tokio::test]
async fn an_imported_key_logs_in_is_computed_once_and_is_revoked_as_any() {
    let server = Server::new();
    import(&server, OF_7, 1, server.account);
    let (right, wrong) = (key(&server, 7), key(&server, 9));
    for wrong in [&wrong, &server.key] {
        server.login(&wrong.text()).await.expect(401);
        server.get_as(&wrong.text(), ME).await.expect(401);
    }
    assert!(is_unproven(&server, &right));
    let answer = server.login(&right.text()).await.expect(200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    server.get_as(&token, ME).await.expect(200);
    server.get_as(&right.text(), ME).await.expect(200);
    // From now on neither the right key nor a wrong one costs anything.
    assert!(!is_unproven(&server, &right) && !is_unproven(&server, &wrong));
    server.login(&wrong.text()).await.expect(401);

    // What the watch sees again is known still; another hash is another key.
    server.change_key(|key| key.active = false);
    server.login(&right.text()).await.expect(401);
    server.get_as(&token, ME).await.expect(401);
    server.change_key(|key| key.active = true);
    server.get_as(&token, ME).await.expect(200);
    import(&server, OF_8, 2, server.account);
    assert!(is_unproven(&server, &right));
    server.login(&right.text()).await.expect(401);
    server.get_as(&token, ME).await.expect(401);
    server.login(&key(&server, 8).text()).await.expect(200);
}

#[tokio::test]
async fn a_bearer_needs_no_login_before() {
    let server = Server::new();
    import(&server, OF_7, 1, server.account);
    let right = key(&server, 7).text();
    server.get_as(&right, ME).await.expect(200);
    server.login(&right).await.expect(200);
}

/// Who can write a status can write a hash of a key that they know.
#[tokio::test]
async fn a_hash_that_the_operator_did_not_take_up_is_nothing() {
    let server = Server::new();
    import(&server, OF_7, 1, Uuid::from_u128(5));
    let right = key(&server, 7);
    assert!(
        !is_unproven(&server, &right),
        "a bcrypt for a forged status"
    );
    server.login(&right.text()).await.expect(401);
}

#[tokio::test]
async fn only_so_many_wait_and_the_right_one_gets_in_afterwards() {
    let server = Server::new();
    import(&server, OF_7, 1, server.account);
    let wrong = key(&server, 9).text();
    let answers = join_all((0..64).map(|_| server.login(&wrong))).await;
    let with = |status: u16| answers.iter().filter(move |a| a.status.as_u16() == status);
    // Of those whose hash was computed, some failed too often for another 401.
    let (refused, busy) = (with(401).count() + with(429).count(), with(503).count());
    assert!(
        refused > 0 && busy > 0 && refused + busy == 64,
        "{refused} {busy}"
    );
    assert!(with(503).all(|answer| answer.header("retry-after") == Some("1")));
    server.login(&key(&server, 7).text()).await.expect(200);
}

//! Using a token. That forged ones are refused is proved beside the verifier; here it is that
//! remembering what was verified changes nothing.

use std::sync::Arc;

use zenop::http::Options;

use super::{
    client::{Server, moved, shift},
    support,
};

const ME: &str = "/api/v1/current-user";

#[tokio::test]
async fn j06_a_token_is_over_at_its_end_though_it_is_remembered() {
    let server = Server::with(Options::default(), moved);
    let token = server.token().await;
    shift(3599);
    server.get_as(&token, ME).await.expect(200);
    shift(3600);
    let answer = server.get_as(&token, ME).await.expect(401);
    assert_eq!(
        answer.json()["detail"][1],
        "Authentication error: invalid access token"
    );
}

#[tokio::test]
async fn j19_a_token_of_a_keyring_that_was_replaced_is_refused_though_it_is_remembered() {
    let server = Server::new();
    let token = server.token().await;
    server.get_as(&token, ME).await.expect(200);
    let old = {
        let mut old = None;
        server
            .change(|state| old = Some(std::mem::replace(&mut state.keyring, support::keyring(2))));
        old.unwrap()
    };
    server.get_as(&token, ME).await.expect(401);
    // The same secrets read again vouch again, through a signature.
    server.change(|state| state.keyring = support::keyring(1));
    drop(old);
    server.get_as(&token, ME).await.expect(200);
}

#[tokio::test]
async fn a_token_of_another_server_is_refused() {
    let server = Server::new();
    let token = server.token().await;
    server.change(|state| {
        let mut settings = (*state.settings).clone();
        settings.id = uuid::Uuid::from_u128(2);
        state.settings = Arc::new(settings);
    });
    server.get_as(&token, ME).await.expect(401);
}

#[tokio::test]
async fn remembering_nothing_is_possible() {
    let options = Options {
        verified_tokens: 0,
        ..Options::default()
    };
    let server = Server::with(options, super::client::now);
    let token = server.token().await;
    for _ in 0..3 {
        server.get_as(&token, ME).await.expect(200);
    }
}

#[tokio::test]
async fn a_token_that_was_changed_is_not_the_one_that_is_remembered() {
    let server = Server::new();
    let token = server.token().await;
    server.get_as(&token, ME).await.expect(200);
    for at in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        server.get_as(&changed, ME).await.expect(401);
    }
}

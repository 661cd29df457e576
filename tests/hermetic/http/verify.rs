//! What a gateway is told that asks who is logged in.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};

use super::{
    client::{Answer, Server, bearer, request},
    users::Scene,
};

const VERIFY: &str = "/auth/verify";

async fn ask(server: &Server, headers: &[(&str, &str)]) -> Answer {
    let request = headers
        .iter()
        .fold(request(Method::GET, VERIFY), |request, (name, value)| {
            request.header(*name, *value)
        });
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn h06_a_gateway_is_told_who_asks_and_lets_nobody_else_in() {
    let server = Server::new();
    server.change_account(|account| account.name = "ci % ä".into());
    let (token, key) = (server.token().await, server.key.text());
    for credential in [&*token, &*key] {
        let told = ask(&server, &[("authorization", &bearer(credential))]).await;
        let told = told.expect(200);
        let id = server.account.to_string();
        assert_eq!(told.header("x-zenop-id"), Some(&*id));
        assert_eq!(told.header("x-zenop-name"), Some("ci%20%25%20%C3%A4"));
        assert_eq!(told.header("x-zenop-kind"), Some("service-account"));
        assert_eq!(told.header("x-zenop-admin"), Some("false"));
        assert_eq!(told.body, "null");
    }
    server.change_account(|account| account.admin = true);
    let told = ask(&server, &[("authorization", &bearer(&token))]).await;
    assert_eq!(told.header("x-zenop-admin"), Some("true"));

    let nobody = ask(&server, &[]).await.expect(401);
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    assert_eq!(nobody.header("x-zenop-id"), None);
    ask(&server, &[("authorization", "Bearer eyJ.eyJ.x")])
        .await
        .expect(401);
    server.change_key(|key| key.active = false);
    let revoked = ask(&server, &[("authorization", &bearer(&token))]).await;
    assert_eq!(revoked.expect(401).header("x-zenop-name"), None);
}

#[tokio::test]
async fn h06_a_cookie_of_a_browser_does_no_more_there_than_here() {
    let scene = Scene::new();
    let cookie = scene.cookie("ana").await;
    let asks = async |more: &[(&str, &str)]| {
        let all = [&[("cookie", &*cookie)], more].concat();
        ask(&scene.server, &all).await
    };
    let reads = asks(&[("x-forwarded-method", "GET")]).await.expect(200);
    assert_eq!(reads.header("x-zenop-name"), Some("ana"));
    assert_eq!(reads.header("x-zenop-kind"), Some("user"));
    assert_eq!(reads.header("x-zenop-admin"), Some("true"));
    asks(&[
        ("x-original-method", "HEAD"),
        ("sec-fetch-site", "cross-site"),
    ])
    .await
    .expect(200);
    asks(&[
        ("x-forwarded-method", "POST"),
        ("sec-fetch-site", "same-origin"),
    ])
    .await
    .expect(200);
    for method in [Some("POST"), Some("DELETE"), Some("G T"), None] {
        let method = method.map(|method| ("x-forwarded-method", method));
        let foreign = [("sec-fetch-site", "cross-site")];
        let refused = asks(&[method.as_slice(), &foreign].concat()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method:?}");
        assert_eq!(refused.header("x-zenop-id"), None);
    }
}

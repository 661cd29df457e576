//! An OAuth client that was not written for ZenML goes through the device flow.

use std::{convert::Infallible, str::FromStr, time::Duration};

use axum::{body::Body, http::Method};
use oauth2::{
    AuthType, ClientId, DeviceAuthorizationUrl, HttpRequest, HttpResponse,
    StandardDeviceAuthorizationResponse, TokenResponse, TokenUrl, basic::BasicClient,
};
use serde_json::json;

use super::client::{Server, bearer, now, request};
use zenop::http::Options;

#[tokio::test]
async fn an_independent_client_is_let_in() {
    let server = Server::with(Options::default(), now);
    server.change(|state| {
        let mut settings = (*state.settings).clone();
        settings.public_url = Some("https://zenml.example.org".into());
        state.settings = settings.into();
    });
    let url = |path: &str| format!("https://zenml.example.org/api/v1/{path}");
    let client = BasicClient::new(ClientId::new(uuid::Uuid::from_u128(7).to_string()))
        .set_auth_type(AuthType::RequestBody)
        .set_device_authorization_url(
            DeviceAuthorizationUrl::new(url("device_authorization")).unwrap(),
        )
        .set_token_uri(TokenUrl::new(url("login")).unwrap());
    let router = &server.router;
    let http = |request: HttpRequest| async move {
        use tower::ServiceExt;
        let (mut parts, body) = request.into_parts();
        parts.uri = parts.uri.path().parse().unwrap();
        let request = axum::http::Request::from_parts(parts, Body::from(body));
        let answer = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok::<_, Infallible>(HttpResponse::from_parts(parts, body.to_vec()))
    };
    let told: StandardDeviceAuthorizationResponse = client
        .exchange_device_code()
        .request_async(&http)
        .await
        .unwrap();
    assert_eq!(told.interval(), Duration::from_secs(5));
    assert_eq!(told.expires_in(), Duration::from_secs(300));
    let link = told.verification_uri_complete().unwrap().secret();
    let link = axum::http::Uri::from_str(link).unwrap();
    assert_eq!(link.path(), "/devices/verify");
    let device = link.query().unwrap().split(['=', '&']).nth(1).unwrap();

    // It polls once in vain; before the next time somebody approves.
    let (code, key) = (told.user_code().secret(), server.key.text());
    let approve = |_: Duration| async {
        let path = format!("/api/v1/devices/{device}/verify");
        let request = request(Method::PUT, &path)
            .header("authorization", bearer(&key))
            .header("content-type", "application/json")
            .body(Body::from(json!({"user_code": code}).to_string()));
        server.send(request.unwrap()).await.expect(200);
    };
    let token = client
        .exchange_device_access_token(&told)
        .request_async(&http, approve, None)
        .await
        .unwrap();
    assert_eq!(token.expires_in(), Some(Duration::from_secs(86_400)));
    let token = token.access_token().secret();
    server
        .get_as(token, "/api/v1/current-user")
        .await
        .expect(200);
}

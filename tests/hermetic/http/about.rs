//! What users say of themselves: whether ZenML may have their mail address, and what the form of
//! the dashboard asks beside a password.

use axum::http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};
use zenop::auth::credential::{Activation, ActivationToken, Credential};

use super::{
    client::{Answer, now, request},
    users::{ME, Scene, USERS, refused, text},
};

/// A user `eve` that was made here, and so can be changed here; its token.
async fn eve(scene: &Scene) -> String {
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "is_admin": false, "password": "password of eve"});
    let made = scene.send(&ana, Method::POST, USERS, &create).await;
    assert_eq!(
        made.expect(200).json()["body"]["email_opted_in"],
        Value::Null
    );
    scene.token("eve").await
}

/// What the dashboard looks at: as long as one of them is missing, it asks.
fn told(answer: Answer) -> (Value, Value) {
    let user = answer.expect(200).json();
    (
        user["body"]["email_opted_in"].clone(),
        user["metadata"]["email"].clone(),
    )
}

#[tokio::test]
async fn who_is_asked_for_its_mail_address_is_asked_once() {
    let scene = Scene::new();
    let eve = eve(&scene).await;
    let id = text(&scene.server.get_as(&eve, ME).await.expect(200).json()["id"]);
    let answer = async |who: &str, body: Value| {
        let path = format!("{USERS}/{who}/email-opt-in");
        scene.put(&eve, &path, &body).await
    };
    let agrees = json!({"email": "eve@example.org", "email_opted_in": true});
    let skips = json!({"email": null, "email_opted_in": false});

    let none = answer(&id, json!({"email_opted_in": true}))
        .await
        .expect(422)
        .json();
    assert!(text(&none[1]).contains("provide an email"), "{none}");
    assert_eq!(
        told(answer(&id, skips.clone()).await),
        (json!(false), Value::Null)
    );
    let agreed = told(answer("eve", agrees.clone()).await);
    assert_eq!(agreed, (json!(true), json!("eve@example.org")));
    let me = scene.server.get_as(&eve, ME).await.expect(200).json();
    assert_eq!(me["body"]["email_opted_in"], true);
    assert_eq!(
        me["metadata"]["user_metadata"]["finished_onboarding_survey"],
        true
    );
    // Nothing else of the body counts here.
    let more =
        json!({"name": "eva", "full_name": "Eva", "is_admin": true, "email_opted_in": false});
    let user = answer(&id, more).await.expect(200).json();
    assert_eq!(
        (&user["name"], &user["body"]["is_admin"]),
        (&json!("eve"), &json!(false))
    );
    assert_eq!(
        (&user["body"]["full_name"], &user["body"]["email_opted_in"]),
        (&json!(""), &json!(false))
    );
    // The other ways to change oneself say it too.
    assert_eq!(told(scene.put(&eve, ME, &agrees).await), agreed);
    let list = format!("{USERS}?email_opted_in=true");
    let ana = scene.token("ana").await;
    let list = scene.server.get_as(&ana, &list).await.expect(200).json();
    assert_eq!(
        (&list["total"], &list["items"][0]["name"]),
        (&json!(1), &json!("eve"))
    );
}

#[tokio::test]
async fn nobody_answers_for_another_and_what_is_declared_stays() {
    let scene = Scene::new();
    let (ana, bo) = (scene.token("ana").await, scene.token("bo").await);
    let skips = json!({"email_opted_in": false});
    for other in ["ana", "nobody", &uuid::Uuid::nil().to_string()] {
        let path = format!("{USERS}/{other}/email-opt-in");
        let answer = scene.put(&bo, &path, &skips).await;
        refused(
            answer,
            401,
            "AuthorizationException",
            "on behalf of another user",
        );
    }
    let of_bo = format!("{USERS}/bo");
    let answer = scene.put(&ana, &of_bo, &skips).await;
    refused(
        answer,
        403,
        "IllegalOperationError",
        "private user account information",
    );
    // As a service account has none.
    let (key, own) = (
        scene.server.key.text(),
        format!("{USERS}/{}/email-opt-in", scene.server.account),
    );
    let answer = scene.put(&key, &own, &skips).await;
    refused(
        answer,
        401,
        "AuthorizationException",
        "on behalf of another user",
    );
    let declared = scene
        .put(&bo, &format!("{of_bo}/email-opt-in"), &skips)
        .await;
    refused(declared, 409, "EntityExistsError", "declared in Kubernetes");
    let me = scene.server.get_as(&bo, ME).await.expect(200).json();
    assert_eq!(me["body"]["email_opted_in"], Value::Null);
}

/// The form of the dashboard: password, name, mail address, survey.
#[tokio::test]
async fn who_activates_itself_says_who_it_is_unless_that_is_declared() {
    let scene = Scene::new();
    let ana = scene.token("ana").await;
    let create = json!({"name": "eve", "is_admin": false});
    let made = scene
        .send(&ana, Method::POST, USERS, &create)
        .await
        .expect(200)
        .json();
    let activate = async |name: &str, token: &Value, email: Value, opted_in: bool| {
        let body = json!({
            "activation_token": token, "password": "battery staple", "full_name": "Eve Mill",
            "email": email, "email_opted_in": opted_in,
            "user_metadata": {"finished_onboarding_survey": true, "primary_role": "other"},
        });
        let path = format!("{USERS}/{name}/activate");
        let request = request(Method::PUT, &path).header("content-type", "application/json");
        scene
            .server
            .send(request.body(body.to_string().into()).unwrap())
            .await
    };
    let token = &made["body"]["activation_token"];
    // Nothing is used up by what cannot be read.
    activate("eve", token, Value::Null, true).await.expect(422);
    let active = activate("eve", token, json!("eve@example.org"), true)
        .await
        .expect(200)
        .json();
    assert_eq!(active["body"]["full_name"], "Eve Mill");
    assert_eq!(active["body"]["email_opted_in"], true);
    let form = "username=eve&password=battery+staple";
    let login = scene
        .server
        .post_form("/api/v1/login", form)
        .await
        .expect(200)
        .json();
    let me = scene
        .server
        .get_as(&text(&login["access_token"]), ME)
        .await
        .expect(200)
        .json();
    assert_eq!(me["metadata"]["email"], "eve@example.org");

    let token = ActivationToken::from_random(&[5; 32]);
    scene.server.change(|state| {
        let until = now() + SignedDuration::from_hours(1);
        let activation = Activation::new(state.keyring.pepper(), scene.bo, &token, until);
        let credential = Credential::Activation(activation);
        state.directory.set_credential(scene.bo, credential);
    });
    let active = activate("bo", &json!(token.text()), Value::Null, false)
        .await
        .expect(200)
        .json();
    assert_eq!(active["body"]["active"], true);
    assert_eq!(active["body"]["full_name"], "");
    assert_eq!(active["body"]["email_opted_in"], Value::Null);
    let form = "username=bo&password=battery+staple";
    scene
        .server
        .post_form("/api/v1/login", form)
        .await
        .expect(200);
}

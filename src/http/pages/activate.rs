//! The page to choose a password, with a token: where the link leads that `zenml user create`
//! prints.

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Frame, Page,
    form::{Browser, Kind},
    notice::{self, Mood, Notice, Terms},
    visitor::Visitor,
};
use crate::http::{
    App, Refusal,
    extract::{Form, NameOrId},
    routes::activation,
};

#[derive(Template)]
#[template(path = "activate.html")]
struct ActivatePage<'a> {
    frame: Frame,
    error: Option<String>,
    csrf: String,
    user: &'a str,
    token: &'a str,
}

/// What the page sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Fields {
    csrf: String,
    user: String,
    token: SecretString,
    password: SecretString,
    again: SecretString,
}

/// `GET /activate-user`, with the parameters `user` or `username`, and `token`. Nothing is looked
/// at: who is no user is told so no sooner than who has no token.
pub(in crate::http) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let query = uri.query().unwrap_or_default().as_bytes();
    let parameter = |wanted: &str| {
        let mut all = form_urlencoded::parse(query);
        let found = all.find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    let user = parameter("user").or_else(|| parameter("username"));
    let token = SecretString::from(parameter("token").unwrap_or_default());
    let asked = Asked {
        status: StatusCode::OK,
        error: None,
        user: &user.unwrap_or_default(),
        token: &token,
    };
    asked.show(&app, &visitor, &headers)
}

/// `POST /activate-user`.
pub(in crate::http) async fn choose(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Response {
    let checked = fields.and_then(|Form(fields)| {
        Browser::check(&app, &headers, Kind::Activate, &fields.csrf).map(|()| fields)
    });
    let fields = match checked {
        Ok(fields) => fields,
        Err(refusal) => return notice::refused(&refusal, &app, "", &visitor),
    };
    let again = |status, error: &str| Asked {
        status,
        error: Some(error.to_owned()),
        user: &fields.user,
        token: &fields.token,
    };
    if fields.password.expose_secret() != fields.again.expose_secret() {
        let differ = again(StatusCode::BAD_REQUEST, "The two passwords differ.");
        return differ.show(&app, &visitor, &headers);
    }
    let (user, token) = (NameOrId::new(&fields.user), fields.token.clone());
    let chosen = activation::on_page(
        app.clone(),
        visitor.request.clone(),
        visitor.address,
        user,
        token,
        fields.password.clone(),
    );
    match chosen.await {
        Ok(()) => Notice::new(
            StatusCode::OK,
            Mood::Good,
            "Your password is set",
            "The link that brought you here is used up.",
        )
        .onward("login?return_to=devices", "Sign in")
        .show(&app, "", &visitor),
        Err(refusal) => {
            let terms = Terms::of(&refusal);
            let page = again(terms.status, &why(&refusal)).show(&app, &visitor, &headers);
            terms.on(page)
        }
    }
}

/// What is asked of who is to choose.
struct Asked<'a> {
    status: StatusCode,
    error: Option<String>,
    user: &'a str,
    token: &'a SecretString,
}

impl Asked<'_> {
    fn show(self, app: &App, visitor: &Visitor, headers: &HeaderMap) -> Response {
        let Some(settings) = app.settings() else {
            return notice::refused(&Refusal::Unexpected, app, "", visitor);
        };
        let browser = Browser::of(app, &settings, headers);
        let page = ActivatePage {
            frame: Frame::new(app, "", visitor),
            error: self.error,
            csrf: browser.token(app, Kind::Activate),
            user: self.user,
            token: self.token.expose_secret(),
        };
        let mut response = Page(self.status, page).into_response();
        browser.remember(&settings, &mut response);
        response
    }
}

fn why(refusal: &Refusal) -> String {
    let said = match refusal {
        Refusal::WeakPassword(why) => return format!("That password cannot be used: {why}."),
        Refusal::Credentials(_) => {
            "This link was used, its time is over, or it is not for this user. Ask who gave it to \
             you for a new one."
        }
        Refusal::TooMany(_) | Refusal::Crowded(_) => {
            "Too many attempts. Wait a minute, then try again."
        }
        _ => "The server cannot do that now. Try again in a moment.",
    };
    said.to_owned()
}

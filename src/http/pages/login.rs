//! The pages to log in and out.

use askama::Template;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Frame, Page,
    form::{self, Browser, Kind},
    notice::{self, Mood, Notice, Terms},
    sent_to,
    visitor::Visitor,
};
use crate::http::{
    App, Refusal,
    extract::Form,
    routes::login,
    session::{self, Cookie},
    upstream,
};

/// What the login page is asked for with `done` by a browser that was signed out everywhere.
pub(super) const OUT: &str = "everywhere";

/// Somebody else who may say who a person is.
pub(super) struct Provider {
    /// Its name, as people know it.
    pub(super) name: String,
    /// Where to go for it, relative to the login page.
    pub(super) href: String,
}

/// Who else may say who a person is. `return_to` is where it goes on afterwards.
fn providers(app: &App, return_to: &str) -> Vec<Provider> {
    let settings = app.settings();
    let provider = settings.as_ref().and_then(|of| of.scheme.provider());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("return_to", return_to)
        .finish();
    let shown = provider.map(|provider| Provider {
        name: provider
            .name
            .clone()
            .unwrap_or_else(|| provider.issuer.clone()),
        href: format!("login/external?{query}"),
    });
    shown.into_iter().collect()
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    for_device: bool,
    /// Whether a password lets anybody in.
    passwords: bool,
    /// Whether the browser comes from signing out everywhere.
    is_out: bool,
    error: Option<&'static str>,
    csrf: String,
    return_to: &'a str,
    username: &'a str,
    providers: Vec<Provider>,
}

/// What the login page sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct LoginFields {
    csrf: String,
    return_to: String,
    username: String,
    password: SecretString,
}

/// What the form to log out sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct LogoutFields {
    csrf: String,
}

/// `GET /login`. The ZenML server's dashboard has a page of that path, too, which it keeps to itself
/// whether somebody is logged in; ours is the one that says where it leads.
pub(in crate::http) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
    request: Request,
) -> Response {
    let query = uri.query().unwrap_or_default().as_bytes();
    let given = |wanted| {
        let found = form_urlencoded::parse(query).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value)
    };
    let (return_to, done) = (given("return_to"), given("done"));
    if app.upstream().is_some() && return_to.is_none() && done.is_none() {
        return upstream::pass(State(app), request).await.into_response();
    }
    let return_to = return_to.unwrap_or_default();
    let return_to = form::onward(&return_to);
    if let Some(trouble) = &visitor.trouble {
        return notice::refused(trouble, &app, "", &visitor);
    }
    if visitor.session.is_some() {
        return sent_to(return_to);
    }
    let asked = Asked {
        status: StatusCode::OK,
        is_out: done.is_some_and(|done| done == OUT),
        error: None,
        return_to,
        username: "",
    };
    asked.show(&app, &visitor, &headers)
}

/// `POST /login`.
pub(in crate::http) async fn log_in(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<LoginFields>, Refusal>,
) -> Response {
    let fields = match fields {
        Ok(Form(fields)) => fields,
        Err(refusal) => return notice::refused(&refusal, &app, "", &visitor),
    };
    let return_to = form::onward(&fields.return_to);
    if let Err(refusal) = Browser::check(&app, &headers, Kind::LogIn, &fields.csrf) {
        return notice::refused(&refusal, &app, "", &visitor);
    }
    let (name, password) = (&*fields.username, fields.password.expose_secret());
    match login::on_page(&app, &visitor.request, visitor.address, name, password).await {
        Ok(cookie) => {
            let mut response = sent_to(return_to);
            set_cookies(&app, &mut response, Ok(cookie));
            response
        }
        Err(refusal) => {
            let terms = Terms::of(&refusal);
            let asked = Asked {
                status: terms.status,
                is_out: false,
                error: Some(why(&refusal)),
                return_to,
                username: name,
            };
            terms.on(asked.show(&app, &visitor, &headers))
        }
    }
}

/// `POST /logout`.
pub(in crate::http) async fn log_out(
    State(app): State<App>,
    mut visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<LogoutFields>, Refusal>,
) -> Response {
    let notice = Notice::new(
        StatusCode::OK,
        Mood::Calm,
        "You are signed out",
        "In this browser. Computers that you approved stay logged in.",
    );
    let notice = notice.onward("login?return_to=devices", "Sign in again");
    let Some(session) = visitor.session.take() else {
        return notice.show(&app, "", &visitor);
    };
    let checked = fields
        .and_then(|Form(fields)| Kind::LogOut.check(&app, &headers, &session.id, &fields.csrf));
    if let Err(refusal) = checked {
        visitor.session = Some(session);
        return notice::refused(&refusal, &app, "", &visitor);
    }
    let mut response = notice.show(&app, "", &visitor);
    forget(&app, &mut response);
    response
}

/// Ends the session of the browser that is answered.
pub(super) fn forget(app: &App, response: &mut Response) {
    if let Some(settings) = app.settings() {
        let gone = session::cookie(&settings, Cookie::Session, "", 0);
        set_cookies(app, response, gone);
    }
}

/// Sets the session's cookie, and ends that of the form: the next session begins with another.
fn set_cookies(app: &App, response: &mut Response, session: Result<HeaderValue, Refusal>) {
    let form = app
        .settings()
        .and_then(|settings| session::cookie(&settings, Cookie::Form, "", 0).ok());
    for cookie in session.ok().into_iter().chain(form) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// What is asked of who is to log in.
struct Asked<'a> {
    status: StatusCode,
    is_out: bool,
    error: Option<&'static str>,
    return_to: &'a str,
    username: &'a str,
}

impl Asked<'_> {
    fn show(self, app: &App, visitor: &Visitor, headers: &HeaderMap) -> Response {
        let Some(settings) = app.settings() else {
            return notice::refused(&Refusal::Unexpected, app, "", visitor);
        };
        let browser = Browser::of(app, &settings, headers);
        let page = LoginPage {
            frame: Frame::new(app, "", visitor),
            for_device: self.return_to.starts_with("devices/verify"),
            passwords: settings.scheme.takes_passwords(),
            is_out: self.is_out,
            error: self.error,
            csrf: browser.token(app, Kind::LogIn),
            return_to: self.return_to,
            username: self.username,
            providers: providers(app, self.return_to),
        };
        let mut response = Page(self.status, page).into_response();
        browser.remember(&settings, &mut response);
        response
    }
}

fn why(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Credentials(_) => {
            "Wrong user name or password, or this user may not sign in. Try again."
        }
        Refusal::TooMany(_) | Refusal::Crowded(_) => {
            "Too many attempts. Wait a minute, then try again."
        }
        _ => "The server cannot check that now. Try again in a moment.",
    }
}

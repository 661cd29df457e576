//! The page on which somebody decides about a device (RFC 8628, 3.3 and 5.4).
//!
//! 1. Who is not logged in does that first; the code is not looked at before (attacks.md V01).
//! 2. The code is shown as what it states: what asks, from where, since when. A code that is wrong,
//!    over, used or denied is all one (V05).
//! 3. A decision is made by a click on a form of this session for this device (V07, V13, V21).

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Frame, Page,
    form::{self, Kind},
    notice::{self, Mood, Notice},
    sent_to,
    visitor::{Session, Visitor},
    words,
};
use crate::{
    auth::device_code::Request,
    http::{
        App, Refusal,
        decisions::{self, Code},
        extract::Form,
        layers::Changed,
    },
};

const ROOT: &str = "../";
const UNKNOWN: &str = "unknown";

#[derive(Template)]
#[template(path = "code.html")]
struct CodePage {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "verify.html")]
struct VerifyPage<'a> {
    frame: Frame,
    user: &'a str,
    error: Option<&'static str>,
    hostname: &'a str,
    os: &'a str,
    program: String,
    address: String,
    client: Uuid,
    started: Timestamp,
    age: String,
    expires: Timestamp,
    rest: String,
    elsewhere: bool,
    here: String,
    burst: bool,
    trust_allowed: bool,
    trusted: bool,
    trusted_for: String,
    untrusted_for: String,
    csrf: String,
    device: Uuid,
    user_code: &'a str,
}

/// What the page sends.
#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Fields {
    csrf: String,
    device_id: Uuid,
    user_code: String,
    decision: Option<Decision>,
    trusted: Option<String>,
    sure: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
    Deny,
}

/// `GET /devices/verify`.
pub(in crate::http) async fn show(State(app): State<App>, visitor: Visitor, uri: Uri) -> Response {
    let answer = shown(&app, &visitor, &uri);
    answer.unwrap_or_else(|refusal| notice::refused(&refusal, &app, ROOT, &visitor))
}

fn shown(app: &App, visitor: &Visitor, uri: &Uri) -> Result<Response, Refusal> {
    if let Some(trouble) = &visitor.trouble {
        return Err(trouble.clone());
    }
    let asked = Asked::read(uri.query().unwrap_or_default())?;
    let Some(session) = &visitor.session else {
        return Ok(sent_to(&log_in_first(&asked)));
    };
    let Some(code) = &asked.code else {
        let frame = Frame::new(app, ROOT, visitor);
        return Ok(Page(StatusCode::OK, CodePage { frame }).into_response());
    };
    let who = session.decider(visitor.address);
    match decisions::read_code(app, who, asked.device, code)? {
        Code::Open(request) => match is_settled(app, session, &request)? {
            Some(notice) => Ok(notice.show(app, ROOT, visitor)),
            None => {
                let deciding = Deciding {
                    app,
                    visitor,
                    session,
                    code,
                };
                Ok(deciding.ask(&request, None, false))
            }
        },
        Code::Over | Code::Wrong => Ok(notice::of_unusable_code().show(app, ROOT, visitor)),
    }
}

/// What a link asks for.
struct Asked {
    code: Option<String>,
    device: Option<Uuid>,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            code: None,
            device: None,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "user_code" => asked.code = Some(read_code(&value)?),
                "device_id" => {
                    let id = Uuid::try_parse(&value);
                    asked.device = Some(id.map_err(|_| Refusal::Malformed("no device id"))?);
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn read_code(text: &str) -> Result<String, Refusal> {
    form::pasted(text).map_err(|_| Refusal::Malformed("no code"))
}

/// The login page, which leads back. A code that cannot be in a link is not taken along.
fn log_in_first(asked: &Asked) -> String {
    let mut place = String::from("devices/verify");
    if let Some(code) = &asked.code {
        place += "?";
        if let Some(device) = asked.device {
            place += &format!("device_id={device}&");
        }
        place += &format!("user_code={code}");
    }
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("return_to", form::onward(&place))
        .finish();
    format!("{ROOT}login?{query}")
}

/// What is said if there is nothing to decide any more. Only who approved it is told so.
fn is_settled(app: &App, session: &Session, request: &Request) -> Result<Option<Notice>, Refusal> {
    let view = app.view()?;
    let directory = &view.directory;
    if directory.is_denied(request.device) {
        return Ok(Some(notice::of_unusable_code()));
    }
    let Some(device) = directory.device(request.device) else {
        return Ok(None);
    };
    let is_own = device.approval.account == session.who.account;
    Ok(Some(match is_own {
        true => approved("You approved this already"),
        false => notice::of_unusable_code(),
    }))
}

fn approved(title: &'static str) -> Notice {
    let line = "The computer is being logged in: go back to its terminal. You may close this page.";
    Notice::new(StatusCode::OK, Mood::Good, title, line).onward("../devices", "Your devices")
}

fn denied() -> Notice {
    let line = "The computer is not logged in, and this code is over for ever. You may close this \
                page.";
    Notice::new(StatusCode::OK, Mood::Calm, "Denied", line)
}

/// `POST /devices/verify`.
pub(in crate::http) async fn decide(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Response {
    let answer = decided(&app, &visitor, &headers, fields).await;
    answer.unwrap_or_else(|refusal| notice::refused(&refusal, &app, ROOT, &visitor))
}

async fn decided(
    app: &App,
    visitor: &Visitor,
    headers: &HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Result<Response, Refusal> {
    if let Some(trouble) = &visitor.trouble {
        return Err(trouble.clone());
    }
    let Some(session) = &visitor.session else {
        return Ok(signed_out(fields.ok()).show(app, ROOT, visitor));
    };
    let Form(fields) = fields?;
    let (device, who) = (fields.device_id, session.decider(visitor.address));
    Kind::Decide(device).check(app, headers, &session.id, &fields.csrf)?;
    let code = read_code(&fields.user_code)?;
    let request = match decisions::read_code(app, who, Some(device), &code)? {
        Code::Open(request) => request,
        Code::Over | Code::Wrong => {
            return Ok(notice::of_unusable_code().show(app, ROOT, visitor));
        }
    };
    if let Some(notice) = is_settled(app, session, &request)? {
        return Ok(notice.show(app, ROOT, visitor));
    }
    let changer = session.changer(app, visitor);
    let notice = match fields.decision {
        Some(Decision::Deny) => {
            let task = app.clone();
            let work = async move { decisions::deny(&task, who, request).await };
            changer.run(Changed::DenyDevice, device, work).await?;
            denied()
        }
        Some(Decision::Approve) => {
            let is_many = app.bursts().shown(who.account, device, app.now());
            let trusted = fields.trusted.is_some();
            if is_many && fields.sure.is_none() {
                let deciding = Deciding {
                    app,
                    visitor,
                    session,
                    code: &code,
                };
                let error = "Nothing was approved: say first that you started this one yourself.";
                return Ok(deciding.ask(&request, Some(error), trusted));
            }
            let task = app.clone();
            let work = async move { decisions::approve(&task, who, request, trusted).await };
            changer.run(Changed::ApproveDevice, device, work).await?;
            approved("Approved")
        }
        None => return Err(Refusal::Malformed("no decision")),
    };
    Ok(notice.show(app, ROOT, visitor))
}

/// A form of a session that is over, or of a user who may not log in any more.
fn signed_out(fields: Option<Form<Fields>>) -> Notice {
    let asked = Asked {
        code: fields.and_then(|Form(fields)| form::pasted(&fields.user_code).ok()),
        device: None,
    };
    let notice = Notice::new(
        StatusCode::FORBIDDEN,
        Mood::Bad,
        "You are not signed in",
        "Your session is over, or was never begun. Nothing was changed.",
    );
    notice.onward(log_in_first(&asked), "Sign in")
}

/// Somebody who is asked about a device.
struct Deciding<'a> {
    app: &'a App,
    visitor: &'a Visitor,
    session: &'a Session,
    code: &'a str,
}

impl Deciding<'_> {
    fn ask(&self, request: &Request, error: Option<&'static str>, trusted: bool) -> Response {
        let Some(settings) = self.app.settings() else {
            return Refusal::Unexpected.into_response();
        };
        let (terms, origin, now) = (&settings.devices, &request.origin, self.app.now());
        let who = self.session.decider(self.visitor.address);
        let here = self.visitor.address.0;
        let is_known = here.is_some() && origin.address.is_some();
        let program = |name: &str, version: &Option<String>| {
            version.as_ref().map(|version| format!("{name} {version}"))
        };
        let programs = [
            program("ZenML", &origin.zenml_version),
            program("Python", &origin.python_version),
        ];
        let programs: Vec<String> = programs.into_iter().flatten().collect();
        let page = VerifyPage {
            frame: Frame::new(self.app, ROOT, self.visitor),
            user: &self.session.user,
            error,
            hostname: origin.hostname.as_deref().unwrap_or(UNKNOWN),
            os: origin.os.as_deref().unwrap_or(UNKNOWN),
            program: match programs.is_empty() {
                true => UNKNOWN.to_owned(),
                false => programs.join(", "),
            },
            address: words::or_unknown(origin.address),
            client: request.client,
            started: request.started,
            age: words::ago(request.started, now),
            expires: request.expires,
            rest: words::ahead(request.expires, now),
            elsewhere: is_known && !who.is_near(request),
            here: words::or_unknown(here),
            burst: self.app.bursts().shown(who.account, request.device, now),
            trust_allowed: terms.trust_allowed,
            trusted,
            trusted_for: words::span(terms.trusted),
            untrusted_for: words::span(terms.untrusted),
            csrf: Kind::Decide(request.device)
                .token(self.app, self.session)
                .unwrap_or_default(),
            device: request.device,
            user_code: self.code,
        };
        let status = match error {
            Some(_) => StatusCode::CONFLICT,
            None => StatusCode::OK,
        };
        Page(status, page).into_response()
    }
}

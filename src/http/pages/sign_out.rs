//! Signing out everywhere: what one does when a laptop is gone.
//!
//! 1. The user's epoch is raised, whoever declared the user. What was issued before is over with
//!    it: browsers, programs, computers, and an approval whose token nobody fetched yet.
//! 2. It is answered once this server decides so. The browser that asked for it is signed out too.
//! 3. Where somebody declares the epoch itself, it may be put back: the page says where, and to what
//!    it is to be raised there.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    form::Kind,
    login,
    notice::{self, Mood, Notice},
    sent_to,
    visitor::Visitor,
};
use crate::{
    http::{App, Refusal, extract::Form, layers::Changed},
    store::{
        NotChanged, State as View,
        registrar::{Declared, Object, SignedOut},
    },
};

/// What the form sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Fields {
    csrf: String,
}

/// `POST /devices/sign-out`.
pub(in crate::http) async fn everywhere(
    State(app): State<App>,
    mut visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Response {
    let Some(session) = visitor.session.take() else {
        return match &visitor.trouble {
            Some(trouble) => notice::refused(trouble, &app, "../", &visitor),
            None => notice::without_session(&app, &visitor),
        };
    };
    let checked = fields
        .and_then(|Form(fields)| Kind::SignOut.check(&app, &headers, &session.id, &fields.csrf));
    let account = session.who.account;
    let changer = session.changer(&app, &visitor);
    let work = end_all(app.clone(), account);
    let done = match checked {
        Ok(()) => changer.run(Changed::SignOutEverywhere, account, work).await,
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(done) => {
            let mut response = told(&app, done, &visitor);
            login::forget(&app, &mut response);
            response
        }
        Err(refusal) => {
            visitor.session = Some(session);
            notice::refused(&refusal, &app, "../", &visitor)
        }
    }
}

async fn end_all(app: App, account: Uuid) -> Result<SignedOut, Refusal> {
    let user = {
        let view = app.view()?;
        let user = view.directory.user(account);
        let user = user.ok_or(Refusal::NotAuthenticated)?;
        Object {
            uid: user.id,
            name: user.object.clone(),
        }
    };
    let done = app.registrar().sign_out(user).await;
    let done = done.map_err(Refusal::NotChanged)?;
    let over = |state: &View| {
        let user = state.directory.user(account);
        user.is_none_or(|user| user.epoch >= done.epoch)
            .then_some(())
    };
    let seen = app.revoked(over).await;
    seen.ok_or(Refusal::NotChanged(NotChanged::Unreachable))?;
    Ok(done)
}

fn told(app: &App, done: SignedOut, visitor: &Visitor) -> Response {
    match done.declared {
        None => sent_to(&format!("../login?done={}", login::OUT)),
        Some(declared) => for_now(&declared, done.epoch).show(app, "../", visitor),
    }
}

fn for_now(declared: &Declared, epoch: i64) -> Notice {
    let mut notice = Notice::new(
        StatusCode::OK,
        Mood::Bad,
        "You are signed out, for now",
        "In every browser, on every computer, and here. But it may not last: your session epoch is \
         set elsewhere too, and can be put back from there.",
    );
    let told = format!("Ask for spec.sessionEpoch to be set to {epoch} there. {declared}");
    notice.lines.push(told);
    notice.onward("../login?return_to=devices", "Sign in again")
}

//! The page on which somebody sees the devices that are logged in as them, locks and removes them.

use std::cmp::Reverse;

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
    form::Kind,
    notice, sent_to,
    visitor::{Session, Visitor},
    words,
};
use crate::{
    auth::device::{Device, DeviceState, Terms},
    http::{App, Refusal, extract::Form, layers::Changed, routes::change_devices},
};

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    frame: Frame,
    done: Option<&'static str>,
    devices: Vec<Row>,
    /// The token of the form to sign out everywhere.
    sign_out: String,
}

/// A device as it is shown.
struct Row {
    id: Uuid,
    name: String,
    system: String,
    address: String,
    state: &'static str,
    class: &'static str,
    locked: bool,
    trusted: bool,
    /// Whether it is over by what happened to its user.
    out: bool,
    approved: String,
    approved_at: Timestamp,
    used: String,
    ends: String,
    ends_word: &'static str,
    ends_at: Timestamp,
    csrf: String,
}

/// What a device's form sends.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Fields {
    csrf: String,
    device_id: Uuid,
    change: Option<Wanted>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Lock,
    Unlock,
    Remove,
}

impl Wanted {
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Lock => (
                "locked",
                "It is locked: what it sends is refused from now on.",
            ),
            Self::Unlock => ("unlocked", "It is unlocked, and logged in again as before."),
            Self::Remove => ("removed", "It is removed, and logged out for ever."),
        }
    }
}

/// `GET /devices`.
pub(in crate::http) async fn list(State(app): State<App>, visitor: Visitor, uri: Uri) -> Response {
    let answer = listed(&app, &visitor, &uri);
    answer.unwrap_or_else(|refusal| notice::refused(&refusal, &app, "", &visitor))
}

fn listed(app: &App, visitor: &Visitor, uri: &Uri) -> Result<Response, Refusal> {
    if let Some(trouble) = &visitor.trouble {
        return Err(trouble.clone());
    }
    let Some(session) = &visitor.session else {
        return Ok(sent_to("login?return_to=devices"));
    };
    let done = uri.query().and_then(|query| query.strip_prefix("done="));
    let all = [Wanted::Lock, Wanted::Unlock, Wanted::Remove].map(Wanted::told);
    let done = all.into_iter().find(|(word, _)| Some(*word) == done);
    let page = DevicesPage {
        frame: Frame::new(app, "", visitor),
        done: done.map(|(_, text)| text),
        devices: rows(app, session)?,
        sign_out: Kind::SignOut.token(app, session).unwrap_or_default(),
    };
    Ok(Page(StatusCode::OK, page).into_response())
}

/// The latest first; those that are over are as good as gone.
fn rows(app: &App, session: &Session) -> Result<Vec<Row>, Refusal> {
    let (view, now) = (app.view()?, app.now());
    let (directory, pepper) = (&view.directory, view.keyring.pepper());
    let own = directory.devices_of(session.who.account);
    let mut own: Vec<&Device> = own.collect();
    own.sort_by_key(|device| Reverse(device.approval.approved));
    let csrf = |device: &Device| Kind::Change(device.id()).made(pepper, &session.id);
    let stamp = directory.stamp(session.who.account);
    let row = |device: &Device| {
        let stands = device.stands(pepper, view.settings.id, stamp);
        row(device, stands, directory.terms(), now, csrf(device))
    };
    Ok(own.into_iter().map(row).collect())
}

fn row(device: &Device, stands: bool, terms: &Terms, now: Timestamp, csrf: String) -> Row {
    let (state, class) = match device.state(terms, now) {
        DeviceState::Approved | DeviceState::Active if !stands => ("Signed out", ""),
        DeviceState::Approved => ("Waits to log in", "warn"),
        DeviceState::Active => ("Active", "good"),
        DeviceState::Locked => ("Locked", "bad"),
        DeviceState::Expired => ("Over", ""),
    };
    let (approved, ends) = (device.approval.approved, device.end(terms));
    let used = device.last_used();
    Row {
        id: device.id(),
        name: words::or_unknown(device.origin.hostname.as_ref()),
        system: words::or_unknown(device.origin.os.as_ref()),
        address: words::or_unknown(device.origin.address),
        state,
        class,
        locked: device.locked,
        out: !stands,
        trusted: device.trusted && terms.trust_allowed,
        approved: words::ago(approved, now),
        approved_at: approved,
        used: used.map_or_else(|| "never".to_owned(), |at| words::ago(at, now)),
        ends: words::ahead(ends, now),
        ends_word: if ends > now { "Ends" } else { "Ended" },
        ends_at: ends,
        csrf,
    }
}

/// `POST /devices/change`.
pub(in crate::http) async fn change(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Response {
    let answer = changed(&app, &visitor, &headers, fields).await;
    answer.unwrap_or_else(|refusal| notice::refused(&refusal, &app, "../", &visitor))
}

async fn changed(
    app: &App,
    visitor: &Visitor,
    headers: &HeaderMap,
    fields: Result<Form<Fields>, Refusal>,
) -> Result<Response, Refusal> {
    if let Some(trouble) = &visitor.trouble {
        return Err(trouble.clone());
    }
    let Some(session) = &visitor.session else {
        return Ok(notice::without_session(app, visitor));
    };
    let Form(fields) = fields?;
    let device = fields.device_id;
    Kind::Change(device).check(app, headers, &session.id, &fields.csrf)?;
    let wanted = fields.change.ok_or(Refusal::Malformed("no change"))?;
    let (task, account) = (app.clone(), session.who.account);
    let work = async move {
        match wanted {
            Wanted::Lock => change_devices::set_locked(&task, account, device, Some(true)).await,
            Wanted::Unlock => change_devices::set_locked(&task, account, device, Some(false)).await,
            Wanted::Remove => change_devices::remove(&task, account, device).await,
        }
    };
    let what = match wanted {
        Wanted::Lock => Changed::LockDevice,
        Wanted::Unlock => Changed::UnlockDevice,
        Wanted::Remove => Changed::DeleteDevice,
    };
    session
        .changer(app, visitor)
        .run(what, device, work)
        .await?;
    Ok(sent_to(&format!("../devices?done={}", wanted.told().0)))
}

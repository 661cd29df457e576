//! What comes back from a form, before it is believed.
//!
//! - A form's token is bound to the session, to the kind of form and to the device that it is about
//!   (attacks.md V07, V21): one of another session, or for another device, is none.
//! - Before there is a session, that of the login form is bound to a cookie of that browser alone.
//! - Whoever logs in is sent to one of two pages, whatever a link says (V11).

use axum::{
    http::{HeaderMap, header::SET_COOKIE},
    response::Response,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::visitor::Session;
use crate::{
    auth::api_key::Pepper,
    http::{
        App, Refusal,
        session::{self, Cookie},
    },
    store::Settings,
};

/// The longest code that is read, in bytes. A link holds it too.
const LONGEST: usize = 4096;

/// What a form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To log in; about nothing.
    LogIn,
    /// To log out; about nothing.
    LogOut,
    /// To choose a password; about nothing.
    Activate,
    /// To sign out everywhere; about nothing.
    SignOut,
    /// To decide about a device that asks.
    Decide(Uuid),
    /// To change a device.
    Change(Uuid),
}

impl Kind {
    const fn parts(self) -> (Uuid, &'static str) {
        match self {
            Self::LogIn => (Uuid::nil(), "log-in"),
            Self::LogOut => (Uuid::nil(), "log-out"),
            Self::Activate => (Uuid::nil(), "activate"),
            Self::SignOut => (Uuid::nil(), "sign-out"),
            Self::Decide(device) => (device, "decide"),
            Self::Change(device) => (device, "change"),
        }
    }

    /// The token of such a form in a session. `None` while nothing can be decided.
    pub(super) fn token(self, app: &App, session: &Session) -> Option<String> {
        self.token_of(app, &session.id)
    }

    pub(super) fn token_of(self, app: &App, session: &[u8; 32]) -> Option<String> {
        let view = app.view().ok()?;
        Some(self.made(view.keyring.pepper(), session))
    }

    pub(super) fn made(self, pepper: &Pepper, session: &[u8; 32]) -> String {
        let (about, form) = self.parts();
        pepper.form_token(session, about, form)
    }

    /// Checks that a form is one of ours, and of this session.
    ///
    /// # Errors
    /// [`Refusal::ForeignPage`], or that nothing can be decided.
    pub(super) fn check(
        self,
        app: &App,
        headers: &HeaderMap,
        session: &[u8; 32],
        token: &str,
    ) -> Result<(), Refusal> {
        session::check_form(headers)?;
        let (about, form) = self.parts();
        let view = app.view()?;
        match view
            .keyring
            .pepper()
            .is_form_token(session, about, form, token)
        {
            true => Ok(()),
            false => Err(Refusal::ForeignPage),
        }
    }
}

/// How long a form that needs no session may be left open, in seconds.
const SECONDS: i64 = 3600;

/// A browser that is not logged in, known by a cookie of its own.
pub(super) struct Browser {
    id: String,
    is_new: bool,
}

impl Browser {
    /// The one that asks; a new one gets its cookie with the answer, see [`Self::remember`].
    pub(super) fn of(app: &App, settings: &Settings, headers: &HeaderMap) -> Self {
        match session::token(headers, settings, Cookie::Form) {
            Some(id) => Self {
                id: id.to_owned(),
                is_new: false,
            },
            None => Self {
                id: hex::encode(*app.draw::<16>()),
                is_new: true,
            },
        }
    }

    /// The token of its form.
    pub(super) fn token(&self, app: &App, form: Kind) -> String {
        form.token_of(app, &digest(&self.id)).unwrap_or_default()
    }

    pub(super) fn remember(&self, settings: &Settings, response: &mut Response) {
        let cookie = session::cookie(settings, Cookie::Form, &self.id, SECONDS);
        if let Ok(cookie) = cookie
            && self.is_new
        {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }

    /// Checks that a form is one of ours, and of the browser that sends it.
    ///
    /// # Errors
    /// [`Refusal::ForeignPage`], or that nothing can be decided.
    pub(super) fn check(
        app: &App,
        headers: &HeaderMap,
        form: Kind,
        token: &str,
    ) -> Result<(), Refusal> {
        let settings = app.settings().ok_or(Refusal::ForeignPage)?;
        let id = session::token(headers, &settings, Cookie::Form).ok_or(Refusal::ForeignPage)?;
        form.check(app, headers, &digest(id), token)
    }
}

fn digest(browser: &str) -> [u8; 32] {
    Sha256::digest(browser).into()
}

/// A text is not what a person pastes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPasted;

/// The code in what somebody pasted: the code, or the link that it is in. Blanks, full-width letters
/// and the dashes of word processors are what pasting makes of it (attacks.md V06). A code's letters
/// are base64, so small ones and capitals differ.
pub(super) fn pasted(text: &str) -> Result<String, NotPasted> {
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(NotPasted);
    }
    let plain: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '\u{200b}'..='\u{200d}' | '\u{feff}'))
        .map(narrow)
        .collect();
    let code = plain
        .split_once("user_code=")
        .map_or(&*plain, |(_, rest)| rest);
    let end = code.find(['&', '#']).unwrap_or(code.len());
    Ok(code.get(..end).unwrap_or_default().to_owned())
}

fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => {
            let narrow = u32::from(c).checked_sub(0xfee0).and_then(char::from_u32);
            narrow.unwrap_or(c)
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    }
}

/// Where somebody goes on after a login: the devices, or the device that a link is of. Anything
/// else is the devices.
pub(in crate::http) fn onward(return_to: &str) -> &str {
    const DEVICES: &str = "devices";
    let query = return_to.strip_prefix("devices/verify");
    let query = match query {
        Some("") => Some(""),
        Some(query) => query.strip_prefix('?'),
        None => None,
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_=&".contains(&c);
    match query {
        Some(query) if query.len() <= LONGEST && query.bytes().all(plain) => return_to,
        _ => DEVICES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// attacks.md V06.
    #[test]
    fn v06_what_pasting_does_to_a_code_is_undone() {
        for text in [
            "aB-9_",
            " aB-9_ ",
            "aB -9 _",
            "ａＢ－９＿",
            "aB\u{2011}9\u{200b}_",
            "https://x/devices/verify?device_id=1&user_code=aB-9_",
            "devices/verify?user_code=aB-9_&device_id=1#x",
        ] {
            assert_eq!(pasted(text).as_deref(), Ok("aB-9_"), "{text}");
        }
        for text in ["a\0", "a\r\nb", "a\u{7f}", &"a".repeat(10_000)] {
            assert_eq!(pasted(text), Err(NotPasted));
        }
    }

    /// attacks.md V11.
    #[test]
    fn v11_nobody_is_sent_elsewhere() {
        for ours in [
            "devices",
            "devices/verify",
            "devices/verify?device_id=0-a&user_code=A_-",
        ] {
            assert_eq!(onward(ours), ours);
        }
        for foreign in [
            "",
            "/",
            "//evil",
            "/\\evil",
            "\\\\evil",
            "https:evil",
            "https://evil/devices",
            "%2f%2fevil",
            "javascript:alert(1)",
            "devices/verify/../../x",
            "devices/verify?x=//evil",
            "devices/verify?x=%0d%0aset-cookie",
            "devices/verify?\r\nset-cookie: a=b",
            "devices/verifyx",
            "devices@evil",
            ".evil",
        ] {
            assert_eq!(onward(foreign), "devices", "{foreign:?}");
        }
    }
}

//! Pages that say how something went, and what to do now.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};

use super::{Frame, Page, visitor::Visitor};
use crate::{
    auth::principal::Refused,
    http::{
        App, Refusal,
        decisions::{ELSEWHERE, LOCKED, NO_TRUST, TOO_MANY_DENIALS},
    },
};

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Calm,
    Bad,
}

impl Mood {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Calm => "calm",
            Self::Bad => "bad",
        }
    }
}

/// Where to go on.
pub(super) struct Link {
    pub(super) href: String,
    pub(super) text: &'static str,
}

/// What is said.
pub(super) struct Notice {
    pub(super) status: StatusCode,
    pub(super) mood: Mood,
    pub(super) title: &'static str,
    pub(super) lines: Vec<String>,
    pub(super) link: Option<Link>,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Shown {
    frame: Frame,
    mood: Mood,
    title: &'static str,
    lines: Vec<String>,
    link: Option<Link>,
}

impl Notice {
    pub(super) fn new(status: StatusCode, mood: Mood, title: &'static str, line: &str) -> Self {
        Self {
            status,
            mood,
            title,
            lines: vec![line.to_owned()],
            link: None,
        }
    }

    pub(super) fn onward(mut self, href: impl Into<String>, text: &'static str) -> Self {
        let href = href.into();
        self.link = Some(Link { href, text });
        self
    }

    pub(super) fn show(self, app: &App, root: &'static str, visitor: &Visitor) -> Response {
        let shown = Shown {
            frame: Frame::new(app, root, visitor),
            mood: self.mood,
            title: self.title,
            lines: self.lines,
            link: self.link,
        };
        Page(self.status, shown).into_response()
    }
}

/// Whoever changes something of its own without a session is told so.
pub(super) fn without_session(app: &App, visitor: &Visitor) -> Response {
    let line = "Your session is over, or was never begun. Nothing was changed.";
    let notice = Notice::new(
        StatusCode::FORBIDDEN,
        Mood::Bad,
        "You are not signed in",
        line,
    );
    let notice = notice.onward("../login?return_to=devices", "Sign in");
    notice.show(app, "../", visitor)
}

/// A refusal as a page. It has the status that ZenML's API would answer, and says no more.
pub(in crate::http) fn refused(
    refusal: &Refusal,
    app: &App,
    root: &'static str,
    visitor: &Visitor,
) -> Response {
    let terms = Terms::of(refusal);
    let (title, line) = told(refusal, terms.seconds());
    let notice = Notice::new(terms.status, Mood::Bad, title, &line);
    terms.on(notice.show(app, root, visitor))
}

/// What a page that tells of a refusal has of ZenML's answer to it.
pub(super) struct Terms {
    pub(super) status: StatusCode,
    retry: Option<HeaderValue>,
}

impl Terms {
    pub(super) fn of(refusal: &Refusal) -> Self {
        let (answer, _) = refusal.clone().into_response().into_parts();
        Self {
            status: match answer.status {
                // ZenML's word for what cannot be read.
                StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                other => other,
            },
            retry: answer.headers.get(RETRY_AFTER).cloned(),
        }
    }

    fn seconds(&self) -> Option<&str> {
        self.retry.as_ref()?.to_str().ok()
    }

    /// The page, with when to try again.
    pub(super) fn on(self, mut response: Response) -> Response {
        if let Some(retry) = self.retry {
            response.headers_mut().insert(RETRY_AFTER, retry);
        }
        response
    }
}

fn told(refusal: &Refusal, retry: Option<&str>) -> (&'static str, String) {
    let said = |title, text: &str| (title, text.to_owned());
    match refusal {
        Refusal::ForeignPage => said(
            "This form cannot be used",
            "It is from another session, or was sent by another page. Nothing was changed. Open \
             the page anew and try again.",
        ),
        Refusal::TooMany(_) | Refusal::Crowded(_) => (
            "Too many attempts",
            format!("Wait {} seconds, then try again.", retry.unwrap_or("60")),
        ),
        Refusal::External(trouble) => ("You are not signed in", trouble.to_string()),
        Refusal::Credentials(Refused::InactiveUser { .. }) => said(
            "You are not signed in",
            "This user may not sign in. Ask whoever runs this server.",
        ),
        Refusal::Device(_) => unusable(),
        refusal if *refusal == LOCKED => said(
            "This computer is locked",
            "It was locked for you, so nothing was approved. If you locked it, unlock it under \
             “Your devices” first; else ask who did.",
        ),
        refusal if *refusal == ELSEWHERE => said(
            "From another network",
            "The computer asked from another network than yours, and this server approves only \
             within one. Nothing was approved.",
        ),
        refusal if *refusal == NO_TRUST => said(
            "Not as a trusted computer",
            "This server does not allow trusted computers. Approve it without trust.",
        ),
        refusal if *refusal == TOO_MANY_DENIALS => said(
            "You denied many just now",
            "Nothing was changed, and nothing needs to be: whom you do not approve gets nothing, \
             and its code ends by itself.",
        ),
        Refusal::TooManyDevices(devices) => (
            "You have too many devices",
            format!("There are {devices}, which is all that this server allows. Remove one first."),
        ),
        Refusal::NoDevice(_) => said("No such device", "You have none of this id any more."),
        Refusal::NoDevices => said(
            "This server asks nobody",
            "It takes every request for one of its default user, so there is nothing to approve.",
        ),
        Refusal::Declared(declared) => ("It is declared elsewhere", declared.to_string()),
        Refusal::TooLarge | Refusal::Malformed(_) | Refusal::BrokenBody => said(
            "This cannot be read",
            "It is not what this page sends. Open it anew and try again.",
        ),
        _ => said(
            "That did not work",
            "The server cannot do it now. Nothing was lost; try again in a moment.",
        ),
    }
}

/// One text for a code that is wrong, over, used or denied: whoever guesses learns nothing.
fn unusable() -> (&'static str, String) {
    let line = "It is wrong, its time is over, or it was used already. Run zenml login again for a \
                new one.";
    ("This code cannot be used", line.to_owned())
}

/// What is said of such a code.
pub(super) fn of_unusable_code() -> Notice {
    let (title, line) = unusable();
    Notice::new(StatusCode::BAD_REQUEST, Mood::Bad, title, &line)
}

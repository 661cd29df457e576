//! What users say of themselves: a name for people, a mail address, and whether ZenML may have that.

use axum::{extract::State, response::Response};

use super::{change_users::alter, users::find};
use crate::{
    auth::directory::User,
    http::{
        App, Caller, Refusal,
        changes::Change,
        extract::{ClientAddress, Json, Named},
        layers::Changed,
    },
    store::registrar::UserUpdate,
    wire,
};

/// `PUT /users/{name or id}/email-opt-in`: nothing else of the body counts, as for ZenML.
pub(in crate::http) async fn opt_in(
    State(app): State<App>,
    change: Change,
    Caller(caller): Caller,
    address: ClientAddress,
    Named(wanted): Named,
    Json { bytes, value }: Json<wire::change::UserUpdate>,
) -> Result<Response, Refusal> {
    // Whether there is another user is not told.
    let own = |user: &User| user.id == caller.account;
    if !find(&app.view()?.directory, &wanted).is_ok_and(own) {
        return Err(Refusal::OnBehalf);
    }
    let answer = wire::change::UserUpdate {
        email: value.email,
        email_opted_in: value.email_opted_in,
        ..wire::change::UserUpdate::default()
    };
    let work = move |app| alter(app, (caller, address), wanted, answer);
    change.run(Changed::UpdateUser, bytes, work).await
}

/// What a user says of itself, and nobody else about it.
pub(super) fn said(given: &wire::change::UserUpdate) -> Result<UserUpdate, Refusal> {
    Ok(UserUpdate {
        full_name: text(given.full_name.clone())?,
        email: text(given.email.clone())?,
        email_opted_in: consent(given.email_opted_in, given.email.as_deref())?,
        ..UserUpdate::default()
    })
}

/// A text for people; `None` if there is nothing in it.
pub(super) fn text(text: Option<String>) -> Result<Option<String>, Refusal> {
    let text = text.filter(|text| !text.is_empty());
    match &text {
        Some(text) if text.chars().count() > 254 || text.chars().any(char::is_control) => {
            Err(Refusal::Malformed(
                "full_name and email must have at most 254 characters, and no control characters.",
            ))
        }
        _ => Ok(text),
    }
}

/// Who agrees to share its mail address says which.
pub(super) fn consent(given: Option<bool>, email: Option<&str>) -> Result<Option<bool>, Refusal> {
    match given == Some(true) && email.is_none_or(str::is_empty) {
        true => Err(Refusal::Malformed(
            "Please provide an email, when you are opting-in with your email.",
        )),
        false => Ok(given),
    }
}

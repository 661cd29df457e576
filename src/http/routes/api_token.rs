//! `GET /api_token`: a token for a machine, from somebody who has one (zenml-wire 7).
//!
//! 1. Whoever asks shows a token; a raw API key is refused, as ZenML does.
//! 2. The new one keeps what the old one came from: it dies with the same key, device or user, and
//!    ends no later than they do.
//! 3. One that was made here ends, if shown again, when the first one does: what is stolen is not
//!    renewed for ever.
//! 4. A workload token names a schedule, a run or a deployment. Those live in the ZenML server; as
//!    long as there is none behind this door, nobody can say whether one exists. So the name is
//!    kept, binds all that is made of the token, and the token has an end, which ZenML's has not.

use axum::{extract::State, http::Uri, response::Response};
use jiff::SignedDuration;
use serde::Deserialize;
use tracing::info;
use uuid::Uuid;

use super::json;
use crate::{
    auth::{
        principal::{By, Principal},
        token::{self, Claims, LONGEST_API_TOKEN, Workload},
    },
    http::{App, Refusal, access::Shown, changes::shown, extract::RequestId, layers::TokenKind},
};

/// How long a token lives if nobody says, in seconds.
const DEFAULT: i64 = 3600;

/// What is asked for. Texts, so that what is wrong is told in our words.
#[derive(Deserialize)]
struct Asked {
    token_type: Option<String>,
    expires_in: Option<String>,
    schedule_id: Option<String>,
    pipeline_run_id: Option<String>,
    deployment_id: Option<String>,
}

/// `GET /api_token`.
pub(in crate::http) async fn issue(
    State(app): State<App>,
    request: RequestId,
    Shown(by): Shown,
    uri: Uri,
) -> Result<Response, Refusal> {
    let asked = serde_urlencoded::from_str::<Asked>(uri.query().unwrap_or_default());
    let asked = asked.map_err(|_| Refusal::Malformed("The query cannot be read."))?;
    let named = asked.workload()?;
    let (kind, workload, seconds) = match asked.token_type.as_deref().unwrap_or("generic") {
        "generic" => (TokenKind::Generic, by.workload, asked.seconds(named)?),
        "workload" => (TokenKind::Workload, scoped(by.workload, named)?, longest()),
        _ => {
            return Err(Refusal::Malformed(
                "token_type must be generic or workload.",
            ));
        }
    };
    let claims = claims(&app, &by, workload, seconds)?;
    let (keyring, server) = {
        let view = app.view()?;
        (view.keyring.clone(), view.settings.id)
    };
    let token = token::issue(&keyring, server, &claims).map_err(|_| Refusal::Unexpected)?;
    app.metrics().api_token(kind);
    report(&request, kind, &claims);
    json(&token)
}

/// Of what it is, and how long it lives: as long as was asked for, and no longer than what it
/// comes from.
fn claims(app: &App, by: &Claims, workload: Workload, seconds: i64) -> Result<Claims, Refusal> {
    let now = app.now();
    let asked = now.saturating_add(SignedDuration::from_secs(seconds));
    let asked = asked.map_err(|_| Refusal::Unexpected)?;
    let of_holder = app.view()?.directory.end(&by.principal);
    let of_first = by.asked_for.then_some(by.expires);
    let ends = [Some(asked), of_holder, of_first];
    Ok(Claims {
        principal: without_session(by.principal),
        workload,
        asked_for: true,
        issued: now,
        expires: ends.into_iter().flatten().min().unwrap_or(asked),
    })
}

/// The page of another site that asks has proved to be it; the machine is no page.
fn without_session(principal: Principal) -> Principal {
    let by = match principal.by {
        By::Session { stamp, .. } => By::Session {
            stamp,
            session: None,
        },
        by => by,
    };
    Principal { by, ..principal }
}

fn longest() -> i64 {
    i64::try_from(LONGEST_API_TOKEN.as_secs()).unwrap_or(DEFAULT)
}

impl Asked {
    fn seconds(&self, named: Workload) -> Result<i64, Refusal> {
        const TOO_LONG: Refusal = Refusal::Value(
            "The maximum expiration time for generic API tokens allowed by this server is \
             604800 seconds.",
        );
        if named != Workload::default() {
            return Err(Refusal::Value(
                "Generic API tokens cannot be scoped to a schedule, pipeline run or deployment.",
            ));
        }
        let Some(text) = &self.expires_in else {
            return Ok(DEFAULT);
        };
        match text.parse() {
            Ok(0) => Ok(DEFAULT),
            Ok(seconds) if seconds > longest() => Err(TOO_LONG),
            Ok(seconds) if seconds > 0 => Ok(seconds),
            _ => Err(Refusal::Malformed(
                "expires_in must be a number of seconds.",
            )),
        }
    }

    fn workload(&self) -> Result<Workload, Refusal> {
        let id = |text: &Option<String>| {
            let id = text.as_deref().map(Uuid::try_parse).transpose();
            id.map_err(|_| Refusal::Malformed("The id of a workload is not a UUID."))
        };
        Ok(Workload {
            schedule: id(&self.schedule_id)?,
            pipeline_run: id(&self.pipeline_run_id)?,
            deployment: id(&self.deployment_id)?,
        })
    }
}

/// The workload of a new token: what is named, which cannot be another than that of the token
/// that was shown.
fn scoped(by: Workload, named: Workload) -> Result<Workload, Refusal> {
    let one = |kind, by: Option<Uuid>, named: Option<Uuid>| match (by, named) {
        (Some(by), Some(named)) if by != named => Err(Refusal::Scope { kind, named, by }),
        (by, named) => Ok(named.or(by)),
    };
    let scoped = Workload {
        schedule: one("schedule", by.schedule, named.schedule)?,
        deployment: one("deployment", by.deployment, named.deployment)?,
        pipeline_run: one("pipeline run", by.pipeline_run, named.pipeline_run)?,
    };
    match scoped == Workload::default() {
        true => Err(Refusal::Value(
            "Workload API tokens must be scoped to a schedule, pipeline run or deployment.",
        )),
        false => Ok(scoped),
    }
}

fn report(request: &RequestId, kind: TokenKind, claims: &Claims) {
    let (account, by) = (claims.principal.account, claims.principal.by);
    let (key, device) = (shown(by.key()), shown(by.device()));
    let seconds = claims.expires.as_second() - claims.issued.as_second();
    let Workload {
        schedule,
        pipeline_run,
        deployment,
    } = claims.workload;
    let (schedule, run) = (shown(schedule), shown(pipeline_run));
    let deployment = shown(deployment);
    info!(
        target: "zenop::audit",
        %request, ?kind, %account, key, device, schedule, run, deployment, seconds,
        "API token"
    );
}

//! What the sidecar counts. Labels are closed sets: no client can make a new one.

use std::{collections::HashSet, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    auth::{principal::Refused, scheme::Trouble},
    http::Refusal,
};

/// Of a path that is no route.
pub(in crate::http) const NO_ROUTE: &str = "none";

/// The metrics of the HTTP half.
#[derive(Clone, Debug)]
pub(in crate::http) struct Metrics {
    routes: HashSet<&'static str>,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
    logins: Family<Login, Counter>,
    changes: Family<ChangeLabels, Counter>,
    reads: Family<ReadLabels, Counter>,
    api_tokens: Family<ApiToken, Counter>,
    refused: Family<RefusedLabels, Counter>,
    revocations: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    change: Changed,
    outcome: ChangeOutcome,
}

/// What is changed through ZenML's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum Changed {
    CreateAccount,
    UpdateAccount,
    DeleteAccount,
    CreateKey,
    UpdateKey,
    RotateKey,
    DeleteKey,
    ApproveDevice,
    DenyDevice,
    LockDevice,
    UnlockDevice,
    DeleteDevice,
    CreateUser,
    UpdateUser,
    DeactivateUser,
    ActivateUser,
    SignOutEverywhere,
    DeleteUser,
    CreateSecret,
    UpdateSecret,
    DeleteSecret,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum ChangeOutcome {
    /// It was made.
    Done,
    /// The request was at fault.
    Refused,
    /// We were, or Kubernetes, or the operator.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    outcome: ChangeOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Login {
    outcome: LoginOutcome,
}

/// What kind of token was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum TokenKind {
    Generic,
    Workload,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiToken {
    kind: TokenKind,
}

/// What a request shows to say whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum CredentialKind {
    #[default]
    Token,
    Key,
    Cookie,
    Basic,
}

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum RefusedFor {
    Bad,
    Revoked,
    InactiveKey,
    InactiveAccount,
    InactiveDevice,
    Csrf,
}

impl RefusedFor {
    pub(in crate::http) const ALL: [Self; 6] = [
        Self::Bad,
        Self::Revoked,
        Self::InactiveKey,
        Self::InactiveAccount,
        Self::InactiveDevice,
        Self::Csrf,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    credential: CredentialKind,
    reason: RefusedFor,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(in crate::http) enum LoginOutcome {
    Granted,
    BadKey,
    BadPassword,
    Limited,
    InactiveKey,
    InactiveAccount,
    InactiveDevice,
    BadDeviceCode,
    DevicePending,
    DeviceDenied,
    BadRequest,
    UnsupportedGrant,
    UnknownPerson,
    NotVouched,
    Unavailable,
}

impl LoginOutcome {
    const ALL: [Self; 15] = [
        Self::Granted,
        Self::BadKey,
        Self::BadPassword,
        Self::Limited,
        Self::InactiveKey,
        Self::InactiveAccount,
        Self::InactiveDevice,
        Self::BadDeviceCode,
        Self::DevicePending,
        Self::DeviceDenied,
        Self::BadRequest,
        Self::UnsupportedGrant,
        Self::UnknownPerson,
        Self::NotVouched,
        Self::Unavailable,
    ];

    /// How a login ended that was granted, or refused for a reason.
    pub(in crate::http) fn of<T>(granted: Result<T, &Refusal>) -> Self {
        let Err(refusal) = granted else {
            return Self::Granted;
        };
        match refusal {
            Refusal::Credentials(Refused::InactiveKey { .. }) => Self::InactiveKey,
            Refusal::Credentials(
                Refused::InactiveAccount { .. } | Refused::InactiveUser { .. },
            ) => Self::InactiveAccount,
            Refusal::Credentials(Refused::InactiveDevice { .. }) => Self::InactiveDevice,
            Refusal::Credentials(Refused::BadPassword) => Self::BadPassword,
            Refusal::Credentials(_) => Self::BadKey,
            Refusal::TooMany(_) | Refusal::Crowded(_) => Self::Limited,
            Refusal::Grant(_) | Refusal::UnknownGrant => Self::UnsupportedGrant,
            Refusal::External(Trouble::Unknown(_)) => Self::UnknownPerson,
            Refusal::External(Trouble::Unreachable | Trouble::NotSetUp) => Self::Unavailable,
            Refusal::External(_) => Self::NotVouched,
            Refusal::Unavailable(_) | Refusal::Busy | Refusal::Unexpected => Self::Unavailable,
            _ => Self::BadRequest,
        }
    }
}

impl Metrics {
    /// Metrics of these routes, that `registry` shows.
    pub(in crate::http) fn register(
        routes: impl IntoIterator<Item = &'static str>,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Self {
            routes: routes.into_iter().collect(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 4.0, 8))
            }),
            logins: Family::default(),
            changes: Family::default(),
            reads: Family::default(),
            api_tokens: Family::default(),
            refused: Family::default(),
            revocations: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        };
        registry.register(
            "zenop_http_requests",
            "Requests by method, route and class of status",
            metrics.requests.clone(),
        );
        registry.register(
            "zenop_http_request_seconds",
            "How long requests took",
            metrics.seconds.clone(),
        );
        registry.register("zenop_logins", "Logins by outcome", metrics.logins.clone());
        registry.register(
            "zenop_changes",
            "Changes to accounts, keys, users, devices and secrets through ZenML's API and the pages, by outcome",
            metrics.changes.clone(),
        );
        registry.register(
            "zenop_secret_reads",
            "Requests for the values of a secret, by outcome",
            metrics.reads.clone(),
        );
        registry.register(
            "zenop_api_tokens",
            "Tokens that were asked for by GET /api_token, by kind",
            metrics.api_tokens.clone(),
        );
        registry.register(
            "zenop_refused_credentials",
            "Requests whose credential was refused, by kind and reason",
            metrics.refused.clone(),
        );
        registry.register(
            "zenop_revocation_seconds",
            "From Kubernetes' answer to a deactivation, deletion or rotation through ZenML's API \
             until this server refuses",
            metrics.revocations.clone(),
        );
        // A rate can be asked of what begins with 0.
        for kind in [TokenKind::Generic, TokenKind::Workload] {
            drop(metrics.api_tokens.get_or_create(&ApiToken { kind }));
        }
        for outcome in LoginOutcome::ALL {
            drop(metrics.logins.get_or_create(&Login { outcome }));
        }
        metrics
    }

    /// The label of a path that the router matched.
    pub(in crate::http) fn route(&self, path: &str) -> &'static str {
        self.routes.get(path).copied().unwrap_or(NO_ROUTE)
    }

    pub(in crate::http) fn answered(
        &self,
        method: &'static str,
        route: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let status = class(status);
        let labels = Answered {
            method,
            route,
            status,
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&Route { route })
            .observe(took.as_secs_f64());
    }

    pub(in crate::http) fn changed(&self, change: Changed, outcome: ChangeOutcome) {
        let labels = ChangeLabels { change, outcome };
        self.changes.get_or_create(&labels).inc();
    }

    /// Exact, and of this server's own changes only. The store measures those of others, to a second.
    pub(in crate::http) fn read(&self, outcome: ChangeOutcome) {
        self.reads.get_or_create(&ReadLabels { outcome }).inc();
    }

    pub(in crate::http) fn revoked(&self, took: Duration) {
        self.revocations.observe(took.as_secs_f64());
    }

    pub(in crate::http) fn api_token(&self, kind: TokenKind) {
        self.api_tokens.get_or_create(&ApiToken { kind }).inc();
    }

    pub(in crate::http) fn refused(&self, credential: CredentialKind, reason: RefusedFor) {
        let labels = RefusedLabels { credential, reason };
        self.refused.get_or_create(&labels).inc();
    }

    pub(in crate::http) fn login(&self, outcome: LoginOutcome) {
        self.logins.get_or_create(&Login { outcome }).inc();
    }
}

/// The label of a method.
pub(in crate::http) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

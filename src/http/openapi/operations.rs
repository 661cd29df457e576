//! What each route is for, takes and gives. What it may be refused with is in `refusals`.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{
    http::{
        list::Filter,
        routes::{api_keys, constants, devices, secrets, service_accounts, users},
    },
    wire::{Page, account, change, device, login, secret, server, stack},
};

type Make = fn(&mut SchemaGenerator) -> Schema;

/// What a route takes in its query.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    None,
    /// Whether the metadata of a single object is shown.
    Hydrate,
    /// The same, and the code that a person was shown of what waits.
    Waiting,
    /// What kind of token is asked for, for how long, and for which workload.
    Token,
    /// Whether keys that are not named stay.
    Patch,
    /// Pages, filters and sorting.
    List(fn() -> Vec<Filter>),
}

/// What a route takes in its body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    None,
    Json(Make),
    Form(Make),
}

/// A route, described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) summary: &'static str,
    pub(super) query: Query,
    pub(super) body: Body,
    pub(super) answer: Option<Make>,
    /// What else it may be refused with, beyond what follows from the rest.
    pub(super) refused: &'static [u16],
}

impl Operation {
    fn answers<T: JsonSchema>(summary: &'static str) -> Self {
        Self {
            summary,
            query: Query::None,
            body: Body::None,
            answer: Some(SchemaGenerator::subschema_for::<T>),
            refused: &[],
        }
    }

    fn lists<T: JsonSchema>(summary: &'static str, filters: fn() -> Vec<Filter>) -> Self {
        Self {
            query: Query::List(filters),
            ..Self::answers::<Page<T>>(summary)
        }
    }

    fn shows<T: JsonSchema>(summary: &'static str) -> Self {
        Self {
            query: Query::Hydrate,
            ..Self::answers::<T>(summary)
        }
    }

    fn takes<T: JsonSchema>(self) -> Self {
        let body = Body::Json(SchemaGenerator::subschema_for::<T>);
        Self { body, ..self }
    }

    fn takes_form<T: JsonSchema>(self) -> Self {
        let body = Body::Form(SchemaGenerator::subschema_for::<T>);
        Self { body, ..self }
    }

    fn refused(self, refused: &'static [u16]) -> Self {
        Self { refused, ..self }
    }
}

/// The description of a route, if there is one.
pub(super) fn of(method: &Method, path: &str) -> Option<Operation> {
    let row = (method.as_str(), path);
    entrance(row)
        .or_else(|| accounts(row))
        .or_else(|| people(row))
        .or_else(|| of_secrets(row))
        .or_else(|| constants(row))
}

/// A row of the table, as text.
type Row<'a> = (&'a str, &'a str);
type Nothing = ();

fn entrance(row: Row<'_>) -> Option<Operation> {
    Some(match row {
        ("GET", super::PATH) => {
            Operation::answers::<serde_json::Map<String, serde_json::Value>>("This document.")
        }
        ("GET", "/api/v1/info") => Operation::answers::<server::Info<'_>>("What the server is."),
        ("GET", "/api/v1/version") => {
            Operation::answers::<&str>("Whose contract the server keeps: a release of ZenML.")
        }
        ("POST", "/api/v1/login") => Operation::answers::<login::Token<'_>>(
            "Logs in with an API key, a password, or the code of a device.",
        )
        .takes_form::<login::LoginForm>()
        .refused(&[401, 403, 429]),
        ("GET", "/api/v1/settings") => {
            Operation::answers::<server::ServerSettings<'_>>("How the server is set up.")
        }
        ("PUT", "/api/v1/settings") => {
            Operation::answers::<Nothing>("Always refused: settings are declared.").refused(&[409])
        }
        ("GET", "/api/v1/onboarding_state") => {
            Operation::answers::<[&str; 1]>("What the dashboard need not teach any more.")
        }
        ("GET", "/api/v1/statistics") => {
            Operation::answers::<server::Statistics>("How much there is on the server.")
        }
        ("GET", "/api/v1/load-info") => {
            Operation::answers::<server::Load>("How busy the process is that answers.")
        }
        ("GET", "/api/v1/api_token") => Operation {
            query: Query::Token,
            ..Operation::answers::<&str>(
                "Gives a token for a machine, to who shows one, that ends with what it comes from.",
            )
        },
        ("GET", "/api/v1/logout") => Operation::answers::<Nothing>("Forgets a browser's cookie."),
        ("GET", "/api/v1/current-user") => {
            Operation::answers::<account::User<'_>>("Who the caller is.")
        }
        ("GET", "/auth/verify") => Operation::answers::<Nothing>(
            "Whether the caller is let in, and who it is, in headers.",
        )
        .refused(&[403]),
        ("PUT", "/api/v1/current-user") => {
            Operation::answers::<account::User<'_>>("Changes the caller, if it is a user.")
                .takes::<change::UserUpdate>()
                .refused(&[404, 409])
        }
        ("POST", "/api/v1/device_authorization") => {
            Operation::answers::<device::DeviceAuthorization<'_>>("A device asks to be authorized.")
                .takes_form::<device::DeviceAuthorizationForm>()
                .refused(&[403, 429])
        }
        ("PUT", "/api/v1/activate") => Operation::answers::<Nothing>(
            "Always refused: a server's first administrator is declared.",
        )
        .refused(&[403]),
        _ => return None,
    })
}

fn accounts(row: Row<'_>) -> Option<Operation> {
    const ONE: &str = "/api/v1/service_accounts/{account}";
    const ALL: &str = "/api/v1/service_accounts";
    const KEYS: &str = "/api/v1/service_accounts/{account}/api_keys";
    const KEY: &str = "/api/v1/service_accounts/{account}/api_keys/{key}";
    const ROTATE: &str = "/api/v1/service_accounts/{account}/api_keys/{key}/rotate";
    type Account<'a> = account::ServiceAccount<'a>;
    type Key<'a> = account::ApiKey<'a>;
    Some(match row {
        ("GET", ALL) => {
            Operation::lists::<Account<'_>>("Lists service accounts.", service_accounts::filters)
        }
        ("POST", ALL) => Operation::answers::<Account<'_>>("Makes a service account.")
            .takes::<change::NewServiceAccount>()
            .refused(&[409]),
        ("GET", ONE) => Operation::shows::<Account<'_>>("Shows a service account."),
        ("PUT", ONE) => Operation::answers::<Account<'_>>("Changes a service account.")
            .takes::<change::ServiceAccountUpdate>()
            .refused(&[409]),
        ("DELETE", ONE) => {
            Operation::answers::<Nothing>("Deletes a service account.").refused(&[409])
        }
        ("GET", KEYS) => Operation::lists::<Key<'_>>("Lists API keys.", api_keys::filters),
        ("POST", KEYS) => Operation::answers::<Key<'_>>("Makes an API key, and shows it once.")
            .takes::<change::NewApiKey>()
            .refused(&[409]),
        ("GET", KEY) => Operation::shows::<Key<'_>>("Shows an API key, without its text."),
        ("PUT", KEY) => Operation::answers::<Key<'_>>("Changes an API key.")
            .takes::<change::ApiKeyUpdate>()
            .refused(&[409]),
        ("DELETE", KEY) => Operation::answers::<Nothing>("Deletes an API key.").refused(&[409]),
        ("PUT", ROTATE) => Operation::answers::<Key<'_>>("Replaces an API key, and shows it once.")
            .takes::<change::RotateApiKey>()
            .refused(&[409]),
        _ => return None,
    })
}

fn people(row: Row<'_>) -> Option<Operation> {
    const DEVICES: &str = "/api/v1/devices";
    const DEVICE: &str = "/api/v1/devices/{device}";
    const VERIFY: &str = "/api/v1/devices/{device}/verify";
    const USERS: &str = "/api/v1/users";
    const USER: &str = "/api/v1/users/{user}";
    type Device<'a> = device::Device<'a>;
    type User<'a> = account::User<'a>;
    Some(match row {
        ("GET", DEVICES) => {
            Operation::lists::<Device<'_>>("Lists the caller's devices.", devices::filters)
        }
        ("GET", DEVICE) => Operation {
            query: Query::Waiting,
            ..Operation::shows::<Device<'_>>(
                "Shows a device of the caller, or by its code one that waits.",
            )
        },
        ("PUT", DEVICE) => Operation::answers::<Device<'_>>("Locks or unlocks a device.")
            .takes::<device::DeviceUpdate>()
            .refused(&[409]),
        ("DELETE", DEVICE) => Operation::answers::<Nothing>("Deletes a device.").refused(&[409]),
        ("PUT", VERIFY) => Operation::answers::<Device<'_>>("Approves a device that waits.")
            .takes::<device::DeviceVerification>()
            .refused(&[400, 409]),
        ("GET", USERS) => Operation::lists::<User<'_>>(
            "Lists users: all of them to an administrator, to others themselves.",
            users::filters,
        ),
        ("POST", USERS) => Operation::answers::<User<'_>>("Makes a user.")
            .takes::<change::NewUser>()
            .refused(&[409]),
        ("GET", USER) => Operation::shows::<User<'_>>("Shows a user.").refused(&[403]),
        ("PUT", USER) => Operation::answers::<User<'_>>("Changes a user.")
            .takes::<change::UserUpdate>()
            .refused(&[409]),
        ("DELETE", USER) => Operation::answers::<Nothing>("Deletes a user.").refused(&[409]),
        ("PUT", "/api/v1/users/{user}/activate") => {
            Operation::answers::<User<'_>>("Chooses a password with an activation token.")
                .takes::<change::UserUpdate>()
                .refused(&[401, 403, 429])
        }
        ("PUT", "/api/v1/users/{user}/email-opt-in") => Operation::answers::<User<'_>>(
            "Answers for the caller whether its mail address may be shared.",
        )
        .takes::<change::UserUpdate>()
        .refused(&[409]),
        ("PUT", "/api/v1/users/{user}/deactivate") => Operation::answers::<User<'_>>(
            "Shuts a user out, and gives a token to choose another password with.",
        )
        .refused(&[409]),
        _ => return None,
    })
}

fn of_secrets(row: Row<'_>) -> Option<Operation> {
    const ALL: &str = "/api/v1/secrets";
    const ONE: &str = "/api/v1/secrets/{secret}";
    type Secret<'a> = secret::Secret<'a>;
    Some(match row {
        ("GET", ALL) => Operation::lists::<Secret<'_>>(
            "Lists secrets without their values: public ones, and the caller's private ones.",
            secrets::filters,
        ),
        ("POST", ALL) => Operation::answers::<Secret<'_>>("Makes a secret, and shows its values.")
            .takes::<secret::NewSecret>()
            .refused(&[409]),
        ("POST", "/api/v1/workspaces/{workspace}/secrets") => {
            Operation::answers::<Secret<'_>>("The same for earlier clients: it has no workspaces.")
                .takes::<secret::NewSecret>()
                .refused(&[409])
        }
        ("GET", ONE) => {
            Operation::shows::<Secret<'_>>("Shows a secret with its values.").refused(&[400])
        }
        ("PUT", ONE) => Operation {
            query: Query::Patch,
            ..Operation::answers::<Secret<'_>>("Changes a secret, and shows its values.")
        }
        .takes::<secret::SecretUpdate>()
        .refused(&[409]),
        ("DELETE", ONE) => Operation::answers::<Nothing>("Deletes a secret.").refused(&[409]),
        ("PUT", "/api/v1/secrets_operations/backup" | "/api/v1/secrets_operations/restore") => {
            Operation::answers::<Nothing>("Never done: there is no backup store.").refused(&[501])
        }
        _ => return None,
    })
}

fn constants(row: Row<'_>) -> Option<Operation> {
    Some(match row {
        ("GET", "/api/v1/projects") => Operation::lists::<stack::Project<'_>>(
            "Lists projects: there is one.",
            constants::project_filters,
        ),
        ("GET", "/api/v1/projects/{project}") => {
            Operation::shows::<stack::Project<'_>>("Shows a project.")
        }
        ("GET", "/api/v1/stacks") => Operation::lists::<stack::Stack<'_>>(
            "Lists stacks: there is one.",
            constants::stack_filters,
        ),
        ("GET", "/api/v1/stacks/{stack}") => Operation::shows::<stack::Stack<'_>>("Shows a stack."),
        _ => return None,
    })
}

//! The caller's own devices, and one that waits for its decision (zenml-wire.md 6.5). Of anybody
//! else's nothing can be seen, not even that there are any.

use axum::{extract::State, http::Uri, response::Response};
use jiff::Timestamp;
use uuid::Uuid;

use super::{current_user, json, query};
use crate::{
    auth::{
        device::{self, DeviceState},
        device_code::{Origin, Request},
        directory::Directory,
    },
    http::{
        App, Caller, Refusal,
        decisions::{self, Code, Decider},
        extract::{ClientAddress, Hydrate, Identified},
        list::{self, Column, Filter, Value},
    },
    store,
    wire::{
        Time,
        device::{Device, DeviceBody, DeviceMetadata, DeviceResources},
    },
};

/// A device as it is shown: one that was approved, or one that waits.
pub(super) struct Shown {
    id: Uuid,
    client: Uuid,
    owner: Option<Uuid>,
    owner_name: String,
    created: Timestamp,
    updated: Timestamp,
    expires: Timestamp,
    trusted: bool,
    status: &'static str,
    origin: Origin,
    address: Option<String>,
    last_used: Option<Timestamp>,
}

const COLUMNS: &[Column<Shown>] = &[
    Column::id("id", |d, _| Value::Id(d.id)),
    Column::time("created", |d, _| Value::Time(d.created)),
    Column::time("updated", |d, _| Value::Time(d.updated)),
    Column::time("expires", |d, _| Value::Time(d.expires)),
    Column::id("client_id", |d, _| Value::Id(d.client)),
    Column::text("status", |d, _| Value::Text(d.status)),
    Column::bool("trusted_device", |d, _| Value::Bool(d.trusted)),
    Column::time("last_login", |d, _| d.last_used.into()),
    Column::text("user", |d, _| Value::Text(&d.owner_name)),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn filters() -> Vec<Filter> {
    list::filters(COLUMNS)
}

/// `GET /devices`.
pub(in crate::http) async fn list(
    State(app): State<App>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = query(&uri, COLUMNS)?;
    let (view, now) = (app.view()?, app.now());
    let directory = &view.directory;
    let own: Vec<Shown> = directory
        .devices_of(caller.account)
        .map(|device| approved(directory, device, now))
        .collect();
    let page = query.page(own.iter(), now, |device| {
        rendered(directory, device, query.hydrate, now)
    })?;
    json(&page)
}

/// `GET /devices/{id}`; with `?user_code=…` also one that waits, for whoever was shown its code.
pub(in crate::http) async fn show(
    State(app): State<App>,
    Caller(caller): Caller,
    Identified(wanted): Identified,
    Hydrate(hydrate): Hydrate,
    address: ClientAddress,
    uri: Uri,
) -> Result<Response, Refusal> {
    let who = Decider::new(&caller, address);
    let waiting = waiting(&app, who, wanted, &uri)?;
    let (view, now) = (app.view()?, app.now());
    let own = find(&view, caller.account, wanted, now);
    let shown = match (own, waiting) {
        (Some(own), _) => own,
        (None, Some(request)) if is_undecided(&view, wanted) => pending(request),
        _ => return Err(Refusal::NoDevice(wanted)),
    };
    json(&rendered(&view.directory, &shown, hydrate, now))
}

/// A device of an account.
pub(super) fn find(
    view: &store::State,
    account: Uuid,
    wanted: Uuid,
    now: Timestamp,
) -> Option<Shown> {
    let device = view.directory.device(wanted);
    let device = device.filter(|device| device.approval.account == account)?;
    Some(approved(&view.directory, device, now))
}

/// What a user code in a query states of a device, if its time is not over.
fn waiting(app: &App, who: Decider, wanted: Uuid, uri: &Uri) -> Result<Option<Request>, Refusal> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let Some((_, code)) = form_urlencoded::parse(query).find(|(name, _)| name == "user_code")
    else {
        return Ok(None);
    };
    match decisions::read_code(app, who, Some(wanted), &code)? {
        Code::Open(request) => Ok(Some(request)),
        Code::Over | Code::Wrong => Ok(None),
    }
}

fn is_undecided(view: &store::State, device: Uuid) -> bool {
    view.directory.device(device).is_none() && !view.directory.is_denied(device)
}

fn pending(request: Request) -> Shown {
    Shown {
        id: request.device,
        client: request.client,
        owner: None,
        owner_name: String::new(),
        created: request.started,
        updated: request.started,
        expires: request.expires,
        trusted: false,
        status: "pending",
        address: request.origin.address.map(|address| address.to_string()),
        origin: request.origin,
        last_used: None,
    }
}

fn approved(directory: &Directory, device: &device::Device, now: Timestamp) -> Shown {
    let terms = directory.terms();
    let account = device.approval.account;
    let user = directory.user(account).map(|user| &user.name);
    let name = user.or_else(|| directory.account(account).map(|account| &account.name));
    let status = match device.state(terms, now) {
        DeviceState::Locked => "locked",
        _ if device.redeemed.is_none() => "verified",
        _ => "active",
    };
    Shown {
        id: device.id(),
        client: device.approval.client,
        owner: Some(account),
        owner_name: name.cloned().unwrap_or_default(),
        created: device.created,
        updated: device.redeemed.unwrap_or(device.approval.approved),
        expires: device.end(terms),
        trusted: device.trusted,
        status,
        address: device.origin.address.map(|address| address.to_string()),
        origin: device.origin.clone(),
        last_used: device.last_used(),
    }
}

/// A device in ZenML's shape.
pub(super) fn rendered<'a>(
    directory: &'a Directory,
    shown: &'a Shown,
    hydrate: bool,
    now: Timestamp,
) -> Device<'a> {
    let origin = &shown.origin;
    let metadata = hydrate.then(|| DeviceMetadata {
        python_version: origin.python_version.as_deref(),
        zenml_version: origin.zenml_version.as_deref(),
        city: "",
        region: "",
        country: "",
        failed_auth_attempts: 0,
        last_login: shown.last_used.map(Time),
    });
    Device {
        body: DeviceBody {
            created: Time(shown.created),
            updated: Time(shown.updated),
            user_id: shown.owner,
            client_id: shown.client,
            expires: Some(Time(shown.expires)),
            trusted_device: shown.trusted,
            status: shown.status,
            os: origin.os.as_deref(),
            ip_address: shown.address.as_deref(),
            hostname: origin.hostname.as_deref(),
        },
        metadata,
        resources: DeviceResources {
            user: shown
                .owner
                .and_then(|owner| current_user::envelope(directory, owner, now)),
        },
        id: shown.id,
        permission_denied: false,
    }
}

//! The one table of routes, and the router made of it.

use std::{collections::BTreeMap, future::ready};

use axum::{
    Router,
    handler::Handler,
    http::{HeaderValue, Method},
    middleware::from_fn_with_state,
    routing::{MethodFilter, MethodRouter, any},
};

use super::{
    App, Refusal,
    access::{Access, Guarded},
    external,
    extract::{MAX_BODY, MAX_VALUES},
    layers::around,
    openapi, pages,
    routes::{
        about, activation, api_keys, api_token, change_accounts, change_devices, change_keys,
        change_secrets, change_users, constants, current_user, device_start, devices, health, info,
        jwks, login, secrets, service_accounts, users, verify,
    },
    upstream::beyond,
};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

#[rustfmt::skip]
fn table() -> Table {
    use Access::{Account, Admin, Anyone};
    use Method as M;
    Table::default()
        // What one needs to find and enter the server.
        .row(M::GET,    openapi::PATH,              Anyone,  info::openapi)
        .row(M::GET,    "/api/v1/info",             Anyone,  info::info)
        .row(M::GET,    "/api/v1/version",          Anyone,  info::version)
        .row(M::POST,   "/api/v1/login",            Anyone,  login::login)
        .row(M::GET,    "/api/v1/logout",           Anyone,  login::logout)
        .row(M::GET,    "/api/v1/api_token",        Account, api_token::issue)
        .row(M::GET,    "/.well-known/jwks.json",   Anyone,  jwks::show)
        .row(M::GET,    "/api/v1/current-user",     Account, current_user::show)
        .row(M::PUT,    "/api/v1/current-user",     Account, change_users::update_self)
        // For a gateway that asks before it lets somebody through.
        .row(M::GET,    "/auth/verify",             Account, verify::show)
        // By way of a provider, in a browser.
        .row(M::GET,    "/login/external",          Anyone,  external::begin)
        .row(M::GET,    "/login/external/callback", Anyone,  external::finish)
        // Service accounts and their keys.
        .row(M::GET,    ACCOUNTS,                   Account, service_accounts::list)
        .row(M::POST,   ACCOUNTS,                   Admin("create service account"), change_accounts::create)
        .row(M::GET,    ACCOUNT,                    Account, service_accounts::show)
        .row(M::PUT,    ACCOUNT,                    Admin("update service account"), change_accounts::update)
        .row(M::DELETE, ACCOUNT,                    Admin("delete service account"), change_accounts::delete)
        .row(M::GET,    KEYS,                       Account, api_keys::list)
        .row(M::POST,   KEYS,                       Admin("create API key"), change_keys::create)
        .row(M::GET,    KEY,                        Account, api_keys::show)
        .row(M::PUT,    KEY,                        Admin("update API key"), change_keys::update)
        .row(M::DELETE, KEY,                        Admin("delete API key"), change_keys::delete)
        .row(M::PUT,    ROTATE,                     Admin("rotate API key"), change_keys::rotate)
        // Devices that people log in from.
        .row(M::POST,   "/api/v1/device_authorization", Anyone, device_start::start)
        .row(M::GET,    "/api/v1/devices",          Account, devices::list)
        .row(M::GET,    DEVICE,                     Account, devices::show)
        .row(M::PUT,    DEVICE,                     Account, change_devices::update)
        .row(M::DELETE, DEVICE,                     Account, change_devices::delete)
        .row(M::PUT,    "/api/v1/devices/{device}/verify", Account, change_devices::verify)
        // Users.
        .row(M::GET,    USERS,                      Account, users::list)
        .row(M::POST,   USERS,                      Admin("create user"), change_users::create)
        .row(M::GET,    USER,                       Account, users::show)
        .row(M::PUT,    USER,                       Account, change_users::update)
        .row(M::DELETE, USER,                       Account, change_users::delete)
        .row(M::PUT,    OPT_IN,                     Account, about::opt_in)
        .row(M::PUT,    DEACTIVATE,                 Account, activation::deactivate)
        .row(M::PUT,    ACTIVATE,                   Anyone,  activation::activate)
        .row(M::PUT,    "/api/v1/activate",         Anyone,  activation::activate_server)
        // Secrets.
        .row(M::GET,    SECRETS,                    Account, secrets::list)
        .row(M::POST,   SECRETS,                    Account, change_secrets::create)
        .row(M::GET,    SECRET,                     Account, secrets::show)
        .row(M::PUT,    SECRET,                     Account, change_secrets::update)
        .row(M::DELETE, SECRET,                     Account, change_secrets::delete)
        .row(M::POST,   WORKSPACE_SECRETS,          Account, change_secrets::create)
        .row(M::PUT,    "/api/v1/secrets_operations/backup", Admin("backup secrets"), change_secrets::backup)
        .row(M::PUT,    "/api/v1/secrets_operations/restore", Admin("restore secrets"), change_secrets::restore)
        .row(M::GET,    "/api/v1/load-info",        Account, info::load)
        // Pages for people. Each looks for itself who asks: nobody is told so in JSON.
        .row(M::GET,    "/login",                   Anyone,  pages::login)
        .row(M::POST,   "/login",                   Anyone,  pages::log_in)
        .row(M::POST,   "/logout",                  Anyone,  pages::log_out)
        .row(M::GET,    "/activate-user",           Anyone,  pages::activate)
        .row(M::POST,   "/activate-user",           Anyone,  pages::choose_password)
        .row(M::GET,    "/devices/verify",          Anyone,  pages::verify)
        .row(M::POST,   "/devices/verify",          Anyone,  pages::decide)
        .row(M::GET,    "/devices",                 Anyone,  pages::devices)
        .row(M::POST,   "/devices/change",          Anyone,  pages::change_device)
        .row(M::POST,   "/devices/sign-out",        Anyone,  pages::sign_out_everywhere)
        .row(M::GET,    "/assets/{file}",           Anyone,  pages::file)
}

/// What stands in for a ZenML server where there is none: what the dashboard asks first, and what a
/// client needs to see to begin.
#[rustfmt::skip]
fn stand_ins(table: Table) -> Table {
    use Access::{Account, Admin};
    use Method as M;
    table
        .row(M::GET,    "/api/v1/settings",         Account, info::settings)
        .row(M::PUT,    "/api/v1/settings",         Admin("update server settings"), info::change_settings)
        .row(M::GET,    "/api/v1/onboarding_state", Account, info::onboarding_state)
        .row(M::GET,    "/api/v1/statistics",       Account, info::statistics)
        .row(M::GET,    "/api/v1/projects",         Account, constants::projects)
        .row(M::GET,    "/api/v1/projects/{project}", Account, constants::project)
        .row(M::GET,    "/api/v1/stacks",           Account, constants::stacks)
        .row(M::GET,    "/api/v1/stacks/{stack}",   Account, constants::stack)
}

const ACCOUNTS: &str = "/api/v1/service_accounts";
const ACCOUNT: &str = "/api/v1/service_accounts/{account}";
const DEVICE: &str = "/api/v1/devices/{device}";
const KEYS: &str = "/api/v1/service_accounts/{account}/api_keys";
const KEY: &str = "/api/v1/service_accounts/{account}/api_keys/{key}";
const SECRETS: &str = "/api/v1/secrets";
const SECRET: &str = "/api/v1/secrets/{secret}";
const WORKSPACE_SECRETS: &str = "/api/v1/workspaces/{workspace}/secrets";
const USERS: &str = "/api/v1/users";
const USER: &str = "/api/v1/users/{user}";
const ACTIVATE: &str = "/api/v1/users/{user}/activate";
const DEACTIVATE: &str = "/api/v1/users/{user}/deactivate";
const OPT_IN: &str = "/api/v1/users/{user}/email-opt-in";
const ROTATE: &str = "/api/v1/service_accounts/{account}/api_keys/{key}/rotate";

/// Every route but `/health` and `/ready`, which everybody may call by any method.
pub fn routes() -> Vec<Route> {
    stand_ins(table()).rows
}

/// The longest body that this route reads, in bytes.
pub(super) fn longest_body(route: &str) -> u64 {
    match route {
        SECRETS | SECRET | WORKSPACE_SECRETS => MAX_VALUES as u64,
        _ => MAX_BODY,
    }
}

/// The paths of the table.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    stand_ins(table()).paths.into_keys()
}

/// The whole server: the table behind the layer, the probes beside it.
pub(super) fn router(app: App) -> Router {
    let table = match app.upstream() {
        Some(_) => table(),
        None => stand_ins(table()),
    };
    let routes = table.paths.into_iter();
    routes
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods.build())
        })
        .fallback(beyond)
        .layer(from_fn_with_state(app.clone(), around))
        .route("/health", any(health::health))
        .route("/ready", any(health::ready))
        .with_state(app)
}

#[derive(Default)]
struct Table {
    rows: Vec<Route>,
    paths: BTreeMap<&'static str, Methods>,
}

#[derive(Default)]
struct Methods {
    router: MethodRouter<App>,
    allowed: Vec<Method>,
}

impl Table {
    fn row<H, T>(mut self, method: Method, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let methods = self.paths.remove(path).unwrap_or_default();
        let handler = Guarded { access, handler };
        let methods = methods.on(method.clone(), handler);
        self.paths.insert(path, methods);
        self.rows.push(Route {
            method,
            path,
            access,
        });
        self
    }
}

impl Methods {
    fn on<H, T>(mut self, method: Method, handler: Guarded<H>) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        if let Ok(filter) = MethodFilter::try_from(method.clone()) {
            self.router = self.router.on(filter, handler);
            self.allowed.push(method);
        }
        self
    }

    /// Whatever the path does not know is 405, HEAD included.
    fn build(self) -> MethodRouter<App> {
        let names: Vec<&str> = self.allowed.iter().map(Method::as_str).collect();
        let allowed = HeaderValue::from_str(&names.join(", "));
        let refusal = allowed.map_or(Refusal::Unexpected, Refusal::Method);
        let refuse = move || ready(refusal.clone());
        self.router
            .fallback(refuse.clone())
            // Else HEAD would reach what GET does, and OPTIONS get an `allow` that says so.
            .on(MethodFilter::HEAD.or(MethodFilter::OPTIONS), refuse)
    }
}

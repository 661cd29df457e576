//! The front door: every route, caller, error form and malice that it must answer. A test of an
//! attack bears its id.

mod about;
mod api_token;
mod audit;
mod canary;
mod changes;
pub mod client;
mod cors;
mod devices;
mod external;
mod floods;
mod headers;
mod jwt;
mod keys;
pub mod limits;
mod lists;
mod oauth_client;
mod openapi;
mod pages;
mod refusals;
mod routes;
mod schemes;
mod secrets;
mod slow;
mod sockets;
mod timing;
mod tls;
mod tokens;
mod transport;
mod upstream;
mod users;
mod verify;

use crate::support;

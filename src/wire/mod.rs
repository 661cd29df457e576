//! Bodies of requests and answers, in ZenML's words, and their schemas. Knows nothing of the crate.
//!
//! Answers borrow what they show, so that rendering a list copies no text.

pub mod account;
pub mod change;
pub mod device;
pub mod error;
mod id;
pub mod jwks;
pub mod login;
pub mod resource;
pub mod secret;
pub mod server;
pub mod stack;
mod time;

use id::Id;
pub use resource::{Page, Resource};
pub use time::Time;

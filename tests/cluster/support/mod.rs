//! What tests of the operator stand on.

pub mod elsewhere;
pub mod helm;
pub mod migration;
pub mod objects;
pub mod operator;
pub mod site;
pub mod state;
pub mod watch;

use std::time::Duration;

pub use objects::*;
pub use operator::{Launch, Log, Operator};
pub use site::{Site, garbage_collector, site, site_on};

/// For what must happen, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(90);

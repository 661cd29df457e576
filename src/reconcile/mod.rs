//! From custom resources to what they stand for: observe, validate, plan, apply, report.
//!
//! A kind is three functions, [`Reconciled`]; one [`driver`] does all the rest for each of them.

pub mod api_key;
pub mod apply;
mod call;
pub mod census;
pub mod device;
pub mod driver;
pub mod echo;
pub mod error;
pub mod events;
mod foreign;
pub mod made;
pub mod metrics;
pub mod plan;
pub mod queue;
pub mod reader;
pub mod report;
pub mod server;
pub mod service_account;
pub mod watch;

use std::fmt::Debug;

use jiff::Timestamp;
use kube::{Resource, core::NamespaceResourceScope, core::object::HasStatus};
use serde::de::DeserializeOwned;

pub use call::{CALL_TIMEOUT, call};
pub use reader::Reader;

use crate::api::KindStatus;
use error::{CallError, Invalid};
use plan::Plan;

/// Random bytes, handed in by whoever may draw them.
pub trait Fresh: Send {
    /// Fills `bytes` from a source that nobody can guess.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// A kind that the operator keeps as its spec says.
pub trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status = Self::State>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its status.
    type State: KindStatus;
    /// What a decision needs to know.
    type Observed: Send;
    /// What cannot be wrong any more.
    type Valid: Send;
    /// What is set for the whole operator.
    type Settings: Send + Sync + 'static;

    /// *Reads*: from watched views, and live what we own.
    fn observe(
        &self,
        read: &Reader,
    ) -> impl Future<Output = Result<Self::Observed, CallError>> + Send;

    /// *Pure*: whatever can be wrong is found here.
    ///
    /// # Errors
    /// What is to be reported instead of a plan.
    fn validate(
        &self,
        seen: Self::Observed,
        settings: &Self::Settings,
        now: Timestamp,
    ) -> Result<Self::Valid, Invalid>;

    /// *Pure*: what to do. Cannot fail.
    fn plan(valid: Self::Valid, fresh: &mut impl Fresh) -> Plan<Self::State>;
}

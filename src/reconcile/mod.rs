//! From custom resources to what they stand for: observe, validate, plan, apply, report.
//!
//! A kind is three functions, [`Reconciled`]; one [`driver`] does all the rest for each of them.

pub mod api_key;
pub mod apply;
mod call;
pub mod census;
pub mod component;
pub mod device;
pub mod driver;
pub mod echo;
pub mod elsewhere;
pub mod error;
pub mod events;
mod foreign;
pub mod made;
pub mod metrics;
pub mod namesake;
pub mod plan;
pub mod queue;
pub mod reader;
pub mod record;
pub mod references;
pub mod report;
pub mod secret;
pub mod server;
pub mod service_account;
mod source;
pub mod user;
pub mod watch;

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use kube::{Resource, core::NamespaceResourceScope, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use call::{CALL_TIMEOUT, call};
pub use reader::Reader;

use crate::api::{KindStatus, RECORD_FINALIZER, ZenServer};
use driver::Tools;
use error::{CallError, Invalid, PassError};
use plan::{Fact, Plan};
use record::farewell::{Wish, let_go};

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
    + Serialize
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

    /// *Reads* from views: what is wished for it when it is deleted. `None`: nothing, ever.
    fn wish(&self, _: &Reader) -> Option<Wish> {
        None
    }

    /// *Reads*: its server, where [`Self::wish`] does not know it any more.
    fn last_server(
        &self,
        _: &Reader,
    ) -> impl Future<Output = Result<Option<Arc<ZenServer>>, CallError>> + Send {
        async { Ok(None) }
    }

    /// The finalizer that holds it when it is deleted.
    const FINALIZER: &'static str = RECORD_FINALIZER;

    /// *Reads* from views: whether it is to be held when it is deleted. `None`: not known now.
    fn is_to_be_held(&self, read: &Reader) -> Option<bool> {
        self.wish(read)?.holds()
    }

    /// *Reads and writes*: does what is to be done before it goes, and lets it go; or tells what it
    /// waits for, and meanwhile it is kept as its spec says.
    fn depart(
        &self,
        tools: &Tools,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Fact>, PassError>> + Send {
        async move {
            let_go(self, tools, now).await?;
            Ok(None)
        }
    }

    /// *Reads* from views: what they tell that its status shows, whatever becomes of a pass.
    fn complete(&self, _: &mut Self::State, _: &Reader) {}

    /// Whether it may continue a deleted object of its name that had this spec: what cannot be
    /// changed must be the same.
    fn continues(&self, _: &Value) -> bool {
        false
    }
}

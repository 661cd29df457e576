//! What harm is done, to which request, and when.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::{Call, Verb};

/// Which requests. An empty one matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    verbs: Option<Vec<Verb>>,
    resource: Option<String>,
    but: Vec<String>,
    name: Option<String>,
    nth: Option<usize>,
}

impl Match {
    /// Requests of one verb.
    #[must_use]
    pub fn verb(verb: Verb) -> Self {
        Self {
            verbs: Some(vec![verb]),
            ..Self::default()
        }
    }

    /// Whatever changes something, but for the Lease and events.
    #[must_use]
    pub fn writes() -> Self {
        let verbs = vec![Verb::Create, Verb::Update, Verb::Patch, Verb::Delete];
        Self {
            verbs: Some(verbs),
            but: vec!["leases".into(), "events".into()],
            ..Self::default()
        }
    }

    /// Whatever looks at or changes an object, but for the Lease: no lists and watches.
    #[must_use]
    pub fn work() -> Self {
        let verbs = vec![
            Verb::Get,
            Verb::Create,
            Verb::Update,
            Verb::Patch,
            Verb::Delete,
        ];
        Self {
            verbs: Some(verbs),
            but: vec!["leases".into()],
            ..Self::default()
        }
    }

    /// Requests that do the same to the same object as `call`, and are the same one of them.
    #[must_use]
    pub fn same(call: &Call) -> Self {
        Self::verb(call.verb)
            .on(&call.resource)
            .named(&call.name)
            .nth(call.nth)
    }

    /// Of those, the ones to this resource, as [`Call::resource`] has it.
    #[must_use]
    pub fn on(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Of those, the ones to the object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Of those, the n-th that does this to its object ([`Call::nth`]).
    #[must_use]
    pub fn nth(mut self, nth: usize) -> Self {
        self.nth = Some(nth);
        self
    }

    /// Whether it matches a request.
    #[must_use]
    pub fn fits(&self, call: &Call) -> bool {
        self.verbs.as_ref().is_none_or(|v| v.contains(&call.verb))
            && self.resource.as_ref().is_none_or(|r| *r == call.resource)
            && !self.but.contains(&call.resource)
            && self.name.as_ref().is_none_or(|n| *n == call.name)
            && self.nth.is_none_or(|n| n == call.nth)
    }
}

/// Before the API server sees the request, or after it carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// Nothing has happened yet.
    Before,
    /// It is done; the client does not know.
    After,
}

/// What harm.
#[derive(Clone)]
pub enum Action {
    /// The connection ends without an answer.
    Drop,
    /// An answer of our own.
    Status {
        /// Its code.
        code: u16,
        /// Its `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// Goes on after this time.
    Delay(Duration),
    /// Goes on when released; carried out then even if the client has gone.
    Hang,
    /// Something that the test does while the client waits, such as killing it. Then the connection ends.
    Call(Arc<dyn Fn() + Send + Sync>),
    /// A watch ends in the middle of an event, after so many pieces. [`When::After`] only.
    Cut {
        /// How many pieces pass.
        after: usize,
    },
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("Drop"),
            Self::Status { code, .. } => write!(f, "Status({code})"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::Hang => f.write_str("Hang"),
            Self::Call(_) => f.write_str("Call"),
            Self::Cut { after } => write!(f, "Cut({after})"),
        }
    }
}

/// One harm to one kind of request.
#[derive(Clone, Debug)]
pub struct Rule {
    /// To which requests.
    pub matches: Match,
    /// On which side of the API server.
    pub when: When,
    /// What harm.
    pub action: Action,
    /// How often at most.
    pub times: usize,
}

impl Rule {
    /// Harm done once.
    #[must_use]
    pub fn once(matches: Match, when: When, action: Action) -> Self {
        Self {
            matches,
            when,
            action,
            times: 1,
        }
    }

    /// Harm done each time, until the rules are cleared.
    #[must_use]
    pub fn always(matches: Match, when: When, action: Action) -> Self {
        Self {
            times: usize::MAX,
            ..Self::once(matches, when, action)
        }
    }
}

/// A rule at work.
#[derive(Debug)]
pub struct RuleHandle {
    rule: Rule,
    taken: AtomicUsize,
    acted: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl RuleHandle {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            taken: AtomicUsize::new(0),
            acted: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }
    }

    /// How often it acted.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.acted.borrow()
    }

    /// Waits until it acted so often.
    ///
    /// # Errors
    ///
    /// If it did not within `patience`.
    pub async fn acted(&self, times: usize, patience: Duration) -> Result<()> {
        let mut acted = self.acted.subscribe();
        let enough = acted.wait_for(|count| *count >= times);
        let enough = tokio::time::timeout(patience, enough).await;
        enough.with_context(|| format!("{:?} did not act within {patience:?}", self.rule))??;
        Ok(())
    }

    /// Lets go on what hangs, and what would.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Whether it acts on this request, which counts.
    pub(super) fn takes(&self, call: &Call) -> bool {
        self.rule.matches.fits(call) && self.taken.fetch_add(1, Ordering::Relaxed) < self.rule.times
    }

    pub(super) fn when(&self) -> When {
        self.rule.when
    }

    pub(super) fn action(&self) -> &Action {
        &self.rule.action
    }

    pub(super) fn cut(&self) -> Option<usize> {
        match self.rule.action {
            Action::Cut { after } => Some(after),
            _ => None,
        }
    }

    pub(super) fn acting(&self) {
        self.acted.send_modify(|count| *count += 1);
    }

    pub(super) async fn released(&self) {
        let mut released = self.released.subscribe();
        // It cannot fail: the sender is ours.
        let _ = released.wait_for(|released| *released).await;
    }
}

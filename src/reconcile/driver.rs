//! One pass over one object, the same for every kind:
//!
//! 1. *reads* what the kind asks for,
//! 2. validates and plans, *pure*,
//! 3. *writes* the record that must not be lost,
//! 4. *writes* children,
//! 5. *writes* status if it changed,
//! 6. tells events, and says when to look again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::{ObjectRef, Store},
};
use parking_lot::Mutex;
use serde_json::json;

use super::{
    Fresh, Reader, Reconciled,
    apply::{Change, Owner, Writer},
    call::call,
    echo::digest,
    error::{ApplyError, Class, Delays, Invalid, PassError, backoff, reaction},
    events::Teller,
    made::Place,
    metrics::{Metrics, Written},
    plan::{Fact, Note, Plan, Verdict},
    queue::{self, Action, Pace},
    record::farewell::{is_held, mark},
    report::{Facts, report},
};
use crate::api::{FIELD_MANAGER, KindStatus, condition, reason};

/// How long one pass may take, calls and all.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);
/// When to look again at an object whose view does not show our last write yet.
const CATCH_UP: Duration = Duration::from_millis(50);

/// What every controller works with.
#[derive(Clone)]
pub struct Tools {
    /// Reads.
    pub reader: Arc<Reader>,
    /// Writes.
    pub writer: Writer,
    /// Events.
    pub teller: Teller,
    /// Metrics.
    pub metrics: Metrics,
    /// Now.
    pub clock: fn() -> Timestamp,
    /// A clock to measure by.
    pub monotonic: fn() -> Instant,
    /// Bounds of the retry delay.
    pub delays: Delays,
    /// A look after this time at the latest.
    pub resync: Duration,
}

struct Context<K: Reconciled, F> {
    tools: Tools,
    settings: K::Settings,
    fresh: fn() -> F,
    failures: Mutex<HashMap<String, u32>>,
}

impl<K: Reconciled, F> Context<K, F> {
    /// How many looks in a row found no way on, with this one.
    fn failed(&self, object: &K) -> u32 {
        let mut all = self.failures.lock();
        let count = all.entry(object.uid().unwrap_or_default()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn went_well(&self, object: &K) {
        self.failures
            .lock()
            .remove(&object.uid().unwrap_or_default());
    }
}

/// Runs the controller of a kind until `triggers` ends.
pub async fn run<K: Reconciled, F: Fresh>(
    tools: Tools,
    settings: K::Settings,
    fresh: fn() -> F,
    store: Store<K>,
    triggers: impl futures::Stream<Item = ObjectRef<K>> + Send + 'static,
    pace: Pace,
) {
    let context = Context {
        tools,
        settings,
        fresh,
        failures: Mutex::default(),
    };
    let (clock, context) = (context.tools.monotonic, Arc::new(context));
    let look = |place: Place| {
        let object = store.get(&place.to_ref());
        let context = Arc::clone(&context);
        async move {
            match object {
                Some(object) => Box::pin(pass(object, context)).await,
                None => Action::await_change(),
            }
        }
    };
    queue::work(triggers.map(|object| Place::of(&object)), pace, clock, look).await;
}

async fn pass<K: Reconciled, F: Fresh>(object: Arc<K>, context: Arc<Context<K, F>>) -> Action {
    let tools = &context.tools;
    let is_ending = object.meta().deletion_timestamp.is_some();
    if is_ending && !is_held(&*object) {
        // Children go by their owner reference, and the sidecar refuses what is being deleted.
        context.went_well(&object);
        return Action::await_change();
    }
    if tools.writer.echoes().is_behind(&*object) {
        return Action::requeue(CATCH_UP);
    }
    let begun = (tools.monotonic)();
    let mut pass = Pass {
        object: &*object,
        tools,
        now: (tools.clock)(),
        version: object.resource_version(),
        status: object.status().cloned().unwrap_or_default(),
        waits_for: None,
    };
    let steps = async {
        if is_ending {
            pass.waits_for = Box::pin(object.depart(tools, pass.now)).await?;
            if pass.waits_for.is_none() {
                return Ok(Action::await_change());
            }
        }
        steps(&mut pass, &context).await
    };
    let result = tokio::time::timeout(PASS_TIMEOUT, steps)
        .await
        .unwrap_or(Err(PassError::TimedOut(PASS_TIMEOUT)));
    let class = result.as_ref().err().map(PassError::class);
    tools
        .metrics
        .pass(label(&K::kind(&())), class, (tools.monotonic)() - begun);
    match result {
        Ok(action) => action,
        Err(error) => pass.failed(&error, context.failed(&object)).await,
    }
}

async fn steps<K: Reconciled, F: Fresh>(
    pass: &mut Pass<'_, K>,
    context: &Context<K, F>,
) -> Result<Action, PassError> {
    let (object, tools) = (pass.object, pass.tools);
    // No finalizer is put on what is being deleted.
    if pass.waits_for.is_none()
        && let Some(version) = mark(object, tools).await?
    {
        pass.version = Some(version);
    }
    let seen = object
        .observe(&tools.reader)
        .await
        .map_err(PassError::Observe)?;
    let deadline = match object.validate(seen, &context.settings, pass.now) {
        Ok(valid) => {
            let plan = K::plan(valid, &mut (context.fresh)());
            let deadline = plan.deadline;
            pass.carry_out(plan).await.map_err(PassError::Apply)?;
            deadline
        }
        Err(invalid) => {
            pass.refuse(&invalid).await.map_err(PassError::Apply)?;
            if invalid.unwatched {
                let failures = context.failed(object);
                let retry = backoff(failures, spread(object), tools.delays);
                return Ok(Action::requeue(retry));
            }
            None
        }
    };
    context.went_well(object);
    let spread = spread(object);
    let next = next_look(deadline, pass.now, tools.resync, spread);
    Ok(Action::requeue(next))
}

/// A pass under way.
struct Pass<'a, K: Reconciled> {
    object: &'a K,
    tools: &'a Tools,
    now: Timestamp,
    /// The version of the object that the next write is made on.
    version: Option<String>,
    /// Its status in that version.
    status: K::State,
    /// Why it is still there though it was deleted.
    waits_for: Option<Fact>,
}

impl<K: Reconciled> Pass<'_, K> {
    async fn carry_out(&mut self, mut plan: Plan<K::State>) -> Result<(), ApplyError> {
        plan.facts.extend(self.waits_for.clone());
        if let Some(record) = plan.record {
            let progress = Verdict::Waiting {
                reason: reason::PROGRESSING,
                message: "working on it".into(),
            };
            self.write_status(record, &progress, Facts::Kept).await?;
        }
        let owner = self.owner();
        for child in &plan.children {
            if self.tools.writer.apply(&owner, child).await? != Change::Unchanged {
                self.wrote(Written::Child);
            }
        }
        for entries in &plan.entries {
            self.tools.writer.store(&owner, entries).await?;
            self.wrote(Written::Child);
        }
        for doomed in &plan.prune {
            self.tools.writer.delete(&owner, doomed).await?;
            self.wrote(Written::Deletion);
        }
        if plan.prune.iter().any(|d| d.uid == owner.reference.uid) {
            // It went itself: there is no status any more.
            plan.notes.into_iter().for_each(|note| self.tell(note));
            return Ok(());
        }
        for restart in &plan.restarts {
            self.tools.writer.restart(&owner, restart).await?;
            self.wrote(Written::Restart);
        }
        let before = self.status.clone();
        self.write_status(plan.status, &plan.verdict, Facts::Told(&plan.facts))
            .await?;
        let alarms = plan.facts.iter().filter(|fact| is_news(&before, fact));
        for note in alarms.map(alarm).chain(plan.notes) {
            self.tell(note);
        }
        Ok(())
    }

    async fn refuse(&mut self, invalid: &Invalid) -> Result<(), ApplyError> {
        let before = self.status.clone();
        let facts = invalid.facts.iter().chain(&self.waits_for);
        let facts: Vec<_> = facts.cloned().collect();
        self.write_status(before.clone(), &invalid.verdict, Facts::Told(&facts))
            .await?;
        for fact in facts.iter().filter(|fact| is_news(&before, fact)) {
            self.tell(alarm(fact));
        }
        if let Verdict::Stalled { reason, message } = &invalid.verdict
            && !is_stalled_by(&before, reason)
        {
            self.tell(Note {
                warning: true,
                reason,
                action: "Validate",
                message: message.clone(),
            });
        }
        Ok(())
    }

    /// Writes status if it says something new, on the version that we saw: whoever decided on an
    /// older state is refused here, before anything follows from it.
    async fn write_status(
        &mut self,
        status: K::State,
        verdict: &Verdict,
        facts: Facts<'_>,
    ) -> Result<(), ApplyError> {
        let generation = self.object.meta().generation.unwrap_or_default();
        let before = self.status.conditions();
        let mut status = report(status, before, verdict, facts, generation, self.now);
        self.object.complete(&mut status, &self.tools.reader);
        let status = status.own_part();
        if status == self.status.own_part() {
            return Ok(());
        }
        let (name, owner) = (self.object.name_any(), self.owner());
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": self.object.uid(), "resourceVersion": self.version},
            "status": status,
        });
        let api: Api<K> = Api::namespaced(self.tools.writer.client()?, &owner.namespace);
        let what = || {
            format!(
                "write status of {} {}/{name}",
                K::kind(&()),
                owner.namespace
            )
        };
        let echoes = self.tools.writer.echoes();
        echoes.will_say(&owner.reference.uid, digest(Some(&status)));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&body);
        let written = call(what, api.patch_status(&name, &parameters, &patch)).await;
        // One that is carried out later says what may not be true any more.
        let written = written.inspect_err(|_| echoes.takes_back(&owner.reference.uid))?;
        echoes.wrote_status(&written);
        self.version = written.resource_version();
        self.status = status;
        self.wrote(Written::Status);
        Ok(())
    }

    /// What follows from a failure. Only its class decides.
    async fn failed(&mut self, error: &PassError, failures: u32) -> Action {
        let class = error.class();
        let reaction = reaction(class, failures, spread(self.object), self.tools.delays);
        let (kind, name) = (K::kind(&()), self.object.name_any());
        let namespace = self.object.namespace().unwrap_or_default();
        if reaction.warn {
            tracing::warn!(%kind, namespace, name, failures, %error, "pass failed");
        } else {
            tracing::debug!(%kind, namespace, name, failures, %error, "pass failed");
        }
        if reaction.report
            && let Err(error) = self.say_why(class, &error.to_string()).await
        {
            tracing::debug!(%kind, namespace, name, %error, "the failure could not be reported");
        }
        Action::requeue(reaction.retry)
    }

    /// Puts a failure that lasts into status, where people look.
    async fn say_why(&mut self, class: Class, error: &str) -> Result<(), ApplyError> {
        let status = self.status.clone();
        if class == Class::Conflict {
            let reason = reason::CONFLICT;
            let message =
                format!("{error}; rename or remove that object, or choose another name here");
            let fact = Fact {
                condition: condition::CONFLICT,
                holds: true,
                reason,
                message: error.to_owned(),
            };
            let verdict = Verdict::Stalled { reason, message };
            return self
                .write_status(status, &verdict, Facts::Told(&[fact]))
                .await;
        }
        let verdict = Verdict::Waiting {
            reason: reason::API_ERROR,
            message: format!("{error}; will be tried again"),
        };
        self.write_status(status, &verdict, Facts::Kept).await
    }

    fn owner(&self) -> Owner {
        Owner::of(self.object)
    }

    fn tell(&self, note: Note) {
        self.tools.metrics.told(label(&K::kind(&())), note.reason);
        self.tools
            .teller
            .tell(&reference(self.object), note, self.now);
    }

    fn wrote(&self, what: Written) {
        self.tools.metrics.wrote(label(&K::kind(&())), what);
    }
}

fn is_stalled_by(status: &impl KindStatus, reason: &str) -> bool {
    status
        .conditions()
        .iter()
        .any(|c| c.type_ == condition::STALLED && c.reason == reason)
}

/// Whether a condition that somebody should look at came to hold.
fn is_news(status: &impl KindStatus, fact: &Fact) -> bool {
    let alarms = [
        condition::EXPIRING_SOON,
        condition::ROTATION_OVERDUE,
        condition::IN_USE,
    ];
    let held = |c: &Condition| c.type_ == fact.condition && c.status == "True";
    fact.holds && alarms.contains(&fact.condition) && !status.conditions().iter().any(held)
}

fn alarm(fact: &Fact) -> Note {
    Note {
        warning: true,
        reason: fact.reason,
        action: "Check",
        message: fact.message.clone(),
    }
}

/// At the next known deadline, and at the latest after `resync`, objects a little apart.
fn next_look(
    deadline: Option<Timestamp>,
    now: Timestamp,
    resync: Duration,
    spread: f64,
) -> Duration {
    let latest = resync.mul_f64(0.9 + spread / 10.0);
    let until = |then: Timestamp| Duration::try_from(then.duration_since(now)).unwrap_or_default();
    // A moment later, so that the deadline is surely over when we look.
    deadline.map_or(latest, |then| {
        latest.min(until(then) + Duration::from_millis(50))
    })
}

/// A number from 0 to 1 that stays with the object.
pub(super) fn spread(object: &impl ResourceExt) -> f64 {
    let uid = object.uid().unwrap_or_default();
    let sum = uid
        .bytes()
        .fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    f64::from(sum % 1000) / 1000.0
}

/// The kind as a label: one of a closed set.
pub(super) fn label(kind: &str) -> &'static str {
    match kind {
        "ZenServer" => "ZenServer",
        "ZenServiceAccount" => "ZenServiceAccount",
        "ZenAPIKey" => "ZenAPIKey",
        "ZenDevice" => "ZenDevice",
        "ZenUser" => "ZenUser",
        "ZenSecret" => "ZenSecret",
        "ZenComponent" => "ZenComponent",
        _ => "other",
    }
}

/// How events name an object.
pub(super) fn reference<K: Reconciled>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_the_deadline_and_at_the_latest_after_an_hour() {
        let now = Timestamp::from_second(1000).unwrap();
        let hour = Duration::from_secs(3600);
        let look = |deadline: Option<i64>| {
            let deadline = deadline.map(|s| Timestamp::from_second(s).unwrap());
            next_look(deadline, now, hour, 1.0).as_secs()
        };
        assert_eq!(
            [None, Some(1060), Some(999), Some(9999)].map(look),
            [3600, 60, 0, 3600]
        );
    }
}

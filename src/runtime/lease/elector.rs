//! The calls that an election makes, and the waiting between them.

use std::{pin::pin, time::Duration, time::Instant};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use thiserror::Error;
use tokio::{
    select,
    time::{sleep, sleep_until, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    Claim, LeaseConfig, Lost, Timings,
    decide::{Election, Rest, Step},
    record::{Lease, resource},
};
use crate::runtime::clock;

/// A process that wants to lead.
pub struct Elector {
    member: Member,
    /// Wakes us when the Lease changes, so that a Lease given back is taken at once. Only a hint: where it fails, we ask
    /// every `retry_period`.
    changes: BoxStream<'static, ()>,
}

/// The process that leads.
#[derive(Debug)]
#[must_use = "a claim that is not renewed ends"]
pub struct Leader(Member);

/// What both have.
#[derive(Debug)]
struct Member {
    api: Api<Lease>,
    name: String,
    identity: String,
    timings: Timings,
    election: Election,
    claim: Claim,
}

/// Why a call failed.
#[derive(Debug, Error)]
enum CallError {
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl CallError {
    /// Whether somebody else was faster.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }
}

impl Elector {
    /// An elector, and the claim that it gets and loses. Makes no call.
    ///
    /// The client needs the rights to get, create and update the Lease; those to list and watch it by name make failover
    /// fast. It should not retry by itself.
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig) -> (Self, Claim) {
        let LeaseConfig {
            namespace,
            name,
            identity,
            timings,
        } = config;
        let mut suffix = [0; 4];
        clock::fill_random(&mut suffix);
        let identity = format!("{identity}_{}", hex::encode(suffix));
        let api = Api::namespaced_with(client, &namespace, &resource());
        let claim = Claim::default();
        let changes = watcher::watch_object(api.clone(), &name)
            .default_backoff()
            .map(drop);
        let member = Member {
            election: Election::new(name.clone(), identity.clone(), timings),
            claim: claim.clone(),
            api,
            name,
            identity,
            timings,
        };
        let changes = changes.boxed();
        (Self { member, changes }, claim)
    }

    /// The name that stands in the Lease while we lead.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.member.identity
    }

    /// Waits until we lead, however long it takes and whatever the API server answers, or until `shutdown`: then `None`.
    pub async fn acquire(mut self, shutdown: impl Future<Output = ()>) -> Option<Leader> {
        let mut shutdown = pin!(shutdown);
        let mut said = String::new();
        loop {
            let until = match self.member.attempt().await {
                Ok(Rest::Renewed) if self.member.election.held_until().is_some() => {
                    info!(
                        lease = self.member.name,
                        identity = self.member.identity,
                        "leading"
                    );
                    return Some(Leader(self.member));
                }
                Ok(Rest::Wait(until)) => {
                    let holder = self.member.election.holder().unwrap_or_default();
                    if said != holder {
                        info!(lease = self.member.name, holder, "standing by");
                        holder.clone_into(&mut said);
                    }
                    until.min(self.member.next_attempt())
                }
                Ok(_) => clock::monotonic(),
                Err(error) if error.is_conflict() => clock::monotonic(),
                Err(error) => {
                    let error = error.to_string();
                    if said != error {
                        warn!(
                            lease = self.member.name,
                            error, "cannot take part in the election"
                        );
                        said = error;
                    }
                    self.member.next_attempt()
                }
            };
            select! {
                biased;
                () = &mut shutdown => {
                    self.member.release().await;
                    return None;
                }
                () = self.change_or(until) => self.member.election.doubt(),
            }
        }
    }

    /// Waits for a change of the Lease or that time. At least a moment: who edits the Lease must not set our pace.
    async fn change_or(&mut self, until: Instant) {
        sleep(self.member.timings.shortest_pause()).await;
        select! {
            () = sleep_until(until.into()) => {}
            Some(()) = self.changes.next() => {}
        }
    }
}

impl Leader {
    /// Keeps leading until `shutdown`, and then gives the Lease back, so that the next one need not wait. The claim ends
    /// before that: stop writing first.
    ///
    /// # Errors
    /// If we lost the leadership. The process should exit.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Lost> {
        let Self(mut member) = self;
        let mut shutdown = pin!(shutdown);
        let mut cause = "nothing of this process ran for so long".to_owned();
        let mut next = member.next_attempt();
        loop {
            let end = member.election.held_until().unwrap_or(next);
            let renewal = async {
                sleep_until(next.min(end).into()).await;
                timeout_at(end.into(), member.attempt()).await
            };
            // A renewal that is dropped here may still be made. Then giving back meets its version, and reads again.
            let renewal = select! {
                biased;
                () = &mut shutdown => None,
                renewal = renewal => Some(renewal),
            };
            let Some(renewal) = renewal else {
                member.release().await;
                return Ok(());
            };
            match renewal {
                Ok(Ok(Rest::Taken(holder))) => return Err(member.lost(Lost::Taken(holder))),
                Ok(Ok(Rest::Expired)) | Err(_) => {
                    let deadline = member.timings.renew_deadline;
                    return Err(member.lost(Lost::Expired(deadline, cause)));
                }
                Ok(Ok(_)) => next = member.next_attempt(),
                Ok(Err(error)) => {
                    warn!(lease = member.name, %error, "cannot renew the lease");
                    next = if error.is_conflict() {
                        clock::monotonic() + member.timings.shortest_pause()
                    } else {
                        member.next_attempt()
                    };
                    cause = error.to_string();
                }
            }
        }
    }
}

impl Member {
    /// Reads if we must and writes if we may.
    async fn attempt(&mut self) -> Result<Rest, CallError> {
        loop {
            let started = clock::monotonic();
            let params = PostParams::default();
            let answer = match self.election.step(started, clock::now()) {
                Step::Read => {
                    let lease = self.call(self.api.get_opt(&self.name)).await?;
                    self.election.read(lease, clock::monotonic());
                    continue;
                }
                Step::Create(lease) => {
                    let created = self.api.create(&params, &lease);
                    self.call(created).await
                }
                Step::Replace(lease) => {
                    let replaced = self.api.replace(&self.name, &params, &lease);
                    self.call(replaced).await
                }
                Step::Rest(rest) => return Ok(rest),
            };
            match answer {
                Ok(lease) => self.election.written(lease, started, clock::monotonic()),
                Err(error) => {
                    self.election.doubt();
                    return Err(error);
                }
            }
            self.claim.hold_until(self.election.held_until());
            return Ok(Rest::Renewed);
        }
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
        let limit = self.timings.call_timeout();
        let answer = timeout(limit, call).await;
        Ok(answer.map_err(|_| CallError::TimedOut(limit))??)
    }

    /// Ends the claim and gives the Lease back if it is ours. Best effort: if it fails, the others wait as after a crash.
    async fn release(mut self) {
        self.claim.hold_until(None);
        self.election.leave();
        let limit = self.timings.call_timeout();
        let released = timeout(limit, async {
            loop {
                match self.attempt().await {
                    Err(error) if error.is_conflict() => {}
                    other => return other,
                }
            }
        });
        match released.await {
            Ok(Ok(_)) => info!(lease = self.name, "left the election"),
            Ok(Err(error)) => warn!(lease = self.name, %error, "cannot give the lease back"),
            Err(_) => warn!(lease = self.name, "cannot give the lease back in time"),
        }
    }

    fn lost(&self, why: Lost) -> Lost {
        self.claim.hold_until(None);
        why
    }

    /// When to try again: `retry_period` from now, less by chance, so that many do not keep step.
    fn next_attempt(&self) -> Instant {
        let mut chance = [0];
        clock::fill_random(&mut chance);
        let [chance] = chance;
        let less = self.timings.retry_period / 5 * u32::from(chance) / 256;
        clock::monotonic() + self.timings.retry_period - less
    }
}

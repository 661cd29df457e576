//! Several elections against a model API server in model time, under a schedule drawn by chance: slow, lost and late
//! requests and answers, refusals, processes that stop and go on, exit and are started again, and clocks that disagree.
//!
//! What holds: never two claims at one instant. And once the faults end, somebody leads.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;

use super::{
    Timings,
    decide::{Election, Rest, Step},
    record::Lease,
};
use crate::runtime::clock;

/// Model time, in milliseconds.
type Millis = u64;

/// The default timings, which leave a third of the lease for clocks that run unevenly. Those here do by up to 5 %.
const RETRY: Millis = 2_000;
const CALL_TIMEOUT: Millis = 5_000;
const END_OF_FAULTS: Millis = 300_000;
const END: Millis = 360_000;

/// What befalls one call.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// How long the process stops between its decision and the call.
    stop_before: Millis,
    /// How long until the API server acts on it; `None`: it never does.
    there: Option<Millis>,
    /// How long until the answer is back; `None`: it never is.
    back: Option<Millis>,
    /// How long the process stops before it sees the answer.
    stop_after: Millis,
    /// The answer is an error, though the write may be done.
    hidden: bool,
    /// The process exits once it sees the answer, with or without giving the Lease back, and is started again.
    exits: Option<bool>,
}

const HARMLESS: Fate = Fate {
    stop_before: 0,
    there: Some(5),
    back: Some(5),
    stop_after: 0,
    hidden: false,
    exits: None,
};

fn fate() -> impl Strategy<Value = Fate> {
    let delay = || {
        prop_oneof![
            10 => (0..50_u64).prop_map(Some),
            3 => (0..20_000_u64).prop_map(Some),
            1 => Just(None),
        ]
    };
    let stop = || prop_oneof![12 => Just(0), 2 => 0..3_000_u64, 1 => 5_000..40_000_u64];
    let hidden = prop_oneof![6 => Just(false), 1 => Just(true)];
    let exits = prop_oneof![20 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (stop(), delay(), delay(), stop(), hidden, exits).prop_map(
        |(stop_before, there, back, stop_after, hidden, exits)| Fate {
            stop_before,
            there,
            back,
            stop_after,
            hidden,
            exits,
        },
    )
}

/// What befalls the calls of one process, one after the other. Trouble comes in runs, as it does: only who is cut off for
/// a while, and nobody else, loses its claim.
fn weather() -> impl Strategy<Value = Vec<Fate>> {
    let run = (fate(), 1..8_usize).prop_map(|(fate, length)| vec![fate; length]);
    let calm = (1..20_usize).prop_map(|length| vec![HARMLESS; length]);
    prop::collection::vec(prop_oneof![run, calm], 1..60).prop_map(|runs| runs.concat())
}

/// A process's clocks: when it began to count, how fast it counts in per mille, and what it takes for the time of day.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    offset: Millis,
    pace: u64,
    day: i64,
}

fn clocks() -> impl Strategy<Value = Clocks> {
    let day = -1_000_000_000..1_000_000_000_i64;
    (0..1_000_000_u64, 950..1_050_u64, day).prop_map(|(offset, pace, day)| Clocks {
        offset,
        pace,
        day,
    })
}

/// What a process is in the middle of.
#[derive(Clone, Debug)]
enum Doing {
    /// Nothing, until then.
    Waiting,
    /// It has decided and is about to call.
    Calling(Step, Fate),
    /// It waits for the answer.
    Answer(Option<Result<Option<Lease>, ()>>, bool, Fate),
}

struct Process {
    election: Election,
    clocks: Clocks,
    begin: Instant,
    doing: Doing,
    at: Millis,
    /// When the call that it is in was started, on its own clock.
    started: Instant,
    /// The end of its claim in model time, as the process itself would find it.
    held_until: Millis,
    leaving: bool,
    life: u32,
    id: usize,
    weather: std::iter::Cycle<std::vec::IntoIter<Fate>>,
}

impl Process {
    fn new(id: usize, clocks: Clocks, weather: Vec<Fate>, begin: Instant) -> Self {
        Self {
            election: election(id, 0),
            clocks,
            begin,
            doing: Doing::Waiting,
            at: 0,
            started: begin,
            held_until: 0,
            leaving: false,
            life: 0,
            id,
            weather: weather.into_iter().cycle(),
        }
    }

    /// What befalls its next call.
    fn fate(&mut self, now: Millis) -> Fate {
        let fate = self.weather.next().filter(|_| now < END_OF_FAULTS);
        fate.unwrap_or(HARMLESS)
    }

    /// Its own clock at that instant of model time.
    fn own(&self, now: Millis) -> Instant {
        self.begin + Duration::from_micros((now + self.clocks.offset) * self.clocks.pace)
    }

    /// The first instant of model time at which its own clock shows that.
    fn model(&self, own: Instant) -> Millis {
        let micros = u64::try_from(own.duration_since(self.begin).as_micros()).unwrap();
        micros
            .div_ceil(self.clocks.pace)
            .saturating_sub(self.clocks.offset)
    }

    fn day(&self, now: Millis) -> Timestamp {
        let now = i64::try_from(now).unwrap();
        Timestamp::from_millisecond(self.clocks.day + now).unwrap()
    }

    /// The process is gone and another takes its place.
    fn restart(&mut self, now: Millis) {
        self.life += 1;
        self.election = election(self.id, self.life);
        self.leaving = false;
        self.held_until = now;
        self.doing = Doing::Waiting;
        self.at = now + 100;
    }

    fn pause(&mut self, now: Millis, length: Millis) {
        self.doing = Doing::Waiting;
        self.at = now + length;
    }
}

fn election(id: usize, life: u32) -> Election {
    Election::new("lease".into(), format!("{id}-{life}"), Timings::default())
}

/// The API server: one Lease, and the writes that are still on their way to it.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn act(&mut self, step: &Step) -> Result<Option<Lease>, ()> {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match step {
            Step::Read => Ok(self.lease.clone()),
            Step::Create(lease) if self.lease.is_none() => Ok(self.store(lease)),
            Step::Replace(lease) if self.lease.as_ref().map(version) == Some(version(lease)) => {
                Ok(self.store(lease))
            }
            _ => Err(()),
        }
    }

    fn store(&mut self, lease: &Lease) -> Option<Lease> {
        self.version += 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        self.lease.clone()
    }
}

/// A call that the server has yet to see, of the process's `serial`-th call.
struct Underway {
    at: Millis,
    from: usize,
    serial: u64,
    step: Step,
}

struct World {
    now: Millis,
    server: Server,
    processes: Vec<Process>,
    underway: Vec<Underway>,
    serials: Vec<u64>,
    claims: usize,
}

impl World {
    /// Goes on to the next thing that happens. False at the end.
    fn turn(&mut self) -> bool {
        let arrival = self
            .underway
            .iter()
            .enumerate()
            .min_by_key(|(_, call)| call.at);
        let arrival = arrival.map(|(index, call)| (call.at, index));
        let process = self.processes.iter().enumerate().min_by_key(|(_, p)| p.at);
        let (at, process) = process.map(|(index, process)| (process.at, index)).unwrap();
        match arrival {
            Some((arrives, index)) if arrives <= at => {
                self.now = arrives;
                let call = self.underway.swap_remove(index);
                let answer = self.server.act(&call.step);
                if self.serials[call.from] == call.serial
                    && let Doing::Answer(slot, ..) = &mut self.processes[call.from].doing
                {
                    *slot = Some(answer);
                }
            }
            _ => {
                self.now = at;
                self.process(process);
            }
        }
        self.now < END
    }

    fn process(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        match std::mem::replace(&mut process.doing, Doing::Waiting) {
            Doing::Waiting => {
                let own = process.own(now);
                let day = process.day(now);
                match process.election.step(own, day) {
                    Step::Rest(Rest::Wait(until)) => {
                        process.election.doubt();
                        let until = process.model(until).max(now + 1) - now;
                        process.pause(now, until.min(RETRY));
                    }
                    Step::Rest(_) => process.restart(now),
                    step => {
                        let fate = process.fate(now);
                        process.started = own;
                        process.doing = Doing::Calling(step, fate);
                        process.at = now + fate.stop_before;
                    }
                }
            }
            Doing::Calling(step, fate) => {
                self.serials[index] += 1;
                if let Some(there) = fate.there {
                    self.underway.push(Underway {
                        at: now + there,
                        from: index,
                        serial: self.serials[index],
                        step: step.clone(),
                    });
                }
                let both = fate.there.zip(fate.back).map(|(there, back)| there + back);
                let waits = both.map_or(CALL_TIMEOUT, |both| both.min(CALL_TIMEOUT));
                process.doing = Doing::Answer(None, matches!(step, Step::Read), fate);
                process.at = now + waits + fate.stop_after;
            }
            Doing::Answer(answer, reading, fate) => self.answered(index, answer, reading, fate),
        }
    }

    fn answered(
        &mut self,
        index: usize,
        answer: Option<Result<Option<Lease>, ()>>,
        reading: bool,
        fate: Fate,
    ) {
        let now = self.now;
        self.serials[index] += 1;
        let process = &mut self.processes[index];
        let own = process.own(now);
        let in_time = fate.there.zip(fate.back);
        let in_time = in_time.is_some_and(|(there, back)| there + back < CALL_TIMEOUT);
        match answer.filter(|_| in_time && !fate.hidden) {
            Some(Ok(lease)) if reading => {
                process.election.read(lease, own);
                process.pause(now, 0);
            }
            Some(Ok(Some(lease))) => {
                process.election.written(lease, process.started, own);
                process.pause(now, RETRY);
                self.claim(index);
            }
            _ => {
                process.election.doubt();
                process.pause(now, RETRY);
            }
        }
        let process = &mut self.processes[index];
        match fate.exits {
            Some(true) if !process.leaving => {
                process.leaving = true;
                process.election.leave();
                process.held_until = now;
                process.pause(now, 0);
            }
            Some(false) => process.restart(now),
            _ => {}
        }
    }

    /// The claim of this process may have begun or been prolonged: nobody else may hold one.
    fn claim(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let Some(until) = process.election.held_until() else {
            return;
        };
        process.held_until = process.model(until);
        if process.held_until <= self.now {
            return;
        }
        self.claims += 1;
        for (other, process) in self.processes.iter().enumerate() {
            assert!(
                other == index || process.held_until <= self.now,
                "{index} and {other} both lead at {}",
                self.now
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_two_claims_and_always_one_in_the_end(
        members in prop::collection::vec((clocks(), weather()), 2..4),
    ) {
        let begin = clock::monotonic();
        let processes: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(id, (clocks, weather))| Process::new(id, clocks, weather, begin))
            .collect();
        let mut world = World {
            now: 0,
            server: Server::default(),
            serials: vec![0; processes.len()],
            processes,
            underway: Vec::new(),
            claims: 0,
        };
        while world.turn() {}
        prop_assert!(world.claims > 0);
        let leads = |process: &&Process| process.held_until > world.now;
        prop_assert_eq!(world.processes.iter().filter(leads).count(), 1);
    }
}

//! Each rule of the election by itself. `../simulation.rs` has them all at once.

use super::*;
use crate::runtime::clock;

const SECOND: Duration = Duration::from_secs(1);

/// An election, and the clock that it is told.
struct Told {
    election: Election,
    begin: Instant,
    version: u32,
}

impl Told {
    fn new() -> Self {
        Self {
            election: Election::new("lease".into(), "me".into(), Timings::default()),
            begin: clock::monotonic(),
            version: 0,
        }
    }

    /// The instant that many seconds after the beginning.
    fn at(&self, seconds: f64) -> Instant {
        self.begin + Duration::from_secs_f64(seconds)
    }

    fn step(&mut self, seconds: f64) -> Step {
        let at = self.at(seconds);
        let day = Timestamp::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        self.election.step(at, day)
    }

    fn rest(&mut self, seconds: f64) -> Rest {
        match self.step(seconds) {
            Step::Rest(rest) => rest,
            step => panic!("{step:?}"),
        }
    }

    fn read(&mut self, seconds: f64, record: Option<Record>) {
        self.version += 1;
        let version = self.version.to_string();
        let at = self.at(seconds);
        self.election
            .read(record.map(|record| lease(&version, record)), at);
    }

    /// Makes the write that the step asks for, and returns it.
    fn write(&mut self, seconds: f64) -> Record {
        let (Step::Create(mut lease) | Step::Replace(mut lease)) = self.step(seconds) else {
            panic!("nothing to write")
        };
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        let record = lease.spec.clone();
        let at = self.at(seconds);
        self.election.written(lease, at, at);
        record
    }

    /// Has led since second 0.
    fn leading() -> (Self, Record) {
        let mut told = Self::new();
        told.read(0.0, None);
        let record = told.write(0.0);
        (told, record)
    }
}

fn lease(version: &str, record: Record) -> Lease {
    let mut lease = object(None, "lease", record);
    lease.metadata.resource_version = Some(version.into());
    lease.metadata.uid = Some("uid".into());
    lease
}

fn held_by(holder: &str, renewed: &str) -> Record {
    Record {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(15),
        acquire_time: Some("then".into()),
        renew_time: Some(renewed.into()),
        lease_transitions: Some(4),
    }
}

#[test]
fn reads_before_anything_else() {
    assert!(matches!(Told::new().step(0.0), Step::Read));
}

#[test]
fn makes_a_missing_lease_and_leads() {
    let (mut told, record) = Told::leading();
    let expected = Record {
        holder_identity: Some("me".into()),
        lease_duration_seconds: Some(15),
        acquire_time: Some("1970-01-01T00:00:00.000000Z".into()),
        renew_time: Some("1970-01-01T00:00:00.000000Z".into()),
        lease_transitions: Some(0),
    };
    assert_eq!(record, expected);
    assert_eq!(told.election.held_until(), Some(told.at(10.0)));
    assert!(matches!(told.step(1.0), Step::Replace(_)));
}

#[test]
fn renews_at_its_version_and_keeps_what_others_put_there() {
    let mut told = Told::new();
    let mut found = lease("7", held_by("", "x"));
    found.spec.lease_duration_seconds = Some(1);
    found.metadata.labels = Some([("team".to_owned(), "blue".to_owned())].into());
    let at = told.at(0.0);
    told.election.read(Some(found), at);
    let Step::Replace(write) = told.step(0.0) else {
        panic!("not free")
    };
    assert_eq!(write.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(write.metadata.uid.as_deref(), Some("uid"));
    assert!(write.metadata.labels.unwrap().contains_key("team"));
}

#[test]
fn a_renewal_keeps_the_beginning_and_always_changes_the_lease() {
    let (mut told, first) = Told::leading();
    let second = told.write(2.0);
    assert_eq!(second.acquire_time, first.acquire_time);
    assert_eq!(second.lease_transitions, Some(0));
    let frozen = told.write(2.0);
    assert_ne!(frozen.renew_time, second.renew_time);
    assert_eq!(told.election.held_until(), Some(told.at(12.0)));
}

#[test]
fn another_s_lease_is_taken_when_it_has_not_changed_for_its_duration() {
    let mut told = Told::new();
    told.read(3.0, Some(held_by("other", "a")));
    assert_eq!(told.rest(3.0), Rest::Wait(told.at(18.0)));
    told.read(10.0, Some(held_by("other", "a")));
    assert_eq!(told.rest(17.999), Rest::Wait(told.at(18.0)));
    told.read(17.0, Some(held_by("other", "b")));
    assert_eq!(told.rest(18.0), Rest::Wait(told.at(32.0)));
    let taken = told.write(32.0);
    assert_eq!(taken.lease_transitions, Some(5));
    assert_eq!(taken.acquire_time, taken.renew_time);
}

#[test]
fn a_stated_duration_is_honoured_within_bounds() {
    for (stated, waits) in [
        (None, 15.0),
        (Some(-1), 15.0),
        (Some(1), 15.0),
        (Some(60), 60.0),
        (Some(i32::MAX), 600.0),
    ] {
        let mut told = Told::new();
        let record = Record {
            lease_duration_seconds: stated,
            ..held_by("other", "a")
        };
        told.read(0.0, Some(record));
        assert_eq!(told.rest(1.0), Rest::Wait(told.at(waits)), "{stated:?}");
    }
}

#[test]
fn a_lease_given_back_is_free_at_once_and_an_emptied_one_is_not() {
    for (stated, free) in [(Some(1), true), (None, true), (Some(15), false)] {
        for holder in [Some(String::new()), None] {
            let mut told = Told::new();
            let record = Record {
                holder_identity: holder,
                lease_duration_seconds: stated,
                ..held_by("", "a")
            };
            told.read(0.0, Some(record));
            assert_eq!(matches!(told.step(0.0), Step::Replace(_)), free);
        }
    }
}

#[test]
fn a_deleted_lease_does_not_end_another_s_claim() {
    let mut told = Told::new();
    told.read(0.0, Some(held_by("other", "a")));
    told.read(5.0, None);
    assert_eq!(told.rest(5.0), Rest::Wait(told.at(15.0)));
    assert!(matches!(told.step(15.0), Step::Create(_)));
}

#[test]
fn the_leader_makes_a_deleted_lease_anew_and_is_still_the_same_leader() {
    let mut told = Told::new();
    told.read(0.0, Some(held_by("other", "a")));
    let first = told.write(15.0);
    told.read(16.0, None);
    let again = told.write(16.0);
    assert_eq!(again.acquire_time, first.acquire_time);
    assert_eq!(again.lease_transitions, Some(5));
}

#[test]
fn the_leader_yields_to_another_holder_and_to_none() {
    for holder in ["other", ""] {
        let (mut told, _) = Told::leading();
        told.read(1.0, Some(held_by(holder, "a")));
        assert_eq!(told.rest(1.0), Rest::Taken(holder.into()));
    }
}

#[test]
fn the_leader_overwrites_what_else_was_edited() {
    let (mut told, first) = Told::leading();
    let edited = Record {
        lease_duration_seconds: Some(99),
        lease_transitions: None,
        acquire_time: Some("9999-12-31T23:59:59.999999Z".into()),
        ..first.clone()
    };
    told.read(1.0, Some(edited));
    let renewed = told.write(1.0);
    assert_eq!(
        Record {
            renew_time: first.renew_time.clone(),
            ..renewed
        },
        first
    );
}

#[test]
fn the_claim_ends_at_the_deadline_whatever_is_read() {
    let (mut told, first) = Told::leading();
    assert!(matches!(told.step(9.999), Step::Replace(_)));
    told.election.doubt();
    assert!(matches!(told.step(9.999), Step::Read));
    told.read(9.9995, Some(first));
    assert_eq!(told.rest(10.0), Rest::Expired);
}

#[test]
fn an_answer_after_the_deadline_gives_no_claim() {
    let mut told = Told::new();
    told.read(0.0, None);
    let Step::Create(mut lease) = told.step(0.0) else {
        panic!("not free")
    };
    lease.metadata.resource_version = Some("1".into());
    let (started, late) = (told.at(0.0), told.at(10.0));
    told.election.written(lease.clone(), started, late);
    assert_eq!(told.election.held_until(), None);
    // The Lease is ours all the same, and need not be waited for.
    told.election.read(Some(lease), late);
    told.write(10.0);
    assert_eq!(told.election.held_until(), Some(told.at(20.0)));
}

#[test]
fn a_write_whose_answer_was_lost_is_recognized_and_a_name_alone_is_not() {
    let mut told = Told::new();
    told.read(0.0, None);
    let Step::Create(tried) = told.step(0.0) else {
        panic!("not free")
    };
    told.election.doubt();
    told.read(1.0, Some(tried.spec.clone()));
    assert!(matches!(told.step(1.0), Step::Replace(_)));

    let mut told = Told::new();
    told.read(0.0, Some(held_by("me", "a")));
    assert_eq!(told.rest(0.0), Rest::Wait(told.at(15.0)));
}

#[test]
fn transitions_do_not_overflow() {
    let mut told = Told::new();
    let record = Record {
        lease_transitions: Some(i32::MAX),
        ..held_by("other", "a")
    };
    told.read(0.0, Some(record));
    assert_eq!(told.write(15.0).lease_transitions, Some(i32::MAX));
}

#[test]
fn leaving_gives_back_what_is_ours_and_only_that() {
    let (mut told, _) = Told::leading();
    told.election.leave();
    assert_eq!(told.election.held_until(), None);
    let left = told.write(1.0);
    assert_eq!(left.holder(), None);
    assert_eq!(left.lease_duration_seconds, Some(1));
    assert_eq!(left.lease_transitions, Some(0));
    assert_eq!(told.rest(1.0), Rest::Left);
    assert_eq!(told.election.held_until(), None);

    let (mut told, _) = Told::leading();
    told.election.leave();
    told.read(1.0, Some(held_by("other", "a")));
    assert_eq!(told.rest(1.0), Rest::Left);

    // Who never tried to write need not even look.
    let mut told = Told::new();
    told.election.leave();
    assert_eq!(told.rest(0.0), Rest::Left);
}

#[test]
fn a_standby_that_leaves_looks_for_a_write_whose_answer_was_lost() {
    let mut told = Told::new();
    told.read(0.0, None);
    let Step::Create(tried) = told.step(0.0) else {
        panic!("not free")
    };
    told.election.doubt();
    told.election.leave();
    assert!(matches!(told.step(1.0), Step::Read));
    told.read(1.0, Some(tried.spec));
    assert_eq!(told.write(1.0).holder(), None);
}

#[test]
fn an_edit_that_is_no_renewal_does_not_prolong_a_lease() {
    let mut told = Told::new();
    told.read(0.0, Some(held_by("other", "a")));
    // Another version, because of a label or the like, and the same record.
    told.read(14.0, Some(held_by("other", "a")));
    assert!(matches!(told.step(15.0), Step::Replace(_)));
}

#[test]
fn seconds_are_rounded_up() {
    let timings = Timings::new(2 * SECOND + SECOND / 2, 2 * SECOND, SECOND).unwrap();
    assert_eq!(timings.lease_seconds(), 3);
    assert_eq!(Timings::default().lease_seconds(), 15);
}

#[test]
fn unsafe_timings_are_refused_with_the_reason() {
    let new = |lease: u32, deadline: u32, retry: u32| {
        Timings::new(SECOND * lease, SECOND * deadline, SECOND * retry).map_err(|e| e.to_string())
    };
    assert_eq!(new(15, 10, 2), Ok(Timings::default()));
    for (given, reason) in [
        (new(15, 10, 0), "the retry period must not be zero"),
        (
            new(15, 2, 2),
            "the renew deadline (2s) must be longer than the retry period (2s)",
        ),
        (
            new(10, 10, 2),
            "the lease duration (10s) must be longer than the renew deadline (10s)",
        ),
        (
            new(601, 10, 2),
            "the lease duration (601s) must not be longer than 600s",
        ),
    ] {
        assert_eq!(given.unwrap_err(), reason);
    }
}

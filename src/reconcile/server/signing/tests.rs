//! The rules, and that no order of events, crashes and lost writes breaks them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_369_358 + seconds).unwrap()
}

/// A server with its Secret, and a clock.
struct World {
    auth: Auth,
    keys: Vec<SigningKeyStatus>,
    stored: Vec<String>,
    handled: Option<String>,
    now: i64,
    drawn: usize,
}

/// How far a pass comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    Whole,
    /// The process dies, or is refused, before any write.
    Nothing,
    /// After status was written down.
    Recorded,
    /// After the Secret was written.
    Stored,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            auth: serde_json::from_value(json!({})).unwrap(),
            keys: Vec::new(),
            stored: Vec::new(),
            handled: None,
            now: 0,
            drawn: 0,
        };
        world.pass(Pass::Whole);
        world
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            recorded: &self.keys,
            stored: &self.stored,
            auth: &self.auth,
            handled: self.handled.as_deref(),
            now: at(self.now),
        }
    }

    fn pass(&mut self, pass: Pass) -> Turn {
        let mut drawn = self.drawn;
        let turn = self.situation().turn(&mut || {
            drawn += 1;
            format!("{drawn:043}")
        });
        self.drawn = drawn;
        if pass == Pass::Nothing {
            return turn;
        }
        if let Some(store) = &turn.store {
            self.keys.clone_from(&turn.record);
            self.handled.clone_from(&turn.handled);
            if pass == Pass::Recorded {
                return turn;
            }
            self.stored.clone_from(store);
        }
        if pass == Pass::Whole {
            self.keys.clone_from(&turn.keys);
            self.handled.clone_from(&turn.handled);
        }
        turn
    }

    fn kid(&self, state: State) -> Option<String> {
        let key = self.keys.iter().find(|key| key.state == state);
        key.map(|key| key.kid.clone())
    }

    fn current(&self) -> String {
        self.kid(State::Current).unwrap()
    }

    /// What a sidecar verifies now.
    fn verifies(&self, kid: &str) -> bool {
        let counts = |key: &SigningKeyStatus| {
            let until = key
                .valid_until
                .as_ref()
                .is_none_or(|until| at(self.now) < until.0);
            key.kid == kid && key.state != State::Retired && until
        };
        let revoked = self.auth.jwt.revoked.iter().any(|revoked| revoked == kid);
        !revoked && self.keys.iter().any(counts) && self.stored.iter().any(|k| k == kid)
    }
}

#[test]
fn the_first_key_signs_at_once_and_the_next_one_is_there() {
    let mut world = World::new();
    assert_eq!(world.stored.len(), 2);
    let states: Vec<_> = world.keys.iter().map(|key| key.state).collect();
    assert_eq!(states, [State::Current, State::Next]);
    let turn = world.pass(Pass::Whole);
    assert_eq!((turn.store, turn.keys), (None, world.keys.clone()));
    assert_eq!(turn.next_rotation, at(720 * HOUR));
    assert_eq!(turn.deadline, turn.next_rotation);
}

#[test]
fn j19_a_key_is_known_before_it_signs_and_verifies_as_long_as_its_tokens_live() {
    let mut world = World::new();
    let (first, second) = (world.current(), world.kid(State::Next).unwrap());
    world.now = 720 * HOUR - 1;
    world.pass(Pass::Whole);
    assert_eq!(world.current(), first);
    world.now = 720 * HOUR;
    world.pass(Pass::Whole);
    assert_eq!(world.current(), second);
    let third = world.kid(State::Next).unwrap();
    assert!(![&first, &second].contains(&&third));
    // 48 hours were asked for; a trusted device lives for 30 days.
    world.now += 720 * HOUR + 29;
    world.auth.jwt.rotate_every = crate::api::ApiDuration::from_secs(2000 * 3600);
    world.pass(Pass::Whole);
    assert!(world.verifies(&first));
    world.now += 1;
    assert!(!world.verifies(&first));
    let turn = world.pass(Pass::Whole);
    assert_eq!(turn.notes[0].reason, "SigningKeyRetired");
    assert_eq!(world.stored, [second, third]);
    assert_eq!(world.keys.len(), 2);
}

#[test]
fn a_trigger_rotates_once_and_waits_until_the_next_key_is_known() {
    let mut world = World::new();
    let first = world.current();
    world.auth.jwt.trigger = Some("a".into());
    let turn = world.pass(Pass::Whole);
    assert_eq!(world.current(), first);
    assert_eq!(turn.next_rotation, at(330));
    world.now = 330;
    world.pass(Pass::Recorded);
    let second = world.current();
    assert_ne!(second, first);
    for _ in 0..3 {
        world.now += HOUR;
        world.pass(Pass::Whole);
        assert_eq!(world.current(), second, "it rotated twice for one trigger");
    }
    world.auth.jwt.trigger = None;
    world.pass(Pass::Whole);
    world.auth.jwt.trigger = Some("a".into());
    world.pass(Pass::Whole);
    assert_eq!(world.current(), second);
}

#[test]
fn j19_a_revoked_key_is_gone_at_once_and_the_next_one_signs() {
    let mut world = World::new();
    let (first, second) = (world.current(), world.kid(State::Next).unwrap());
    world.auth.jwt.revoked = vec![first.clone()];
    assert!(!world.verifies(&first));
    let turn = world.pass(Pass::Recorded);
    assert_eq!(turn.notes[0].reason, "SigningKeyRevoked");
    assert_eq!(world.current(), second);
    // It does not come back, whatever the list says.
    world.auth.jwt.revoked.clear();
    assert!(!world.verifies(&first));
    world.pass(Pass::Whole);
    assert!(!world.stored.contains(&first));
    assert_eq!(world.keys.len(), 2);
    // All of them at once.
    world.auth.jwt.revoked = world.stored.clone();
    world.pass(Pass::Whole);
    assert_eq!(world.stored.len(), 2);
    let revoked = &world.auth.jwt.revoked;
    assert!(world.stored.iter().all(|kid| !revoked.contains(kid)));
}

#[test]
fn a_key_that_is_lost_is_noticed_unless_it_is_given_up() {
    let mut world = World::new();
    let first = world.current();
    world.stored.retain(|kid| *kid != first);
    assert_eq!(world.situation().lost(), Some(&*first));
    world.auth.jwt.revoked = vec![first.clone()];
    assert_eq!(world.situation().lost(), None);
    world.pass(Pass::Whole);
    assert_ne!(world.current(), first);
    assert_eq!(world.stored.len(), 2);
}

#[test]
fn there_are_never_more_keys_than_may_be() {
    let mut world = World::new();
    world.auth.jwt.rotate_every = crate::api::ApiDuration::from_secs(24 * 3600);
    for _ in 0..4000 {
        world.now += HOUR;
        world.pass(Pass::Whole);
        assert!(world.stored.len() <= MAX_KEYS, "{}", world.stored.len());
        let turn = world.pass(Pass::Whole);
        assert!(turn.next_rotation > at(world.now), "it does not wait");
    }
    assert_eq!(world.stored.len(), MAX_KEYS);
}

#[derive(Clone, Debug)]
enum Event {
    Pass(Pass),
    Wait(i64),
    Trigger(u8),
    RevokeCurrent,
    Unrevoke,
    /// Somebody who may write the Secret stores a key of his own.
    Intrude,
}

fn event() -> impl Strategy<Value = Event> {
    use Event::{Intrude, RevokeCurrent, Trigger, Unrevoke, Wait};
    let passes = [Pass::Whole, Pass::Nothing, Pass::Recorded, Pass::Stored];
    prop_oneof![
        6 => prop::sample::select(passes.to_vec()).prop_map(Event::Pass),
        3 => (1..800 * HOUR).prop_map(Wait),
        2 => (0..600_i64).prop_map(Wait),
        2 => any::<u8>().prop_map(Trigger),
        1 => Just(RevokeCurrent),
        1 => Just(Unrevoke),
        1 => Just(Intrude),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_tokens_are_verified_as_long_as_they_live_and_no_longer(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new();
        // Which key signed last when, and what was revoked.
        let mut signed = std::collections::BTreeMap::new();
        let mut gone = std::collections::BTreeSet::new();
        for event in events {
            match event {
                Event::Pass(pass) => drop(world.pass(pass)),
                Event::Wait(seconds) => world.now += seconds,
                Event::Trigger(value) => world.auth.jwt.trigger = Some(value.to_string()),
                Event::RevokeCurrent => {
                    let kid = world.kid(State::Current);
                    world.auth.jwt.revoked.extend(kid.clone());
                    gone.extend(kid);
                    world.auth.jwt.revoked.truncate(16);
                }
                Event::Unrevoke => {
                    world.pass(Pass::Recorded);
                    world.auth.jwt.revoked.clear();
                }
                Event::Intrude => world.stored.push(format!("intruder {}", world.now)),
            }
            let signs = world.kid(State::Current).filter(|kid| world.verifies(kid));
            if let Some(kid) = signs {
                signed.insert(kid, world.now);
            }
            for (kid, last) in &signed {
                let alive = world.now < last + 720 * HOUR;
                let dead = world.auth.jwt.revoked.contains(kid) || gone.contains(kid);
                prop_assert!(!alive || dead || world.verifies(kid), "a live token of {kid}");
                prop_assert!(!gone.contains(kid) || !world.verifies(kid), "revoked {kid}");
            }
            let mut intruders = world.stored.iter().filter(|kid| kid.starts_with("intruder"));
            prop_assert!(!intruders.any(|kid| world.verifies(kid)));
            let current = world.keys.iter().filter(|key| key.state == State::Current);
            prop_assert!(current.count() <= 1);
            prop_assert_eq!(world.situation().lost(), None);
        }
        world.pass(Pass::Whole);
        world.pass(Pass::Whole);
        let states = |state| world.keys.iter().filter(|key| key.state == state).count();
        prop_assert_eq!((states(State::Current), states(State::Next)), (1, 1));
        prop_assert_eq!(world.pass(Pass::Nothing).store, None);
    }
}

//! Accounts and keys, as decisions need them: until when each lives, and when it was used.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use subtle::Choice;
use uuid::Uuid;

use super::{
    api_key::{Pepper, Verifier},
    bcrypt::Slow,
    network::Network,
    roster::Member,
};

/// The kind of accounts, in what shows their ids.
pub const KIND_ACCOUNT: &str = "ZenServiceAccount";
/// The kind of keys, in what shows their ids.
pub const KIND_KEY: &str = "ZenAPIKey";

/// A service account.
#[derive(Debug)]
pub struct Account {
    /// The id of its object. No other object ever has it.
    pub uid: Uuid,
    /// Its id on the wire.
    pub id: Uuid,
    /// The id of the account that it says it continues, and what shows it.
    pub claim: Option<(Uuid, Verifier)>,
    /// Name of its object, which keys refer to.
    pub object: String,
    /// Its name in ZenML.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it may log in.
    pub active: bool,
    /// Whether it may manage accounts and keys.
    pub admin: bool,
    /// When it may log in.
    pub window: Window,
    /// When it was made.
    pub created: Timestamp,
    /// When its use was last written down.
    pub last_recorded: Option<Timestamp>,
    /// When it was last used. Kept when the rest is replaced.
    pub seen: Seen,
}

impl Account {
    /// An account that nobody used yet, with the id of its object.
    pub fn new(id: Uuid, object: String, name: String, created: Timestamp) -> Self {
        Self {
            uid: id,
            id,
            claim: None,
            object,
            name,
            description: String::new(),
            active: true,
            admin: false,
            window: Window::default(),
            created,
            last_recorded: None,
            seen: Seen::default(),
        }
    }

    /// Gives it the id that it claims, if it does so by right.
    pub fn prove(&mut self, pepper: &Pepper) {
        if let Some((id, shown)) = &self.claim
            && pepper
                .identity(KIND_ACCOUNT, self.uid, *id)
                .matches(shown)
                .into()
        {
            self.id = *id;
        }
    }

    /// Whether it may log in now.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.active && self.window.contains(now)
    }
}

impl Member for Account {
    fn uid(&self) -> Uuid {
        self.uid
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn created(&self) -> Timestamp {
        self.created
    }

    fn learn(&self, old: &Self) {
        self.seen.learn(&old.seen);
    }
}

/// An API key: all its generations.
#[derive(Debug)]
pub struct Key {
    /// The id of its object. No other object ever has it.
    pub uid: Uuid,
    /// Its id on the wire, which is in the key's text.
    pub id: Uuid,
    /// What shows that it has that id, where it needs to be shown.
    pub proof: Option<Verifier>,
    /// Name of its object.
    pub object: String,
    /// Its name in ZenML.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Name of the account's object.
    pub account_object: String,
    /// The account that it was made for.
    pub account: Uuid,
    /// Whether it may log in.
    pub active: bool,
    /// When it may log in.
    pub window: Window,
    /// How long each generation lives. `None`: as the server's policy says.
    pub ttl: Option<SignedDuration>,
    /// The server's policy. Put here by the directory.
    pub policy: Lifetimes,
    /// The keys that are accepted.
    pub generations: Vec<Generation>,
    /// When it was made.
    pub created: Timestamp,
    /// When the current generation was made.
    pub last_rotated: Option<Timestamp>,
    /// When its use was last written down.
    pub last_recorded: Option<Timestamp>,
}

impl Key {
    /// Whether it has its id by right.
    pub fn is_proven(&self, pepper: &Pepper) -> bool {
        let proof = |proof| pepper.identity(KIND_KEY, self.uid, self.id).matches(proof);
        self.proof.as_ref().is_none_or(|shown| proof(shown).into())
    }

    /// When a generation of it dies, if it does: of all ends the first.
    pub fn end(&self, generation: &Generation) -> Option<Timestamp> {
        let ends = [
            self.window.until,
            generation.valid_until,
            self.lifetime_end(generation),
        ];
        ends.into_iter().flatten().min()
    }

    /// Whether the key, or a token of it, may be used now: what the key itself says.
    pub fn is_active(&self, now: Timestamp) -> bool {
        let lives = |g: &Generation| self.end(g).is_none_or(|end| now < end);
        self.active && self.window.contains(now) && self.generations.iter().any(lives)
    }

    /// Whether what is now said of this key ends it, which was usable until then: not its time, which
    /// was known, nor its rotation.
    pub fn is_ended_by(&self, said: &Self, now: Timestamp) -> bool {
        let lives = |g: &Generation| said.end(g).is_none_or(|end| now < end);
        let stays = said.active && said.window.contains(now) && self.generations.iter().any(lives);
        self.is_active(now) && !stays
    }

    /// When it was last used, as far as this process knows.
    pub fn last_used(&self) -> Option<Timestamp> {
        let used = |g: &Generation| g.recorded.max(g.seen.at());
        let of_generations = self.generations.iter().filter_map(used).max();
        self.last_recorded.max(of_generations)
    }

    /// When the server's policy or `ttl` ends a generation. Where it was not written down when
    /// that was made, the making of the key counts, which was earlier.
    fn lifetime_end(&self, generation: &Generation) -> Option<Timestamp> {
        let unset = self.ttl.is_none() && self.window.until.is_none();
        let own = self.ttl.or(self.policy.default.filter(|_| unset));
        let shortest = own.into_iter().chain(self.policy.max).min()?;
        let made = generation.created.unwrap_or(self.created);
        Some(made.saturating_add(shortest).unwrap_or(Timestamp::MAX))
    }

    /// Of several that claim one id, who came first has it.
    pub(super) fn seniority(&self) -> (Timestamp, Uuid) {
        (self.created, self.uid)
    }
}

/// One generation of a key.
#[derive(Debug)]
pub struct Generation {
    /// Counts from 1.
    pub number: i64,
    /// What stands for it.
    pub verifier: Verifier,
    /// What is known of the key, if that is no more than a slow hash; the verifier is then of that.
    pub slow: Option<Box<Slow>>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// From when on it is refused, whatever its lifetime.
    pub valid_until: Option<Timestamp>,
    /// When its use was last written down.
    pub recorded: Option<Timestamp>,
    /// From where that use was.
    pub recorded_from: Option<Network>,
    /// When it was last used. Kept when the rest is replaced.
    pub seen: Seen,
}

impl Generation {
    /// Whether a key is of this generation. One of which a slow hash is known fits once it was proven.
    pub(super) fn fits(&self, claimed: &Verifier) -> Choice {
        match &self.slow {
            None => self.verifier.matches(claimed),
            Some(slow) => slow.matches(claimed),
        }
    }

    /// What another copy of the same generation knows, this one knows too.
    pub(super) fn learn(&self, other: &Self) {
        self.seen.learn(&other.seen);
        if let (Some(slow), Some(other)) = (&self.slow, &other.slow) {
            slow.learn(other);
        }
    }

    /// Whether it was not replaced, or not for so long that it is refused.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|end| now < end)
    }
}

/// How long a generation lives by the server's policy. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a key that says nothing itself.
    pub default: Option<SignedDuration>,
    /// At the most, whatever the key says.
    pub max: Option<SignedDuration>,
}

/// A span of time, open where nothing is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

impl Window {
    /// Whether a moment is in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

/// When something was last used, and from where: four times the microseconds since 1970 UTC, and
/// the code of the network, so that both change at once. 0 for never.
#[derive(Debug, Default)]
pub struct Seen(AtomicI64);

impl Seen {
    /// When it was last used, as far as this process saw.
    pub fn at(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            seen => Timestamp::from_microsecond(seen >> 2).ok(),
        }
    }

    /// From where it was last used, if that is known.
    pub fn from(&self) -> Option<Network> {
        Network::of_code(self.0.load(Ordering::Relaxed) & 0b11)
    }

    /// It is used at this moment.
    pub(crate) fn mark(&self, now: Timestamp, from: Option<Network>) {
        let seen = (now.as_microsecond() << 2) | from.map_or(0, Network::code);
        self.0.fetch_max(seen, Ordering::Relaxed);
    }

    /// What another copy of the same thing knows, this one knows too.
    pub(super) fn learn(&self, other: &Self) {
        self.0
            .fetch_max(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000 + hours)
    }

    fn hours(hours: i64) -> Option<SignedDuration> {
        Some(SignedDuration::from_hours(hours))
    }

    fn key() -> Key {
        Key {
            uid: Uuid::nil(),
            id: Uuid::nil(),
            proof: None,
            object: String::new(),
            name: String::new(),
            description: String::new(),
            account_object: String::new(),
            account: Uuid::nil(),
            active: true,
            window: Window::default(),
            ttl: None,
            policy: Lifetimes::default(),
            generations: vec![Generation {
                number: 1,
                verifier: "00".repeat(32).parse().unwrap(),
                slow: None,
                created: Some(at(0)),
                valid_until: None,
                recorded: None,
                recorded_from: None,
                seen: Seen::default(),
            }],
            created: at(-5),
            last_rotated: None,
            last_recorded: None,
        }
    }

    #[test]
    fn the_first_of_all_ends_counts() {
        let end = |change: fn(&mut Key), default, max| {
            let mut key = key();
            change(&mut key);
            key.policy = Lifetimes { default, max };
            key.end(&key.generations[0])
        };
        let cases: [(fn(&mut Key), _, _, _); 10] = [
            (|_| (), None, None, None),
            (|_| (), hours(2), None, Some(at(2))),
            (|k| k.ttl = hours(9), hours(2), None, Some(at(9))),
            (
                |k| k.window.until = Some(at(9)),
                hours(2),
                None,
                Some(at(9)),
            ),
            (|k| k.ttl = hours(9), hours(2), hours(3), Some(at(3))),
            (
                |k| k.window.until = Some(at(9)),
                None,
                hours(3),
                Some(at(3)),
            ),
            (|k| k.ttl = hours(1), None, hours(3), Some(at(1))),
            (
                |k| k.window.until = Some(at(1)),
                None,
                hours(3),
                Some(at(1)),
            ),
            (
                |k| k.generations[0].valid_until = Some(at(1)),
                hours(2),
                hours(3),
                Some(at(1)),
            ),
            (
                |k| k.generations[0].created = None,
                hours(2),
                None,
                Some(at(-3)),
            ),
        ];
        for (n, (change, default, max, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(end(change, default, max), wanted, "case {n}");
        }
    }

    #[test]
    fn a_key_is_ended_by_what_is_said_of_it_and_not_by_time_or_rotation() {
        type Change = fn(&mut Key);
        let changes: [(Change, bool); 8] = [
            (|_| (), false),
            (|k| k.active = false, true),
            (|k| k.window.until = Some(at(2)), true),
            (|k| k.window.until = Some(at(4)), false),
            (|k| k.window.from = Some(at(4)), true),
            (|k| k.ttl = hours(1), true),
            (|k| k.generations.clear(), false),
            (|k| k.generations[0].valid_until = Some(at(2)), false),
        ];
        for (n, (change, ends)) in changes.into_iter().enumerate() {
            let mut said = key();
            change(&mut said);
            assert_eq!(key().is_ended_by(&said, at(3)), ends, "change {n}");
            // What could not be used before is not ended again.
            let mut over = key();
            over.window.until = Some(at(1));
            assert!(!over.is_ended_by(&said, at(3)), "change {n}");
        }
    }

    #[test]
    fn what_was_seen_last_tells_when_and_from_where() {
        let seen = Seen::default();
        assert_eq!((seen.at(), seen.from()), (None, None));
        seen.mark(at(2), Some(Network::Public));
        seen.mark(at(1), Some(Network::Private));
        assert_eq!(
            (seen.at(), seen.from()),
            (Some(at(2)), Some(Network::Public))
        );
        seen.mark(at(3), None);
        let copy = Seen::default();
        copy.learn(&seen);
        assert_eq!((copy.at(), copy.from()), (Some(at(3)), None));
        copy.mark(Timestamp::MAX, Some(Network::Loopback));
        assert_eq!(copy.from(), Some(Network::Loopback));
    }

    #[test]
    fn a_window_has_its_first_moment_and_not_its_last() {
        let window = Window {
            from: Some(at(0)),
            until: Some(at(2)),
        };
        let inside = [-1, 0, 1, 2, 3].map(|h| window.contains(at(h)));
        assert_eq!(inside, [false, true, true, false, false]);
        assert!(Window::default().contains(at(0)));
    }
}

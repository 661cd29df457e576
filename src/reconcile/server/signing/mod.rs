//! When a key that signs tokens is made, signs, verifies only, and goes.
//!
//! ```text
//! (written down) ─▶ Next ─▶ Current ─▶ Previous ─▶ Retired ─▶ (gone)
//! ```
//!
//! - A key is written down before it is stored; one that was not stored is forgotten.
//! - `Next` becomes `Current` when a rotation is due, and it was published for so long that
//!   everybody knows it who may meet a token of it. Without a `Current`, which was revoked, at once.
//! - `Previous` lasts until no token of it can be alive.
//! - What is `Retired` never comes back. It is written down first, then deleted.
//!
//! So a key that is lost is noticed, and none is deleted by who looked at an old state.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{Auth, SigningKeyState as State, SigningKeyStatus, whole_seconds},
    auth::token::LONGEST_API_TOKEN,
    reconcile::plan::Note,
};

/// How many keys there are at the most. A rotation that would make more waits until the oldest is
/// gone.
const MAX_KEYS: usize = 16;

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// What status says.
    pub recorded: &'a [SigningKeyStatus],
    /// The names of the keys in the auth Secret.
    pub stored: &'a [String],
    /// What the spec says.
    pub auth: &'a Auth,
    /// The trigger that was handled last.
    pub handled: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    /// What is written down before the Secret is changed.
    pub record: Vec<SigningKeyStatus>,
    /// What is written down once that is done.
    pub keys: Vec<SigningKeyStatus>,
    /// The keys that the Secret is to hold, if it is to be changed.
    pub store: Option<Vec<String>>,
    /// The trigger that is handled then.
    pub handled: Option<String>,
    /// When the next key is to sign.
    pub next_rotation: Timestamp,
    /// When to look again.
    pub deadline: Timestamp,
    /// What is told.
    pub notes: Vec<Note>,
}

impl<'a> Situation<'a> {
    /// A key that should be in the Secret, and is not.
    pub(super) fn lost(&self) -> Option<&'a str> {
        let lost = |key: &&SigningKeyStatus| {
            key.published_time.is_some() && !self.is_over(key) && !self.is_stored(&key.kid)
        };
        self.recorded.iter().find(lost).map(|key| &*key.kid)
    }

    /// What is to be done. `draw` makes a key and says its name.
    pub(super) fn turn(&self, draw: &mut impl FnMut() -> String) -> Turn {
        let mut notes = Vec::new();
        let mut keys = self.judged(&mut notes);
        let has_current = find(&mut keys, State::Current).is_some();
        let is_due = has_current && self.next_rotation(&keys) <= self.now;
        match has_current {
            true if is_due => self.rotate(&mut keys, &mut notes),
            true => {}
            false => self.replace(&mut keys, draw),
        }
        let trigger = self.auth.jwt.trigger.as_deref();
        let handles = is_due || !has_current;
        let handled = trigger.filter(|_| handles).or(self.handled);
        if find(&mut keys, State::Next).is_none() {
            keys.push(made(draw(), State::Next));
        }
        let store = self.wanted(&keys);
        let mut after = keys.clone();
        after.retain(|key| key.state != State::Retired);
        for key in &mut after {
            let now = || whole_seconds(self.now);
            key.published_time.get_or_insert_with(now);
        }
        let next_rotation = Situation { handled, ..*self }.next_rotation(&after);
        let ends = after
            .iter()
            .filter_map(|key| Some(key.valid_until.as_ref()?.0));
        Turn {
            deadline: ends
                .min()
                .map_or(next_rotation, |end| end.min(next_rotation)),
            record: keys,
            keys: after,
            store,
            handled: handled.map(str::to_owned),
            next_rotation,
            notes,
        }
    }

    /// The keys as they are now: what is over is retired, what was stored is confirmed, what never
    /// was and what is deleted is forgotten.
    fn judged(&self, notes: &mut Vec<Note>) -> Vec<SigningKeyStatus> {
        let judge = |key: &SigningKeyStatus| {
            let (mut key, stored) = (key.clone(), self.is_stored(&key.kid));
            let is_news = key.state != State::Retired && self.is_over(&key);
            if is_news {
                notes.push(retired(&key, self.is_revoked(&key.kid)));
                key.state = State::Retired;
            }
            if stored && key.state != State::Retired {
                key.published_time.get_or_insert(whole_seconds(self.now));
            }
            // Written down as retired once, so that it stays so whatever the spec says next.
            (stored || is_news).then_some(key)
        };
        self.recorded.iter().filter_map(judge).collect()
    }

    /// Somebody must sign: who is next, or a key that nobody knows yet.
    fn replace(&self, keys: &mut Vec<SigningKeyStatus>, draw: &mut impl FnMut() -> String) {
        if find(keys, State::Next).is_none() {
            keys.push(made(draw(), State::Next));
        }
        self.promote(keys);
    }

    fn rotate(&self, keys: &mut [SigningKeyStatus], notes: &mut Vec<Note>) {
        let until = whole_seconds(later(self.now, self.overlap()));
        if let Some(current) = find(keys, State::Current) {
            current.state = State::Previous;
            current.valid_until = Some(until.clone());
        }
        self.promote(keys);
        if let Some(current) = find(keys, State::Current) {
            notes.push(rotated(&current.kid, until.0));
        }
    }

    fn promote(&self, keys: &mut [SigningKeyStatus]) {
        if let Some(next) = find(keys, State::Next) {
            next.state = State::Current;
            next.signs_since = Some(whole_seconds(self.now));
        }
    }

    /// When the next key may and should sign.
    fn next_rotation(&self, keys: &[SigningKeyStatus]) -> Timestamp {
        let of = |state| keys.iter().find(move |key| key.state == state);
        let at = |time: &Option<Time>| time.as_ref().map_or(self.now, |at| at.0);
        let jwt = &self.auth.jwt;
        let asked = jwt.trigger.is_some() && jwt.trigger.as_deref() != self.handled;
        let due = match of(State::Current).filter(|_| !asked) {
            Some(current) => later(at(&current.signs_since), jwt.rotate_every.0),
            None => self.now,
        };
        let published = of(State::Next).map_or(self.now, |next| at(&next.published_time));
        let known = later(published, self.lead());
        let alive = keys.iter().filter(|key| key.state != State::Retired);
        let ends = keys
            .iter()
            .filter_map(|key| Some(key.valid_until.as_ref()?.0));
        let room = ends.min().filter(|_| alive.count() >= MAX_KEYS);
        due.max(known).max(room.unwrap_or(due))
    }

    /// How long a key must be known before it signs: to those who keep the JWKS, and to replicas
    /// whose view is as old as it may be.
    fn lead(&self) -> Duration {
        self.auth.jwt.jwks_max_age.0 + self.auth.max_staleness.0
    }

    /// How long a key verifies after it signed last, for which a replica may not know of the
    /// rotation yet.
    fn overlap(&self) -> Duration {
        let auth = self.auth;
        let lives = [
            auth.jwt.overlap.0,
            auth.token_ttl.0,
            auth.device.trusted_ttl.0,
            LONGEST_API_TOKEN,
        ];
        lives.into_iter().max().unwrap_or_default() + auth.max_staleness.0
    }

    /// What the Secret is to hold, if that is not what it holds. Whoever adds a key wrote status
    /// first, and so knows all keys that count; whoever does not only takes away what is over.
    fn wanted(&self, keys: &[SigningKeyStatus]) -> Option<Vec<String>> {
        let state = |kid: &str| keys.iter().find(|key| key.kid == kid).map(|key| key.state);
        let wanted = keys.iter().filter(|key| key.state != State::Retired);
        if wanted.clone().any(|key| !self.is_stored(&key.kid)) {
            return Some(wanted.map(|key| key.kid.clone()).collect());
        }
        let drops = |kid: &&String| state(kid) == Some(State::Retired);
        let kept = self.stored.iter().filter(|kid| !drops(kid)).cloned();
        let changes = self.stored.iter().any(|kid| drops(&kid));
        changes.then(|| kept.collect())
    }

    /// Whether a key is not to verify any more.
    fn is_over(&self, key: &SigningKeyStatus) -> bool {
        let until = key.valid_until.as_ref().map(|at| at.0);
        key.state == State::Retired
            || self.is_revoked(&key.kid)
            || until.is_some_and(|until| until <= self.now)
    }

    fn is_revoked(&self, kid: &str) -> bool {
        self.auth.jwt.revoked.iter().any(|revoked| revoked == kid)
    }

    fn is_stored(&self, kid: &str) -> bool {
        self.stored.iter().any(|stored| stored == kid)
    }
}

fn find(keys: &mut [SigningKeyStatus], state: State) -> Option<&mut SigningKeyStatus> {
    keys.iter_mut().find(|key| key.state == state)
}

fn made(kid: String, state: State) -> SigningKeyStatus {
    SigningKeyStatus {
        kid,
        state,
        published_time: None,
        signs_since: None,
        valid_until: None,
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn rotated(kid: &str, until: Timestamp) -> Note {
    let message =
        format!("tokens are signed with key {kid} now; the old one verifies until {until}");
    Note {
        warning: false,
        reason: "SigningKeyRotated",
        action: "Rotate",
        message,
    }
}

fn retired(key: &SigningKeyStatus, revoked: bool) -> Note {
    let kid = &key.kid;
    let (reason, message) = match revoked {
        true => (
            "SigningKeyRevoked",
            format!("key {kid} is revoked, and all tokens of it with it; it is deleted"),
        ),
        false => (
            "SigningKeyRetired",
            format!("no token of key {kid} can be alive; it is deleted"),
        ),
    };
    Note {
        warning: revoked,
        reason,
        action: "Retire",
        message,
    }
}

#[cfg(test)]
mod tests;

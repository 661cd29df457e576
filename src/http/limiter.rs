//! Who failed how often, in tables of fixed size.
//!
//! An attempt is counted before it is looked at, for what it claims to be and for the address that
//! it comes from, so that a thousand at once are a thousand. A success forgets all failures of
//! what it proved to be; of the address it takes back its own, as else one good account would
//! buy any number of guesses at others.
//!
//! Names and addresses are hashed to places, by a key that only this process has. Two may share a
//! place, and then a budget: with 65,536 of them an attacker must fill thousands before a stranger
//! is likely to notice. Nothing is ever pushed out, and nothing grows.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::auth::{
    address::block,
    limit::{Exceeded, Rates, Tally},
};

/// Shards of a table, and places of each.
const SHARDS: usize = 256;
const PLACES: usize = 256;

/// What an attempt claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim<'a> {
    /// An API key.
    Key(Uuid),
    /// A user, by whatever it was named.
    User(Uuid),
    /// A user of a name that nobody has. It counts like one who is there, so that a limit does not
    /// tell who is.
    Stranger(&'a str),
}

/// The failures of everybody.
pub(super) struct Limiter {
    claims: Table,
    addresses: Table,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            claims: Table::new(),
            addresses: Table::new(),
        }
    }

    /// Begins an attempt: it counts as a failure from now on.
    ///
    /// # Errors
    /// If it is not to be looked at. It then does not count.
    pub(super) fn begin(&self, attempt: &Attempt<'_>) -> Result<(), Exceeded> {
        let Attempt { rates, at, .. } = *attempt;
        let count = |tally: &mut Tally| {
            let over = tally.check(rates, at).err();
            if over.is_none() {
                tally.fail(rates, at);
            }
            over
        };
        let address = attempt.address.map(block);
        if let Some(over) = address.and_then(|a| self.addresses.with(a, count)) {
            return Err(over);
        }
        let claim = attempt.claim;
        if let Some(over) = claim.and_then(|c| self.claims.with(c, count)) {
            self.free_address(attempt);
            return Err(over);
        }
        Ok(())
    }

    /// Forgets the failures of what proved to be who it claims.
    pub(super) fn forget(&self, claim: Claim<'_>) {
        self.claims.clear(claim);
    }

    /// An attempt that was begun succeeded.
    pub(super) fn succeeded(&self, attempt: &Attempt<'_>) {
        attempt.claim.into_iter().for_each(|c| self.forget(c));
        self.free_address(attempt);
    }

    /// An attempt that was begun was not one: nothing was tried.
    pub(super) fn withdraw(&self, attempt: &Attempt<'_>) {
        if let Some(claim) = attempt.claim {
            let free = |tally: &mut Tally| tally.take_back(attempt.rates, attempt.at);
            self.claims.with(claim, free);
        }
        self.free_address(attempt);
    }

    /// Takes back what the address was counted for an attempt that was none, or no failure.
    fn free_address(&self, attempt: &Attempt<'_>) {
        if let Some(address) = attempt.address {
            let free = |tally: &mut Tally| tally.take_back(attempt.rates, attempt.at);
            self.addresses.with(block(address), free);
        }
    }
}

/// An attempt at what may be guessed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// How often it may fail.
    pub(super) rates: Rates,
    /// What it claims to be, if that can be read.
    pub(super) claim: Option<Claim<'a>>,
    /// Where it comes from, if that is known.
    pub(super) address: Option<IpAddr>,
    /// When it began.
    pub(super) at: Timestamp,
}

/// Tallies by hash. A shard takes memory once something in it failed.
struct Table {
    hash: RandomState,
    shards: Box<[Mutex<Vec<Tally>>]>,
}

impl Table {
    fn new() -> Self {
        let empty = std::iter::repeat_with(Mutex::default);
        Self {
            hash: RandomState::new(),
            shards: empty.take(SHARDS).collect(),
        }
    }

    /// The shard of a hash, and the place in it.
    fn place(&self, of: impl Hash) -> (usize, usize) {
        let [shard, place, ..] = self.hash.hash_one(of).to_le_bytes();
        (shard.into(), place.into())
    }

    fn with<T: Default>(&self, of: impl Hash, act: impl FnOnce(&mut Tally) -> T) -> T {
        let (shard, place) = self.place(of);
        let Some(shard) = self.shards.get(shard) else {
            return T::default();
        };
        let mut tallies = shard.lock();
        if tallies.is_empty() {
            tallies.resize(PLACES, Tally::default());
        }
        tallies.get_mut(place).map(act).unwrap_or_default()
    }

    /// Takes no memory, as [`Table::with`] would.
    fn clear(&self, of: impl Hash) {
        let (shard, place) = self.place(of);
        let Some(shard) = self.shards.get(shard) else {
            return;
        };
        if let Some(tally) = shard.lock().get_mut(place) {
            tally.clear();
        }
    }
}

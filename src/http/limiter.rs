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
//!
//! What strangers want is counted beside that: device starts, whether anything comes of them or
//! not, and wrong passwords. No address may have more than a tenth of what all may have together;
//! and once all had that, every stranger waits. Who has something to show does not: no token, no
//! right key and no code of a device that waits is ever refused for what others do.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use thiserror::Error;
use uuid::Uuid;

use crate::auth::{
    address::block,
    limit::{Exceeded, Rates, Tally},
};

/// Shards of a table, and places of each.
const SHARDS: usize = 256;
const PLACES: usize = 256;
/// An address may have this part of what all strangers may have together.
const PART: u16 = 10;
/// How many keys and users are counted that have something to show. Each takes about 200 bytes.
const AUTHORIZED: u64 = 50_000;
/// No period is longer.
const DAY: Duration = Duration::from_hours(24);

/// Why something is not looked at now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Limited {
    /// Its claim or its address had too many.
    #[error(transparent)]
    Own(Exceeded),
    /// All strangers together had.
    #[error(transparent)]
    All(Exceeded),
}

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
    strangers: Table,
    starts: Mutex<Tally>,
    passwords: Mutex<Tally>,
    authorized: Cache<Uuid, Arc<Mutex<Tally>>>,
    /// How many times as often an address may fail.
    more: u16,
}

impl Limiter {
    /// Of which an address may fail so many times as often as what is claimed.
    pub(super) fn new(more: u16) -> Self {
        Self {
            claims: Table::new(),
            addresses: Table::new(),
            strangers: Table::new(),
            starts: Mutex::default(),
            passwords: Mutex::default(),
            authorized: Cache::builder()
                .max_capacity(AUTHORIZED)
                .time_to_idle(DAY)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            more,
        }
    }

    /// A request of who proved to be somebody counts for its key, or its user. Exactly: those are
    /// as many as were made, and no stranger can fill them.
    ///
    /// # Errors
    /// If it had too many.
    pub(super) fn authorized(&self, id: Uuid, rates: Rates, at: Timestamp) -> Result<(), Exceeded> {
        let tally = self.authorized.get_with(id, Arc::default);
        tally.lock().admit(rates, at)
    }

    /// A device asks to be authorized; `rates` are of all that ask.
    ///
    /// # Errors
    /// If it is not to be answered.
    pub(super) fn start(
        &self,
        rates: Option<Rates>,
        address: Option<IpAddr>,
        at: Timestamp,
    ) -> Result<(), Limited> {
        self.vain(rates, address, at).map_err(Limited::Own)?;
        let all = rates.map(|rates| self.starts.lock().admit(rates, at));
        all.unwrap_or(Ok(())).map_err(Limited::All)
    }

    /// Something came that nobody can guess and that was wrong, or came too soon. It counts for its
    /// address alone, as else it would fill what others need; `rates` are of all strangers.
    ///
    /// # Errors
    /// If the address had too many.
    pub(super) fn vain(
        &self,
        rates: Option<Rates>,
        address: Option<IpAddr>,
        at: Timestamp,
    ) -> Result<(), Exceeded> {
        let (Some(rates), Some(address)) = (rates, address) else {
            return Ok(());
        };
        let part = rates.shared_by(PART);
        let over = |tally: &mut Tally| tally.admit(part, at).err();
        self.strangers
            .with(block(address), over)
            .map_or(Ok(()), Err)
    }

    /// Begins an attempt: it counts as a failure from now on.
    ///
    /// # Errors
    /// If it is not to be looked at. It then does not count.
    pub(super) fn begin(&self, attempt: &Attempt<'_>) -> Result<(), Limited> {
        let Attempt { rates, at, .. } = *attempt;
        let count = |tally: &mut Tally, rates: Rates| tally.admit(rates, at).err();
        let address = attempt.address.map(block);
        let of_address = |tally: &mut Tally| count(tally, rates.times(self.more));
        if let Some(over) = address.and_then(|a| self.addresses.with(a, of_address)) {
            return Err(Limited::Own(over));
        }
        let claim = attempt.claim;
        let of_claim = |tally: &mut Tally| count(tally, rates);
        if let Some(over) = claim.and_then(|c| self.claims.with(c, of_claim)) {
            self.free_address(attempt);
            return Err(Limited::Own(over));
        }
        if let Some(of_all) = attempt.of_all {
            let admitted = self.passwords.lock().admit(of_all, at);
            admitted.map_err(|over| {
                self.free_claim(attempt);
                self.free_address(attempt);
                Limited::All(over)
            })?;
        }
        Ok(())
    }

    /// Whether an address may be listened to now.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn check(&self, rates: Rates, from: IpAddr, at: Timestamp) -> Result<(), Exceeded> {
        self.addresses.look(block(from)).check(rates, at)
    }

    /// Forgets the failures of what proved to be who it claims.
    pub(super) fn forget(&self, claim: Claim<'_>) {
        self.claims.clear(claim);
    }

    /// An attempt that was begun succeeded.
    pub(super) fn succeeded(&self, attempt: &Attempt<'_>) {
        attempt.claim.into_iter().for_each(|c| self.forget(c));
        self.free_address(attempt);
        self.free_all(attempt);
    }

    /// An attempt that was begun was not one: nothing was tried.
    pub(super) fn withdraw(&self, attempt: &Attempt<'_>) {
        self.free_claim(attempt);
        self.free_address(attempt);
        self.free_all(attempt);
    }

    fn free_claim(&self, attempt: &Attempt<'_>) {
        if let Some(claim) = attempt.claim {
            let free = |tally: &mut Tally| tally.take_back(attempt.rates, attempt.at);
            self.claims.with(claim, free);
        }
    }

    fn free_all(&self, attempt: &Attempt<'_>) {
        if let Some(of_all) = attempt.of_all {
            self.passwords.lock().take_back(of_all, attempt.at);
        }
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
    /// How often all together may, if it can be guessed.
    pub(super) of_all: Option<Rates>,
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
    fn look(&self, of: impl Hash) -> Tally {
        let (shard, place) = self.place(of);
        let shard = self.shards.get(shard).map(Mutex::lock);
        let tally = shard.and_then(|shard| shard.get(place).copied());
        tally.unwrap_or_default()
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

//! The state of one server's identities, and what it allows at a given moment.
//!
//! Everything is looked up by id in constant time. What it holds is public to who may read the
//! custom resources: verifiers, never keys.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use subtle::{Choice, ConditionallySelectable};
use uuid::Uuid;

use super::{
    api_key::{ApiKey, Verifier},
    keyring::Keyring,
    principal::{Principal, Refused},
    token::Claims,
};

/// A service account.
#[derive(Debug)]
pub struct Account {
    /// Its id on the wire.
    pub id: Uuid,
    /// Name of its object, which keys refer to.
    pub object: String,
    /// Its name in ZenML.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it may log in.
    pub active: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its use was last written down.
    pub last_recorded: Option<Timestamp>,
    /// When it was last used, in microseconds since 1970 UTC; 0 for never. Kept when the rest is
    /// replaced.
    seen: AtomicI64,
}

impl Account {
    /// An account that nobody used yet.
    pub fn new(id: Uuid, object: String, name: String, created: Timestamp) -> Self {
        Self {
            id,
            object,
            name,
            description: String::new(),
            active: true,
            created,
            last_recorded: None,
            seen: AtomicI64::new(0),
        }
    }

    /// When it was last used, as far as this process saw.
    pub fn last_seen(&self) -> Option<Timestamp> {
        match self.seen.load(Ordering::Relaxed) {
            0 => None,
            at => Timestamp::from_microsecond(at).ok(),
        }
    }

    /// Who came first keeps a name.
    fn seniority(&self) -> (Timestamp, Uuid) {
        (self.created, self.id)
    }
}

/// An API key: all its generations.
#[derive(Debug)]
pub struct Key {
    /// Its id on the wire.
    pub id: Uuid,
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
    /// From when on it is refused.
    pub expires: Option<Timestamp>,
    /// The keys that are accepted.
    pub generations: Vec<Generation>,
    /// When it was made.
    pub created: Timestamp,
    /// When the current generation was made.
    pub last_rotated: Option<Timestamp>,
}

/// One generation of a key.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Counts from 1.
    pub number: i64,
    /// What stands for it.
    pub verifier: Verifier,
    /// From when on it is refused.
    pub valid_until: Option<Timestamp>,
}

impl Generation {
    fn is_valid(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|end| now < end)
    }
}

/// The accounts and keys of one server.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: HashMap<Uuid, Account>,
    keys: HashMap<Uuid, Key>,
    names: HashMap<String, BTreeSet<(Timestamp, Uuid)>>,
}

/// Reading.
impl Directory {
    /// The account that the holder of a key may act as.
    ///
    /// A key of an unknown id costs what a wrong key of a known one costs, and is answered alike;
    /// only who proved to hold the key learns that it is inactive.
    ///
    /// # Errors
    /// Why the key is refused.
    pub fn authenticate(
        &self,
        keyring: &Keyring,
        presented: &ApiKey,
        now: Timestamp,
    ) -> Result<Principal, Refused> {
        let key = self.keys.get(&presented.id);
        let account = key.map_or(Uuid::nil(), |k| k.account);
        let digest = presented.secret.digest();
        let claimed = keyring.pepper().verifier(account, presented.id, digest);
        let generations = key.map_or(&[][..], |k| &k.generations);
        let generation = matching(generations, &claimed, now).ok_or(Refused::BadKey)?;
        self.authorize(
            &Principal {
                account,
                key: presented.id,
                generation,
            },
            now,
        )
        .map_err(|refused| match refused {
            Refused::Revoked => Refused::BadKey,
            told => told,
        })
    }

    /// Whether what a token says still holds.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn check(&self, claims: &Claims, now: Timestamp) -> Result<Principal, Refused> {
        claims.check_time(now)?;
        self.authorize(&claims.principal, now)
    }

    fn authorize(&self, who: &Principal, now: Timestamp) -> Result<Principal, Refused> {
        let key = self.keys.get(&who.key).ok_or(Refused::Revoked)?;
        let account = self.account(who.account).ok_or(Refused::Revoked)?;
        let held = key.account == account.id && key.account_object == account.object;
        let current = key
            .generations
            .iter()
            .any(|g| g.number == who.generation && g.is_valid(now));
        if !held || !current {
            return Err(Refused::Revoked);
        }
        if !account.active {
            return Err(Refused::InactiveAccount {
                account: account.name.clone(),
            });
        }
        if !key.active || key.expires.is_some_and(|end| end <= now) {
            return Err(Refused::InactiveKey {
                key: key.name.clone(),
            });
        }
        account
            .seen
            .fetch_max(now.as_microsecond(), Ordering::Relaxed);
        Ok(*who)
    }

    /// An account by id. One whose name an older account holds does not exist.
    pub fn account(&self, id: Uuid) -> Option<&Account> {
        self.accounts
            .get(&id)
            .filter(|account| self.holds_name(account))
    }

    /// An account by its ZenML name.
    pub fn account_by_name(&self, name: &str) -> Option<&Account> {
        let (_, id) = self.names.get(name)?.first()?;
        self.accounts.get(id)
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts
            .values()
            .filter(|account| self.holds_name(account))
    }

    /// The keys of an account, in no order.
    pub fn keys_of(&self, account: &Account) -> impl Iterator<Item = &Key> {
        let (id, object) = (account.id, account.object.clone());
        self.keys
            .values()
            .filter(move |key| key.account == id && key.account_object == object)
    }

    fn holds_name(&self, account: &Account) -> bool {
        let first = self.names.get(&account.name).and_then(BTreeSet::first);
        first == Some(&account.seniority())
    }
}

/// Writing: what a watch saw.
impl Directory {
    /// Adds or replaces an account. When it was last seen is kept.
    pub fn put_account(&mut self, account: Account) {
        if let Some(old) = self.remove_account(account.id) {
            account
                .seen
                .store(old.seen.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.names
            .entry(account.name.clone())
            .or_default()
            .insert(account.seniority());
        self.accounts.insert(account.id, account);
    }

    /// Removes an account.
    pub fn remove_account(&mut self, id: Uuid) -> Option<Account> {
        let account = self.accounts.remove(&id)?;
        if let Some(claims) = self.names.get_mut(&account.name) {
            claims.remove(&account.seniority());
            if claims.is_empty() {
                self.names.remove(&account.name);
            }
        }
        Some(account)
    }

    /// Adds or replaces a key.
    pub fn put_key(&mut self, key: Key) {
        self.keys.insert(key.id, key);
    }

    /// Removes a key.
    pub fn remove_key(&mut self, id: Uuid) -> Option<Key> {
        self.keys.remove(&id)
    }

    /// Drops every account that is not among `ids`: what a new list does not show is gone.
    pub fn keep_accounts(&mut self, ids: &HashSet<Uuid>) {
        let gone: Vec<Uuid> = self
            .accounts
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        for id in gone {
            self.remove_account(id);
        }
    }

    /// Drops every key that is not among `ids`.
    pub fn keep_keys(&mut self, ids: &HashSet<Uuid>) {
        self.keys.retain(|id, _| ids.contains(id));
    }
}

/// The generation that a verifier is of. Every candidate is compared, whichever fits, so that
/// time tells nothing.
fn matching(generations: &[Generation], claimed: &Verifier, now: Timestamp) -> Option<i64> {
    let mut found = 0_i64;
    for generation in generations {
        let valid = Choice::from(u8::from(generation.is_valid(now)));
        let fits = generation.verifier.matches(claimed) & valid;
        found.conditional_assign(&generation.number, fits);
    }
    (found > 0).then_some(found)
}

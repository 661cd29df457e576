//! The state of one server's identities, and what it allows at a given moment.
//!
//! Everything is looked up by id in constant time. What it holds is public to who may read the
//! custom resources: verifiers, never keys.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use subtle::{Choice, ConditionallySelectable};
use uuid::Uuid;

pub use super::{
    identity::{Account, Generation, KIND_ACCOUNT, KIND_KEY, Key, Lifetimes, Seen, Window},
    user::{Origin, Stamp, User},
};

use super::{
    api_key::{ApiKey, Pepper, Print, Verifier},
    bcrypt::BcryptHash,
    credential::{self, Credential},
    devices::Devices,
    keyring::Keyring,
    network::Network,
    principal::{By, Principal, Refused},
    roster::Roster,
    scheme::{DEFAULT_USER, Scheme},
    shelf::Shelf,
    token::Claims,
};

/// The accounts, keys, users, devices and secrets of one server.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: Roster<Account>,
    users: Roster<User>,
    /// Passwords and activations, by user.
    credentials: HashMap<Uuid, Arc<Credential>>,
    /// By the id in the key's text, who came first in front.
    keys: HashMap<Uuid, Vec<Key>>,
    /// The id in the key's text, by the id of the object.
    key_ids: HashMap<Uuid, Uuid>,
    policy: Lifetimes,
    logins: Logins,
    pub(super) devices: Devices,
    pub(super) shelf: Shelf,
}

/// What lets people in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    /// Whether passwords do.
    pub passwords: bool,
    /// The provider whose word does, if there is one.
    pub issuer: Option<String>,
}

impl Default for Logins {
    fn default() -> Self {
        Self::of(&Scheme::default())
    }
}

impl Logins {
    /// What does by a scheme.
    pub fn of(scheme: &Scheme) -> Self {
        Self {
            passwords: scheme.takes_passwords(),
            issuer: scheme.provider().map(|provider| provider.issuer.clone()),
        }
    }
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
        from: Option<Network>,
    ) -> Result<Principal, Refused> {
        let account = self.key(presented.id).map_or(Uuid::nil(), |k| k.account);
        let found = self.fitting(keyring, presented, account, now);
        let generation = found.ok_or(Refused::BadKey)?;
        let by = By::Key {
            key: presented.id,
            generation: generation.number,
            print: generation.verifier.print(),
        };
        let principal = Principal { account, by };
        self.authorize(&principal, now, from)
            .map_err(|refused| match refused {
                Refused::Revoked => Refused::BadKey,
                told => told,
            })
    }

    /// Whether this is a generation of a key that is known and not replaced, whatever its window
    /// and its account say. Nobody is logged in by it.
    pub fn knows(&self, keyring: &Keyring, key: &ApiKey, now: Timestamp) -> Option<&Generation> {
        let account = self.key(key.id)?.account;
        self.fitting(keyring, key, account, now)
    }

    /// Whether what a token says still holds.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn check(
        &self,
        claims: &Claims,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<Principal, Refused> {
        claims.check_time(now)?;
        self.authorize(&claims.principal, now, from)
    }

    /// The slow hashes that this key may be of and was not held against yet: none, once it was proven,
    /// or another was. Only hashes that the operator took up count.
    pub fn unproven(
        &self,
        keyring: &Keyring,
        presented: &ApiKey,
        now: Timestamp,
    ) -> Vec<BcryptHash> {
        let Some(key) = self.key(presented.id) else {
            return Vec::new();
        };
        let slow = |g: &Generation| {
            let slow = g.slow.as_ref().filter(|slow| !slow.is_proven())?;
            let pepper = keyring.pepper();
            let ours = pepper.slow_verifier(key.account, key.id, &slow.hash);
            let counts = g.is_valid(now) && bool::from(g.verifier.matches(&ours));
            counts.then(|| slow.hash.clone())
        };
        let hashes: Vec<_> = key.generations.iter().filter_map(slow).collect();
        if hashes.is_empty() || self.knows(keyring, presented, now).is_some() {
            return Vec::new();
        }
        hashes
    }

    /// Remembers that a key is the one that a slow hash is of.
    pub fn recognise(&self, keyring: &Keyring, presented: &ApiKey, hash: &BcryptHash) {
        let Some(key) = self.key(presented.id) else {
            return;
        };
        let digest = presented.secret.digest();
        let verifier = keyring.pepper().verifier(key.account, key.id, digest);
        let slow = key.generations.iter().filter_map(|g| g.slow.as_ref());
        slow.filter(|slow| slow.hash == *hash)
            .for_each(|slow| slow.prove(verifier));
    }

    /// When everything that this principal may do ends at the latest, if it does.
    pub fn end(&self, who: &Principal) -> Option<Timestamp> {
        if let Some(device) = who.by.device() {
            let of_device = self.device(device).map(|device| device.end(self.terms()));
            let account = self.account(who.account);
            let of_account = account.and_then(|account| account.window.until);
            return of_device.into_iter().chain(of_account).min();
        }
        let (account, key, generation) = self.holder(who)?;
        let of_key = key.end(generation);
        account.window.until.into_iter().chain(of_key).min()
    }

    /// The user that everybody is where nobody is asked, if there is one who may act.
    pub fn everybody(&self, now: Timestamp, from: Option<Network>) -> Option<Principal> {
        let user = self.user_by_name(DEFAULT_USER).filter(|user| user.active)?;
        user.seen.mark(now, from);
        Some(Principal {
            account: user.id,
            by: By::Open,
        })
    }

    /// Whom a password that fits makes the holder, in a session of another site's page or not.
    ///
    /// # Errors
    /// Why nobody.
    pub fn log_in(
        &self,
        user: Uuid,
        fitting: Print,
        session: Option<Uuid>,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<Principal, Refused> {
        let stamp = self.user(user).and_then(User::stamp);
        let stamp = stamp.filter(|stamp| stamp.password == fitting);
        let stamp = stamp.ok_or(Refused::BadPassword)?;
        let by = By::Session { stamp, session };
        self.authorize(&Principal { account: user, by }, now, from)
    }

    /// Whom a person of a provider is here; `None` if nobody. Of several users that say so, who
    /// came first is it, also one that may not log in.
    ///
    /// # Errors
    /// Why it may not log in.
    pub fn log_in_external(
        &self,
        issuer: &str,
        subject: &str,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<Option<Principal>, Refused> {
        let is_it = |user: &&User| matches!(&user.origin, Origin::External { issuer: i, subject: s } if i == issuer && s == subject);
        let first = self
            .users
            .all()
            .filter(is_it)
            .min_by_key(|user| (user.created, user.id));
        let Some((id, stamp)) = first.and_then(|user| Some((user.id, user.stamp()?))) else {
            return Ok(None);
        };
        let by = By::Session {
            stamp,
            session: None,
        };
        let principal = Principal { account: id, by };
        self.authorize(&principal, now, from).map(Some)
    }

    /// What stands for a user's password, if it has one.
    pub fn password(&self, user: &User) -> Option<&credential::Verifier> {
        match self.credentials.get(&user.id)?.as_ref() {
            Credential::Password(verifier) => Some(verifier),
            Credential::Activation(_) => None,
        }
    }

    /// What is stored for a user.
    pub fn credential(&self, user: &User) -> Option<&Arc<Credential>> {
        self.credentials.get(&user.id)
    }

    /// Whether it administers the server now.
    pub fn is_admin(&self, who: &Principal) -> bool {
        match who.by {
            By::Key { .. } | By::Device { stamp: None, .. } => {
                self.account(who.account).is_some_and(|a| a.admin)
            }
            By::Session { .. } | By::Device { stamp: Some(_), .. } | By::Open => {
                self.user(who.account).is_some_and(|user| user.admin)
            }
        }
    }

    fn fitting(
        &self,
        keyring: &Keyring,
        presented: &ApiKey,
        account: Uuid,
        now: Timestamp,
    ) -> Option<&Generation> {
        let digest = presented.secret.digest();
        let claimed = keyring.pepper().verifier(account, presented.id, digest);
        let key = self.key(presented.id);
        let generations = key.map_or(&[][..], |k| &k.generations);
        let number = matching(generations, &claimed, now)?;
        generations.iter().find(|g| g.number == number)
    }

    /// The account, key and generation that a principal is of, if all are as they were.
    fn holder(&self, who: &Principal) -> Option<(&Account, &Key, &Generation)> {
        let By::Key {
            key,
            generation,
            print,
        } = who.by
        else {
            return None;
        };
        let key = self.key(key)?;
        let account = self.account(who.account)?;
        let held = key.account == account.id && key.account_object == account.object;
        let is_same = |g: &&Generation| g.number == generation && g.verifier.print() == print;
        let generation = key.generations.iter().find(is_same)?;
        held.then_some((account, key, generation))
    }

    fn authorize(
        &self,
        who: &Principal,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<Principal, Refused> {
        match who.by {
            By::Key { .. } => self.authorize_key(who, now, from)?,
            By::Session { stamp, .. } => self.authorize_user(who.account, stamp, now, from)?,
            By::Device { device, stamp } => {
                self.authorize_device(who.account, device, stamp, now, from)?;
            }
            // Decided for each request by itself, and of no use beyond it.
            By::Open => return Err(Refused::Revoked),
        }
        Ok(*who)
    }

    fn authorize_key(
        &self,
        who: &Principal,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<(), Refused> {
        let (account, key, generation) = self
            .holder(who)
            .filter(|(_, _, generation)| generation.is_valid(now))
            .ok_or(Refused::Revoked)?;
        if !account.is_active(now) {
            return Err(Refused::InactiveAccount {
                account: account.name.clone(),
            });
        }
        let end = key.end(generation);
        if !key.active || !key.window.contains(now) || end.is_some_and(|end| end <= now) {
            return Err(Refused::InactiveKey {
                key: key.name.clone(),
            });
        }
        account.seen.mark(now, from);
        generation.seen.mark(now, from);
        Ok(())
    }

    pub(super) fn authorize_user(
        &self,
        id: Uuid,
        stamp: Stamp,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<(), Refused> {
        let user = self.user(id).ok_or(Refused::Revoked)?;
        if user.stamp() != Some(stamp) {
            return Err(Refused::Revoked);
        }
        if !user.active {
            return Err(Refused::InactiveUser {
                user: user.name.clone(),
            });
        }
        user.seen.mark(now, from);
        Ok(())
    }

    /// A key by the id in its text. Of several objects that claim one, the oldest has it; the
    /// others do not exist.
    pub fn key(&self, id: Uuid) -> Option<&Key> {
        self.keys.get(&id)?.first()
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values().filter_map(|claims| claims.first())
    }

    /// The key of an object, whoever has its id.
    pub fn key_of_object(&self, uid: Uuid) -> Option<&Key> {
        let claims = self.keys.get(self.key_ids.get(&uid)?)?;
        claims.iter().find(|key| key.uid == uid)
    }

    /// An account by id. One whose name an older account holds does not exist.
    pub fn account(&self, id: Uuid) -> Option<&Account> {
        self.accounts.get(id)
    }

    /// An account by its ZenML name.
    pub fn account_by_name(&self, name: &str) -> Option<&Account> {
        self.accounts.named(name)
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    /// A user by id. One whose name an older user holds does not exist.
    pub fn user(&self, id: Uuid) -> Option<&User> {
        self.users.get(id)
    }

    /// A user by its ZenML name. An account may have the same.
    pub fn user_by_name(&self, name: &str) -> Option<&User> {
        self.users.named(name)
    }

    /// All users, in no order.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.iter()
    }

    /// The keys of an account, in no order.
    pub fn keys_of(&self, account: &Account) -> impl Iterator<Item = &Key> {
        let (id, object) = (account.id, account.object.clone());
        self.keys()
            .filter(move |key| key.account == id && key.account_object == object)
    }
}

/// Writing: what a watch saw.
impl Directory {
    /// Adds or replaces an account, and returns what it was before. When it was last seen is kept.
    pub fn put_account(&mut self, account: Account) -> Option<Account> {
        self.accounts.put(account)
    }

    /// Removes the account of an object.
    pub fn remove_account(&mut self, uid: Uuid) -> Option<Account> {
        self.accounts.remove(uid)
    }

    /// Adds or replaces a user. When it was last seen is kept.
    pub fn put_user(&mut self, mut user: User) {
        user.password = print(&self.logins, &self.credentials, &user);
        self.users.put(user);
    }

    /// Replaces what is stored for users.
    pub fn set_credentials(&mut self, credentials: HashMap<Uuid, Arc<Credential>>) {
        self.credentials = credentials;
        self.note_passwords();
    }

    /// Replaces what is stored for one user.
    pub fn set_credential(&mut self, user: Uuid, credential: Credential) {
        self.credentials.insert(user, Arc::new(credential));
        self.note_passwords();
    }

    /// What lets people in, from now on. What it no longer does ends their tokens.
    pub fn set_logins(&mut self, logins: Logins) {
        self.logins = logins;
        self.note_passwords();
    }

    fn note_passwords(&mut self) {
        for user in self.users.members_mut() {
            user.password = print(&self.logins, &self.credentials, user);
        }
    }

    /// Removes a user.
    pub fn remove_user(&mut self, id: Uuid) -> Option<User> {
        self.users.remove(id)
    }

    /// Adds or replaces the key of an object, and returns what it was before. When its generations
    /// were last seen is kept.
    pub fn put_key(&mut self, mut key: Key) -> Option<Key> {
        key.policy = self.policy;
        let old = self.remove_key(key.uid);
        if let Some(old) = &old {
            for generation in &key.generations {
                let of = |g: &&Generation| (g.number, g.verifier.print());
                let same = old.generations.iter().find(|g| of(g) == of(&generation));
                same.inspect(|same| generation.learn(same));
            }
        }
        self.key_ids.insert(key.uid, key.id);
        let claims = self.keys.entry(key.id).or_default();
        // A Vec would make room for four, and nearly every id is claimed once.
        claims.reserve_exact(1);
        claims.push(key);
        claims.sort_by_key(Key::seniority);
        old
    }

    /// Removes the key of an object.
    pub fn remove_key(&mut self, uid: Uuid) -> Option<Key> {
        let Entry::Occupied(mut claims) = self.keys.entry(self.key_ids.remove(&uid)?) else {
            return None;
        };
        let at = claims.get().iter().position(|key| key.uid == uid)?;
        let key = claims.get_mut().remove(at);
        if claims.get().is_empty() {
            claims.remove();
        }
        Some(key)
    }

    /// How long keys live by the server's policy, from now on.
    pub fn set_policy(&mut self, policy: Lifetimes) {
        self.policy = policy;
        for key in self.keys.values_mut().flatten() {
            key.policy = policy;
        }
    }

    /// Judges ids by a pepper. An account that claims one by right has it from now on; a key that
    /// does not have its own by right does not exist.
    pub fn prove(&mut self, pepper: &Pepper) {
        let keys = self.keys.values().flatten();
        let forged: Vec<_> = keys
            .filter(|key| !key.is_proven(pepper))
            .map(|key| key.uid)
            .collect();
        for uid in forged {
            self.remove_key(uid);
        }
        let accounts = self.accounts.all();
        let claims = accounts.filter(|account| account.claim.is_some());
        let claims: Vec<_> = claims.map(|account| account.uid).collect();
        for uid in claims {
            if let Some(mut account) = self.accounts.remove(uid) {
                account.prove(pepper);
                self.accounts.put(account);
            }
        }
    }

    /// Drops every account whose object is not among `uids`: what a new list does not show is gone.
    pub fn keep_accounts(&mut self, uids: &HashSet<Uuid>) {
        self.accounts.keep(uids);
    }

    /// Drops every user who is not among `ids`.
    pub fn keep_users(&mut self, ids: &HashSet<Uuid>) {
        self.users.keep(ids);
    }

    /// Drops every key whose object is not among `uids`.
    pub fn keep_keys(&mut self, uids: &HashSet<Uuid>) {
        let gone: Vec<Uuid> = self
            .key_ids
            .keys()
            .filter(|uid| !uids.contains(uid))
            .copied()
            .collect();
        for uid in gone {
            self.remove_key(uid);
        }
    }
}

fn print(
    logins: &Logins,
    credentials: &HashMap<Uuid, Arc<Credential>>,
    user: &User,
) -> Option<Print> {
    match &user.origin {
        Origin::External { issuer, .. } => {
            let counts = logins.issuer.as_ref() == Some(issuer);
            user.origin.identity().filter(|_| counts)
        }
        _ if !logins.passwords => None,
        _ => match credentials.get(&user.id)?.as_ref() {
            Credential::Password(verifier) => Some(verifier.print()),
            Credential::Activation(_) => None,
        },
    }
}

/// The generation that a verifier is of. Every candidate is compared, whichever fits, so that
/// time tells nothing.
fn matching(generations: &[Generation], claimed: &Verifier, now: Timestamp) -> Option<i64> {
    let mut found = 0_i64;
    for generation in generations {
        let valid = Choice::from(u8::from(generation.is_valid(now)));
        let fits = generation.fits(claimed) & valid;
        found.conditional_assign(&generation.number, fits);
    }
    (found > 0).then_some(found)
}

//! Changes the state in memory, and does at once what the operator would.

use std::sync::Arc;

use futures::{FutureExt, future::ready};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    auth::{
        credential::Credential,
        directory::{Account, Directory, Generation, Key, Lifetimes, Seen, User, Window},
    },
    store::{
        State,
        registrar::{
            Changing, Declared, NewAccount, NewKey, NewUser, NotChanged, Object, Registrar,
            Replaced, Replacement, SignedOut, Update, UserUpdate,
        },
    },
};

impl MemoryStore {
    pub(super) fn register<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, NotChanged>,
    ) -> Changing<'_, T> {
        let failure = self.registrar.lock().fails.clone();
        let result = match failure {
            Some(why) => Err(why),
            None => self.change(change),
        };
        ready(result).boxed()
    }

    pub(super) fn draw(&self) -> Uuid {
        let mut registered = self.registrar.lock();
        registered.drawn += 1;
        let uid = Uuid::from_u128(0x0a91_0000_0000_4000_8000_0000_0000_0000 + registered.drawn);
        registered.made.insert(uid);
        uid
    }

    pub(super) fn check_own(
        &self,
        uid: Uuid,
        what: &'static str,
        name: &str,
    ) -> Result<(), NotChanged> {
        if self.registrar.lock().made.contains(&uid) {
            return Ok(());
        }
        Err(NotChanged::Declared(declared(what, name)))
    }

    fn own_key(&self, directory: &Directory, uid: Uuid) -> Result<Uuid, NotChanged> {
        let key = directory.keys().find(|key| key.uid == uid);
        let key = key.ok_or(NotChanged::Gone)?;
        self.check_own(uid, "API key", &key.name)?;
        Ok(key.uid)
    }

    pub(super) fn is_away(&self) -> bool {
        self.registrar.lock().operator_is_away
    }

    fn issue(
        &self,
        state: &mut State,
        account: &Object,
        new: NewKey,
    ) -> Result<Object, NotChanged> {
        let holder = state.directory.account(account.uid);
        let siblings: Vec<&Key> = state
            .directory
            .keys_of(holder.ok_or(NotChanged::Gone)?)
            .collect();
        if siblings.iter().any(|key| key.name == new.name) {
            return Err(NotChanged::Exists);
        }
        if siblings.len() >= new.at_most {
            return Err(NotChanged::TooMany(siblings.len()));
        }
        let object = Object {
            uid: self.draw(),
            name: new.name.to_lowercase(),
        };
        if self.is_away() {
            self.registrar.lock().waiting.insert(object.uid);
            return Ok(object);
        }
        let pepper = state.keyring.pepper();
        let verifier = pepper.verifier(account.uid, new.id, new.digest);
        state.directory.put_key(Key {
            uid: object.uid,
            id: new.id,
            proof: None,
            object: object.name.clone(),
            name: new.name,
            description: new.description,
            account_object: account.name.clone(),
            account: account.uid,
            active: true,
            window: Window::default(),
            ttl: None,
            policy: Lifetimes::default(),
            generations: vec![generation(1, verifier)],
            created: state.settings.created,
            last_rotated: None,
            last_recorded: None,
        });
        Ok(object)
    }

    fn rotate(
        &self,
        state: &mut State,
        object: Object,
        by: Replacement,
    ) -> Result<Replaced, NotChanged> {
        let uid = self.own_key(&state.directory, object.uid)?;
        if !self.is_away()
            && let Some(mut key) = state.directory.remove_key(uid)
        {
            let now = key.last_rotated.unwrap_or(key.created);
            let last = key.generations.iter().map(|g| g.number).max().unwrap_or(0);
            let retain = SignedDuration::try_from(by.retain).unwrap_or(SignedDuration::MAX);
            let ends = now.saturating_add(retain).unwrap_or(Timestamp::MAX);
            for old in &mut key.generations {
                old.valid_until.get_or_insert(ends);
            }
            key.generations.retain(|_| !by.retain.is_zero());
            let pepper = state.keyring.pepper();
            let verifier = pepper.verifier(key.account, key.id, by.digest);
            key.generations.push(generation(last + 1, verifier));
            key.last_rotated = Some(now);
            state.directory.put_key(key);
        }
        Ok(Replaced {
            key: object,
            version: String::new(),
            before: Value::Null,
        })
    }
}

fn declared(what: &'static str, name: &str) -> Declared {
    Declared {
        what,
        name: name.to_owned(),
        object: format!("Object memory/{name}"),
        owner: Some("the test".to_owned()),
    }
}

fn generation(number: i64, verifier: crate::auth::api_key::Verifier) -> Generation {
    Generation {
        number,
        verifier,
        created: None,
        valid_until: None,
        recorded: None,
        slow: None,
        recorded_from: None,
        seen: Seen::default(),
    }
}

impl Registrar for MemoryStore {
    fn create_account(&self, new: NewAccount) -> Changing<'_, Object> {
        self.register(|state| {
            if state.directory.account_by_name(&new.name).is_some() {
                return Err(NotChanged::Exists);
            }
            let (uid, object) = (self.draw(), new.name.to_lowercase());
            let mut account = Account::new(uid, object.clone(), new.name, state.settings.created);
            account.description = new.description;
            account.active = new.active;
            state.directory.put_account(account);
            Ok(Object { uid, name: object })
        })
    }

    fn update_account(&self, object: Object, update: Update) -> Changing<'_, ()> {
        self.register(|state| {
            let account = state.directory.account(object.uid);
            let name = &account.ok_or(NotChanged::Gone)?.name;
            self.check_own(object.uid, "service account", name)?;
            let account = state.directory.remove_account(object.uid);
            let mut account = account.ok_or(NotChanged::Gone)?;
            account.name = update.name.unwrap_or(account.name);
            account.description = update.description.unwrap_or(account.description);
            account.active = update.active.unwrap_or(account.active);
            state.directory.put_account(account);
            Ok(())
        })
    }

    fn delete_account(&self, object: Object) -> Changing<'_, ()> {
        self.register(|state| {
            let account = state.directory.account(object.uid);
            let account = account.ok_or(NotChanged::Gone)?;
            self.check_own(object.uid, "service account", &account.name)?;
            let keys = state.directory.keys_of(account);
            let keys: Vec<(Uuid, String)> = keys.map(|key| (key.uid, key.name.clone())).collect();
            for (uid, name) in &keys {
                self.check_own(*uid, "API key", name)?;
            }
            for (uid, _) in keys {
                state.directory.remove_key(uid);
            }
            state.directory.remove_account(object.uid);
            Ok(())
        })
    }

    fn create_key(&self, account: Object, key: NewKey) -> Changing<'_, Object> {
        self.register(|state| self.issue(state, &account, key))
    }

    fn update_key(&self, object: Object, update: Update) -> Changing<'_, ()> {
        self.register(|state| {
            let uid = self.own_key(&state.directory, object.uid)?;
            let taken = |key: &Key| key.uid != uid && Some(&key.name) == update.name.as_ref();
            let key = state.directory.keys().find(|key| key.uid == uid);
            let account = key.and_then(|key| state.directory.account(key.account));
            if state
                .directory
                .keys_of(account.ok_or(NotChanged::Gone)?)
                .any(taken)
            {
                return Err(NotChanged::Exists);
            }
            let mut key = state.directory.remove_key(uid).ok_or(NotChanged::Gone)?;
            key.name = update.name.unwrap_or(key.name);
            key.description = update.description.unwrap_or(key.description);
            key.active = update.active.unwrap_or(key.active);
            state.directory.put_key(key);
            Ok(())
        })
    }

    fn rotate_key(&self, key: Object, replacement: Replacement) -> Changing<'_, Replaced> {
        self.register(|state| self.rotate(state, key, replacement))
    }

    fn restore_key(&self, _: Replaced) -> Changing<'_, ()> {
        self.register(|_| Ok(()))
    }

    fn delete_key(&self, key: Object) -> Changing<'_, ()> {
        self.register(|state| {
            if self.registrar.lock().waiting.remove(&key.uid) {
                return Ok(());
            }
            let uid = self.own_key(&state.directory, key.uid)?;
            state.directory.remove_key(uid);
            Ok(())
        })
    }

    fn create_user(&self, new: NewUser) -> Changing<'_, Object> {
        self.register(|state| {
            if state.directory.user_by_name(&new.name).is_some() {
                return Err(NotChanged::Exists);
            }
            let (uid, object) = (self.draw(), new.name.to_lowercase());
            let mut user = User::new(uid, object.clone(), new.name, state.settings.created);
            user.full_name = new.full_name;
            user.email = new.email;
            user.email_opted_in = new.email_opted_in;
            user.admin = new.admin;
            state.directory.put_user(user);
            Ok(Object { uid, name: object })
        })
    }

    fn update_user(&self, object: Object, update: UserUpdate) -> Changing<'_, ()> {
        self.register(|state| {
            let user = state.directory.user(object.uid);
            let name = &user.ok_or(NotChanged::Gone)?.name;
            self.check_own(object.uid, "user", name)?;
            let user = state.directory.remove_user(object.uid);
            let mut user = user.ok_or(NotChanged::Gone)?;
            user.name = update.name.unwrap_or(user.name);
            user.full_name = update.full_name.unwrap_or(user.full_name);
            user.email = update.email.or(user.email);
            user.email_opted_in = update.email_opted_in.or(user.email_opted_in);
            user.active = update.active.unwrap_or(user.active);
            user.admin = update.admin.unwrap_or(user.admin);
            state.directory.put_user(user);
            Ok(())
        })
    }

    fn sign_out(&self, object: Object) -> Changing<'_, SignedOut> {
        self.register(|state| {
            let user = state.directory.remove_user(object.uid);
            let mut user = user.ok_or(NotChanged::Gone)?;
            user.epoch += 1;
            let is_kept = self.registrar.lock().keeps_epochs;
            let signed_out = SignedOut {
                epoch: user.epoch,
                declared: is_kept.then(|| declared("user", &user.name)),
            };
            state.directory.put_user(user);
            Ok(signed_out)
        })
    }

    fn delete_user(&self, object: Object) -> Changing<'_, ()> {
        self.register(|state| {
            let user = state.directory.user(object.uid);
            let name = &user.ok_or(NotChanged::Gone)?.name;
            self.check_own(object.uid, "user", name)?;
            state.directory.remove_user(object.uid);
            Ok(())
        })
    }

    fn store_credential(
        &self,
        user: Uuid,
        from: Option<Arc<Credential>>,
        to: Credential,
    ) -> Changing<'_, ()> {
        self.register(|state| {
            let found = state.directory.user(user).ok_or(NotChanged::Gone)?;
            if state.directory.credential(found) != from.as_ref() {
                return Err(NotChanged::Exists);
            }
            state.directory.set_credential(user, to);
            Ok(())
        })
    }
}

//! Secrets in memory: delivered at once, unless the operator is away.

use std::sync::Arc;

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use serde_json::Value;
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    auth::shelf::{Delivered, Secret, Uses},
    store::{
        State,
        registrar::{Changing, NotChanged, Object},
        vault::{NewSecret, NotRead, Place, Removed, SecretUpdate, Updated, Values, Vault},
    },
};

impl MemoryStore {
    /// Gives a secret these values, as the operator would.
    pub fn deliver(&self, secret: Uuid, values: Values) {
        self.change(|state| {
            let known = state.directory.remove_secret(secret);
            if let Some(known) = known {
                let known = Arc::unwrap_or_clone(known);
                self.delivered(state, known, &values);
            }
        });
        self.registrar.lock().values.insert(secret, values);
    }

    /// Makes every reading of values fail, or none.
    pub fn set_unreadable(&self, why: Option<NotRead>) {
        self.registrar.lock().unreadable = why;
    }

    /// How often values were read.
    pub fn reads(&self) -> usize {
        self.registrar.lock().reads
    }

    /// How many secrets there are, those too that the operator did not see.
    pub fn secrets(&self) -> usize {
        self.registrar.lock().values.len()
    }

    fn delivered(&self, state: &mut State, mut secret: Secret, values: &Values) {
        let pepper = state.keyring.pepper();
        let print = |(key, value): (&String, &_)| {
            let value: &zeroize::Zeroizing<Vec<u8>> = value;
            let print = pepper.value_fingerprint(secret.id, key, value);
            (key.as_str().into(), print.into())
        };
        secret.delivered = Some(Delivered {
            secret: secret.object.clone(),
            keys: values.0.iter().map(print).collect(),
        });
        secret.observed = secret.generation;
        state.directory.put_secret(secret);
    }

    fn own_secret(&self, state: &mut State, object: &Object) -> Result<Secret, NotChanged> {
        let secret = state.directory.remove_secret(object.uid);
        let secret = secret.ok_or(NotChanged::Gone)?;
        state.directory.put_secret((*secret).clone());
        self.check_own(object.uid, "secret", &secret.name)?;
        Ok(Arc::unwrap_or_clone(secret))
    }
}

impl Vault for MemoryStore {
    fn read(&self, from: Place) -> BoxFuture<'_, Result<Values, NotRead>> {
        let mut registered = self.registrar.lock();
        registered.reads += 1;
        let result = match (registered.unreadable, registered.values.get(&from.id)) {
            (Some(why), _) => Err(why),
            (None, None) => Err(NotRead::Gone),
            (None, Some(values)) => {
                let mut values = values.clone();
                values.0.retain(|key, _| from.keys.contains(key));
                Ok(values)
            }
        };
        ready(result).boxed()
    }

    fn create_secret(&self, new: NewSecret) -> Changing<'_, Object> {
        self.register(|state| {
            let private_of = new.private.then_some(&new.owner);
            if state
                .directory
                .secret_named(&new.name, private_of)
                .is_some()
            {
                return Err(NotChanged::Exists);
            }
            let (uid, object) = (self.draw(), format!("s-{}", new.name.to_lowercase()));
            let secret = Secret {
                id: uid,
                object: object.clone(),
                name: new.name,
                private: new.private,
                owner: Some(new.owner),
                created: state.settings.created,
                updated: state.settings.created,
                generation: 1,
                observed: 0,
                delivered: None,
                used_by: Uses::default(),
            };
            if !self.is_away() {
                self.delivered(state, secret, &new.values);
            }
            self.registrar.lock().values.insert(uid, new.values);
            Ok(Object { uid, name: object })
        })
    }

    fn update_secret(&self, object: Object, update: SecretUpdate) -> Changing<'_, Updated> {
        self.register(|state| {
            let mut secret = self.own_secret(state, &object)?;
            let generation = secret.generation + 1;
            let updated = Updated {
                secret: object.clone(),
                generation,
                version: String::new(),
                before: Value::Null,
            };
            if self.is_away() {
                return Ok(updated);
            }
            let mut values = self.registrar.lock().values.remove(&object.uid);
            let mut values = values.take().unwrap_or_default();
            if let Some(new) = update.values {
                match new.remove {
                    Removed::Others => values = Values::default(),
                    Removed::Keys(keys) => values.0.retain(|key, _| !keys.contains(key)),
                }
                values.0.extend(new.set.0);
            }
            secret.name = update.name.unwrap_or(secret.name);
            secret.private = update.private.unwrap_or(secret.private);
            secret.generation = generation;
            self.delivered(state, secret, &values);
            self.registrar.lock().values.insert(object.uid, values);
            Ok(updated)
        })
    }

    fn restore_secret(&self, _: Updated) -> Changing<'_, ()> {
        self.register(|_| Ok(()))
    }

    fn delete_secret(&self, object: Object) -> Changing<'_, ()> {
        self.register(|state| {
            if self.is_away() && self.registrar.lock().values.remove(&object.uid).is_some() {
                return Ok(());
            }
            self.own_secret(state, &object)?;
            state.directory.remove_secret(object.uid);
            self.registrar.lock().values.remove(&object.uid);
            Ok(())
        })
    }
}

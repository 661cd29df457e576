//! A store in memory, for tests of what stands on it.

mod devices;
mod registrar;
mod vault;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    NotChanged, Settings, State, Store, Unavailable, View,
    vault::{NotRead, Values},
};

/// State that its owner changes directly, or as its own [`Registrar`](super::Registrar).
#[derive(Debug)]
pub struct MemoryStore {
    state: RwLock<State>,
    unavailable: RwLock<Option<Unavailable>>,
    changed: watch::Sender<()>,
    registrar: Mutex<Registered>,
}

/// What the registrar did, and how it is disturbed.
#[derive(Debug, Default)]
struct Registered {
    /// What was made through it: all else is declared.
    made: HashSet<Uuid>,
    /// Keys that no operator issued.
    waiting: HashSet<Uuid>,
    operator_is_away: bool,
    keeps_epochs: bool,
    fails: Option<NotChanged>,
    /// The values of secrets.
    values: HashMap<Uuid, Values>,
    unreadable: Option<NotRead>,
    reads: usize,
    drawn: u128,
}

impl MemoryStore {
    /// A store that is up to date.
    pub fn new(state: State) -> Self {
        Self {
            state: RwLock::new(state),
            unavailable: RwLock::new(None),
            changed: watch::Sender::new(()),
            registrar: Mutex::default(),
        }
    }

    /// Changes the state; the next view shows it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.write());
        self.changed.send_replace(());
        result
    }

    /// Makes every view fail, or none.
    pub fn set_unavailable(&self, why: Option<Unavailable>) {
        *self.unavailable.write() = why;
        self.changed.send_replace(());
    }

    /// Whether nobody issues keys that are made, or takes up replacements.
    pub fn set_operator_away(&self, away: bool) {
        self.registrar.lock().operator_is_away = away;
    }

    /// Whether the epochs of users are declared elsewhere.
    pub fn set_epochs_declared(&self, declared: bool) {
        self.registrar.lock().keeps_epochs = declared;
    }

    /// Makes every change fail, or none.
    pub fn set_failure(&self, why: Option<NotChanged>) {
        self.registrar.lock().fails = why;
    }

    /// How many keys were made that nobody issued.
    pub fn waiting_keys(&self) -> usize {
        self.registrar.lock().waiting.len()
    }
}

impl Store for MemoryStore {
    fn view(&self) -> Result<View<'_>, Unavailable> {
        match *self.unavailable.read() {
            Some(why) => Err(why),
            None => Ok(RwLockReadGuard::map(self.state.read(), |state| state)),
        }
    }

    fn settings(&self) -> Option<Arc<Settings>> {
        Some(Arc::clone(&self.state.read().settings))
    }

    fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

//! A store in memory, for tests of what stands on it.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use super::{Settings, State, Store, Unavailable, View};

/// State that its owner changes directly.
#[derive(Debug)]
pub struct MemoryStore {
    state: RwLock<State>,
    unavailable: RwLock<Option<Unavailable>>,
}

impl MemoryStore {
    /// A store that is up to date.
    pub fn new(state: State) -> Self {
        Self {
            state: RwLock::new(state),
            unavailable: RwLock::new(None),
        }
    }

    /// Changes the state; the next view shows it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write())
    }

    /// Makes every view fail, or none.
    pub fn set_unavailable(&self, why: Option<Unavailable>) {
        *self.unavailable.write() = why;
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
}

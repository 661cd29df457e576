//! Texts with references in them: what these lead to, and their values.

use std::{collections::BTreeMap, sync::Arc};

use zeroize::Zeroizing;

use super::{Delivered, Found, Refers, find, remedy};
use crate::{
    api::{ZenSecret, reason},
    auth::{
        api_key::Pepper,
        reference::{Piece, Reference, embedded},
    },
    reconcile::reader::Views,
};

/// The references in texts. One that is malformed has none.
pub(super) fn references<'t>(
    texts: impl IntoIterator<Item = &'t str>,
) -> impl Iterator<Item = Reference<'t>> {
    let pieces = texts.into_iter().filter_map(|text| embedded(text).ok());
    pieces.flatten().filter_map(|piece| match piece {
        Piece::Reference(reference) => Some(reference),
        Piece::Text(_) => None,
    })
}

/// What the references of some texts lead to, by name and key.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Leads(BTreeMap<(String, String), Found>);

/// Why a reference has no value now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Missing {
    /// In a word.
    pub reason: &'static str,
    /// What to do.
    pub message: String,
}

impl Leads {
    /// What the references in these texts of an object lead to, as the watched views show it. Those
    /// to the secret of the name `own` are left aside.
    pub(in crate::reconcile) fn look_up<'t>(
        views: &Views,
        of: &impl Refers,
        own: Option<&str>,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Self {
        let others = references(texts).filter(|reference| own != Some(reference.name));
        let led = others.map(|reference| (place(reference), find(views, of, reference)));
        Self(led.collect())
    }

    /// The secrets that have the values.
    pub(in crate::reconcile) fn secrets(&self) -> impl Iterator<Item = Arc<ZenSecret>> {
        self.0.values().filter_map(Found::secret)
    }

    /// How many different references there are.
    pub(in crate::reconcile) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value of a reference, from what was delivered.
    ///
    /// # Errors
    /// What is missing.
    pub(in crate::reconcile) fn value(
        &self,
        reference: Reference<'_>,
        values: &Delivered,
        pepper: &Pepper,
    ) -> Result<Zeroizing<Vec<u8>>, Missing> {
        let missing = |reason, message| Missing { reason, message };
        match self.0.get(&place(reference)) {
            Some(Found::Value(secret)) => {
                let value = values.value(secret, reference.key, pepper);
                value.map_err(|why| missing(reason::PROGRESSING, why))
            }
            Some(found @ Found::NoKey(_)) => {
                Err(missing(reason::KEY_MISSING, remedy(found, reference)))
            }
            Some(Found::Nothing) | None => {
                let message = remedy(&Found::Nothing, reference);
                Err(missing(reason::SECRET_MISSING, message))
            }
        }
    }
}

fn place(reference: Reference<'_>) -> (String, String) {
    (reference.name.to_owned(), reference.key.to_owned())
}

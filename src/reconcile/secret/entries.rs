//! Each entry of a secret: its value, or how it is to be drawn.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{generated::Generated, stalled, waiting};
use crate::{
    api::{
        Alphabet, EntrySource, Generate, SecretEntry, SecretKeyRef, ValueRotation, ZenSecret,
        label, reason,
    },
    auth::{
        sealed::{NotOpened, OpeningKeys, Place},
        secret_value::{ALPHANUMERIC, HEX, SYMBOLS, draw},
    },
    reconcile::{
        Fresh,
        error::Invalid,
        plan::Live,
        source::{Missing, entry, unusable},
    },
};

/// All names and values of a secret together, in bytes. A Kubernetes Secret holds twice that.
pub(super) const MOST_BYTES: usize = 512 * 1024;

/// An entry that can be delivered.
pub(super) struct Entry {
    pub name: String,
    pub source: EntrySource,
    pub wanted: Wanted,
    /// The trigger that it was drawn by.
    pub trigger: Option<String>,
    /// When it was drawn.
    pub drawn: Option<Timestamp>,
    /// When another is to be drawn.
    pub due: Option<Timestamp>,
}

/// The value of an entry.
pub(super) enum Wanted {
    /// This.
    Known(Zeroizing<Vec<u8>>),
    /// One that nobody knows yet.
    Drawn(How),
}

/// How a value is drawn.
#[derive(Clone, Copy)]
pub(super) struct How {
    length: usize,
    alphabet: Alphabet,
}

impl How {
    pub(super) fn draw(self, fresh: &mut impl Fresh) -> Zeroizing<Vec<u8>> {
        let alphabet = match self.alphabet {
            Alphabet::Alphanumeric => ALPHANUMERIC,
            Alphabet::Hex => HEX,
            Alphabet::Symbols => SYMBOLS,
        };
        draw(alphabet, self.length, |bytes| fresh.fill(bytes))
    }
}

impl Entry {
    /// Its value; empty before it was drawn.
    pub(super) fn value(&self) -> &[u8] {
        match &self.wanted {
            Wanted::Known(value) => value,
            Wanted::Drawn(_) => &[],
        }
    }
}

/// What is known where the values of entries come from.
pub(super) struct Known<'a> {
    /// By name, the Secrets of others.
    pub sources: &'a BTreeMap<String, Option<Live>>,
    /// What opens the entries that are sealed.
    pub opening: Option<&'a OpeningKeys>,
    /// What was drawn.
    pub generated: &'a Generated,
    /// What the Secret holds that is made of it.
    pub delivered: &'a BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Whether that is taken over from nobody.
    pub adopted: bool,
    /// What tells values of an entry apart.
    pub print: &'a dyn Fn(&str, &[u8]) -> String,
    pub now: Timestamp,
}

/// Every entry of a secret.
///
/// # Errors
/// Why one cannot be had, in words that do not show what was read.
pub(super) fn resolve(secret: &ZenSecret, known: &Known<'_>) -> Result<Vec<Entry>, Invalid> {
    let entries: Vec<Entry> = secret
        .spec
        .data
        .iter()
        .map(|wanted| known.entry(secret, wanted))
        .collect::<Result<_, _>>()?;
    let size = |entry: &Entry| entry.name.len() + entry.value().len();
    let size: usize = entries.iter().map(size).sum();
    if size > MOST_BYTES {
        let message = format!(
            "names and values are {size} bytes together, and may be {MOST_BYTES}: take some out of \
             spec.data"
        );
        return Err(watched(stalled(reason::SOURCE_INVALID, message)));
    }
    Ok(entries)
}

impl Known<'_> {
    fn entry(&self, secret: &ZenSecret, wanted: &SecretEntry) -> Result<Entry, Invalid> {
        let given = |source, value| Entry {
            name: wanted.key.clone(),
            source,
            wanted: Wanted::Known(value),
            trigger: None,
            drawn: None,
            due: None,
        };
        match (&wanted.value_from, &wanted.generate, &wanted.encrypted) {
            (Some(from), None, None) => {
                let value = self.taken(&from.secret_key_ref);
                let value = value.map_err(|missing| watched(missing.into_invalid()))?;
                Ok(given(EntrySource::ValueFrom, value))
            }
            (None, Some(how), None) => self.drawn(secret, &wanted.key, how),
            (None, None, Some(text)) => {
                let value = self.opened(secret, &wanted.key, text)?;
                Ok(given(EntrySource::Encrypted, value))
            }
            // The schema refuses it too.
            _ => {
                let message = format!(
                    "spec.data[{}] needs exactly one of valueFrom, generate, encrypted",
                    wanted.key
                );
                Err(stalled(reason::INVALID_SPEC, message))
            }
        }
    }

    fn opened(
        &self,
        secret: &ZenSecret,
        entry: &str,
        text: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Invalid> {
        let server = &secret.spec.server_ref.name;
        let Some(keys) = self.opening else {
            let message = format!(
                "waits for Secret {server}-sealing with the keys that open spec.data[{entry}]; see \
                 kubectl describe zenserver {server}"
            );
            return Err(waiting(reason::SERVER_NOT_READY, message));
        };
        let object = secret.metadata.name.as_deref().unwrap_or_default();
        keys.open(&Place { object, entry }, text).map_err(|why| {
            let remedy = match why {
                NotOpened::UnknownKey => format!(
                    ", or not any more: put Secret {server}-sealing back from a backup if one was \
                     lost"
                ),
                NotOpened::Malformed | NotOpened::Elsewhere => String::new(),
            };
            let message = format!(
                "spec.data[{entry}].encrypted cannot be read: {why}{remedy}. Seal the value for this \
                 entry with kubectl zen secret seal {object}"
            );
            watched(stalled(reason::NOT_OPENED, message))
        })
    }

    fn taken(&self, from: &SecretKeyRef) -> Result<Zeroizing<Vec<u8>>, Missing> {
        let source = self.sources.get(&from.name).and_then(Option::as_ref);
        // Nobody has a server's pepper delivered, nor waits for what waits for it.
        if source.is_some_and(is_ours) {
            let why = "zenop made that Secret, and takes values only from those of others";
            return Err(unusable(from, why));
        }
        entry(source, from)
    }

    /// A value that was drawn once stays, however it comes that it is not where it was. Only a
    /// rotation draws another.
    fn drawn(&self, secret: &ZenSecret, name: &str, how: &Generate) -> Result<Entry, Invalid> {
        let rotation = how.rotation.clone().unwrap_or_default();
        let recorded = secret.recorded(name);
        let recorded = recorded.filter(|before| before.source == EntrySource::Generated);
        let kept = self.generated.get(name);
        let delivered = self.delivered.get(name).filter(|value| match recorded {
            Some(before) => before.fingerprint == (self.print)(name, value),
            None => self.adopted,
        });
        let drawn = kept.map(|kept| kept.at);
        let drawn = drawn.or(recorded.map(|before| before.last_changed_time.0));
        let handled = match kept {
            Some(kept) => kept.trigger.as_ref(),
            None => recorded.and_then(|before| before.trigger.as_ref()),
        };
        let was_drawn = kept.is_some() || recorded.is_some();
        let asked = was_drawn && is_due(&rotation, handled, drawn, self.now);
        let value = kept.map(|kept| &kept.value).or(delivered);
        let (wanted, drawn) = match value {
            Some(value) if !asked => (Wanted::Known(value.clone()), drawn.unwrap_or(self.now)),
            None if was_drawn && !asked => return Err(lost(secret, name)),
            Some(_) | None => {
                let how = How {
                    // The schema keeps it small and positive.
                    length: usize::try_from(how.length).unwrap_or(32).min(1024),
                    alphabet: how.alphabet,
                };
                (Wanted::Drawn(how), self.now)
            }
        };
        let is_new = matches!(wanted, Wanted::Drawn(_));
        Ok(Entry {
            name: name.to_owned(),
            source: EntrySource::Generated,
            wanted,
            // Taking a trigger out asks for nothing, and putting it back neither.
            trigger: match rotation.trigger {
                Some(trigger) => Some(trigger),
                None if is_new => None,
                None => handled.cloned(),
            },
            drawn: Some(drawn),
            due: rotation.interval.map(|interval| ends(drawn, interval.0)),
        })
    }
}

/// Whether a value that was drawn then, by this trigger, is to be replaced now.
fn is_due(
    rotation: &ValueRotation,
    handled: Option<&String>,
    drawn: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let asked = rotation.trigger.as_ref();
    let asked = asked.is_some_and(|trigger| Some(trigger) != handled);
    let over = |drawn| {
        let interval = rotation.interval.map(|interval| ends(drawn, interval.0));
        interval.is_some_and(|end| end <= now)
    };
    asked || drawn.is_some_and(over)
}

fn ends(drawn: Timestamp, interval: std::time::Duration) -> Timestamp {
    let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
    drawn.saturating_add(interval).unwrap_or(Timestamp::MAX)
}

fn lost(secret: &ZenSecret, name: &str) -> Invalid {
    let message = format!(
        "the generated value of {name} is neither in Secret {} nor in Secret {} any more: put one \
         of them back from a backup, or give spec.data[{name}].generate.rotation.trigger another \
         text for another value",
        secret.generated_name(),
        secret.secret_name(),
    );
    stalled(reason::SECRET_LOST, message)
}

/// What it depends on is watched.
fn watched(invalid: Invalid) -> Invalid {
    Invalid {
        unwatched: false,
        ..invalid
    }
}

fn is_ours(source: &Live) -> bool {
    let labels = source.body.pointer("/metadata/labels");
    let by = labels.and_then(|labels| labels.get(label::MANAGED_BY));
    by.and_then(Value::as_str) == Some(label::MANAGED_BY_ZENOP)
}

// Values are never shown.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = match &self.wanted {
            Wanted::Known(_) => "known",
            Wanted::Drawn(_) => "to be drawn",
        };
        write!(f, "{} ({:?}, {wanted})", self.name, self.source)
    }
}

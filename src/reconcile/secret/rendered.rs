//! Entries that are made of values: text with references to entries of `data`, its own and others'.
//!
//! What is made so cannot be referred to, so no value depends on itself. Two secrets whose templates
//! refer to each other do not wait for each other either: entries of `data` are delivered first.

use zeroize::Zeroizing;

use super::{
    MOST_BYTES,
    entries::{Entry, Wanted},
    stalled,
};
use crate::{
    api::{ZenSecret, reason},
    auth::{
        api_key::Pepper,
        reference::{Piece, embedded},
    },
    reconcile::{
        error::Invalid,
        plan::Verdict,
        references::{Delivered, Leads, Missing},
    },
};

/// The most bytes of a value that is not drawn yet.
const MOST_DRAWN: usize = 1024;

/// An entry that is made of values.
#[derive(Debug)]
pub(super) struct Template {
    pub name: String,
    parts: Vec<Part>,
}

enum Part {
    Text(Zeroizing<Vec<u8>>),
    /// The value of its own entry, which may be about to be drawn.
    Own(String),
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "text",
            Self::Own(name) => name,
        })
    }
}

/// Why templates cannot be filled in.
#[derive(Debug)]
pub(super) enum Unfilled {
    /// What they refer to is not there yet.
    Waits {
        reason: &'static str,
        message: String,
    },
    /// They cannot be as they are.
    Never(Invalid),
}

impl Unfilled {
    pub(super) fn into_invalid(self) -> Invalid {
        match self {
            Self::Never(invalid) => invalid,
            Self::Waits { reason, message } => Invalid {
                verdict: Verdict::Waiting { reason, message },
                facts: Vec::new(),
                unwatched: true,
            },
        }
    }
}

/// What templates are filled in with.
pub(super) struct Filling<'a> {
    pub secret: &'a ZenSecret,
    pub entries: &'a [Entry],
    pub foreign: &'a Leads,
    pub values: &'a Delivered,
    pub pepper: &'a Pepper,
}

impl Filling<'_> {
    /// All templates of a secret, ready to be written out.
    pub(super) fn templates(&self) -> Result<Vec<Template>, Unfilled> {
        let texts = &self.secret.spec.target.secret_template.data;
        let read: Vec<(&String, Vec<Piece<'_>>)> = texts
            .iter()
            .map(|(name, text)| Ok((name, self.read(name, text)?)))
            .collect::<Result<_, _>>()
            .map_err(Unfilled::Never)?;
        let mut templates = Vec::with_capacity(read.len());
        for (name, pieces) in read {
            let parts = pieces.into_iter().map(|piece| self.part(name, piece));
            templates.push(Template {
                name: name.clone(),
                parts: parts.collect::<Result<_, _>>()?,
            });
        }
        self.check_size(&templates).map_err(Unfilled::Never)?;
        Ok(templates)
    }

    fn read<'t>(&self, name: &str, text: &'t str) -> Result<Vec<Piece<'t>>, Invalid> {
        let place = format!("spec.target.secretTemplate.data[{name}]");
        let data = &self.secret.spec.data;
        // The schema refuses it too.
        if data.iter().any(|entry| entry.key == *name) {
            let message = format!("{place} is in spec.data, too: give one another name");
            return Err(stalled(reason::INVALID_SPEC, message));
        }
        let pieces = embedded(text)
            .map_err(|fault| stalled(reason::MALFORMED_REFERENCE, format!("{place}, {fault}")))?;
        let missing = pieces.iter().find_map(|piece| match piece {
            Piece::Reference(reference)
                if reference.name == self.secret.zenml_name()
                    && data.iter().all(|entry| entry.key != reference.key) =>
            {
                Some(reference)
            }
            Piece::Reference(_) | Piece::Text(_) => None,
        });
        match missing {
            None => Ok(pieces),
            Some(reference) => {
                let message = format!(
                    "{place}: {reference}: spec.data has no entry {}; an entry of the template \
                     cannot be referred to",
                    reference.key
                );
                Err(stalled(reason::KEY_MISSING, message))
            }
        }
    }

    fn part(&self, name: &str, piece: Piece<'_>) -> Result<Part, Unfilled> {
        let reference = match piece {
            Piece::Text(text) => return Ok(Part::Text(Zeroizing::new(text.into()))),
            Piece::Reference(reference) => reference,
        };
        if reference.name == self.secret.zenml_name() {
            return Ok(Part::Own(reference.key.to_owned()));
        }
        let value = self.foreign.value(reference, self.values, self.pepper);
        value
            .map(Part::Text)
            .map_err(|Missing { reason, message }| Unfilled::Waits {
                reason,
                message: format!("spec.target.secretTemplate.data[{name}]: {message}"),
            })
    }

    fn check_size(&self, templates: &[Template]) -> Result<(), Invalid> {
        let of_part = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Own(key) => match self.entries.iter().find(|entry| entry.name == *key) {
                Some(entry) if matches!(entry.wanted, Wanted::Known(_)) => entry.value().len(),
                Some(_) | None => MOST_DRAWN,
            },
        };
        let of = |template: &Template| {
            let parts: usize = template.parts.iter().map(of_part).sum();
            template.name.len().saturating_add(parts)
        };
        let size = templates.iter().map(of).fold(0, usize::saturating_add);
        if size <= MOST_BYTES {
            return Ok(());
        }
        let message = format!(
            "what spec.target.secretTemplate.data makes may be {size} bytes, and must not be more \
             than {MOST_BYTES}: refer to less"
        );
        Err(stalled(reason::INVALID_SPEC, message))
    }
}

impl Template {
    /// What it makes. `None`: a value is still to be drawn.
    pub(super) fn bytes(&self, entries: &[Entry]) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text),
                Part::Own(key) => match entries.iter().find(|entry| entry.name == *key) {
                    Some(Entry {
                        wanted: Wanted::Known(value),
                        ..
                    }) => bytes.extend_from_slice(value),
                    Some(_) | None => return None,
                },
            }
        }
        Some(bytes)
    }
}

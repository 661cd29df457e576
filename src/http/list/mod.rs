//! Lists: filters, sorting and paging as ZenML has them (zenml-wire.md 10), for any kind.
//!
//! A kind says which columns it has; the rest is the same for all. A query is read once, then
//! items are filtered, counted, sorted and cut to a page, and only the page is rendered.

mod filter;
mod pattern;
mod query;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, ops::Range};

use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use crate::wire::Page;

pub(super) use query::{Query, hydrate, switch};

/// What an item has in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'a> {
    /// Nothing. Sorts first.
    Null,
    /// An id.
    Id(Uuid),
    /// A text.
    Text(&'a str),
    /// A moment.
    Time(Timestamp),
    /// Yes or no.
    Bool(bool),
    /// Somebody. Sorts by name.
    Person(&'a Person),
}

/// Somebody, as a filter may name them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Person {
    /// The name in ZenML.
    pub(super) name: String,
    /// The name for people.
    pub(super) full_name: String,
    /// The id on the wire.
    pub(super) id: Uuid,
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Null, Self::Time)
    }
}

/// What a column holds, which decides how it may be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Ids.
    Id,
    /// Texts.
    Text,
    /// Moments.
    Time,
    /// Yes or no.
    Bool,
    /// Yes or no, without an operator.
    Flag,
    /// Somebody, by name, full name or id.
    Person,
}

/// A column of a kind: its name in a query, and where an item has it. The time is of now.
#[derive(Debug)]
pub(super) struct Column<T> {
    name: &'static str,
    holds: Holds,
    of: Of<T>,
}

/// A column as clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) holds: Holds,
}

/// The columns as clients know them.
pub(super) fn filters<T>(columns: &[Column<T>]) -> Vec<Filter> {
    let filter = |column: &Column<T>| Filter {
        name: column.name,
        holds: column.holds,
    };
    columns.iter().map(filter).collect()
}

type Of<T> = for<'a> fn(&'a T, Timestamp) -> Value<'a>;

impl<T> Column<T> {
    pub(super) const fn id(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Id;
        Self { name, holds, of }
    }

    pub(super) const fn text(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Text;
        Self { name, holds, of }
    }

    pub(super) const fn time(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Time;
        Self { name, holds, of }
    }

    pub(super) const fn bool(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Bool;
        Self { name, holds, of }
    }

    pub(super) const fn flag(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Flag;
        Self { name, holds, of }
    }

    pub(super) const fn person(name: &'static str, of: Of<T>) -> Self {
        let holds = Holds::Person;
        Self { name, holds, of }
    }
}

/// A page that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "Invalid page {page}. The requested page size is {size} and there are a total of {total} items \
     for this query. The maximum page value therefore is {last}."
)]
pub struct NoPage {
    page: usize,
    size: usize,
    total: usize,
    last: usize,
}

impl<T> Query<T> {
    /// The page of `items` that was asked for, each rendered by `render`.
    ///
    /// # Errors
    /// If it is behind the last one.
    pub(super) fn page<'a, W>(
        &self,
        items: impl Iterator<Item = &'a T>,
        now: Timestamp,
        render: impl FnMut(&'a T) -> W,
    ) -> Result<Page<W>, NoPage>
    where
        T: 'a,
    {
        let mut found: Vec<&T> = items.filter(|item| self.matches(item, now)).collect();
        let (page, size, total) = (self.page, self.size, found.len());
        let last = total.div_ceil(size).max(1);
        if page > last {
            return Err(NoPage {
                page,
                size,
                total,
                last,
            });
        }
        let first = (page - 1) * size;
        self.cut(
            &mut found,
            first..first.saturating_add(size).min(total),
            now,
        );
        Ok(Page {
            index: page,
            max_size: size,
            total_pages: last,
            total,
            items: found.into_iter().map(render).collect(),
        })
    }

    /// Leaves what would be at `range` if all were sorted, without sorting all.
    fn cut(&self, items: &mut Vec<&T>, range: Range<usize>, now: Timestamp) {
        if range.end < items.len() {
            items.select_nth_unstable_by(range.end, |a, b| self.order(a, b, now));
            items.truncate(range.end);
        }
        if (1..items.len()).contains(&range.start) {
            items.select_nth_unstable_by(range.start, |a, b| self.order(a, b, now));
            items.drain(..range.start);
        }
        items.sort_unstable_by(|a, b| self.order(a, b, now));
    }

    fn matches(&self, item: &T, now: Timestamp) -> bool {
        let mut hold = self.conditions.iter().map(|c| c.holds(item, now));
        match self.any && !self.conditions.is_empty() {
            true => hold.any(|held| held),
            false => hold.all(|held| held),
        }
    }

    /// Ids break ties, in the same direction.
    fn order(&self, a: &T, b: &T, now: Timestamp) -> Ordering {
        let by = |column: &Column<T>| (column.of)(a, now).cmp(&(column.of)(b, now));
        let order = by(self.sort).then_with(|| by(self.id));
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

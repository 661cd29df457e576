//! Reads a query string into a [`Query`].

use std::borrow::Cow;

use jiff::Timestamp;

use super::{Column, Holds, filter::Test};
use crate::http::Refusal;

/// No page is larger.
const MAX_SIZE: usize = 10_000;
const DEFAULT_SIZE: usize = 20;
/// No query has more conditions: each is asked of every item.
const MAX_CONDITIONS: usize = 32;

/// What a client wants to see of a list.
#[derive(Debug)]
pub(in crate::http) struct Query<T: 'static> {
    pub(super) page: usize,
    pub(super) size: usize,
    /// Whether to show metadata.
    pub(in crate::http) hydrate: bool,
    /// Whether one condition is enough.
    pub(super) any: bool,
    pub(super) conditions: Vec<Condition<T>>,
    pub(super) sort: &'static Column<T>,
    pub(super) descending: bool,
    pub(super) id: &'static Column<T>,
}

#[derive(Debug)]
pub(super) struct Condition<T: 'static> {
    column: &'static Column<T>,
    test: Test,
}

impl<T> Condition<T> {
    pub(super) fn holds(&self, item: &T, now: Timestamp) -> bool {
        self.test.holds((self.column.of)(item, now))
    }
}

impl<T> Query<T> {
    /// Reads a query string. Parameters that are no column are ignored. `columns` must have
    /// `id` and `created`.
    ///
    /// # Errors
    /// In ZenML's order: [`Refusal::Malformed`] for what is common to all lists,
    /// [`Refusal::Filter`] for filters and sorting, [`Refusal::Malformed`] for `hydrate`,
    /// [`Refusal::NotANumber`].
    pub(in crate::http) fn read(
        text: &str,
        columns: &'static [Column<T>],
    ) -> Result<Self, Refusal> {
        let find = |name: &str| columns.iter().find(|column| column.name == name);
        let mut query = Self {
            page: 1,
            size: DEFAULT_SIZE,
            hydrate: false,
            any: false,
            conditions: Vec::new(),
            sort: find("created").ok_or(Refusal::Unexpected)?,
            descending: false,
            id: find("id").ok_or(Refusal::Unexpected)?,
        };
        let (mut sort_by, mut filters) = (None, Vec::new());
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "page" => query.page = number(&value, usize::MAX, BAD_PAGE)?,
                "size" => query.size = number(&value, MAX_SIZE, BAD_SIZE)?,
                "logical_operator" => query.any = any(&value)?,
                "sort_by" => sort_by = Some(value),
                name => filters.extend(find(name).map(|column| (column, value))),
            }
        }
        for (column, value) in filters {
            query.add(column, &value)?;
        }
        query.sort_by(sort_by, find)?;
        query.hydrate = hydrate(text)?.unwrap_or(false);
        match query.conditions.iter().any(|c| c.test.is_not_a_number()) {
            true => Err(Refusal::NotANumber),
            false => Ok(query),
        }
    }

    /// Of a column that is yes or no the last condition counts, of others all do.
    fn add(&mut self, column: &'static Column<T>, value: &str) -> Result<(), Refusal> {
        let test = Test::read(column.holds, value)?;
        if matches!(column.holds, Holds::Bool | Holds::Flag) {
            self.conditions.retain(|c| !std::ptr::eq(c.column, column));
        }
        if self.conditions.len() == MAX_CONDITIONS {
            return Err(Refusal::Filter("Too many conditions."));
        }
        self.conditions.push(Condition { column, test });
        Ok(())
    }

    /// `name`, `asc:name` or `desc:name`; another direction is taken for `asc`.
    fn sort_by(
        &mut self,
        value: Option<Cow<'_, str>>,
        find: impl Fn(&str) -> Option<&'static Column<T>>,
    ) -> Result<(), Refusal> {
        let Some(value) = value else { return Ok(()) };
        let (direction, name) = value.split_once(':').unwrap_or(("asc", &value));
        self.descending = direction == "desc";
        self.sort = find(name).ok_or(Refusal::Filter(
            "You can only sort by valid fields of this resource",
        ))?;
        Ok(())
    }
}

const BAD_PAGE: Refusal = Refusal::Malformed("page must be a number from 1.");
const BAD_SIZE: Refusal = Refusal::Malformed("size must be a number from 1 to 10000.");
const BAD_HYDRATE: Refusal = Refusal::Malformed("hydrate must be true or false.");
const BAD_OPERATOR: Refusal = Refusal::Malformed("logical_operator must be 'and' or 'or'.");

/// The `hydrate` parameter of a query string, if it is there.
pub(in crate::http) fn hydrate(text: &str) -> Result<Option<bool>, Refusal> {
    switch(text, "hydrate").map_err(|()| BAD_HYDRATE)
}

/// A parameter of a query string that is yes or no, if it is there. Given twice, the last counts.
pub(in crate::http) fn switch(text: &str, wanted: &str) -> Result<Option<bool>, ()> {
    form_urlencoded::parse(text.as_bytes())
        .filter(|(name, _)| name == wanted)
        .last()
        .map(|(_, value)| flag(&value).ok_or(()))
        .transpose()
}

fn number(text: &str, max: usize, refusal: Refusal) -> Result<usize, Refusal> {
    let number = text.parse().ok();
    number.filter(|n| (1..=max).contains(n)).ok_or(refusal)
}

fn any(text: &str) -> Result<bool, Refusal> {
    match text {
        "and" => Ok(false),
        "or" => Ok(true),
        _ => Err(BAD_OPERATOR),
    }
}

/// Yes or no in the words that pydantic knows; the client sends `True` and `False`.
pub(super) fn flag(text: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 12] = [
        ("true", true),
        ("false", false),
        ("1", true),
        ("0", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
        ("y", true),
        ("n", false),
        ("t", true),
        ("f", false),
    ];
    let known = WORDS
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    known.map(|(_, flag)| *flag)
}

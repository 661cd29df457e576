//! The envelope of every stored object, and the page of a list (zenml-wire 1).

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::Id;

/// A stored object: `body` always, `metadata` when it is hydrated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Resource<'a, B, M, R = ()> {
    /// What every answer shows.
    pub body: B,
    /// What only a hydrated answer shows.
    pub metadata: Option<M>,
    /// What it refers to.
    pub resources: Option<R>,
    /// Its id.
    #[schemars(with = "Id")]
    pub id: Uuid,
    /// Always false: what may not be seen is not there.
    pub permission_denied: bool,
    /// Its name.
    pub name: &'a str,
}

impl<'a, B, M, R> Resource<'a, B, M, R> {
    /// An object that refers to nothing.
    pub fn new(id: Uuid, name: &'a str, body: B, metadata: Option<M>) -> Self {
        Self {
            body,
            metadata,
            resources: None,
            id,
            permission_denied: false,
            name,
        }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Page<T> {
    /// Which page, counted from 1.
    pub index: usize,
    /// How many items a page may have.
    pub max_size: usize,
    /// How many pages there are; 1 if there is no item.
    pub total_pages: usize,
    /// How many items there are on all pages.
    pub total: usize,
    /// The items of this page.
    pub items: Vec<T>,
}

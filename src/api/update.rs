//! When the pods of a server follow a new release of zenop, or their own spec.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the pods of a server are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// `OnSpecChange`, `Always` or `Manual`.
    #[serde(default)]
    pub policy: UpdatePolicy,

    /// Another value than the one acted on last changes the pods once, whatever `policy` is.
    /// Example: `"2026-11-24"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trigger: Option<String>,
}

/// What changes the pods of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdatePolicy {
    /// A change of what they are made of: image, database, `podTemplate`, and what these refer to. Another release
    /// of zenop restarts none of them; they follow it with the next such change. The default.
    #[default]
    OnSpecChange,
    /// That, and another release of zenop.
    Always,
    /// `trigger` alone: neither another spec nor another release. A migration of the database waits too.
    Manual,
}

//! Projects and stacks, as far as a client needs them to begin (zenml-wire 11.4).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Id, Resource, Time, account::User};

/// A project.
pub type Project<'a> = Resource<'a, ProjectBody<'a>, ProjectMetadata<'a>>;

/// What every answer shows of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectBody<'a> {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// A name for people.
    pub display_name: &'a str,
}

/// What a hydrated answer shows of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectMetadata<'a> {
    /// What it is for.
    pub description: &'a str,
    /// What clients keep about it.
    pub project_metadata: Map<String, Value>,
}

/// A stack.
pub type Stack<'a> = Resource<'a, StackBody, StackMetadata<'a>, StackResources<'a>>;

/// What every answer shows of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackBody {
    /// When it was made.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
    /// Whose it is; the server's own has no owner.
    #[schemars(with = "Option<Id>")]
    pub user_id: Option<Uuid>,
}

/// What a hydrated answer shows of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackMetadata<'a> {
    /// Its components by type.
    pub components: Map<String, Value>,
    /// What it is for.
    pub description: &'a str,
    /// The file that it was made from.
    pub stack_spec_path: Option<&'a str>,
    /// Environment of what runs on it.
    pub environment: Map<String, Value>,
    /// Secrets of what runs on it.
    #[schemars(with = "Vec<Id>")]
    pub secrets: Vec<Uuid>,
    /// Its labels.
    pub labels: Map<String, Value>,
}

/// What a stack refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackResources<'a> {
    /// Whose it is.
    pub user: Option<User<'a>>,
}

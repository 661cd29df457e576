//! One project and one stack, both `default`: what a client must see to begin (zenml-wire.md
//! 11.4). They stand in until a ZenML server behind us is asked instead.

use axum::{extract::State, http::Uri, response::Response};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::{json, query};
use crate::{
    http::{
        App, Refusal,
        extract::{Hydrate, Identified, NameOrId, Named},
        list::{self, Column, Filter, Value},
    },
    store::Settings,
    wire::{
        Time,
        stack::{
            Project, ProjectBody, ProjectMetadata, Stack, StackBody, StackMetadata, StackResources,
        },
    },
};

const NAME: &str = "default";

/// A thing that exists because the server does.
struct Constant {
    id: Uuid,
    created: Timestamp,
}

impl Constant {
    /// Its id is made of the server's, so it stays what clients have stored.
    fn of(settings: &Settings, kind: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(settings.id.as_bytes())
            .chain_update(kind)
            .finalize();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash).for_each(|(byte, of)| *byte = of);
        Self {
            id: Builder::from_custom_bytes(bytes).into_uuid(),
            created: settings.created,
        }
    }

    fn project(settings: &Settings) -> Self {
        Self::of(settings, "project")
    }

    fn stack(settings: &Settings) -> Self {
        Self::of(settings, "stack")
    }
}

const PROJECT_COLUMNS: &[Column<Constant>] = &[
    Column::id("id", |c, _| Value::Id(c.id)),
    Column::time("created", |c, _| Value::Time(c.created)),
    Column::time("updated", |c, _| Value::Time(c.created)),
    Column::text("name", |_, _| Value::Text(NAME)),
    Column::text("display_name", |_, _| Value::Text(NAME)),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn project_filters() -> Vec<Filter> {
    list::filters(PROJECT_COLUMNS)
}

const STACK_COLUMNS: &[Column<Constant>] = &[
    Column::id("id", |c, _| Value::Id(c.id)),
    Column::time("created", |c, _| Value::Time(c.created)),
    Column::time("updated", |c, _| Value::Time(c.created)),
    Column::text("name", |_, _| Value::Text(NAME)),
    Column::text("description", |_, _| Value::Text("")),
    Column::id("user", |_, _| Value::Null),
    Column::id("component_id", |_, _| Value::Null),
    Column::id("component", |_, _| Value::Null),
];

/// What a list of them may be filtered and sorted by.
pub(in crate::http) fn stack_filters() -> Vec<Filter> {
    list::filters(STACK_COLUMNS)
}

/// `GET /projects`.
pub(in crate::http) async fn projects(
    State(app): State<App>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = query(&uri, PROJECT_COLUMNS)?;
    let all = [Constant::project(&app.view()?.settings)];
    json(&query.page(all.iter(), app.now(), |p| {
        rendered_project(p, query.hydrate)
    })?)
}

/// `GET /projects/{name or id}`.
pub(in crate::http) async fn project(
    State(app): State<App>,
    Named(wanted): Named,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let project = Constant::project(&app.view()?.settings);
    let found = match &wanted {
        NameOrId::Id(id) => *id == project.id,
        NameOrId::Name(name) => name == NAME,
    };
    match found {
        true => json(&rendered_project(&project, hydrate)),
        false => Err(Refusal::NoProject(wanted.to_string())),
    }
}

/// `GET /stacks`.
pub(in crate::http) async fn stacks(State(app): State<App>, uri: Uri) -> Result<Response, Refusal> {
    let query = query(&uri, STACK_COLUMNS)?;
    let all = [Constant::stack(&app.view()?.settings)];
    json(&query.page(all.iter(), app.now(), |s| rendered_stack(s, query.hydrate))?)
}

/// `GET /stacks/{id}`: by id only, as ZenML has it.
pub(in crate::http) async fn stack(
    State(app): State<App>,
    Identified(id): Identified,
    Hydrate(hydrate): Hydrate,
) -> Result<Response, Refusal> {
    let stack = Constant::stack(&app.view()?.settings);
    match stack.id == id {
        true => json(&rendered_stack(&stack, hydrate)),
        false => Err(Refusal::NoStack(id)),
    }
}

fn rendered_project(project: &Constant, hydrate: bool) -> Project<'static> {
    let body = ProjectBody {
        created: Time(project.created),
        updated: Time(project.created),
        display_name: NAME,
    };
    let metadata = hydrate.then(ProjectMetadata::default);
    Project::new(project.id, NAME, body, metadata)
}

fn rendered_stack(stack: &Constant, hydrate: bool) -> Stack<'static> {
    let body = StackBody {
        created: Time(stack.created),
        updated: Time(stack.created),
        user_id: None,
    };
    let metadata = hydrate.then(StackMetadata::default);
    let mut shown = Stack::new(stack.id, NAME, body, metadata);
    shown.resources = Some(StackResources::default());
    shown
}

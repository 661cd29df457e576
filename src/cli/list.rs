//! `list`.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Session,
    arguments::{ListArguments, ListForm},
    cluster::{Column, Row, Selection, Table},
    failure::Failure,
    noun::Noun,
    output::full_name,
    span::relative,
    table::aligned,
};

/// Shows the objects of a kind.
///
/// # Errors
/// If they may not be listed.
pub async fn list<K: Noun>(
    session: &Session,
    arguments: &ListArguments,
    field: Option<String>,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let wanted = Selection {
        all_namespaces: arguments.all_namespaces,
        labels: arguments.selector.clone(),
        field,
    };
    let out = session.out;
    let wide = match arguments.output {
        ListForm::Table => false,
        ListForm::Wide => true,
        form => {
            let objects = cluster.list::<K>(&wanted).await?;
            return match form {
                ListForm::Name if objects.is_empty() => Ok(()),
                ListForm::Name => {
                    out.text(&objects.iter().map(full_name).collect::<Vec<_>>().join("\n"))
                }
                form => out.list(form == ListForm::Yaml, &objects),
            };
        }
    };
    let table = cluster.table::<K>(&wanted).await?;
    if table.rows.is_empty() {
        let place = match arguments.all_namespaces {
            true => "any namespace".to_owned(),
            false => format!("namespace {}", cluster.namespace),
        };
        out.note(&format!("No {} found in {place}.", K::plural(&())));
        return Ok(());
    }
    let rows = rows(&table, wide, arguments.all_namespaces, (cluster.now)());
    out.prose(&aligned(&rows, 0))
}

/// The lines of a table, its heads first. Times become distances from now.
fn rows(table: &Table, wide: bool, namespaces: bool, now: Timestamp) -> Vec<Vec<String>> {
    let shown = |column: &&Column| wide || column.priority == 0;
    let mut heads: Vec<_> = table
        .column_definitions
        .iter()
        .filter(shown)
        .map(|column| column.name.to_uppercase())
        .collect();
    if namespaces {
        heads.insert(0, "NAMESPACE".into());
    }
    let line = |row: &Row| {
        let cells = table.column_definitions.iter().zip(&row.cells);
        let mut cells: Vec<_> = cells
            .filter(|(column, _)| shown(column))
            .map(|(_, value)| cell(value, now))
            .collect();
        if namespaces {
            cells.insert(0, row.object.metadata.namespace.clone().unwrap_or_default());
        }
        cells
    };
    std::iter::once(heads)
        .chain(table.rows.iter().map(line))
        .collect()
}

fn cell(value: &Value, now: Timestamp) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(at) => relative(at, now),
            Err(_) => text.clone(),
        },
        other => other.to_string(),
    }
}

//! An object in words: its fields, its conditions, what happened to it lately.

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Event,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    Session,
    arguments::ObjectForm,
    cluster::{Cluster, Found},
    failure::Failure,
    noun::{Names, Noun, each},
    owner::owner,
    span::relative,
    table::aligned,
};

/// How many events are told.
const EVENTS: usize = 10;

/// `describe`.
#[derive(Clone, Debug, Args)]
pub struct DescribeArguments {
    #[command(flatten)]
    pub names: Names,

    /// Show the objects instead of a description.
    #[arg(short, long, value_enum)]
    pub output: Option<ObjectForm>,
}

/// Tells all of some objects.
///
/// # Errors
/// If one is not there; the others are told.
pub async fn describe<K: Noun>(
    session: &Session,
    arguments: &DescribeArguments,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    each(session, &arguments.names, async |name| {
        let found = cluster.read::<K>(name).await?;
        match arguments.output {
            Some(form) => session.out.object(form, &found.raw),
            None => {
                let text = page(&cluster, &found).await;
                session.out.prose(&text)
            }
        }
    })
    .await
}

/// A description that grows line by line.
pub struct Page {
    text: String,
    fields: Vec<Vec<String>>,
    /// What time it is.
    pub now: Timestamp,
}

impl Page {
    fn new(now: Timestamp) -> Self {
        Self {
            text: String::new(),
            fields: Vec::new(),
            now,
        }
    }

    /// A line `name: value`.
    pub fn field(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push(vec![format!("{name}:"), value.into()]);
    }

    /// The same of what may be absent.
    pub fn optional(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value.map(Into::into).filter(|value| !value.is_empty()) {
            self.field(name, value);
        }
    }

    /// The same of a time: `in 29d (2026-12-21T10:00:00Z)`.
    pub fn time(&mut self, name: &str, at: Option<&Time>) {
        let value = at.map(|at| format!("{} ({})", relative(at.0, self.now), at.0));
        self.optional(name, value);
    }

    /// A table under a head; nothing if it has no rows.
    pub fn table(&mut self, name: &str, heads: &[&str], rows: Vec<Vec<String>>) {
        self.flush();
        if rows.is_empty() {
            return;
        }
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        let lines: Vec<_> = std::iter::once(heads).chain(rows).collect();
        self.text.push_str(&format!("{name}:\n"));
        self.text.push_str(&aligned(&lines, 2));
    }

    fn flush(&mut self) {
        self.text
            .push_str(&aligned(&std::mem::take(&mut self.fields), 0));
    }
}

/// All of an object.
async fn page<K: Noun>(cluster: &Cluster, found: &Found<K>) -> String {
    let mut page = Page::new((cluster.now)());
    let object = &found.typed;
    page.field("Name", object.name_any());
    page.field("Namespace", object.namespace().unwrap_or_default());
    page.optional("Managed by", owner(object.meta()).map(|o| o.to_string()));
    page.time("Created", object.creation_timestamp().as_ref());
    page.time("Being deleted", object.meta().deletion_timestamp.as_ref());
    object.tell(&mut page);
    if !object.is_observed() {
        page.field(
            "Operator",
            "has not seen the object as it is now; what follows is older",
        );
    }
    conditions(&mut page, object.conditions());
    events(&mut page, cluster, object).await;
    page.flush();
    page.text
}

fn conditions(page: &mut Page, conditions: &[Condition]) {
    let now = page.now;
    let row = |c: &Condition| {
        vec![
            c.type_.clone(),
            c.status.clone(),
            c.reason.clone(),
            relative(c.last_transition_time.0, now),
            c.message.clone(),
        ]
    };
    let rows = conditions.iter().map(row).collect();
    let heads = ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"];
    page.table("Conditions", &heads, rows);
}

/// Who may not read events sees why there are none.
async fn events<K: Noun>(page: &mut Page, cluster: &Cluster, object: &K) {
    let uid = object.uid().unwrap_or_default();
    let wanted = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let mut events = match cluster.core::<Event>().list(&wanted).await {
        Ok(events) => events.items,
        Err(error) => {
            let failure = Failure::of("reading them", &error);
            page.field("Events", failure.message);
            return;
        }
    };
    let at = |event: &Event| {
        let series = event
            .series
            .as_ref()
            .and_then(|s| s.last_observed_time.as_ref());
        let times = [series.map(|t| t.0), event.event_time.as_ref().map(|t| t.0)];
        let last = event.last_timestamp.as_ref().map(|t| t.0);
        times.into_iter().flatten().next().or(last)
    };
    events.sort_by_key(at);
    let skipped = events.len().saturating_sub(EVENTS);
    let now = page.now;
    let row = |event: &Event| {
        vec![
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            at(event).map(|at| relative(at, now)).unwrap_or_default(),
            event.message.clone().unwrap_or_default(),
        ]
    };
    let rows = events.iter().skip(skipped).map(row).collect();
    page.table("Events", &["TYPE", "REASON", "WHEN", "MESSAGE"], rows);
}

/// `yes`, `no`.
pub const fn yes_no(value: bool) -> &'static str {
    match value {
        true => "yes",
        false => "no",
    }
}

/// A value of a closed set, as manifests write it.
pub fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

//! `kubectl zen component`: stack components whose attributes may refer to secrets.

mod refs;
pub mod register;

use clap::{Args, Subcommand};

use super::{
    Session,
    arguments::ListArguments,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, word},
    failure::Failure,
    get::{self, GetArguments},
    list,
    noun::Noun,
};
use crate::api::{ReferenceStatus, ZenComponent};

/// Stack components whose attributes may refer to secrets.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List components.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen component list
  kubectl zen component list --server prod -o wide"
    )]
    List(ComponentList),

    /// Print components as they are.
    #[command(after_long_help = "\
Examples:
  kubectl zen component get tracker -o json")]
    Get(GetArguments),

    /// Tell all of some components but the values they refer to.
    #[command(after_long_help = "\
Examples:
  kubectl zen component describe tracker")]
    Describe(DescribeArguments),

    /// Tell of each reference of a component where it stands, what it leads to, and what to do.
    #[command(
        long_about = "Tell of each reference of a component where it stands, in which scope its secret \
                      was found, what it leads to, and what to do. Ends with 1 unless each leads to \
                      what it must by the validation level. No value is read.",
        after_long_help = "\
Examples:
  kubectl zen component refs tracker"
    )]
    Refs(refs::RefsArguments),

    /// Delete components.
    #[command(after_long_help = "\
Examples:
  kubectl zen component delete tracker --yes")]
    Delete(DeleteArguments),
}

/// `component list`.
#[derive(Clone, Debug, Args)]
pub struct ComponentList {
    #[command(flatten)]
    list: ListArguments,

    /// Only those of this ZenServer.
    #[arg(long)]
    server: Option<String>,
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// As each command says.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => {
                let server = arguments.server.as_ref();
                let field = server.map(|name| format!("spec.serverRef.name={name}"));
                list::list::<ZenComponent>(session, &arguments.list, field).await
            }
            Self::Get(arguments) => get::get::<ZenComponent>(session, arguments).await,
            Self::Describe(arguments) => {
                describe::describe::<ZenComponent>(session, arguments).await
            }
            Self::Refs(arguments) => arguments.run(session).await,
            Self::Delete(arguments) => delete::delete::<ZenComponent>(session, arguments).await,
        }
    }
}

/// The reference as it is written; as far as it can be read.
fn written(reference: &ReferenceStatus) -> String {
    match reference.secret.is_empty() {
        true => "-".to_owned(),
        false => format!("{{{{{}.{}}}}}", reference.secret, reference.key),
    }
}

impl Noun for ZenComponent {
    const NOUN: &'static str = "component";
    const DELETED: &'static str = "The Secret with its resolved attributes goes too.";

    fn is_active(&self) -> bool {
        true
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Server", &*spec.server_ref.name);
        page.field("Name in ZenML", self.zenml_name());
        page.field("Type", word(spec.component_type));
        page.field("Flavor", &*spec.flavor);
        let owner = spec.owner_ref.as_ref();
        page.optional(
            "Owner",
            owner.map(|o| format!("{} {}", word(o.kind), o.name)),
        );
        page.optional("Validation level", spec.validation_level.map(word));
        let Some(status) = &self.status else { return };
        page.optional("Secret", status.secret_name.as_deref());
        let rows = status.references.iter().map(|reference| {
            vec![
                reference.path.clone(),
                written(reference),
                reference.scope.map_or_else(|| "-".to_owned(), word),
                word(reference.state),
            ]
        });
        let heads = ["PATH", "REFERENCE", "SCOPE", "STATE"];
        page.table("References", &heads, rows.collect());
    }
}

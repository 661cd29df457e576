//! `kubectl zen component refs`.

use clap::Args;
use kube::ResourceExt;

use super::written;
use crate::{
    api::{ReferenceState, ReferenceStatus, ZenComponent, condition},
    cli::{
        Session,
        describe::word,
        failure::{Exit, Failure},
        noun::Noun,
        table::aligned,
    },
};

/// `component refs`.
#[derive(Clone, Debug, Args)]
pub struct RefsArguments {
    /// The component's name.
    name: String,
}

impl RefsArguments {
    /// Tells of each reference.
    ///
    /// # Errors
    /// If the component is not there, was not judged as it is now, or one leads to nothing and must.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let found = cluster.read::<ZenComponent>(&self.name).await?.typed;
        let title = cluster.title::<ZenComponent>(&self.name);
        if !found.is_observed() {
            let message = format!(
                "{title} was not judged yet as it is now; is zenop running? See kubectl describe \
                 zencomponent {}",
                self.name
            );
            return Err(Failure::new(Exit::TimedOut, message));
        }
        let judged = found.condition(condition::REFERENCES_RESOLVED);
        let references = found.status.iter().flat_map(|status| &status.references);
        let rows: Vec<_> = references.map(|one| row(&found, one)).collect();
        match rows.is_empty() {
            true => session.out.note(&format!("{title} refers to no secret.")),
            false => {
                let heads = ["PATH", "REFERENCE", "SCOPE", "STATE", "REMEDY"];
                let heads = heads.iter().map(|head| (*head).to_owned()).collect();
                let lines: Vec<_> = std::iter::once(heads).chain(rows).collect();
                session.out.prose(&aligned(&lines, 0))?;
            }
        }
        match judged {
            Some(judged) if judged.status == "True" => Ok(()),
            Some(judged) => Err(Failure::new(
                Exit::Failed,
                format!("not resolved: {}", judged.message),
            )),
            None => Err(Failure::new(
                Exit::Failed,
                found
                    .condition(condition::READY)
                    .map_or_else(String::new, |ready| ready.message.clone()),
            )),
        }
    }
}

fn row(of: &ZenComponent, one: &ReferenceStatus) -> Vec<String> {
    vec![
        one.path.clone(),
        written(one),
        one.scope.map_or_else(|| "-".to_owned(), word),
        word(one.state),
        remedy(of, one),
    ]
}

fn remedy(of: &ZenComponent, one: &ReferenceStatus) -> String {
    let register = || format!("kubectl zen stack register-secrets {}", of.name_any());
    match one.state {
        ReferenceState::Resolved => "-".to_owned(),
        ReferenceState::Unchecked => {
            "needed by pipelines, though not by this validation level".to_owned()
        }
        ReferenceState::SecretMissing | ReferenceState::KeyMissing => register(),
        ReferenceState::Malformed => {
            let fault = one.fault.as_deref().unwrap_or_default();
            format!("correct the text: {fault}")
        }
    }
}

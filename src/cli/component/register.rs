//! `kubectl zen stack register-secrets`: asks for each value that components lack, and seals it.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use kube::ResourceExt;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    api::{OwnerRef, ReferenceState, SecretScope, ZenComponent, ZenSecret, is_object_name},
    auth::sealed::{MOST_VALUE, Recipient},
    cli::{
        Session,
        arguments::{DryRun, WaitArguments, WriteArguments},
        change::{Change, Consent},
        cluster::{Cluster, Found, Selection, manifest},
        describe::word,
        failure::{Exit, Failure},
        noun::{Noun, report},
        secret::{Values, object, recipient, sealed},
        wait::{self, Goal},
    },
};

/// What components of a stack have in common.
#[derive(Clone, Debug, Subcommand)]
pub enum Stack {
    /// Ask for each value that components refer to and that is missing, and make the secrets.
    #[command(
        long_about = "Ask for each value that components refer to and that is missing, and make or \
                      complete the secrets, as `zenml stack register-secrets` does. What is typed is \
                      not shown; it is sealed here, so that only the server's operator can read it.",
        after_long_help = "\
Examples:
  kubectl zen stack register-secrets tracker store
  kubectl zen stack register-secrets --server prod --wait
  kubectl zen stack register-secrets tracker --values @values.yaml

where values.yaml has the references without their braces:
  mlflow-login.username: ana
  mlflow-login.password: s3cret"
    )]
    RegisterSecrets(RegisterSecrets),
}

impl Stack {
    /// Does what was asked.
    ///
    /// # Errors
    /// As each command says.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::RegisterSecrets(arguments) => arguments.run(session).await,
        }
    }
}

/// `stack register-secrets`.
#[derive(Clone, Debug, Args)]
pub struct RegisterSecrets {
    /// The components. Default: all of the server.
    #[arg(value_name = "COMPONENT")]
    names: Vec<String>,

    /// The ZenServer they belong to. Default: the only one of the namespace.
    #[arg(long)]
    server: Option<String>,

    /// Values as a JSON or YAML object of texts by `NAME.KEY`, or @FILE with one, or @- for standard
    /// input. Without it, each is asked for.
    #[arg(long, value_name = "OBJECT")]
    values: Option<String>,

    /// Do it although Flux, Argo CD or Helm manages a secret and may undo it.
    #[arg(long = "override")]
    override_owner: bool,

    #[command(flatten)]
    write: WriteArguments,

    #[command(flatten)]
    wait: WaitArguments,
}

/// A secret that lacks values, and for whom it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lack {
    /// Its name in ZenML.
    name: String,
    /// Whose alone one that is to be completed is.
    owner: Option<(String, String)>,
    /// Whether it is there, without the key.
    is_there: bool,
}

type Lacks = BTreeMap<Lack, BTreeSet<String>>;

impl RegisterSecrets {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let (server, to) = recipient(&cluster, self.server.as_deref()).await?;
        let components = self.components(&cluster, &server).await?;
        let lacks = lacks(&components)?;
        if lacks.is_empty() {
            session.out.note("No value is missing.");
            return Ok(());
        }
        let mut given = self.given()?;
        let mut all = Vec::new();
        // Nothing is written before everything is known.
        for (lack, keys) in &lacks {
            let mut values = Values::new();
            for key in keys {
                let value = self.value(session, &lack.name, key, given.as_mut())?;
                values.insert(key.clone(), value);
            }
            all.push((lack, values));
        }
        if let Some(unknown) = given.iter().flat_map(BTreeMap::keys).next() {
            return Err(Failure::usage(format!(
                "{unknown} is given, and no component lacks it"
            )));
        }
        let secrets = self.secrets(&cluster, &server).await?;
        for (lack, values) in all {
            match lack.is_there {
                true => {
                    let secret = holder(&secrets, lack).ok_or_else(|| gone(lack))?;
                    self.complete(session, &cluster, secret, &to, &values)
                        .await?;
                }
                false => {
                    self.create(session, &cluster, &server, lack, &to, &values)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn components(
        &self,
        cluster: &Cluster,
        server: &str,
    ) -> Result<Vec<ZenComponent>, Failure> {
        let mut found = Vec::new();
        for name in &self.names {
            let component = cluster.read::<ZenComponent>(name).await?.typed;
            if component.spec.server_ref.name != server {
                let title = cluster.title::<ZenComponent>(name);
                let other = &component.spec.server_ref.name;
                return Err(Failure::usage(format!(
                    "{title} is of ZenServer {other}, and not of {server}: say --server {other}"
                )));
            }
            found.push(component);
        }
        if self.names.is_empty() {
            for raw in cluster.list::<ZenComponent>(&of_server(server)).await? {
                found.push(cluster.understood::<ZenComponent>(raw)?.typed);
            }
        }
        match found.iter().find(|component| !component.is_observed()) {
            None => Ok(found),
            Some(one) => Err(Failure::new(
                Exit::TimedOut,
                format!(
                    "{} was not judged yet as it is now; is zenop running?",
                    cluster.title::<ZenComponent>(&one.name_any())
                ),
            )),
        }
    }

    async fn secrets(
        &self,
        cluster: &Cluster,
        server: &str,
    ) -> Result<Vec<Found<ZenSecret>>, Failure> {
        let all = cluster.list::<ZenSecret>(&of_server(server)).await?;
        all.into_iter()
            .map(|raw| cluster.understood::<ZenSecret>(raw))
            .collect()
    }

    fn given(&self) -> Result<Option<Values>, Failure> {
        self.values.as_deref().map(object).transpose()
    }

    /// A value that is given, or else asked for.
    fn value(
        &self,
        session: &Session,
        name: &str,
        key: &str,
        given: Option<&mut Values>,
    ) -> Result<Zeroizing<String>, Failure> {
        let place = format!("{name}.{key}");
        let value = match given {
            Some(given) => given.remove(&place).ok_or_else(|| {
                Failure::usage(format!(
                    "--values has no {place}, and a component refers to it"
                ))
            })?,
            None => asked(session, &place)?,
        };
        if value.len() > MOST_VALUE {
            return Err(Failure::usage(format!(
                "the value of {place} has {} bytes, and at most {MOST_VALUE} can be sealed",
                value.len()
            )));
        }
        Ok(value)
    }

    async fn create(
        &self,
        session: &Session,
        cluster: &Cluster,
        server: &str,
        lack: &Lack,
        to: &Recipient,
        values: &Values,
    ) -> Result<(), Failure> {
        let name = object_name(&lack.name);
        let mut spec = json!({
            "serverRef": {"name": server}, "data": sealed(to, &name, values)?,
        });
        if let (true, Value::Object(fields)) = (name != lack.name, &mut spec) {
            fields.insert("name".to_owned(), json!(lack.name));
        }
        let object = manifest::<ZenSecret>(&name, spec);
        let made = cluster
            .create::<ZenSecret>(object, self.write.dry_run)
            .await?;
        self.waited(session, cluster, &name).await?;
        report(session, &self.write, &made.raw, "created")
    }

    async fn complete(
        &self,
        session: &Session,
        cluster: &Cluster,
        secret: &Found<ZenSecret>,
        to: &Recipient,
        values: &Values,
    ) -> Result<(), Failure> {
        let (name, before) = (secret.typed.name_any(), &secret.typed.spec.data);
        let declared = values
            .keys()
            .find(|key| before.iter().any(|entry| entry.key == **key));
        if let Some(key) = declared {
            return Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{} declares {key}, and its value is not there yet; see kubectl zen secret \
                     describe {name}",
                    cluster.title::<ZenSecret>(&name)
                ),
            ));
        }
        let entries = before.iter().map(serde_json::to_value);
        let mut data: Vec<Value> = entries
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        data.extend(sealed(to, &name, values)?);
        let change = Change {
            patch: json!({"spec": {"data": data}}),
            file: "spec:\n  data: # see kubectl zen secret seal".to_owned(),
            consent: Consent::of(self.override_owner),
            dry: self.write.dry_run,
        };
        let unchanged = |now: &ZenSecret| match now.spec.data == *before {
            true => Ok(true),
            false => Err(Failure::new(
                Exit::Conflict,
                "somebody else changed its entries meanwhile; try again",
            )),
        };
        let (changed, _) = change.make(session, cluster, &name, unchanged).await?;
        self.waited(session, cluster, &name).await?;
        report(session, &self.write, &changed.raw, "changed")
    }

    async fn waited(
        &self,
        session: &Session,
        cluster: &Cluster,
        name: &str,
    ) -> Result<(), Failure> {
        if self.wait.wait && self.write.dry_run == DryRun::None {
            let goal = Goal::ready();
            wait::until::<ZenSecret>(session, cluster, name, &goal, &self.wait.patience).await?;
        }
        Ok(())
    }
}

fn of_server(server: &str) -> Selection {
    Selection {
        field: Some(format!("spec.serverRef.name={server}")),
        ..Selection::default()
    }
}

/// What components lack, by secret.
fn lacks(components: &[ZenComponent]) -> Result<Lacks, Failure> {
    let mut lacks = Lacks::new();
    for component in components {
        for one in component.status.iter().flat_map(|s| &s.references) {
            let is_there = one.scope.is_some();
            match one.state {
                ReferenceState::Resolved => continue,
                ReferenceState::Malformed => {
                    return Err(Failure::new(
                        Exit::Failed,
                        format!(
                            "{} of component {} is no reference that can be read: {}",
                            one.path,
                            component.name_any(),
                            one.fault.as_deref().unwrap_or_default()
                        ),
                    ));
                }
                ReferenceState::SecretMissing
                | ReferenceState::KeyMissing
                | ReferenceState::Unchecked => {}
            }
            let private = one.scope == Some(SecretScope::User);
            let owner = component.spec.owner_ref.as_ref().filter(|_| private);
            let lack = Lack {
                name: one.secret.clone(),
                owner: owner.map(owned),
                is_there,
            };
            lacks.entry(lack).or_default().insert(one.key.clone());
        }
    }
    Ok(lacks)
}

fn owned(owner: &OwnerRef) -> (String, String) {
    (word(owner.kind), owner.name.clone())
}

/// The secret that is to be completed: the oldest of its name and scope.
fn holder<'a>(secrets: &'a [Found<ZenSecret>], lack: &Lack) -> Option<&'a Found<ZenSecret>> {
    let is = |secret: &&Found<ZenSecret>| {
        let spec = &secret.typed.spec;
        let private = spec.scope == SecretScope::User;
        let owner = spec.owner_ref.as_ref().filter(|_| private).map(owned);
        secret.typed.zenml_name() == lack.name && owner == lack.owner
    };
    let age = |secret: &&Found<ZenSecret>| {
        (
            secret.typed.creation_timestamp(),
            secret.typed.uid().unwrap_or_default(),
        )
    };
    secrets.iter().filter(is).min_by_key(age)
}

fn gone(lack: &Lack) -> Failure {
    let message = format!("the secret {} was there and is gone; try again", lack.name);
    Failure::new(Exit::Conflict, message)
}

fn asked(session: &Session, place: &str) -> Result<Zeroizing<String>, Failure> {
    loop {
        let value = session.out.hidden(&format!("Value of {place}: "))?;
        if !value.is_empty() {
            return Ok(value);
        }
    }
}

/// What the object of a secret may be called.
fn object_name(name: &str) -> String {
    if is_object_name(name) {
        return name.to_owned();
    }
    let letters = name.to_lowercase();
    let letters = letters.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c,
        false => '-',
    });
    let text: String = letters.take(200).collect();
    match text.trim_matches('-') {
        "" => "secret".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_gets_a_name_that_it_may_have() {
        let cases = [
            ("mlflow-login", "mlflow-login"),
            ("My_Secret", "my-secret"),
            ("größe", "gr--e"),
            ("___", "secret"),
        ];
        for (name, object) in cases {
            assert_eq!(object_name(name), object);
            assert!(is_object_name(object), "{object}");
        }
    }

    #[test]
    fn what_is_lacked_is_asked_for_once() {
        let component = |name: &str, references: Value| -> ZenComponent {
            serde_json::from_value(json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenComponent",
                "metadata": {"name": name},
                "spec": {
                    "serverRef": {"name": "prod"}, "type": "alerter", "flavor": "slack",
                    "ownerRef": {"name": "ana"},
                },
                "status": {"references": references},
            }))
            .unwrap()
        };
        let reference = |key: &str, state: &str, scope: Value| json!({"path": "/a", "secret": "login", "key": key, "state": state, "scope": scope});
        let missing = reference("user", "SecretMissing", Value::Null);
        let shared = reference("pass", "KeyMissing", json!("Workspace"));
        let own = reference("pass", "Unchecked", json!("User"));
        let fine = reference("x", "Resolved", json!("User"));
        let all = [
            component("one", json!([missing, shared, own, fine])),
            component("two", json!([missing])),
        ];
        let found: Vec<_> = lacks(&all)
            .unwrap()
            .into_iter()
            .map(|(lack, keys)| {
                let keys: Vec<_> = keys.into_iter().collect();
                (lack.is_there, lack.owner.is_some(), keys.join(","))
            })
            .collect();
        let wanted = [
            (false, false, "user".to_owned()),
            (true, false, "pass".to_owned()),
            (true, true, "pass".to_owned()),
        ];
        assert_eq!(found, wanted);
        let bad = json!({"path": "/a", "state": "Malformed", "fault": "column 1: no"});
        let refused = lacks(&[component("three", json!([bad]))]).unwrap_err();
        assert!(refused.message.contains("column 1"), "{refused}");
    }
}

//! `kubectl zen key rotate`.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    api::{SourceType, ZenAPIKey, annotation},
    cli::{
        Session,
        arguments::{DryRun, WaitArguments, WriteArguments},
        change::{Change, Consent},
        failure::{Exit, Failure},
        noun::report,
        span::Span,
        wait::{self, Goal},
    },
};

/// Which key, and how.
#[derive(Clone, Debug, Args)]
pub struct KeyRotate {
    /// The key's name.
    name: String,

    /// How long the old key is still accepted: 2h; 0s refuses it at once. Stays set. Default: what
    /// the key says, which is 1h if it says nothing.
    #[arg(long, value_name = "TIME")]
    retain: Option<Span>,

    /// Do it although Flux, Argo CD or Helm manages the key and may undo it.
    #[arg(long = "override")]
    override_owner: bool,

    #[command(flatten)]
    write: WriteArguments,

    #[command(flatten)]
    wait: WaitArguments,
}

impl KeyRotate {
    /// Asks for a rotation, and waits for it if that was asked for.
    ///
    /// # Errors
    /// If the key cannot be rotated here, is managed elsewhere, or is not replaced in time.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let change = self.change((cluster.now)());
        let trigger = trigger_of(&change.patch);
        let (found, _) = change
            .make(session, &cluster, &self.name, |key: &ZenAPIKey| {
                rotatable(&cluster.title::<ZenAPIKey>(&self.name), key).map(|()| true)
            })
            .await?;
        let delay = delayed(&found.typed);
        if let Some(reason) = &delay {
            session.out.note(&format!("warning: {reason}"));
        }
        if !self.wait.wait || self.write.dry_run != DryRun::None {
            return report(session, &self.write, &found.raw, "rotation requested");
        }
        let handled = move |key: &ZenAPIKey| {
            let status = key.status.as_ref();
            status.and_then(|s| s.last_handled_trigger.as_deref()) == Some(&*trigger)
        };
        let goal = Goal::Ready("rotated".to_owned(), Box::new(handled));
        let patience = &self.wait.patience;
        wait::until::<ZenAPIKey>(session, &cluster, &self.name, &goal, patience)
            .await
            .map_err(|failure| match (failure.exit, delay) {
                (Exit::TimedOut, Some(reason)) => {
                    Failure::new(Exit::TimedOut, format!("{failure}\n{reason}"))
                }
                _ => failure,
            })?;
        let found = cluster.read::<ZenAPIKey>(&self.name).await?;
        let status = found.typed.status.as_ref();
        let generation = status.and_then(|s| s.generation).unwrap_or_default();
        let done = format!("rotated: generation {generation} is in its Secret");
        report(session, &self.write, &found.raw, &done)
    }

    fn change(&self, now: Timestamp) -> Change {
        // Milliseconds tell two rotations apart; more is noise in a file.
        let trigger = format!("{now:.3}");
        let mut file = format!("spec:\n  rotation:\n    trigger: {trigger:?}");
        let mut rotation = json!({"trigger": trigger});
        if let Some(retain) = self.retain {
            file.push_str(&format!("\n    retainFor: {retain}"));
            if let Some(fields) = rotation.as_object_mut() {
                fields.insert("retainFor".into(), retain.to_string().into());
            }
        }
        Change {
            patch: json!({"spec": {"rotation": rotation}}),
            file,
            consent: Consent::of(self.override_owner),
            dry: self.write.dry_run,
        }
    }
}

fn trigger_of(patch: &Value) -> String {
    let trigger = patch.pointer("/spec/rotation/trigger");
    trigger
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Keys that were made elsewhere are replaced where they were made.
fn rotatable(title: &str, key: &ZenAPIKey) -> Result<(), Failure> {
    let source = &key.spec.source;
    let instead = match (&source.source_type, &source.value_from) {
        (SourceType::Generated, _) => return Ok(()),
        (SourceType::Verifier, _) => format!(
            "only its hash is known here (source.type Verifier). Make a new key with `kubectl zen \
             key new --offline --service-account {}`, and hand it out; then deactivate this one",
            key.spec.service_account_ref.name
        ),
        (SourceType::ValueFrom, from) => {
            let place = from.as_ref().map_or_else(String::new, |from| {
                let of = &from.secret_key_ref;
                format!(" entry {} of Secret {}", of.key, of.name)
            });
            format!(
                "it comes from{place} (source.type ValueFrom). Have the tool that keeps that \
                 Secret write a new key; it is rotated within a minute"
            )
        }
    };
    let message = format!("{title} cannot be rotated here: {instead}");
    Err(Failure::new(Exit::Conflict, message))
}

/// Why it may take a while.
fn delayed(key: &ZenAPIKey) -> Option<String> {
    let name = key.name_any();
    let is_set = |name| key.annotations().get(name).is_some_and(|v| v == "true");
    if is_set(annotation::PAUSED) {
        let paused = annotation::PAUSED;
        return Some(format!(
            "{name} is paused; it is rotated once its annotation {paused} is removed"
        ));
    }
    let waits = !key.spec.rotation.windows.is_empty() && !is_set(annotation::FORCE);
    waits.then(|| {
        format!(
            "{name} is rotated in its next window (spec.rotation.windows); to do it now: kubectl \
             annotate zenapikey {name} {}=true",
            annotation::FORCE
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(spec: Value) -> ZenAPIKey {
        let mut key = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
            "metadata": {"name": "main"}, "spec": spec,
        });
        key["spec"]["serviceAccountRef"] = json!({"name": "ci"});
        serde_json::from_value(key).unwrap()
    }

    #[test]
    fn keys_made_elsewhere_are_rotated_elsewhere() {
        rotatable("it", &key(json!({}))).unwrap();
        let verifier = json!({"source": {"type": "Verifier"}});
        let said = rotatable("it", &key(verifier)).unwrap_err().message;
        assert!(
            said.contains("key new --offline --service-account ci"),
            "{said}"
        );
        let from = json!({"source": {"type": "ValueFrom", "valueFrom": {
            "secretKeyRef": {"name": "vault", "key": "api-key"}}}});
        let said = rotatable("it", &key(from)).unwrap_err().message;
        assert!(said.contains("entry api-key of Secret vault"), "{said}");
    }

    #[test]
    fn who_must_wait_is_told() {
        assert_eq!(delayed(&key(json!({}))), None);
        let window = json!({"rotation": {"windows": [{"start": "09:00", "end": "16:00"}]}});
        let mut key = key(window);
        assert!(delayed(&key).unwrap().contains("zenop.dev/force=true"));
        key.annotations_mut()
            .insert("zenop.dev/force".into(), "true".into());
        assert_eq!(delayed(&key), None);
        key.annotations_mut()
            .insert("zenop.dev/paused".into(), "true".into());
        assert!(delayed(&key).unwrap().contains("paused"));
    }
}

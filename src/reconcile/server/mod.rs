//! ZenServer: the auth Secret, made once, and the pods with all that they need.
//!
//! It promises: pepper and signing keys are made once, and never again while status remembers
//! them; pods run under the restricted Pod Security Standard, with rights on this namespace's
//! identities and their own two Secrets only.

mod children;

use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, core::ApiResource};

use self::children::{Parts, auth_secret_resource, resources};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    foreign::Claim,
    plan::{Child, Entries, Fact, Live, Note, Plan, Verdict},
};
use crate::{
    api::{AuthScheme, AuthSecretStatus, ZenServer, ZenServerStatus, condition, reason},
    auth::keyring::Keyring,
};

/// What is set for all servers of an operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the pods: the operator's own.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// The release of the operator.
    pub version: String,
}

/// What a decision about a server needs.
#[derive(Debug)]
pub struct Observed {
    auth_secret: Option<Live>,
    passwords: Option<Live>,
    /// Users who are no more, by their entries among the passwords.
    forgotten: Vec<String>,
    rest: Vec<(ApiResource, Option<Live>)>,
}

/// A server that can be set up.
#[derive(Debug)]
pub struct Valid {
    server: Arc<ZenServer>,
    settings: Settings,
    auth_secret: Option<Live>,
    passwords: Option<Live>,
    forgotten: Vec<String>,
    recorded: Option<AuthSecretStatus>,
    rest: Vec<(ApiResource, Option<Live>)>,
}

impl Reconciled for ZenServer {
    type State = ZenServerStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = Settings;

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let secret = auth_secret_resource();
        let auth_secret = read
            .live(&secret, &namespace, &self.auth_secret_name())
            .await?;
        let passwords = read
            .live(&secret, &namespace, &self.passwords_secret_name())
            .await?;
        let mut rest = Vec::new();
        for resource in resources() {
            let live = read.live(&resource, &namespace, &name).await?;
            rest.push((resource, live));
        }
        let forgotten = match &passwords {
            Some(passwords) => read.forgotten_users(self, passwords).await?,
            None => Vec::new(),
        };
        Ok(Observed {
            auth_secret,
            passwords,
            forgotten,
            rest,
        })
    }

    fn validate(
        &self,
        seen: Observed,
        settings: &Settings,
        _: Timestamp,
    ) -> Result<Valid, Invalid> {
        let uid = self.uid().unwrap_or_default();
        let name = self.name_any();
        let others = seen
            .rest
            .iter()
            .map(|(resource, live)| (resource, name.as_str(), live));
        let kind = auth_secret_resource();
        let secrets = [
            (&kind, &*self.auth_secret_name(), &seen.auth_secret),
            (&kind, &*self.passwords_secret_name(), &seen.passwords),
        ];
        let claim = Claim {
            kind: "ZenServer",
            name: &self.name_any(),
            uid: &uid,
            remedy: "make this server under another name",
        };
        for (resource, name, live) in secrets.into_iter().chain(others) {
            claim.check(&resource.kind, name, live.as_ref())?;
        }
        let recorded = self.status.as_ref().and_then(|s| s.auth_secret.clone());
        check_auth_secret(
            &self.auth_secret_name(),
            recorded.as_ref(),
            seen.auth_secret.as_ref(),
        )?;
        Ok(Valid {
            server: Arc::new(self.clone()),
            settings: settings.clone(),
            auth_secret: seen.auth_secret,
            passwords: seen.passwords,
            forgotten: seen.forgotten,
            recorded,
            rest: seen.rest,
        })
    }

    fn plan(valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenServerStatus> {
        let auth = valid.auth_secret(fresh);
        let parts = Parts {
            server: &valid.server,
            settings: &valid.settings,
        };
        let status = valid.status(
            &parts,
            Some(AuthSecretStatus {
                confirmed: true,
                ..auth.status.clone()
            }),
        );
        let pods = Pods::of(&valid);
        let entries = valid.without_forgotten();
        let passwords = valid.server.passwords_secret_name();
        let passwords = children::passwords_secret(&passwords, valid.passwords);
        let mut children = vec![auth.child, passwords];
        for (resource, live) in valid.rest {
            let body = parts.body(&resource.kind);
            let name = valid.server.name_any();
            children.push(Child {
                resource,
                name,
                body,
                live,
                create_only: false,
                adopts: false,
            });
        }
        let insecure = insecure(&valid.server);
        // Once for each change of the spec.
        let told = insecure.as_ref().filter(|_| valid.server.is_changed());
        let told = told.map(told_insecure);
        Plan {
            record: auth.is_new.then(|| ZenServerStatus {
                auth_secret: Some(auth.status),
                ..valid.server.status.clone().unwrap_or_default()
            }),
            children,
            entries,
            prune: Vec::new(),
            restarts: Vec::new(),
            verdict: pods.verdict(&valid.server.name_any()),
            facts: std::iter::once(pods.available()).chain(insecure).collect(),
            notes: auth
                .is_new
                .then(made_auth_secret)
                .into_iter()
                .chain(told)
                .collect(),
            deadline: None,
            status,
        }
    }
}

/// What `allowInsecure` had to be set for.
fn insecure(server: &ZenServer) -> Option<Fact> {
    let open = server.spec.auth.scheme == AuthScheme::NoAuth;
    open.then(|| Fact {
        condition: condition::INSECURE,
        holds: true,
        reason: reason::NO_AUTHENTICATION,
        message: "auth.scheme is NoAuth: whoever reaches the server is the ZenUser of the name \
                  \"default\"; set another scheme unless nobody else can reach it"
            .into(),
    })
}

fn told_insecure(fact: &Fact) -> Note {
    Note {
        warning: true,
        reason: fact.reason,
        action: "Serve",
        message: fact.message.clone(),
    }
}

fn made_auth_secret() -> Note {
    Note {
        warning: false,
        reason: "AuthSecretMade",
        action: "Create",
        message: "made pepper and signing key; back up this Secret, it is never made again".into(),
    }
}

/// A Secret that status remembers and that is gone or another one is never made anew: every key
/// and token would die. One that status does not know was not made by us, whatever it says.
fn check_auth_secret(
    name: &str,
    recorded: Option<&AuthSecretStatus>,
    live: Option<&Live>,
) -> Result<(), Invalid> {
    let stalled = |reason, message: String| {
        let verdict = Verdict::Stalled { reason, message };
        Err(Invalid {
            verdict,
            facts: Vec::new(),
            unwatched: true,
        })
    };
    match (recorded, live) {
        (None, None) => Ok(()),
        (Some(recorded), None) if !recorded.confirmed => Ok(()),
        (Some(_), None) => stalled(
            reason::AUTH_SECRET_LOST,
            format!(
                "Secret {name} is gone, and with it the server's pepper and signing key: restore \
                 it from a backup. To give up every key instead, delete this ZenServer and apply it again"
            ),
        ),
        (Some(recorded), Some(live)) if recorded.fingerprint == children::fingerprint(live) => {
            Ok(())
        }
        (_, Some(_)) => stalled(
            reason::AUTH_SECRET_INVALID,
            format!(
                "Secret {name} is not the one that was made for this server: restore that from a \
                 backup, or delete this one if the server never had another"
            ),
        ),
    }
}

/// The auth Secret, there or to be made.
struct AuthSecret {
    child: Child,
    status: AuthSecretStatus,
    is_new: bool,
}

impl Valid {
    /// What stood for the passwords of users who are no more goes.
    fn without_forgotten(&self) -> Option<Entries> {
        let passwords = self
            .passwords
            .as_ref()
            .filter(|_| !self.forgotten.is_empty())?;
        Some(Entries {
            secret: self.server.passwords_secret_name(),
            uid: passwords.uid.clone(),
            resource_version: passwords.resource_version.clone(),
            values: self
                .forgotten
                .iter()
                .map(|user| (user.clone(), None))
                .collect(),
        })
    }

    fn auth_secret(&self, fresh: &mut impl Fresh) -> AuthSecret {
        let name = self.server.auth_secret_name();
        if let (Some(status), Some(live)) = (&self.recorded, &self.auth_secret) {
            let child = children::auth_secret(&name, &[], Some(live.clone()));
            return AuthSecret {
                child,
                status: status.clone(),
                is_new: false,
            };
        }
        let mut random = zeroize::Zeroizing::new([0; 64]);
        fresh.fill(random.as_mut());
        let entries = Keyring::fresh_entries(&random).unwrap_or_default();
        let entry = |name: &str| entries.get(name).map(|text| text.as_bytes());
        let fingerprint = Keyring::fingerprint(entry);
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let child = children::auth_secret(&name, &entries, None);
        let status = AuthSecretStatus {
            name,
            fingerprint,
            confirmed: false,
        };
        AuthSecret {
            child,
            status,
            is_new: true,
        }
    }

    fn status(&self, parts: &Parts<'_>, auth: Option<AuthSecretStatus>) -> ZenServerStatus {
        let pods = Pods::of(self);
        let internal = parts.internal_url();
        ZenServerStatus {
            url: Some(
                self.server
                    .spec
                    .url
                    .clone()
                    .unwrap_or_else(|| internal.clone()),
            ),
            internal_url: Some(internal),
            version: Some(self.settings.version.clone()),
            replicas: pods.there,
            ready_replicas: pods.ready,
            selector: Some(parts.selector()),
            auth_secret: auth,
            ..ZenServerStatus::default()
        }
    }
}

/// What the Deployment says of its pods.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pods {
    wanted: i32,
    there: i32,
    ready: i32,
    rolled_out: bool,
}

impl Pods {
    fn of(valid: &Valid) -> Self {
        let deployment = valid
            .rest
            .iter()
            .find(|(resource, _)| resource.kind == "Deployment");
        let Some((_, Some(live))) = deployment else {
            return Self::default();
        };
        let number = |path: &str| {
            let value = live.body.pointer(path).and_then(serde_json::Value::as_i64);
            value
                .and_then(|n| i32::try_from(n).ok())
                .unwrap_or_default()
        };
        let wanted = number("/spec/replicas");
        let seen = number("/status/observedGeneration") >= number("/metadata/generation");
        Self {
            wanted,
            there: number("/status/replicas"),
            ready: number("/status/readyReplicas"),
            rolled_out: seen
                && number("/status/updatedReplicas") == wanted
                && number("/status/availableReplicas") == wanted
                && number("/status/replicas") == wanted,
        }
    }

    fn verdict(&self, name: &str) -> Verdict {
        if self.rolled_out {
            let message = match self.wanted {
                0 => "scaled to zero".to_owned(),
                n => format!("serving with {n} of {n} pods"),
            };
            return Verdict::Ready { message };
        }
        let message = format!(
            "{} of {} pods are ready and up to date; see kubectl describe pods -l app.kubernetes.io/instance={name}",
            self.ready, self.wanted
        );
        Verdict::Waiting {
            reason: reason::PODS_NOT_READY,
            message,
        }
    }

    fn available(&self) -> Fact {
        let (holds, reason) = match self.ready {
            0 => (false, reason::PODS_NOT_READY),
            _ => (true, condition::AVAILABLE),
        };
        let message = format!("{} pods serve", self.ready);
        Fact {
            condition: condition::AVAILABLE,
            holds,
            reason,
            message,
        }
    }
}

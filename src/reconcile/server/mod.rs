//! ZenServer: the auth Secret, made once, and the pods with all that they need.
//!
//! It promises: the pepper is made once, and never again while status remembers it; keys that sign
//! tokens are rotated without a token that is refused for it; so are those that values are sealed for,
//! and none of them is ever deleted; pods run under the restricted Pod
//! Security Standard, with rights on this namespace's identities and their own two Secrets only.

mod children;
mod database;
mod environment;
mod front;
mod kept;
mod migration;
mod mounts;
mod overlay;
pub mod readable;
mod revision;
mod sealing;
mod signing;
mod surroundings;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::ApiResource};
use zeroize::Zeroizing;

use self::{
    children::{AuthSecret, Parts, auth_secret_resource, resources},
    environment::{Environment, Making},
    migration::{Migration, Situation as Migrating},
    mounts::Mounts,
    revision::Revision,
    sealing::Kept,
    signing::{Situation, Turn},
    surroundings::Surroundings,
};
use super::{
    Fresh, Reader, Reconciled,
    apply::{Owner, stays},
    error::{CallError, Invalid},
    foreign::Claim,
    plan::{Child, Entries, Fact, Live, Note, Plan, Verdict},
    references::{Delivered, Leads, delivered},
};
use crate::{
    api::{
        AuthScheme, AuthSecretStatus, LocalRef, ZenServer, ZenServerStatus, condition, label,
        reason, whole_seconds,
    },
    auth::{keyring::Keyring, keyset::Keyset},
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
    /// Whether somebody said that the API server encrypts Secrets where it stores them.
    pub encrypted_at_rest: bool,
}

/// What a decision about a server needs.
#[derive(Debug)]
pub struct Observed {
    auth_secret: Option<Live>,
    kept: Option<Live>,
    passwords: Option<Live>,
    sealing: Option<Live>,
    environment: Option<Live>,
    volume: Option<Live>,
    migration: Option<Live>,
    /// Of the server and its migration, while the database does not fit.
    pods: Vec<Live>,
    /// What the environment refers to.
    leads: Leads,
    values: Delivered,
    mounts: Mounts,
    /// Read where there is an environment to be made.
    keyring: Option<Arc<Keyring>>,
    /// Users who are no more, by their entries among the passwords.
    forgotten: Vec<String>,
    client_secret: Option<Live>,
    rest: Vec<(ApiResource, Option<Live>)>,
    around: Surroundings,
}

/// A server that can be set up. Not `Debug`: it holds signing keys.
pub struct Valid {
    server: Arc<ZenServer>,
    settings: Settings,
    auth_secret: Option<(Live, AuthSecret)>,
    kept: Option<Live>,
    /// The pepper of an earlier server that this one continues.
    taken_up: Option<Zeroizing<[u8; 32]>>,
    passwords: Option<Live>,
    sealing: Option<Live>,
    environment: Environment,
    volume: Option<Live>,
    migration: Migration,
    /// What the pods are made from.
    revision: Option<Revision>,
    forgotten: Vec<String>,
    /// The message, if the secret for the provider may not be used.
    withheld: Option<String>,
    rest: Vec<(ApiResource, Option<Live>)>,
    around: Surroundings,
    now: Timestamp,
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
        let kept = match self.spec.image {
            Some(_) => {
                let name = self.kept_secret_name();
                read.live(&secret, &namespace, &name).await?
            }
            None => None,
        };
        let passwords = read
            .live(&secret, &namespace, &self.passwords_secret_name())
            .await?;
        let sealing = read
            .live(&secret, &namespace, &self.sealing_secret_name())
            .await?;
        let client_secret = match self.client_secret() {
            Some(from) => read.live(&secret, &namespace, &from.name).await?,
            None => None,
        };
        let mut rest = Vec::new();
        for resource in resources() {
            let live = read.live(&resource, &namespace, &name).await?;
            rest.push((resource, live));
        }
        let forgotten = match &passwords {
            Some(passwords) => read.forgotten_users(self, passwords).await?,
            None => Vec::new(),
        };
        let environment = read
            .live(&secret, &namespace, &self.environment_secret_name())
            .await?;
        let texts: Vec<_> = self.environment().map(|(_, text)| text).collect();
        let leads = Leads::look_up(read.views(), self, None, texts.iter().map(|text| &**text));
        let keyring = match self.spec.image {
            Some(_) => read.keyring(self).await?,
            None => None,
        };
        let volume = match database::wanted(self) {
            Some((name, _)) => {
                let resource = database::volume_resource();
                read.live(&resource, &namespace, &name).await?
            }
            None => None,
        };
        let migration = migration::observe(read, self).await?;
        let pods = match migration::is_recorded(self) {
            true => Vec::new(),
            false => {
                let pods = ApiResource::erase::<Pod>(&());
                read.selected(&pods, &namespace, &self.selector_of_all_pods())
                    .await?
            }
        };
        Ok(Observed {
            volume,
            migration,
            pods,
            values: delivered(read, leads.secrets()).await?,
            mounts: Mounts::observe(read, self).await?,
            environment,
            leads,
            keyring,
            auth_secret,
            kept,
            passwords,
            sealing,
            forgotten,
            client_secret,
            rest,
            around: Surroundings::observe(read, self).await?,
        })
    }

    fn validate(
        &self,
        seen: Observed,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Valid, Invalid> {
        let uid = self.uid().unwrap_or_default();
        let name = self.name_any();
        let others = seen
            .rest
            .iter()
            .map(|(resource, live)| (resource, name.as_str(), live));
        let job = migration::job_resource();
        let kind = auth_secret_resource();
        let secrets = [
            (&job, &*self.migration_name(), &seen.migration),
            (&kind, &*self.auth_secret_name(), &seen.auth_secret),
            (&kind, &*self.passwords_secret_name(), &seen.passwords),
            (&kind, &*self.sealing_secret_name(), &seen.sealing),
            (&kind, &*self.environment_secret_name(), &seen.environment),
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
        let pods = Pods::of(&seen.rest);
        seen.around.check(self, pods.meant(self))?;
        let making = Making {
            server: self,
            leads: &seen.leads,
            values: &seen.values,
            keyring: seen.keyring.as_deref(),
            live: seen.environment.as_ref(),
            mounts: &seen.mounts,
            now,
        };
        let environment = making.environment();
        let revision = Revision::of(self, deployment(&seen.rest));
        let migrating = Migrating {
            server: self,
            environment: &environment,
            job: seen.migration.as_ref(),
            pods: &seen.pods,
            is_held: revision::is_held(self, revision.as_ref()),
            now,
        };
        let migration = migrating.turn();
        let auth_secret = check_auth_secret(self, seen.auth_secret, now)?;
        let taken_up = kept::check(self, seen.kept.as_ref(), auth_secret.as_ref())?;
        Ok(Valid {
            server: Arc::new(self.clone()),
            settings: settings.clone(),
            auth_secret,
            kept: seen.kept,
            taken_up,
            passwords: seen.passwords,
            sealing: seen.sealing,
            environment,
            volume: seen.volume,
            migration,
            revision,
            forgotten: seen.forgotten,
            withheld: withheld(self, seen.client_secret.as_ref()),
            rest: seen.rest,
            around: seen.around,
            now,
        })
    }

    fn plan(mut valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenServerStatus> {
        let auth = valid.secrets(fresh);
        let kept = valid.sealing.take().map(Kept::read);
        let sealing = sealing::turn(&valid.server, kept, fresh, valid.now);
        let pods = Pods::of(&valid.rest);
        let around = valid
            .around
            .turn(&valid.server, pods.meant(&valid.server), valid.now);
        let parts = Parts {
            server: &valid.server,
            settings: &valid.settings,
            provides_secret: valid.withheld.is_none(),
            environment: &valid.environment,
            migration: &valid.migration,
            spreads: pods.spread(&valid.server),
        };
        let update = revision::turn(&parts, valid.revision.take());
        let rest = valid.rest(&parts, &update.revision);
        let pods = pods.after(&valid.server, &rest);
        let lost = sealing.lost;
        let verdict = lost.unwrap_or_else(|| valid.verdict(&pods, around.lacks.as_deref()));
        // No watch shows others' Secrets.
        let soon = valid.now.saturating_add(environment::LATER);
        let look = valid.withheld.as_ref().and(soon.ok());
        let status = ZenServerStatus {
            sealing: sealing.status,
            ..valid.status(&parts, &pods, &auth)
        };
        let status = update.told(&valid.server, &rest, status);
        let forgotten = valid.without_forgotten();
        let kept = kept::secret(&valid.server, &auth.child, valid.kept.take());
        let mut children = vec![auth.child, valid.passwords()];
        children.extend(kept);
        children.extend(sealing.child);
        children.extend(valid.environment.secret.clone());
        children.extend(rest);
        // Last: what is refused of these holds up nothing else.
        children.extend(around.children);
        let writes = auth.is_new || auth.entry.is_some();
        let record = writes.then(|| ZenServerStatus {
            auth_secret: Some(auth.status),
            signing_keys: auth.turn.record,
            last_handled_signing_trigger: auth.turn.handled,
            ..valid.server.status.clone().unwrap_or_default()
        });
        let insecure = insecure(&valid.server);
        // Once for each change of the spec.
        let told = insecure.as_ref().filter(|_| valid.server.is_changed());
        let mut notes = auth.turn.notes;
        notes.extend(auth.is_new.then(made_auth_secret));
        notes.extend(sealing.note);
        notes.extend(told.map(told_insecure));
        notes.extend(valid.migration.note.clone());
        Plan {
            record,
            children,
            entries: [auth.entry, sealing.entry, forgotten]
                .into_iter()
                .flatten()
                .collect(),
            prune: around
                .doomed
                .into_iter()
                .chain(valid.environment.doomed.clone())
                .chain(valid.migration.doomed.clone())
                .collect(),
            restarts: Vec::new(),
            verdict,
            facts: valid.facts(&pods, [insecure, around.fact, update.fact]),
            notes,
            deadline: [
                look,
                sealing.deadline,
                valid.environment.deadline,
                valid.migration.deadline,
                around.deadline,
                Some(auth.turn.deadline),
            ]
            .into_iter()
            .flatten()
            .min(),
            status,
        }
    }
}

/// Why the secret that the server is to have at its provider may not be used. Whoever may make a
/// ZenServer names the provider too, and so could have any Secret shown to whom it likes; so who
/// owns the Secret says that it is for this.
fn withheld(server: &ZenServer, live: Option<&Live>) -> Option<String> {
    let from = server.client_secret()?;
    let (secret, name) = (&from.name, server.name_any());
    let label = label::CLIENT_SECRET_OF;
    let labelled =
        live.and_then(|live| live.body.pointer("/metadata/labels")?.get(label)?.as_str());
    (labelled != Some(&*name)).then(|| {
        format!(
            "waits for Secret {secret} with label {label}={name}, by which its owner releases it \
             to the provider: kubectl label secret {secret} {label}={name}"
        )
    })
}

/// What `allowInsecure` had to be set for.
fn insecure(server: &ZenServer) -> Option<Fact> {
    let auth = &server.spec.auth;
    let external = auth.external.as_ref();
    let (reason, message) = match external.map(|external| external.issuer.as_str()) {
        Some(issuer) if issuer.starts_with("https://") => return None,
        Some(_) => (
            reason::PLAIN_PROVIDER,
            "auth.external.issuer is not https: whoever is on the way to it can say who logs in",
        ),
        None if auth.scheme == AuthScheme::NoAuth => (
            reason::NO_AUTHENTICATION,
            "auth.scheme is NoAuth: whoever reaches the server is the ZenUser of the name \
             \"default\"; set another scheme unless nobody else can reach it",
        ),
        None => return None,
    };
    Some(Fact {
        condition: condition::INSECURE,
        holds: true,
        reason,
        message: message.into(),
    })
}

/// That the values of Secrets may lie open in the API server's database.
fn unknown_at_rest(settings: &Settings) -> Option<Fact> {
    let message = "keys and values lie in Secrets, and nobody said that this cluster encrypts those at \
                   rest: see to it, then set secretsEncryptedAtRest of the chart";
    (!settings.encrypted_at_rest).then(|| Fact {
        condition: condition::ENCRYPTION_AT_REST_UNKNOWN,
        holds: true,
        reason: reason::NOT_STATED,
        message: message.into(),
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
        message:
            "made pepper and signing keys; back up this Secret, the pepper is never made again"
                .into(),
    }
}

/// A Secret that status remembers and that is gone or another one is never made anew: every key
/// and token would die. One that status does not know was not made by us, whatever it says.
fn check_auth_secret(
    server: &ZenServer,
    live: Option<Live>,
    now: Timestamp,
) -> Result<Option<(Live, AuthSecret)>, Invalid> {
    let name = server.auth_secret_name();
    let status = server.status.as_ref();
    let recorded = status.and_then(|status| status.auth_secret.as_ref());
    let Some(live) = live else {
        return match recorded {
            Some(recorded) if recorded.confirmed => Err(lost_secret(&name)),
            _ => Ok(None),
        };
    };
    let read = AuthSecret::read(&live).ok();
    let ours = read.filter(|read| recorded.is_some_and(|r| r.is_of(&read.fingerprint)));
    let Some(secret) = ours else {
        return Err(stalled(
            reason::AUTH_SECRET_INVALID,
            format!(
                "Secret {name} is not the one that was made for this server: restore that from a \
                 backup, or delete this one if the server never had another"
            ),
        ));
    };
    let stored: Vec<_> = secret.keyset.kids().map(str::to_owned).collect();
    let lost = situation(server, &stored, now).lost().map(|kid| {
        stalled(
            reason::AUTH_SECRET_INVALID,
            format!(
                "Secret {name} lacks the signing key {kid}: restore the Secret from a newer \
                 backup. To give up the key and its tokens instead, add it to spec.auth.jwt.revoked"
            ),
        )
    });
    lost.map_or(Ok(Some((live, secret))), Err)
}

fn lost_secret(name: &str) -> Invalid {
    stalled(
        reason::AUTH_SECRET_LOST,
        format!(
            "Secret {name} is gone, and with it the server's pepper and signing keys: restore \
             it from a backup. To give up every key instead, delete this ZenServer and apply it again"
        ),
    )
}

fn stalled(reason: &'static str, message: String) -> Invalid {
    Invalid {
        verdict: Verdict::Stalled { reason, message },
        facts: Vec::new(),
        unwatched: true,
    }
}

fn situation<'a>(server: &'a ZenServer, stored: &'a [String], now: Timestamp) -> Situation<'a> {
    let status = server.status.as_ref();
    Situation {
        recorded: status.map_or(&[], |status| &status.signing_keys),
        stored,
        auth: &server.spec.auth,
        handled: status.and_then(|status| status.last_handled_signing_trigger.as_deref()),
        now,
    }
}

/// The server's secrets, there or to be made.
struct Secrets {
    child: Child,
    /// What changes of a Secret that is there.
    entry: Option<Entries>,
    status: AuthSecretStatus,
    is_new: bool,
    turn: Turn,
}

impl Valid {
    /// What the server is made of besides Secrets. Its pods stay as they are while something is missing
    /// that they are made of, or their database is not ready for them.
    fn rest(&self, parts: &Parts<'_>, revision: &Revision) -> Vec<Child> {
        let has_no_image = self.server.spec.image.is_some() && self.migration.image.is_none();
        let waits = self.environment.waits.is_some() || has_no_image;
        let rest = self.rest.iter();
        let rest = rest.filter(|(resource, _)| !waits || resource.kind != "Deployment");
        let child = |(resource, live): &(ApiResource, Option<Live>)| Child {
            resource: resource.clone(),
            name: self.server.name_any(),
            body: parts.body(&resource.kind, revision),
            live: live.clone(),
            create_only: false,
            adopts: false,
            kept: false,
        };
        let volume = database::volume(&self.server, self.volume.clone());
        let database = volume.into_iter().chain(self.migration.job.clone());
        database.chain(rest.map(child)).collect()
    }

    fn passwords(&self) -> Child {
        let name = self.server.passwords_secret_name();
        children::passwords_secret(&name, self.passwords.clone())
    }

    fn facts(&self, pods: &Pods, others: [Option<Fact>; 3]) -> Vec<Fact> {
        let all = [
            Some(pods.available()),
            unknown_at_rest(&self.settings),
            self.environment.fact.clone(),
            self.migration.fact.clone(),
        ];
        all.into_iter().chain(others).flatten().collect()
    }

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

    fn secrets(&self, fresh: &mut impl Fresh) -> Secrets {
        let name = self.server.auth_secret_name();
        let mut keyset = Keyset::default();
        let stored: Vec<_> = match &self.auth_secret {
            Some((_, secret)) => {
                keyset.extend(&secret.keyset);
                keyset.kids().map(str::to_owned).collect()
            }
            None => Vec::new(),
        };
        let turn =
            situation(&self.server, &stored, self.now).turn(&mut || keyset.add(&drawn(fresh)));
        if let Some(wanted) = &turn.store {
            keyset.retain(|kid| wanted.iter().any(|wanted| wanted == kid));
        }
        match &self.auth_secret {
            Some((live, secret)) => Secrets {
                child: children::auth_secret(&name, &[], Some(live.clone())),
                entry: (turn.store.is_some()).then(|| children::keyset_entry(&name, live, &keyset)),
                status: AuthSecretStatus {
                    name,
                    fingerprint: secret.fingerprint.clone(),
                    confirmed: true,
                    unconfirmed: Vec::new(),
                },
                is_new: false,
                turn,
            },
            None => {
                let status = self.server.status.as_ref();
                let before = status.and_then(|status| status.auth_secret.as_ref());
                let tries = before.map(AuthSecretStatus::tries).unwrap_or_default();
                let pepper = self.taken_up.clone().unwrap_or_else(|| drawn(fresh));
                new_secrets(name, &keyset, turn, tries, &pepper)
            }
        }
    }

    fn verdict(&self, pods: &Pods, lacks: Option<&str>) -> Verdict {
        let (environment, migration) = (&self.environment.waits, &self.migration.waits);
        if let Some(waits) = environment.as_ref().or(migration.as_ref()) {
            return waits.clone();
        }
        if self.server.spec.suspend && pods.rolled_out {
            return Verdict::Ready {
                message: "suspended: no pod runs, data and keys are kept".to_owned(),
            };
        }
        match (&self.withheld, pods.verdict(&self.server.name_any())) {
            (Some(message), Verdict::Ready { .. }) => Verdict::Waiting {
                reason: reason::CLIENT_SECRET_NOT_RELEASED,
                message: message.clone(),
            },
            (None, Verdict::Ready { .. }) if let Some(lacks) = lacks => Verdict::Waiting {
                reason: reason::KIND_MISSING,
                message: lacks.to_owned(),
            },
            (_, verdict) => verdict,
        }
    }

    fn status(&self, parts: &Parts<'_>, pods: &Pods, auth: &Secrets) -> ZenServerStatus {
        ZenServerStatus {
            url: Some(self.server.url()),
            internal_url: Some(self.server.internal_url()),
            connection_ref: Some(LocalRef {
                name: self.server.connection_name(),
            }),
            replicas: pods.there,
            ready_replicas: pods.ready,
            selector: Some(parts.selector()),
            auth_secret: Some(AuthSecretStatus {
                confirmed: true,
                unconfirmed: Vec::new(),
                ..auth.status.clone()
            }),
            signing_keys: auth.turn.keys.clone(),
            next_signing_key_time: Some(whole_seconds(auth.turn.next_rotation)),
            last_handled_signing_trigger: auth.turn.handled.clone(),
            database: self.migration.fits.clone(),
            last_migration: self.migration.last.clone(),
            ..ZenServerStatus::default()
        }
    }
}

/// The Deployment among what a server is made of, if it is there.
fn deployment(rest: &[(ApiResource, Option<Live>)]) -> Option<&Live> {
    let mut rest = rest.iter();
    let deployment = rest.find(|(resource, _)| resource.kind == "Deployment");
    deployment?.1.as_ref()
}

fn drawn(fresh: &mut impl Fresh) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    fresh.fill(bytes.as_mut());
    bytes
}

fn new_secrets(
    name: String,
    keyset: &Keyset,
    turn: Turn,
    unconfirmed: Vec<String>,
    pepper: &[u8; 32],
) -> Secrets {
    let entries = Keyring::entries(pepper, keyset);
    let fingerprint = Keyring::fingerprint(|name| entries.get(name).map(|text| text.as_bytes()));
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    Secrets {
        child: children::auth_secret(&name, &entries, None),
        entry: None,
        status: AuthSecretStatus {
            name,
            fingerprint,
            confirmed: false,
            unconfirmed,
        },
        is_new: true,
        turn,
    }
}

/// What the Deployment says of its pods.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pods {
    wanted: i32,
    there: i32,
    ready: i32,
    rolled_out: bool,
    /// Whether there is a Deployment, and whether its pods are spread.
    spreads: Option<bool>,
}

impl Pods {
    fn of(rest: &[(ApiResource, Option<Live>)]) -> Self {
        let Some(live) = deployment(rest) else {
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
            spreads: Some(
                live.body
                    .pointer("/spec/template/spec/topologySpreadConstraints")
                    .is_some(),
            ),
            rolled_out: seen
                && number("/status/updatedReplicas") == wanted
                && number("/status/availableReplicas") == wanted
                && number("/status/replicas") == wanted,
        }
    }

    /// What it says once these children are applied: of what it is changed to, nothing yet.
    fn after(mut self, server: &ZenServer, children: &[Child]) -> Self {
        let deployment = children
            .iter()
            .find(|child| child.resource.kind == "Deployment");
        self.rolled_out &= deployment.is_none_or(|child| stays(&Owner::of(server), child));
        self
    }

    /// How many there are to be: what the spec says, else what an autoscaler made of it.
    fn meant(&self, server: &ZenServer) -> i32 {
        match server.spec.suspend {
            true => 0,
            false => server.spec.replicas.unwrap_or(self.wanted),
        }
    }

    /// Whether they are to be spread: from when on the spec says two or more. It changes the pods'
    /// template, so those that run already, two or more, stay as they are.
    fn spread(&self, server: &ZenServer) -> bool {
        let several = server.spec.replicas.is_some_and(|replicas| replicas >= 2);
        match self.spreads {
            Some(true) => true,
            Some(false) => several && self.wanted < 2,
            None => several,
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

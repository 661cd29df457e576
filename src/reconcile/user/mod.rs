//! ZenUser: what stands for its password is stored in the server's Secret; the password itself is
//! somewhere else, or in the head of who chose it.
//!
//! It promises: a password at its source is stored within half a minute, and not written again
//! while it is the same; an activation token is made once, works once, and is gone afterwards.

mod activation;
mod password;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::ApiResource, runtime::reflector::Store};
use uuid::Uuid;

use self::{
    activation::{Situation, Stage, stage},
    password::Given,
};
use super::{
    Fresh, Reader, Reconciled,
    error::{CallError, Invalid},
    foreign::{Claim, is_set},
    namesake::{Name, name_holder},
    plan::{Child, Doomed, Entries, Fact, Live, Note, Plan, Verdict},
    reader::Passwords,
    source::next_look,
};
use crate::{
    api::{
        LoginMethod, ZenServer, ZenUser, ZenUserStatus, annotation, condition, reason,
        whole_seconds,
    },
    auth::{
        credential::{ActivationToken, Credential},
        keyring::Keyring,
    },
};

/// What a decision about a user needs.
#[derive(Debug)]
pub struct Observed {
    server: Option<Arc<ZenServer>>,
    name: Name,
    /// The older user who is the same person.
    same: Option<String>,
    keyring: Option<Arc<Keyring>>,
    passwords: Option<Arc<Passwords>>,
    given: Option<Given>,
    token: Option<Live>,
    others: Vec<Doomed>,
}

/// A user who can be set up.
#[derive(Debug)]
pub struct Valid {
    user: ZenUser,
    id: Uuid,
    url: String,
    keyring: Arc<Keyring>,
    passwords: Arc<Passwords>,
    secret: String,
    given: Option<Given>,
    stage: Stage,
    /// Why the server does not let the user in by its method, if so.
    not_accepted: Option<String>,
    token: Option<Live>,
    others: Vec<Doomed>,
    paused: bool,
    now: Timestamp,
}

impl Reconciled for ZenUser {
    type State = ZenUserStatus;
    type Observed = Observed;
    type Valid = Valid;
    type Settings = ();

    async fn observe(&self, read: &Reader) -> Result<Observed, CallError> {
        let namespace = self.namespace().unwrap_or_default();
        let server = read.server(&namespace, &self.spec.server_ref.name);
        let (keyring, passwords) = match &server {
            Some(server) => (read.keyring(server).await?, read.passwords(server).await?),
            None => (None, None),
        };
        let mut seen = Observed {
            server,
            name: name_holder(self, &read.views().users),
            same: same_person(self, &read.views().users),
            keyring,
            passwords,
            given: None,
            token: None,
            others: Vec::new(),
        };
        let uid = self.uid().unwrap_or_default();
        let secrets = ApiResource::erase::<Secret>(&());
        if let (Some(from), Some(keyring), Some(passwords), false) = (
            &self.spec.password_from,
            &seen.keyring,
            &seen.passwords,
            is_set(self, annotation::PAUSED),
        ) {
            let from = &from.secret_key_ref;
            let source = read.live(&secrets, &namespace, &from.name).await?;
            let stored = uid.parse().ok().and_then(|id: Uuid| passwords.of.get(&id));
            let stored = stored.map(|stored| &**stored);
            let pepper = keyring.pepper();
            seen.given = Some(password::look(self, from, source, stored, pepper, read).await);
        }
        if let Some(name) = self.activation_secret() {
            seen.token = read.live(&secrets, &namespace, name).await?;
        }
        let keep = self.activation_secret().unwrap_or_default();
        let others = read.other_secrets(&namespace, &uid, keep);
        seen.others = others.into_iter().map(|(doomed, _)| doomed).collect();
        Ok(seen)
    }

    fn validate(&self, seen: Observed, (): &(), now: Timestamp) -> Result<Valid, Invalid> {
        if let Name::HeldBy(holder) = &seen.name {
            return Err(self.name_conflict(holder));
        }
        if let Some(older) = &seen.same {
            return Err(self.subject_conflict(older));
        }
        let server_name = &self.spec.server_ref.name;
        let Some(server) = seen.server else {
            let message =
                format!("waits for ZenServer {server_name} of this namespace to be created");
            return Err(waiting(reason::SERVER_NOT_FOUND, message));
        };
        let uid = self.uid().unwrap_or_default();
        let url = server.status.as_ref().and_then(|status| status.url.clone());
        let (Some(keyring), Some(passwords), Some(url), Ok(id)) =
            (seen.keyring, seen.passwords, url, uid.parse::<Uuid>())
        else {
            let message = format!(
                "waits for the Secrets of ZenServer {server_name}; \
                 see kubectl describe zenserver {server_name}"
            );
            return Err(waiting(reason::SERVER_NOT_READY, message));
        };
        let stored = passwords.of.get(&id).map(|stored| &**stored);
        let stage = match self.activation_secret() {
            None => Stage::None,
            Some(secret) => {
                let claim = Claim {
                    kind: "ZenUser",
                    name: &self.name_any(),
                    uid: &uid,
                    remedy: "set spec.activation.secretName to another name",
                };
                claim.check("Secret", secret, seen.token.as_ref())?;
                stage(&self.situation(secret, id, &keyring, stored, seen.token.as_ref(), now))
            }
        };
        Ok(Valid {
            user: self.clone(),
            id,
            url,
            secret: server.passwords_secret_name(),
            keyring,
            passwords,
            given: seen.given,
            stage,
            not_accepted: not_accepted(self, &server),
            token: seen.token,
            others: seen.others,
            paused: is_set(self, annotation::PAUSED),
            now,
        })
    }

    fn plan(valid: Valid, fresh: &mut impl Fresh) -> Plan<ZenUserStatus> {
        let status = valid.status();
        let issues = matches!(valid.stage, Stage::Issue(_)) && !valid.paused;
        let (child, credential) = valid.deliver(fresh);
        let credential = credential.or_else(|| valid.new_password());
        let has_password = match (&credential, valid.stored()) {
            (Some(Credential::Password(_)), _) => true,
            (None, Some(Credential::Password(_))) => true,
            (Some(_), _) | (None, _) => false,
        };
        let is_new = matches!(valid.given, Some(Given::New(_)));
        let looks = valid.user.spec.password_from.as_ref();
        let look = looks.map(|_| next_look(valid.now));
        let ends = match &valid.stage {
            Stage::Issue(status) | Stage::Pending(status) => Some(status.expires_at.0),
            Stage::None | Stage::Used(_) | Stage::Expired(_) => None,
        };
        Plan {
            record: issues.then(|| status.clone()),
            entries: credential.iter().map(|c| valid.entry(c)).collect(),
            prune: valid.doomed(),
            restarts: Vec::new(),
            verdict: valid.verdict(),
            facts: valid.facts(has_password),
            notes: valid.notes(issues, is_new),
            deadline: look.into_iter().chain(ends).min(),
            children: child.into_iter().collect(),
            status,
        }
    }
}

impl ZenUser {
    fn activation_secret(&self) -> Option<&str> {
        self.spec.activation.as_ref()?.secret_name.as_deref()
    }

    fn situation<'a>(
        &'a self,
        secret: &'a str,
        id: Uuid,
        keyring: &Keyring,
        stored: Option<&'a Credential>,
        token: Option<&Live>,
        now: Timestamp,
    ) -> Situation<'a> {
        let ttl = self.spec.activation.as_ref().map(|a| a.ttl.0);
        let delivered = match (stored, activation::held(token)) {
            (Some(Credential::Activation(stored)), Some(token)) => {
                stored.is_of(keyring.pepper(), id, &token)
            }
            _ => false,
        };
        Situation {
            secret,
            ttl: ttl
                .and_then(|ttl| SignedDuration::try_from(ttl).ok())
                .unwrap_or(SignedDuration::ZERO),
            recorded: self.status.as_ref().and_then(|s| s.activation.as_ref()),
            stored,
            delivered,
            now,
        }
    }

    fn subject_conflict(&self, older: &str) -> Invalid {
        let message = format!(
            "the older ZenUser {older} is the same person of the provider; delete one of the two"
        );
        Invalid {
            facts: vec![Fact {
                condition: condition::ACTIVE,
                holds: false,
                reason: reason::SUBJECT_CONFLICT,
                message: message.clone(),
            }],
            verdict: Verdict::Stalled {
                reason: reason::SUBJECT_CONFLICT,
                message,
            },
            unwatched: false,
        }
    }

    fn name_conflict(&self, holder: &str) -> Invalid {
        let message = format!(
            "the name {:?} belongs to the older ZenUser {holder}; set spec.name to another, or \
             delete that one",
            self.zenml_name()
        );
        let fact = |condition, holds, message: &str| Fact {
            condition,
            holds,
            reason: reason::NAME_CONFLICT,
            message: message.to_owned(),
        };
        Invalid {
            facts: vec![
                fact(condition::ACTIVE, false, "an older user has its name"),
                fact(condition::NAME_CONFLICT, true, &message),
            ],
            verdict: Verdict::Stalled {
                reason: reason::NAME_CONFLICT,
                message,
            },
            unwatched: false,
        }
    }
}

impl Valid {
    fn stored(&self) -> Option<&Credential> {
        self.passwords.of.get(&self.id).map(|stored| &**stored)
    }

    /// The Secret with a token that is to be used, and what is to be stored for it.
    fn deliver(&self, fresh: &mut impl Fresh) -> (Option<Child>, Option<Credential>) {
        let (Stage::Issue(status) | Stage::Pending(status), false) = (&self.stage, self.paused)
        else {
            return (None, None);
        };
        let pepper = self.keyring.pepper();
        let token = activation::held(self.token.as_ref()).unwrap_or_else(|| {
            let mut random = zeroize::Zeroizing::new([0; 32]);
            fresh.fill(random.as_mut());
            ActivationToken::from_random(&random)
        });
        let wanted = activation::credential(pepper, self.id, &token, status);
        let credential = (self.stored() != Some(&wanted)).then_some(wanted);
        let name = self.user.zenml_name();
        let live = self.token.clone();
        let child = activation::child(&status.secret_name, &token, self.id, name, &self.url, live);
        (Some(child), credential)
    }

    fn new_password(&self) -> Option<Credential> {
        match &self.given {
            Some(Given::New(verifier)) => Some(Credential::Password(verifier.clone().at(self.now))),
            _ => None,
        }
    }

    fn entry(&self, credential: &Credential) -> Entries {
        Entries {
            secret: self.secret.clone(),
            uid: self.passwords.uid.clone(),
            resource_version: self.passwords.version.clone(),
            values: BTreeMap::from([(self.id.to_string(), Some(credential.to_json()))]),
        }
    }

    /// A token that was used or whose time is over does not stay.
    fn doomed(&self) -> Vec<Doomed> {
        let spent = matches!(self.stage, Stage::Used(_) | Stage::Expired(_));
        let token = self.token.iter().filter(|_| spent).map(|live| Doomed {
            resource: ApiResource::erase::<Secret>(&()),
            name: self.user.activation_secret().unwrap_or_default().to_owned(),
            uid: live.uid.clone(),
            version: None,
        });
        self.others.iter().cloned().chain(token).collect()
    }

    fn status(&self) -> ZenUserStatus {
        let set = match (&self.given, self.stored()) {
            (Some(Given::New(_)), _) => Some(self.now),
            (_, Some(Credential::Password(verifier))) => Some(verifier.set()),
            _ => None,
        };
        let old = self.user.status.clone().unwrap_or_default();
        ZenUserStatus {
            user_id: Some(self.id.to_string()),
            method: Some(method(&self.user)),
            password_set_time: set.map(whole_seconds),
            activation: match &self.stage {
                Stage::None => None,
                Stage::Issue(_) if self.paused => old.activation,
                Stage::Issue(status)
                | Stage::Pending(status)
                | Stage::Used(status)
                | Stage::Expired(status) => Some(status.clone()),
            },
            ..ZenUserStatus::default()
        }
    }

    fn verdict(&self) -> Verdict {
        let stalled = |reason, message| Verdict::Stalled { reason, message };
        match (&self.given, &self.stage) {
            (Some(Given::Absent(message)), _) => Verdict::Waiting {
                reason: reason::PASSWORD_NOT_FOUND,
                message: message.clone(),
            },
            (Some(Given::Unusable(message)), _) => {
                stalled(reason::PASSWORD_INVALID, message.clone())
            }
            (_, Stage::Expired(_)) => stalled(
                reason::ACTIVATION_EXPIRED,
                "nobody used the activation token in time; set spec.activation.secretName to \
                 another name for a new one"
                    .into(),
            ),
            _ => Verdict::Ready {
                message: format!("user {:?} is set up", self.user.zenml_name()),
            },
        }
    }

    fn facts(&self, has_password: bool) -> Vec<Fact> {
        let (reason, message) = if !self.user.spec.active {
            (reason::DEACTIVATED, "spec.active is false".to_owned())
        } else if let Some(message) = &self.not_accepted {
            (reason::METHOD_NOT_ACCEPTED, message.clone())
        } else if has_password || self.user.spec.external.is_some() {
            (reason::ACTIVE, "may log in".to_owned())
        } else if let Some(from) = &self.user.spec.password_from {
            let message = format!("Secret {} has no password yet", from.secret_key_ref.name);
            (reason::PASSWORD_NOT_FOUND, message)
        } else {
            (reason::AWAITING_ACTIVATION, self.awaited())
        };
        let active = Fact {
            condition: condition::ACTIVE,
            holds: reason == reason::ACTIVE,
            reason,
            message,
        };
        let paused = self.paused.then(|| Fact {
            condition: condition::PAUSED,
            holds: true,
            reason: reason::PAUSED,
            message: "nothing is read or made; remove the annotation zenop.dev/paused".into(),
        });
        std::iter::once(active).chain(paused).collect()
    }

    fn awaited(&self) -> String {
        match &self.stage {
            Stage::Issue(status) | Stage::Pending(status) => format!(
                "may log in once a password was chosen with the token in Secret {}, until {}",
                status.secret_name, status.expires_at.0
            ),
            _ => "may log in once a password was chosen".to_owned(),
        }
    }

    fn notes(&self, issues: bool, is_new: bool) -> Vec<Note> {
        let note = |reason, action, message: &str| Note {
            warning: false,
            reason,
            action,
            message: message.to_owned(),
        };
        let issued = note(
            "ActivationTokenMade",
            "Create",
            "made a token that lets the user choose a password",
        );
        let set = note(
            "PasswordSet",
            "Store",
            "stored what stands for the password; tokens issued before are over",
        );
        let issued = issues.then_some(issued);
        issued.into_iter().chain(is_new.then_some(set)).collect()
    }
}

fn method(user: &ZenUser) -> LoginMethod {
    match (&user.spec.password_from, &user.spec.external) {
        (Some(_), _) => LoginMethod::Password,
        (None, Some(_)) => LoginMethod::External,
        (None, None) => LoginMethod::Activation,
    }
}

/// Why a server does not let a user in by its method, if so.
fn not_accepted(user: &ZenUser, server: &ZenServer) -> Option<String> {
    let external = server.spec.auth.external.as_ref();
    let name = server.name_any();
    match (&user.spec.external, external) {
        (Some(person), Some(provider)) if person.issuer == provider.issuer => None,
        (Some(person), _) => Some(format!(
            "ZenServer {name} does not ask {}: make that its auth.external.issuer, or name its \
             provider in spec.external.issuer",
            person.issuer
        )),
        (None, Some(provider)) if !provider.password_login => Some(format!(
            "ZenServer {name} takes no passwords: give the user spec.external, or set \
             auth.external.passwordLogin there"
        )),
        (None, _) => None,
    }
}

/// The older user of a server who is the same person of its provider, if there is one.
fn same_person(user: &ZenUser, all: &Store<ZenUser>) -> Option<String> {
    let person = user.spec.external.as_ref()?;
    let age = |user: &ZenUser| (user.creation_timestamp().map(|at| at.0), user.uid());
    let same = |other: &ZenUser| {
        other.namespace() == user.namespace()
            && other.spec.server_ref == user.spec.server_ref
            && other.spec.external.as_ref() == Some(person)
            && other.metadata.deletion_timestamp.is_none()
            && age(other) < age(user)
    };
    let older = all.state_filter(same);
    let first = older.into_iter().min_by_key(|other| age(other));
    first.map(|first| first.name_any())
}

fn waiting(reason: &'static str, message: String) -> Invalid {
    let inactive = Fact {
        condition: condition::ACTIVE,
        holds: false,
        reason,
        message: message.clone(),
    };
    Invalid {
        verdict: Verdict::Waiting { reason, message },
        facts: vec![inactive],
        unwatched: false,
    }
}

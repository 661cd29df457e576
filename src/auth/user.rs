//! Users, as decisions need them.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{api_key::Print, identity::Seen, roster::Member};

/// A person.
#[derive(Debug)]
pub struct User {
    /// Its id on the wire.
    pub id: Uuid,
    /// Name of its object.
    pub object: String,
    /// Its name in ZenML.
    pub name: String,
    /// A name for people.
    pub full_name: String,
    /// Its mail address.
    pub email: Option<String>,
    /// Whether it agreed to share that with ZenML; `None` if it was not asked.
    pub email_opted_in: Option<bool>,
    /// Whether it may log in.
    pub active: bool,
    /// Whether it may manage users, accounts and keys.
    pub admin: bool,
    /// What was issued in an earlier epoch is over.
    pub epoch: i64,
    /// How it proves to be itself.
    pub origin: Origin,
    /// What tells its password, or who it is at the provider, from others, if that lets it in.
    /// Put here by the directory.
    pub(super) password: Option<Print>,
    /// When it was made.
    pub created: Timestamp,
    /// When its use was last written down.
    pub last_recorded: Option<Timestamp>,
    /// When it was last used. Kept when the rest is replaced.
    pub seen: Seen,
}

/// How a user proves to be itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By a password that it chose, or will.
    Chosen,
    /// Its password is in the Secret of this name, and changed there.
    Secret(String),
    /// It is this person of a provider.
    External {
        /// The provider's address.
        issuer: String,
        /// Who it is there. Neither a name nor a mail address: those change hands.
        subject: String,
    },
}

impl User {
    /// A user whom nobody saw yet.
    pub fn new(id: Uuid, object: String, name: String, created: Timestamp) -> Self {
        Self {
            id,
            object,
            name,
            full_name: String::new(),
            email: None,
            email_opted_in: None,
            active: true,
            admin: false,
            epoch: 0,
            origin: Origin::Chosen,
            password: None,
            created,
            last_recorded: None,
            seen: Seen::default(),
        }
    }
}

impl Origin {
    /// What tells this person of a provider from others, if it is one.
    pub(super) fn identity(&self) -> Option<Print> {
        let Self::External { issuer, subject } = self else {
            return None;
        };
        let hash = Sha256::new()
            .chain_update(b"zenop/external/1")
            .chain_update(issuer.len().to_be_bytes())
            .chain_update(issuer)
            .chain_update(subject);
        Some(Print::of(&hash.finalize().into()))
    }
}

impl User {
    /// Whether it may log in: it may, and can.
    pub fn is_active(&self) -> bool {
        self.active && self.password.is_some()
    }

    /// What a token that is issued now carries to be bound to its state. `None` if
    /// nothing lets it in.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        Some(Stamp {
            epoch: self.epoch,
            password: self.password?,
        })
    }
}

impl Member for User {
    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn created(&self) -> Timestamp {
        self.created
    }

    fn learn(&self, old: &Self) {
        self.seen.learn(&old.seen);
    }
}

/// What a user's tokens are bound to: once it differs, they are over. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The user's epoch.
    pub epoch: i64,
    /// What tells its password from the one before and the one after.
    pub password: Print,
}

impl Stamp {
    /// As it stands in a proof: always of one length, also where there is none.
    pub(super) fn bytes(stamp: Option<Self>) -> [u8; 17] {
        let mut bytes = [0; 17];
        if let Some(Self { epoch, password }) = stamp {
            let parts = [1].into_iter().chain(epoch.to_be_bytes());
            let parts = parts.chain(password.to_be_bytes());
            bytes
                .iter_mut()
                .zip(parts)
                .for_each(|(to, from)| *to = from);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{
        super::{
            api_key::Pepper,
            credential::{Credential, Verifier},
            directory::Directory,
            principal::{By, Principal, Refused},
            token::Claims,
        },
        *,
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_369_358).unwrap()
    }

    fn user(id: u128, name: &str) -> User {
        let created = now() + SignedDuration::from_secs(i64::try_from(id).unwrap());
        User::new(Uuid::from_u128(id), name.into(), name.into(), created)
    }

    fn directory() -> Directory {
        let mut directory = Directory::default();
        for id in [1, 2] {
            directory.set_credential(Uuid::from_u128(id), verifier(id));
        }
        directory
    }

    fn verifier(salt: u128) -> Credential {
        let (pepper, password) = (Pepper::new([1; 32]), "correct horse".parse().unwrap());
        let (user, salt) = (Uuid::from_u128(1), salt.to_be_bytes());
        Credential::Password(Verifier::new(&pepper, user, &password, salt).unwrap())
    }

    fn check(directory: &Directory, user: &User) -> Result<Principal, Refused> {
        let credential = verifier(user.id.as_u128());
        let Credential::Password(verifier) = &credential else {
            unreachable!();
        };
        let by = By::Session {
            stamp: Stamp {
                epoch: user.epoch,
                password: verifier.print(),
            },
            session: None,
        };
        let principal = Principal {
            account: user.id,
            by,
        };
        let claims = Claims::of_login(principal, now(), now() + SignedDuration::from_hours(1));
        directory.check(&claims, now(), None)
    }

    #[test]
    fn a_session_holds_while_the_user_is_active_and_in_its_epoch() {
        let mut directory = directory();
        let ana = user(1, "ana");
        assert_eq!(check(&directory, &ana), Err(Refused::Revoked));
        directory.put_user(user(1, "ana"));
        assert!(check(&directory, &ana).is_ok());
        assert_eq!(directory.user(ana.id).unwrap().seen.at(), Some(now()));

        let inactive = User {
            active: false,
            ..user(1, "ana")
        };
        directory.put_user(inactive);
        let refused = Refused::InactiveUser { user: "ana".into() };
        assert_eq!(check(&directory, &ana), Err(refused));
        let later = User {
            epoch: 1,
            ..user(1, "ana")
        };
        directory.put_user(later);
        assert_eq!(check(&directory, &ana), Err(Refused::Revoked));
        directory.put_user(user(1, "ana"));
        assert!(check(&directory, &ana).is_ok());
        directory.set_credential(ana.id, verifier(9));
        assert_eq!(check(&directory, &ana), Err(Refused::Revoked));
    }

    #[test]
    fn the_elder_of_two_namesakes_exists() {
        let mut directory = directory();
        let (elder, younger) = (user(1, "ana"), user(2, "ana"));
        directory.put_user(user(2, "ana"));
        assert!(check(&directory, &younger).is_ok());
        directory.put_user(user(1, "ana"));
        assert!(check(&directory, &elder).is_ok());
        assert_eq!(check(&directory, &younger), Err(Refused::Revoked));
        assert_eq!(directory.user_by_name("ana").unwrap().id, elder.id);
        assert_eq!(directory.users().count(), 1);
        directory.remove_user(elder.id);
        assert!(check(&directory, &younger).is_ok());
    }
}

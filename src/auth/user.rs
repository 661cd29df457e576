//! Users, as decisions need them.

use jiff::Timestamp;
use uuid::Uuid;

use super::{identity::Seen, roster::Member};

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
    /// Whether it may log in.
    pub active: bool,
    /// Whether it may manage users, accounts and keys.
    pub admin: bool,
    /// What was issued in an earlier epoch is over.
    pub epoch: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When its use was last written down.
    pub last_recorded: Option<Timestamp>,
    /// When it was last used. Kept when the rest is replaced.
    pub seen: Seen,
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
            active: true,
            admin: false,
            epoch: 0,
            created,
            last_recorded: None,
            seen: Seen::default(),
        }
    }

    /// What a token that is issued now carries to be bound to the user's state.
    pub fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch }
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
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{
        super::{
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

    fn check(directory: &Directory, user: &User) -> Result<Principal, Refused> {
        let by = By::Session {
            stamp: user.stamp(),
            session: None,
        };
        let principal = Principal {
            account: user.id,
            by,
        };
        let claims = Claims {
            principal,
            issued: now(),
            expires: now() + SignedDuration::from_hours(1),
        };
        directory.check(&claims, now(), None)
    }

    #[test]
    fn a_session_holds_while_the_user_is_active_and_in_its_epoch() {
        let mut directory = Directory::default();
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
    }

    #[test]
    fn the_elder_of_two_namesakes_exists() {
        let mut directory = Directory::default();
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

//! Devices that somebody authorized: whose each is, until when it lives, what it may do.
//!
//! A device belongs to a client and a person: two people on one machine have a device each. It is
//! made by an approval. A later approval of the same client by the same person takes its place,
//! under a new id; tokens name the id, so those of the former are over then.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    api_key::{Pepper, Verifier},
    device_code::Origin,
    identity::Seen,
    user::Stamp,
};

/// The server's policy on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a trusted device lives.
    pub trusted: SignedDuration,
    /// How long any other lives.
    pub untrusted: SignedDuration,
    /// How long a person has to decide, and the device to fetch its token.
    pub code: SignedDuration,
    /// How often a device may ask.
    pub interval: SignedDuration,
    /// How many wrong user codes end an authorization.
    pub attempts: u32,
    /// How many devices somebody may have.
    pub at_most: usize,
    /// Whether there are trusted devices.
    pub trust_allowed: bool,
    /// Whether one is approved only from the network that it asked from.
    pub same_network: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            trusted: SignedDuration::from_hours(720),
            untrusted: SignedDuration::from_hours(24),
            code: SignedDuration::from_secs(300),
            interval: SignedDuration::from_secs(5),
            attempts: 3,
            at_most: 20,
            trust_allowed: true,
            same_network: false,
        }
    }
}

impl Terms {
    /// How long a device lives from the moment that it got its token.
    pub fn lifetime(&self, trusted: bool) -> SignedDuration {
        match trusted && self.trust_allowed {
            true => self.trusted,
            false => self.untrusted,
        }
    }
}

/// What a person approved. All that is in it is vouched for by a [`Approval::proof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The device's id on the wire.
    pub device: Uuid,
    /// The client.
    pub client: Uuid,
    /// Who approved it.
    pub account: Uuid,
    /// When, in whole seconds.
    pub approved: Timestamp,
}

impl Approval {
    /// What stands for the approval where it is written down: whoever can write there, but does not
    /// have the server's pepper, approves nothing. `stamp` is what the user was who approved it,
    /// none of a service account: what ends a user's tokens ends what was approved with one too.
    pub fn proof(&self, pepper: &Pepper, server: Uuid, stamp: Option<Stamp>) -> Verifier {
        let approved = self.approved.as_second().to_be_bytes();
        pepper.proof(
            b"zenop/device-approval/2",
            &[
                server.as_bytes(),
                self.device.as_bytes(),
                self.client.as_bytes(),
                self.account.as_bytes(),
                &approved,
                &Stamp::bytes(stamp),
            ],
        )
    }

    /// What stands in its place where the request was denied. It proves no approval, whatever else
    /// is changed of what is written there.
    pub fn denial_proof(&self, pepper: &Pepper, server: Uuid) -> Verifier {
        let parts: [&[u8]; 2] = [server.as_bytes(), self.device.as_bytes()];
        pepper.proof(b"zenop/device-denial/1", &parts)
    }
}

/// What was decided on a device that asked, as it is written down.
#[derive(Debug)]
pub enum Decided {
    /// There is a device.
    Approved(Box<Device>),
    /// There never will be.
    Denied(Denial),
}

/// A device that was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The id of its object.
    pub uid: Uuid,
    /// The device's id on the wire.
    pub device: Uuid,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Approved; its client did not fetch the token yet.
    Approved,
    /// Its token counts.
    Active,
    /// Its token does not count, until it is unlocked.
    Locked,
    /// Its time is over.
    Expired,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    /// The id of its object. No other object ever has it.
    pub uid: Uuid,
    /// Name of its object.
    pub object: String,
    /// What was approved.
    pub approval: Approval,
    /// Name of the object of who approved it.
    pub account_object: String,
    /// Proves the approval.
    pub proof: Verifier,
    /// Whether it lives longer.
    pub trusted: bool,
    /// Whether its tokens are refused.
    pub locked: bool,
    /// When it ends, if that is earlier than the policy says.
    pub until: Option<Timestamp>,
    /// When its client fetched the token.
    pub redeemed: Option<Timestamp>,
    /// What its client said of itself.
    pub origin: Origin,
    /// When the object was made.
    pub created: Timestamp,
    /// When its use was last written down.
    pub recorded: Option<Timestamp>,
    /// When it was last used. Kept when the rest is replaced.
    pub seen: Seen,
}

impl Device {
    /// Its id on the wire.
    pub const fn id(&self) -> Uuid {
        self.approval.device
    }

    /// Whether this server wrote the approval, and its user, who is `stamp` now, was neither signed
    /// out nor given another password since.
    pub fn stands(&self, pepper: &Pepper, server: Uuid, stamp: Option<Stamp>) -> bool {
        let proof = self.approval.proof(pepper, server, stamp);
        self.proof.matches(&proof).into()
    }

    /// When it is over. One that fetched no token is over as soon as it cannot any more.
    pub fn end(&self, terms: &Terms) -> Timestamp {
        end(
            self.approval.approved,
            self.redeemed,
            terms,
            self.trusted,
            self.until,
        )
    }

    /// How it is now.
    pub fn state(&self, terms: &Terms, now: Timestamp) -> DeviceState {
        if self.locked {
            DeviceState::Locked
        } else if self.end(terms) <= now {
            DeviceState::Expired
        } else if self.redeemed.is_none() {
            DeviceState::Approved
        } else {
            DeviceState::Active
        }
    }

    /// When it was last used, as far as this process knows.
    pub fn last_used(&self) -> Option<Timestamp> {
        self.recorded.max(self.seen.at())
    }

    /// Of several that claim one id, who was approved first has it.
    pub(super) fn seniority(&self) -> (Timestamp, Uuid) {
        (self.approval.approved, self.uid)
    }
}

/// When a device is over that was approved and redeemed then.
pub fn end(
    approved: Timestamp,
    redeemed: Option<Timestamp>,
    terms: &Terms,
    trusted: bool,
    until: Option<Timestamp>,
) -> Timestamp {
    let lives = match redeemed {
        Some(at) => at.saturating_add(terms.lifetime(trusted)),
        None => approved.saturating_add(terms.code),
    };
    let end = lives.unwrap_or(Timestamp::MAX);
    until.map_or(end, |until| until.min(end))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::auth::api_key::Print;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_policy_and_the_device_say_when_it_is_over() {
        let terms = Terms::default();
        let no_trust = Terms {
            trust_allowed: false,
            ..terms
        };
        let (day, month) = (86_400, 2_592_000);
        let cases = [
            (None, &terms, true, None, 300),
            (Some(200), &terms, false, None, 200 + day),
            (Some(200), &terms, true, None, 200 + month),
            (Some(200), &no_trust, true, None, 200 + day),
            (Some(200), &terms, true, Some(500), 500),
            (Some(200), &terms, false, Some(month), 200 + day),
            (None, &terms, false, Some(10), 10),
        ];
        for (n, (redeemed, terms, trusted, until, wanted)) in cases.into_iter().enumerate() {
            let end = end(at(0), redeemed.map(at), terms, trusted, until.map(at));
            assert_eq!(end, at(wanted), "case {n}");
        }
    }

    #[test]
    fn a_proof_is_of_one_approval_of_one_server() {
        let id = Uuid::from_u128;
        let approval = Approval {
            device: id(1),
            client: id(2),
            account: id(3),
            approved: at(1000),
        };
        let pepper = Pepper::new([7; 32]);
        let proof = |approval: Approval, server| approval.proof(&pepper, server, None).to_hex();
        let good = proof(approval, id(9));
        let others = [
            (
                Approval {
                    device: id(2),
                    ..approval
                },
                id(9),
            ),
            (
                Approval {
                    client: id(1),
                    ..approval
                },
                id(9),
            ),
            (
                Approval {
                    account: id(4),
                    ..approval
                },
                id(9),
            ),
            (
                Approval {
                    approved: at(1001),
                    ..approval
                },
                id(9),
            ),
            (approval, id(8)),
        ];
        assert!(others.iter().all(|(a, server)| proof(*a, *server) != good));
        assert_ne!(approval.denial_proof(&pepper, id(9)).to_hex(), good);
        let other = approval.proof(&Pepper::new([8; 32]), id(9), None);
        assert_ne!(other.to_hex(), good);
        assert_eq!(proof(approval, id(9)), good);
        let stamp = |epoch, password: u8| Stamp {
            epoch,
            password: Print::of(&[password; 32]),
        };
        let stamps = [
            None,
            Some(stamp(0, 0)),
            Some(stamp(1, 0)),
            Some(stamp(0, 1)),
        ];
        let proofs = stamps.map(|stamp| approval.proof(&pepper, id(9), stamp).to_hex());
        let distinct: HashSet<&String> = proofs.iter().collect();
        assert_eq!(distinct.len(), 4, "{proofs:?}");
    }
}

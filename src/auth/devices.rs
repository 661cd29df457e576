//! The devices of one server, and whether a token of one still counts.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    device::{Denial, Device, DeviceState, Terms},
    directory::Directory,
    network::Network,
    principal::{By, Principal, Refused},
    user::Stamp,
};

/// Devices by the id on the wire, and what the server allows them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Of several objects that claim an id, who was approved first is in front.
    by_id: HashMap<Uuid, Vec<Device>>,
    /// The id on the wire, by the id of the object.
    ids: HashMap<Uuid, Uuid>,
    denials: Denials,
    terms: Terms,
}

/// Devices that were denied.
#[derive(Debug, Default)]
struct Denials {
    /// The id on the wire, by the id of the object.
    by_uid: HashMap<Uuid, Uuid>,
    /// The id on the wire, and that of the object: asked for at each request.
    by_id: BTreeSet<(Uuid, Uuid)>,
}

impl Denials {
    fn has(&self, id: Uuid) -> bool {
        let mut of_it = self.by_id.range((id, Uuid::nil())..=(id, Uuid::max()));
        of_it.next().is_some()
    }

    fn put(&mut self, denial: Denial) {
        self.remove(denial.uid);
        self.by_uid.insert(denial.uid, denial.device);
        self.by_id.insert((denial.device, denial.uid));
    }

    fn remove(&mut self, uid: Uuid) {
        if let Some(id) = self.by_uid.remove(&uid) {
            self.by_id.remove(&(id, uid));
        }
    }

    fn keep(&mut self, uids: &HashSet<Uuid>) {
        self.by_uid.retain(|uid, _| uids.contains(uid));
        self.by_id.retain(|(_, uid)| uids.contains(uid));
    }
}

impl Devices {
    fn get(&self, id: Uuid) -> Option<&Device> {
        self.by_id.get(&id)?.first()
    }

    fn put(&mut self, device: Device) {
        if let Some(old) = self.remove(device.uid)
            && old.id() == device.id()
        {
            device.seen.learn(&old.seen);
        }
        self.ids.insert(device.uid, device.id());
        let claims = self.by_id.entry(device.id()).or_default();
        claims.push(device);
        claims.sort_by_key(Device::seniority);
    }

    fn remove(&mut self, uid: Uuid) -> Option<Device> {
        let Entry::Occupied(mut claims) = self.by_id.entry(self.ids.remove(&uid)?) else {
            return None;
        };
        let at = claims.get().iter().position(|device| device.uid == uid)?;
        let device = claims.get_mut().remove(at);
        if claims.get().is_empty() {
            claims.remove();
        }
        Some(device)
    }
}

/// Reading.
impl Directory {
    /// A device by its id on the wire. One that was denied is none, whoever else approved it.
    pub fn device(&self, id: Uuid) -> Option<&Device> {
        self.devices.get(id).filter(|_| !self.is_denied(id))
    }

    /// Whether a device was denied.
    pub fn is_denied(&self, id: Uuid) -> bool {
        self.devices.denials.has(id)
    }

    /// All devices, in no order.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices
            .by_id
            .values()
            .filter_map(|claims| claims.first())
    }

    /// The devices of an account or user, in no order.
    pub fn devices_of(&self, account: Uuid) -> impl Iterator<Item = &Device> {
        self.devices()
            .filter(move |device| device.approval.account == account)
    }

    /// What a user is now, to be compared with what it was. None of a service account.
    pub fn stamp(&self, account: Uuid) -> Option<Stamp> {
        self.user(account)?.stamp()
    }

    /// The server's policy on devices.
    pub fn terms(&self) -> &Terms {
        &self.devices.terms
    }

    /// Who a device that is approved acts as, if the device and whoever approved it may log in.
    ///
    /// # Errors
    /// Why not.
    pub fn device_holder(&self, device: &Device, now: Timestamp) -> Result<Principal, Refused> {
        let account = device.approval.account;
        let stamp = match self.user(account) {
            Some(user) => Some(user.stamp().ok_or(Refused::Revoked)?),
            None => None,
        };
        let by = By::Device {
            device: device.id(),
            stamp,
        };
        self.authorize_device(account, device.id(), stamp, now, None)?;
        Ok(Principal { account, by })
    }

    pub(super) fn authorize_device(
        &self,
        account: Uuid,
        id: Uuid,
        stamp: Option<Stamp>,
        now: Timestamp,
        from: Option<Network>,
    ) -> Result<(), Refused> {
        let device = self.device(id).filter(|d| d.approval.account == account);
        let device = device.ok_or(Refused::Revoked)?;
        let object = match stamp {
            Some(stamp) => {
                let user = self.user(account).ok_or(Refused::Revoked)?;
                self.authorize_user(account, stamp, now, from)?;
                &user.object
            }
            None => {
                let holder = self.account(account).ok_or(Refused::Revoked)?;
                if !holder.is_active(now) {
                    return Err(Refused::InactiveAccount {
                        account: holder.name.clone(),
                    });
                }
                holder.seen.mark(now, from);
                &holder.object
            }
        };
        if *object != device.account_object {
            return Err(Refused::Revoked);
        }
        match device.state(self.terms(), now) {
            // The token proves that it was fetched, whatever this view knows of that by now.
            DeviceState::Active | DeviceState::Approved => {
                device.seen.mark(now, from);
                Ok(())
            }
            DeviceState::Locked | DeviceState::Expired => {
                Err(Refused::InactiveDevice { device: id })
            }
        }
    }
}

/// Writing: what a watch saw.
impl Directory {
    /// Adds or replaces the device of an object. When it was last seen is kept.
    pub fn put_device(&mut self, device: Device) {
        self.devices.denials.remove(device.uid);
        self.devices.put(device);
    }

    /// Adds a denial.
    pub fn put_denial(&mut self, denial: Denial) {
        self.devices.remove(denial.uid);
        self.devices.denials.put(denial);
    }

    /// Removes the device or the denial of an object.
    pub fn remove_device(&mut self, uid: Uuid) -> Option<Device> {
        self.devices.denials.remove(uid);
        self.devices.remove(uid)
    }

    /// Drops every device whose object is not among `uids`.
    pub fn keep_devices(&mut self, uids: &HashSet<Uuid>) {
        let gone: Vec<Uuid> = self.devices.ids.keys().copied().collect();
        for uid in gone.into_iter().filter(|uid| !uids.contains(uid)) {
            self.devices.remove(uid);
        }
        self.devices.denials.keep(uids);
    }

    /// What the server allows devices, from now on.
    pub fn set_terms(&mut self, terms: Terms) {
        self.devices.terms = terms;
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::auth::{
        api_key::Pepper,
        credential::{Credential, Verifier},
        device::Approval,
        device_code::Origin,
        directory::{Account, Seen, User},
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_369_358).unwrap()
    }

    fn device(uid: u128, id: u128, account: u128) -> Device {
        let approval = Approval {
            device: Uuid::from_u128(id),
            client: Uuid::from_u128(77),
            account: Uuid::from_u128(account),
            approved: now() - SignedDuration::from_secs(60),
        };
        Device {
            uid: Uuid::from_u128(uid),
            object: "dev-x".into(),
            approval,
            account_object: "ci".into(),
            proof: approval.proof(&Pepper::new([1; 32]), Uuid::nil(), None),
            trusted: false,
            locked: false,
            until: None,
            redeemed: Some(now()),
            origin: Origin::default(),
            created: now(),
            recorded: None,
            seen: Seen::default(),
        }
    }

    fn password(text: &str) -> Credential {
        let (pepper, user) = (Pepper::new([1; 32]), Uuid::from_u128(2));
        let verifier = Verifier::new(&pepper, user, &text.parse().unwrap(), [0; 16]);
        Credential::Password(verifier.unwrap())
    }

    fn directory() -> Directory {
        let mut directory = Directory::default();
        let name = || "ci".to_owned();
        directory.put_account(Account::new(Uuid::from_u128(1), name(), name(), now()));
        directory.put_user(User::new(Uuid::from_u128(2), name(), name(), now()));
        directory.set_credential(Uuid::from_u128(2), password("correct horse"));
        directory.put_device(device(10, 100, 1));
        directory.put_device(device(20, 200, 2));
        directory
    }

    fn holder(directory: &Directory, id: u128, hours: i64) -> Result<Principal, Refused> {
        let device = directory.device(Uuid::from_u128(id)).unwrap();
        directory.device_holder(device, now() + SignedDuration::from_hours(hours))
    }

    #[test]
    fn counts_as_long_as_device_and_holder_do() {
        let directory = directory();
        assert!(holder(&directory, 100, 0).is_ok());
        assert!(holder(&directory, 200, 23).is_ok());
        let device = Uuid::from_u128(200);
        let inactive = Err(Refused::InactiveDevice { device });
        assert_eq!(holder(&directory, 200, 24), inactive);
    }

    type Change = fn(&mut Directory);

    #[test]
    fn ends_at_once_with_what_it_depends_on() {
        let changes: [Change; 7] = [
            |d| {
                let locked = Device {
                    locked: true,
                    ..device(20, 200, 2)
                };
                d.put_device(locked);
            },
            |d| drop(d.remove_device(Uuid::from_u128(20))),
            |d| drop(d.remove_user(Uuid::from_u128(2))),
            |d| {
                let mut user = d.remove_user(Uuid::from_u128(2)).unwrap();
                user.epoch += 1;
                d.put_user(user);
            },
            |d| d.set_credential(Uuid::from_u128(2), password("battery staple")),
            // Nobody has a password any more.
            |d| d.set_credentials(HashMap::new()),
            // Another approval takes its place.
            |d| d.put_device(device(20, 201, 2)),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut directory = directory();
            let Principal { account, by } = holder(&directory, 200, 0).unwrap();
            let By::Device { device, stamp } = by else {
                panic!("{by:?}")
            };
            change(&mut directory);
            let after = directory.authorize_device(account, device, stamp, now(), None);
            assert!(after.is_err(), "change {n}");
            assert!(holder(&directory, 100, 0).is_ok(), "change {n}");
        }
    }

    /// attacks.md D19: also where somebody approved it at the same moment.
    #[test]
    fn d19_what_was_denied_is_no_device_of_anybody() {
        let mut directory = directory();
        let Principal { account, by } = holder(&directory, 200, 0).unwrap();
        let By::Device { device, stamp } = by else {
            panic!("{by:?}")
        };
        let uid = Uuid::from_u128(30);
        directory.put_denial(Denial { uid, device });
        assert!(directory.device(device).is_none() && directory.is_denied(device));
        let after = directory.authorize_device(account, device, stamp, now(), None);
        assert_eq!(after, Err(Refused::Revoked));
        directory.keep_devices(&HashSet::from([uid]));
        assert!(directory.is_denied(device));
        directory.keep_devices(&HashSet::new());
        assert!(!directory.is_denied(device));
    }

    #[test]
    fn of_two_that_claim_an_id_the_first_approved_has_it() {
        let mut directory = directory();
        let mut late = device(30, 200, 1);
        late.approval.approved = now();
        directory.put_device(late);
        let found = directory.device(Uuid::from_u128(200)).unwrap();
        assert_eq!(found.uid, Uuid::from_u128(20));
        directory.remove_device(Uuid::from_u128(20));
        let found = directory.device(Uuid::from_u128(200)).unwrap();
        assert_eq!(found.uid, Uuid::from_u128(30));
    }
}

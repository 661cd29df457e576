//! Devices in memory.

use jiff::Timestamp;
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    auth::{
        device::{Denial, Device, DeviceState},
        directory::{Directory, Seen},
    },
    store::{
        devices::{DeviceRegistrar, NewDenial, NewDevice, Redeeming},
        registrar::{Changing, NotChanged, Object},
    },
};

impl MemoryStore {
    fn approve_device(
        &self,
        directory: &mut Directory,
        new: NewDevice,
    ) -> Result<Object, NotChanged> {
        let (approval, now) = (new.approval, new.approval.approved);
        if directory.is_denied(approval.device) {
            return Err(NotChanged::Exists);
        }
        if let Some(claim) = directory.device(approval.device) {
            let is_its = claim.approval.account == approval.account;
            return match is_its {
                true => Ok(object(claim)),
                false => Err(NotChanged::Exists),
            };
        }
        let of_holder = || directory.devices_of(approval.account);
        let former = of_holder().find(|d| d.approval.client == approval.client);
        if former.is_some_and(|former| former.locked) {
            return Err(NotChanged::Locked);
        }
        if former.is_some_and(|former| approval.device <= former.id()) {
            return Err(NotChanged::Exists);
        }
        let counts = |d: &&Device| {
            d.approval.client != approval.client && d.state(&new.terms, now) != DeviceState::Expired
        };
        let others = of_holder().filter(counts).count();
        if others >= new.terms.at_most {
            return Err(NotChanged::TooMany(others));
        }
        let former = former.map(|former| (former.uid, former.created));
        let (uid, created) = former.unwrap_or_else(|| (self.draw(), now));
        let device = Device {
            uid,
            object: format!("dev-{}", uid.simple()),
            approval,
            account_object: new.holder.name,
            proof: new.proof,
            trusted: new.trusted,
            locked: false,
            until: None,
            redeemed: None,
            origin: new.origin,
            created,
            recorded: None,
            seen: Seen::default(),
        };
        let made = object(&device);
        directory.put_device(device);
        Ok(made)
    }

    fn deny_device(&self, directory: &mut Directory, new: &NewDenial) -> Result<(), NotChanged> {
        let device = new.decision.device;
        if directory.device(device).is_some() {
            return Err(NotChanged::Exists);
        }
        if !directory.is_denied(device) {
            let uid = self.draw();
            directory.put_denial(Denial { uid, device });
        }
        Ok(())
    }

    fn change_device<T: Send + 'static>(
        &self,
        wanted: Uuid,
        change: impl FnOnce(&mut Device) -> Result<T, NotChanged>,
    ) -> Changing<'_, T> {
        self.register(|state| {
            let device = state.directory.remove_device(wanted);
            let mut device = device.ok_or(NotChanged::Gone)?;
            let changed = change(&mut device);
            state.directory.put_device(device);
            changed
        })
    }
}

fn object(device: &Device) -> Object {
    Object {
        uid: device.uid,
        name: device.object.clone(),
    }
}

fn redeem(device: &mut Device, at: Timestamp) -> Result<(), NotChanged> {
    if device.locked {
        return Err(NotChanged::Locked);
    }
    match device.redeemed {
        Some(_) => Err(NotChanged::Exists),
        None => {
            device.redeemed = Some(at);
            Ok(())
        }
    }
}

impl DeviceRegistrar for MemoryStore {
    fn approve(&self, device: NewDevice) -> Changing<'_, Object> {
        self.register(|state| self.approve_device(&mut state.directory, device))
    }

    fn deny(&self, denial: NewDenial) -> Changing<'_, ()> {
        self.register(|state| self.deny_device(&mut state.directory, &denial))
    }

    fn redeem(&self, device: Object, attempt: Redeeming) -> Changing<'_, ()> {
        self.change_device(device.uid, |device| redeem(device, attempt.at))
    }

    fn set_locked(&self, device: Object, locked: bool) -> Changing<'_, ()> {
        self.change_device(device.uid, |device| {
            device.locked = locked;
            Ok(())
        })
    }

    fn delete(&self, device: Object) -> Changing<'_, ()> {
        self.register(|state| {
            state.directory.remove_device(device.uid);
            Ok(())
        })
    }
}

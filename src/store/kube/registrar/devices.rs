//! Devices in Kubernetes: an approval makes or renews one object, a redemption changes it once.
//!
//! Both begin with a live list of the objects that claim the device's id. So of two who approve
//! one device at the same moment, on two replicas, neither is given a token: whoever redeems
//! second sees both. A redemption is written at the version that was read, under an id of its own:
//! the API server lets one through, and one that was not answered is known again.

use futures::FutureExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    FIELD_MANAGER,
    calls::{ATTEMPTS, Kind, call, object, patch_spec, read, told},
    declared, labels, names,
};
use crate::{
    api::{UserKind, ZenDevice, whole_seconds},
    auth::device::DeviceState,
    store::{
        devices::{DeviceRegistrar, NewDenial, NewDevice, Redeeming},
        kube::{ServerName, project},
        registrar::{Changing, NotChanged, Object},
    },
};

/// Changes the devices of one server in Kubernetes.
#[derive(Clone)]
pub struct KubeDevices {
    devices: Api<ZenDevice>,
    server: String,
}

impl Kind for ZenDevice {
    const WHAT: &'static str = "device";

    fn called(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

impl KubeDevices {
    /// Changes what belongs to `server`. `client` repeats no call by itself.
    pub fn new(client: Client, server: &ServerName) -> Self {
        Self {
            devices: Api::namespaced(client, &server.namespace),
            server: server.name.clone(),
        }
    }

    async fn approved(&self, new: NewDevice) -> Result<Object, NotChanged> {
        let account = new.approval.account.to_string();
        let name = names::of_device(&self.server, new.approval.client, &account);
        for _ in 0..ATTEMPTS {
            match self.try_approve(&name, &new).await {
                // Others were quicker, or nobody answered: what is there now decides.
                Err(Failed::Again) => {}
                Err(Failed::Refused(why)) => return Err(why),
                Ok(done) => return Ok(done),
            }
        }
        Err(NotChanged::Unreachable)
    }

    async fn try_approve(&self, name: &str, new: &NewDevice) -> Result<Object, Failed> {
        let claims = self.claims(new.approval.device).await?;
        if let Some(claim) = claims.first() {
            // A second tab, or an answer that was lost.
            let is_ours = claims.len() == 1 && claim.name_any() == name;
            return match is_ours {
                true => Ok(object(claim)?),
                false => Err(NotChanged::Exists.into()),
            };
        }
        self.check_room(name, new).await?;
        let wanted = serde_json::from_value(self.body(name, new));
        let wanted: ZenDevice = wanted.map_err(|_| NotChanged::Unreachable)?;
        match call(self.devices.create(&parameters_of_creation(), &wanted)).await {
            Ok(made) => Ok(object(&made)?),
            Err(NotChanged::Exists) => self.renew(name, new).await,
            Err(why) => Err(why.into()),
        }
    }

    async fn denied(&self, new: NewDenial) -> Result<(), NotChanged> {
        for _ in 0..ATTEMPTS {
            match self.try_deny(&new).await {
                Err(Failed::Again) => {}
                Err(Failed::Refused(why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
        }
        Err(NotChanged::Unreachable)
    }

    /// The claim is an object of its own: the device of this client and holder, from an earlier
    /// login, stays as it is. Of a denial and an approval at the same moment both are written, and
    /// whoever redeems finds two claims.
    async fn try_deny(&self, new: &NewDenial) -> Result<(), Failed> {
        let claims = self.claims(new.decision.device).await?;
        if claims.iter().any(is_denial) {
            return Ok(());
        }
        if !claims.is_empty() {
            return Err(NotChanged::Exists.into());
        }
        let of_holder = format!("spec.userRef.name={}", new.holder.name);
        let parameters = ListParams::default().fields(&of_holder);
        let all = call(self.devices.list(&parameters)).await?.items;
        let denials = all.iter().filter(|d| is_denial(d)).count();
        if denials >= new.at_most {
            return Err(NotChanged::TooMany(denials).into());
        }
        let wanted = serde_json::from_value(self.denial(new));
        let wanted: ZenDevice = wanted.map_err(|_| NotChanged::Unreachable)?;
        match call(self.devices.create(&parameters_of_creation(), &wanted)).await {
            // It is named after the device: whoever was quicker denied it too.
            Ok(_) | Err(NotChanged::Exists) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    fn denial(&self, new: &NewDenial) -> Value {
        let kind = kind(new.is_user);
        let decision = &new.decision;
        json!({
            "apiVersion": ZenDevice::api_version(&()), "kind": ZenDevice::kind(&()),
            "metadata": {
                "name": names::of_denial(&self.server, decision.device),
                "labels": labels(), "ownerReferences": owner(kind, &new.holder),
            },
            "spec": {
                "serverRef": {"name": self.server},
                "clientId": decision.client.to_string(),
                "userRef": {"kind": kind, "name": new.holder.name},
                "expiresAt": whole_seconds(new.expires),
                "authorization": {
                    "deviceId": decision.device.to_string(),
                    "accountId": decision.account.to_string(),
                    "approvedTime": whole_seconds(decision.approved),
                    "proof": new.proof.to_hex(),
                    "denied": true,
                },
            },
        })
    }

    /// Gives the device that is there the new approval. Tokens of the former one name another id.
    async fn renew(&self, name: &str, new: &NewDevice) -> Result<Object, Failed> {
        let live = match call(self.devices.get(name)).await {
            Err(NotChanged::Gone) => return Err(Failed::Again),
            other => other?,
        };
        let spec = &live.spec;
        let is_its = spec.client_id == new.approval.client.to_string()
            && spec.server_ref.name == self.server
            && spec.user_ref.name == new.holder.name
            && spec.user_ref.kind == kind(new.is_user);
        if !is_its || live.metadata.deletion_timestamp.is_some() {
            return Err(NotChanged::Exists.into());
        }
        if spec.locked {
            return Err(NotChanged::Locked.into());
        }
        // Ids are ordered by time. One that was replaced is over: its code may have been redeemed.
        let before = spec.authorization.as_ref();
        let before = before.and_then(|of| Uuid::try_parse(&of.device_id).ok());
        if before.is_some_and(|before| new.approval.device <= before) {
            return Err(NotChanged::Exists.into());
        }
        let spec = json!({
            // A merge patch keeps what it does not name; all that may be left out is named there.
            "authorization": authorization(new), "trusted": new.trusted, "expiresAt": null,
        });
        Ok(object(&self.patch(&live, spec).await?)?)
    }

    /// Whether the holder may have another device; the one that would be renewed does not count.
    async fn check_room(&self, name: &str, new: &NewDevice) -> Result<(), Failed> {
        let of_holder = format!("spec.userRef.name={}", new.holder.name);
        let parameters = ListParams::default().fields(&of_holder);
        let all = call(self.devices.list(&parameters)).await?.items;
        let counts = |device: &&ZenDevice| {
            let known = project::device(device);
            let state = known.map(|known| known.state(&new.terms, new.approval.approved));
            device.name_any() != name
                && device.spec.server_ref.name == self.server
                && device.spec.user_ref.kind == kind(new.is_user)
                && !is_denial(device)
                && state != Some(DeviceState::Expired)
        };
        match all.iter().filter(counts).count() {
            many if many >= new.terms.at_most => Err(NotChanged::TooMany(many).into()),
            _ => Ok(()),
        }
    }

    async fn redeemed(&self, device: Object, attempt: Redeeming) -> Result<(), NotChanged> {
        for _ in 0..ATTEMPTS {
            match self.try_redeem(&device, attempt).await {
                Err(Failed::Again) => {}
                Err(Failed::Refused(why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
        }
        Err(NotChanged::Unreachable)
    }

    async fn try_redeem(&self, device: &Object, attempt: Redeeming) -> Result<(), Failed> {
        let claims = self.claims(attempt.device).await?;
        let [live] = claims.as_slice() else {
            let none = claims.is_empty();
            let why = if none {
                NotChanged::Gone
            } else {
                NotChanged::Exists
            };
            return Err(why.into());
        };
        let is_it = live.uid() == Some(device.uid.to_string());
        if !is_it || live.metadata.deletion_timestamp.is_some() {
            return Err(NotChanged::Gone.into());
        }
        if live.spec.locked {
            return Err(NotChanged::Locked.into());
        }
        let redemption = live.spec.authorization.as_ref();
        let redemption = redemption.and_then(|of| of.redemption.as_ref());
        let id = attempt.id.to_string();
        match redemption {
            // Not answered, yet done.
            Some(done) if done.id == id => return Ok(()),
            Some(_) => return Err(NotChanged::Exists.into()),
            None => {}
        }
        let redemption = json!({"time": whole_seconds(attempt.at), "id": id});
        let spec = json!({"authorization": {"redemption": redemption}});
        self.patch(live, spec).await?;
        Ok(())
    }

    async fn lock(&self, wanted: Object, locked: bool) -> Result<(), NotChanged> {
        for _ in 0..ATTEMPTS {
            let live = read(&self.devices, &wanted).await?;
            if live.spec.locked == locked {
                return Ok(());
            }
            // To lock is never refused: it is what one does when something is wrong.
            if !locked && declared::is_declared(&live.metadata) {
                return Err(NotChanged::Declared(told(&live)));
            }
            match self.patch(&live, json!({"locked": locked})).await {
                Ok(_) => return Ok(()),
                Err(Failed::Again) => {}
                Err(Failed::Refused(why)) => return Err(why),
            }
        }
        Err(NotChanged::Unreachable)
    }

    async fn remove(&self, wanted: Object) -> Result<(), NotChanged> {
        for _ in 0..ATTEMPTS {
            let live = match read(&self.devices, &wanted).await {
                Err(NotChanged::Gone) => return Ok(()),
                other => other?,
            };
            // Made anew, it would not be locked.
            if live.spec.locked && declared::is_declared(&live.metadata) {
                return Err(NotChanged::Declared(told(&live)));
            }
            let parameters = DeleteParams::default().preconditions(Preconditions {
                uid: live.uid(),
                resource_version: live.resource_version(),
            });
            match call(self.devices.delete(&wanted.name, &parameters)).await {
                Ok(_) | Err(NotChanged::Gone) => return Ok(()),
                Err(NotChanged::Exists | NotChanged::Unreachable) => {}
                Err(other) => return Err(other),
            }
        }
        Err(NotChanged::Unreachable)
    }

    /// The objects that claim a device's id, as they are now.
    async fn claims(&self, device: Uuid) -> Result<Vec<ZenDevice>, Failed> {
        let field = format!("spec.authorization.deviceId={device}");
        let parameters = ListParams::default().fields(&field);
        let mut claims = call(self.devices.list(&parameters)).await?.items;
        claims.retain(|claim| claim.spec.server_ref.name == self.server);
        Ok(claims)
    }

    /// Patches the spec at the version that was read.
    async fn patch(&self, live: &ZenDevice, spec: Value) -> Result<ZenDevice, Failed> {
        match patch_spec(&self.devices, live, spec).await {
            // Nobody reads this answer as "the name is taken": another version is there.
            Err(NotChanged::Exists) => Err(Failed::Again),
            other => Ok(other?),
        }
    }

    fn body(&self, name: &str, new: &NewDevice) -> Value {
        let kind = kind(new.is_user);
        json!({
            "apiVersion": ZenDevice::api_version(&()), "kind": ZenDevice::kind(&()),
            "metadata": {"name": name, "labels": labels(), "ownerReferences": owner(kind, &new.holder)},
            "spec": {
                "serverRef": {"name": self.server},
                "clientId": new.approval.client.to_string(),
                "userRef": {"kind": kind, "name": new.holder.name},
                "trusted": new.trusted,
                "authorization": authorization(new),
            },
        })
    }
}

/// Why an attempt did not succeed.
enum Failed {
    /// Others were quicker, or nobody answered.
    Again,
    /// It never will.
    Refused(NotChanged),
}

impl From<NotChanged> for Failed {
    fn from(why: NotChanged) -> Self {
        match why {
            NotChanged::Unreachable => Self::Again,
            other => Self::Refused(other),
        }
    }
}

fn authorization(new: &NewDevice) -> Value {
    json!({
        "deviceId": new.approval.device.to_string(),
        "accountId": new.approval.account.to_string(),
        "approvedTime": whole_seconds(new.approval.approved),
        "proof": new.proof.to_hex(),
        "redemption": null,
        "hostname": new.origin.hostname,
        "os": new.origin.os,
        "clientVersion": new.origin.zenml_version,
        "pythonVersion": new.origin.python_version,
        "ipAddress": new.origin.address,
    })
}

/// It goes with who decided.
fn owner(kind: UserKind, holder: &Object) -> Value {
    json!([{
        "apiVersion": ZenDevice::api_version(&()), "kind": kind,
        "name": holder.name, "uid": holder.uid,
    }])
}

fn parameters_of_creation() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

fn is_denial(device: &ZenDevice) -> bool {
    let authorization = device.spec.authorization.as_ref();
    authorization.is_some_and(|of| of.denied)
}

fn kind(is_user: bool) -> UserKind {
    match is_user {
        true => UserKind::ZenUser,
        false => UserKind::ZenServiceAccount,
    }
}

impl DeviceRegistrar for KubeDevices {
    fn approve(&self, device: NewDevice) -> Changing<'_, Object> {
        self.approved(device).boxed()
    }

    fn deny(&self, denial: NewDenial) -> Changing<'_, ()> {
        self.denied(denial).boxed()
    }

    fn redeem(&self, device: Object, attempt: Redeeming) -> Changing<'_, ()> {
        self.redeemed(device, attempt).boxed()
    }

    fn set_locked(&self, device: Object, locked: bool) -> Changing<'_, ()> {
        self.lock(device, locked).boxed()
    }

    fn delete(&self, device: Object) -> Changing<'_, ()> {
        self.remove(device).boxed()
    }
}

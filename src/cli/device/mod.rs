//! `kubectl zen device`: devices that people log in from.

mod approve;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Session,
    arguments::{ListArguments, WriteArguments},
    change::{Change, Consent},
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, word, yes_no},
    failure::Failure,
    list,
    noun::{Names, Noun, each, report},
};
use crate::api::ZenDevice;

/// Devices that people log in from.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List devices.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen device list
  kubectl zen device list --user ana
  kubectl zen device list -A -o wide"
    )]
    List(DeviceList),

    /// Tell all of some devices.
    #[command(after_long_help = "\
Examples:
  kubectl zen device describe dev-5a1f0c2b9d3e4f607182")]
    Describe(DescribeArguments),

    /// Approve a device, as the account of a key.
    #[command(
        long_about = "Approve a device that `zenml login` began to authorize, by the link that it \
                      shows. The device then acts as the account of the key that you name, whose \
                      Secret you may read.\n\n\
                      What the link says is sealed for its server, so the server is asked, and \
                      nobody else: at its own address, or at --server-url if that is not \
                      reachable from here. Approve only what you began yourself.",
        after_long_help = "\
Examples:
  kubectl zen device approve 'https://zenml.example.org/devices/verify?device_id=…' --key ci-main
  kubectl port-forward service/prod 8080:80 &
  kubectl zen device approve '/devices/verify?device_id=…' --key ci-main --server-url http://127.0.0.1:8080"
    )]
    Approve(approve::ApproveArguments),

    /// Refuse the tokens of devices at once.
    #[command(
        long_about = "Lock devices: their tokens are refused at once, and none can be approved \
                      again for the same client and person until it is unlocked. It works without \
                      the operator.",
        after_long_help = "\
Examples:
  kubectl zen device lock dev-5a1f0c2b9d3e4f607182"
    )]
    Lock(LockArguments),

    /// Accept the tokens of locked devices again, if they are not over.
    #[command(after_long_help = "\
Examples:
  kubectl zen device unlock dev-5a1f0c2b9d3e4f607182")]
    Unlock(UnlockArguments),

    /// Delete devices.
    #[command(after_long_help = "\
Examples:
  kubectl zen device delete dev-5a1f0c2b9d3e4f607182 --yes")]
    Delete(DeleteArguments),
}

/// `list`.
#[derive(Clone, Debug, Args)]
pub struct DeviceList {
    #[command(flatten)]
    common: ListArguments,

    /// Only those of this user or service account, by the name of its object.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// `lock`.
#[derive(Clone, Debug, Args)]
pub struct LockArguments {
    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    write: WriteArguments,
}

/// `unlock`.
#[derive(Clone, Debug, Args)]
pub struct UnlockArguments {
    #[command(flatten)]
    common: LockArguments,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    override_owner: bool,
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// As each command says.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => {
                let user = arguments.user.as_ref();
                let field = user.map(|user| format!("spec.userRef.name={user}"));
                list::list::<ZenDevice>(session, &arguments.common, field).await
            }
            Self::Describe(arguments) => describe::describe::<ZenDevice>(session, arguments).await,
            Self::Approve(arguments) => arguments.run(session).await,
            Self::Lock(arguments) => set_locked(session, arguments, true, Consent::Warn).await,
            Self::Unlock(arguments) => {
                let consent = Consent::of(arguments.override_owner);
                set_locked(session, &arguments.common, false, consent).await
            }
            Self::Delete(arguments) => delete::delete::<ZenDevice>(session, arguments).await,
        }
    }
}

async fn set_locked(
    session: &Session,
    arguments: &LockArguments,
    locked: bool,
    consent: Consent,
) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    let change = Change {
        patch: json!({"spec": {"locked": locked}}),
        file: format!("spec:\n  locked: {locked}"),
        consent,
        dry: arguments.write.dry_run,
    };
    let verb = if locked { "locked" } else { "unlocked" };
    each(session, &arguments.names, async |name| {
        let differs = |device: &ZenDevice| Ok(device.spec.locked != locked);
        let (found, changed) = change.make(session, &cluster, name, differs).await?;
        let said = match changed {
            true => verb.to_owned(),
            false => format!("is {verb} already"),
        };
        report(session, &arguments.write, &found.raw, &said)
    })
    .await
}

impl Noun for ZenDevice {
    const NOUN: &'static str = "device";
    const DELETED: &'static str = "Its token is refused at once, for ever.";
    const OFF: &'static str = "lock";

    fn is_active(&self) -> bool {
        !self.spec.locked
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Server", &*spec.server_ref.name);
        let kind = word(spec.user_ref.kind);
        page.field("Acts as", format!("{kind} {}", spec.user_ref.name));
        page.field("Client id", &*spec.client_id);
        page.optional("Description", Some(&*spec.description));
        page.field("Trusted", yes_no(spec.trusted));
        page.field("Locked", yes_no(spec.locked));
        if let Some(of) = &spec.authorization {
            page.field("Device id", &*of.device_id);
            let decided = if of.denied { "Denied" } else { "Approved" };
            page.time(decided, Some(&of.approved_time));
            page.time("Logged in", of.redemption.as_ref().map(|r| &r.time));
            page.optional("Host", of.hostname.as_deref());
            page.optional("System", of.os.as_deref());
            page.optional("ZenML", of.client_version.as_deref());
            page.optional("Python", of.python_version.as_deref());
            page.optional("Address", of.ip_address.as_deref());
        }
        let Some(status) = &self.status else { return };
        page.optional("State", status.state.map(word));
        page.time("Expires", status.expires_at.as_ref());
        page.time("Last used", status.last_used_time.as_ref());
    }
}

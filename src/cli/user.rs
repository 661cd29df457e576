//! `kubectl zen user`: the people of a server.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Session,
    active::{self, ActivateArguments, ActiveArguments},
    arguments::{DryRun, ListArguments, Patience, WriteArguments},
    change::{Change, Consent},
    create,
    delete::{self, DeleteArguments},
    describe::{self, DescribeArguments, Page, word, yes_no},
    failure::Failure,
    list,
    noun::{Names, Noun, each, report},
    span::Span,
};
use crate::api::ZenUser;

/// Users: the people of a server.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List users.
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  kubectl zen user list
  kubectl zen user list -A -o wide
  kubectl zen user list --server prod -o name"
    )]
    List(UserList),

    /// Tell all of some users.
    #[command(after_long_help = "\
Examples:
  kubectl zen user describe ana")]
    Describe(DescribeArguments),

    /// Make a user.
    #[command(
        long_about = "Make a user. It logs in with the password of a Secret that you name, or \
                      chooses a password once, with a token that is put in a Secret: \
                      NAME-activation, unless you say another.\n\n\
                      No password and no token is ever printed or taken here.",
        after_long_help = "\
Examples:
  kubectl zen user create ana --wait
  kubectl zen user create ana --admin --zenml-name ana@example.org
  kubectl zen user create ana --password-from ana-password/password
  # A file for Git instead of an object:
  kubectl zen user create ana --server prod --dry-run=client -o yaml > ana.yaml"
    )]
    Create(Box<UserCreate>),

    /// Let users log in again.
    #[command(after_long_help = "\
Examples:
  kubectl zen user activate ana --wait")]
    Activate(ActivateArguments),

    /// Refuse users, their devices and all their tokens, at once.
    #[command(
        long_about = "Refuse users at once: their password, their devices, and every token \
                      already issued. Nothing is lost: `kubectl zen user activate` restores them.\n\n\
                      It works without the operator, as the servers watch the users themselves; \
                      --wait waits for the operator to confirm it. A user that Flux, Argo CD or \
                      Helm manages is deactivated too, with a warning on how to make it last.",
        after_long_help = "\
Examples:
  kubectl zen user deactivate ana
  kubectl zen user deactivate ana ben --wait"
    )]
    Deactivate(ActiveArguments),

    /// Sign users out everywhere: every token already issued is refused, at once.
    #[command(
        long_about = "Sign users out everywhere: the token of every browser, program and device \
                      of theirs is refused at once. They may log in again.",
        after_long_help = "\
Examples:
  kubectl zen user sign-out ana"
    )]
    SignOut(SignOut),

    /// Forget the passwords of users, and let them choose new ones with a new token.
    #[command(
        long_about = "Forget the passwords of users at once, sign them out, and make each a new \
                      token to choose a password with, in a new Secret: NAME-activation- and the time.",
        after_long_help = "\
Examples:
  kubectl zen user reset ana
  kubectl get secret ana-activation-20270331120000 -o jsonpath='{.data.token}' | base64 -d"
    )]
    Reset(Reset),

    /// Delete users.
    #[command(
        long_about = "Delete users. Their tokens and devices are refused at once, and stay dead \
                      when a user of the same name is made again.",
        after_long_help = "\
Examples:
  kubectl zen user delete ana
  kubectl zen user delete ana --yes --wait"
    )]
    Delete(DeleteArguments),
}

/// `user list`.
#[derive(Clone, Debug, Args)]
pub struct UserList {
    #[command(flatten)]
    list: ListArguments,

    /// Only those of this ZenServer.
    #[arg(long)]
    server: Option<String>,
}

/// `user create`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("credential").args(["password_from", "activation_secret"]))]
pub struct UserCreate {
    /// The user's name.
    name: String,

    /// The ZenServer it belongs to. Default: the only one of the namespace.
    #[arg(long)]
    server: Option<String>,

    /// Its name in ZenML, if that is another.
    #[arg(long, value_name = "NAME")]
    zenml_name: Option<String>,

    /// Its name for people.
    #[arg(long, value_name = "TEXT")]
    full_name: Option<String>,

    /// Its mail address.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,

    /// Let it manage users, service accounts and API keys through ZenML's API.
    #[arg(long)]
    admin: bool,

    /// The Secret, and the entry of it, in which its password is.
    #[arg(long, value_name = "SECRET/ENTRY", value_parser = entry)]
    password_from: Option<Entry>,

    /// The Secret in which the token to choose a password is put.
    #[arg(long, value_name = "SECRET")]
    activation_secret: Option<String>,

    /// How long the token may be used. Default: 72h.
    #[arg(long, value_name = "TIME", conflicts_with = "password_from")]
    activation_ttl: Option<Span>,

    #[command(flatten)]
    write: WriteArguments,

    /// Wait until it is set up.
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    patience: Patience,
}

/// `user sign-out`.
#[derive(Clone, Debug, Args)]
pub struct SignOut {
    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    write: WriteArguments,
}

/// `user reset`.
#[derive(Clone, Debug, Args)]
pub struct Reset {
    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    write: WriteArguments,

    /// Do it although Flux, Argo CD or Helm manages the object and may undo it.
    #[arg(long = "override")]
    override_owner: bool,
}

/// An entry of a Secret.
#[derive(Clone, Debug)]
struct Entry {
    secret: String,
    key: String,
}

fn entry(text: &str) -> Result<Entry, String> {
    match text.split_once('/') {
        Some((secret, key)) if !secret.is_empty() && !key.is_empty() => Ok(Entry {
            secret: secret.to_owned(),
            key: key.to_owned(),
        }),
        _ => Err("say SECRET/ENTRY, such as ana-password/password".to_owned()),
    }
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If it fails, in words.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => {
                let server = arguments.server.as_ref();
                let field = server.map(|name| format!("spec.serverRef.name={name}"));
                list::list::<ZenUser>(session, &arguments.list, field).await
            }
            Self::Describe(arguments) => describe::describe::<ZenUser>(session, arguments).await,
            Self::Create(arguments) => arguments.run(session).await,
            Self::Activate(arguments) => active::activate::<ZenUser>(session, arguments).await,
            Self::Deactivate(arguments) => active::deactivate::<ZenUser>(session, arguments).await,
            Self::SignOut(arguments) => arguments.run(session).await,
            Self::Reset(arguments) => arguments.run(session).await,
            Self::Delete(arguments) => delete::delete::<ZenUser>(session, arguments).await,
        }
    }
}

impl UserCreate {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let patience = self.wait.then_some(&self.patience);
        let (name, server) = (&*self.name, self.server.as_deref());
        let spec = |server: &str| self.spec(server);
        create::create::<ZenUser>(session, name, server, spec, &self.write, patience).await?;
        if let Some(secret) = self.activation_secret()
            && self.write.dry_run == DryRun::None
        {
            session.out.note(&format!(
                "Its token to choose a password with is put in Secret {secret}, entry token."
            ));
        }
        Ok(())
    }

    fn activation_secret(&self) -> Option<String> {
        let default = || format!("{}-activation", self.name);
        let none = self.password_from.is_none();
        none.then(|| self.activation_secret.clone().unwrap_or_else(default))
    }

    /// What was asked for and nothing else: what has a default is the API server's to fill in.
    fn spec(&self, server: &str) -> Value {
        let from = self.password_from.as_ref();
        let password =
            from.map(|from| json!({"secretKeyRef": {"name": from.secret, "key": from.key}}));
        let activation = self
            .activation_secret()
            .map(|name| match self.activation_ttl {
                Some(ttl) => json!({"secretName": name, "ttl": ttl.to_api()}),
                None => json!({"secretName": name}),
            });
        let fields = [
            ("serverRef", Some(json!({"name": server}))),
            ("name", self.zenml_name.clone().map(Value::from)),
            ("fullName", self.full_name.clone().map(Value::from)),
            ("email", self.email.clone().map(Value::from)),
            ("isAdmin", self.admin.then_some(Value::from(true))),
            ("passwordFrom", password),
            ("activation", activation),
        ];
        let set = fields.into_iter().filter_map(|(k, v)| Some((k, v?)));
        Value::Object(
            set.map(|(name, value)| (name.to_owned(), value))
                .collect::<Map<_, _>>(),
        )
    }
}

impl SignOut {
    /// An emergency like deactivation: who else manages the object is warned of, not asked. An
    /// epoch that a tool sets back revives nothing that this ended before its own next sync.
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        each(session, &self.names, async |name| {
            let epoch = cluster
                .read::<ZenUser>(name)
                .await?
                .typed
                .spec
                .session_epoch;
            let next = epoch.saturating_add(1);
            let change = Change {
                patch: json!({"spec": {"sessionEpoch": next}}),
                file: format!("spec:\n  sessionEpoch: {next}"),
                consent: Consent::Warn,
                dry: self.write.dry_run,
            };
            let needed = |user: &ZenUser| Ok(user.spec.session_epoch < next);
            let (found, _) = change.make(session, &cluster, name, needed).await?;
            report(session, &self.write, &found.raw, "signed out everywhere")
        })
        .await
    }
}

impl Reset {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let now = (session.now)().strftime("%Y%m%d%H%M%S").to_string();
        each(session, &self.names, async |name| {
            let secret = format!("{name}-activation-{now}");
            let change = Change {
                // What is null here is taken out: a password from a Secret would come back.
                patch: json!({"spec": {"passwordFrom": null, "activation": {"secretName": secret}}}),
                file: format!("spec:\n  activation:\n    secretName: {secret}"),
                consent: Consent::of(self.override_owner),
                dry: self.write.dry_run,
            };
            let needed = |user: &ZenUser| {
                let named = user.spec.activation.as_ref().and_then(|a| a.secret_name.as_ref());
                Ok(named != Some(&secret))
            };
            let (found, _) = change.make(session, &cluster, name, needed).await?;
            let said = format!("is to choose a password with the token in Secret {secret}");
            report(session, &self.write, &found.raw, &said)
        })
        .await
    }
}

impl Noun for ZenUser {
    const NOUN: &'static str = "user";
    const DELETED: &'static str = "Its tokens and devices are refused at once, for ever.";

    fn is_active(&self) -> bool {
        self.spec.active
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Server", &*spec.server_ref.name);
        page.field("Name in ZenML", self.zenml_name());
        page.optional("Full name", Some(&*spec.full_name));
        page.optional("Email", spec.email.as_deref());
        page.optional("Email may be shared", spec.email_opted_in.map(yes_no));
        page.field("Active", yes_no(spec.active));
        page.field("Admin", yes_no(spec.is_admin));
        if let Some(from) = &spec.password_from {
            let from = &from.secret_key_ref;
            page.field(
                "Password from",
                format!("Secret {}, entry {}", from.name, from.key),
            );
        }
        if let Some(person) = &spec.external {
            page.field("Issuer", &*person.issuer);
            page.field("Subject", &*person.subject);
        }
        let Some(status) = &self.status else { return };
        page.optional("User id", status.user_id.clone());
        page.optional("Method", status.method.map(word));
        page.time("Password set", status.password_set_time.as_ref());
        if let Some(of) = status.activation.as_ref() {
            page.field("Activation token", format!("in Secret {}", of.secret_name));
            page.field("Token used", yes_no(of.used));
            page.time("Token expires", Some(&of.expires_at));
        }
        page.time("Last login", status.last_authenticated_time.as_ref());
    }
}

//! What a pass may read: watched views for what others change, live reads for what we own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Secret, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject},
    runtime::reflector::{ObjectRef, Store},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    Reconciled,
    call::call,
    elsewhere::Elsewhere,
    error::CallError,
    made::{self, Made},
    plan::{Doomed, Live},
    references::Referrers,
    secret::{SecretNames, Sources},
};
use crate::{
    api::{
        Record, ZenAPIKey, ZenComponent, ZenDevice, ZenSecret, ZenServer, ZenServiceAccount,
        ZenUser, is_object_name,
    },
    auth::{
        api_key::Print,
        credential::Credential,
        keyring::Keyring,
        sealed::{OPENING_KEYS_ENTRY, OpeningKeys},
    },
};

/// Reads for passes of every kind.
pub struct Reader {
    client: Client,
    views: Views,
    is_everywhere: bool,
    /// By the server's UID.
    keyrings: Mutex<HashMap<String, Read<Keyring>>>,
    /// By the server's UID.
    opening: Mutex<HashMap<String, Read<OpeningKeys>>>,
    /// By the server's UID.
    passwords: Mutex<HashMap<String, Arc<Passwords>>>,
    /// By user: the version of a source whose password was found to be the one that is stored.
    proven: Mutex<HashMap<Uuid, Proof>>,
    /// Where the API server listens.
    api_server_ports: OnceCell<Vec<u16>>,
}

/// What was read, and of which version of the Secret.
type Read<T> = (Arc<Made>, Arc<T>);

/// A version of a Secret with a password, and what stands for that.
type Proof = (String, Print);

/// What stands for the passwords of a server's users.
#[derive(Debug)]
pub struct Passwords {
    /// The Secret's UID.
    pub uid: String,
    /// The version that was read.
    pub version: String,
    /// By user.
    pub of: HashMap<Uuid, Arc<Credential>>,
}

/// Watched views of the cluster.
#[derive(Clone)]
pub struct Views {
    /// All servers.
    pub servers: Store<ZenServer>,
    /// All accounts.
    pub accounts: Store<ZenServiceAccount>,
    /// All keys.
    pub keys: Store<ZenAPIKey>,
    /// All devices.
    pub devices: Store<ZenDevice>,
    /// All users.
    pub users: Store<ZenUser>,
    /// All secrets that are declared.
    pub declared: Store<ZenSecret>,
    /// Which of them has which name.
    pub secret_names: SecretNames,
    /// What they take values from.
    pub sources: Sources,
    /// All components.
    pub components: Store<ZenComponent>,
    /// Who refers to which secret.
    pub referrers: Referrers,
    /// The Secrets that we made; their content stays at the API server.
    pub secrets: made::View,
    /// Which kinds of others the cluster was found to have.
    pub elsewhere: Elsewhere,
}

impl Reader {
    /// A reader of these views and of the API server, which has rights in each namespace or in one.
    pub fn new(client: Client, views: Views, is_everywhere: bool) -> Self {
        Self {
            client,
            views,
            is_everywhere,
            keyrings: Mutex::default(),
            opening: Mutex::default(),
            passwords: Mutex::default(),
            proven: Mutex::default(),
            api_server_ports: OnceCell::new(),
        }
    }

    /// The watched views.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// A server of a namespace, as watched.
    pub fn server(&self, namespace: &str, name: &str) -> Option<Arc<ZenServer>> {
        self.views
            .servers
            .get(&ObjectRef::new(name).within(namespace))
    }

    /// An account of a namespace, as watched.
    pub fn account(&self, namespace: &str, name: &str) -> Option<Arc<ZenServiceAccount>> {
        self.views
            .accounts
            .get(&ObjectRef::new(name).within(namespace))
    }

    /// An object as it is now. There is none of a name that is none.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn live(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Live>, CallError> {
        // The schema refuses it too. kube puts a name into a path as it is.
        if !is_object_name(name) {
            return Ok(None);
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let what = || format!("get {} {namespace}/{name}", resource.kind);
        let found = call(what, api.get_opt(name)).await?;
        Ok(found.and_then(live))
    }

    /// The same of a kind that not each cluster has: where it does not, there is no object of it. One
    /// that is there is watched from now on.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn live_elsewhere(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Live>, CallError> {
        match self.live(resource, namespace, name).await {
            Ok(None) => Ok(None),
            Ok(found) => {
                self.views.elsewhere.saw(resource);
                Ok(found)
            }
            // Of an unknown path the API server says so in plain text, which is no status that says
            // that there is no such object.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the cluster has a kind that not each has. If so, it is watched from now on.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn serves(&self, resource: &ApiResource) -> Result<bool, CallError> {
        let version = &resource.api_version;
        let what = || format!("list the kinds of {version}");
        let kinds = match call(what, self.client.list_api_group_resources(version)).await {
            Ok(kinds) => kinds,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_there = kinds
            .resources
            .iter()
            .any(|kind| kind.kind == resource.kind);
        if is_there {
            self.views.elsewhere.saw(resource);
        }
        Ok(is_there)
    }

    /// The ports at which the API server itself listens, behind its Service; none, if we have rights in
    /// one namespace only. Asked once: another port is another cluster.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn api_server_ports(&self) -> Result<Vec<u16>, CallError> {
        if !self.is_everywhere {
            return Ok(Vec::new());
        }
        let ask = async || {
            let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
            let what = || "get EndpointSlice default/kubernetes".to_owned();
            let slice = call(what, api.get_opt("kubernetes")).await?;
            let ports = slice.and_then(|slice| slice.ports).unwrap_or_default();
            let ports = ports.into_iter().filter_map(|port| port.port);
            Ok(ports.filter_map(|port| u16::try_from(port).ok()).collect())
        };
        self.api_server_ports.get_or_try_init(ask).await.cloned()
    }

    /// An object of ours as it is now.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn object<K: Reconciled>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, CallError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = || format!("get {} {namespace}/{name}", K::kind(&()));
        call(what, api.get_opt(name)).await
    }

    /// The objects of a kind that a label selector selects, as they are now; at most 500.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn selected(
        &self,
        resource: &ApiResource,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Live>, CallError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let what = || format!("list {} {namespace}", resource.kind);
        let parameters = ListParams::default().labels(selector).limit(500);
        let found = call(what, api.list(&parameters)).await?;
        Ok(found.into_iter().filter_map(live).collect())
    }

    /// The secrets of a server, read again only when the Secret changed.
    ///
    /// `None` while there is none that is the server's, or it is not the one that the server's
    /// status names.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn keyring(&self, server: &ZenServer) -> Result<Option<Arc<Keyring>>, CallError> {
        let (Some(uid), Some(namespace)) = (server.uid(), server.namespace()) else {
            return Ok(None);
        };
        let name = server.auth_secret_name();
        let Some(seen) = self.views.secrets.get(&namespace, &name) else {
            return Ok(None);
        };
        let read = |secret| keyring_of(server, &secret);
        self.content_of(seen, uid, &self.keyrings, read).await
    }

    /// The keys that open what was sealed for a server, read again only when the Secret changed.
    ///
    /// `None` while there is none that is the server's and can be read.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn opening_keys(
        &self,
        server: &ZenServer,
    ) -> Result<Option<Arc<OpeningKeys>>, CallError> {
        let (Some(uid), Some(namespace)) = (server.uid(), server.namespace()) else {
            return Ok(None);
        };
        let name = server.sealing_secret_name();
        let seen = self.views.secrets.get(&namespace, &name);
        let Some(seen) = seen.filter(|seen| seen.owner().is_some_and(|owner| **owner == *uid))
        else {
            return Ok(None);
        };
        let read = |secret: Secret| {
            let data = secret.data.unwrap_or_default();
            let text = std::str::from_utf8(&data.get(OPENING_KEYS_ENTRY)?.0).ok()?;
            OpeningKeys::read(text).ok().map(Arc::new)
        };
        self.content_of(seen, uid, &self.opening, read).await
    }

    /// What a Secret holds for the server with this UID, read again only when it changed.
    async fn content_of<T>(
        &self,
        seen: Arc<Made>,
        uid: String,
        kept: &Mutex<HashMap<String, Read<T>>>,
        read: impl FnOnce(Secret) -> Option<Arc<T>>,
    ) -> Result<Option<Arc<T>>, CallError> {
        if let Some((at, content)) = kept.lock().get(&uid)
            && at.version == seen.version
        {
            return Ok(Some(Arc::clone(content)));
        }
        let (namespace, name) = (seen.namespace(), seen.name());
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let what = || format!("get Secret {namespace}/{name}");
        let content = call(what, api.get_opt(name)).await?.and_then(read);
        if let Some(content) = &content {
            kept.lock().insert(uid, (seen, Arc::clone(content)));
        }
        Ok(content)
    }

    /// The record of the object with this UID, if there is one, as watched.
    pub fn record(&self, namespace: &str, uid: &str) -> Option<Doomed> {
        let seen = self
            .views
            .secrets
            .get(namespace, &Record::secret_name(uid))?;
        seen.is_record.then(|| Doomed {
            resource: ApiResource::erase::<Secret>(&()),
            name: seen.name().into(),
            uid: seen.uid.to_string(),
            version: None,
        })
    }

    /// What stands for the passwords of a server's users, read again only when the Secret changed.
    ///
    /// `None` while there is none that is the server's.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn passwords(&self, server: &ZenServer) -> Result<Option<Arc<Passwords>>, CallError> {
        let (Some(uid), Some(namespace)) = (server.uid(), server.namespace()) else {
            return Ok(None);
        };
        let name = server.passwords_secret_name();
        let Some(seen) = self.views.secrets.get(&namespace, &name) else {
            return Ok(None);
        };
        if seen.owner().map(|owner| &**owner) != Some(&*uid) {
            return Ok(None);
        }
        if let Some(known) = self.passwords.lock().get(&uid)
            && *known.version == *seen.version
        {
            return Ok(Some(Arc::clone(known)));
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let what = || format!("get Secret {namespace}/{name}");
        let secret = call(what, api.get_opt(&name)).await?;
        let passwords = secret.and_then(passwords_in).map(Arc::new);
        if let Some(passwords) = &passwords {
            self.passwords.lock().insert(uid, Arc::clone(passwords));
        }
        Ok(passwords)
    }

    /// The entries among a server's passwords of users who are no more. Nobody is forgotten whom
    /// the view merely does not show yet: the API server is asked, after the entry was seen.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn forgotten_users(
        &self,
        server: &ZenServer,
        passwords: &Live,
    ) -> Result<Vec<String>, CallError> {
        let known: HashSet<String> = self
            .views
            .users
            .state()
            .iter()
            .filter_map(|u| u.uid())
            .collect();
        let is_known = |user: &Uuid| known.contains(&user.to_string());
        self.proven.lock().retain(|user, _| is_known(user));
        let data = passwords.body.get("data").and_then(Value::as_object);
        let entries = data.into_iter().flat_map(|data| data.keys());
        let mut gone: Vec<String> = entries
            .filter(|user| !known.contains(*user))
            .cloned()
            .collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
        let api: Api<ZenUser> = Api::namespaced(self.client.clone(), &namespace);
        let of_server = ListParams::default().fields(&format!("spec.serverRef.name={name}"));
        let what = || format!("list ZenUsers of {namespace}/{name}");
        let there = call(what, api.list_metadata(&of_server)).await?;
        let there: HashSet<String> = there.iter().filter_map(ResourceExt::uid).collect();
        gone.retain(|user| !there.contains(user));
        Ok(gone)
    }

    /// Whether this version of a source was found to hold what `print` stands for.
    pub(super) fn is_proven(&self, user: Uuid, source: &str, print: Print) -> bool {
        let proven = self.proven.lock();
        proven
            .get(&user)
            .is_some_and(|(version, of)| version == source && *of == print)
    }

    /// This version of a source holds what `print` stands for.
    pub(super) fn prove(&self, user: Uuid, source: String, print: Print) {
        self.proven.lock().insert(user, (source, print));
    }

    /// The Secrets that we made for an owner, but for one name, with the metadata to judge by.
    pub fn other_secrets(
        &self,
        namespace: &str,
        owner: &str,
        but: &str,
    ) -> Vec<(Doomed, Option<i64>)> {
        let resource = ApiResource::erase::<Secret>(&());
        let secrets = self.views.secrets.of_owner(owner);
        let others = secrets
            .into_iter()
            .filter(|secret| secret.namespace() == namespace && secret.name() != but);
        let describe = |secret: Arc<Made>| {
            let doomed = Doomed {
                resource: resource.clone(),
                name: secret.name().into(),
                uid: secret.uid.to_string(),
                version: None,
            };
            (doomed, secret.key_generation)
        };
        others.map(describe).collect()
    }
}

/// The keyring in a Secret, if it is the one that the server's status names.
fn keyring_of(server: &ZenServer, secret: &Secret) -> Option<Arc<Keyring>> {
    let data = secret.data.as_ref()?;
    let entry = |name: &str| data.get(name).map(|bytes| bytes.0.as_slice());
    let recorded = server.status.as_ref()?.auth_secret.as_ref()?;
    if recorded.fingerprint != Keyring::fingerprint(entry) {
        return None;
    }
    Keyring::from_entries(entry).ok().map(Arc::new)
}

fn passwords_in(secret: Secret) -> Option<Passwords> {
    let data = secret.data.unwrap_or_default();
    let entries = data.iter().map(|(user, json)| (&**user, &*json.0));
    Some(Passwords {
        uid: secret.metadata.uid?,
        version: secret.metadata.resource_version?,
        of: Credential::read_all(entries),
    })
}

fn live(object: DynamicObject) -> Option<Live> {
    Some(Live {
        uid: object.uid()?,
        resource_version: object.resource_version()?,
        controller: object
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true))
            .cloned(),
        body: serde_json::to_value(&object).ok()?,
    })
}

//! From custom resources to what decisions are made of. What cannot be read is left out: it then
//! allows nothing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use kube::ResourceExt;
use uuid::Uuid;

use crate::{
    api::{
        self, ApiDuration, Auth, AuthScheme, Authorization, DeletionPolicy, External,
        KeyGeneration, KeyPolicy, RECORD_FINALIZER, RateLimit, SecureHeaders, SigningKeyState,
        SigningKeyStatus, SourceType, UsedFrom, ZenAPIKey, ZenAPIKeyStatus, ZenDevice, ZenServer,
        ZenServerSpec, ZenServiceAccount, ZenUser, annotation,
    },
    auth::{
        address::Proxies,
        api_key::Verifier,
        bcrypt::Slow,
        device::{Approval, Decided, Denial, Device, Terms},
        device_code::Origin,
        directory::{self, Account, Generation, Key, Lifetimes, Seen, User, Window},
        keyring::{Known, Role},
        limit::Rates,
        network::Network,
        scheme::{Provider, Scheme},
        sealed::Recipient,
    },
    store::{Cors, HeaderSettings, Settings},
};

/// The id that an object has on the wire.
pub(super) fn id(uid: Option<&str>) -> Option<Uuid> {
    uid?.parse().ok()
}

/// Whether an object is being deleted, and not to be made again. Nobody needs to be asked for it:
/// this holds while the operator is down.
fn is_ending(meta: &ObjectMeta, policy: DeletionPolicy) -> bool {
    let is_held = || {
        meta.finalizers
            .iter()
            .flatten()
            .any(|f| f == RECORD_FINALIZER)
    };
    let is_forced = || {
        let annotations = meta.annotations.as_ref();
        annotations
            .and_then(|all| all.get(annotation::FORCE))
            .is_some_and(|value| value == "true")
    };
    meta.deletion_timestamp.is_some()
        && (policy == DeletionPolicy::Delete || is_forced() || !is_held())
}

/// An account, unless it is being deleted.
pub(super) fn account(object: &ZenServiceAccount) -> Option<Account> {
    if is_ending(&object.metadata, object.spec.deletion_policy) {
        return None;
    }
    let uid = id(object.metadata.uid.as_deref())?;
    let name = object.zenml_name().to_owned();
    let mut account = Account::new(uid, object.name_any(), name, created(object)?);
    if let Some(status) = &object.status
        && let Some(proof) = status
            .id_proof
            .as_ref()
            .and_then(|proof| proof.parse().ok())
        && let Some(given) = id(status.account_id.as_deref())
    {
        account.claim = Some((given, proof));
    }
    account.description.clone_from(&object.spec.description);
    account.active = object.spec.active;
    account.admin = object.spec.is_admin;
    account.window = window(&object.spec.valid_from, &object.spec.expires_at);
    let status = object.status.as_ref();
    account.last_recorded = status.and_then(|s| Some(s.last_authenticated_time.as_ref()?.0));
    Some(account)
}

/// A user, unless it is being deleted.
pub(super) fn user(object: &ZenUser) -> Option<User> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let id = id(object.metadata.uid.as_deref())?;
    let name = object.zenml_name().to_owned();
    let mut user = User::new(id, object.name_any(), name, created(object)?);
    user.full_name.clone_from(&object.spec.full_name);
    user.email.clone_from(&object.spec.email);
    user.email_opted_in = object.spec.email_opted_in;
    user.active = object.spec.active;
    user.admin = object.spec.is_admin;
    user.epoch = object.spec.session_epoch;
    user.origin = match (&object.spec.password_from, &object.spec.external) {
        (Some(from), _) => directory::Origin::Secret(from.secret_key_ref.name.clone()),
        (None, Some(person)) => directory::Origin::External {
            issuer: person.issuer.clone(),
            subject: person.subject.clone(),
        },
        (None, None) => directory::Origin::Chosen,
    };
    let status = object.status.as_ref();
    user.last_recorded = status.and_then(|s| Some(s.last_authenticated_time.as_ref()?.0));
    Some(user)
}

/// A key, unless it is being deleted or was never made.
pub(super) fn key(object: &ZenAPIKey) -> Option<Key> {
    if is_ending(&object.metadata, object.spec.deletion_policy) {
        return None;
    }
    let status = object.status.as_ref()?;
    let spec = &object.spec;
    let (key_id, proof) = key_id(object, status)?;
    let generation = |recorded| generation(recorded, status);
    Some(Key {
        uid: id(object.metadata.uid.as_deref())?,
        id: key_id,
        proof,
        object: object.name_any(),
        name: object.zenml_name().to_owned(),
        description: spec.description.clone(),
        account_object: spec.service_account_ref.name.clone(),
        account: id(status.account_id.as_deref())?,
        active: spec.active,
        window: window(&spec.valid_from, &spec.expires_at),
        ttl: spec.ttl.map(signed),
        policy: Lifetimes::default(),
        generations: status.generations.iter().filter_map(generation).collect(),
        created: created(object)?,
        last_rotated: time(&status.last_rotated_time),
        last_recorded: time(&status.last_used_time),
    })
}

/// What was decided of a device; nothing if it is being deleted or was never approved. A denial
/// counts until its object is gone.
pub(super) fn decided(object: &ZenDevice) -> Option<Decided> {
    let denied = object.spec.authorization.as_ref().filter(|of| of.denied);
    match denied {
        Some(denied) => Some(Decided::Denied(Denial {
            uid: id(object.metadata.uid.as_deref())?,
            device: id(Some(&denied.device_id))?,
        })),
        None => device(object).map(Box::new).map(Decided::Approved),
    }
}

/// A device, unless it is being deleted or was never approved.
pub(super) fn device(object: &ZenDevice) -> Option<Device> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let spec = &object.spec;
    let authorization = spec.authorization.as_ref().filter(|of| !of.denied)?;
    let status = object.status.as_ref();
    Some(Device {
        uid: id(object.metadata.uid.as_deref())?,
        object: object.name_any(),
        approval: Approval {
            device: id(Some(&authorization.device_id))?,
            client: id(Some(&spec.client_id))?,
            account: id(Some(&authorization.account_id))?,
            approved: authorization.approved_time.0,
        },
        account_object: spec.user_ref.name.clone(),
        proof: authorization.proof.parse().ok()?,
        trusted: spec.trusted,
        locked: spec.locked,
        until: time(&spec.expires_at),
        redeemed: authorization.redemption.as_ref().map(|of| of.time.0),
        origin: origin(authorization),
        created: created(object)?,
        recorded: status.and_then(|s| time(&s.last_used_time)),
        seen: Seen::default(),
    })
}

fn origin(of: &Authorization) -> Origin {
    Origin {
        hostname: of.hostname.clone(),
        os: of.os.clone(),
        zenml_version: of.client_version.clone(),
        python_version: of.python_version.clone(),
        address: of.ip_address.as_ref().and_then(|text| text.parse().ok()),
    }
}

/// The id in the key's text, and what shows that it is. Where the spec, or the object itself,
/// determines it, a status that says something else without a proof was not written by the operator.
fn key_id(object: &ZenAPIKey, status: &ZenAPIKeyStatus) -> Option<(Uuid, Option<Verifier>)> {
    let recorded = id(status.key_id.as_deref())?;
    let source = &object.spec.source;
    let wanted = match source.source_type {
        SourceType::Generated => id(object.metadata.uid.as_deref())?,
        SourceType::Verifier => id(Some(&source.verifier.as_ref()?.key_id))?,
        SourceType::ValueFrom => recorded,
    };
    if wanted == recorded {
        return Some((recorded, None));
    }
    let proof = status.id_proof.as_ref()?.parse().ok()?;
    (source.source_type == SourceType::Generated).then_some((recorded, Some(proof)))
}

fn generation(recorded: &KeyGeneration, status: &ZenAPIKeyStatus) -> Option<Generation> {
    let usage = status.usage.iter();
    let of_it = usage.filter(|usage| usage.generation == recorded.generation);
    let used = of_it.max_by_key(|usage| usage.last_used_time.0);
    Some(Generation {
        number: recorded.generation,
        verifier: recorded.verifier.parse().ok()?,
        slow: slow(recorded)?,
        created: time(&recorded.created_time),
        valid_until: time(&recorded.valid_until),
        recorded: used.map(|usage| usage.last_used_time.0),
        recorded_from: used.and_then(|usage| usage.from).map(Network::from),
        seen: Seen::default(),
    })
}

/// The slow hash of a generation, if it has one; `None` if that cannot be read.
fn slow(recorded: &KeyGeneration) -> Option<Option<Box<Slow>>> {
    match &recorded.bcrypt {
        Some(hash) => Some(Some(Box::new(Slow::new(hash.parse().ok()?)))),
        None => Some(None),
    }
}

impl From<UsedFrom> for Network {
    fn from(recorded: UsedFrom) -> Self {
        match recorded {
            UsedFrom::Loopback => Self::Loopback,
            UsedFrom::Private => Self::Private,
            UsedFrom::Public => Self::Public,
        }
    }
}

impl From<Network> for UsedFrom {
    fn from(seen: Network) -> Self {
        match seen {
            Network::Loopback => Self::Loopback,
            Network::Private => Self::Private,
            Network::Public => Self::Public,
        }
    }
}

fn window(from: &Option<Time>, until: &Option<Time>) -> Window {
    Window {
        from: time(from),
        until: time(until),
    }
}

fn time(at: &Option<Time>) -> Option<Timestamp> {
    at.as_ref().map(|at| at.0)
}

fn signed(duration: ApiDuration) -> SignedDuration {
    SignedDuration::try_from(duration.0).unwrap_or(SignedDuration::MAX)
}

/// How a server is set up, unless it is being deleted or the operator did not see it yet.
pub(super) fn settings(object: &ZenServer) -> Option<Settings> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let (limits, ready) = (&object.spec.auth.rate_limit, ready(object));
    Some(Settings {
        id: id(object.metadata.uid.as_deref())?,
        name: object.name_any(),
        url: object.status.as_ref()?.url.clone()?,
        created: created(object)?,
        scheme: scheme(&object.spec.auth)?,
        token_ttl: object.spec.auth.token_ttl.0,
        max_staleness: object.spec.auth.max_staleness.0,
        jwks_max_age: object.spec.auth.jwt.jwks_max_age.0,
        lifetimes: lifetimes(&object.spec.policy.keys),
        max_keys: usize::try_from(object.spec.policy.keys.max_per_account).unwrap_or(0),
        login_rates: rates(&limits.login, RateLimit::default().login)?.shared_by(ready),
        code_rates: rates(&limits.user_code, RateLimit::default().user_code)?.shared_by(ready),
        global_rates: optional(&limits.global, RateLimit::default().global, ready),
        key_rates: optional(&limits.per_key, RateLimit::default().per_key, ready),
        proxies: Proxies::new(object.spec.auth.trusted_proxies.iter().map(String::as_str)),
        record_addresses: object.spec.auth.record_addresses,
        devices: terms(&object.spec),
        public_url: object.public_url(),
        cors: cors(&object.spec.cors),
        recipient: recipient(object),
        headers: headers(&object.spec.secure_headers),
    })
}

/// What the operator says; one that cannot be read is none.
fn recipient(object: &ZenServer) -> Option<Recipient> {
    let sealing = object.status.as_ref()?.sealing.as_ref()?;
    sealing.recipient.parse().ok()
}

/// What the schema lets through names a provider where it is needed. Without one nobody gets in.
fn scheme(auth: &Auth) -> Option<Scheme> {
    Some(match auth.scheme {
        AuthScheme::OAuth2PasswordBearer => Scheme::PasswordBearer,
        AuthScheme::HttpBasic => Scheme::Basic,
        AuthScheme::NoAuth => Scheme::NoAuth,
        AuthScheme::External => Scheme::External(Box::new(provider(auth.external.as_ref()?))),
    })
}

fn provider(spec: &External) -> Provider {
    Provider {
        issuer: spec.issuer.clone(),
        client: spec.client_id.clone(),
        confidential: spec.client_secret_from.is_some(),
        scopes: spec.scopes.clone(),
        authorities: spec.ca_bundle.as_deref().map(Into::into),
        name: spec.display_name.clone(),
        passwords: spec.password_login,
    }
}

/// What the schema let through is one; the default is, in any case.
fn rates(text: &str, default: String) -> Option<Rates> {
    text.parse().or_else(|_| default.parse()).ok()
}

/// A limit that may be `none`.
fn optional(text: &str, default: String, ready: u16) -> Option<Rates> {
    let on = (text != "none").then(|| rates(text, default))?;
    Some(on?.shared_by(ready))
}

/// How many replicas share a limit.
fn ready(object: &ZenServer) -> u16 {
    let ready = object
        .status
        .as_ref()
        .map_or(1, |status| status.ready_replicas);
    u16::try_from(ready.max(1)).unwrap_or(u16::MAX)
}

/// What a server says of its auth Secret: which it is, and which keys in it count.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secrets {
    pub fingerprint: String,
    pub keys: Vec<Known>,
}

/// A key that the spec revokes counts for nothing at once, whatever status says.
pub(super) fn secrets(server: &ZenServer) -> Option<Secrets> {
    let status = server.status.as_ref()?;
    let revoked = &server.spec.auth.jwt.revoked;
    let known = |key: &SigningKeyStatus| {
        let role = match key.state {
            SigningKeyState::Next => Role::Next,
            SigningKeyState::Current => Role::Current,
            SigningKeyState::Previous => Role::Previous(time(&key.valid_until)?),
            SigningKeyState::Retired => return None,
        };
        let kid = key.kid.clone();
        (!revoked.contains(&kid)).then_some(Known { kid, role })
    };
    Some(Secrets {
        fingerprint: status.auth_secret.as_ref()?.fingerprint.clone(),
        keys: status.signing_keys.iter().filter_map(known).collect(),
    })
}

fn lifetimes(policy: &KeyPolicy) -> Lifetimes {
    Lifetimes {
        default: policy.default_ttl.map(signed),
        max: policy.max_ttl.map(signed),
    }
}

fn terms(spec: &ZenServerSpec) -> Terms {
    let (auth, policy) = (&spec.auth.device, &spec.policy.devices);
    Terms {
        trusted: signed(auth.trusted_ttl),
        untrusted: signed(auth.untrusted_ttl),
        code: signed(auth.code_ttl),
        interval: signed(auth.poll_interval),
        attempts: u32::try_from(auth.max_failed_attempts).unwrap_or(0),
        at_most: usize::try_from(policy.max_per_user).unwrap_or(0),
        trust_allowed: policy.trust_allowed,
        same_network: policy.same_network,
    }
}

fn cors(spec: &api::Cors) -> Cors {
    Cors {
        origins: spec.origins.clone(),
        allow_credentials: spec.allow_credentials,
    }
}

fn headers(spec: &SecureHeaders) -> HeaderSettings {
    let SecureHeaders {
        server,
        hsts,
        xfo,
        content,
        csp,
        referrer,
        cache,
        permissions,
    } = spec.clone();
    HeaderSettings {
        server,
        hsts,
        xfo,
        content,
        csp,
        referrer,
        cache,
        permissions,
    }
}

/// When an object was marked for deletion, or else its spec changed last, as Kubernetes wrote it
/// down: in whole seconds, rounded down. Who writes a status, or another's fields, does not count.
pub(super) fn taken_back(meta: &ObjectMeta) -> Option<Timestamp> {
    let owns_spec = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.subresource.as_ref().is_none_or(String::is_empty)
            && fields.is_some_and(|fields| fields.get("f:spec").is_some())
    };
    let entries = meta.managed_fields.iter().flatten().filter(owns_spec);
    let changed = entries
        .filter_map(|entry| Some(entry.time.as_ref()?.0))
        .max();
    time(&meta.deletion_timestamp).or(changed)
}

fn created(object: &impl ResourceExt) -> Option<Timestamp> {
    object.creation_timestamp().map(|at| at.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{
        api_key::Pepper,
        directory::{KIND_ACCOUNT, KIND_KEY},
    };

    const UID: &str = "11111111-0000-4000-8000-000000000001";
    const OTHER: &str = "22222222-0000-4000-8000-000000000002";

    fn object(source: &Value, key_id: &Value) -> ZenAPIKey {
        let spec = json!({
            "serviceAccountRef": {"name": "ci"}, "source": source,
            "delivery": {"mode": "None"}, "ttl": "1h", "name": "Key of CI",
            "validFrom": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z",
        });
        let metadata =
            json!({"name": "k", "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z"});
        let status = json!({
            "keyId": key_id, "accountId": OTHER, "generations": [
                {"generation": 2, "state": "Current", "verifier": "ab".repeat(32),
                 "createdTime": "2026-01-02T00:00:00Z"},
                {"generation": 3, "state": "Prepared", "verifier": "no verifier"},
            ],
            "usage": [
                {"generation": 1, "lastUsedTime": "2026-01-03T00:00:00Z"},
                {"generation": 2, "lastUsedTime": "2026-01-02T01:00:00Z"},
            ],
            "lastUsedTime": "2026-01-03T00:00:00Z",
        });
        let object = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
            "metadata": metadata, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn verifier(id: &str) -> Value {
        json!({"type": "Verifier", "verifier": {"keyId": id, "sha256": "00".repeat(32)}})
    }

    #[test]
    fn a_key_is_what_spec_and_status_say() {
        let key = key(&object(&verifier(OTHER), &json!(OTHER))).unwrap();
        assert_eq!(key.uid.to_string(), UID);
        assert_eq!(key.id.to_string(), OTHER);
        assert_eq!(key.name, "Key of CI");
        assert_eq!(key.ttl, Some(SignedDuration::from_hours(1)));
        assert!(key.window.from.is_some() && key.window.until.is_some());
        assert_eq!(key.generations.len(), 1, "what cannot be read is left out");
        let end = key.end(&key.generations[0]).unwrap();
        assert_eq!(end.to_string(), "2026-01-02T01:00:00Z");
        let used = key.generations[0].recorded.unwrap();
        assert_eq!(used.to_string(), "2026-01-02T01:00:00Z");
        assert_eq!(key.last_used().unwrap().to_string(), "2026-01-03T00:00:00Z");
    }

    /// A forged status gives nobody another key's id.
    #[test]
    fn a_key_has_the_id_that_its_source_gives_it() {
        let generated = json!({"type": "Generated"});
        let value_from = json!({
            "type": "ValueFrom", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
        });
        let cases = [
            (&generated, json!(UID), true),
            (&generated, json!(OTHER), false),
            (&generated, Value::Null, false),
            (&verifier(OTHER), json!(OTHER), true),
            (&verifier(OTHER), json!(UID), false),
            (&value_from, json!(OTHER), true),
            (&value_from, json!("no id"), false),
        ];
        for (source, recorded, exists) in cases {
            let key = key(&object(source, &recorded));
            assert_eq!(key.is_some(), exists, "{source} {recorded}");
        }
    }

    /// What is decided while the operator is down.
    #[test]
    fn what_is_being_deleted_is_refused_unless_it_is_to_be_retained() {
        let at = "2026-01-05T00:00:00Z";
        let held = json!([RECORD_FINALIZER]);
        let cases = [
            ("Delete", Some(at), &held, false, false),
            ("Retain", Some(at), &held, false, true),
            ("Retain", Some(at), &held, true, false),
            (
                "Retain",
                Some(at),
                &json!(["foregroundDeletion"]),
                false,
                false,
            ),
            ("Delete", None, &held, false, true),
        ];
        for (n, (policy, deleted, finalizers, forced, accepted)) in cases.into_iter().enumerate() {
            let mut object = serde_json::to_value(object(&verifier(OTHER), &json!(OTHER))).unwrap();
            object["spec"]["deletionPolicy"] = json!(policy);
            object["metadata"]["deletionTimestamp"] = json!(deleted);
            object["metadata"]["finalizers"] = finalizers.clone();
            object["metadata"]["annotations"] = json!({(annotation::FORCE): forced.to_string()});
            let key = key(&serde_json::from_value(object).unwrap());
            assert_eq!(key.is_some(), accepted, "case {n}");
        }
    }

    /// An id that is not an object's own is judged by the server's pepper.
    #[test]
    fn a_claimed_id_needs_a_proof_of_this_object() {
        let pepper = Pepper::new([7; 32]);
        let (uid, other): (Uuid, Uuid) = (UID.parse().unwrap(), OTHER.parse().unwrap());
        let generated = json!({"type": "Generated"});
        let with = |proof: Verifier| {
            let mut object = object(&generated, &json!(OTHER));
            object.spec.delivery = crate::api::Delivery::default();
            object.status.as_mut().unwrap().id_proof = Some(proof.to_hex());
            key(&object).unwrap()
        };
        assert!(with(pepper.identity(KIND_KEY, uid, other)).is_proven(&pepper));
        for forged in [
            pepper.identity(KIND_KEY, other, uid),
            pepper.identity(KIND_KEY, other, other),
            pepper.identity(KIND_ACCOUNT, uid, other),
            Pepper::new([8; 32]).identity(KIND_KEY, uid, other),
        ] {
            assert!(!with(forged).is_proven(&pepper));
        }

        let account = |proof: Verifier| {
            let object = json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServiceAccount",
                "metadata": {"name": "ci", "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"serverRef": {"name": "prod"}},
                "status": {"accountId": OTHER, "idProof": proof.to_hex()},
            });
            let mut account = account(&serde_json::from_value(object).unwrap()).unwrap();
            assert_eq!(account.id, uid, "nothing is believed before it is proven");
            account.prove(&pepper);
            account.id
        };
        assert_eq!(account(pepper.identity(KIND_ACCOUNT, uid, other)), other);
        assert_eq!(account(pepper.identity(KIND_ACCOUNT, other, uid)), uid);
        assert_eq!(account(pepper.identity(KIND_KEY, uid, other)), uid);
    }
}

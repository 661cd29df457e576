//! A server in memory with known accounts and keys.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made ends the test"
)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use zenop::{
    auth::{
        address::Proxies,
        api_key::{ApiKey, KeySecret},
        credential::{Credential, Verifier},
        device::Terms,
        directory::{Account, Directory, Generation, Key, Lifetimes, Seen, User, Window},
        keyring::{Keyring, Known, Material, Role},
        keyset::Keyset,
        scheme::Scheme,
    },
    http::{Ground, Nowhere},
    store::{Cors, HeaderSettings, MemoryStore, Settings, State},
};

/// The server's id.
pub const SERVER: Uuid = Uuid::from_u128(0x5e12_0000_0000_4000_8000_0000_0000_0001);

/// Whom new values of secrets are sealed for.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// When all of it was made.
pub fn created() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A keyring that differs by its seed.
pub fn keyring(seed: u8) -> Arc<Keyring> {
    let mut keyset = Keyset::default();
    keyset.add(&[seed; 32].into());
    let entries = Keyring::entries(&[seed; 32], &keyset);
    let entry = |name: &str| entries.get(name).map(|text| text.as_bytes());
    Arc::new(Keyring::from_entries(entry).unwrap())
}

/// A keyring with the pepper of `keyring(old)`, of which that key verifies until then and another
/// signs.
pub fn rotated(old: u8, until: Timestamp, new: u8) -> Arc<Keyring> {
    let mut keyset = Keyset::default();
    let mut add = |seed: u8, role| {
        let kid = keyset.add(&[seed; 32].into());
        Known { kid, role }
    };
    let known = [add(old, Role::Previous(until)), add(new, Role::Current)];
    let entries = Keyring::entries(&[old; 32], &keyset);
    let entry = |name: &str| entries.get(name).map(|text| text.as_bytes());
    let material = Material::read(entry).unwrap();
    Arc::new(material.keyring(&known).unwrap())
}

/// The settings of the server.
pub fn settings() -> Settings {
    Settings {
        id: SERVER,
        name: "prod".into(),
        url: "http://127.0.0.1:8080".into(),
        created: created(),
        scheme: Scheme::default(),
        token_ttl: Duration::from_secs(3600),
        max_staleness: Duration::from_secs(30),
        jwks_max_age: Duration::from_secs(300),
        lifetimes: Lifetimes::default(),
        max_keys: 20,
        login_rates: "10/m,1000/d".parse().unwrap(),
        global_rates: "1000/m".parse().ok(),
        key_rates: None,
        code_rates: "5/m".parse().unwrap(),
        proxies: Proxies::default(),
        record_addresses: true,
        devices: Terms::default(),
        public_url: None,
        cors: Cors::default(),
        recipient: RECIPIENT.parse().ok(),
        headers: HeaderSettings::default(),
    }
}

/// A store without accounts.
pub fn empty() -> MemoryStore {
    MemoryStore::new(State {
        settings: Arc::new(settings()),
        keyring: keyring(1),
        directory: Directory::default(),
    })
}

/// What a front door on that store stands on. Its keys count from 1.
pub fn ground(store: &Arc<MemoryStore>, clock: fn() -> Timestamp) -> Ground {
    Ground {
        store: store.clone(),
        registrar: store.clone(),
        devices: store.clone(),
        vault: store.clone(),
        outside: Arc::new(Nowhere),
        upstream: None,
        clock,
        draw,
    }
}

/// Not random, and never the same.
fn draw(bytes: &mut [u8]) {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    bytes.fill(0xdd);
    let n = DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    for (byte, n) in bytes.iter_mut().zip(n) {
        *byte = n;
    }
}

/// Adds an account of number `n`.
pub fn add_account(state: &mut State, n: u64, name: &str) -> Uuid {
    let id = Uuid::from_u128(0xacc0_0000_0000_4000_8000_0000_0000_0000 + u128::from(n));
    let made = created() + SignedDuration::from_secs(i64::try_from(n).unwrap());
    let account = Account::new(id, name.to_lowercase(), name.into(), made);
    state.directory.put_account(account);
    id
}

/// Adds a user of number `n`. Its password is `password of <name>`.
pub fn add_user(state: &mut State, n: u64, name: &str, admin: bool) -> Uuid {
    let id = Uuid::from_u128(0x05e7_0000_0000_4000_8000_0000_0000_0000 + u128::from(n));
    let made = created() + SignedDuration::from_secs(i64::try_from(n).unwrap());
    let mut user = User::new(id, name.to_lowercase(), name.into(), made);
    user.admin = admin;
    state.directory.put_user(user);
    let (pepper, password) = (state.keyring.pepper(), format!("password of {name}"));
    let salt = u128::from(n).to_be_bytes();
    let verifier = Verifier::new(pepper, id, &password.parse().unwrap(), salt).unwrap();
    let credential = Credential::Password(verifier.at(made));
    state.directory.set_credential(id, credential);
    id
}

/// The id and the text of the key of number `n`.
pub fn key_text(n: u64) -> ApiKey {
    let mut bytes = [0xfa; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ApiKey {
        id: Uuid::from_u128(0x0ae7_0000_0000_4000_8000_0000_0000_0000 + u128::from(n)),
        secret: KeySecret::from_random(&bytes),
    }
}

/// Adds a key of number `n` to an account.
pub fn add_key(state: &mut State, account: Uuid, n: u64, name: &str) -> ApiKey {
    let key = key_text(n);
    let digest = key.secret.digest();
    let verifier = state.keyring.pepper().verifier(account, key.id, digest);
    let account_object = state.directory.account(account).unwrap().object.clone();
    state.directory.put_key(Key {
        uid: key.id,
        id: key.id,
        proof: None,
        object: name.to_lowercase(),
        name: name.into(),
        description: format!("Key {n}."),
        account_object,
        account,
        active: true,
        window: Window::default(),
        ttl: None,
        policy: Lifetimes::default(),
        generations: vec![Generation {
            number: 1,
            verifier,
            created: None,
            valid_until: None,
            recorded: None,
            slow: None,
            recorded_from: None,
            seen: Seen::default(),
        }],
        created: created(),
        last_rotated: None,
        last_recorded: None,
    });
    key
}

//! Tokens whose signature was checked before.
//!
//! A signature costs as much as the rest of a request twice over, and does not change. So what it
//! vouches for is remembered under the token's hash; the token itself is not kept. Whether the
//! claims still hold, and whether their time is over, is asked anew each time: see
//! [`Directory::check`](crate::auth::directory::Directory::check).

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::{
    keyring::Keyring,
    principal::Refused,
    token::{self, Claims},
};

/// Verified claims by the hash of their token. Bounded.
pub(super) struct TokenCache {
    known: Cache<[u8; 32], Known>,
}

#[derive(Clone)]
struct Known {
    claims: Claims,
    /// What verified it. A keyring that was replaced vouches for nothing. Weak, so that its
    /// secrets go; and as long as this is here, no other keyring gets its address.
    by: Weak<Keyring>,
}

impl TokenCache {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            known: Cache::new(capacity),
        }
    }

    /// What a token of `server` states. The caller must check time and state of the claims.
    ///
    /// # Errors
    /// [`Refused::BadToken`], whatever is wrong with it.
    pub(super) fn verify(
        &self,
        keyring: &Arc<Keyring>,
        server: Uuid,
        token: &str,
        now: Timestamp,
    ) -> Result<Claims, Refused> {
        let id = digest(server, token);
        if let Some(known) = self.known.get(&id)
            && std::ptr::eq(known.by.as_ptr(), Arc::as_ptr(keyring))
        {
            return Ok(known.claims);
        }
        let claims = token::verify(keyring, server, token, now)?;
        let by = Arc::downgrade(keyring);
        self.known.insert(id, Known { claims, by });
        Ok(claims)
    }
}

fn digest(server: Uuid, token: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(server.as_bytes())
        .chain_update(token)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::auth::{
        api_key::Verifier,
        keyring::tests::keyring,
        principal::{By, Principal},
    };

    const SERVER: Uuid = Uuid::from_u128(9);

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_369_358).unwrap()
    }

    fn token(keyring: &Keyring) -> (String, Claims) {
        let principal = Principal {
            account: Uuid::from_u128(1),
            by: By::Key {
                key: Uuid::from_u128(2),
                generation: 1,
                print: "00".repeat(32).parse::<Verifier>().unwrap().print(),
            },
        };
        let claims = Claims::of_login(principal, now(), now() + SignedDuration::from_hours(1));
        (token::issue(keyring, SERVER, &claims).unwrap(), claims)
    }

    #[test]
    fn remembers_what_was_verified() {
        let (cache, ring) = (TokenCache::new(10), Arc::new(keyring(1)));
        let (token, claims) = token(&ring);
        for _ in 0..2 {
            assert_eq!(cache.verify(&ring, SERVER, &token, now()), Ok(claims));
        }
        assert!(cache.known.contains_key(&digest(SERVER, &token)));
    }

    #[test]
    fn another_keyring_or_server_vouches_for_itself() {
        let (cache, ring) = (TokenCache::new(10), Arc::new(keyring(1)));
        let (token, _) = token(&ring);
        cache.verify(&ring, SERVER, &token, now()).unwrap();
        let replaced = Arc::new(keyring(2));
        let refused = Err(Refused::BadToken);
        assert_eq!(cache.verify(&replaced, SERVER, &token, now()), refused);
        assert_eq!(cache.verify(&ring, Uuid::nil(), &token, now()), refused);
    }

    #[test]
    fn remembers_no_refusal_and_not_too_many() {
        let (cache, ring) = (TokenCache::new(10), Arc::new(keyring(1)));
        for n in 0..1000 {
            let refused = cache.verify(&ring, SERVER, &format!("no token {n}"), now());
            assert_eq!(refused, Err(Refused::BadToken));
        }
        cache.known.run_pending_tasks();
        assert_eq!(cache.known.entry_count(), 0);
    }
}

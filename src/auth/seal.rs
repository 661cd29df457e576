//! Sealed statements: what a server says to itself by way of a client that it does not trust.
//!
//! A statement is encrypted and authenticated (AES-256-GCM-SIV, RFC 8452) under a key that is
//! derived (HKDF, RFC 5869) from a signing key of the server, one for each purpose: a statement
//! made for one purpose is none for another. So nothing needs to be kept until it comes back, by
//! this replica or another, before a restart or after it. Its text is
//!
//! ```text
//! base64url(key id [8] ‖ nonce [12] ‖ ciphertext ‖ tag [16])
//! ```
//!
//! The key id says which signing key it follows: a statement of a retired one can still be read,
//! one of a key that is gone is nothing.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keyring::Keyring;

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 2048;

const KEY_ID: usize = 8;

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Shown to a person, who decides on it.
    UserCode,
    /// Held by a device, which polls with it.
    DeviceCode,
    /// Held by a browser, while its person logs in at a provider.
    ExternalLogin,
}

/// What seals and opens, derived from one signing key.
pub(super) struct SealKeys {
    id: [u8; KEY_ID],
    user_code: LessSafeKey,
    device_code: LessSafeKey,
    external_login: LessSafeKey,
}

impl SealKeys {
    /// The keys that follow the signing key of this id and seed.
    pub(super) fn derive(kid: &str, seed: &[u8; 32]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"zenop/seal/1").extract(seed);
        let key = |label: &[u8]| {
            let label = [label];
            let key = root.expand(&label, &AES_256_GCM_SIV).ok()?;
            Some(LessSafeKey::new(UnboundKey::from(key)))
        };
        let hash: [u8; 32] = Sha256::digest(kid.as_bytes()).into();
        let (id, _) = hash.split_first_chunk()?;
        Some(Self {
            id: *id,
            user_code: key(b"device/user-code/1")?,
            device_code: key(b"device/device-code/1")?,
            external_login: key(b"external/login/1")?,
        })
    }

    fn of(&self, purpose: Purpose) -> &LessSafeKey {
        match purpose {
            Purpose::UserCode => &self.user_code,
            Purpose::DeviceCode => &self.device_code,
            Purpose::ExternalLogin => &self.external_login,
        }
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys(..)")
    }
}

impl Keyring {
    /// Seals a statement of `server`. The nonce is random; should one come twice, it tells no more
    /// than whether the two statements are the same.
    ///
    /// `None` if it cannot be encrypted, which anything of a reasonable length can.
    pub fn seal(
        &self,
        purpose: Purpose,
        server: Uuid,
        statement: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Option<String> {
        let keys = self.sealing();
        let mut sealed = statement.to_vec();
        keys.of(purpose)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                aad(server),
                &mut sealed,
            )
            .ok()?;
        Some(B64.encode([&keys.id[..], &nonce, &sealed].concat()))
    }

    /// What a text states, if this server sealed it for this purpose. What is wrong with another
    /// is not told.
    pub fn open(&self, purpose: Purpose, server: Uuid, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = B64.decode(text).ok()?;
        let (id, rest) = bytes.split_first_chunk::<KEY_ID>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.opening().find(|keys| keys.id == *id)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut sealed = sealed.to_vec();
        let opened = keys
            .of(purpose)
            .open_in_place(nonce, aad(server), &mut sealed)
            .ok()?;
        Some(opened.to_vec())
    }
}

fn aad(server: Uuid) -> Aad<[u8; 16]> {
    Aad::from(*server.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::keyring::{
            Role,
            tests::{keyring, known, material},
        },
        *,
    };

    const SERVER: Uuid = Uuid::from_u128(9);

    fn sealed(statement: &[u8]) -> String {
        let nonce = [7; NONCE_LEN];
        let text = keyring(1).seal(Purpose::DeviceCode, SERVER, statement, nonce);
        text.unwrap()
    }

    fn opened(text: &str) -> Option<Vec<u8>> {
        keyring(1).open(Purpose::DeviceCode, SERVER, text)
    }

    #[test]
    fn is_of_one_key_one_server_and_one_purpose() {
        let text = sealed(b"statement");
        assert_eq!(opened(&text).unwrap(), b"statement");
        let device = Purpose::DeviceCode;
        assert_eq!(keyring(2).open(device, SERVER, &text), None);
        assert_eq!(keyring(1).open(device, Uuid::nil(), &text), None);
        assert_eq!(keyring(1).open(Purpose::UserCode, SERVER, &text), None);
        assert_eq!(opened(&"A".repeat(MAX_TEXT + 1)), None);
    }

    /// attacks.md D30: a statement is as old as its key may be, and no older.
    #[test]
    fn d30_a_retired_key_opens_and_a_revoked_one_does_not() {
        let material = material(1, &[1, 2]);
        let until = jiff::Timestamp::MAX;
        let roles = [known(1, Role::Previous(until)), known(2, Role::Current)];
        let rotated = material.keyring(&roles).unwrap();
        let of_old = sealed(b"statement");
        assert!(rotated.open(Purpose::DeviceCode, SERVER, &of_old).is_some());
        let revoked = material.keyring(&roles[1..]).unwrap();
        assert!(revoked.open(Purpose::DeviceCode, SERVER, &of_old).is_none());
        let nonce = [7; NONCE_LEN];
        let of_new = rotated.seal(Purpose::DeviceCode, SERVER, b"x", nonce);
        let of_new = of_new.unwrap();
        assert!(
            keyring(2)
                .open(Purpose::DeviceCode, SERVER, &of_new)
                .is_some()
        );
        assert!(
            keyring(1)
                .open(Purpose::DeviceCode, SERVER, &of_new)
                .is_none()
        );
    }

    // attacks.md D20, D32: one text, and no other, is the statement's.
    proptest! {
        #[test]
        fn opens_what_it_sealed_and_nothing_else(
            statement in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(), bit in 0..8u8, cut in 1..40usize,
        ) {
            let text = sealed(&statement);
            prop_assert_eq!(opened(&text), Some(statement));
            let mut flipped = text.clone().into_bytes();
            let at = at.index(flipped.len());
            flipped[at] ^= 1 << bit;
            if let Ok(flipped) = String::from_utf8(flipped) {
                prop_assert_eq!(opened(&flipped), None);
            }
            prop_assert_eq!(opened(&text[..text.len() - cut.min(text.len())]), None);
            prop_assert_eq!(opened(&text[cut.min(text.len())..]), None);
            for more in ["A", "AA", "AAAA", "=", "==", " ", "\n"] {
                let extended = format!("{text}{more}");
                prop_assert_eq!(opened(&extended), None);
                let extended = format!("{more}{text}");
                prop_assert_eq!(opened(&extended), None);
            }
        }

        #[test]
        fn reads_anything(text in ".{0,300}") {
            prop_assert_eq!(opened(&text), None);
        }
    }
}

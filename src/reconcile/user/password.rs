//! The password in a Secret, compared with the one that is stored.

use kube::ResourceExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    api::{SecretKeyRef, ZenUser},
    auth::{
        api_key::Pepper,
        credential::{Credential, Password, Verifier},
    },
    reconcile::{
        plan::Live,
        reader::Reader,
        source::{Missing, entry, unusable},
    },
};

/// What there is to be found where the password comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Not there yet.
    Absent(String),
    /// There, and no password.
    Unusable(String),
    /// The one that is stored.
    Stored,
    /// Another one.
    New(Verifier),
}

/// Compares the password at its source with the one that is stored. Trying a password takes 20 ms
/// by intent; each version of a source is tried once, and away from what must not wait.
pub(super) async fn look(
    user: &ZenUser,
    from: &SecretKeyRef,
    source: Option<Live>,
    stored: Option<&Credential>,
    pepper: &Pepper,
    read: &Reader,
) -> Given {
    let password = match password(source.as_ref(), from) {
        Ok(password) => password,
        Err(Missing::Absent(why)) => return Given::Absent(why),
        Err(Missing::Unusable(why)) => return Given::Unusable(why),
    };
    let Ok(id) = user.uid().unwrap_or_default().parse::<Uuid>() else {
        return Given::Absent("waits for its UID".into());
    };
    let at = source.map(|source| (source.uid, source.resource_version));
    let (uid, at) = at.unwrap_or_default();
    let version = format!("{uid}/{at}/{}", from.key);
    let stored = match stored {
        Some(Credential::Password(verifier)) => Some(verifier.clone()),
        _ => None,
    };
    if let Some(verifier) = &stored
        && read.is_proven(id, &version, verifier.print())
    {
        return Given::Stored;
    }
    let salt = salt(id, &version);
    let pepper = pepper.clone();
    let compare = move || match stored {
        Some(stored) if stored.fits(&pepper, id, &password) => {
            Some((stored.print(), Given::Stored))
        }
        _ => {
            let new = Verifier::new(&pepper, id, &password, salt).ok()?;
            Some((new.print(), Given::New(new)))
        }
    };
    match tokio::task::spawn_blocking(compare).await {
        Ok(Some((print, given))) => {
            read.prove(id, version, print);
            given
        }
        _ => Given::Unusable("the password could not be hashed".into()),
    }
}

/// A salt is no secret, but never the same for two passwords; nor is a version of a Secret. So a
/// pass that is repeated makes the same.
fn salt(user: Uuid, version: &str) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"zenop/salt/1")
        .chain_update(user.as_bytes())
        .chain_update(version)
        .finalize()
        .into();
    let (salt, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *salt
}

fn password(source: Option<&Live>, from: &SecretKeyRef) -> Result<Password, Missing> {
    let bytes = entry(source, from)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(from, "is not text"))?;
    // As `kubectl create secret --from-file` brings it.
    let text = text.trim_end_matches(['\n', '\r']);
    text.parse()
        .map_err(|why: crate::auth::credential::WeakPassword| unusable(from, &why.to_string()))
}

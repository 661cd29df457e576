//! Names of objects that the API makes: readable, and the same for the same thing, so that the
//! API server itself refuses the second of two that make it at once.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How much of a name is kept to be read.
const READABLE: usize = 40;

/// Name of an account's object. `attempt` counts from 0, for names that others have.
pub(super) fn of_account(server: &str, name: &str, attempt: u32) -> String {
    format!("{}-{}", slug(name), hash(&[server, name], attempt))
}

/// Name of a key's object.
pub(super) fn of_key(account: &str, account_uid: &str, name: &str, attempt: u32) -> String {
    let hash = hash(&[account_uid, name], attempt);
    format!("{}-{}-{hash}", slug(account), slug(name))
}

/// Name of the object of a client's device, of an account or user: two people on one machine have a
/// device each. Nobody finds another client and account of the same name: it is as long as that.
pub(super) fn of_device(server: &str, client: Uuid, account_uid: &str) -> String {
    let digest = digest(&[server, &client.to_string(), account_uid], 0);
    let mut hex = hex::encode(digest);
    hex.truncate(20);
    format!("dev-{hex}")
}

/// Name of the object that says that a device was denied.
pub(super) fn of_denial(server: &str, device: Uuid) -> String {
    let mut hex = hex::encode(digest(&[server, &device.to_string()], 0));
    hex.truncate(20);
    format!("denied-{hex}")
}

/// Name of the object of a secret: of all, or of the owner with this UID alone.
pub(super) fn of_secret(server: &str, owner: Option<&str>, name: &str, attempt: u32) -> String {
    let scope = if owner.is_some() { "private" } else { "public" };
    let hash = hash(&[server, scope, owner.unwrap_or_default(), name], attempt);
    format!("{}-{hash}", slug(name))
}

/// What of a text may stand in the name of an object.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
        if slug.len() == READABLE {
            break;
        }
    }
    match slug.trim_end_matches('-') {
        "" => "x".to_owned(),
        readable => readable.to_owned(),
    }
}

fn hash(parts: &[&str], attempt: u32) -> String {
    let mut hex = hex::encode(digest(parts, attempt));
    hex.truncate(10);
    hex
}

fn digest(parts: &[&str], attempt: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length: "a" and "bc" are not "ab" and "c".
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update(attempt.to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_readable_valid_and_not_each_others() {
        let shown = |name: &str| {
            let object = of_account("prod", name, 0);
            let (readable, hash) = object.rsplit_once('-').unwrap();
            assert_eq!(hash.len(), 10);
            readable.to_owned()
        };
        assert_eq!(shown("ci"), "ci");
        assert_eq!(
            shown("CI of the  Forecasting team!"),
            "ci-of-the-forecasting-team"
        );
        assert_eq!(shown("--x--"), "x");
        assert_eq!(shown("日本"), "x");
        assert_eq!(shown(&"a".repeat(255)), "a".repeat(40));
        assert_eq!(
            shown(&"a-".repeat(100)),
            "a-".repeat(20).trim_end_matches('-')
        );
        let names = [
            of_account("prod", "ci", 0),
            of_account("prod", "ci", 1),
            of_account("prod", "CI", 0),
            of_account("test", "ci", 0),
            of_key("ci", "u1", "default", 0),
            of_key("ci", "u2", "default", 0),
            of_key("ci", "u1", "default", 1),
            of_device("prod", Uuid::nil(), "u1"),
            of_device("prod", Uuid::nil(), "u2"),
            of_device("prod", Uuid::max(), "u1"),
            of_device("test", Uuid::nil(), "u1"),
            of_denial("test", Uuid::nil()),
            of_denial("test", Uuid::max()),
            of_denial("prod", Uuid::nil()),
            of_secret("prod", None, "ci", 0),
            of_secret("prod", None, "ci", 1),
            of_secret("prod", None, "CI", 0),
            of_secret("prod", Some("u1"), "ci", 0),
            of_secret("prod", Some("u2"), "ci", 0),
            of_secret("prod", Some(""), "ci", 0),
            of_secret("test", None, "ci", 0),
        ];
        let different: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert_eq!(names[0], of_account("prod", "ci", 0));
    }
}

//! The keys that values are sealed for: made once, replaced from time to time, never deleted, as what
//! was sealed for one stands in Git for as long as somebody likes.

use std::str;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::children::auth_secret_resource;
use crate::{
    api::{SealingStatus, ZenServer, label, reason, whole_seconds},
    auth::sealed::{OPENING_KEYS_ENTRY, OpeningKeys},
    reconcile::{
        Fresh,
        plan::{Child, Entries, Live, Note, Verdict},
        source::value,
    },
};

/// The Secret with the keys, if there is one that is ours.
pub(super) struct Kept {
    live: Live,
    /// Nothing, if they cannot be read.
    keys: Option<OpeningKeys>,
}

impl Kept {
    pub(super) fn read(live: Live) -> Self {
        let text = value(&live, OPENING_KEYS_ENTRY);
        let text = text.as_ref().and_then(|text| str::from_utf8(text).ok());
        Self {
            keys: text.and_then(|text| OpeningKeys::read(text).ok()),
            live,
        }
    }
}

/// What becomes of the keys.
#[derive(Default)]
pub(super) struct Turn {
    /// The Secret, unless it is lost.
    pub child: Option<Child>,
    /// What changes in it.
    pub entry: Option<Entries>,
    pub status: Option<SealingStatus>,
    /// That the keys are lost, and what to do.
    pub lost: Option<Verdict>,
    pub note: Option<Note>,
    /// When another key is due.
    pub deadline: Option<Timestamp>,
}

/// Decides it. Keys that status remembers and that are gone are not made anew unless somebody asks
/// for it: they may be in a backup.
pub(super) fn turn(
    server: &ZenServer,
    kept: Option<Kept>,
    fresh: &mut impl Fresh,
    now: Timestamp,
) -> Turn {
    let name = server.sealing_secret_name();
    let status = server.status.as_ref();
    let recorded = status.and_then(|status| status.sealing.as_ref());
    let wanted = server.spec.sealing.trigger.as_ref();
    let handled = recorded.and_then(|recorded| recorded.trigger.as_ref());
    let asked = recorded.is_some() && wanted.is_some() && wanted != handled;
    let (live, mut keys) = match kept {
        Some(Kept { live, keys }) => (Some(live), keys),
        None => (None, Some(OpeningKeys::default())),
    };
    let has = |keys: &OpeningKeys| recorded.is_none_or(|it| keys.has(&it.recipient));
    let is_lost = keys.as_ref().is_none_or(|keys| !has(keys));
    if is_lost && !asked {
        return Turn {
            lost: Some(lost(&name)),
            status: recorded.cloned(),
            ..Turn::default()
        };
    }
    let keys = keys.get_or_insert_default();
    let current = keys.current();
    // Another one than is recorded was made, and we were cut off before we said so.
    let is_made = current.as_ref().is_some_and(|(recipient, _)| {
        recorded.is_none_or(|recorded| recorded.recipient != recipient.to_string() && !is_lost)
    });
    let due = |since: Timestamp| ends(server, since) <= now;
    let is_due = current.as_ref().is_none_or(|(_, since)| due(*since));
    let makes = !is_made && (asked || is_due);
    let is_first = keys.is_empty();
    if makes {
        let mut random = Zeroizing::new([0; 32]);
        fresh.fill(random.as_mut());
        keys.add(&random, whole_seconds(now).0);
    }
    let Some((recipient, since)) = keys.current() else {
        return Turn::default();
    };
    let text = keys.to_text();
    let handles = makes || is_made || recorded.is_none();
    Turn {
        entry: live.as_ref().filter(|_| makes).map(|live| Entries {
            secret: name.clone(),
            uid: live.uid.clone(),
            resource_version: live.resource_version.clone(),
            values: [(OPENING_KEYS_ENTRY.to_owned(), Some(text.to_string()))].into(),
        }),
        child: Some(secret(name, &text, live)),
        status: Some(SealingStatus {
            recipient: recipient.to_string(),
            created_time: whole_seconds(since),
            keys: i32::try_from(keys.len()).unwrap_or(i32::MAX),
            trigger: wanted.filter(|_| handles).or(handled).cloned(),
        }),
        lost: None,
        note: makes.then(|| made(is_first)),
        deadline: Some(ends(server, since)),
    }
}

fn ends(server: &ZenServer, since: Timestamp) -> Timestamp {
    let every = SignedDuration::try_from(server.spec.sealing.rotate_every.0);
    let every = every.unwrap_or(SignedDuration::MAX);
    since.saturating_add(every).unwrap_or(Timestamp::MAX)
}

/// One that is there is left as it is, but for [`Turn::entry`].
fn secret(name: String, text: &str, live: Option<Live>) -> Child {
    let body: Value = json!({
        "type": "Opaque",
        "metadata": {"labels": {label::NAME: "zenserver", label::COMPONENT: "sealing"}},
        "data": {OPENING_KEYS_ENTRY: STANDARD.encode(text)},
    });
    Child {
        resource: auth_secret_resource(),
        name,
        body,
        live,
        create_only: true,
        adopts: false,
        kept: false,
    }
}

fn lost(name: &str) -> Verdict {
    Verdict::Stalled {
        reason: reason::SEALING_KEY_LOST,
        message: format!(
            "Secret {name} lacks the key that values are sealed for: restore the Secret from a \
             backup. To give up what was sealed for that key instead, give spec.sealing.trigger \
             another text: a new key is made, and every sealed value has to be sealed again"
        ),
    }
}

fn made(is_first: bool) -> Note {
    Note {
        warning: false,
        reason: "SealingKeyMade",
        action: "Create",
        message: match is_first {
            true => "made the key that values are sealed for; back up this Secret",
            false => {
                "made another key that values are sealed for; those before it are kept for reading. \
                 Back up this Secret"
            }
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Counting(u8);

    impl Fresh for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            self.0 += 1;
            bytes.fill(self.0);
        }
    }

    fn server(trigger: Option<&str>, recorded: Option<&SealingStatus>) -> ZenServer {
        serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer",
            "metadata": {"name": "prod", "namespace": "ml", "uid": "u"},
            "spec": {"sealing": {"trigger": trigger}},
            "status": {"sealing": recorded},
        }))
        .unwrap()
    }

    fn kept(text: &str) -> Kept {
        Kept::read(Live {
            uid: "s".into(),
            resource_version: "1".into(),
            controller: None,
            body: json!({"data": {OPENING_KEYS_ENTRY: STANDARD.encode(text)}}),
        })
    }

    fn stored(turn: &Turn) -> String {
        if let Some(entry) = &turn.entry {
            return entry.values[OPENING_KEYS_ENTRY].clone().unwrap();
        }
        let body = &turn.child.as_ref().unwrap().body;
        let text = body["data"][OPENING_KEYS_ENTRY].as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn is_made_once_and_replaced_when_due_or_asked_for_with_the_old_ones_kept() {
        let fresh = &mut Counting(0);
        let first = turn(&server(None, None), None, fresh, at(100));
        let status = first.status.clone().unwrap();
        assert_eq!(status.keys, 1);
        assert_eq!(first.note.as_ref().unwrap().reason, "SealingKeyMade");
        let text = stored(&first);

        // Cut off before it was said: nothing is made twice.
        let again = turn(&server(None, None), Some(kept(&text)), fresh, at(101));
        assert!(again.entry.is_none() && again.note.is_none());
        assert_eq!(again.status.as_ref(), Some(&status));

        let year = 8760 * 3600;
        let rest = |second| {
            turn(
                &server(None, Some(&status)),
                Some(kept(&text)),
                &mut Counting(7),
                at(second),
            )
        };
        assert!(rest(100 + year - 1).entry.is_none());
        assert_eq!(rest(200).deadline, Some(at(100 + year)));
        let due = rest(100 + year);
        assert_eq!(due.status.as_ref().unwrap().keys, 2);
        assert!(stored(&due).starts_with(&text), "the old one is kept");

        let asked = server(Some("now"), Some(&status));
        let rotated = turn(&asked, Some(kept(&text)), fresh, at(300));
        let after = rotated.status.clone().unwrap();
        assert_eq!((after.keys, after.trigger.as_deref()), (2, Some("now")));
        assert_ne!(after.recipient, status.recipient);
        let both = stored(&rotated);
        // Cut off before it was said, and afterwards.
        for recorded in [&status, &after] {
            let server = server(Some("now"), Some(recorded));
            let again = turn(&server, Some(kept(&both)), fresh, at(301));
            assert!(again.entry.is_none());
            assert_eq!(again.status.as_ref(), Some(&after));
        }
    }

    #[test]
    fn what_is_lost_is_not_made_anew_unless_asked_for() {
        let fresh = &mut Counting(0);
        let first = turn(&server(None, None), None, fresh, at(100));
        let (status, text) = (first.status.clone().unwrap(), stored(&first));
        let other = stored(&turn(&server(None, None), None, fresh, at(100)));
        let cases = [None, Some("no keys"), Some(""), Some(other.as_str())];
        for there in cases {
            let is = || there.map(kept);
            let lost = turn(&server(None, Some(&status)), is(), fresh, at(200));
            let verdict = lost.lost.unwrap();
            assert!(
                matches!(
                    verdict,
                    Verdict::Stalled {
                        reason: reason::SEALING_KEY_LOST,
                        ..
                    }
                ),
                "{there:?}"
            );
            assert!(lost.child.is_none() && lost.entry.is_none());
            assert_eq!(
                lost.status.as_ref(),
                Some(&status),
                "it is still remembered"
            );

            let asked = server(Some("anew"), Some(&status));
            let anew = turn(&asked, is(), fresh, at(300));
            assert!(anew.lost.is_none());
            assert_ne!(anew.status.as_ref().unwrap().recipient, status.recipient);
            assert_eq!(anew.entry.is_some(), there.is_some(), "{there:?}");
        }
        let back = turn(
            &server(None, Some(&status)),
            Some(kept(&text)),
            fresh,
            at(400),
        );
        assert_eq!(back.status.as_ref(), Some(&status));
    }
}

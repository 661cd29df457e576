//! Any order of passes, crashes, losses and time ends in one current key, which the Secret holds.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Adoption, KindStatus, OnSecretLoss, condition},
    auth::api_key::KeySecret,
    reconcile::plan::{Fact, Verdict},
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const KEY: &str = "00000000-0000-0000-0000-00000000000a";

/// Counts: every draw is another one.
struct Counter(u8);

impl Fresh for &mut Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
    }
}

/// A cluster of one key.
struct World {
    key: ZenAPIKey,
    account: u8,
    secret: Option<Value>,
    now: Timestamp,
    draws: Counter,
    keyring: Arc<Keyring>,
    /// Which verifier each generation had once it was current.
    history: HashMap<i64, String>,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A pass that dies after so many of its writes.
    Pass(usize),
    SecretDeleted,
    SecretAltered,
    Later(i64),
    AccountRemade,
    Triggered(u8),
    Paused(bool),
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl World {
    fn new(on_loss: OnSecretLoss) -> Self {
        let keyring = crate::auth::keyring::tests::keyring(5);
        Self {
            key: object(json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
                "metadata": {"name": "k", "namespace": "ml", "uid": KEY, "generation": 1},
                "spec": {
                    "serviceAccountRef": {"name": "ci"},
                    "delivery": {
                        "onSecretLoss": on_loss, "secretTemplate": {"includePrevious": true},
                    },
                    "rotation": {"interval": "2h"},
                },
            })),
            account: 1,
            secret: None,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            draws: Counter(0),
            keyring: Arc::new(keyring),
            history: HashMap::new(),
        }
    }

    fn observed(&self) -> Observed {
        let account = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServiceAccount",
            "metadata": {"name": "ci", "uid": Uuid::from_u128(self.account.into())},
            "spec": {"serverRef": {"name": "prod"}},
        });
        let server = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer",
            "metadata": {"name": "prod"}, "spec": {}, "status": {"url": "http://prod.ml.svc"},
        });
        let owner = k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            uid: KEY.into(),
            controller: Some(true),
            ..Default::default()
        };
        Observed {
            account: Some((Arc::new(object(account)), true)),
            server: Some(Arc::new(object(server))),
            keyring: Some(Arc::clone(&self.keyring)),
            secret: self.secret.clone().map(|body| Live {
                uid: "s".into(),
                resource_version: "1".into(),
                controller: Some(owner),
                body,
            }),
            ..Observed::default()
        }
    }

    fn plan(&mut self) -> Result<Plan<ZenAPIKeyStatus>, Invalid> {
        let valid = self.key.validate(self.observed(), &(), self.now)?;
        Ok(ZenAPIKey::plan(valid, &mut &mut self.draws))
    }

    /// Carries a plan out up to a number of writes.
    fn pass(&mut self, writes: usize) {
        let Ok(plan) = self.plan() else { return };
        let mut left = writes;
        let mut write = || left.checked_sub(1).map(|n| left = n).is_some();
        if let Some(record) = plan.record {
            if !write() {
                return;
            }
            self.key.status = Some(record);
        }
        if let Some(child) = plan.children.first()
            && self.secret.as_ref() != Some(&child.body)
        {
            if !write() {
                return;
            }
            self.secret = Some(child.body.clone());
        }
        if write() {
            self.key.status = Some(plan.status);
        }
        self.remember();
    }

    fn remember(&mut self) {
        for generation in &self.status().generations {
            if generation.state == KeyState::Current {
                let before = self
                    .history
                    .insert(generation.generation, generation.verifier.clone());
                assert!(
                    before.is_none_or(|v| v == generation.verifier),
                    "two keys for generation {}",
                    generation.generation
                );
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Pass(writes) => self.pass(writes),
            Happening::SecretDeleted => self.secret = None,
            Happening::SecretAltered => {
                if let Some(secret) = &mut self.secret {
                    secret["data"]["ZENML_STORE_API_KEY"] = json!("bm90IGEga2V5");
                }
            }
            Happening::Later(seconds) => self.now += SignedDuration::from_secs(seconds),
            Happening::AccountRemade => self.account = self.account.wrapping_add(1),
            Happening::Triggered(value) => {
                self.key.spec.rotation.trigger = Some(value.to_string());
            }
            Happening::Paused(paused) => {
                let annotations = self.key.metadata.annotations.get_or_insert_default();
                annotations.insert(annotation::PAUSED.into(), paused.to_string());
            }
        }
    }

    fn status(&self) -> ZenAPIKeyStatus {
        self.key.status.clone().unwrap_or_default()
    }

    /// What the Secret's key would be recorded as.
    fn delivered(&self) -> Option<String> {
        let live = self.observed().secret?;
        let account = Uuid::from_u128(self.account.into());
        let id = KEY.parse().unwrap();
        let entry = live.body["data"]["ZENML_STORE_API_KEY"].clone();
        let current = Live {
            body: json!({"data": {"current": entry}}),
            ..live
        };
        let held = held_keys(&current, id, account, self.keyring.pepper());
        Some(held.first()?.verifier.to_hex())
    }

    fn current(&self) -> Option<KeyGeneration> {
        let all = self.status().generations;
        all.into_iter().find(|g| g.state == KeyState::Current)
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..4_usize).prop_map(Happening::Pass),
        1 => Just(Happening::SecretDeleted),
        1 => Just(Happening::SecretAltered),
        2 => (1..5000_i64).prop_map(Happening::Later),
        1 => Just(Happening::AccountRemade),
        2 => (0..3_u8).prop_map(Happening::Triggered),
        1 => any::<bool>().prop_map(Happening::Paused),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_history_ends_in_one_current_key_which_the_secret_holds(
        happenings in prop::collection::vec(happening(), 0..30)
    ) {
        let mut world = World::new(OnSecretLoss::Rotate);
        for happening in happenings {
            world.happen(happening);
        }
        world.happen(Happening::Paused(false));
        world.pass(9);
        world.pass(9);
        let status = world.status();
        let current: Vec<_> =
            status.generations.iter().filter(|g| g.state == KeyState::Current).collect();
        prop_assert_eq!(current.len(), 1);
        prop_assert_eq!(Some(current[0].verifier.clone()), world.delivered());
        prop_assert!(status.generations.iter().all(|g| g.state != KeyState::Prepared));
        prop_assert!(status.generations.len() <= 8);

        // And stays: another pass plans nothing.
        let plan = world.plan().unwrap();
        prop_assert!(plan.record.is_none() && plan.notes.is_empty());
        prop_assert_eq!(plan.status.own_part(), status.own_part());
        prop_assert_eq!(Some(&plan.children[0].body), world.secret.as_ref());
    }
}

#[test]
fn a_lost_secret_is_replaced_once_and_the_lost_key_accepted_for_an_hour() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    let first = world.status().generations[0].clone();
    world.happen(Happening::SecretDeleted);
    world.pass(9);
    let hour = Time(world.now + SignedDuration::from_hours(1));
    let previous = KeyGeneration {
        state: KeyState::Previous,
        valid_until: Some(hour),
        ..first
    };
    let status = world.status();
    assert_eq!(status.generation, Some(2));
    assert_eq!(status.generations[0], previous);
    world.happen(Happening::Later(3600));
    world.pass(9);
    assert_eq!(world.status().generations.len(), 1, "the lost one is over");
}

#[test]
fn a_trigger_rotates_once_however_often_it_is_applied() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    for value in [7, 7, 8, 8] {
        world.happen(Happening::Triggered(value));
        world.pass(9);
        world.pass(9);
    }
    let status = world.status();
    assert_eq!(status.generation, Some(3));
    assert_eq!(status.last_handled_trigger.as_deref(), Some("8"));
    world.key.spec.rotation.trigger = None;
    world.pass(9);
    world.happen(Happening::Triggered(8));
    world.pass(9);
    assert_eq!(world.status().generation, Some(3), "8 was acted on");
}

#[test]
fn a_trigger_that_changes_halfway_is_acted_on_too() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    world.happen(Happening::Triggered(1));
    // Recorded and delivered, not confirmed.
    world.pass(2);
    world.happen(Happening::Triggered(2));
    world.pass(9);
    world.pass(9);
    assert_eq!(world.status().generation, Some(3));
}

#[test]
fn a_key_is_rotated_when_its_time_has_come_and_the_old_one_is_delivered_beside_it() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    let next = world.status().next_rotation_time.unwrap().0;
    let plan = world.plan().unwrap();
    assert_eq!(plan.deadline, Some(next));
    world.now = next;
    world.pass(9);
    assert_eq!(world.status().generation, Some(2));
    let data = world.secret.clone().unwrap()["data"].clone();
    assert!(data["ZENML_STORE_API_KEY_PREVIOUS"].is_string());
    assert_ne!(
        data["ZENML_STORE_API_KEY_PREVIOUS"],
        data["ZENML_STORE_API_KEY"]
    );
    // And goes with its acceptance.
    world.happen(Happening::Later(3600));
    world.pass(9);
    assert_eq!(world.status().generations.len(), 1);
    assert!(world.secret.unwrap()["data"]["ZENML_STORE_API_KEY_PREVIOUS"].is_null());
}

#[test]
fn what_is_paused_is_not_rotated_and_old_keys_end_all_the_same() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    world.happen(Happening::Triggered(1));
    world.pass(9);
    assert_eq!(world.status().generations.len(), 2);
    world.happen(Happening::Paused(true));
    world.happen(Happening::Triggered(2));
    world.happen(Happening::SecretDeleted);
    world.happen(Happening::Later(3600));
    world.pass(9);
    let status = world.status();
    assert_eq!((status.generation, status.generations.len()), (Some(2), 1));
    assert!(world.secret.is_none());
    let paused = |fact: &Fact| fact.condition == condition::PAUSED;
    assert!(world.plan().unwrap().facts.iter().any(paused));
    world.happen(Happening::Later(7200));
    let plan = world.plan().unwrap();
    let overdue = plan
        .facts
        .iter()
        .find(|f| f.condition == condition::ROTATION_OVERDUE);
    assert_eq!(overdue.map(|f| f.reason), Some(reason::PAUSED));
}

#[test]
fn a_ttl_counts_from_each_rotation_and_its_end_is_told_before() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.key.spec.rotation.interval = None;
    world.key.spec.ttl = Some("100h".parse().unwrap());
    let start = world.now;
    world.pass(9);
    let end = start + SignedDuration::from_hours(100);
    assert_eq!(world.status().expires_at, Some(Time(end)));
    let fact = |world: &mut World, condition: &str| {
        let facts = world.plan().unwrap().facts;
        facts.into_iter().find(|f| f.condition == condition)
    };
    assert!(fact(&mut world, condition::EXPIRING_SOON).is_none());
    assert_eq!(
        world.plan().unwrap().deadline,
        Some(start + SignedDuration::from_hours(80))
    );
    world.happen(Happening::Later(80 * 3600));
    assert!(fact(&mut world, condition::EXPIRING_SOON).is_some());
    world.happen(Happening::Later(20 * 3600));
    assert!(fact(&mut world, condition::EXPIRING_SOON).is_none());
    let active = fact(&mut world, condition::ACTIVE).unwrap();
    assert_eq!((active.holds, active.reason), (false, reason::EXPIRED));
    world.happen(Happening::Triggered(1));
    world.pass(9);
    let again = world.now + SignedDuration::from_hours(100);
    assert_eq!(world.status().expires_at, Some(Time(again)));
}

/// A key that was made elsewhere, of this many repeated digits.
fn given_key(world: &mut World, digit: char) {
    let sha256 = sha256_of(digit);
    world.key.spec.source = object(json!({
        "type": "Verifier",
        "verifier": {"keyId": "00000000-0000-0000-0000-00000000000b", "sha256": sha256},
    }));
    world.key.spec.delivery = object(json!({"mode": "None"}));
    world.key.spec.rotation.interval = None;
}

fn sha256_of(digit: char) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(digit.to_string().repeat(64)))
}

#[test]
fn a_key_of_which_only_the_hash_is_known_is_accepted_and_rotates_with_it() {
    let mut world = World::new(OnSecretLoss::Rotate);
    for (digit, generation) in [('a', 1), ('a', 1), ('b', 2), ('a', 3)] {
        given_key(&mut world, digit);
        world.pass(9);
        let current = world.current().unwrap();
        assert_eq!(current.generation, generation, "{digit}");
    }
    let status = world.status();
    assert_eq!(
        status.key_id.as_deref(),
        Some("00000000-0000-0000-0000-00000000000b")
    );
    let numbers: Vec<_> = status.generations.iter().map(|g| g.generation).collect();
    assert_eq!(numbers, [2, 3], "the same key is not recorded twice");
    assert!(world.secret.is_none());
    let plan = world.plan().unwrap();
    assert!(plan.record.is_none() && plan.children.is_empty() && plan.notes.is_empty());
    assert_eq!(plan.status.own_part(), status.own_part());
}

#[test]
fn a_bcrypt_hash_is_recorded_with_what_is_made_of_it_for_as_long_as_it_is_accepted() {
    let hash = format!("$2b$12${}", "a".repeat(53));
    let mut world = World::new(OnSecretLoss::Rotate);
    given_key(&mut world, 'a');
    let verifier = world.key.spec.source.verifier.as_mut().unwrap();
    (verifier.sha256, verifier.bcrypt) = (None, Some(hash.clone()));
    world.pass(9);
    let current = world.current().unwrap();
    assert_eq!(current.bcrypt.as_deref(), Some(&*hash));
    let plan = world.plan().unwrap();
    assert!(
        plan.record.is_none() && plan.notes.is_empty(),
        "it is not rotated again"
    );

    given_key(&mut world, 'b');
    world.pass(9);
    let generations = world.status().generations;
    let hashes: Vec<_> = generations.iter().map(|g| g.bcrypt.clone()).collect();
    assert_eq!(hashes, [Some(hash), None]);

    let verifier = world.key.spec.source.verifier.as_mut().unwrap();
    (verifier.sha256, verifier.bcrypt) = (None, Some(format!("$2b$15${}", "a".repeat(53))));
    let refused = world
        .key
        .validate(world.observed(), &(), world.now)
        .unwrap_err();
    let Verdict::Stalled { reason, message } = refused.verdict else {
        panic!("{:?}", refused.verdict);
    };
    assert_eq!(reason, reason::SOURCE_INVALID);
    assert!(message.contains("cost 4 to 14"), "{message}");
}

#[test]
fn the_id_of_an_older_key_is_not_taken() {
    let mut world = World::new(OnSecretLoss::Rotate);
    given_key(&mut world, 'a');
    let mut seen = world.observed();
    seen.siblings.holder = Some("theirs".into());
    let refused = world.key.validate(seen, &(), world.now).unwrap_err();
    let Verdict::Stalled { reason, message } = refused.verdict else {
        panic!("{refused:?}");
    };
    assert_eq!(reason, reason::KEY_ID_CONFLICT);
    assert!(message.contains("theirs"), "{message}");
}

#[test]
fn a_key_over_the_limit_of_its_account_is_not_issued_and_one_that_was_stays() {
    let mut world = World::new(OnSecretLoss::Rotate);
    let mut seen = world.observed();
    seen.siblings.older = 20;
    let refused = world.key.validate(seen, &(), world.now).unwrap_err();
    let stalled =
        |reason| matches!(refused.verdict, Verdict::Stalled { reason: r, .. } if r == reason);
    assert!(stalled(reason::POLICY_VIOLATION), "{refused:?}");
    world.pass(9);
    let mut seen = world.observed();
    seen.siblings.older = 20;
    assert!(world.key.validate(seen, &(), world.now).is_ok());
}

#[test]
fn a_key_of_another_tool_is_taken_delivered_and_followed() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.key.spec.rotation.interval = None;
    world.key.spec.source = object(json!({
        "type": "ValueFrom", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "k"}},
    }));
    let id = Uuid::from_u128(11);
    let text = |seed: u8| {
        let bytes: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(7) ^ seed).collect();
        let key = ApiKey {
            id,
            secret: KeySecret::from_random(&bytes.try_into().unwrap()),
        };
        key.text().to_string()
    };
    let source = |text: &str| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        Some(Live {
            uid: "v".into(),
            resource_version: "1".into(),
            controller: None,
            body: json!({"data": {"k": STANDARD.encode(text)}}),
        })
    };
    for (seed, generation) in [(1, 1), (1, 1), (2, 2)] {
        let mut seen = world.observed();
        seen.source = source(&text(seed));
        let valid = world.key.validate(seen, &(), world.now).unwrap();
        let plan = ZenAPIKey::plan(valid, &mut &mut world.draws);
        assert_eq!(plan.status.generation, Some(generation));
        world.secret = Some(plan.children[0].body.clone());
        world.key.status = Some(plan.status);
    }
    for (bad, told) in [
        (source("hunter2"), "begins with ZENKEY_"),
        (source(&weak(id)), "is not random"),
        (None, "waits for Secret vault"),
    ] {
        let mut seen = world.observed();
        seen.source = bad;
        let refused = world.key.validate(seen, &(), world.now).unwrap_err();
        let (Verdict::Stalled { message, .. } | Verdict::Waiting { message, .. }) = refused.verdict
        else {
            panic!("it is ready");
        };
        assert!(message.contains(told), "{message}");
        assert!(!message.contains("hunter2"));
    }
}

fn weak(id: Uuid) -> String {
    let key = ApiKey {
        id,
        secret: KeySecret::from_random(&[7; 32]),
    };
    key.text().to_string()
}

#[test]
fn a_restored_secret_is_taken_over_where_that_is_asked_for() {
    let mut old = World::new(OnSecretLoss::Rotate);
    old.pass(9);
    let mut world = World::new(OnSecretLoss::Rotate);
    world.key.metadata.uid = Some(Uuid::from_u128(99).to_string());
    let restored = |annotation: &str| {
        let mut live = old.observed().secret.unwrap();
        live.controller = None;
        live.body["metadata"]["annotations"] = json!({"zenop.dev/adopt": annotation});
        live
    };
    for (adoption, annotation, taken) in [
        (Adoption::Never, "ml/k", false),
        (Adoption::IfUnowned, "ml/another", false),
        (Adoption::IfUnowned, "ml/k", true),
        (Adoption::Force, "", false),
    ] {
        world.key.spec.adoption = adoption;
        let mut seen = world.observed();
        seen.secret = Some(restored(annotation));
        let valid = world.key.validate(seen, &(), world.now);
        assert_eq!(valid.is_ok(), taken, "{adoption:?} {annotation}");
        if let Ok(valid) = valid {
            let plan = ZenAPIKey::plan(valid, &mut &mut world.draws);
            assert_eq!(
                plan.status.key_id.as_deref(),
                Some(KEY),
                "the key stays what it was"
            );
            let data = &plan.children[0].body["data"];
            assert_eq!(data, &old.secret.as_ref().unwrap()["data"]);
            assert!(plan.children[0].adopts);
        }
    }
}

#[test]
fn a_lost_secret_is_only_reported_where_that_is_asked_for() {
    let mut world = World::new(OnSecretLoss::Fail);
    world.pass(9);
    for loss in [Happening::SecretAltered, Happening::SecretDeleted] {
        world.happen(loss);
        let refused = world.plan().unwrap_err();
        assert!(matches!(
            refused.verdict,
            Verdict::Stalled {
                reason: reason::SECRET_LOST,
                ..
            }
        ));
    }
    assert_eq!(world.status().generation, Some(1));
}

#[test]
fn a_wiped_status_replaces_nothing() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    world.key.status = None;
    let refused = world.plan().unwrap_err();
    assert!(matches!(
        refused.verdict,
        Verdict::Stalled {
            reason: reason::STATUS_LOST,
            ..
        }
    ));
}

#[test]
fn a_remade_account_gets_a_new_key_and_the_old_one_is_not_accepted() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.pass(9);
    world.happen(Happening::AccountRemade);
    world.pass(9);
    let numbers: Vec<_> = world
        .status()
        .generations
        .iter()
        .map(|g| g.generation)
        .collect();
    assert_eq!(numbers, [2]);
}

#[test]
fn a_deactivated_key_is_ready_and_not_active() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.key.spec.active = false;
    let plan = world.plan().unwrap();
    assert!(matches!(plan.verdict, Verdict::Ready { .. }));
    let active = plan
        .facts
        .iter()
        .find(|f| f.condition == condition::ACTIVE)
        .unwrap();
    assert_eq!((active.holds, active.reason), (false, reason::DEACTIVATED));
}

#[test]
fn somebody_elses_secret_is_left_alone() {
    let mut world = World::new(OnSecretLoss::Rotate);
    world.secret = Some(json!({"data": {"theirs": "eA=="}}));
    let mut seen = world.observed();
    seen.secret.as_mut().unwrap().controller = None;
    let refused = world.key.validate(seen, &(), world.now).unwrap_err();
    assert!(matches!(
        refused.verdict,
        Verdict::Stalled {
            reason: reason::CONFLICT,
            ..
        }
    ));
}

//! Any order of passes, crashes, losses and time ends in one current key, which the Secret holds.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::{KindStatus, OnSecretLoss};

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
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl World {
    fn new(on_loss: OnSecretLoss) -> Self {
        let entries = Keyring::fresh_entries(&[5; 64]).unwrap();
        let entry = |name: &str| entries.get(name).map(|text| text.as_bytes());
        Self {
            key: object(json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
                "metadata": {"name": "k", "namespace": "ml", "uid": KEY, "generation": 1},
                "spec": {"serviceAccountRef": {"name": "ci"}, "delivery": {"onSecretLoss": on_loss}},
            })),
            account: 1,
            secret: None,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            draws: Counter(0),
            keyring: Arc::new(Keyring::from_entries(entry).unwrap()),
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
            former: None,
            others: Vec::new(),
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
        if self.secret.as_ref() != Some(&plan.children[0].body) {
            if !write() {
                return;
            }
            self.secret = Some(plan.children[0].body.clone());
        }
        if write() {
            self.key.status = Some(plan.status);
        }
        self.remember();
    }

    fn remember(&mut self) {
        for generation in &self.key.status.as_ref().unwrap().generations {
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
        }
    }

    fn status(&self) -> ZenAPIKeyStatus {
        self.key.status.clone().unwrap_or_default()
    }

    /// What the Secret's key would be recorded as.
    fn delivered(&self) -> Option<String> {
        let live = self.observed().secret?;
        let account = Uuid::from_u128(self.account.into());
        match held_key(&live, KEY.parse().unwrap(), account, self.keyring.pepper()) {
            Held::Key { verifier, .. } => Some(verifier.to_hex()),
            Held::Nothing => None,
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..4_usize).prop_map(Happening::Pass),
        1 => Just(Happening::SecretDeleted),
        1 => Just(Happening::SecretAltered),
        2 => (1..5000_i64).prop_map(Happening::Later),
        1 => Just(Happening::AccountRemade),
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

//! What the watched keys are like, those of accounts and those that sign tokens, counted when
//! somebody asks for metrics.

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::api::{KeyState, SigningKeyState, ZenAPIKey, ZenServer, condition};

/// Counts keys. It names them only where that was asked for: a series for each is a lot.
#[derive(Debug)]
pub struct Census {
    keys: Store<ZenAPIKey>,
    servers: Store<ZenServer>,
    /// Whether each key has a series of its own.
    named: bool,
    clock: fn() -> Timestamp,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    active: i64,
    inactive: i64,
    expiring_soon: i64,
    rotation_overdue: i64,
    rotation_unfinished: i64,
    next_expiration: Option<i64>,
}

impl Census {
    /// A census of these keys, and of those that these servers sign with.
    pub fn new(
        keys: Store<ZenAPIKey>,
        servers: Store<ZenServer>,
        named: bool,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            keys,
            servers,
            named,
            clock,
        }
    }

    fn count(&self) -> Count {
        let now = (self.clock)();
        let mut count = Count::default();
        for key in self.keys.state() {
            count.add(&key, now);
        }
        count
    }
}

impl Count {
    fn add(&mut self, key: &ZenAPIKey, now: Timestamp) {
        let Some(status) = &key.status else {
            self.inactive += 1;
            return;
        };
        let holds = |condition: &str| {
            let is = |c: &&_| {
                let c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition = c;
                c.type_ == condition && c.status == "True"
            };
            i64::from(status.conditions.iter().any(|c| is(&c)))
        };
        let active = holds(condition::ACTIVE);
        self.active += active;
        self.inactive += 1 - active;
        self.expiring_soon += holds(condition::EXPIRING_SOON);
        self.rotation_overdue += holds(condition::ROTATION_OVERDUE);
        let begun = status
            .generations
            .iter()
            .any(|g| g.state == KeyState::Prepared);
        self.rotation_unfinished += i64::from(begun);
        if let Some(end) = expiration(key).filter(|end| active == 1 && now.as_second() < *end) {
            self.next_expiration = Some(self.next_expiration.map_or(end, |first| first.min(end)));
        }
    }
}

fn expiration(key: &ZenAPIKey) -> Option<i64> {
    Some(key.status.as_ref()?.expires_at.as_ref()?.0.as_second())
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let count = self.count();
        let gauges = [
            (
                "zenop_api_keys_active",
                "Keys that may log in now",
                Some(count.active),
            ),
            (
                "zenop_api_keys_inactive",
                "Keys that may not log in now",
                Some(count.inactive),
            ),
            (
                "zenop_api_keys_expiring_soon",
                "Keys with condition ExpiringSoon",
                Some(count.expiring_soon),
            ),
            (
                "zenop_rotation_overdue",
                "Keys with condition RotationOverdue",
                Some(count.rotation_overdue),
            ),
            (
                "zenop_rotation_unfinished",
                "Keys whose next generation is prepared and not confirmed; for minutes: it fails",
                Some(count.rotation_unfinished),
            ),
            (
                "zenop_api_keys_next_expiration_timestamp_seconds",
                "When the first of the active keys dies; absent where none does",
                count.next_expiration,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        self.encode_signing(&mut encoder)?;
        if self.named {
            self.encode_named(&mut encoder)?;
        }
        Ok(())
    }
}

impl Census {
    fn encode_signing(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use SigningKeyState::{Current, Next, Previous, Retired};
        let servers = self.servers.state();
        let statuses = || servers.iter().filter_map(|server| server.status.as_ref());
        let (name, help) = ("zenop_signing_keys", "Keys that tokens are signed with");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (state, label) in [
            (Next, "Next"),
            (Current, "Current"),
            (Previous, "Previous"),
            (Retired, "Retired"),
        ] {
            let keys = statuses().flat_map(|status| &status.signing_keys);
            let count = keys.filter(|key| key.state == state).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("state", label)])?)?;
        }
        let next = statuses().filter_map(|status| status.next_signing_key_time.as_ref());
        if let Some(next) = next.map(|at| at.0.as_second()).min() {
            let metric = encoder.encode_descriptor(
                "zenop_signing_keys_next_rotation_timestamp_seconds",
                "When the first of the servers is to sign with another key; long past: it fails",
                None,
                MetricType::Gauge,
            )?;
            ConstGauge::new(next).encode(metric)?;
        }
        Ok(())
    }

    fn encode_named(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "zenop_api_key_expiration_timestamp_seconds",
            "When a key dies",
            None,
            MetricType::Gauge,
        )?;
        for key in self.keys.state() {
            let Some(end) = expiration(&key) else {
                continue;
            };
            let (namespace, name) = (key.namespace().unwrap_or_default(), key.name_any());
            let labels = [("namespace", namespace), ("name", name)];
            ConstGauge::new(end).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;

    fn census(named: bool) -> String {
        let (store, mut writer) = reflector::store();
        for (name, active, end) in [
            ("a", "True", Some("2030-01-02T00:00:00Z")),
            ("b", "True", Some("2030-01-01T00:00:00Z")),
            ("c", "False", Some("2020-01-01T00:00:00Z")),
            ("d", "True", None),
        ] {
            let key: ZenAPIKey = serde_json::from_value(json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey",
                "metadata": {"name": name, "namespace": "ml"},
                "spec": {"serviceAccountRef": {"name": "ci"}},
                "status": {
                    "expiresAt": end,
                    "conditions": [{
                        "type": "Active", "status": active, "reason": "Active", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }],
                },
            }))
            .unwrap();
            writer.apply_watcher_event(&Event::Apply(key));
        }
        let (servers, mut writer) = reflector::store();
        let server: ZenServer = serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer",
            "metadata": {"name": "prod", "namespace": "ml"}, "spec": {},
            "status": {
                "nextSigningKeyTime": "2030-01-01T00:00:00Z",
                "signingKeys": [
                    {"kid": "a", "state": "Current"}, {"kid": "b", "state": "Previous"},
                    {"kid": "c", "state": "Previous"},
                ],
            },
        }))
        .unwrap();
        writer.apply_watcher_event(&Event::Apply(server));
        let clock = || Timestamp::from_second(1_800_000_000).unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Census::new(store, servers, named, clock)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn keys_are_counted_and_named_only_where_asked_for() {
        let text = census(false);
        for line in [
            "zenop_api_keys_active 3",
            "zenop_api_keys_inactive 1",
            "zenop_rotation_overdue 0",
            "zenop_api_keys_next_expiration_timestamp_seconds 1893456000",
            r#"zenop_signing_keys{state="Next"} 0"#,
            r#"zenop_signing_keys{state="Current"} 1"#,
            r#"zenop_signing_keys{state="Previous"} 2"#,
            "zenop_signing_keys_next_rotation_timestamp_seconds 1893456000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("name="), "{text}");
        let named =
            r#"zenop_api_key_expiration_timestamp_seconds{namespace="ml",name="b"} 1893456000"#;
        assert!(census(true).lines().any(|l| l == named));
    }
}

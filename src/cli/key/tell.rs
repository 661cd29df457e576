//! What `describe` says of a key.

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        ConsumerStatus, DeletionPolicy, DeliveryMode, KeyGeneration, Rotation, ZenAPIKey,
        ZenAPIKeyStatus,
    },
    cli::{
        describe::{Page, word, yes_no},
        noun::Noun,
        span::relative,
    },
};

impl Noun for ZenAPIKey {
    const NOUN: &'static str = "key";
    const DELETED: &'static str =
        "The key and its tokens are refused at once, and its Secret goes.";

    fn is_active(&self) -> bool {
        self.spec.active
    }

    fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn tell(&self, page: &mut Page) {
        let spec = &self.spec;
        page.field("Service account", &*spec.service_account_ref.name);
        page.field("Name in ZenML", self.zenml_name());
        page.optional("Description", Some(&*spec.description));
        page.field("Active", yes_no(spec.active));
        page.field("Source", word(spec.source.source_type));
        match spec.delivery.mode {
            DeliveryMode::Secret => page.field("Secret", self.secret_name()),
            DeliveryMode::None => page.field("Secret", "none: it is not delivered"),
        }
        page.time("Valid from", spec.valid_from.as_ref());
        page.optional("Lives for", spec.ttl.map(|ttl| ttl.to_string()));
        page.field("Rotation", rotation(&spec.rotation));
        let Some(status) = &self.status else { return };
        page.optional("Key id", status.key_id.clone());
        page.optional("Fingerprint", status.fingerprint.clone());
        page.time("Expires", status.expires_at.as_ref());
        page.time("Last rotated", status.last_rotated_time.as_ref());
        page.time("Next rotation", status.next_rotation_time.as_ref());
        page.time("Last used", status.last_used_time.as_ref());
        generations(page, status);
        consumers(page, &status.consumers);
    }
}

/// In a sentence.
fn rotation(rotation: &Rotation) -> String {
    let mut text = match (&rotation.interval, &rotation.schedule) {
        (Some(interval), _) => format!("every {interval}"),
        (_, Some(schedule)) => {
            let zone = rotation.time_zone.as_deref().unwrap_or("UTC");
            format!("at {schedule:?} ({zone})")
        }
        _ => "on demand".to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "; the old key is accepted for {}",
        rotation.retain_for
    );
    if !rotation.windows.is_empty() {
        let _ = write!(text, "; in {} windows only", rotation.windows.len());
    }
    text
}

fn generations(page: &mut Page, status: &ZenAPIKeyStatus) {
    let now = page.now;
    let shown = |at: Option<&Time>| at.map_or_else(|| "-".to_owned(), |at| relative(at.0, now));
    let row = |generation: &KeyGeneration| {
        let used = status
            .usage
            .iter()
            .find(|used| used.generation == generation.generation);
        vec![
            generation.generation.to_string(),
            word(generation.state),
            shown(generation.created_time.as_ref()),
            shown(generation.valid_until.as_ref()),
            shown(used.map(|used| &used.last_used_time)),
            used.and_then(|used| used.from)
                .map_or_else(|| "-".to_owned(), word),
        ]
    };
    let rows = status.generations.iter().map(row).collect();
    let heads = ["GENERATION", "STATE", "MADE", "DIES", "LAST USED", "FROM"];
    page.table("Accepted keys", &heads, rows);
}

fn consumers(page: &mut Page, consumers: &[ConsumerStatus]) {
    let row = |consumer: &ConsumerStatus| {
        vec![
            format!("{}/{}", word(consumer.kind), consumer.name),
            consumer.generation.to_string(),
            yes_no(consumer.rolled).to_owned(),
        ]
    };
    let rows = consumers.iter().map(row).collect();
    page.table(
        "Consumers",
        &["WORKLOAD", "RESTARTED FOR", "COMPLETE"],
        rows,
    );
}

//! What a ZenServer's author adds to its pods, laid over what zenop says of them. It adds, and
//! replaces what is there to be replaced; nothing of zenop's own gives way to it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{Amount, ExtraContainer, PodTemplate, PodVolume, Resources};

/// The pods' container that an author's resources and mounts are for.
pub(super) const ZENML: &str = "zenml";
/// The same of the pods that migrate a database.
pub(super) const MIGRATION: &str = "migration";
const SIDECAR: &str = "sidecar";

/// Lays what the author says over a template of pods, whose container `container` is of ZenML's image.
pub(super) fn lay(over: &PodTemplate, container: &str, template: &mut Value) {
    let own = [
        ("labels", json!(over.labels)),
        ("annotations", json!(over.annotations)),
    ];
    for (field, said) in own {
        if let Value::Object(said) = said {
            add(template, "/metadata", field, said);
        }
    }
    let has_zenml = find(template, container).is_some();
    if let Some(Value::Object(spec)) = template.get_mut("spec") {
        placed(over, spec);
        if has_zenml {
            join(spec, "volumes", over.volumes.iter().map(volume));
            join(
                spec,
                "initContainers",
                over.extra_containers.iter().map(extra),
            );
        }
    }
    if let Some(zenml) = find(template, container) {
        if let Some(said) = &over.resources {
            zenml.insert("resources".into(), resources(said));
        }
        join(zenml, "volumeMounts", over.volume_mounts.iter().map(value));
    }
    if let (Some(said), Some(sidecar)) = (&over.sidecar_resources, find(template, SIDECAR)) {
        sidecar.insert("resources".into(), resources(said));
    }
}

/// Where the server's pods run is where it says; left out is what is not said, so that no pod of another
/// server is made anew.
fn placed(over: &PodTemplate, spec: &mut Map<String, Value>) {
    let fields = [
        ("nodeSelector", value(&over.node_selector)),
        ("tolerations", value(&over.tolerations)),
        ("affinity", value(&over.affinity)),
        ("priorityClassName", value(&over.priority_class_name)),
        ("runtimeClassName", value(&over.runtime_class_name)),
        ("imagePullSecrets", value(&over.image_pull_secrets)),
    ];
    for (field, said) in fields {
        if !is_nothing(&said) {
            spec.insert(field.into(), said);
        }
    }
}

/// How the author wants the server's pods spread, if anyhow.
pub(super) fn spread(over: &PodTemplate, pods: &Value) -> Option<Value> {
    let all = over.topology_spread_constraints.iter().map(|constraint| {
        let mut constraint = value(constraint);
        if let Value::Object(fields) = &mut constraint {
            fields.insert("labelSelector".into(), json!({"matchLabels": pods}));
        }
        constraint
    });
    let all: Vec<_> = all.collect();
    (!all.is_empty()).then(|| all.into())
}

/// What a migration's outcome may hang on: with another, a failed one is tried again.
pub(super) fn of_migration(over: &PodTemplate) -> Value {
    json!([
        over.resources,
        over.volumes,
        over.volume_mounts,
        over.extra_containers
    ])
}

/// A container that begins before the others and ends after them: one that restarts among those that
/// come first. How it is secured is said here, and nowhere else.
fn extra(said: &ExtraContainer) -> Value {
    let mut container = value(said);
    let Value::Object(fields) = &mut container else {
        return container;
    };
    let user = fields.remove("runAsUser");
    let read_only = fields.remove("readOnlyRootFilesystem");
    let mut secured = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    });
    if let (Some(user), Value::Object(secured)) = (user, &mut secured) {
        secured.insert("runAsUser".into(), user);
    }
    fields.insert("securityContext".into(), secured);
    fields.insert("restartPolicy".into(), "Always".into());
    for port in fields
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Object(port) = port {
            port.insert("protocol".into(), "TCP".into());
        }
    }
    if let Some(said) = &said.resources {
        fields.insert("resources".into(), resources(said));
    }
    container
}

fn volume(said: &PodVolume) -> Value {
    let mut volume = value(said);
    let limit = said
        .empty_dir
        .as_ref()
        .and_then(|empty| empty.size_limit.as_ref());
    if let (Some(limit), Some(Value::Object(empty))) = (limit, volume.get_mut("emptyDir")) {
        empty.insert("sizeLimit".into(), amount(limit).into());
    }
    volume
}

fn resources(said: &Resources) -> Value {
    let of = |amounts: &std::collections::BTreeMap<String, Amount>| -> Map<String, Value> {
        let amounts = amounts.iter();
        amounts
            .map(|(name, said)| (name.clone(), amount(said).into()))
            .collect()
    };
    json!({"requests": of(&said.requests), "limits": of(&said.limits)})
}

fn amount(said: &Amount) -> String {
    match said {
        Amount::Number(number) => quantity(&number.to_string()),
        Amount::Text(text) => quantity(text),
    }
}

/// An amount as the API server writes it, so that what it stores is what was asked for.
pub(super) fn quantity(text: &str) -> String {
    canonical(text).unwrap_or_else(|| text.to_owned())
}

/// The greatest unit in which the amount is a whole number: 1024 times greater each for `Ki` and above,
/// else 1000 times.
fn canonical(text: &str) -> Option<String> {
    const BINARY: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];
    const DECIMAL: [&str; 6] = ["m", "", "k", "M", "G", "T"];
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_binary = unit.ends_with('i');
    let (units, factor): (&[&str], u64) = match is_binary {
        true => (&BINARY, 1024),
        false => (&DECIMAL, 1000),
    };
    let mut unit = units.iter().position(|known| *known == unit)?;
    let mut number: u64 = match number.split_once('.') {
        None => number.parse().ok()?,
        Some((whole, part)) => {
            unit = unit.checked_sub(1)?;
            format!("{whole}{part:0<3}").parse().ok()?
        }
    };
    if number == 0 {
        return Some("0".to_owned());
    }
    while number.is_multiple_of(factor) && unit + 1 < units.len() {
        (number, unit) = (number / factor, unit + 1);
    }
    Some(format!("{number}{}", units.get(unit)?))
}

fn value(said: &impl Serialize) -> Value {
    serde_json::to_value(said).unwrap_or_default()
}

fn is_nothing(said: &Value) -> bool {
    match said {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

/// A container of a template, by its name.
fn find<'a>(template: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let all = template.pointer_mut("/spec/containers")?.as_array_mut()?;
    let mut all = all.iter_mut().filter_map(Value::as_object_mut);
    all.find(|one| one.get("name").and_then(Value::as_str) == Some(name))
}

/// Adds to a map; what is there stays as it is.
fn add(template: &mut Value, place: &str, field: &str, said: Map<String, Value>) {
    let Some(Value::Object(fields)) = template.pointer_mut(place) else {
        return;
    };
    if said.is_empty() {
        return;
    }
    let there = fields.entry(field).or_insert_with(|| json!({}));
    if let Value::Object(there) = there {
        for (name, said) in said {
            there.entry(name).or_insert(said);
        }
    }
}

/// Adds to a list those whose names nobody there has. The schema refuses the others already.
fn join(fields: &mut Map<String, Value>, list: &str, said: impl Iterator<Item = Value>) {
    let mut said = said.peekable();
    if said.peek().is_none() {
        return;
    }
    // Where a volume is seen is what tells mounts of it apart.
    let name = match list {
        "volumeMounts" => "mountPath",
        _ => "name",
    };
    if let Value::Array(there) = fields.entry(list).or_insert_with(|| json!([])) {
        for item in said {
            if there.iter().all(|one| one.get(name) != item.get(name)) {
                there.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    fn laid(over: Value, mut template: Value) -> Value {
        lay(&from_value(over).unwrap(), ZENML, &mut template);
        template
    }

    fn template() -> Value {
        json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "zenserver"}},
            "spec": {
                "securityContext": {"runAsNonRoot": true},
                "volumes": [{"name": "api-access"}],
                "containers": [
                    {"name": "sidecar", "volumeMounts": [{"name": "api-access", "mountPath": "/run"}]},
                    {"name": "zenml", "resources": {"limits": {"memory": "2Gi"}}},
                ],
            },
        })
    }

    #[test]
    fn f28_nothing_said_changes_nothing() {
        assert_eq!(laid(json!({}), template()), template());
    }

    #[test]
    fn f28_what_is_said_is_added_and_what_is_zenops_stays() {
        let over = json!({
            "labels": {"team": "ml", "app.kubernetes.io/name": "other"},
            "annotations": {"example.org/a": "b"},
            "resources": {"limits": {"memory": "4096Mi", "cpu": 2}},
            "nodeSelector": {"pool": "ml"},
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [
                {"name": "api-access", "secret": {"secretName": "theirs"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}},
            ],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "extraContainers": [{"name": "proxy", "image": "proxy:1", "runAsUser": 7}],
        });
        let laid = laid(over, template());
        assert_eq!(
            laid["metadata"],
            json!({
                "labels": {"app.kubernetes.io/name": "zenserver", "team": "ml"},
                "annotations": {"example.org/a": "b"},
            })
        );
        let spec = &laid["spec"];
        let volumes = json!([
            {"name": "api-access"}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ]);
        assert_eq!(spec["volumes"], volumes);
        assert_eq!(spec["nodeSelector"], json!({"pool": "ml"}));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(spec["securityContext"], json!({"runAsNonRoot": true}));
        assert_eq!(spec["containers"][0], template()["spec"]["containers"][0]);
        let zenml = &spec["containers"][1];
        let taken = json!({"requests": {}, "limits": {"cpu": "2", "memory": "4Gi"}});
        assert_eq!(zenml["resources"], taken);
        let mounts = json!([{"name": "tmp", "mountPath": "/tmp"}]);
        assert_eq!(zenml["volumeMounts"], mounts);
        assert_eq!(
            spec["initContainers"],
            json!([{
                "name": "proxy", "image": "proxy:1", "restartPolicy": "Always",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true, "runAsUser": 7,
                },
            }])
        );
    }

    /// `attacks.md` S14: what would weaken the pods has no place in the types.
    #[test]
    fn s14_what_would_weaken_the_pods_is_read_as_nothing() {
        let over = json!({
            "hostNetwork": true, "hostPID": true, "serviceAccountName": "admin",
            "automountServiceAccountToken": true, "securityContext": {"runAsUser": 0},
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
            "extraContainers": [{
                "name": "evil", "image": "evil:1",
                "securityContext": {"privileged": true}, "restartPolicy": "Never",
            }],
        });
        let laid = laid(over, template());
        let text = laid.to_string();
        for word in [
            "hostNetwork",
            "hostPID",
            "hostPath",
            "privileged",
            "admin",
            "Never",
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert_eq!(laid["spec"]["volumes"][1], json!({"name": "host"}));
    }

    #[test]
    fn f28_amounts_are_written_as_the_api_server_does() {
        let cases = [
            ("500m", "500m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1.25", "1250m"),
            ("1.000", "1"),
            ("2000", "2k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1000M", "1G"),
            ("0Gi", "0"),
            ("1000Mi", "1000Mi"),
        ];
        for (said, written) in cases {
            assert_eq!(canonical(said).as_deref(), Some(written), "{said}");
        }
    }
}

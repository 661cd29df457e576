//! S11: objects of any shape, sent to a real API server: it refuses them, or the operator lives with
//! them.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use kube::Client;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{account, key, server, site, user, user_with_password, with};

/// How many of each kind.
const EACH: usize = 80;

/// Values that fit nowhere, or nearly.
fn odd() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[a-z0-9.-]{1,12}",
        "[0-9]{1,4}[smhd]",
        Just("../../x".to_owned()),
        Just("\u{202e}\u{0}\r\n\u{1b}[31m".to_owned()),
        (100..200_000_usize).prop_map(|n| "ä".repeat(n)),
        Just("9".repeat(400)),
        Just("2026-11-23T10:00:00Z".to_owned()),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        4 => text.prop_map(Value::from),
        1 => (10..200_usize).prop_map(deep),
        1 => (10..3_000_usize).prop_map(|n| json!(vec!["x"; n])),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            prop::sample::select(MEMBERS).prop_map(str::to_owned),
            any::<String>()
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn deep(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!({"spec": [inner]}))
}

/// Members of specs, with values that are of their type or not.
const MEMBERS: &[&str] = &[
    "active",
    "activation",
    "adoption",
    "auth",
    "authorization",
    "clientId",
    "consumers",
    "deletionPolicy",
    "delivery",
    "description",
    "email",
    "expiresAt",
    "external",
    "fullName",
    "isAdmin",
    "locked",
    "name",
    "passwordFrom",
    "policy",
    "replicas",
    "rotation",
    "secureHeaders",
    "serverRef",
    "serviceAccountRef",
    "sessionEpoch",
    "source",
    "trusted",
    "url",
    "userRef",
    "validFrom",
];

/// An object of a kind: one that would do with a part replaced or added, or nothing like it.
fn object(kind: usize) -> impl Strategy<Value = Value> {
    let good = [server("x"), account("x"), key("x"), user("x"), device()];
    let (good, member) = (good[kind].clone(), prop::sample::select(MEMBERS));
    let rotation = ("[0-9*/, -]{9,12}", "[A-Za-z/]{1,12}")
        .prop_map(|(schedule, zone)| json!({"rotation": {"schedule": schedule, "timeZone": zone}}));
    let nearly = prop_oneof![
        3 => (member, odd()).prop_map(|(name, value)| json!({name: value})),
        1 => prop::collection::vec((prop::sample::select(MEMBERS), odd()), 1..3).prop_map(
            |members| Value::from_iter(members.into_iter().map(|(k, v)| (k.to_owned(), v))),
        ),
        1 => rotation,
        1 => any::<String>().prop_map(|text| json!({"description": text, "name": text, "fullName": text})),
    ];
    let of_spec = nearly.prop_map({
        let good = good.clone();
        move |changes| {
            let mut object = good.clone();
            let spec = object["spec"].as_object_mut().unwrap();
            spec.extend(changes.as_object().cloned().unwrap_or_default());
            object
        }
    });
    let part = prop::sample::select(&["spec", "metadata", "status", "apiVersion", "\u{1f512}"][..]);
    let of_all = (part, odd()).prop_map(move |(part, value)| {
        let mut object = good.clone();
        object[part] = value;
        object
    });
    prop_oneof![4 => of_spec, 1 => of_all, 1 => odd()]
}

fn device() -> Value {
    json!({
        "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice", "metadata": {"name": "x"},
        "spec": {
            "serverRef": {"name": "prod"}, "userRef": {"name": "ana"}, "clientId": Uuid::nil(),
        },
    })
}

const PLURALS: [&str; 5] = [
    "zenservers",
    "zenserviceaccounts",
    "zenapikeys",
    "zenusers",
    "zendevices",
];

/// The same each time.
fn all() -> Vec<(usize, Value)> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let kinds = (0..PLURALS.len()).flat_map(|kind| std::iter::repeat_n(kind, EACH));
    let made = kinds.enumerate().map(|(n, kind)| {
        let mut object = object(kind).new_tree(&mut runner).unwrap().current();
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.insert("name".into(), json!(format!("odd-{n}")));
        }
        (kind, object)
    });
    made.collect()
}

/// What the API server says to an object.
async fn send(client: &Client, path: &str, method: &str, object: &Value) -> Result<StatusCode> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes().into())?;
    let answer = client.send(request).await?;
    Ok(answer.status())
}

#[tokio::test]
async fn s11_objects_of_any_shape_are_refused_or_lived_with() -> Result<()> {
    site("odd", async |site| {
        let operator = site.operator().await?;
        // What they refer to is there, so that they are looked at whole.
        site.apply_three().await?;
        site.apply(&user_with_password("ana")).await?;
        site.key_ready("main", 1).await?;
        let (client, base) = (
            site.ns.client(),
            format!("/apis/zenop.dev/v1alpha1/namespaces/{}", site.name()),
        );
        let sent = stream::iter(all()).map(async |(kind, object)| {
            let path = format!("{base}/{}", PLURALS[kind]);
            let status = send(client, &path, "POST", &object).await?;
            ensure!(
                status == 201 || status.is_client_error(),
                "{status}: {object}"
            );
            anyhow::Ok((status == 201).then_some(kind))
        });
        let taken: Vec<_> = sent.buffer_unordered(8).try_collect().await?;
        let of = |kind| taken.iter().flatten().filter(|of| **of == kind).count();
        // Of each kind some were taken and some refused.
        let taken = [0, 1, 2, 3, 4].map(of);
        ensure!(
            taken.iter().all(|taken| (5..=EACH - 10).contains(taken)),
            "{taken:?}"
        );
        println!("taken: {taken:?} of {EACH} each");
        // The operator goes on, whatever it makes of them.
        // With an account of its own: the other has as many keys as it may have.
        site.apply(&account("fresh")).await?;
        let reference = json!("fresh");
        site.apply(&with(
            key("afterwards"),
            "spec.serviceAccountRef.name",
            reference,
        ))
        .await?;
        site.key_ready("afterwards", 1).await?;
        ensure!(operator.runs(), "it ended");
        ensure!(!site.logs().contains("panicked"), "it panicked");
        operator.stop().await
    })
    .await
}

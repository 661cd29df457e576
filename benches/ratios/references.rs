//! From a changed secret to the changed condition of each component that refers to it.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use zenop::api::{ZenComponent, ZenSecret};

use super::{
    door::named,
    processes::Process,
    reconcile::{all_are, is_ready, make_namespace, plane, server},
    rounds,
    table::{Goal, Row},
};

/// How many refer to one secret.
const COMPONENTS: usize = 1000;

/// A secret with these keys.
fn secret(keys: &[&str]) -> ZenSecret {
    let from = |key: &&str| json!({"key": key, "valueFrom": {"secretKeyRef": {"name": "vault", "key": key}}});
    let data: Vec<_> = keys.iter().map(from).collect();
    let spec = json!({"serverRef": {"name": "prod"}, "data": data});
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret", "spec": spec}),
        "login",
    )
}

fn component(name: &str) -> ZenComponent {
    let spec = json!({
        "serverRef": {"name": "prod"}, "type": "experiment_tracker", "flavor": "mlflow",
        "attributes": {"password": "{{login.pass}}"},
    });
    named(
        json!({"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenComponent", "spec": spec}),
        name,
    )
}

pub async fn run() -> Vec<Row> {
    println!(
        "operator: {COMPONENTS} components of one secret, {} rounds; starting a control plane",
        rounds()
    );
    let (plane, client) = plane().await;
    let (mut broken, mut mended) = (vec![], vec![]);
    let components = set_up(&client).await;
    let _operator = Process::operator(plane.kubeconfig(), "refs");
    let api: Api<ZenSecret> = Api::namespaced(client, "refs");
    let apply = async |keys: &[&str]| {
        let apply = PatchParams::apply("bench").force();
        let patch = Patch::Apply(secret(keys));
        api.patch("login", &apply, &patch).await.expect("a change");
    };
    let all = |ready: bool| {
        let is = move |component: &ZenComponent| is_ready(component) == ready;
        tokio::spawn(all_are(components.clone(), COMPONENTS, is))
    };
    let ready = all(true);
    apply(&["user", "pass"]).await;
    ready.await.expect("all Ready");
    for round in 1..=rounds() {
        for (keys, comes) in [(&["user"][..], false), (&["user", "pass"][..], true)] {
            let changed = all(comes);
            let begun = Instant::now();
            apply(keys).await;
            changed.await.expect("all changed");
            let took = begun.elapsed().as_secs_f64();
            println!(
                "  round {round}: all {} after {took:.2} s",
                if comes { "Ready" } else { "not" }
            );
            if comes { &mut mended } else { &mut broken }.push(took);
        }
    }
    let row = |what: &str, ours| Row {
        what: format!("{COMPONENTS} components after {what}"),
        unit: "s",
        ours,
        peer: Vec::new(),
        goal: Goal::AtMost(5.0),
    };
    vec![row("their key went", broken), row("their key came", mended)]
}

async fn set_up(client: &Client) -> Api<ZenComponent> {
    make_namespace(client, "refs").await;
    let post = PostParams::default();
    Api::namespaced(client.clone(), "refs")
        .create(&post, &server())
        .await
        .expect("a server");
    let vault: Secret = named(
        json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"user": "ana", "pass": "hunter2"}}),
        "vault",
    );
    let made: Api<Secret> = Api::namespaced(client.clone(), "refs");
    made.create(&post, &vault).await.expect("a source");
    let components: Api<ZenComponent> = Api::namespaced(client.clone(), "refs");
    stream::iter(0..COMPONENTS)
        .map(Ok::<_, kube::Error>)
        .try_for_each_concurrent(32, |n| {
            let components = components.clone();
            async move {
                let one = component(&format!("c-{n}"));
                components
                    .create(&PostParams::default(), &one)
                    .await
                    .map(drop)
            }
        })
        .await
        .expect("creates");
    components
}

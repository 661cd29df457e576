//! The chart: what it renders, what it refuses, and that uninstalling it loses nothing.

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, from_value, json};
use tokio::time::timeout;
use zenop::api::{ZenServer, all_crds};
use zenop_cluster::TestNamespace;

use crate::support::{
    PATIENCE,
    helm::{CHART, Helm, RELEASE, SYSTEM, apply, installed, kind, objects, own_plane, restricted},
    server,
};

/// Values that change which objects there are and what they hold.
fn value_sets(watched: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("defaults", json!({})),
        (
            "two of them, with all that a pod may have",
            json!({
                "replicas": 2,
                "commonLabels": {"team": "ml", "number": "1"},
                "imagePullSecrets": [{"name": "registry"}],
                "image": {"digest": format!("sha256:{}", "0a".repeat(32))},
                "podAnnotations": {"a": "b"},
                "podLabels": {"c": "d", "app.kubernetes.io/name": "not-this"},
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}],
                }}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                    {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule",
                     "labelSelector": {"matchLabels": {"a": "b"}}},
                ],
                "priorityClassName": "system-cluster-critical",
                "resources": {"limits": {"cpu": 1, "memory": "1.5Gi"}},
                "serviceAccount": {"annotations": {"a": "b"}},
                "metrics": {"service": {"annotations": {"a": "b"}}},
            }),
        ),
        ("one namespace", json!({"watchNamespace": watched})),
        (
            "nothing but the operator",
            json!({
                "crds": {"install": false},
                "rbac": {"create": false, "aggregate": false},
                "serviceAccount": {"create": false, "name": "mine"},
                "metrics": {"service": {"enabled": false}},
                "replicas": 0,
            }),
        ),
        (
            "names that YAML takes for something else",
            json!({"fullnameOverride": "123", "nameOverride": "on", "commonLabels": {"x": "1e3"}}),
        ),
    ]
}

#[tokio::test]
async fn helm_finds_nothing_to_complain_of() -> Result<()> {
    let helm = Helm::of(installed().await?)?;
    let said = helm.run(&["lint", "--strict", CHART], &json!({})).await?;
    ensure!(said.contains("0 chart(s) failed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_every_manifest_and_rendering_is_repeatable() -> Result<()> {
    let plane = installed().await?;
    let (client, helm) = (plane.client().await?, Helm::of(plane)?);
    let release = TestNamespace::create(&client, "release").await?;
    let watched = TestNamespace::create(&client, "watched").await?;
    for (what, values) in value_sets(watched.name()) {
        let once = helm.template(release.name(), &values).await?;
        let again = helm.template(release.name(), &values).await?;
        ensure!(once == again, "{what}: rendered twice, it differs");
        apply(&client, &objects(&once)?, true).await.context(what)?;
    }
    Ok(())
}

#[tokio::test]
async fn objects_are_there_when_they_are_wanted() -> Result<()> {
    let helm = Helm::of(installed().await?)?;
    let rendered = async |values: Value| -> Result<Vec<String>> {
        let mut kinds: Vec<String> = objects(&helm.template("somewhere", &values).await?)?
            .iter()
            .map(|object| kind(object).to_owned())
            .collect();
        kinds.sort();
        Ok(kinds)
    };
    let bare = json!({
        "crds": {"install": false},
        "rbac": {"create": false, "aggregate": false},
        "admission": {"create": false},
        "serviceAccount": {"create": false},
        "metrics": {"service": {"enabled": false}},
    });
    let but = |values: Value| {
        let mut all = bare.clone();
        for (name, value) in values.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        rendered(all)
    };
    assert_eq!(but(json!({})).await?, ["Deployment"]);
    let guarded = but(json!({"admission": {"create": true}})).await?;
    assert_eq!(
        guarded,
        [
            "Deployment",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingAdmissionPolicyBinding"
        ]
    );
    let two = but(json!({"replicas": 2})).await?;
    assert_eq!(two, ["Deployment", "PodDisruptionBudget"]);
    let two = but(json!({"replicas": 2, "podDisruptionBudget": {"enabled": false}})).await?;
    assert_eq!(two, ["Deployment"]);
    let monitored = but(json!({"metrics": {
        "service": {"enabled": false},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
    }}));
    let monitored = monitored.await?;
    assert_eq!(monitored, ["Deployment", "Service", "ServiceMonitor"]);
    let narrow = but(json!({"watchNamespace": "ml", "rbac": {"aggregate": false}})).await?;
    let expected = ["Deployment", "Role", "Role", "RoleBinding", "RoleBinding"];
    assert_eq!(narrow, expected, "and nothing of the cluster's");
    let crds = but(json!({"crds": {"install": true}})).await?;
    let definitions = crds.iter().filter(|k| *k == "CustomResourceDefinition");
    assert_eq!(definitions.count(), all_crds().len());
    Ok(())
}

#[tokio::test]
async fn bad_values_are_refused_by_name() -> Result<()> {
    let helm = Helm::of(installed().await?)?;
    let cases = [
        (json!({"replica": 2}), "additional properties 'replica'"),
        (json!({"replicas": -1}), "at '/replicas': minimum"),
        (json!({"replicas": "two"}), "at '/replicas': got string"),
        (
            json!({"image": {"pullPolicy": "Sometimes"}}),
            "at '/image/pullPolicy': value must be one of",
        ),
        (
            json!({"image": {"digest": "sha256:1"}}),
            "at '/image/digest'",
        ),
        (
            json!({"image": {"repository": "http://x/y"}}),
            "at '/image/repository'",
        ),
        (json!({"concurrency": 0}), "at '/concurrency': minimum"),
        (
            json!({"resync": "soon"}),
            "at '/resync': 'soon' does not match",
        ),
        (
            json!({"leaderElection": {"leaseDuration": "0s"}}),
            "at '/leaderElection/leaseDuration'",
        ),
        (json!({"watchNamespace": "Team_A"}), "at '/watchNamespace'"),
        (
            json!({"podAnnotations": {"a": true}}),
            "at '/podAnnotations/a': got boolean",
        ),
        (
            json!({"serviceAccount": {"nmae": "x"}}),
            "at '/serviceAccount': additional properties 'nmae'",
        ),
        (
            json!({"tolerations": [{"effect": "Never"}]}),
            "at '/tolerations/0/effect'",
        ),
        (
            json!({"commonLabels": {"team": "a b"}}),
            "at '/commonLabels/team'",
        ),
        (
            json!({"crds": {"install": "yes"}}),
            "at '/crds/install': got string, want boolean",
        ),
        (
            json!({"affinity": {"podAfinity": {}}}),
            "at '/affinity': additional properties 'podAfinity'",
        ),
        (
            json!({"resources": {"limits": {"memory": "4x"}}}),
            "at '/resources/limits/memory'",
        ),
        (json!({"log": {"format": "xml"}}), "at '/log/format'"),
    ];
    for (values, message) in cases {
        match helm.template("somewhere", &values).await {
            Ok(_) => anyhow::bail!("{values} was taken"),
            Err(error) => {
                let said = error.to_string();
                ensure!(said.contains(message), "{values}: {said}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_examples_of_the_chart_are_good() -> Result<()> {
    let plane = installed().await?;
    let chart = Helm::of(plane)?.run_bare(&["show", "chart", CHART]).await?;
    let chart: Value = serde_yaml_ng::from_str(&chart)?;
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let annotation = |name: &str| -> Result<Vec<Value>> {
        let text = chart["annotations"][name].as_str().context("not there")?;
        Ok(serde_yaml_ng::from_str(text)?)
    };
    let listed: Vec<Value> = annotation("artifacthub.io/crds")?
        .iter()
        .map(|crd| crd["name"].clone())
        .collect();
    let ours: Vec<Value> = all_crds().iter().map(|c| c.name_any().into()).collect();
    assert_eq!(listed, ours);

    let client = plane.client().await?;
    let namespace = TestNamespace::create(&client, "examples").await?;
    for mut example in annotation("artifacthub.io/crdsExamples")? {
        example["metadata"]["namespace"] = namespace.name().into();
        apply(&client, &[from_value(example)?], true).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_operators_pod_meets_the_restricted_standard() -> Result<()> {
    let client = installed().await?.client().await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let privileged: Pod = from_value(json!({
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "a", "image": "a", "securityContext": {"privileged": true}}]},
    }))?;
    let refused = pods.create(&PostParams::default(), &privileged).await;
    let refused = refused.unwrap_err().to_string();
    ensure!(refused.contains("violates PodSecurity"), "{refused}");

    let deployments: Api<Deployment> = Api::namespaced(client, SYSTEM);
    let has_pod = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.replicas == Some(1))
    };
    let seen = timeout(PATIENCE, await_condition(deployments, RELEASE, has_pod)).await;
    seen.context("no pod was made of the operator's Deployment")??;
    let pods = pods.list(&ListParams::default()).await?;
    assert_eq!(pods.items.len(), 1);
    Ok(())
}

/// On a control plane of its own: if this fails, every custom resource is gone.
#[tokio::test]
async fn uninstalling_leaves_definitions_and_objects() -> Result<()> {
    let plane = own_plane().await?;
    let (client, helm) = (plane.client().await?, Helm::of(&plane)?);
    restricted(&client, SYSTEM).await?;
    let here = ["--namespace", SYSTEM];
    let release = |verb, chart: &[&'static str]| [&[verb, RELEASE][..], chart, &here].concat();
    let (install, upgrade) = (release("install", &[CHART]), release("upgrade", &[CHART]));

    let notes = helm.run(&install, &json!({})).await?;
    for told in [
        "kind: ZenServer",
        "kind: ZenServiceAccount",
        "kind: ZenAPIKey",
    ] {
        ensure!(notes.contains(told), "{told} is not in {notes}");
    }
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in all_crds() {
        let name = crd.name_any();
        let established = await_condition(definitions.clone(), &name, is_crd_established());
        timeout(PATIENCE, established).await??;
    }
    let servers: Api<ZenServer> = Api::default_namespaced(client.clone());
    let made = servers
        .create(&PostParams::default(), &from_value(server("prod"))?)
        .await?;
    helm.run(&upgrade, &json!({"replicas": 2})).await?;

    helm.run_bare(&release("uninstall", &[])).await?;
    let deployments: Api<Deployment> = Api::namespaced(client, SYSTEM);
    ensure!(
        deployments.get_opt(RELEASE).await?.is_none(),
        "not uninstalled"
    );
    assert_eq!(servers.get("prod").await?.uid(), made.uid());
    let left = definitions.list(&ListParams::default()).await?;
    assert_eq!(left.items.len(), all_crds().len());
    ensure!(
        left.iter()
            .all(|crd| crd.metadata.deletion_timestamp.is_none())
    );

    helm.run(&install, &json!({})).await?;
    assert_eq!(servers.get("prod").await?.uid(), made.uid());
    Ok(())
}

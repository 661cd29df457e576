//! What a ZenServer's author adds to its pods, on a real API server: it gets there, and nothing that makes
//! them less secure does (`attacks.md` S14).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, from_value, json, to_value};
use zenop::api::{ZenServer, condition, reason};

use crate::support::{Site, message, server, site, waiting, with, with_zenml};

fn over(more: Value) -> Value {
    with(with_zenml(server("prod")), "spec.podTemplate", more)
}

/// Some of each.
fn much() -> Value {
    json!({
        "labels": {"team": "ml"},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        "resources": {
            "requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"memory": "4096Mi", "cpu": "1.5"},
        },
        "sidecarResources": {"limits": {"memory": "512Mi"}},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "pool", "operator": "In", "values": ["ml"]},
                ]}],
            }},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 50, "podAffinityTerm": {
                    "labelSelector": {"matchLabels": {"app": "noisy"}},
                    "topologyKey": "kubernetes.io/hostname",
                }},
            ]},
        },
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
        }],
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [
            {"name": "models", "configMap": {"name": "models"}},
            {"name": "login", "secret": {"secretName": "login"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}},
        ],
        "volumeMounts": [
            {"name": "models", "mountPath": "/models", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "extraContainers": [{
            "name": "proxy", "image": "proxy:1", "args": ["--port=3306"],
            "env": [{"name": "LOG_LEVEL", "value": "info"}],
            "ports": [{"containerPort": 9090}],
            "resources": {"requests": {"cpu": "0.010"}},
            "volumeMounts": [{"name": "login", "mountPath": "/login"}],
            "runAsUser": 65532,
        }],
    })
}

fn models(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models"},
        "data": {"models.yaml": text},
    })
}

fn login(labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "labels": labels},
        "stringData": {"key": "s3cret"},
    })
}

async fn waits(site: &Site, words: &[&str]) -> Result<()> {
    let told = |server: &ZenServer| {
        let said = message(server, condition::READY);
        waiting(reason::VOLUME_NOT_RELEASED)(server) && words.iter().all(|word| said.contains(word))
    };
    site.until("prod", &format!("waiting: {words:?}"), told)
        .await
        .map(drop)
}

/// The template of the pods, once the ZenML server is in it.
async fn template(site: &Site, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let of = |deployment: &Deployment| to_value(&deployment.spec.template).unwrap_or_default();
    let wanted = |deployment: &Deployment| {
        let template = of(deployment);
        container(&template, "containers", "zenml").is_some() && is(&template)
    };
    let deployment = site.until("prod", "with such pods", wanted).await?;
    Ok(of(&deployment))
}

fn container<'a>(template: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    let all = template["spec"][list].as_array()?;
    all.iter().find(|one| one["name"] == name)
}

/// Where a container sees which volume.
fn seen(container: &Value) -> Vec<(&str, &str)> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .filter_map(|mount| Some((mount["name"].as_str()?, mount["mountPath"].as_str()?)))
        .collect()
}

/// The API server admits such a pod where the restricted Pod Security Standard is enforced.
async fn is_restricted(site: &Site, template: &Value) -> Result<()> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(site.ns.client().clone());
    let enforce =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let patch = Patch::Merge(&enforce);
    namespaces
        .patch(site.name(), &PatchParams::default(), &patch)
        .await?;
    let mut pod = template.clone();
    pod["metadata"]["name"] = json!("tried");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods = site.api::<Pod>();
    // The account of the pods is there, and the priority is the cluster's default.
    pods.create(&dry, &from_value(pod.clone())?)
        .await
        .with_context(|| format!("not admitted: {pod}"))?;
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    ensure!(
        pods.create(&dry, &from_value(pod)?).await.is_err(),
        "nothing is enforced here"
    );
    Ok(())
}

#[tokio::test]
async fn f28_what_is_said_is_in_the_pods_and_in_the_migration() -> Result<()> {
    site("overlay", async |site| {
        let _operator = site.operator().await?;
        site.apply(&over(much())).await?;
        waits(site, &["there is no ConfigMap models"]).await?;
        site.apply(&models("a: 1")).await?;
        site.apply(&login(json!({}))).await?;
        // Nobody writes to the ZenServer: it looks again by itself.
        waits(
            site,
            &["kubectl label secret login zenop.dev/volume-of=prod"],
        )
        .await?;
        ensure!(
            site.api::<Deployment>().get_opt("prod").await?.is_none(),
            "pods with a Secret that nobody released"
        );
        site.apply(&login(json!({"zenop.dev/volume-of": "prod"})))
            .await?;
        let job = to_value(site.migration("prod").await?.spec.context("no spec")?)?;
        let job = &job["template"];
        let proxy = container(job, "initContainers", "proxy").context("no proxy")?;
        ensure!(proxy["restartPolicy"] == "Always", "{proxy}");
        let migration = container(job, "containers", "migration").context("no migration")?;
        ensure!(seen(migration).contains(&("models", "/models")), "{job}");
        ensure!(migration["resources"]["limits"]["memory"] == "4Gi", "{job}");
        ensure!(
            job["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64",
            "{job}"
        );
        site.migrates("prod", 0, json!({"begun": true})).await?;

        let made = template(site, |_| true).await?;
        let spec = &made["spec"];
        ensure!(made["metadata"]["labels"]["team"] == "ml", "{made}");
        ensure!(
            made["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"]
                == "true"
        );
        ensure!(spec["tolerations"][0]["key"] == "dedicated", "{spec}");
        let spread = &spec["topologySpreadConstraints"];
        ensure!(spread.as_array().map(Vec::len) == Some(1), "{spread}");
        ensure!(
            spread[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "prod",
            "{spread}"
        );
        ensure!(spec["affinity"]["podAntiAffinity"].is_object(), "{spec}");
        ensure!(
            spec["imagePullSecrets"] == json!([{"name": "registry"}]),
            "{spec}"
        );
        let sidecar = container(&made, "containers", "sidecar").context("no sidecar")?;
        ensure!(
            sidecar["resources"] == json!({"limits": {"memory": "512Mi"}}),
            "{sidecar}"
        );
        let proxy = container(&made, "initContainers", "proxy").context("no proxy")?;
        ensure!(seen(proxy) == [("login", "/login")], "{proxy}");
        is_restricted(site, &made).await?;

        // What the API server writes in another way is not written again and again.
        site.settled().await?;
        site.no_write(Duration::from_secs(1)).await?;

        // F20: another content makes the pods anew.
        let print =
            |template: &Value| template["metadata"]["annotations"]["zenop.dev/environment"].clone();
        let before = print(&made);
        site.apply(&models("a: 2")).await?;
        template(site, |template| print(template) != before).await?;

        // Without it the pods are as they were before anybody said anything.
        site.apply(&over(json!({}))).await?;
        let plain = |template: &Value| template["spec"].get("initContainers").is_none();
        let plain = template(site, plain).await?;
        for field in [
            "nodeSelector",
            "tolerations",
            "affinity",
            "imagePullSecrets",
        ] {
            ensure!(plain["spec"].get(field).is_none(), "{field}: {plain}");
        }
        ensure!(plain["metadata"]["labels"].get("team").is_none(), "{plain}");
        Ok(())
    })
    .await
}

/// Whoever breaks into the ZenML server, or is let in beside it, does not have the sidecar's rights.
#[tokio::test]
async fn the_sidecar_alone_has_a_token() -> Result<()> {
    site("token", async |site| {
        let _operator = site.operator().await?;
        let extra = json!({"extraContainers": [{"name": "extra", "image": "extra:1"}]});
        site.apply(&over(extra)).await?;
        site.migrates("prod", 0, json!({"begun": true})).await?;
        let made = template(site, |_| true).await?;
        ensure!(
            made["spec"]["automountServiceAccountToken"] == false,
            "{made}"
        );
        let volumes = made["spec"]["volumes"].as_array().context("no volumes")?;
        let with_token: Vec<_> = volumes
            .iter()
            .filter(|volume| volume.to_string().contains("serviceAccountToken"))
            .filter_map(|volume| volume["name"].as_str())
            .collect();
        ensure!(with_token == ["api-access"], "{with_token:?}");
        for (list, name, has) in [
            ("containers", "sidecar", true),
            ("containers", "zenml", false),
            ("initContainers", "extra", false),
        ] {
            let one = container(&made, list, name).context(name)?;
            let path = "/var/run/secrets/kubernetes.io/serviceaccount";
            ensure!(seen(one).contains(&("api-access", path)) == has, "{one}");
        }
        is_restricted(site, &made).await
    })
    .await
}

/// An extra container with these fields.
fn extra(more: Value) -> Value {
    let mut one = json!({"name": "extra", "image": "extra:1"});
    for (field, value) in more.as_object().into_iter().flatten() {
        one[field] = value.clone();
    }
    json!({"extraContainers": [one]})
}

fn volume(more: Value) -> Value {
    json!({"volumes": [more]})
}

/// S14: kubectl refuses what has no place in the schema, and what another client sends of it is dropped.
#[tokio::test]
async fn s14_what_would_weaken_the_pods_is_refused() -> Result<()> {
    site("weaken", async |site| {
        for said in [
            json!({"hostNetwork": true}),
            json!({"hostPID": true}),
            json!({"serviceAccountName": "admin"}),
            json!({"automountServiceAccountToken": true}),
            json!({"securityContext": {"runAsUser": 0}}),
            json!({"shareProcessNamespace": true}),
            extra(json!({"securityContext": {"privileged": true}})),
            extra(json!({"envFrom": [{"secretRef": {"name": "prod-auth"}}]})),
            volume(json!({"name": "host", "emptyDir": {}, "hostPath": {"path": "/"}})),
        ] {
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(file.path(), over(said.clone()).to_string())?;
            let path = file.path().to_str().context("no path")?;
            match site.kubectl(&["apply", "--filename", path]).await {
                Ok(_) => bail!("taken: {said}"),
                Err(error) => ensure!(format!("{error:#}").contains("unknown field"), "{error:#}"),
            }
        }
        Ok(())
    })
    .await
}

/// S14: neither is what is in the schema, where it would get at something of zenop's.
#[tokio::test]
async fn s14_what_is_zenops_own_is_refused() -> Result<()> {
    site("own", async |site| {
        let own = "a volume of this name is zenop's own";
        let mount = json!([{"name": "api-access", "mountPath": "/token"}]);
        for (said, why) in [
            (
                volume(json!({"name": "host", "hostPath": {"path": "/"}})),
                "hostPath: field not declared in schema",
            ),
            (
                volume(json!({"name": "host"})),
                "a volume is one of configMap",
            ),
            (volume(json!({"name": "api-access", "emptyDir": {}})), own),
            (volume(json!({"name": "zenop-x", "emptyDir": {}})), own),
            (extra(json!({"volumeMounts": mount})), "must name volumes of"),
            (json!({"volumeMounts": mount}), "must name volumes of"),
            (extra(json!({"name": "zenml"})), "a container of this name"),
            (
                extra(json!({"ports": [{"containerPort": 8080}]})),
                "this port is zenop's own",
            ),
            (extra(json!({"runAsUser": 0})), "greater than or equal to 1"),
            (
                json!({"labels": {"app.kubernetes.io/name": "other"}}),
                "labels must not be zenop's own",
            ),
            (
                json!({"annotations": {"zenop.dev/environment": "x"}}),
                "annotations must not be zenop's own",
            ),
            (
                json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/zenml": "unconfined"}}),
                "annotations must not be zenop's own",
            ),
            (
                json!({"priorityClassName": "system-node-critical"}),
                "priorityClassName must not be",
            ),
            (
                json!({"resources": {"requests": {"memory": "3Gi"}, "limits": {"memory": "2Gi"}}}),
                "requests must not be more than limits",
            ),
        ] {
            match site.apply(&over(said.clone())).await {
                Ok(_) => bail!("taken: {said}"),
                Err(error) => ensure!(format!("{error:#}").contains(why), "{error:#}"),
            }
        }
        let alone = with(server("prod"), "spec.podTemplate", extra(json!({})));
        match site.apply(&alone).await {
            Ok(_) => bail!("taken without a ZenML server"),
            Err(error) => ensure!(format!("{error:#}").contains("they need image"), "{error:#}"),
        }
        Ok(())
    })
    .await
}

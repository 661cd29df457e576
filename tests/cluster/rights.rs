//! What operator, sidecars and people may do: all of what they need, and nothing more.
//!
//! attacks.md S03, S07. The lists are in `golden/`.

mod ask;
mod sidecar;

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        events::v1::Event,
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use zenop::api::{
    Certificate, HTTPRoute, ZenAPIKey, ZenComponent, ZenDevice, ZenSecret, ZenUser, annotation,
    label, reason,
};
use zenop_cluster::TestNamespace;

use self::ask::{NEVER, Rules, Subject, asked, client_of, minus, nameless, rules, snapshot, tell};
use crate::support::{
    Launch, Site, component, elsewhere,
    helm::{RELEASE, SYSTEM, installed},
    key, ready, secret, server, site_on, stalled, user, with, with_zenml,
};

#[tokio::test]
async fn the_operator_may_do_what_is_listed_and_nothing_else() -> Result<()> {
    let plane = installed().await?;
    let operator = client_of(plane, SYSTEM, RELEASE).await?;
    let anybody = client_of(plane, SYSTEM, "default").await?;
    let anybody = rules(&anybody, "kube-public").await?;
    let everywhere = rules(&operator, "kube-public").await?;
    let at_home = minus(&rules(&operator, SYSTEM).await?, &everywhere);
    let text = format!(
        "In every namespace:\n{}\nIn its own:\n{}",
        tell(&minus(&everywhere, &anybody)),
        tell(&at_home)
    );
    snapshot("operator-rights", &text);

    let admin = plane.client().await?;
    let operator = Subject::service_account(&admin, SYSTEM, RELEASE);
    for namespace in [SYSTEM, "kube-public", ""] {
        operator.check(false, namespace, NEVER).await?;
        let may = [
            "create apps/deployments",
            "list secrets",
            "patch zenop.dev/zenapikeys/status",
        ];
        operator.check(true, namespace, &may).await?;
    }
    let others =
        ["delete", "patch", "update"].map(|verb| format!("{verb} coordination.k8s.io/leases"));
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    operator.check(false, SYSTEM, &others).await?;
    operator
        .check(false, SYSTEM, &["update coordination.k8s.io/leases other"])
        .await?;
    operator
        .check(false, "kube-public", &["create coordination.k8s.io/leases"])
        .await
}

/// What the operator needs only to hand it on.
fn handed_on() -> Rules {
    let get = [
        "zenservers",
        "zenserviceaccounts",
        "zenapikeys",
        "zendevices",
        "zenusers",
    ]
    .map(|kind| (kind, "get"));
    let write = ["create", "patch", "delete"];
    let kinds = ["zenserviceaccounts", "zenapikeys", "zenusers"];
    let write = write.map(|verb| kinds.map(|kind| (kind, verb)));
    let others = [
        ("zendevices", "create"),
        ("zendevices", "patch"),
        ("zensecrets", "create"),
        ("zensecrets", "delete"),
    ];
    let all = get
        .into_iter()
        .chain(write.into_iter().flatten())
        .chain(others);
    all.map(|(kind, verb)| (format!("zenop.dev/{kind}"), verb.to_owned()))
        .collect()
}

/// It is held against the audit log: every right is used, and nothing was refused.
#[tokio::test]
async fn the_rights_of_the_operator_suffice_and_each_is_used() -> Result<()> {
    let plane = installed().await?;
    site_on(plane, "rights", async |site| {
        let launch = Launch {
            kubeconfig: plane
                .kubeconfig_for_service_account(SYSTEM, RELEASE, None)
                .await?,
            watch: None,
            lease_namespace: SYSTEM.to_owned(),
            ..site.launch()
        };
        api_server_listens_at(&plane.client().await?, 8443).await?;
        let first = site.start(&launch)?;
        first.leads().await?;
        let second = site.start(&Launch {
            identity: "second".into(),
            ..launch.clone()
        })?;
        second.log.says(&["standing by"]).await?;

        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        correct_what_is_edited(site).await?;
        move_a_key(site).await?;
        meet_a_stranger_twice(site).await?;
        restart_consumers(site).await?;
        look_after_devices(site).await?;
        site.apply(&user("ana")).await?;
        let told = |user: &ZenUser| user.status.is_some();
        site.until("ana", "told of", told).await?;
        surround_a_server(site).await?;
        migrate_a_database(site).await?;
        let token = json!([{"key": "token", "generate": {}}]);
        site.apply(&secret("token", token)).await?;
        site.until("token", "Ready", ready::<ZenSecret>).await?;
        let refers = component("refers", json!({"a": "{{token.token}}"}));
        site.apply(&refers).await?;
        site.until("refers", "Ready", ready::<ZenComponent>).await?;
        let held = |secret: &ZenSecret| !secret.finalizers().is_empty();
        let held = site.until("token", "held", held).await?;
        site.delete::<ZenSecret>("token").await?;
        site.delete::<ZenComponent>("refers").await?;
        let uid = held.uid().context("no uid")?;
        site.until_gone::<ZenSecret>("token", &uid).await?;
        first.stop().await?;
        second.leads().await?;
        second.stop().await?;

        let user = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
        let (used, refused) = asked(plane, &user).await?;
        ensure!(refused.is_empty(), "refused: {}", tell(&refused));
        let operator = client_of(plane, SYSTEM, RELEASE).await?;
        let anybody = client_of(plane, SYSTEM, "default").await?;
        let granted = minus(
            &rules(&operator, SYSTEM).await?,
            &rules(&anybody, SYSTEM).await?,
        );
        let idle = minus(&nameless(&granted), &used);
        assert_eq!(
            tell(&idle),
            tell(&handed_on()),
            "rights that are granted and not used"
        );
        Ok(())
    })
    .await
}

async fn edit<K>(site: &Site, name: &str, patch: &Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = site.api::<K>();
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// One device waits to be approved; another is over since long, and goes.
async fn look_after_devices(site: &Site) -> Result<()> {
    let device = |name: &str, n: u128| {
        json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice", "metadata": {"name": name},
            "spec": {
                "serverRef": {"name": "prod"}, "clientId": uuid::Uuid::from_u128(n).to_string(),
                "userRef": {"name": "ana"},
            },
        })
    };
    site.apply(&device("dev-new", 1)).await?;
    let waits = |device: &ZenDevice| {
        let status = device.status.as_ref();
        status.is_some_and(|s| s.conditions.iter().any(|c| c.reason == "NotApproved"))
    };
    site.until("dev-new", "waiting", waits).await?;
    let authorization = json!({
        "deviceId": "d", "accountId": "a", "proof": "0".repeat(64),
        "approvedTime": "2026-01-01T00:00:00Z",
    });
    let old = with(device("dev-old", 2), "spec.authorization", authorization);
    let uid = site.apply(&old).await?.uid().context("no uid")?;
    site.until_gone::<ZenDevice>("dev-old", &uid).await
}

/// Somebody edits it; the operator puts it right.
async fn corrected<K>(site: &Site, name: &str) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    edit::<K>(
        site,
        name,
        &json!({"metadata": {"labels": {label::NAME: "edited"}}}),
    )
    .await?;
    let right = |object: &K| {
        object
            .labels()
            .get(label::NAME)
            .is_some_and(|l| l != "edited")
    };
    site.until(name, "corrected", right).await.map(drop)
}

async fn correct_what_is_edited(site: &Site) -> Result<()> {
    corrected::<ServiceAccount>(site, "prod").await?;
    corrected::<Role>(site, "prod").await?;
    corrected::<RoleBinding>(site, "prod").await?;
    corrected::<Service>(site, "prod").await?;
    corrected::<Deployment>(site, "prod").await?;
    corrected::<Secret>(site, "main-key").await
}

/// All that may stand around pods comes, is edited, and goes, but for the ConfigMap, which stays.
async fn surround_a_server(site: &Site) -> Result<()> {
    async fn there<K>(site: &Site, name: &str) -> Result<String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let made = site.until(name, "made", |_: &K| true).await?;
        corrected::<K>(site, name).await?;
        made.uid().context("no uid")
    }
    let client = site.plane.client().await?;
    elsewhere::install_routes(&client).await?;
    elsewhere::install_certificates(&client).await?;
    let host = "zenml.example.org";
    let two = with(server("prod"), "spec.replicas", json!(2));
    let gateway = json!({"parentRef": {"name": "public"}, "hostname": host});
    let by_gateway = json!({"mode": "Gateway", "gateway": gateway});
    site.apply(&with(two.clone(), "spec.expose", by_gateway))
        .await?;
    there::<ConfigMap>(site, "prod-connection").await?;
    let budget = there::<PodDisruptionBudget>(site, "prod").await?;
    let policy = there::<NetworkPolicy>(site, "prod").await?;
    reaches_the_api_server(site, 8443).await?;
    let route = there::<HTTPRoute>(site, "prod").await?;
    let by_ingress = json!({"mode": "Ingress", "ingress": {"hostname": host}});
    let tls = json!({"mode": "CertManager", "issuerRef": {"name": "ours"}});
    let secured = with(with(two, "spec.expose", by_ingress), "spec.tls", tls);
    site.apply(&secured).await?;
    let ingress = there::<Ingress>(site, "prod").await?;
    let certificate = there::<Certificate>(site, "prod-tls").await?;
    let none = with(
        server("prod"),
        "spec.networkPolicy",
        json!({"enabled": false}),
    );
    site.apply(&with(none, "spec.replicas", json!(1))).await?;
    site.until_gone::<PodDisruptionBudget>("prod", &budget)
        .await?;
    site.until_gone::<NetworkPolicy>("prod", &policy).await?;
    site.until_gone::<HTTPRoute>("prod", &route).await?;
    site.until_gone::<Ingress>("prod", &ingress).await?;
    site.until_gone::<Certificate>("prod-tls", &certificate)
        .await
}

/// A database is made, and then another for the next release; what is edited is put right meanwhile.
async fn migrate_a_database(site: &Site) -> Result<()> {
    let stored = with_zenml(server("stored"));
    site.apply(&stored).await?;
    let first = site.migration("stored").await?;
    site.migrates("stored", 0, json!({"begun": true})).await?;
    let applied = |claim: &PersistentVolumeClaim| claim.labels().get(label::APPLIED).cloned();
    let before = applied(&site.api().get("stored-data").await?);
    let edited = json!({"metadata": {"labels": {label::APPLIED: "edited"}}});
    edit::<PersistentVolumeClaim>(site, "stored-data", &edited).await?;
    site.apply(&with(stored, "spec.image", json!("zenml-server:next")))
        .await?;
    let right = |claim: &PersistentVolumeClaim| applied(claim) == before;
    site.until("stored-data", "corrected", right).await?;
    let uid = first.uid().context("no uid")?;
    site.until_gone::<Job>("stored-migration", &uid).await
}

/// The Secret of the old name goes once it holds no key that counts.
async fn move_a_key(site: &Site) -> Result<()> {
    let before = site.api::<Secret>().get("main-key").await?;
    site.apply(&with(
        key("main"),
        "spec.delivery.secretName",
        json!("moved"),
    ))
    .await?;
    let made = |_: &Secret| true;
    site.until("moved", "made", made).await?;
    let unnumbered = json!({"metadata": {"labels": {label::KEY_GENERATION: null}}});
    edit::<Secret>(site, "main-key", &unnumbered).await?;
    let uid = before.uid().context("no uid")?;
    site.until_gone::<Secret>("main-key", &uid).await
}

/// The same event twice is one event, counted.
async fn meet_a_stranger_twice(site: &Site) -> Result<()> {
    let stranger = Secret {
        metadata: ObjectMeta {
            name: Some("taken".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    site.api::<Secret>()
        .create(&PostParams::default(), &stranger)
        .await?;
    let wanted = |name: &str| with(key("clash"), "spec.delivery.secretName", json!(name));
    let conflict = stalled::<ZenAPIKey>(reason::CONFLICT);
    site.apply(&wanted("taken")).await?;
    site.until("clash", "in conflict", &conflict).await?;
    site.apply(&wanted("free")).await?;
    site.until::<ZenAPIKey>("clash", "Ready", ready).await?;
    site.apply(&wanted("taken")).await?;
    site.until("clash", "in conflict again", &conflict).await?;
    let events = site.api::<Event>().list(&ListParams::default()).await?;
    let about = events.iter().find(|event| {
        let clash = event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some("clash");
        clash && event.reason.as_deref() == Some(reason::CONFLICT)
    });
    let name = about.context("no event about the conflict")?.name_any();
    let counted = |event: &Event| {
        event
            .series
            .as_ref()
            .is_some_and(|series| series.count == 2)
    };
    site.until(&name, "counted", counted).await.map(drop)
}

/// As an API server says where it listens itself; ours here does not.
async fn api_server_listens_at(client: &Client, port: u16) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.10"]}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let (parameters, patch) = (PatchParams::apply("test").force(), Patch::Apply(&slice));
    slices.patch("kubernetes", &parameters, &patch).await?;
    Ok(())
}

/// Pods may reach it there, behind its Service: that is what a network compares.
async fn reaches_the_api_server(site: &Site, port: u16) -> Result<()> {
    let policy = site.api::<NetworkPolicy>().get("prod").await?;
    let egress = serde_json::to_value(policy.spec)?["egress"][0]["ports"].clone();
    let mut open = egress.as_array().into_iter().flatten();
    ensure!(
        open.any(|open| open["port"] == port),
        "{port} is not in {egress}"
    );
    Ok(())
}

/// A rotation restarts workloads, named and selected.
async fn restart_consumers(site: &Site) -> Result<()> {
    let labels = json!({"app": "trainer"});
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    });
    for (kind, name) in [("StatefulSet", "set"), ("DaemonSet", "daemons")] {
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
        if kind == "StatefulSet" {
            spec["replicas"] = json!(0);
        }
        let metadata = json!({"name": name, "labels": labels});
        let object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec});
        site.apply(&object).await?;
    }
    let consumers = json!([
        {"kind": "StatefulSet", "name": "set"},
        {"kind": "DaemonSet", "name": "daemons"},
        {"kind": "StatefulSet", "selector": {"matchLabels": labels}},
        {"kind": "DaemonSet", "selector": {"matchLabels": labels}},
    ]);
    let rolls = with(
        key("rolls"),
        "spec.rotation",
        json!({"consumers": consumers}),
    );
    site.apply(&rolls).await?;
    site.key_ready("rolls", 1).await?;
    site.apply(&with(rolls, "spec.rotation.trigger", json!("now")))
        .await?;
    let restarted = |template: Option<&ObjectMeta>| {
        let annotations = template.and_then(|meta| meta.annotations.as_ref());
        annotations.is_some_and(|all| all.contains_key(annotation::RESTARTED_AT))
    };
    site.until("set", "restarted", |set: &StatefulSet| {
        restarted(set.spec.template.metadata.as_ref())
    })
    .await?;
    site.until("daemons", "restarted", |set: &DaemonSet| {
        restarted(set.spec.template.metadata.as_ref())
    })
    .await
    .map(drop)
}

/// view, edit and admin get the custom resources; keys stay with those who may read Secrets.
#[tokio::test]
async fn people_get_the_custom_resources_with_the_roles_they_have() -> Result<()> {
    let plane = installed().await?;
    let admin = plane.client().await?;
    let namespace = TestNamespace::create(&admin, "people").await?;
    let read = ["get zenop.dev/zenservers", "watch zenop.dev/zenapikeys"];
    let write = [
        "patch zenop.dev/zenapikeys",
        "delete zenop.dev/zenserviceaccounts",
        "update zenop.dev/zenservers/scale",
    ];
    let never = [
        "patch zenop.dev/zenapikeys/status",
        "update zenop.dev/zenservers/status",
    ];
    for (role, writes) in [("view", false), ("edit", true), ("admin", true)] {
        let binding: RoleBinding = from_value(json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
        }))?;
        namespace
            .api()
            .create(&PostParams::default(), &binding)
            .await?;
        let person = Subject {
            client: admin.clone(),
            user: role.to_owned(),
            groups: vec!["system:authenticated".into()],
        };
        for what in read.iter().chain(write.iter().filter(|_| writes)) {
            person.comes_to(namespace.name(), what).await?;
        }
        person.check(writes, namespace.name(), &write).await?;
        person.check(false, namespace.name(), &never).await?;
        person.check(false, "default", &read).await?;
    }
    let view = Subject {
        client: admin,
        user: "view".into(),
        groups: Vec::new(),
    };
    view.check(false, namespace.name(), &["get secrets"]).await
}

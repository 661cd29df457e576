//! What leads to a server from outside its cluster: Ingress, HTTPRoute, certificate, also where the cluster does
//! not have these kinds yet.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    networking::v1::Ingress,
};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json, to_value};
use zenop::api::{Certificate, HTTPRoute, ZenServer, condition, reason};
use zenop_cluster::Options;

use super::{conflict::untouched, drift::repaired};
use crate::support::{
    Site, elsewhere, entry, garbage_collector, key, message, ready, says, server, site,
    site::own_plane, site_on, stalled, waiting, with,
};

const HOST: &str = "zenml.example.org";

fn by_ingress() -> Value {
    let ingress =
        json!({"className": "nginx", "hostname": HOST, "annotations": {"a.example.org/b": "c"}});
    with(
        server("prod"),
        "spec.expose",
        json!({"mode": "Ingress", "ingress": ingress}),
    )
}

fn by_gateway(section: &str) -> Value {
    let parent = json!({"name": "public", "namespace": "gateways", "sectionName": section});
    let gateway = json!({"parentRef": parent, "hostname": HOST});
    with(
        server("prod"),
        "spec.expose",
        json!({"mode": "Gateway", "gateway": gateway}),
    )
}

/// The server tells this address, and the key is delivered with it.
async fn reached_at(site: &Site, url: &str) -> Result<()> {
    let is = |server: &ZenServer| {
        let status = server.status.as_ref();
        status.and_then(|status| status.url.as_deref()) == Some(url)
    };
    site.until("prod", &format!("at {url}"), is).await?;
    let is = |secret: &Secret| entry(secret, "ZENML_STORE_URL").as_deref() == Some(url);
    site.until("main-key", &format!("with {url}"), is).await?;
    let is = |map: &ConfigMap| {
        let data = map.data.as_ref();
        data.and_then(|data| data.get("url")).map(String::as_str) == Some(url)
    };
    site.until("prod-connection", &format!("with {url}"), is)
        .await
        .map(drop)
}

/// Says of an object what a controller of its kind would.
async fn report<K>(site: &Site, name: &str, status: Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let patch = Patch::Merge(json!({"status": status}));
    let parameters = PatchParams::default();
    site.api::<K>()
        .patch_status(name, &parameters, &patch)
        .await?;
    Ok(())
}

async fn exposed(site: &Site, status: &str, why: &str) -> Result<String> {
    let is = says::<ZenServer>(condition::EXPOSED, status, why);
    let server = site
        .until("prod", &format!("Exposed {status} for {why}"), is)
        .await?;
    Ok(message(&server, condition::EXPOSED))
}

#[tokio::test]
async fn f15_an_ingress_leads_to_the_server_and_its_name_is_the_address() -> Result<()> {
    site("ingress", async |site| {
        let _operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.apply(&by_ingress()).await?;
        reached_at(site, "http://zenml.example.org").await?;
        let made = |_: &Ingress| true;
        let ingress: Ingress = site.until("prod", "made", made).await?;
        ensure!(
            ingress
                .annotations()
                .get("a.example.org/b")
                .map(String::as_str)
                == Some("c")
        );
        let service = json!({"name": "prod", "port": {"name": "http"}});
        let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}});
        let rules = json!([{"host": HOST, "http": {"paths": [path]}}]);
        let spec = to_value(&ingress.spec)?;
        ensure!(
            spec == json!({"ingressClassName": "nginx", "rules": rules}),
            "{spec}"
        );
        let why = exposed(site, "False", reason::NO_ADDRESS).await?;
        ensure!(
            why.contains("is there a controller for class nginx"),
            "{why}"
        );
        let address = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        report::<Ingress>(site, "prod", address).await?;
        exposed(site, "True", condition::EXPOSED).await?;

        let evil = json!({"spec": {"rules": [{"host": "evil.example.org"}]}});
        repaired::<Ingress>(site, "prod", evil, "/spec/rules").await?;

        // What the front door shows is given by somebody; of that, authorities are passed on.
        let tls = json!({"mode": "Provided", "secretName": "front"});
        site.apply(&with(by_ingress(), "spec.tls", tls)).await?;
        reached_at(site, "https://zenml.example.org").await?;
        let why = exposed(site, "False", reason::CERTIFICATE_NOT_READY).await?;
        ensure!(why.contains("kubectl create secret tls front"), "{why}");
        site.apply(&front_secret()).await?;
        exposed(site, "True", condition::EXPOSED).await?;
        let secured = |ingress: &Ingress| {
            let spec = to_value(&ingress.spec).unwrap_or_default();
            spec["tls"] == json!([{"hosts": [HOST], "secretName": "front"}])
        };
        site.until("prod", "with TLS", secured).await?;
        let known = |map: &ConfigMap| {
            let data = map.data.as_ref();
            data.and_then(|data| data.get("ca.crt")).map(String::as_str) == Some(CERTIFICATE)
        };
        site.until("prod-connection", "with its CA", known).await?;

        // Whoever says the address has the last word.
        let said = with(by_ingress(), "spec.url", json!("https://zen.example.net"));
        site.apply(&said).await?;
        reached_at(site, "https://zen.example.net").await?;

        let uid = ingress.uid().context("no uid")?;
        site.apply(&server("prod")).await?;
        site.until_gone::<Ingress>("prod", &uid).await?;
        reached_at(site, &format!("http://prod.{}.svc", site.name())).await?;
        let unsaid = |server: &ZenServer| message(server, condition::EXPOSED).is_empty();
        site.until("prod", "not exposed", unsaid).await.map(drop)
    })
    .await
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";

fn front_secret() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "front"},
        "stringData": {"tls.crt": "leaf", "tls.key": "s3cret", "ca.crt": CERTIFICATE},
    })
}

/// K15.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn k15_kinds_that_come_later_are_found_and_then_watched() -> Result<()> {
    let options = Options {
        kwok: true,
        ..Options::default()
    };
    let plane = own_plane(options).await?;
    site_on(plane, "later", async |site| {
        let client = plane.client().await?;
        let operator = site.operator().await?;
        site.apply(&by_gateway("https")).await?;
        site.apply(&crate::support::account("ci")).await?;
        site.apply(&key("main")).await?;
        // All else goes on.
        site.key_ready("main", 1).await?;
        reached_at(site, "https://zenml.example.org").await?;
        let missing = waiting::<ZenServer>(reason::KIND_MISSING);
        let waits = site.until("prod", "without a kind", missing).await?;
        let why = message(&waits, condition::READY);
        ensure!(
            why.contains("the cluster has no HTTPRoute")
                && why.contains("install the Gateway API CRDs"),
            "{why}"
        );
        exposed(site, "False", reason::KIND_MISSING).await?;

        elsewhere::install_routes(&client).await?;
        site.until::<ZenServer>("prod", "Ready", ready).await?;
        let route: HTTPRoute = site.api().get("prod").await?;
        let fields = Value::Object(route.spec.fields.clone());
        ensure!(fields["hostnames"] == json!([HOST]), "{fields}");
        let parent = json!({
            "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public",
            "namespace": "gateways", "sectionName": "https",
        });
        ensure!(fields["parentRefs"] == json!([parent]), "{fields}");
        let backend = &fields["rules"][0]["backendRefs"][0];
        ensure!(
            backend["name"] == "prod" && backend["port"] == 80,
            "{fields}"
        );

        // It is watched from now on: what its Gateway says, and what somebody does to it.
        exposed(site, "False", reason::ROUTE_NOT_ACCEPTED).await?;
        let said = |status: &str| {
            let condition =
                json!({"type": "Accepted", "status": status, "message": "no such listener"});
            json!({"parents": [{"parentRef": parent, "conditions": [condition]}]})
        };
        report::<HTTPRoute>(site, "prod", said("False")).await?;
        let refused = |server: &ZenServer| {
            message(server, condition::EXPOSED)
                .contains("does not take HTTPRoute prod: no such listener")
        };
        site.until("prod", "refused", refused).await?;
        report::<HTTPRoute>(site, "prod", said("True")).await?;
        exposed(site, "True", condition::EXPOSED).await?;
        let evil = json!({"spec": {"hostnames": ["evil.example.org"]}});
        repaired::<HTTPRoute>(site, "prod", evil, "/spec/hostnames").await?;
        site.settled().await?;
        site.no_write(std::time::Duration::from_secs(2)).await?;

        // The next operator finds it, and takes it away when it is not wanted any more.
        operator.stop().await?;
        let _operator = site.operator().await?;
        let evil = json!({"spec": {"hostnames": ["evil.example.org"]}});
        site.settled().await?;
        repaired::<HTTPRoute>(site, "prod", evil, "/spec/hostnames").await?;
        let tls =
            json!({"mode": "CertManager", "issuerRef": {"name": "ours", "kind": "ClusterIssuer"}});
        site.apply(&with(by_ingress(), "spec.tls", tls)).await?;
        let uid = route.uid().context("no uid")?;
        site.until_gone::<HTTPRoute>("prod", &uid).await?;
        site.until("prod", "made", |_: &Ingress| true).await?;
        let missing = waiting::<ZenServer>(reason::KIND_MISSING);
        let waits = site.until("prod", "without cert-manager", missing).await?;
        let why = message(&waits, condition::READY);
        ensure!(why.contains("install cert-manager"), "{why}");

        elsewhere::install_certificates(&client).await?;
        let waits = exposed(site, "False", reason::CERTIFICATE_NOT_READY).await?;
        ensure!(
            waits.contains("did not answer for Certificate prod-tls"),
            "{waits}"
        );
        let certificate: Certificate = site.api().get("prod-tls").await?;
        let fields = Value::Object(certificate.spec.fields.clone());
        let issuer = json!({"name": "ours", "kind": "ClusterIssuer", "group": "cert-manager.io"});
        ensure!(
            fields == json!({"secretName": "prod-tls", "dnsNames": [HOST], "issuerRef": issuer}),
            "{fields}"
        );
        let issued = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        report::<Certificate>(site, "prod-tls", issued).await?;
        exposed(site, "False", reason::NO_ADDRESS).await?;
        let uid = certificate.uid().context("no uid")?;
        site.apply(&by_ingress()).await?;
        site.until_gone::<Certificate>("prod-tls", &uid).await?;
        somebody_elses_route(site).await
    })
    .await
}

async fn somebody_elses_route(site: &Site) -> Result<()> {
    let theirs = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "prod"}, "spec": {"hostnames": ["theirs.example.org"]},
    });
    let theirs = site.apply(&theirs).await?;
    site.apply(&by_gateway("https")).await?;
    let conflict = stalled::<ZenServer>(reason::CONFLICT);
    let server = site.until("prod", "in conflict", conflict).await?;
    let why = message(&server, condition::CONFLICT);
    ensure!(why.contains("HTTPRoute prod"), "{why}");
    untouched(site, &theirs, "HTTPRoute").await
}

/// All of it goes with the server.
#[tokio::test]
async fn what_stands_around_a_server_goes_with_it() -> Result<()> {
    garbage_collector().await?;
    site("goes", async |site| {
        let _operator = site.operator().await?;
        site.apply(&by_ingress()).await?;
        let ingress: Ingress = site.until("prod", "made", |_: &Ingress| true).await?;
        let map: ConfigMap = site
            .until("prod-connection", "made", |_: &ConfigMap| true)
            .await?;
        site.delete::<ZenServer>("prod").await?;
        site.until_gone::<Ingress>("prod", &ingress.uid().context("no uid")?)
            .await?;
        site.until_gone::<ConfigMap>("prod-connection", &map.uid().context("no uid")?)
            .await
    })
    .await
}

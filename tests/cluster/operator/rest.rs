//! At rest nothing is written, little is read, and nothing is kept that is not ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
    events::v1::Event,
};
use kube::api::{ListParams, PostParams};
use serde_json::{Value, from_value, json};
use zenop::api::{ZenAPIKey, ZenComponent, ZenSecret, ZenServer, ZenServiceAccount, reason};
use zenop::runtime::clock::{self, monotonic};
use zenop_cluster::{
    Options,
    fault::{Match, Verb},
};

use super::given::{made, theirs, value_from, verifier};
use crate::support::{
    Site, account, component, key, ready, secret, server, site, site::own_plane, site_on, stalled,
    waiting, with, with_mysql,
};

/// Objects in every state that lasts.
async fn populate(site: &Site) -> Result<()> {
    let in_the_way = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "in-the-way"},
        "stringData": {"theirs": "1"},
    });
    let of = |name: &str, path: &str, value: Value| with(key(name), path, value);
    let objects = [
        in_the_way,
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "front"},
            "type": "kubernetes.io/tls", "stringData": {"tls.crt": "leaf", "tls.key": "s3cret"},
        }),
        served(),
        server("idle"),
        fronted(),
        account("ci"),
        with(account("lost"), "spec.serverRef.name", json!("nowhere")),
        with(account("off"), "spec.active", json!(false)),
        key("main"),
        of("deactivated", "spec.active", json!(false)),
        of(
            "expired",
            "spec.expiresAt",
            json!("2020-01-01T00:00:00.25Z"),
        ),
        of(
            "expiring",
            "spec.expiresAt",
            json!("2099-01-01T00:00:00.25+02:00"),
        ),
        of(
            "conflict",
            "spec.delivery",
            json!({"secretName": "in-the-way"}),
        ),
        of("orphan", "spec.serviceAccountRef.name", json!("nobody")),
        of("of-off", "spec.serviceAccountRef.name", json!("off")),
        theirs(&made(7, 1).text()),
        value_from("given", "vault"),
        value_from("without-source", "in-the-way"),
        verifier("hashed", &made(9, 1)),
        login(),
        component("tracker", json!({"password": "{{login.pass}}"})),
        component("unresolved", json!({"password": "{{nowhere.pass}}"})),
    ];
    for object in objects.into_iter().chain(rotated("a")) {
        site.apply(&object).await?;
    }
    settle(site).await
}

/// A server with a ZenML server, whose environment has a value in it.
fn served() -> Value {
    with_mysql(server("prod"), "{{login.pass}}")
}

/// A server with all that stands around pods in any cluster.
fn fronted() -> Value {
    let ingress = json!({"hostname": "zenml.example.org", "annotations": {"a.example.org/b": "c"}});
    let server = with(server("fronted"), "spec.replicas", json!(2));
    let server = with(
        server,
        "spec.expose",
        json!({"mode": "Ingress", "ingress": ingress}),
    );
    let server = with(
        server,
        "spec.tls",
        json!({"mode": "Provided", "secretName": "front"}),
    );
    let egress = json!([{"ports": [9000]}, {"cidr": "10.0.0.0/8", "ports": [1, 2]}]);
    with(server, "spec.networkPolicy", json!({"egress": egress}))
}

/// A secret with a value of each kind but sealed.
fn login() -> Value {
    let from = json!({"secretKeyRef": {"name": "in-the-way", "key": "theirs"}});
    let values = json!([{"key": "pass", "valueFrom": from}, {"key": "drawn", "generate": {}}]);
    let template = json!({"data": {"both": "{{login.pass}}:{{login.drawn}}"}});
    with(
        secret("login", values),
        "spec.target",
        json!({"secretTemplate": template}),
    )
}

/// Rotates those that are to be rotated, and waits until each object is as it stays.
async fn settle(site: &Site) -> Result<()> {
    // A consumer too, once its database is made.
    site.until("prod", "made", |_: &Deployment| true).await?;
    for object in rotated("a") {
        site.key_ready(object["metadata"]["name"].as_str().context("no name")?, 1)
            .await?;
    }
    for object in rotated("b") {
        site.apply(&object).await?;
    }
    for name in [
        "main",
        "deactivated",
        "expired",
        "expiring",
        "of-off",
        "given",
        "hashed",
        "held-back",
        "paused",
    ] {
        site.key_ready(name, 1).await?;
    }
    for name in ["overlapping", "rolled-out", "in-use"] {
        site.key_ready(name, 2).await?;
    }
    let rolled = |key: &ZenAPIKey| {
        let consumers = key.status.as_ref().map(|s| s.consumers.as_slice());
        consumers.is_some_and(|all| all.len() == 1 && all.iter().all(|c| c.rolled))
    };
    for name in ["rolled-out", "in-use"] {
        site.until(name, "with its consumers restarted", rolled)
            .await?;
    }
    site.until::<ZenAPIKey>(
        "without-source",
        "waiting",
        waiting(reason::SOURCE_NOT_FOUND),
    )
    .await?;
    site.until::<ZenAPIKey>("conflict", "Stalled", stalled(reason::CONFLICT))
        .await?;
    site.until::<ZenAPIKey>("orphan", "waiting", waiting(reason::ACCOUNT_NOT_FOUND))
        .await?;
    site.until::<ZenServiceAccount>("lost", "waiting", waiting(reason::SERVER_NOT_FOUND))
        .await?;
    site.until::<ZenServer>("prod", "Ready", ready).await?;
    site.until::<ZenServer>("idle", "Ready", ready).await?;
    site.until::<ZenServer>("fronted", "Ready", ready).await?;
    let used = |secret: &ZenSecret| {
        let status = secret.status.as_ref();
        ready(secret) && status.is_some_and(|status| status.used_by.count == 2)
    };
    site.until("login", "used by server and component", used)
        .await?;
    site.until::<ZenComponent>("tracker", "Ready", ready)
        .await?;
    let missing = waiting(reason::SECRET_MISSING);
    site.until::<ZenComponent>("unresolved", "waiting", missing)
        .await?;
    Ok(())
}

/// Keys that were rotated and are done, or are not to be rotated now.
fn rotated(trigger: &str) -> Vec<Value> {
    let of = |name: &str, rotation: Value| {
        let key = with(key(name), "spec.rotation", rotation);
        with(key, "spec.rotation.trigger", json!(trigger))
    };
    let template = json!({"secretTemplate": {"includePrevious": true, "data": {"a": "{{key}}"}}});
    let overlapping = of("overlapping", json!({"interval": "720h"}));
    let mut paused = of("paused", json!({"schedule": "0 3 1 * *"}));
    if trigger == "b" {
        paused["metadata"]["annotations"] = json!({"zenop.dev/paused": "true"});
    }
    let consumers = json!([
        {"kind": "Deployment", "name": "prod"},
        {"kind": "StatefulSet", "name": "nobody"},
    ]);
    vec![
        with(overlapping, "spec.delivery", template),
        paused,
        of("held-back", json!({"windows": closed()})),
        of(
            "rolled-out",
            json!({"consumers": consumers, "minRestartInterval": "0s"}),
        ),
        of(
            "in-use",
            json!({
                "retirement": "WhenUnused", "consumers": consumers, "minRestartInterval": "0s",
            }),
        ),
    ]
}

/// A window that opens in two hours.
fn closed() -> Value {
    let time = |hours: i64| {
        let zoned = clock::now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::Span::new().hours(hours);
        zoned.strftime("%H:%M").to_string()
    };
    json!([{"start": time(2), "end": time(4)}])
}

#[tokio::test]
async fn at_rest_nothing_is_written_nor_by_the_next_one() -> Result<()> {
    let options = Options {
        audit: true,
        kwok: true,
        ..Options::default()
    };
    let plane = own_plane(options).await?;
    site_on(plane, "rest", async |site| {
        let first = site.operator().await?;
        populate(site).await?;
        kubectl_waits(site).await?;
        no_work_but_conflicts(site).await?;
        site.no_write(Duration::from_secs(5)).await?;

        let audited = plane.audit_events().await?.len();
        let mark = site.proxy.mark();
        first.stop().await?;
        let second = site.operator().await?;
        no_work_but_conflicts(site).await?;
        second.crash().await?;
        let mut launch = site.launch();
        site.any_lease().await?;
        launch.lease = "third".into();
        let third = site.start(&launch)?;
        third.leads().await?;
        no_work_but_conflicts(site).await?;

        let writes = site.proxy.since(mark, &Match::writes());
        ensure!(writes.is_empty(), "written by the next one: {writes:?}");
        let events = site.proxy.since(mark, &Match::default().on("events"));
        ensure!(events.is_empty(), "told by the next one: {events:?}");
        let reads = site
            .proxy
            .since(mark, &Match::verb(Verb::Get).on("secrets"));
        ensure!(reads.len() >= 8, "nothing was looked at: {reads:?}");
        let audited = plane.audit_events().await?.split_off(audited);
        let writes = audited.iter().filter(|event| {
            let verb = event["verb"].as_str().unwrap_or_default();
            event["objectRef"]["namespace"] == site.name()
                && event["objectRef"]["resource"] != "leases"
                && event["user"]["username"] != "admin"
                && ["create", "update", "patch", "delete"].contains(&verb)
        });
        let writes: Vec<_> = writes.collect();
        ensure!(writes.is_empty(), "in the audit log: {writes:#?}");
        Ok(())
    })
    .await
}

/// Waits until only what is in the way, or is not there, is still looked at, which it is every second here.
async fn no_work_but_conflicts(site: &Site) -> Result<()> {
    let busy = Match::work();
    loop {
        let mark = site.proxy.mark();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let calls = site.proxy.since(mark, &busy);
        let expected = ["in-the-way", "without-source-key", "vault", "given-key"];
        if calls.iter().all(|call| expected.contains(&&*call.name)) {
            return Ok(());
        }
    }
}

/// As the README says to wait.
async fn kubectl_waits(site: &Site) -> Result<()> {
    site.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "zenserver/prod",
        "zenserviceaccount/ci",
        "zenapikey/main",
    ])
    .await?;
    let table = site.kubectl(&["get", "zen"]).await?;
    for name in [
        "zenserver.zenop.dev/prod",
        "zenserviceaccount.zenop.dev/ci",
        "zenapikey.zenop.dev/main",
    ] {
        ensure!(table.contains(name), "{table}");
    }
    eprintln!("{table}");
    Ok(())
}

#[tokio::test]
async fn an_event_told_again_is_counted() -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "prod"},
        "spec": {"ports": [{"port": 5432}]},
    });
    site("events", async |site| {
        let operator = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.settled().await?;
        let mut operator = operator;
        for round in 1..=3 {
            operator.stop().await?;
            site.delete::<Service>("prod").await?;
            site.apply(&service).await?;
            operator = site.operator().await?;
            site.until::<ZenServer>("prod", "Conflict", stalled(reason::CONFLICT))
                .await?;
            told(site, round).await?;
            site.delete::<Service>("prod").await?;
            site.until::<ZenServer>("prod", "well again", |s| !stalled(reason::CONFLICT)(s))
                .await?;
        }
        Ok(())
    })
    .await
}

/// Waits until the conflict was told so often, in one Event.
async fn told(site: &Site, times: i32) -> Result<()> {
    let server: ZenServer = site.api().get("prod").await?;
    let is = |event: &&Event| event.reason.as_deref() == Some("Conflict");
    let counted = async {
        loop {
            let events = site.api::<Event>().list(&ListParams::default()).await?;
            let conflicts: Vec<_> = events.iter().filter(is).cloned().collect();
            ensure!(
                conflicts.len() <= 1,
                "{} events say the same",
                conflicts.len()
            );
            if let Some(event) = conflicts.into_iter().next()
                && event.series.as_ref().map_or(1, |series| series.count) == times
            {
                return anyhow::Ok(event);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let event = tokio::time::timeout(crate::support::PATIENCE, counted).await??;
    let about = event.regarding.context("about nothing")?;
    ensure!(about.uid == server.metadata.uid && about.kind.as_deref() == Some("ZenServer"));
    ensure!(event.type_.as_deref() == Some("Warning"));
    ensure!(event.reporting_controller.as_deref() == Some("zenop.dev/zenop"));
    Ok(())
}

#[tokio::test]
async fn secrets_of_others_are_neither_read_nor_kept() -> Result<()> {
    // 50,000 take some minutes: ZENOP_FOREIGN_SECRETS=50000 cargo test --test cluster secrets_of_others
    let foreign =
        std::env::var("ZENOP_FOREIGN_SECRETS").map_or(Ok(2000), |n| n.parse::<usize>())?;
    site("memory", async |site| {
        let first = site.operator().await?;
        site.apply_three().await?;
        site.key_ready("main", 1).await?;
        site.settled().await?;
        let before = first.memory()?;

        let began = monotonic();
        // 20 MiB in all, whatever their number.
        let text = "x".repeat((20 << 20) / foreign);
        let api = site.api::<Secret>();
        stream::iter(0..foreign)
            .map(|n| {
                let object = json!({"metadata": {"name": format!("foreign-{n}")}, "stringData": {"x": text}});
                let api = api.clone();
                async move { api.create(&PostParams::default(), &from_value(object)?).await.context("creating") }
            })
            .buffer_unordered(32)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        eprintln!("{foreign} Secrets made in {:?}", began.elapsed());

        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 2).await?;
        site.settled().await?;
        let after = first.memory()?;
        first.stop().await?;
        let second = site.operator().await?;
        site.delete::<Secret>("main-key").await?;
        site.key_ready("main", 3).await?;
        site.settled().await?;
        let fresh = second.memory()?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        eprintln!("resident: {:.1} MiB before, {:.1} after, {:.1} of one that found them",
            mib(before), mib(after), mib(fresh));
        let limit = before + (8 << 20);
        ensure!(after < limit && fresh < limit, "{before} grew to {after} and {fresh} bytes");

        for entry in site.proxy.record() {
            let call = &entry.call;
            if call.resource != "secrets" {
                continue;
            }
            if matches!(call.verb, Verb::List | Verb::Watch) {
                let selects = |sign| format!("labelSelector=app.kubernetes.io%2Fmanaged-by{sign}zenop");
                let [ours, others] = ["%3D", "%21%3D"].map(selects);
                ensure!(call.query.contains(&ours) || call.query.contains(&others), "{call:?}");
                ensure!(entry.accept.contains("as=PartialObjectMeta"), "{}", entry.accept);
            }
            ensure!(!call.name.starts_with("foreign"), "{call:?}");
        }
        let lists = site.proxy.since(0, &Match::verb(Verb::List).on("secrets"));
        ensure!(!lists.is_empty(), "Secrets were not listed");
        Ok(())
    })
    .await
}

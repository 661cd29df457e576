//! What the API server itself refuses, fills in and explains.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::Secret,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount};

use crate::support::{PATIENCE, Site, account, key, server, site, site::resource};

/// An object with one part of its spec replaced.
fn set(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap_or(("", path));
    let mut place = &mut object["spec"];
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        place = &mut place[part];
    }
    place[field] = value;
    object
}

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = json!(name);
    object
}

/// Objects that are refused, and what the refusal must say.
type Refused = Vec<(Value, &'static str)>;

const SHAPE: &str = "should match";

fn long(length: usize) -> Value {
    json!("x".repeat(length))
}

fn bad_schemes() -> Refused {
    let scheme = |name: &str| set(server("bad"), "auth/scheme", json!(name));
    let external = |issuer: &str, more: Value| {
        let url = set(server("bad"), "url", json!("https://zen.example.org"));
        let mut provider = json!({"issuer": issuer, "clientId": "zenml"});
        for (name, value) in more.as_object().into_iter().flatten() {
            provider[name] = value.clone();
        }
        set(
            url,
            "auth",
            json!({"scheme": "External", "external": provider}),
        )
    };
    let sso = "https://sso.example.org";
    let mut nowhere = external(sso, json!({}));
    nowhere["spec"]["url"] = Value::Null;
    let mut two = external(sso, json!({}));
    two["spec"]["auth"]["scheme"] = json!("HTTPBasic");
    vec![
        (scheme("NoAuth"), "say so with allowInsecure: true"),
        (scheme("HTTP_BASIC"), "Unsupported value"),
        (scheme("External"), "scheme External needs auth.external"),
        (two, "no other scheme has it"),
        (nowhere, "auth.external needs spec.url"),
        (
            external("http://sso.example.org", json!({})),
            "the issuer must be https",
        ),
        (external("sso.example.org", json!({})), SHAPE),
        (external("https://a@sso.example.org", json!({})), SHAPE),
        (external(sso, json!({"clientId": ""})), "at least 1 char"),
        (external(sso, json!({"scopes": ["a b"]})), SHAPE),
        (external(sso, json!({"caBundle": "a file"})), SHAPE),
    ]
}

/// V5, V6, and what goes with them.
fn bad_fronts() -> Refused {
    let host = "zenml.example.org";
    let ingress = || json!({"mode": "Ingress", "ingress": {"hostname": host}});
    let gateway = json!({"parentRef": {"name": "public"}, "hostname": host});
    let routed = || json!({"mode": "Gateway", "gateway": gateway});
    let expose = |expose: Value| set(server("bad"), "expose", expose);
    let tls = |front: Value, tls: Value| set(expose(front), "tls", tls);
    let of = |field: &str, value: Value| {
        let mut front = ingress();
        front["ingress"][field] = value;
        expose(front)
    };
    let egress = |rule: Value| set(server("bad"), "networkPolicy", json!({"egress": [rule]}));
    let both = json!({"mode": "Ingress", "ingress": {"hostname": host}, "gateway": gateway});
    let idle = json!({"mode": "None", "ingress": {"hostname": host}});
    let fields = "expose fields must match expose.mode";
    let network = "cidr must be a network";
    let many: std::collections::BTreeMap<_, _> = (0..33).map(|n| (format!("a{n}"), "b")).collect();
    vec![
        (expose(json!({"mode": "Ingress"})), fields),
        (expose(json!({"mode": "Gateway"})), fields),
        (expose(both), fields),
        (expose(idle), fields),
        (expose(json!({"mode": "LoadBalancer"})), "Unsupported value"),
        (of("hostname", json!("*.example.org")), SHAPE),
        (of("hostname", json!("https://zenml")), SHAPE),
        (of("path", json!("zenml")), SHAPE),
        (of("path", json!("/zenml/")), SHAPE),
        (
            of("annotations", json!({"zenop.dev/paused": "true"})),
            "zenop's own",
        ),
        (of("annotations", json!(many)), "at most 32"),
        (
            tls(ingress(), json!({"mode": "CertManager"})),
            "CertManager needs issuerRef",
        ),
        (
            tls(ingress(), json!({"mode": "Provided"})),
            "Provided needs secretName",
        ),
        (
            tls(
                ingress(),
                json!({"mode": "Provided", "secretName": "a", "issuerRef": {"name": "b"}}),
            ),
            "issuerRef is for mode CertManager",
        ),
        (
            tls(ingress(), json!({"secretName": "a"})),
            "secretName is for mode Provided",
        ),
        (
            tls(routed(), json!({"mode": "Provided", "secretName": "a"})),
            "with a Gateway TLS ends at its listener",
        ),
        (
            tls(json!({}), json!({"mode": "Provided", "secretName": "a"})),
            "tls.mode needs expose.mode Ingress",
        ),
        (egress(json!({})), "would open everything"),
        (egress(json!({"ports": []})), "would open everything"),
        (egress(json!({"ports": [0]})), "greater than or equal to 1"),
        (egress(json!({"cidr": "10.0.0.0/33"})), network),
        (egress(json!({"cidr": "10.0.0.1/8"})), network),
        (egress(json!({"cidr": "10.0.0.1"})), network),
    ]
}

fn bad_limits() -> Refused {
    let with = |field: &str, value: Value| (set(server("bad"), field, value), SHAPE);
    let mut bad: Refused = ["0/m", "5/s", "off"]
        .map(|rate| with("auth/rateLimit", json!({"login": rate})))
        .into();
    bad.push(with("auth/rateLimit", json!({"global": "0/m"})));
    bad.push(with("auth/rateLimit", json!({"perKey": "5/m,"})));
    let networks = ["10.0.0.0/33", "10.0.0.256", "::/129", "10.0.0.*"];
    bad.extend(networks.map(|network| with("auth/trustedProxies", json!([network]))));
    let many = json!(vec!["10.0.0.0/8"; 17]);
    let many = set(server("bad"), "auth/trustedProxies", many);
    bad.push((many, "at most 16"));
    bad
}

fn bad_signing() -> Refused {
    let jwt = |field: &str, value: Value| {
        let path = format!("auth/jwt/{field}");
        set(server("bad"), &path, value)
    };
    let every = "rotateEvery must be between 24h and 17520h";
    let age = "jwksMaxAge must be between 1s and 1h";
    let kid = "A".repeat(43);
    vec![
        (jwt("rotateEvery", json!("23h")), every),
        (jwt("rotateEvery", json!("17521h")), every),
        (jwt("overlap", json!("17521h")), "overlap must be at most"),
        (jwt("overlap", json!("-1h")), SHAPE),
        (jwt("jwksMaxAge", json!("0s")), age),
        (jwt("jwksMaxAge", json!("61m")), age),
        (jwt("trigger", long(254)), "may not be more than 253"),
        (jwt("revoked", json!([&kid[1..]])), "at least 43 chars"),
        (jwt("revoked", json!(["=".repeat(43)])), SHAPE),
        (jwt("revoked", json!(vec![kid; 17])), "at most 16"),
    ]
}

fn bad_servers() -> Refused {
    let server = || server("bad");
    let ttl = "tokenTTL must be between 1m and 168h";
    let stale = "maxStaleness must be between 5s and 10m";
    let window = "undoWindow must be longer than 0s and at most 720h";
    let name = "the name must be one of a Service";
    vec![
        (
            set(server(), "replicas", json!(-1)),
            "greater than or equal to 0",
        ),
        (
            set(server(), "replicas", json!(51)),
            "less than or equal to 50",
        ),
        (
            set(server(), "replicas", json!("1")),
            "must be of type integer",
        ),
        (set(server(), "auth/tokenTTL", json!("59s")), ttl),
        (set(server(), "auth/tokenTTL", json!("168h1s")), ttl),
        (set(server(), "auth/tokenTTL", json!("0s")), ttl),
        (set(server(), "auth/tokenTTL", json!("-1h")), SHAPE),
        (set(server(), "auth/tokenTTL", json!("1 day")), SHAPE),
        (
            set(server(), "auth/tokenTTL", json!(3600)),
            "must be of type string",
        ),
        (set(server(), "auth/tokenTTL", json!("")), "tokenTTL"),
        (
            set(server(), "auth/tokenTTL", json!("99999999999999999999h")),
            "tokenTTL",
        ),
        (set(server(), "auth/maxStaleness", json!("4s")), stale),
        (set(server(), "policy/undoWindow", json!("0s")), window),
        (set(server(), "policy/undoWindow", json!("721h")), window),
        (set(server(), "auth/maxStaleness", json!("601s")), stale),
        (
            set(server(), "secureHeaders/server", json!("")),
            "at least 1 char",
        ),
        (
            set(server(), "secureHeaders/server", long(2049)),
            "may not be more than 2048",
        ),
        (named(server(), "1st"), name),
        (named(server(), "a.b"), name),
        (named(server(), &"a".repeat(64)), name),
    ]
}

fn bad_accounts() -> Refused {
    let account = || account("bad");
    let mut without_server = account();
    without_server["spec"] = json!({});
    vec![
        (without_server, "spec.serverRef: Required"),
        (
            set(account(), "serverRef", json!({})),
            "spec.serverRef.name: Required",
        ),
        (
            set(account(), "serverRef/name", json!("")),
            "at least 1 char",
        ),
        (
            set(account(), "serverRef/name", long(254)),
            "may not be more than 253",
        ),
        (set(account(), "name", json!("")), "at least 1 char"),
        (
            set(account(), "name", long(256)),
            "may not be more than 255",
        ),
        (
            set(account(), "description", long(513)),
            "may not be more than 512",
        ),
        (
            set(account(), "active", json!("yes")),
            "must be of type boolean",
        ),
    ]
}

fn bad_keys() -> Refused {
    let key = || key("bad");
    let never = json!("9999-12-31T23:59:59Z");
    vec![
        (
            set(key(), "serviceAccountRef/name", json!("")),
            "at least 1 char",
        ),
        (
            set(key(), "description", long(513)),
            "may not be more than 512",
        ),
        (
            set(key(), "expiresAt", json!("tomorrow")),
            "must be of type date-time",
        ),
        (
            set(key(), "expiresAt", never),
            "leave it out for a key that never expires",
        ),
        (
            set(key(), "delivery/onSecretLoss", json!("Ignore")),
            "supported values",
        ),
        (
            set(key(), "delivery/secretName", long(254)),
            "may not be more than 253",
        ),
        (named(key(), &"a".repeat(250)), "at most 249 characters"),
        (hashed(&json!({})), "set sha256 or bcrypt"),
        (
            hashed(&json!({"sha256": "0".repeat(64), "bcrypt": bcrypt(12)})),
            "set sha256 or bcrypt",
        ),
        (hashed(&json!({"bcrypt": bcrypt(15)})), SHAPE),
        (hashed(&json!({"bcrypt": long(60)})), SHAPE),
    ]
}

fn bcrypt(cost: u8) -> String {
    format!("$2b${cost:02}${}", "a".repeat(53))
}

/// A key of which this is known.
fn hashed(known: &Value) -> Value {
    let mut verifier = known.clone();
    verifier["keyId"] = json!("7d1b3f0e-52a4-4a53-9c7e-5f6f0f6b2a11");
    set(
        key("bad"),
        "source",
        json!({"type": "Verifier", "verifier": verifier}),
    )
}

/// Texts that would be something else where they go: an address, a header, a name.
fn bad_texts() -> Refused {
    let mut cases = Vec::new();
    let urls = [
        "",
        "zenml.example.org",
        "ftp://example.org",
        "https://",
        "https://a/",
        "https://a b",
        "https://a/?x",
        "https://a#x",
        "https://user:secret@a",
        "https://a\r\nSet-Cookie: x",
        "https://a\0",
    ];
    cases.extend(urls.map(|url| (set(server("bad"), "url", json!(url)), "spec.url")));
    let headers = [
        "a\r\nSet-Cookie: x",
        "a\nb",
        "\t",
        "caf\u{e9}",
        "\u{7f}",
        "a\0",
    ];
    let names = [
        "server",
        "hsts",
        "xfo",
        "content",
        "csp",
        "referrer",
        "cache",
        "permissions",
    ];
    for (name, text) in names
        .iter()
        .flat_map(|name| headers.map(|text| (name, text)))
    {
        let path = format!("secureHeaders/{name}");
        cases.push((set(server("bad"), &path, json!(text)), SHAPE));
    }
    let secrets = [
        "", "UPPER", "a/b", "../a", "a..b", ".a", "a.", "-a", "a-", "a b", "a\n",
    ];
    let secret = |name| set(key("bad"), "delivery/secretName", json!(name));
    cases.extend(secrets.map(|name| (secret(name), "secretName")));
    cases
}

/// What the API server says to a new object, without keeping it.
async fn tried(site: &Site, object: &Value) -> Result<kube::api::DynamicObject, kube::Error> {
    let text = |path: &str| {
        let found = object.pointer(path).and_then(Value::as_str);
        found.unwrap_or_default()
    };
    let api = site.dynamic(&resource(text("/apiVersion"), text("/kind")));
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    api.create(&parameters, &object).await
}

/// K16, K17.
#[tokio::test]
async fn bad_values_are_refused_by_name() -> Result<()> {
    site("bad", async |site| {
        let bad = [
            bad_servers(),
            bad_limits(),
            bad_signing(),
            bad_schemes(),
            bad_fronts(),
            bad_accounts(),
            bad_keys(),
            bad_texts(),
        ];
        for (object, why) in bad.concat() {
            match tried(site, &object).await {
                Ok(_) => bail!("taken: {object}"),
                Err(kube::Error::Api(status)) => {
                    ensure!(status.code == 422, "{object}: {status:?}");
                    ensure!(status.message.contains(why), "{object}: {}", status.message);
                }
                Err(error) => return Err(error).context(object),
            }
        }
        Ok(())
    })
    .await
}

/// Somebody who logs in at a provider is sent back to where the server is exposed.
fn at_its_ingress() -> Value {
    let expose = json!({"mode": "Ingress", "ingress": {"hostname": "zenml.example.org"}});
    let external = json!({"issuer": "https://sso.example.org", "clientId": "zenml"});
    let auth = json!({"scheme": "External", "external": external});
    let tls = json!({"mode": "CertManager", "issuerRef": {"name": "letsencrypt"}});
    let exposed = set(set(server("a"), "expose", expose), "tls", tls);
    set(exposed, "auth", auth)
}

#[tokio::test]
async fn good_values_at_the_bounds_are_taken() -> Result<()> {
    site("good", async |site| {
        let good = [
            set(server("a"), "replicas", json!(0)),
            set(server("a"), "replicas", json!(50)),
            set(
                server("a"),
                "auth",
                json!({"tokenTTL": "1m", "maxStaleness": "5s"}),
            ),
            set(
                server("a"),
                "auth",
                json!({"tokenTTL": "167h59m60s", "maxStaleness": "10m"}),
            ),
            set(server("a"), "url", json!("http://[::1]:8080/zenml/v1")),
            at_its_ingress(),
            set(
                server("a"),
                "networkPolicy",
                json!({"egress": [{"cidr": "10.0.0.0/8"}, {"cidr": "2001:db8::/32", "ports": [65535]}]}),
            ),
            set(server("a"), "url", json!("https://zenml.example.org:8443")),
            set(
                server("a"),
                "secureHeaders",
                json!({"server": "off", "csp": "x".repeat(2048)}),
            ),
            named(server("a"), &"a".repeat(63)),
            set(account("a"), "name", json!("CI: \u{1f680} of team \"x\"\n")),
            set(account("a"), "name", json!("x".repeat(255))),
            set(
                key("a"),
                "expiresAt",
                json!("2020-02-29T23:59:59.123456789+01:00"),
            ),
            set(key("a"), "expiresAt", json!("9998-12-31T23:59:59Z")),
            set(key("a"), "delivery/secretName", json!("a.b-c.1")),
            named(
                set(key("a"), "delivery/secretName", json!("a")),
                &"a".repeat(253),
            ),
        ];
        for object in good {
            tried(site, &object)
                .await
                .with_context(|| object.to_string())?;
        }
        Ok(())
    })
    .await
}

/// K14.
#[tokio::test]
async fn an_account_does_not_change_its_server_nor_a_key_its_account() -> Result<()> {
    site("immutable", async |site| {
        let before = [account("a"), key("a")];
        let after = [
            (
                set(account("a"), "serverRef/name", json!("other")),
                "serverRef cannot change",
            ),
            (
                set(key("a"), "serviceAccountRef/name", json!("other")),
                "serviceAccountRef cannot change",
            ),
        ];
        for (before, (after, why)) in before.iter().zip(after) {
            site.apply(before).await?;
            let refused = site.apply(&after).await.err().context("it was taken")?;
            ensure!(format!("{refused:#}").contains(why), "{refused:#}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn defaults_are_as_documented_and_a_new_object_says_that_nothing_was_observed() -> Result<()>
{
    site("defaults", async |site| {
        let spec = |object: &kube::api::DynamicObject| object.data["spec"].clone();
        let object = site.apply(&server("prod")).await?;
        let device = json!({
            "trustedTTL": "720h", "untrustedTTL": "24h", "codeTTL": "5m", "pollInterval": "5s",
            "maxFailedAttempts": 3,
        });
        let mut auth = json!({
            "scheme": "OAuth2PasswordBearer", "allowInsecure": false,
            "tokenTTL": "1h", "maxStaleness": "30s", "recordAddresses": true, "device": device,
            "rateLimit": {
                "login": "10/m,1000/d", "global": "1000/m", "perKey": "none", "userCode": "5/m",
            },
            "jwt": {"rotateEvery": "720h", "overlap": "48h", "jwksMaxAge": "5m"},
        });
        let devices = json!({"maxPerUser": 20, "trustAllowed": true, "sameNetwork": false});
        let policy = json!({
            "keys": {"maxPerAccount": 20}, "devices": devices, "secretValidation": "SecretAndKeyExists",
        });
        let cors = json!({"allowCredentials": false});
        let migration = json!({
            "backup": "Dump", "backupTarget": {"size": "10Gi"}, "timeout": "30m",
            "ttlSecondsAfterFinished": 86_400, "allowDowngrade": false, "acceptNoBackup": false,
            "allowDatabaseChange": false,
        });
        let defaults = json!({
            "auth": &auth, "policy": policy, "cors": cors, "secureHeaders": {},
            "sealing": {"rotateEvery": "8760h"}, "podTemplate": {}, "suspend": false,
            "database": {"type": "SQLite"}, "migration": migration,
            "expose": {"mode": "None"}, "tls": {"mode": "None"}, "networkPolicy": {"enabled": true},
            "update": {"policy": "OnSpecChange"},
        });
        ensure!(spec(&object) == defaults, "{:?}", object.data);
        let some = set(server("some"), "auth", json!({"tokenTTL": "2h"}));
        let object = site.apply(&some).await?;
        auth["tokenTTL"] = json!("2h");
        ensure!(spec(&object)["auth"] == auth);
        let object = site.apply(&account("ci")).await?;
        ensure!(spec(&object) == json!({
            "serverRef": {"name": "prod"}, "active": true, "isAdmin": false,
            "deletionPolicy": "Delete",
        }));
        let object = site.apply(&key("main")).await?;
        let keys = json!({
            "url": "ZENML_STORE_URL", "key": "ZENML_STORE_API_KEY",
            "previousKey": "ZENML_STORE_API_KEY_PREVIOUS",
        });
        ensure!(spec(&object) == json!({
            "serviceAccountRef": {"name": "ci"}, "active": true, "adoption": "Never",
            "deletionPolicy": "Delete",
            "source": {"type": "Generated"},
            "delivery": {
                "mode": "Secret", "onSecretLoss": "Rotate",
                "secretTemplate": {"type": "Opaque", "includePrevious": false, "keys": keys},
            },
            "rotation": {
                "retainFor": "1h", "retirement": "AfterRetain", "idleFor": "15m",
                "maxRetain": "168h", "minRestartInterval": "5m",
            },
        }), "{:?}", object.data);
        let unobserved = |status: Option<i64>| ensure_is(status, -1);
        unobserved(site.api::<ZenServer>().get("prod").await?.status.map(|s| s.observed_generation))?;
        unobserved(site.api::<ZenServiceAccount>().get("ci").await?.status.map(|s| s.observed_generation))?;
        unobserved(site.api::<ZenAPIKey>().get("main").await?.status.map(|s| s.observed_generation))
    })
    .await
}

fn ensure_is(found: Option<i64>, wanted: i64) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} instead of {wanted}");
    Ok(())
}

#[tokio::test]
async fn a_server_side_dry_run_does_nothing() -> Result<()> {
    site("dry-run", async |site| {
        let _operator = site.operator().await?;
        for object in [server("prod"), account("ci"), key("main")] {
            tried(site, &object).await?;
        }
        site.no_write(Duration::from_secs(1)).await?;
        ensure!(
            site.api::<ZenServer>()
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
        );
        ensure!(
            site.api::<Secret>()
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    site("explain", async |site| {
        let api = Api::<CustomResourceDefinition>::all(site.ns.client().clone());
        for mut crd in zenop::api::all_crds() {
            let stored = api.get(&crd.name_any()).await?;
            let size = serde_json::to_string(&stored)?.len();
            ensure!(size < 200 * 1024, "{} has {size} bytes", crd.name_any());
            let version = crd.spec.versions.pop().context("no version")?;
            let schema = serde_json::to_value(version.schema)?;
            for part in ["spec", "status"] {
                let place = format!("{}.{part}", crd.spec.names.kind.to_lowercase());
                let shown = explained(site, &place).await?;
                let mut fields = Vec::new();
                collect(&schema["openAPIV3Schema"]["properties"][part], &mut fields)?;
                ensure!(fields.len() > 3, "{place} has no fields");
                for field in fields {
                    let line = |line: &str| line.trim_start().starts_with(&format!("{field}\t"));
                    ensure!(
                        shown.lines().any(line),
                        "{place} does not show {field}:\n{shown}"
                    );
                }
            }
        }
        Ok(())
    })
    .await
}

/// What kubectl explains, once the API server has published the schema.
async fn explained(site: &Site, place: &str) -> Result<String> {
    let ask = async {
        loop {
            match site.kubectl(&["explain", place, "--recursive"]).await {
                Err(error) if error.to_string().contains("couldn't find resource") => {
                    sleep(Duration::from_millis(200)).await;
                }
                told => return told,
            }
        }
    };
    timeout(PATIENCE, ask).await?
}

/// The names of all fields of a schema, each of which must have a description.
fn collect(schema: &Value, names: &mut Vec<String>) -> Result<()> {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let words = field["description"]
            .as_str()
            .map_or(0, |text| text.split(' ').count());
        ensure!(words >= 2, "{name} is not described");
        names.push(name.clone());
        collect(field, names)?;
        collect(&field["items"], names)?;
    }
    Ok(())
}

//! What stands around a server's pods: how many may go at once, whom they may reach, what leads to
//! them, and what clients need to know.
//!
//! Each object is made where the spec asks for it, and goes where it does not any more. A kind that the
//! cluster does not have is waited for, and holds up nothing else.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::ConfigMap,
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::{ResourceExt, core::ApiResource};
use serde_json::{Map, Value, json};

use super::{
    children::{ADMIN_PORT, HTTP_PORT, auth_secret_resource, with_labels},
    front,
};
use crate::{
    api::{Certificate, Egress, HTTPRoute, TlsMode, ZenServer, label},
    reconcile::{
        Reader,
        error::{CallError, Invalid},
        foreign::Claim,
        plan::{Child, Doomed, Fact, Live},
    },
};

/// When to look again for a kind that the cluster does not have.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// One object, as it was when we looked.
#[derive(Debug)]
pub(super) struct Around {
    pub resource: ApiResource,
    pub name: String,
    pub live: Option<Live>,
    /// Whether the cluster has its kind.
    pub is_served: bool,
}

/// All of them, and what they are made of besides the spec.
#[derive(Debug)]
pub(super) struct Surroundings {
    all: Vec<Around>,
    /// Where the API server itself listens, if that can be known.
    api_ports: Vec<u16>,
    /// The Secret for TLS at the front door, if there is one of the name that the spec says or means.
    secret: Option<Live>,
}

/// What becomes of them.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub children: Vec<Child>,
    pub doomed: Vec<Doomed>,
    /// The message, if the cluster lacks a kind that the spec asks for.
    pub lacks: Option<String>,
    pub fact: Option<Fact>,
    pub deadline: Option<Timestamp>,
}

impl Surroundings {
    /// Reads what is there.
    ///
    /// # Errors
    /// If the API server does not say.
    pub(super) async fn observe(read: &Reader, server: &ZenServer) -> Result<Self, CallError> {
        let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
        let kinds = [
            (
                ApiResource::erase::<ConfigMap>(&()),
                server.connection_name(),
            ),
            (ApiResource::erase::<NetworkPolicy>(&()), name.clone()),
            (ApiResource::erase::<PodDisruptionBudget>(&()), name.clone()),
            (ApiResource::erase::<Ingress>(&()), name.clone()),
            (ApiResource::erase::<HTTPRoute>(&()), name),
            (
                ApiResource::erase::<Certificate>(&()),
                server.certificate_name(),
            ),
        ];
        let mut all = Vec::new();
        for (resource, name) in kinds {
            let is_elsewhere = front::is_elsewhere(&resource.kind);
            let live = match is_elsewhere {
                true => read.live_elsewhere(&resource, &namespace, &name).await?,
                false => read.live(&resource, &namespace, &name).await?,
            };
            let is_served = match &live {
                // At rest it is there, and nobody asks.
                None if front::is_wanted_elsewhere(server, &resource.kind) => {
                    read.serves(&resource).await?
                }
                None => !is_elsewhere,
                Some(_) => true,
            };
            all.push(Around {
                resource,
                name,
                live,
                is_served,
            });
        }
        let secret = match server.tls_secret_name() {
            Some(secret) => {
                read.live(&auth_secret_resource(), &namespace, &secret)
                    .await?
            }
            None => None,
        };
        Ok(Self {
            all,
            api_ports: match server.spec.network_policy.enabled {
                true => read.api_server_ports().await?,
                false => Vec::new(),
            },
            secret: secret.filter(is_for_tls),
        })
    }

    /// Checks that none of those that are wanted is somebody else's.
    ///
    /// # Errors
    /// Names the first, and what to do.
    pub(super) fn check(&self, server: &ZenServer, pods: i32) -> Result<(), Invalid> {
        let uid = server.uid().unwrap_or_default();
        for around in &self.all {
            if self.body(around, server, pods).is_none() {
                continue;
            }
            let claim = Claim {
                kind: "ZenServer",
                name: &server.name_any(),
                uid: &uid,
                remedy: match &*around.resource.kind {
                    "NetworkPolicy" => "set spec.networkPolicy.enabled: false",
                    "Ingress" | "HTTPRoute" => "set spec.expose.mode: None and keep this one",
                    "Certificate" => "set spec.tls.mode: Provided and name its Secret",
                    _ => "make this server under another name",
                },
            };
            claim.check(&around.resource.kind, &around.name, around.live.as_ref())?;
        }
        Ok(())
    }

    /// What is made, changed and removed. `pods` is how many there are to be.
    pub(super) fn turn(&self, server: &ZenServer, pods: i32, now: Timestamp) -> Turn {
        let uid = server.uid().unwrap_or_default();
        let mut turn = Turn {
            fact: front::exposed(server, &self.all, self.secret.is_some()),
            ..Turn::default()
        };
        if self.secret.is_none() && server.spec.tls.mode == TlsMode::Provided {
            // No watch shows others' Secrets.
            turn.deadline = now.checked_add(AGAIN).ok();
        }
        for around in &self.all {
            match (self.body(around, server, pods), &around.live) {
                (Some(_), None) if !around.is_served => {
                    turn.lacks
                        .get_or_insert_with(|| front::lacks(&around.resource));
                    turn.deadline = now.checked_add(AGAIN).ok();
                }
                (Some(body), live) => turn.children.push(Child {
                    resource: around.resource.clone(),
                    name: around.name.clone(),
                    body,
                    live: live.clone(),
                    create_only: false,
                    adopts: false,
                    kept: false,
                }),
                (None, Some(live)) if live.is_controlled_by(&uid) => turn.doomed.push(Doomed {
                    resource: around.resource.clone(),
                    name: around.name.clone(),
                    uid: live.uid.clone(),
                    version: Some(live.resource_version.clone()),
                }),
                (None, _) => {}
            }
        }
        turn
    }

    /// The fields that we own of one, if it is wanted.
    fn body(&self, around: &Around, server: &ZenServer, pods: i32) -> Option<Value> {
        match &*around.resource.kind {
            "ConfigMap" => Some(self.connection(server)),
            "NetworkPolicy" => self.network_policy(server),
            "PodDisruptionBudget" => (pods >= 2).then(|| budget(server)),
            "Ingress" => front::ingress(server),
            "HTTPRoute" => front::route(server),
            _ => front::certificate(server),
        }
    }

    /// What clients need to connect. Nothing of it is secret.
    fn connection(&self, server: &ZenServer) -> Value {
        let mut data: Map<String, Value> = Map::new();
        data.insert("url".into(), server.url().into());
        data.insert("internalURL".into(), server.internal_url().into());
        if let Some(authorities) = self.secret.as_ref().and_then(authorities) {
            data.insert("ca.crt".into(), authorities.into());
        }
        let mut body = with_labels(json!({}));
        if let Value::Object(fields) = &mut body {
            fields.insert("data".into(), data.into());
        }
        body
    }

    fn network_policy(&self, server: &ZenServer) -> Option<Value> {
        let guard = &server.spec.network_policy;
        if !guard.enabled {
            return None;
        }
        let tcp = |port: u16| json!({"protocol": "TCP", "port": port});
        // DNS; some clusters resolve at the second port, behind their Service.
        let dns = [53, 5353].map(|port| [json!({"protocol": "UDP", "port": port}), tcp(port)]);
        let known = [443, 6443, 8443].into_iter();
        let known: BTreeSet<u16> = known
            .chain(self.api_ports.iter().copied())
            .chain(named_ports(server))
            .collect();
        let open = dns.into_iter().flatten().chain(known.into_iter().map(tcp));
        let mut egress = vec![json!({"ports": open.collect::<Vec<_>>()})];
        egress.extend(guard.egress.iter().map(rule));
        Some(with_labels(json!({"spec": {
            // Those of migrations too.
            "podSelector": {
                "matchLabels": {(label::INSTANCE): server.name_any()},
                "matchExpressions": [{
                    "key": label::NAME, "operator": "In",
                    "values": [ZenServer::PODS, ZenServer::MIGRATION_PODS],
                }],
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [tcp(HTTP_PORT), tcp(ADMIN_PORT)]}],
            "egress": egress,
        }})))
    }
}

/// One pod may go at a time, and those that do not serve any time: they hold up no node.
fn budget(server: &ZenServer) -> Value {
    with_labels(json!({"spec": {
        "maxUnavailable": 1,
        "selector": {"matchLabels": server.pod_labels()},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }}))
}

fn rule(egress: &Egress) -> Value {
    let mut rule = Map::new();
    if let Some(cidr) = &egress.cidr {
        rule.insert("to".into(), json!([{"ipBlock": {"cidr": cidr}}]));
    }
    if !egress.ports.is_empty() {
        let ports = egress.ports.iter();
        let ports = ports.map(|port| json!({"protocol": "TCP", "port": port}));
        rule.insert("ports".into(), ports.collect());
    }
    rule.into()
}

/// The ports that the spec names by saying where provider and database are.
fn named_ports(server: &ZenServer) -> impl Iterator<Item = u16> {
    let provider = server.spec.auth.external.as_ref();
    let provider = provider.map(|external| &*external.issuer);
    let database = server.spec.database.mysql.as_ref();
    let database = database.and_then(|mysql| u16::try_from(mysql.port).ok());
    provider.and_then(port).into_iter().chain(database)
}

/// The port that an address names, or means.
fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse().ok(),
        _ => (scheme == "http").then_some(80),
    }
}

fn is_for_tls(secret: &Live) -> bool {
    secret.body.get("type").and_then(Value::as_str) == Some("kubernetes.io/tls")
}

/// The certificates, and nothing else, in entry `ca.crt` of a Secret for TLS.
fn authorities(secret: &Live) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let encoded = secret.body.pointer("/data/ca.crt")?.as_str()?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let blocks = text.split(BEGIN).skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once(END)?.0));
    let all: String = blocks
        .map(|block| format!("{BEGIN}{block}{END}\n"))
        .collect();
    (!all.is_empty()).then_some(all)
}

impl ZenServer {
    /// The Secret with the certificate of the front door, if it has one.
    pub(super) fn tls_secret_name(&self) -> Option<String> {
        let tls = &self.spec.tls;
        match tls.mode {
            TlsMode::None => None,
            TlsMode::CertManager => Some(self.certificate_name()),
            TlsMode::Provided => tls.secret_name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f25_a_port_is_read_where_an_address_names_one() {
        let cases = [
            ("https://sso.example.org", None),
            ("https://sso.example.org:8443/realm", Some(8443)),
            ("http://sso.test", Some(80)),
            ("https://u@[2001:db8::1]/realm", None),
            ("https://u@[2001:db8::1]:8444", Some(8444)),
            ("no address", None),
        ];
        for (url, expected) in cases {
            assert_eq!(port(url), expected, "{url}");
        }
    }

    #[test]
    fn f4_of_a_secret_certificates_alone_are_shown() {
        let of = |text: &str| {
            let body = json!({"data": {"ca.crt": STANDARD.encode(text)}});
            authorities(&Live {
                uid: String::new(),
                resource_version: String::new(),
                controller: None,
                body,
            })
        };
        let one = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nYg==\n-----END PRIVATE KEY-----\n";
        let found = of(&format!("{one}{key}s3cret{one}"));
        assert_eq!(found, Some(one.repeat(2)));
        assert_eq!(of(key), None);
    }
}

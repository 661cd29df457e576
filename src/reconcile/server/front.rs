//! What leads to a server from outside its cluster, and who vouches for it there.

use kube::{ResourceExt, core::ApiResource};
use serde_json::{Value, json};

use super::{children::with_labels, surroundings::Around};
use crate::{
    api::{ExposeMode, TlsMode, ZenServer, condition, reason},
    reconcile::plan::{Fact, Live},
};

/// How much is shown of what somebody else's controller says.
const MOST_CHARS: usize = 512;

/// Whether a kind is none that each cluster has.
pub(super) fn is_elsewhere(kind: &str) -> bool {
    ["HTTPRoute", "Certificate"].contains(&kind)
}

/// Whether the spec asks for one of such a kind.
pub(super) fn is_wanted_elsewhere(server: &ZenServer, kind: &str) -> bool {
    match kind {
        "HTTPRoute" => server.spec.expose.mode == ExposeMode::Gateway,
        "Certificate" => server.spec.tls.mode == TlsMode::CertManager,
        _ => false,
    }
}

/// That the cluster lacks a kind, and what to do.
pub(super) fn lacks(resource: &ApiResource) -> String {
    let remedy = match &*resource.kind {
        "HTTPRoute" => "install the Gateway API CRDs, or set another spec.expose.mode",
        _ => "install cert-manager, or set another spec.tls.mode",
    };
    format!(
        "the cluster has no {} ({}): {remedy}",
        resource.kind, resource.api_version
    )
}

/// The fields that we own of the Ingress, if there is to be one.
pub(super) fn ingress(server: &ZenServer) -> Option<Value> {
    let expose = &server.spec.expose;
    let front = expose.ingress.as_ref();
    let front = front.filter(|_| expose.mode == ExposeMode::Ingress)?;
    let service = json!({"name": server.name_any(), "port": {"name": "http"}});
    let path = json!({"path": front.path, "pathType": "Prefix", "backend": {"service": service}});
    let mut spec = json!({"rules": [{"host": front.hostname, "http": {"paths": [path]}}]});
    if let Value::Object(fields) = &mut spec {
        if let Some(class) = &front.class_name {
            fields.insert("ingressClassName".into(), class.as_str().into());
        }
        if let Some(secret) = server.tls_secret_name() {
            let tls = json!([{"hosts": [front.hostname], "secretName": secret}]);
            fields.insert("tls".into(), tls);
        }
    }
    let mut body = with_labels(json!({"spec": spec}));
    if let Some(Value::Object(meta)) = body.get_mut("metadata")
        && !front.annotations.is_empty()
    {
        meta.insert("annotations".into(), json!(front.annotations));
    }
    Some(body)
}

/// The fields that we own of the route, if there is to be one. Defaults are said, so that what is there
/// can be compared with it.
pub(super) fn route(server: &ZenServer) -> Option<Value> {
    let expose = &server.spec.expose;
    let front = expose.gateway.as_ref();
    let front = front.filter(|_| expose.mode == ExposeMode::Gateway)?;
    let parent = &front.parent_ref;
    let mut to = json!({
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": parent.name,
    });
    if let Value::Object(fields) = &mut to {
        let more = [
            ("namespace", &parent.namespace),
            ("sectionName", &parent.section_name),
        ];
        for (field, value) in more {
            if let Some(value) = value {
                fields.insert(field.into(), value.as_str().into());
            }
        }
    }
    let service = json!({
        "group": "", "kind": "Service", "name": server.name_any(), "port": 80, "weight": 1,
    });
    Some(with_labels(json!({"spec": {
        "parentRefs": [to],
        "hostnames": [front.hostname],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [service],
        }],
    }})))
}

/// The fields that we own of what asks cert-manager, if there is to be one.
pub(super) fn certificate(server: &ZenServer) -> Option<Value> {
    let tls = &server.spec.tls;
    let issuer = tls.issuer_ref.as_ref();
    let issuer = issuer.filter(|_| tls.mode == TlsMode::CertManager)?;
    Some(with_labels(json!({"spec": {
        "secretName": server.certificate_name(),
        "dnsNames": [server.spec.expose.hostname()?],
        "issuerRef": issuer,
    }})))
}

/// Whether what leads to the server was taken up by those whose business that is. Ready does not wait
/// for them: clients in the cluster need none of it.
pub(super) fn exposed(server: &ZenServer, all: &[Around], has_secret: bool) -> Option<Fact> {
    let kind = match server.spec.expose.mode {
        ExposeMode::None => return None,
        ExposeMode::Ingress => "Ingress",
        ExposeMode::Gateway => "HTTPRoute",
    };
    let of = |kind: &str| all.iter().find(|around| around.resource.kind == kind);
    let lacking = all
        .iter()
        .find(|around| !around.is_served && is_wanted_elsewhere(server, &around.resource.kind));
    let live = |kind: &str| of(kind).and_then(|around| around.live.as_ref());
    let (name, address) = (server.name_any(), server.url());
    let said = match lacking {
        Some(around) => Err((reason::KIND_MISSING, lacks(&around.resource))),
        None => is_certified(server, live("Certificate"), has_secret).and_then(|()| match kind {
            "Ingress" => has_address(server, live(kind)),
            _ => is_accepted(server, live(kind)),
        }),
    };
    let (holds, reason, message) = match said {
        Ok(()) => (
            true,
            condition::EXPOSED,
            format!("{kind} {name} leads from {address} here"),
        ),
        Err((reason, message)) => (false, reason, message),
    };
    Some(Fact {
        condition: condition::EXPOSED,
        holds,
        reason,
        message,
    })
}

type Said = Result<(), (&'static str, String)>;

fn is_certified(server: &ZenServer, live: Option<&Live>, has_secret: bool) -> Said {
    match (server.spec.tls.mode, &server.spec.tls.secret_name) {
        (TlsMode::CertManager, _) => {}
        (TlsMode::Provided, Some(secret)) if !has_secret => {
            let message = format!(
                "there is no Secret {secret} of type kubernetes.io/tls, as spec.tls.secretName says: \
                 kubectl create secret tls {secret} --cert=FILE --key=FILE"
            );
            return Err((reason::CERTIFICATE_NOT_READY, message));
        }
        (TlsMode::None | TlsMode::Provided, _) => return Ok(()),
    }
    let conditions = live.and_then(|live| live.body.pointer("/status/conditions"));
    let name = server.certificate_name();
    let said = match is(conditions, "Ready", live) {
        Some((true, _)) => return Ok(()),
        Some((false, said)) => format!("Certificate {name} is not ready: {said}"),
        None => format!(
            "cert-manager did not answer for Certificate {name} yet: is it running, and is there \
             such an issuer? See kubectl describe certificate {name}"
        ),
    };
    Err((reason::CERTIFICATE_NOT_READY, said))
}

fn has_address(server: &ZenServer, live: Option<&Live>) -> Said {
    let addresses = live.and_then(|live| live.body.pointer("/status/loadBalancer/ingress"));
    if addresses
        .and_then(Value::as_array)
        .is_some_and(|all| !all.is_empty())
    {
        return Ok(());
    }
    let front = server.spec.expose.ingress.as_ref();
    let class = match front.and_then(|front| front.class_name.as_ref()) {
        Some(class) => format!("class {class}"),
        None => "the cluster's default class".to_owned(),
    };
    let name = server.name_any();
    Err((
        reason::NO_ADDRESS,
        format!("Ingress {name} has no address yet: is there a controller for {class}?"),
    ))
}

fn is_accepted(server: &ZenServer, live: Option<&Live>) -> Said {
    let name = server.name_any();
    let parents = live.and_then(|live| live.body.pointer("/status/parents")?.as_array());
    let mut refused = None;
    for parent in parents.into_iter().flatten() {
        let conditions = parent.get("conditions");
        let parts = ["Accepted", "ResolvedRefs"].map(|kind| is(conditions, kind, live));
        match parts {
            [Some((true, _)), None | Some((true, _))] => return Ok(()),
            [Some((false, said)), _] | [_, Some((false, said))] => refused = Some(said),
            [None, _] => {}
        }
    }
    let said = match refused {
        Some(said) => format!("the Gateway does not take HTTPRoute {name}: {said}"),
        None => format!(
            "no Gateway answered for HTTPRoute {name} yet: is there one as \
             spec.expose.gateway.parentRef says, and does it let routes of this namespace in?"
        ),
    };
    Err((reason::ROUTE_NOT_ACCEPTED, said))
}

/// What a condition says of the object as it is now, and in which words.
fn is(conditions: Option<&Value>, kind: &str, live: Option<&Live>) -> Option<(bool, String)> {
    let generation = live?.body.pointer("/metadata/generation")?.as_i64();
    let found = conditions?.as_array()?.iter().find(|one| {
        let observed = one.get("observedGeneration").and_then(Value::as_i64);
        one["type"] == kind && (observed.is_none() || observed == generation)
    })?;
    let message = found.get("message").and_then(Value::as_str);
    let said = message
        .unwrap_or_default()
        .chars()
        .take(MOST_CHARS)
        .collect();
    Some((found.get("status")? == "True", said))
}

//! What a request is called: its verb and object, as the API server's own records name them.

use std::fmt;

use http::{Method, Uri};
use serde_json::Value;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object is read.
    Get,
    /// All objects are read.
    List,
    /// Changes are followed.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH of any kind.
    Patch,
    /// DELETE of one or all.
    Delete,
}

/// A request by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What is done.
    pub verb: Verb,
    /// `secrets`, `deployments`, `zenapikeys/status`: without its group. Of a path that is no resource, the path.
    pub resource: String,
    /// `` for the core group.
    pub group: String,
    /// `` where there is none.
    pub namespace: String,
    /// `` of a list or watch of all; of a creation, the one in the body.
    pub name: String,
    /// The query, undecoded.
    pub query: String,
    /// Of the requests with all of that alike (but for the query), which one; from 1.
    pub nth: usize,
}

impl Call {
    /// The name of a request; `nth` is yet to be counted.
    pub(super) fn of(method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let query = uri.query().unwrap_or_default().to_owned();
        let place = Place::of(uri.path());
        let is_watch = query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1");
        let verb = match *method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if is_watch => Verb::Watch,
            _ if place.name.is_empty() => Verb::List,
            _ => Verb::Get,
        };
        let name = match verb {
            Verb::Create if place.name.is_empty() => name_in(body),
            _ => place.name,
        };
        Self {
            verb,
            resource: place.resource,
            group: place.group,
            namespace: place.namespace,
            name,
            query,
            nth: 0,
        }
    }

    /// Whether two do the same to the same object.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        let key = |call: &Self| {
            let Self {
                verb,
                resource,
                group,
                namespace,
                name,
                ..
            } = call.clone();
            (verb, resource, group, namespace, name)
        };
        key(self) == key(other)
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            resource,
            name,
            nth,
            ..
        } = self;
        write!(f, "{verb:?} {resource} {name} #{nth}")
    }
}

#[derive(Default)]
struct Place {
    group: String,
    namespace: String,
    resource: String,
    name: String,
}

impl Place {
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match &*parts {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => {
                return Self {
                    resource: path.to_owned(),
                    ..Self::default()
                };
            }
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
            {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (resource, name) = match rest {
            [resource, name, sub @ ..] => {
                let all = std::iter::once(resource).chain(sub).copied();
                (all.collect::<Vec<_>>().join("/"), *name)
            }
            rest => (rest.concat(), ""),
        };
        Self {
            group: group.to_owned(),
            namespace: namespace.to_owned(),
            resource,
            name: name.to_owned(),
        }
    }
}

fn name_in(body: &[u8]) -> String {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: Method, uri: &str, body: &str) -> (Verb, String) {
        let call = Call::of(&method, &uri.parse().unwrap(), body.as_bytes());
        let Call {
            verb,
            group,
            resource,
            namespace,
            name,
            ..
        } = call;
        (verb, [group, resource, namespace, name].join("|"))
    }

    #[test]
    fn requests_are_named_as_in_an_audit_log() {
        let body = r#"{"metadata":{"name":"x"}}"#;
        let cases = [
            (
                Method::GET,
                "/api/v1/namespaces/ml/secrets/x",
                Verb::Get,
                "|secrets|ml|x",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/ml/secrets?limit=5",
                Verb::List,
                "|secrets|ml|",
            ),
            (
                Method::GET,
                "/api/v1/secrets?a=b&watch=true",
                Verb::Watch,
                "|secrets||",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/ml/secrets?",
                Verb::Create,
                "|secrets|ml|x",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/ml",
                Verb::Get,
                "|namespaces||ml",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/ml/finalize",
                Verb::Update,
                "|namespaces/finalize||ml",
            ),
            (
                Method::PATCH,
                "/apis/zenop.dev/v1alpha1/namespaces/ml/zenapikeys/x/status?force=true",
                Verb::Patch,
                "zenop.dev|zenapikeys/status|ml|x",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/ml/deployments/x",
                Verb::Delete,
                "apps|deployments|ml|x",
            ),
            (Method::GET, "/version", Verb::List, "|/version||"),
        ];
        for (method, uri, verb, rest) in cases {
            assert_eq!(named(method, uri, body), (verb, rest.to_owned()), "{uri}");
        }
    }
}

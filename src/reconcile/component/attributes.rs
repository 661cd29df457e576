//! The attributes of a component, and the references in them.

use serde_json::{Map, Value};

use super::json;
use crate::{
    api::ZenComponentSpec,
    auth::reference::{Fault, Reference, whole},
};

/// How many references a component may hold.
pub(super) const MOST: usize = 64;

/// The attributes of a component, as one JSON object.
#[derive(Debug)]
pub(in crate::reconcile) struct Attributes {
    tree: Map<String, Value>,
    /// Where they refer to secrets, or are about to; in the order of their paths.
    places: Vec<Place>,
}

/// A text that is a reference, or looks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A JSON pointer (RFC 6901).
    pub path: String,
    /// Not a reference, if `fault` says so.
    text: String,
    pub fault: Option<Fault>,
}

impl Place {
    /// The reference; nothing, if it is malformed.
    pub(super) fn reference(&self) -> Option<Reference<'_>> {
        whole(&self.text).ok().flatten()
    }
}

impl Attributes {
    /// The attributes that a spec states.
    ///
    /// # Errors
    /// What is wrong with it, and what to do; shows no value.
    pub(in crate::reconcile) fn of(spec: &ZenComponentSpec) -> Result<Self, String> {
        let mut tree = match &spec.attributes_json {
            None => Map::new(),
            Some(text) => json::object(text)
                .map_err(|why| format!("spec.attributesJSON cannot be read: {why}"))?,
        };
        if tree.contains_key(super::WHOLE) {
            let whole = super::WHOLE;
            return Err(format!(
                "spec.attributesJSON has an attribute {whole}, which is the entry with all of \
                 them: give it another name"
            ));
        }
        for (name, value) in &spec.attributes {
            if tree.insert(name.clone(), value.as_str().into()).is_some() {
                return Err(format!(
                    "attribute {name} is both in spec.attributes and in spec.attributesJSON: take \
                     it out of one"
                ));
            }
        }
        let mut places = Vec::new();
        for (name, value) in &tree {
            gather(value, &step("", name), &mut places);
        }
        if places.len() > MOST {
            return Err(format!(
                "the attributes hold {} references, and may hold {MOST}: split the component, or \
                 put values that belong together into one secret entry",
                places.len()
            ));
        }
        Ok(Self { tree, places })
    }

    /// The ZenML names of the secrets that they refer to.
    pub(in crate::reconcile) fn names(&self) -> impl Iterator<Item = &str> {
        let references = self.places.iter().filter_map(Place::reference);
        references.map(|reference| reference.name)
    }

    /// Where they refer to secrets.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The attributes with these values, by path, instead of references.
    pub(super) fn resolved<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Map<String, Value> {
        let mut tree = Value::Object(self.tree.clone());
        for (path, value) in values {
            if let Some(place) = tree.pointer_mut(path) {
                *place = value.into();
            }
        }
        match tree {
            Value::Object(tree) => tree,
            _ => Map::new(),
        }
    }
}

/// Finds the references in a value and in all that is in it.
fn gather(value: &Value, path: &str, into: &mut Vec<Place>) {
    match value {
        Value::String(text) => {
            let fault = match whole(text) {
                Ok(None) => return,
                Ok(Some(_)) => None,
                Err(fault) => Some(fault),
            };
            into.push(Place {
                path: path.to_owned(),
                text: text.clone(),
                fault,
            });
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                gather(item, &step(path, &n.to_string()), into);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                gather(field, &step(path, name), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn step(path: &str, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("{path}/{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(attributes: Value, text: Option<&str>) -> Result<Attributes, String> {
        let mut spec = json!({
            "serverRef": {"name": "prod"}, "type": "alerter", "flavor": "slack",
            "attributes": attributes,
        });
        if let Some(text) = text {
            spec["attributesJSON"] = json!(text);
        }
        Attributes::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn every_text_may_be_a_reference_however_deep() {
        let nested = r#"{"headers": [{"value": "{{proxy.token}}"}, "plain"], "a/b": {"~": "{{x.y}}"},
            "n": 1}"#;
        let read = read(
            json!({"password": "{{login.password}}", "uri": "https://x"}),
            Some(nested),
        );
        let read = read.unwrap();
        let paths: Vec<_> = read.places().iter().map(|place| &*place.path).collect();
        assert_eq!(paths, ["/a~1b/~0", "/headers/0/value", "/password"]);
        assert_eq!(read.names().collect::<Vec<_>>(), ["x", "proxy", "login"]);
        let values = [
            ("/a~1b/~0", "1"),
            ("/headers/0/value", "{{p.q}}"),
            ("/password", "3"),
        ];
        let wanted = json!({
            "headers": [{"value": "{{p.q}}"}, "plain"], "a/b": {"~": "1"}, "n": 1, "password": "3",
            "uri": "https://x",
        });
        assert_eq!(Value::Object(read.resolved(values)), wanted);
    }

    #[test]
    fn what_cannot_be_is_said_with_its_place() {
        let fault = read(json!({}), Some(r#"{"a": {"b": "x {{c.d}}"}}"#)).unwrap();
        let place = &fault.places()[0];
        assert_eq!(place.path, "/a/b");
        assert_eq!(place.fault.unwrap().column, 3);
        assert_eq!(place.reference(), None);
        assert_eq!(fault.names().count(), 0);

        let twice = read(json!({"a": "1"}), Some(r#"{"a": 1}"#)).unwrap_err();
        assert!(twice.contains("attribute a is both in"), "{twice}");
        let broken = read(json!({}), Some("{")).unwrap_err();
        assert!(
            broken.contains("spec.attributesJSON cannot be read"),
            "{broken}"
        );
        let taken = read(json!({}), Some(r#"{"attributes.json": 1}"#)).unwrap_err();
        assert!(taken.contains("give it another name"), "{taken}");
        let many = |n: usize| format!("{{\"a\": [{}]}}", vec!["\"{{a.b}}\""; n].join(","));
        assert!(read(json!({}), Some(&many(64))).is_ok());
        let many = read(json!({}), Some(&many(65))).unwrap_err();
        assert!(
            many.contains("hold 65 references, and may hold 64"),
            "{many}"
        );
    }
}

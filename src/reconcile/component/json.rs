//! JSON that is read so strictly that it means one thing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and lists may be in one another, the outermost counted.
pub(super) const MOST_DEPTH: usize = 32;

/// The object that a text is. No name is in an object twice, nothing is deeper than [`MOST_DEPTH`],
/// and no number is changed by being read.
///
/// # Errors
/// What is wrong and where, in words that show no value of it.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Node(0).deserialize(&mut json);
    let read = read.and_then(|value| json.end().map(|()| value));
    match read.map_err(|error| error.to_string())? {
        Value::Object(object) => Ok(object),
        _ => Err("it is no JSON object".to_owned()),
    }
}

/// A value inside so many others.
struct Node(usize);

impl Node {
    fn inside<E: Error>(&self) -> Result<Self, E> {
        if self.0 >= MOST_DEPTH {
            return Err(E::custom(format_args!(
                "objects and lists are in one another more than {MOST_DEPTH} deep"
            )));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // What is a whole number this large may have been another one in the text.
        let number = Number::from_f64(value).filter(|_| value.abs() < 9_007_199_254_740_992.0);
        let too_large = "a number is too large to be kept as it is; write it as a text";
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom(too_large))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inside()?)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let inside = self.inside()?;
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "{name:?} is in an object twice"
                )));
            }
            let value = fields.next_value_seed(Self(inside.0))?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_one_thing_is_read_and_nothing_else() {
        let good = r#"{"a": [1, -2, 1.5, true, null, {"b": "x"}], "c": 18446744073709551615}"#;
        let read = object(good).unwrap();
        assert_eq!(
            Value::Object(read),
            serde_json::from_str::<Value>(good).unwrap()
        );
        let bad = [
            ("", "EOF"),
            ("[]", "no JSON object"),
            ("\"{{a.b}}\"", "no JSON object"),
            ("{", "EOF"),
            ("{} x", "trailing"),
            (r#"{"a": 1, "a": 2}"#, r#""a" is in an object twice"#),
            (r#"{"x": {"a": 1, "a": 1}}"#, r#""a" is in an object twice"#),
            (r#"{"a": 123456789012345678901234}"#, "too large"),
            (r#"{"a": 1e999}"#, "out of range"),
            (r#"{"a": 'x'}"#, "expected value"),
            (r#"{"a": "\ud800"}"#, "hex escape"),
        ];
        for (text, why) in bad {
            let said = object(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |depth: usize| {
            let lists = depth - 1;
            format!("{{\"a\": {}{}}}", "[".repeat(lists), "]".repeat(lists))
        };
        assert!(object(&nested(MOST_DEPTH)).is_ok());
        let said = object(&nested(MOST_DEPTH + 1)).unwrap_err();
        assert!(said.contains("more than 32 deep"), "{said}");
        assert!(object(&nested(30_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in any::<String>()) {
            let _ = object(&text);
        }
    }
}

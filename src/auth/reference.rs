//! References `{{name.key}}` to values of secrets, as ZenML writes them.
//!
//! The whole text of a component's attribute is one, or none of it: [`whole`], which takes the very
//! texts that ZenML takes. In a template they stand between other text: [`embedded`]. Both say where
//! a text goes wrong, and both read each character a fixed number of times, whatever the text is.

use std::fmt;

use thiserror::Error;

/// What stands for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference<'a> {
    /// The secret's name in ZenML. Never empty; it has no dot, as the first one ends it.
    pub name: &'a str,
    /// Name of the entry. Never empty.
    pub key: &'a str,
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{}.{}}}}}", self.name, self.key)
    }
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It stands for itself.
    Text(&'a str),
    /// A value belongs here.
    Reference(Reference<'a>),
}

/// Where and why a text is no reference though it looks like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("column {column}: {why}")]
pub struct Fault {
    /// Which character of the text, from 1.
    pub column: usize,
    /// What is wrong there.
    pub why: Why,
}

/// What is wrong with a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Why {
    /// `{{a.b`
    #[error("{{{{ has no }}}} after it")]
    Unclosed,
    /// `{{a}}`
    #[error("a reference needs a dot between name and key: {{{{name.key}}}}")]
    NoDot,
    /// `{{.b}}`
    #[error("the name of the secret is missing before the dot")]
    NoName,
    /// `{{a.}}`
    #[error("the key is missing after the dot")]
    NoKey,
    /// `{{a .b}}`
    #[error("name and key of a reference have no blank in them or between them")]
    Blank,
    /// `x {{a.b}}`
    #[error("a reference must be the whole value, without any text around it")]
    Inside,
}

/// Whether ZenML takes a whole text for a reference: `\{\{\s*\S+?\.\S+\s*\}\}`.
pub fn is_reference(text: &str) -> bool {
    let Some(inner) = inner(text).map(|inner| inner.trim_matches(is_blank)) else {
        return false;
    };
    // Its name may begin with a dot for ZenML, which then finds no secret of the empty name.
    let mut after_first = inner.chars();
    after_first.next();
    let dot = after_first.as_str().split_once('.');
    dot.is_some_and(|(_, key)| !key.is_empty()) && !inner.contains(is_blank)
}

/// The reference that a whole text is. `None`: it is plain text.
///
/// # Errors
/// If it looks like a reference, or has one in it, and is none that can stand for a value.
pub fn whole(text: &str) -> Result<Option<Reference<'_>>, Fault> {
    if is_reference(text) {
        return inner(text).map(|inner| parse(text, inner)).transpose();
    }
    match embedded(text)?.as_slice() {
        [] | [Piece::Text(_)] => Ok(None),
        [Piece::Reference(reference)] => Ok(Some(*reference)),
        _ => Err(Fault::at(
            text,
            text.find("{{").unwrap_or_default(),
            Why::Inside,
        )),
    }
}

/// The text and the references of a template, in their order. The braces that close a reference are
/// the last of their run, so that a text which is a reference as a [`whole`] is the same here.
///
/// # Errors
/// At the first `{{` that does not begin a reference.
pub fn embedded(text: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    while let Some((before, after)) = text.get(from..).and_then(|rest| rest.split_once("{{")) {
        let begins = from + before.len();
        let closed = after
            .find("}}")
            .ok_or_else(|| Fault::at(text, begins, Why::Unclosed))?;
        let braces = after
            .get(closed..)
            .map_or(0, |rest| rest.len() - rest.trim_start_matches('}').len());
        let ends = begins + 2 + closed + braces;
        let inner = after.get(..closed + braces - 2).unwrap_or_default();
        pieces.extend((!before.is_empty()).then_some(Piece::Text(before)));
        pieces.push(Piece::Reference(parse(text, inner)?));
        from = ends;
    }
    let rest = text.get(from..).unwrap_or_default();
    pieces.extend((!rest.is_empty()).then_some(Piece::Text(rest)));
    Ok(pieces)
}

/// What is between the braces of a whole text.
fn inner(text: &str) -> Option<&str> {
    text.strip_prefix("{{")?.strip_suffix("}}")
}

/// Name and key; `inner` is a part of `text`.
fn parse<'a>(text: &'a str, inner: &'a str) -> Result<Reference<'a>, Fault> {
    let begins = offset(text, inner);
    let Some((name, key)) = inner.split_once('.') else {
        return Err(Fault::at(text, begins, Why::NoDot));
    };
    let dot = begins + name.len();
    let reference = Reference {
        name: name.trim_start_matches(is_blank),
        key: key.trim_end_matches(is_blank),
    };
    if reference.name.is_empty() {
        return Err(Fault::at(text, dot, Why::NoName));
    }
    if reference.key.is_empty() {
        return Err(Fault::at(text, dot + 1, Why::NoKey));
    }
    let parts = [reference.name, reference.key];
    let blank = parts.iter().find_map(|part| {
        let at = part.find(is_blank)?;
        Some(offset(text, part) + at)
    });
    match blank {
        Some(at) => Err(Fault::at(text, at, Why::Blank)),
        None => Ok(reference),
    }
}

/// Where a part of a text begins.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// What Python's `\s` matches. Four control characters are blanks there and not in Unicode.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl Fault {
    fn at(text: &str, byte: usize, why: Why) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        Self {
            column: before.chars().count() + 1,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Result<Option<(&str, &str)>, (usize, Why)> {
        let read = whole(text).map_err(|fault| (fault.column, fault.why))?;
        Ok(read.map(|reference| (reference.name, reference.key)))
    }

    /// zenml-wire.md, 14, as recorded from the real client.
    #[test]
    fn a_whole_text_is_read_as_zenml_reads_it() {
        let references = [
            ("{{a.b}}", "a", "b"),
            ("{{ a.b }}", "a", "b"),
            ("{{\ta.b\n}}", "a", "b"),
            ("{{a.b.c}}", "a", "b.c"),
            ("{{{a.b}}}", "{a", "b}"),
            ("{{a..b}}", "a", ".b"),
            ("{{a.b.}}", "a", "b."),
            ("{{größe.ключ}}", "größe", "ключ"),
            ("{{a.b}}}}", "a", "b}}"),
        ];
        for (text, name, key) in references {
            assert!(is_reference(text), "{text}");
            assert_eq!(told(text), Ok(Some((name, key))), "{text}");
        }
        for text in [
            "{{a .b}}",
            "{{a. b}}",
            "{{a b.c}}",
            "{{a}}",
            "{{.b}}",
            "{{a.}}",
            "{{a.b}} ",
        ] {
            assert!(!is_reference(text), "{text}");
        }
        for text in ["", "a", "a.b", "{a.b}", "}}", "{ {a.b}}", "https://x/{id}"] {
            assert!(!is_reference(text), "{text}");
            assert_eq!(told(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_reference_and_is_none_says_where_and_why() {
        let faults = [
            ("{{a.b", 1, Why::Unclosed),
            ("{{", 1, Why::Unclosed),
            ("{{}", 1, Why::Unclosed),
            ("ä {{a.b", 3, Why::Unclosed),
            ("{{a}}", 3, Why::NoDot),
            ("{{}}", 3, Why::NoDot),
            ("{{.b}}", 3, Why::NoName),
            ("{{ .b}}", 4, Why::NoName),
            ("{{.a.b}}", 3, Why::NoName),
            ("{{a.}}", 5, Why::NoKey),
            ("{{a. }}", 5, Why::NoKey),
            ("{{a .b}}", 4, Why::Blank),
            ("{{a. b}}", 5, Why::Blank),
            ("{{a b.c}}", 4, Why::Blank),
            ("{{a.b}} ", 1, Why::Inside),
            ("x{{a.b}}", 2, Why::Inside),
            ("{{a.b}} {{c.d}}", 1, Why::Inside),
        ];
        for (text, column, why) in faults {
            assert_eq!(told(text), Err((column, why)), "{text}");
        }
    }

    #[test]
    fn a_template_is_cut_into_text_and_references() {
        let url = "postgres://{{db.user}}:{{ db.password }}@db/";
        let of = |name, key| Piece::Reference(Reference { name, key });
        let wanted = [
            Piece::Text("postgres://"),
            of("db", "user"),
            Piece::Text(":"),
            of("db", "password"),
            Piece::Text("@db/"),
        ];
        assert_eq!(embedded(url).as_deref(), Ok(&wanted[..]));
        assert_eq!(embedded(""), Ok(Vec::new()));
        let json = r#"{"a": {"b": "{{a.b}}"}}"#;
        let wanted = [
            Piece::Text(r#"{"a": {"b": ""#),
            of("a", "b"),
            Piece::Text(r#""}}"#),
        ];
        assert_eq!(embedded(json).as_deref(), Ok(&wanted[..]));
        let fault = embedded("x{{a.b}}\n{{c}}").err();
        assert_eq!(fault.map(|f| (f.column, f.why)), Some((12, Why::NoDot)));
    }

    /// What ZenML does, step by step, as a regular expression would.
    fn slowly(text: &str) -> bool {
        let Some(inner) = inner(text) else {
            return false;
        };
        let inner: Vec<char> = inner.trim_matches(is_blank).chars().collect();
        let dots = (1..inner.len().saturating_sub(1)).any(|at| inner[at] == '.');
        dots && !inner.iter().any(|c| is_blank(*c))
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in any::<String>()) {
            let _ = (is_reference(&text), whole(&text), embedded(&text));
        }

        #[test]
        fn near_misses_are_judged_as_zenml_does(text in "[{}a.é \u{1c}]{0,12}") {
            prop_assert_eq!(is_reference(&text), slowly(&text), "{:?}", &text);
            if let Ok(Some(reference)) = whole(&text) {
                prop_assert!(!reference.name.is_empty() && !reference.name.contains('.'));
                prop_assert!(!reference.key.is_empty());
                prop_assert!(is_reference(&text));
                prop_assert!(whole(&reference.to_string()).is_ok_and(|same| same == Some(reference)));
            }
            if let Err(fault) = whole(&text) {
                prop_assert!(fault.column >= 1 && fault.column <= text.chars().count() + 1);
            }
        }

        #[test]
        fn the_pieces_of_a_template_are_all_of_it(
            parts in prop::collection::vec(("[a-z:/@{]{0,5}[a-z]", "[a-z]{1,4}", "[a-z.]{1,4}"), 0..6),
            end in "[a-z}]{0,4}"
        ) {
            let text = parts.iter().map(|(text, name, key)| format!("{text}{{{{{name}.{key}}}}}"));
            // A brace after a reference would belong to it.
            let text: String = text.chain([format!("|{end}")]).collect();
            prop_assume!(!parts.iter().any(|(text, ..)| text.contains("{{")));
            let pieces = embedded(&text).unwrap();
            let again: String = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => (*text).to_owned(),
                Piece::Reference(reference) => reference.to_string(),
            }).collect();
            prop_assert_eq!(again, text);
        }
    }

    #[test]
    fn a_long_text_is_read_in_time_that_grows_with_it() {
        for part in ["{{", "{{a.b}}", "}}", "{", ".", "{{{a.b}}}"] {
            let text = part.repeat(1_000_000 / part.len());
            let _ = (is_reference(&text), whole(&text), embedded(&text));
        }
    }
}

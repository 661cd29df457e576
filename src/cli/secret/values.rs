//! Values that a person gives: on the command line, in files, at a prompt.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    io::{self, Read},
};

use clap::Args;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use zeroize::Zeroizing;

use crate::{
    auth::sealed::{MOST_VALUE, is_entry_name},
    cli::{
        failure::{Exit, Failure},
        output::Output,
    },
};

/// The longest file that is read, in bytes.
const MOST_FILE: u64 = 1024 * 1024;

/// How many entries a secret may have.
const MOST_ENTRIES: usize = 64;

/// Entries and their values.
pub type Values = BTreeMap<String, Zeroizing<String>>;

/// Where values come from.
#[derive(Clone, Debug, Default, Args)]
pub struct ValueArguments {
    /// An entry; KEY=@FILE for what is in a file, and KEY=@@… for a value that begins with @. May be
    /// repeated. --KEY=VALUE is the same, where KEY is not the name of a flag of this command.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Entries as a JSON or YAML object of texts, or @FILE with one, or @- for standard input.
    #[arg(short, long, value_name = "OBJECT")]
    pub values: Option<String>,

    /// Ask for entries and their values. What is typed is not shown.
    #[arg(short, long)]
    pub interactive: bool,
}

impl ValueArguments {
    /// The values.
    ///
    /// # Errors
    /// Which entry cannot be taken, and why; never its value.
    pub fn read(&self, out: Output) -> Result<Values, Failure> {
        let mut values = Values::new();
        if let Some(text) = &self.values {
            values = object(text)?;
        }
        for entry in &self.set {
            add(&mut values, entry)?;
        }
        if self.interactive {
            ask(out, &mut values)?;
        }
        for (name, value) in &values {
            checked(name, value)?;
        }
        if values.len() > MOST_ENTRIES {
            let message = format!(
                "{} entries, and at most {MOST_ENTRIES} are taken",
                values.len()
            );
            return Err(Failure::usage(message));
        }
        Ok(values)
    }
}

fn add(values: &mut Values, entry: &str) -> Result<(), Failure> {
    let Some((name, value)) = entry.split_once('=') else {
        return Err(Failure::usage("say KEY=VALUE, or KEY=@FILE"));
    };
    let value = match value.strip_prefix('@') {
        Some(literal) if literal.starts_with('@') => Zeroizing::new(literal.to_owned()),
        Some(path) => file(path, &format!("the value of {name}"))?,
        None => Zeroizing::new(value.to_owned()),
    };
    match values.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("{name} is given twice"))),
    }
}

/// The command line with `--set KEY=VALUE` for each `--KEY=VALUE` that is not a flag, in commands that
/// take entries.
pub fn with_entries(
    program: &clap::Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let words = |arguments: &[OsString]| {
        let words = arguments.iter().filter_map(|word| word.to_str());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let Some(verb) = verb(program, &words(&arguments)) else {
        return arguments;
    };
    let globals = program.get_arguments().filter(|flag| flag.is_global_set());
    let flags: Vec<&str> = verb
        .get_arguments()
        .chain(globals)
        .filter_map(clap::Arg::get_long)
        .collect();
    let is_entry = |word: &OsString| {
        let named = word.to_str()?.strip_prefix("--")?;
        let (key, _) = named.split_once('=')?;
        (!flags.contains(&key)).then(|| OsString::from(named))
    };
    for at in (0..arguments.len()).rev() {
        let entry = arguments.get(at).and_then(is_entry);
        if let Some(entry) = entry {
            arguments.splice(at..=at, [OsString::from("--set"), entry]);
        }
    }
    arguments
}

/// The command among these words that takes entries.
fn verb<'a>(program: &'a clap::Command, words: &[String]) -> Option<&'a clap::Command> {
    let at = words
        .iter()
        .position(|word| word == "secret" || word == "zsec")?;
    let mut after = words.get(at + 1..)?.iter();
    let verb = after.find(|word| !word.starts_with('-'))?;
    let noun = program.find_subcommand("secret")?;
    let verb = noun.find_subcommand(verb)?;
    verb.get_arguments()
        .any(|flag| flag.get_long() == Some("set"))
        .then_some(verb)
}

/// Text from a file.
fn file(path: &str, what: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: &dyn fmt::Display| {
        Failure::new(Exit::Failed, format!("reading {what} from {path}: {why}"))
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match path {
        "-" => io::stdin()
            .lock()
            .take(MOST_FILE + 1)
            .read_to_end(&mut bytes),
        path => {
            fs::File::open(path).and_then(|file| file.take(MOST_FILE + 1).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MOST_FILE {
        return Err(failed(&format!("it is longer than {MOST_FILE} bytes")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(failed(
            &"it is not text (UTF-8), and ZenML's secrets are text: encode it, such as with base64",
        )),
    }
}

/// An object of texts, each name once, as text or in a file.
///
/// # Errors
/// What is wrong with it; never a value.
pub fn object(given: &str) -> Result<Values, Failure> {
    let text = match given.strip_prefix('@') {
        Some(path) => file(path, "--values")?,
        None => Zeroizing::new(given.to_owned()),
    };
    let Texts(values) = serde_yaml_ng::from_str(&text).map_err(|error| {
        // What the parser says may show what it read: the place is told, and rules of ours.
        let place = error.location();
        let place = place.map_or_else(String::new, |at| {
            format!(" (line {}, column {})", at.line(), at.column())
        });
        let said = error.to_string();
        let ours = said.find(RULE).and_then(|at| said.get(at + RULE.len()..));
        let why = ours.map_or("it is no JSON or YAML object of texts", |said| {
            said.split(" at line ").next().unwrap_or(said)
        });
        Failure::usage(format!("--values: {why}{place}"))
    })?;
    Ok(values)
}

/// What our own words begin with among the parser's.
const RULE: &str = "values: ";

struct Texts(Values);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut values = Values::new();
                while let Some(name) = map.next_key::<String>()? {
                    let Text(value) = map.next_value()?;
                    let Some(value) = value else {
                        let rule = "is no text: put it in quotes";
                        return Err(de::Error::custom(format!("{RULE}{} {rule}", shown(&name))));
                    };
                    if values.len() == MOST_ENTRIES {
                        let rule = format!("{RULE}more than {MOST_ENTRIES} entries");
                        return Err(de::Error::custom(rule));
                    }
                    if values.insert(name.clone(), Zeroizing::new(value)).is_some() {
                        let rule = "is given twice";
                        return Err(de::Error::custom(format!("{RULE}{} {rule}", shown(&name))));
                    }
                }
                Ok(Texts(values))
            }
        }
        from.deserialize_map(Object)
    }
}

/// A text; nothing, for what is another thing. A number is none: `1e3` would become 1000.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
        }
        from.deserialize_any(Any)
    }
}

/// Asks for entries until an empty name is given.
fn ask(out: Output, values: &mut Values) -> Result<(), Failure> {
    loop {
        let name = out.line("Key (empty to end): ")?;
        if name.is_empty() {
            return Ok(());
        }
        named(&name)?;
        let value = out.hidden(&format!("Value of {name}: "))?;
        if values.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("{name} is given twice")));
        }
    }
}

/// What may stand in a Secret of Kubernetes.
fn checked(name: &str, value: &str) -> Result<(), Failure> {
    named(name)?;
    if value.len() > MOST_VALUE {
        return Err(Failure::usage(format!(
            "the value of {name} has {} bytes, and at most {MOST_VALUE} can be sealed: keep it in a \
             Secret, and name that in spec.data[{name}].valueFrom",
            value.len()
        )));
    }
    Ok(())
}

fn named(name: &str) -> Result<(), Failure> {
    match is_entry_name(name) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{} cannot be the key of an entry: Kubernetes takes up to 253 letters, digits, hyphens, \
             underscores and dots, two of which do not begin it",
            shown(name)
        ))),
    }
}

/// A name as it may be printed.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(60).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &ValueArguments) -> Result<Vec<(String, String)>, String> {
        let values = arguments
            .read(Output::of_process())
            .map_err(|failure| failure.message)?;
        Ok(values
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect())
    }

    fn entries(entries: &[&str]) -> ValueArguments {
        ValueArguments {
            set: entries.iter().map(|entry| (*entry).to_owned()).collect(),
            ..ValueArguments::default()
        }
    }

    fn values(text: &str) -> ValueArguments {
        ValueArguments {
            values: Some(text.to_owned()),
            ..ValueArguments::default()
        }
    }

    #[test]
    fn takes_what_zenml_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        fs::write(&path, "from a file\n").unwrap();
        let from = format!("pass=@{}", path.display());
        let given = read(&entries(&["user=ana=x", &from, "at=@@home", "empty="])).unwrap();
        let expected = [
            ("at", "@home"),
            ("empty", ""),
            ("pass", "from a file\n"),
            ("user", "ana=x"),
        ];
        assert_eq!(given, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        for text in [
            r#"{"a": "1", "b": ""}"#,
            "a: '1'\nb: ''",
            "{a: '1', b: \"\"}",
        ] {
            let expected = [("a", "1"), ("b", "")];
            let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
            assert_eq!(read(&values(text)).unwrap(), expected, "{text}");
        }
        assert_eq!(read(&values("{}")).unwrap(), []);
    }

    #[test]
    fn says_what_is_wrong_and_never_the_value() {
        let bomb = "a: &a ['hunter2']\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b]";
        let deep = format!("a: {}", "[".repeat(10_000));
        let many: String = (0..65).map(|n| format!("k{n}: 'hunter2'\n")).collect();
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, b"hunter2\xff").unwrap();
        let large = folder.path().join("large");
        fs::write(&large, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        let at = |path: &std::path::Path| entries(&[&format!("a=@{}", path.display())]);
        let cases = [
            (entries(&["hunter2"]), "say KEY=VALUE"),
            (entries(&["a b=hunter2"]), "\"a b\" cannot be the key"),
            (entries(&["=hunter2"]), "\"\" cannot be the key"),
            (entries(&["a=1", "a=hunter2"]), "a is given twice"),
            (entries(&["a=@/no/such/file"]), "/no/such/file"),
            (entries(&["a=@/"]), "directory"),
            (at(&binary), "not text"),
            (at(&large), "longer than 1048576"),
            (
                entries(&[&format!("a={}", "x".repeat(MOST_VALUE + 1))]),
                "spec.data[a].valueFrom",
            ),
            (values("hunter2"), "no JSON or YAML object"),
            (values("[hunter2]"), "no JSON or YAML object"),
            (values("a: 123"), "\"a\" is no text: put it in quotes"),
            (values("a: true"), "\"a\" is no text"),
            (values("a: null"), "\"a\" is no text"),
            (values("a: {b: hunter2}"), "no JSON or YAML object"),
            (values("a: x\na: hunter2"), "\"a\" is given twice"),
            (values("{\"a\": \"hunter2\""), "no JSON or YAML object"),
            (values(bomb), "no JSON or YAML object"),
            (values(&deep), "no JSON or YAML object"),
            (values(&many), "more than 64 entries"),
            (values("@/no/such/file"), "/no/such/file"),
        ];
        for (arguments, told) in cases {
            let refused = read(&arguments).err();
            let refused = refused.unwrap_or_else(|| panic!("{arguments:?} was taken"));
            assert!(refused.contains(told), "{refused} instead of {told}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}

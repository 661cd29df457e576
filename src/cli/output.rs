//! The only printer. What is asked for goes to standard output, everything else to standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    arguments::{ObjectForm, UnsafeOutput},
    failure::{Exit, Failure},
    table::printable,
};

/// Where a key may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The terminal, or what stands in its place.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    out_is_terminal: bool,
    err_is_terminal: bool,
    colour: bool,
}

impl Output {
    /// Looks at what the process was given. `NO_COLOR` set to anything turns colours off.
    pub fn of_process() -> Self {
        let out_is_terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            out_is_terminal,
            err_is_terminal: io::stderr().is_terminal(),
            colour: out_is_terminal && wanted,
        }
    }

    /// Text that was asked for, with a new line at its end.
    ///
    /// # Errors
    /// If it cannot be written. A reader that has enough, such as `head`, ends the command
    /// without a word.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        write(text.as_bytes())
    }

    /// The same of text that others may have written.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn prose(self, text: &str) -> Result<(), Failure> {
        write(self.painted(&printable(text)).as_bytes())
    }

    /// A line of a log: at a terminal without what a terminal obeys, else as it is.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn log(self, line: &str) -> Result<(), Failure> {
        match self.out_is_terminal {
            true => self.text(&printable(&line.replace('\t', "    "))),
            false => self.text(line),
        }
    }

    /// Says something beside what was asked for.
    pub fn note(self, text: &str) {
        // Who has closed standard error does not want to know.
        let _ = writeln!(io::stderr(), "{}", printable(text.trim_end()));
    }

    /// One object as JSON, YAML or its name. No key is in it: keys are in Secrets.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn object(self, form: ObjectForm, object: &DynamicObject) -> Result<(), Failure> {
        match form {
            ObjectForm::Name => self.prose(&full_name(object)),
            ObjectForm::Json => self.value(false, &shown(object)?),
            ObjectForm::Yaml => self.value(true, &shown(object)?),
        }
    }

    /// Several objects, as `kubectl get` shows them.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn list(self, yaml: bool, objects: &[DynamicObject]) -> Result<(), Failure> {
        let items: Vec<_> = objects.iter().map(shown).collect::<Result<_, _>>()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
        self.value(yaml, &list)
    }

    fn value(self, yaml: bool, value: &Value) -> Result<(), Failure> {
        let text = if yaml {
            serde_yaml_ng::to_string(value).map_err(|error| error.to_string())
        } else {
            serde_json::to_string_pretty(value).map_err(|error| error.to_string())
        };
        self.text(&text.map_err(|error| Failure::new(Exit::Failed, error))?)
    }

    /// Whether a key may go to a stream: to a terminal always, elsewhere if it was asked for.
    /// Asked before anything is made, so that no key is made that nobody gets.
    ///
    /// # Errors
    /// If it may not, with what to do instead.
    pub fn may_show_key(
        self,
        stream: Stream,
        allowed: UnsafeOutput,
        instead: &str,
    ) -> Result<(), Failure> {
        let (is_terminal, name) = match stream {
            Stream::Out => (self.out_is_terminal, "standard output"),
            Stream::Err => (self.err_is_terminal, "standard error"),
        };
        if is_terminal || allowed.unsafe_output {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{name} is not a terminal, and a key in a file or a log is a leak; {instead}, or \
             say --unsafe-output if you mean it"
        )))
    }

    /// A key, after [`Self::may_show_key`] agreed.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn key(self, stream: Stream, text: &str) -> Result<(), Failure> {
        match stream {
            Stream::Out => write(text.as_bytes()),
            Stream::Err => writeln!(io::stderr(), "{text}").map_err(|e| unwritten(&e)),
        }
    }

    /// Asks a person for a line, which is shown while it is typed; empty at the end of the input.
    ///
    /// # Errors
    /// If there is nobody to ask.
    pub fn line(self, question: &str) -> Result<String, Failure> {
        self.is_at_terminal(question)?;
        let _ = write!(io::stderr(), "{}", printable(question));
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.map_err(|error| Failure::new(Exit::Failed, format!("reading the answer: {error}")))?;
        Ok(answer.trim().to_owned())
    }

    /// Asks a person for what nobody is to see.
    ///
    /// # Errors
    /// If there is nobody to ask.
    pub fn hidden(self, question: &str) -> Result<Zeroizing<String>, Failure> {
        self.is_at_terminal(question)?;
        let answer = rpassword::prompt_password(printable(question)).map(Zeroizing::new);
        answer.map_err(|error| Failure::new(Exit::Failed, format!("reading the answer: {error}")))
    }

    fn is_at_terminal(self, question: &str) -> Result<(), Failure> {
        match io::stdin().is_terminal() && self.err_is_terminal {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "{:?} cannot be asked: there is no terminal to answer at; give entries, or --values",
                question.trim_end_matches([':', ' '])
            ))),
        }
    }

    /// Asks a person for consent.
    ///
    /// # Errors
    /// If there is nobody to ask.
    pub fn consent(self, question: &str) -> Result<bool, Failure> {
        if !(io::stdin().is_terminal() && self.err_is_terminal) {
            return Err(Failure::usage(format!(
                "{question} There is no terminal to answer at: say --yes"
            )));
        }
        let _ = write!(io::stderr(), "{} [y/N] ", printable(question));
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::new(Exit::Failed, format!("reading the answer: {error}")))?;
        Ok(matches!(&*answer.trim().to_ascii_lowercase(), "y" | "yes"))
    }

    /// Heads are bold, `False` is red: only on a terminal.
    fn painted(self, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let word = |word: &str| {
            let (body, gap) = word.split_at(word.trim_end_matches([' ', '\n']).len());
            match body {
                "False" => format!("\x1b[31m{body}\x1b[0m{gap}"),
                _ if body.len() > 1 && body.bytes().all(|b| b.is_ascii_uppercase()) => {
                    format!("\x1b[1m{body}\x1b[0m{gap}")
                }
                _ => word.to_owned(),
            }
        };
        text.split_inclusive([' ', '\n']).map(word).collect()
    }
}

fn write(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    out.write_all(text)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
        .map_err(|error| unwritten(&error))
}

fn unwritten(error: &io::Error) -> Failure {
    let message = match error.kind() {
        ErrorKind::BrokenPipe => String::new(),
        _ => format!("writing the output: {error}"),
    };
    Failure::new(Exit::Failed, message)
}

/// `zenapikey.zenop.dev/ci-main`.
pub fn full_name(object: &DynamicObject) -> String {
    let types = object.types.clone().unwrap_or_default();
    let group = types.api_version.split('/').next().unwrap_or_default();
    let kind = types.kind.to_lowercase();
    format!("{kind}.{group}/{}", object.name_any())
}

/// As kubectl shows objects: without the book-keeping of fields.
fn shown(object: &DynamicObject) -> Result<Value, Failure> {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    serde_json::to_value(object).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

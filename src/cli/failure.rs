//! How a command ends: the exit codes, and errors that name the object and the remedy.

use std::{error::Error, fmt};

use kube::core::response::Status;

/// Exit codes. Scripts rely on them; `kubectl zen --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The API server refused or could not be reached, or a person must act on the object.
    Failed = 1,
    /// The command line is wrong, or lacks a flag that what it asks for needs.
    Usage = 2,
    /// The object is not there.
    NotFound = 3,
    /// It exists already, was changed meanwhile, is protected, or is managed elsewhere.
    Conflict = 4,
    /// What was waited for did not happen in time.
    TimedOut = 5,
    /// Not logged in, or without the right.
    Forbidden = 6,
}

/// Why a command failed, in words for the person who typed it. Empty if that was said already.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What is shown after `error: `.
    pub message: String,
}

impl Failure {
    /// A failure of a kind, with what happened and what to do about it.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The command line lacks something.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What the API server, or the way to it, said of an attempt such as `reading ZenAPIKey ml/ci`.
    pub fn of(doing: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => refused(doing, status),
            other => Self::new(
                Exit::Failed,
                format!(
                    "{doing}: the API server cannot be reached: {}; see `kubectl cluster-info`",
                    root(other)
                ),
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn refused(doing: &str, status: &Status) -> Failure {
    let said = status.message.trim();
    let failure = |exit, remedy: &str| Failure::new(exit, format!("{doing}: {said}{remedy}"));
    match status.code {
        401 => failure(Exit::Forbidden, "; log in to the cluster again"),
        403 => failure(
            Exit::Forbidden,
            "; ask for the right, or see `kubectl auth can-i --list`",
        ),
        // Of an object the answer names it; of a kind that is not there it does not.
        404 if status.details.as_ref().is_none_or(|d| d.name.is_empty()) => failure(
            Exit::NotFound,
            "; zenop's kinds are not on this cluster: install its Helm chart",
        ),
        404 => failure(Exit::NotFound, ""),
        409 => failure(Exit::Conflict, ""),
        _ => failure(Exit::Failed, ""),
    }
}

/// The innermost cause: the outer ones only say in which library it passed by.
pub fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, name: &str) -> kube::Error {
        let details = serde_json::from_value(serde_json::json!({"name": name})).unwrap();
        let status = Status::failure("it says why", "Reason").with_code(code);
        kube::Error::Api(status.with_details(details).boxed())
    }

    #[test]
    fn the_answer_decides_the_exit_code() {
        let cases = [
            (401, Exit::Forbidden),
            (403, Exit::Forbidden),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (422, Exit::Failed),
            (500, Exit::Failed),
        ];
        for (code, exit) in cases {
            let failure = Failure::of("reading ZenAPIKey ml/ci", &answer(code, "ci"));
            assert_eq!(failure.exit, exit, "{code}");
            let begin = "reading ZenAPIKey ml/ci: it says why";
            assert!(failure.message.starts_with(begin), "{failure}");
        }
    }

    #[test]
    fn a_missing_kind_is_told_from_a_missing_object() {
        let kind = Failure::of("listing", &answer(404, ""));
        assert!(kind.message.contains("Helm chart"), "{kind}");
        let object = Failure::of("reading", &answer(404, "ci"));
        assert!(!object.message.contains("Helm chart"), "{object}");
    }
}

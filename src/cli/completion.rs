//! Completion: scripts for shells, and answers for kubectl, which asks `kubectl_complete-zen`.

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Arguments, Session, failure::Failure};

/// Which script.
#[derive(Clone, Debug, Args)]
pub struct CompletionArguments {
    /// Who asks.
    #[arg(value_enum)]
    pub target: Target,
}

/// Who completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// For `kubectl-zen` in bash.
    Bash,
    /// For `kubectl-zen` in zsh.
    Zsh,
    /// For `kubectl-zen` in fish.
    Fish,
    /// For `kubectl zen`: a script to be saved as `kubectl_complete-zen` on the PATH.
    Kubectl,
}

/// What kubectl typed so far.
#[derive(Clone, Debug, Args)]
pub struct TypedWords {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Tells kubectl not to complete file names.
const NO_FILES: &str = ":4";

/// kubectl runs it with the words after `kubectl zen`.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-zen __complete -- \"$@\"\n";

/// Prints a script.
///
/// # Errors
/// If it cannot be written.
pub fn script(session: &Session, arguments: &CompletionArguments) -> Result<(), Failure> {
    let shell = match arguments.target {
        Target::Bash => Shell::Bash,
        Target::Zsh => Shell::Zsh,
        Target::Fish => Shell::Fish,
        Target::Kubectl => return session.out.text(FOR_KUBECTL),
    };
    let mut text = Vec::new();
    let mut command = Arguments::command().bin_name("kubectl-zen");
    generate(shell, &mut command, "kubectl-zen", &mut text);
    session.out.text(&String::from_utf8_lossy(&text))
}

/// Answers kubectl.
///
/// # Errors
/// If it cannot be written.
pub fn answer(session: &Session, typed: &TypedWords) -> Result<(), Failure> {
    let mut lines = candidates(&typed.words);
    lines.push(NO_FILES.to_owned());
    session.out.text(&lines.join("\n"))
}

/// What may stand where the last word stands.
fn candidates(words: &[String]) -> Vec<String> {
    let mut root = Arguments::command();
    root.build();
    let Some((last, before)) = words.split_last() else {
        return Vec::new();
    };
    let command = before.iter().fold(&root, |command, word| {
        command.find_subcommand(word).unwrap_or(command)
    });
    let mut found = match before.last().and_then(|word| values_of(command, word)) {
        Some(values) => values,
        None if last.starts_with('-') => flags(command),
        None => subcommands(command),
    };
    found.retain(|candidate| candidate.starts_with(last.as_str()));
    found
}

/// The values of a flag that has a closed set of them.
fn values_of(command: &Command, word: &str) -> Option<Vec<String>> {
    let is = |arg: &&clap::Arg| {
        arg.get_long()
            .is_some_and(|long| word == format!("--{long}"))
            || arg
                .get_short()
                .is_some_and(|short| word == format!("-{short}"))
    };
    let arg = command.get_arguments().find(is)?;
    let takes_value = arg.get_action().takes_values();
    let values = arg.get_possible_values();
    takes_value.then(|| values.iter().map(|v| v.get_name().to_owned()).collect())
}

fn flags(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect()
}

fn subcommands(command: &Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut found: Vec<_> = shown.map(|sub| sub.get_name().to_owned()).collect();
    // A command's own words, such as the shells of `completion`.
    let words = command
        .get_positionals()
        .flat_map(clap::Arg::get_possible_values);
    found.extend(words.map(|value| value.get_name().to_owned()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Vec<String> {
        candidates(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn nouns_verbs_flags_and_values_are_told() {
        assert_eq!(of("k"), ["key"]);
        assert_eq!(of("ser"), ["server"]);
        assert_eq!(of("server d"), ["describe", "deploy", "disconnect"]);
        assert_eq!(of("server logs --f"), ["--follow"]);
        assert_eq!(of("sa d"), ["describe", "deactivate", "delete"]);
        assert_eq!(of("-n ml key rot"), ["rotate"]);
        assert_eq!(of("key list --se"), ["--selector", "--service-account"]);
        assert_eq!(of("key list -o n"), ["name"]);
        assert_eq!(
            of("key list --output "),
            ["table", "wide", "json", "yaml", "name"]
        );
        assert_eq!(of("completion z"), ["zsh"]);
        assert!(of("key create --ttl ").is_empty());
        assert!(!of("").contains(&"__complete".to_owned()));
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}

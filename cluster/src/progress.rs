//! What a person sees while a cluster is built and started. Everything goes to stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Prints one line.
///
/// Unlike `eprintln!` it survives a closed stderr: a supervisor goes on cleaning up after its starter and the terminal
/// are gone.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One long step, with its elapsed seconds on screen: rewritten in place on a terminal, a line now and then elsewhere.
pub struct Step {
    label: String,
    started: Instant,
    terminal: bool,
}

impl Step {
    /// Starts the step and shows it.
    pub fn start(label: impl Into<String>) -> Self {
        let step = Self {
            label: label.into(),
            started: Instant::now(),
            terminal: io::stderr().is_terminal(),
        };
        if step.terminal {
            step.rewrite("…");
        } else {
            say(format_args!("  {} …", step.label));
        }
        step
    }

    /// Shows the elapsed time for as long as it is awaited. Never ends: race it against the work.
    pub async fn tick(&self) {
        let every = Duration::from_secs(if self.terminal { 1 } else { 30 });
        loop {
            tokio::time::sleep(every).await;
            let elapsed = self.started.elapsed().as_secs();
            if self.terminal {
                self.rewrite(&format!("{elapsed} s …"));
            } else {
                say(format_args!("  {} … {elapsed} s", self.label));
            }
        }
    }

    /// Shows the step as done, with the time it took.
    pub fn done(self) {
        let took = seconds(self.started.elapsed());
        if self.terminal {
            self.rewrite(&took);
            say("");
        } else {
            say(format_args!("  {} {took}", self.label));
        }
    }

    fn rewrite(&self, state: &str) {
        let mut out = io::stderr();
        let _ = write!(out, "\r\x1b[K  {} {state}", self.label);
        let _ = out.flush();
    }
}

/// A duration as a person reads it: `3.9 s`, `245 s`.
#[must_use]
pub fn seconds(took: Duration) -> String {
    if took < Duration::from_secs(10) {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} s", took.as_secs())
    }
}

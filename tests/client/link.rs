//! What shows the link of a device login, and goes on once somebody decided about it.

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

use crate::support::PATIENCE;

/// Reads a process, whose outputs are piped, to its end. Returns all that it said, and the link that `decide` was
/// called with, once, if it showed one.
pub async fn decided(
    process: &mut Child,
    decide: impl AsyncFn(&str) -> Result<()>,
) -> Result<(String, Option<String>)> {
    let (out, err) = (process.stdout.take(), process.stderr.take());
    let mut lines = BufReader::new(out.context("no output")?).lines();
    let mut told = BufReader::new(err.context("no errors")?).lines();
    let (mut said, mut link) = (String::new(), None);
    let talk = async {
        loop {
            let line = tokio::select! {
                Ok(Some(line)) = lines.next_line() => line,
                Ok(Some(line)) = told.next_line() => line,
                else => return anyhow::Ok(()),
            };
            if let Some(at) = line.find("http").filter(|_| line.contains("device_id="))
                && link.is_none()
            {
                let shown = line[at..].trim().to_owned();
                decide(&shown).await?;
                link = Some(shown);
            }
            said += &format!("{line}\n");
        }
    };
    timeout(PATIENCE * 2, talk).await.context("it goes on")??;
    Ok((said, link))
}

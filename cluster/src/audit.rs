//! Reads an audit log to its present end.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::folder::random_hex;

/// All events so far.
///
/// The API server writes an event after it has answered. So a request of our own goes last, and the log is read until
/// that is there.
pub async fn events(log: &Path, client: &Client) -> Result<Vec<Value>> {
    let mark = format!("/version?mark={}", random_hex::<8>()?);
    client
        .request_text(Request::get(&mark).body(Vec::new())?)
        .await
        .context("marking the audit log's end")?;
    let read = async {
        loop {
            let text =
                fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
            if text.contains(&mark) {
                return parse(&text);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), read)
        .await
        .context("the audit log does not go on")?
}

/// Every whole line. The last may still be in writing.
fn parse(text: &str) -> Result<Vec<Value>> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).context("reading an audit event"))
        .collect()
}

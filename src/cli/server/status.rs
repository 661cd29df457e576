//! `kubectl zen server status`: a server in the words of ZenML's `ServerDeploymentStatus`.

use clap::Args;

use super::client::Client;
use crate::{
    api::{ZenServer, condition},
    cli::{Session, describe::yes_no, failure::Failure, noun::Noun, table::aligned},
};

/// Which server.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The server's name.
    name: String,

    /// Where the client is connected to if it is connected to it. Default: as the ZenServer says.
    #[arg(long)]
    url: Option<String>,
}

impl Status {
    /// Tells it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let server = cluster.read::<ZenServer>(&self.name).await?.typed;
        let lines = [
            ("url", url(&server).unwrap_or("-").to_owned()),
            ("connected", self.connected(&server)),
            ("status", state(&server).to_owned()),
            ("statusMessage", message(&server)),
        ];
        let lines = lines.map(|(name, value)| vec![format!("{name}:"), value]);
        session.out.prose(&aligned(&lines, 0))
    }

    fn connected(&self, server: &ZenServer) -> String {
        let status = server.status.as_ref();
        let internal = status.and_then(|status| status.internal_url.as_deref());
        let said = self.url.as_deref();
        let all = said.map_or([url(server), internal], |said| [Some(said), None]);
        match Client::read() {
            Ok(client) => yes_no(all.into_iter().flatten().any(|url| client.is_at(url))).to_owned(),
            Err(why) => format!("unknown: {why}"),
        }
    }
}

fn url(server: &ZenServer) -> Option<&str> {
    server.status.as_ref()?.url.as_deref()
}

/// One of ZenML's words for the state of a service.
fn state(server: &ZenServer) -> &'static str {
    let is =
        |kind| server.is_observed() && server.condition(kind).is_some_and(|c| c.status == "True");
    let status = server.status.as_ref();
    let is_there = status.is_some_and(|status| status.replicas > 0);
    match () {
        () if server.metadata.deletion_timestamp.is_some() => "pending_shutdown",
        () if is(condition::STALLED) => "error",
        () if is(condition::READY) && server.spec.suspend => "inactive",
        () if is(condition::READY) && !is_there => "scaled_to_zero",
        // While it changes it serves.
        () if is(condition::READY) || is(condition::AVAILABLE) => "active",
        () => "pending_startup",
    }
}

fn message(server: &ZenServer) -> String {
    match server.condition(condition::READY) {
        _ if !server.is_observed() => "the operator has not looked at it yet".to_owned(),
        Some(ready) => format!("{} ({})", ready.message, ready.reason),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(spec: Value, replicas: i32, conditions: &[(&str, &str)]) -> ZenServer {
        let conditions = conditions.iter().map(|(kind, status)| {
            json!({
                "type": kind, "status": status, "reason": "Reason", "message": "why",
                "lastTransitionTime": "2026-11-22T12:00:00Z",
            })
        });
        let conditions: Vec<_> = conditions.collect();
        serde_json::from_value(json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenServer",
            "metadata": {"name": "prod", "generation": 1}, "spec": spec,
            "status": {"observedGeneration": 1, "replicas": replicas, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_state_has_one_word() {
        let (ready, stalled) = (("Ready", "True"), ("Stalled", "True"));
        let available = ("Available", "True");
        let failing = ("Ready", "False");
        let suspended = json!({"suspend": true});
        let cases = [
            (server(json!({}), 1, &[ready, available]), "active"),
            (server(json!({}), 2, &[failing, available]), "active"),
            (server(json!({}), 1, &[failing]), "pending_startup"),
            (server(json!({}), 0, &[]), "pending_startup"),
            (
                server(json!({}), 1, &[failing, available, stalled]),
                "error",
            ),
            (server(json!({}), 0, &[ready]), "scaled_to_zero"),
            (server(suspended.clone(), 0, &[ready]), "inactive"),
            (server(suspended, 1, &[failing, available]), "active"),
        ];
        for (server, word) in cases {
            assert_eq!(state(&server), word, "{server:?}");
        }
        let mut changed = server(json!({}), 1, &[ready]);
        changed.metadata.generation = Some(2);
        assert_eq!(state(&changed), "pending_startup");
        assert!(message(&changed).contains("has not looked"));
    }
}

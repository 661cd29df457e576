//! `kubectl zen server logs`.

use std::{collections::HashSet, pin::pin};

use clap::Args;
use futures::{
    AsyncBufRead, AsyncBufReadExt, Stream, StreamExt,
    future::ready,
    stream::{self, SelectAll},
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use crate::{
    api::{ZenServer, condition},
    cli::{
        Session,
        cluster::Cluster,
        failure::{Exit, Failure},
        noun::Noun,
        span::Span,
        wait,
    },
};

/// Whose logs, and how much of them.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// The server's name.
    name: String,

    /// Go on with what is logged from now on, by new pods too.
    #[arg(short, long)]
    follow: bool,

    /// Only what is not older: 10m.
    #[arg(long, value_name = "TIME")]
    since: Option<Span>,

    /// Only so many lines of each container, its last.
    #[arg(long, value_name = "N")]
    tail: Option<u32>,

    /// Only this container: sidecar, zenml or migration.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

/// A container as it runs, or ran: after a restart it is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    pod: String,
    uid: String,
    container: String,
    restarts: i32,
}

/// A container, and whether it has a log: why not, else.
type Candidate = (Source, Result<(), String>);

/// What a log says next.
type Line = (Source, Result<String, Failure>);

impl Logs {
    /// Prints them.
    ///
    /// # Errors
    /// If the server is not there, nothing of it has a log, or it may not be read.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let cluster = session.cluster().await?;
        let server = cluster.read::<ZenServer>(&self.name).await?.typed;
        match self.follow {
            true => self.follow(session, &cluster, &server).await,
            false => self.print(session, &cluster, &server).await,
        }
    }

    async fn print(
        &self,
        session: &Session,
        cluster: &Cluster,
        server: &ZenServer,
    ) -> Result<(), Failure> {
        let pods = cluster.core::<Pod>();
        let wanted = ListParams::default().labels(&server.selector_of_all_pods());
        let found = pods.list(&wanted).await;
        let mut found = found
            .map_err(|error| Failure::of("listing pods", &error))?
            .items;
        found.sort_by_key(|pod| pod.creation_timestamp().map(|at| at.0));
        let candidates: Vec<_> = found.iter().flat_map(|pod| self.candidates(pod)).collect();
        if candidates.is_empty() {
            return Err(self.nothing(cluster, server));
        }
        let mut some = false;
        for (source, has_log) in candidates {
            if let Err(why) = has_log {
                session.out.note(&format!("{} {why}", source.title()));
                continue;
            }
            let mut lines = pin!(lines(pods.clone(), source, self.parameters(true)));
            let mut is_whole = true;
            while let Some(line) = lines.next().await {
                let is_line = show(session, line)?;
                some |= is_line;
                is_whole &= is_line;
            }
            // One that says nothing is one as well.
            some |= is_whole;
        }
        match some {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "no container of {} has a log yet: {}",
                    cluster.title::<ZenServer>(&self.name),
                    state(server)
                ),
            )),
        }
    }

    /// Why there is nothing to print.
    fn nothing(&self, cluster: &Cluster, server: &ZenServer) -> Failure {
        let title = cluster.title::<ZenServer>(&self.name);
        let what = match &self.container {
            Some(container) => format!("no pod with a container {container:?}"),
            None => "no pods".to_owned(),
        };
        Failure::new(
            Exit::NotFound,
            format!("{title} has {what}: {}", state(server)),
        )
    }

    async fn follow(
        &self,
        session: &Session,
        cluster: &Cluster,
        server: &ZenServer,
    ) -> Result<(), Failure> {
        let pods = cluster.watched::<Pod>();
        let wanted = watcher::Config::default().labels(&server.selector_of_all_pods());
        let mut watch = pin!(watcher(pods.clone(), wanted).default_backoff());
        let mut followed = HashSet::new();
        let mut logs = SelectAll::new();
        let mut is_first = true;
        loop {
            let event = tokio::select! {
                Some(line) = logs.next() => {
                    show(session, line)?;
                    continue;
                }
                event = watch.next() => event,
            };
            let pod = match event {
                None => return Err(Failure::new(Exit::Failed, "watching pods ended")),
                Some(Err(error)) => {
                    wait::refused("pods", &error)?;
                    continue;
                }
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => pod,
                Some(Ok(Event::InitDone)) => {
                    if std::mem::take(&mut is_first) && followed.is_empty() {
                        let nothing = self.nothing(cluster, server);
                        session.out.note(&format!("{nothing}; waiting for them"));
                    }
                    continue;
                }
                Some(Ok(Event::Init | Event::Delete(_))) => continue,
            };
            for (source, has_log) in self.candidates(&pod) {
                if has_log.is_ok() && followed.insert(source.clone()) {
                    let parameters = self.parameters(is_first);
                    logs.push(lines(pods.clone(), source, parameters).boxed());
                }
            }
        }
    }

    /// The containers of a pod that are asked for.
    fn candidates(&self, pod: &Pod) -> Vec<Candidate> {
        let spec = pod.spec.clone().unwrap_or_default();
        let first = spec.init_containers.unwrap_or_default();
        let names = first.into_iter().chain(spec.containers).map(|it| it.name);
        let asked = |name: &String| self.container.as_ref().is_none_or(|asked| asked == name);
        let names = names.filter(asked);
        names.map(|name| candidate(pod, name)).collect()
    }

    /// How much of a log is asked for. All of one that begins while it is followed.
    fn parameters(&self, is_first: bool) -> LogParams {
        let since = self.since.filter(|_| is_first);
        let tail = self.tail.filter(|_| is_first);
        LogParams {
            follow: self.follow,
            since_seconds: since.and_then(|span| i64::try_from(span.0.as_secs()).ok()),
            tail_lines: tail.map(i64::from),
            ..LogParams::default()
        }
    }
}

impl Source {
    fn title(&self) -> String {
        format!("{}/{}", self.pod, self.container)
    }
}

fn candidate(pod: &Pod, name: String) -> Candidate {
    let status = pod.status.clone().unwrap_or_default();
    let first = status.init_container_statuses.unwrap_or_default();
    let mut all = first
        .into_iter()
        .chain(status.container_statuses.unwrap_or_default());
    let container = all.find(|container| container.name == name);
    let source = Source {
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        container: name,
        restarts: container.as_ref().map_or(0, |it| it.restart_count),
    };
    let scheduled = status.conditions.unwrap_or_default();
    let unscheduled = scheduled
        .into_iter()
        .find(|it| it.type_ == "PodScheduled" && it.status != "True");
    let has_log = match container {
        Some(container) => started(&container),
        None => Err(unscheduled.and_then(|it| it.message).map_or_else(
            || "has not started".to_owned(),
            |why| format!("waits for a node: {why}"),
        )),
    };
    (source, has_log)
}

/// Whether a container ran yet.
fn started(container: &ContainerStatus) -> Result<(), String> {
    let state = container.state.clone().unwrap_or_default();
    let before = container.last_state.clone().unwrap_or_default();
    let ran = state.running.is_some() || state.terminated.is_some() || before.terminated.is_some();
    if ran {
        return Ok(());
    }
    let waiting = state.waiting.unwrap_or_default();
    let why = [waiting.reason, waiting.message];
    let why: Vec<_> = why.into_iter().flatten().collect();
    match why.is_empty() {
        true => Err("has not started".to_owned()),
        false => Err(format!("has not started: {}", why.join(": "))),
    }
}

/// In words, how a server is that has nothing to show.
fn state(server: &ZenServer) -> String {
    let ready = server.condition(condition::READY);
    ready.map_or_else(
        || "the operator has not looked at it yet; is zenop running?".to_owned(),
        |ready| format!("{} ({})", ready.message, ready.reason),
    )
}

/// A log, line by line, until it ends or breaks off.
fn lines(pods: Api<Pod>, source: Source, mut wanted: LogParams) -> impl Stream<Item = Line> + Send {
    wanted.container = Some(source.container.clone());
    let title = source.title();
    let opened = async move {
        let opened = pods.log_stream(&source.pod, &wanted).await;
        (source, opened)
    };
    stream::once(opened).flat_map(move |(source, opened)| {
        let of = move |text| (source.clone(), text);
        match opened {
            Ok(log) => read(log, title.clone()).map(of).left_stream(),
            Err(error) => {
                let failure = Failure::of(&format!("reading the log of {title}"), &error);
                stream::once(ready(of(Err(failure)))).right_stream()
            }
        }
    })
}

/// The lines of a text that need not be UTF-8.
fn read(
    log: impl AsyncBufRead + Send,
    title: String,
) -> impl Stream<Item = Result<String, Failure>> + Send {
    let log = Some(Box::pin(log));
    stream::unfold((log, title), async |(log, title)| {
        let mut log = log?;
        let mut bytes = Vec::new();
        match log.read_until(b'\n', &mut bytes).await {
            Ok(0) => None,
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes);
                let line = text.trim_end_matches(['\n', '\r']).to_owned();
                Some((Ok(line), (Some(log), title)))
            }
            Err(error) => {
                let message = format!("the log of {title} broke off: {error}");
                let failure = Failure::new(Exit::Failed, message);
                Some((Err(failure), (None, title)))
            }
        }
    })
}

/// Prints a line; what is wrong with one log does not end the others, unless nobody may read any.
/// Whether it was a line.
fn show(session: &Session, (source, line): Line) -> Result<bool, Failure> {
    match line {
        Ok(line) => {
            let line = format!("{} {line}", source.title());
            session.out.log(&line).map(|()| true)
        }
        Err(failure) if failure.exit == Exit::Forbidden => Err(failure),
        Err(failure) => {
            session.out.note(&format!("warning: {failure}"));
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "prod-1", "uid": "u"},
            "spec": {"initContainers": [{"name": "first"}], "containers": [{"name": "sidecar"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn logs(container: Option<&str>) -> Logs {
        Logs {
            name: "prod".into(),
            follow: true,
            since: Some("10m".parse().unwrap()),
            tail: Some(3),
            container: container.map(str::to_owned),
        }
    }

    fn told(logs: &Logs, pod: &Pod) -> Vec<String> {
        let one = |(source, has_log): Candidate| {
            let why = has_log.err().unwrap_or_else(|| "has a log".into());
            format!("{} {} {why}", source.title(), source.restarts)
        };
        logs.candidates(pod).into_iter().map(one).collect()
    }

    #[test]
    fn a_container_has_a_log_once_it_ran() {
        let running = json!({
            "initContainerStatuses": [{
                "name": "first", "restartCount": 0, "state": {"terminated": {"exitCode": 0}},
            }],
            "containerStatuses": [{"name": "sidecar", "restartCount": 2, "state": {"running": {}}}],
        });
        let all = told(&logs(None), &pod(running.clone()));
        assert_eq!(
            all,
            ["prod-1/first 0 has a log", "prod-1/sidecar 2 has a log"]
        );
        let one = told(&logs(Some("sidecar")), &pod(running));
        assert_eq!(one, ["prod-1/sidecar 2 has a log"]);
        let why = "Back-off pulling image";
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": why}});
        let status = |last: Value| {
            json!({"containerStatuses": [{
                "name": "sidecar", "restartCount": 1, "state": waiting, "lastState": last,
            }]})
        };
        let one = told(&logs(Some("sidecar")), &pod(status(json!({}))));
        let wanted = "prod-1/sidecar 1 has not started: ImagePullBackOff: Back-off pulling image";
        assert_eq!(one, [wanted]);
        let before = status(json!({"terminated": {"exitCode": 1}}));
        assert_eq!(
            told(&logs(Some("sidecar")), &pod(before)),
            ["prod-1/sidecar 1 has a log"]
        );
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "no nodes available"},
        ]});
        let one = told(&logs(Some("first")), &pod(unscheduled));
        assert_eq!(one, ["prod-1/first 0 waits for a node: no nodes available"]);
    }

    #[test]
    fn what_begins_later_is_wanted_from_its_beginning() {
        let first = logs(None).parameters(true);
        assert_eq!(
            (first.since_seconds, first.tail_lines),
            (Some(600), Some(3))
        );
        let later = logs(None).parameters(false);
        assert_eq!((later.since_seconds, later.tail_lines), (None, None));
        assert!(later.follow);
    }

    #[tokio::test]
    async fn a_log_is_read_by_lines_whatever_it_holds() {
        let log: &[u8] = b"one\r\n\ntw\xff\nlast";
        let lines: Vec<_> = read(log, "prod-1/sidecar".into())
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(lines, ["one", "", "tw\u{fffd}", "last"]);
    }
}

//! A proxy between one client and the API server, which does harm by rule and keeps a record.
//!
//! ```text
//! operator ── plain http, loopback ──▶ Proxy ── TLS, with the caller's token ──▶ kube-apiserver
//! ```
//!
//! Each request is named ([`Call`]) before anything happens to it. The first [`Rule`] that matches acts, before the
//! request is passed on or when its answer is there. A request that was passed on is carried out to its end, whatever
//! becomes of the client: that is how answers get lost.

mod call;
mod rule;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll, ready},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::{Client, Config, client::Body as ClientBody};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

pub use call::{Call, Verb};
pub use rule::{Action, Match, Rule, RuleHandle, When};

use crate::{ControlPlane, kubeconfig};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type AnyBody = UnsyncBoxBody<Bytes, Failure>;

/// One request in the record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub call: Call,
    /// When it came in.
    pub at: Instant,
    /// The API server's status code; `None` if the request was not passed on, or not answered yet.
    pub status: Option<u16>,
    /// Whether a rule acted on it.
    pub harmed: bool,
    /// The `Accept` header: what form of the answer was asked for.
    pub accept: String,
}

/// A running proxy. Dropping it ends every connection through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Goes up with each change of the record.
    news: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Arc<RuleHandle>>,
    record: Vec<Entry>,
    tasks: Vec<AbortHandle>,
}

impl Proxy {
    /// Starts one before the API server of `plane`, on a free loopback port, with no rules.
    ///
    /// # Errors
    ///
    /// If the administrator's kubeconfig cannot be read.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let mut upstream: Config = kubeconfig::config(plane.kubeconfig()).await?;
        // The caller's token, and no other, decides what the caller may do.
        upstream.auth_info = kube::config::AuthInfo::default();
        upstream.default_retry = false;
        let client = Client::try_from(upstream)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, client, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig that shows `token` to this proxy.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn kubeconfig(&self, plane: &ControlPlane, token: &str) -> Result<PathBuf> {
        plane.kubeconfig_for_token(token, Some(&self.url()))
    }

    /// Adds a rule. Of several that match a request the one that was added first acts.
    pub fn add(&self, rule: Rule) -> Arc<RuleHandle> {
        let handle = Arc::new(RuleHandle::new(rule));
        self.shared.state().rules.push(Arc::clone(&handle));
        handle
    }

    /// Removes every rule, and lets go on what they hold.
    pub fn clear(&self) {
        for rule in self.shared.state().rules.drain(..) {
            rule.release();
        }
    }

    /// All requests so far, in the order in which they came.
    #[must_use]
    pub fn record(&self) -> Vec<Entry> {
        self.shared.state().record.clone()
    }

    /// How many requests there were; with [`Self::since`], what came later.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.state().record.len()
    }

    /// The requests after a mark that match.
    #[must_use]
    pub fn since(&self, mark: usize, matches: &Match) -> Vec<Call> {
        let state = self.shared.state();
        let entries = state.record.iter().skip(mark);
        entries
            .filter(|entry| matches.fits(&entry.call))
            .map(|entry| entry.call.clone())
            .collect()
    }

    /// Waits until so many requests after a mark match.
    ///
    /// # Errors
    ///
    /// If they do not within `patience`.
    pub async fn wait_for(
        &self,
        mark: usize,
        matches: &Match,
        count: usize,
        patience: Duration,
    ) -> Result<()> {
        let mut news = self.shared.news.subscribe();
        let enough = news.wait_for(|_| self.since(mark, matches).len() >= count);
        match tokio::time::timeout(patience, enough).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("no {count} requests like {matches:?} within {patience:?}"),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        for task in self.shared.state().tasks.drain(..) {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ties a task to the proxy's life.
    fn keep(&self, task: AbortHandle) {
        let mut state = self.state();
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(task);
    }

    /// Puts a request into the record and finds the rule that acts on it.
    fn enter(&self, mut call: Call, accept: String) -> (usize, Option<Arc<RuleHandle>>) {
        let mut state = self.state();
        let same = state.record.iter().filter(|e| e.call.is_alike(&call));
        call.nth = same.count() + 1;
        let rule = state.rules.iter().find(|rule| rule.takes(&call)).cloned();
        state.record.push(Entry {
            call,
            at: Instant::now(),
            status: None,
            harmed: rule.is_some(),
            accept,
        });
        let index = state.record.len() - 1;
        drop(state);
        self.news.send_modify(|count| *count += 1);
        (index, rule)
    }

    fn answered(&self, index: usize, status: StatusCode) {
        if let Some(entry) = self.state().record.get_mut(index) {
            entry.status = Some(status.as_u16());
        }
        self.news.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, client: Client, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = serve(stream, client.clone(), Arc::clone(&shared));
        shared.keep(tokio::spawn(connection).abort_handle());
    }
}

async fn serve(stream: TcpStream, client: Client, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(|request| {
        let work = tokio::spawn(handle(request, client.clone(), Arc::clone(&shared)));
        shared.keep(work.abort_handle());
        answer(work)
    });
    // It ends with an error whenever a rule drops it.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An error ends the connection without an answer.
async fn answer(work: JoinHandle<Result<Response<AnyBody>>>) -> io::Result<Response<AnyBody>> {
    work.await?.map_err(io::Error::other)
}

async fn handle(
    request: Request<Incoming>,
    client: Client,
    shared: Arc<Shared>,
) -> Result<Response<AnyBody>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let call = Call::of(&head.method, &head.uri, &body);
    let accept = head.headers.get(header::ACCEPT);
    let accept = accept.and_then(|a| a.to_str().ok()).unwrap_or_default();
    let (index, rule) = shared.enter(call, accept.to_owned());
    let before = rule.as_ref().filter(|rule| rule.when() == When::Before);
    if let Some(answer) = act(before).await? {
        return Ok(answer);
    }
    head.headers.remove(header::HOST);
    let path = head.uri.path_and_query().context("no path")?.as_str();
    head.uri = path.parse()?;
    let answer = client.send(Request::from_parts(head, ClientBody::from(body)));
    let answer = answer.await.context("the API server gave no answer")?;
    shared.answered(index, answer.status());
    let after = rule.as_ref().filter(|rule| rule.when() == When::After);
    if let Some(answer) = act(after).await? {
        return Ok(answer);
    }
    let cut = after.and_then(|rule| rule.cut());
    Ok(answer.map(|body| match cut {
        Some(frames) => Cut { body, frames }.boxed_unsync(),
        None => body.map_err(Failure::from).boxed_unsync(),
    }))
}

/// What a rule puts in place of the answer, if it does. An error drops the connection.
async fn act(rule: Option<&Arc<RuleHandle>>) -> Result<Option<Response<AnyBody>>> {
    let Some(rule) = rule else { return Ok(None) };
    rule.acting();
    match rule.action() {
        Action::Drop => bail!("dropped by rule"),
        Action::Call(callback) => {
            callback();
            bail!("dropped by rule")
        }
        Action::Status { code, retry_after } => refusal(*code, *retry_after).map(Some),
        Action::Delay(time) => {
            tokio::time::sleep(*time).await;
            Ok(None)
        }
        Action::Hang => {
            rule.released().await;
            Ok(None)
        }
        Action::Cut { .. } => Ok(None),
    }
}

fn refusal(code: u16, retry_after: Option<u64>) -> Result<Response<AnyBody>> {
    let status = StatusCode::from_u16(code)?;
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason(code), "message": "made up by the fault proxy",
    });
    let mut answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    Ok(answer.body(body.boxed_unsync())?)
}

/// As the API server names them.
fn reason(code: u16) -> &'static str {
    match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}

/// The body of a watch that ends in the middle of an event.
struct Cut {
    body: ClientBody,
    frames: usize,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.frames == usize::MAX {
            return Poll::Ready(Some(Err("cut by rule".into())));
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        if self.frames > 0 {
            self.frames -= 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        self.frames = usize::MAX;
        let half = frame.into_data().map(|data| data.slice(..data.len() / 2));
        Poll::Ready(half.ok().map(|half| Ok(Frame::data(half))))
    }
}

//! Lines and API servers that fail on demand.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    sync::{Arc, Mutex},
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result};
use axum::{
    body::Body as AnyBody,
    http::{Method, Request, Response},
};
use futures::future::BoxFuture;
use kube::{
    Client,
    client::{Body, ClientBuilder, DynBody},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tower::{BoxError, Service, layer::layer_fn};

use super::support::{NAME, access};

/// What a line between a client and the API server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It carries.
    Open,
    /// It takes everything and gives nothing, but keeps it for later.
    Silent,
    /// It is closed, and no new one is taken.
    Cut,
}

/// A TCP line to the API server on a port of its own, until dropped.
pub struct Forwarder {
    pub line: watch::Sender<Line>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    pub async fn start() -> Result<Self> {
        let url = access().await?.cluster_url;
        let host = url.host().context("the API server has no host")?;
        let to = format!("{host}:{}", url.port_u16().unwrap_or(443));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (line, state) = watch::channel(Line::Open);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *state.borrow() != Line::Cut {
                    tokio::spawn(connect(near, to.clone(), state.clone()));
                }
            }
        });
        Ok(Self {
            line,
            port,
            accepting,
        })
    }

    /// A client whose calls go this way.
    pub async fn client(&self) -> Result<Client> {
        let mut config = access().await?;
        config.cluster_url = format!("https://127.0.0.1:{}", self.port).parse()?;
        Ok(Client::try_from(config)?)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(near: TcpStream, to: String, mut state: watch::Receiver<Line>) {
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        _ = state.wait_for(|line| *line == Line::Cut) => {}
        _ = async { tokio::join!(carry(near_in, far_out, there), carry(far_in, near_out, back)) } => {}
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<Line>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        state.wait_for(|line| *line == Line::Open).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// What becomes of one call other than a watch.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is not carried out, and answered so.
    Refused(u16),
    /// It is carried out, and answered so.
    Denied(u16),
    /// It is carried out, and what comes back is no answer.
    Garbled,
    /// Nothing happens.
    Unanswered,
}

/// Faults for the calls to come.
#[derive(Clone, Default)]
pub struct Faults {
    next: Arc<Mutex<VecDeque<Fault>>>,
    lasting: Arc<Mutex<Option<Fault>>>,
}

impl Faults {
    /// A client to which they happen.
    pub async fn client(&self) -> Result<Client> {
        let faults = self.clone();
        let layer = layer_fn(move |inner| Faulty {
            inner,
            faults: faults.clone(),
        });
        let builder = ClientBuilder::try_from(access().await?)?;
        Ok(builder.with_layer(&layer).build())
    }

    /// The next calls meet these, one after the other.
    pub fn soon(&self, faults: impl IntoIterator<Item = Fault>) {
        self.next.lock().unwrap().extend(faults);
    }

    /// All calls from now on meet this.
    pub fn always(&self, fault: Option<Fault>) {
        *self.lasting.lock().unwrap() = fault;
    }

    /// How many are still to come.
    pub fn left(&self) -> usize {
        self.next.lock().unwrap().len()
    }

    fn draw(&self) -> Option<Fault> {
        let next = self.next.lock().unwrap().pop_front();
        next.or(*self.lasting.lock().unwrap())
    }
}

#[derive(Clone)]
struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Those that follow the Lease list and watch by name, as a query; only those that decide name it in the path.
        let decides = request.method() == Method::POST || request.uri().path().ends_with(NAME);
        let fault = if decides { self.faults.draw() } else { None };
        if let Some(Fault::Refused(status)) = fault {
            return Box::pin(ready(Ok(answer(status))));
        }
        if let Some(Fault::Unanswered) = fault {
            return Box::pin(pending());
        }
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?.map(AnyBody::new);
            Ok(match fault {
                Some(Fault::Denied(status)) => answer(status),
                Some(Fault::Garbled) => Response::new(AnyBody::from("{\"kind\":\"Lea")),
                _ => response,
            })
        })
    }
}

fn answer(status: u16) -> Response<AnyBody> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": "Injected",
        "message": format!("injected {status}"),
    });
    let mut response = Response::new(AnyBody::from(body.to_string()));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

//! Serves a router on a socket: HTTP/1.1 with bounds on everything that a client can stretch.
//!
//! What `hyper` decides before any of our code runs, and lets nobody decide otherwise:
//!
//! - A head that cannot be read, or is too long, is answered 400 or 431 by itself, without our
//!   security headers. Neither has a body that they could be about, and the connection ends.
//! - Of a request with both `Content-Length` and `Transfer-Encoding` it drops the length, reads the
//!   body as chunked, and ends the connection with the answer, which RFC 9112 (6.1) allows. The
//!   length is gone when a service sees the headers, so we cannot refuse it with 400.

use std::{error::Error, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{extract::Peer, tls::Certificate};

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections at once. More wait to be accepted.
    pub connections: usize,
    /// How long a request's head may take to come, and a TLS handshake. A connection that waits for
    /// its next request longer than that is closed, too.
    pub head_time: Duration,
    /// How long a request's head may be, in bytes.
    pub head_bytes: usize,
    /// How long a client may refuse to take any of an answer.
    pub write_time: Duration,
    /// How long requests may go on once the end is asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            head_time: Duration::from_secs(10),
            head_bytes: 16 << 10,
            write_time: Duration::from_secs(10),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves `router` on `listener` until `shutdown`; then takes no more connections, lets requests
/// come to their end for [`Limits::drain`], and cuts off the rest.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    accept(listener, None, router, limits, shutdown).await;
}

/// The same over TLS. Each connection is shown the certificate of its time; those that are open go
/// on when it is replaced.
pub async fn serve_tls(
    listener: TcpListener,
    certificate: watch::Receiver<Certificate>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    accept(listener, Some(certificate), router, limits, shutdown).await;
}

async fn accept(
    listener: TcpListener,
    certificate: Option<watch::Receiver<Certificate>>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let next = async { (place(&places).await, listener.accept().await) };
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok((stream, peer)) => {
                    let service = Addressed {
                        router: TowerToHyperService::new(router.clone()),
                        peer: Peer(peer.ip()),
                    };
                    let acceptor = certificate.as_ref().map(|now| now.borrow().acceptor());
                    let watcher = graceful.watcher();
                    tasks.spawn(async move {
                        let driven = drive(stream, acceptor, service, limits, watcher);
                        if let Err(error) = driven.await {
                            debug!(%error, "a connection ended early");
                        }
                        drop(place);
                    });
                }
                Err(error) => refused(&error).await,
            },
        }
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        info!(
            connections = tasks.len(),
            "cut off what did not end in time"
        );
    }
    tasks.shutdown().await;
}

/// The router, told with each request which address the connection is from.
struct Addressed {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Addressed {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

/// Drives one connection to its end. It has its place from before the handshake on.
async fn drive(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    service: Addressed,
    limits: Limits,
    watcher: Watcher,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection is delayed");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_time));
    let stream = Box::pin(stream);
    match acceptor {
        None => watcher.watch(connection(stream, service, limits)).await?,
        Some(acceptor) => {
            let stream = timeout(limits.head_time, acceptor.accept(stream)).await??;
            watcher.watch(connection(stream, service, limits)).await?;
        }
    }
    Ok(())
}

/// One connection, ready to be driven.
fn connection<S>(
    stream: S,
    service: Addressed,
    limits: Limits,
) -> http1::Connection<TokioIo<S>, Addressed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        // What was read and does not make a head yet is bounded by this, and by nothing else.
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service)
}

async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // Never closed, so there is always one in the end.
    Arc::clone(places).acquire_owned().await.ok()
}

/// Too many open files, most likely: some must close before the next can be opened.
async fn refused(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(Duration::from_millis(100)).await;
}

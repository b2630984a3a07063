//! HTTP connections: limited in number, in all and per address, and closed if their client sends or reads
//! nothing for long. A connection costs a file descriptor and memory long before its client is authenticated.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use acuvim_wire::address::network;
use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::address::TrustedProxies;

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;

/// How long a client may read nothing of what is written to it: longer than any handler waits for its
/// client, such as an export.
const STALLED: Duration = Duration::from_secs(120);

/// The pause before the next accept when the system has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// The answer to a client for which there is no slot.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Length: 0\r\n\r\n";

/// Limits of connections.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections at a time, live ones included.
    pub all: usize,
    /// Connections of one address, or of one network of IPv6; 0: any number. Trusted proxies may have any number.
    pub of_one_address: usize,
    /// How long a client may take to send the head of its first request.
    pub first_request: Duration,
    /// How long it may take for the head of the next one, from the end of the request before.
    pub idle: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            all: 6000,
            of_one_address: 2500,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
        }
    }
}

/// The slots for connections.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    limits: ConnectionLimits,
    proxies: TrustedProxies,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A slot, for as long as its connection lasts.
#[derive(Debug)]
struct ConnectionSlot {
    of: Arc<ConnectionSlots>,
    network: IpAddr,
}

impl ConnectionSlots {
    pub fn new(limits: ConnectionLimits, proxies: TrustedProxies) -> Arc<Self> {
        Arc::new(Self { limits, proxies, taken: Mutex::default() })
    }

    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<ConnectionSlot> {
        let network = network(from);
        // All clients behind a proxy share its address.
        let any = self.limits.of_one_address == 0 || self.proxies.trusts(from.to_canonical());
        let most = if any { usize::MAX } else { self.limits.of_one_address };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Summed up each time: a counter beside the map could drift from it, and a sum costs little beside
        // a connection.
        let all: usize = taken.values().sum();
        let here = taken.get(&network).copied().unwrap_or_default();
        if all >= self.limits.all || here >= most {
            return None;
        }
        taken.insert(network, here + 1);
        Some(ConnectionSlot { of: Arc::clone(self), network })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(taken.remove(&self.network)),
        }
    }
}

/// How the names of a response's headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderNames {
    /// `content-length`, as HTTP/2 has them.
    LowerCase,
    /// `Content-Length`: some small clients understand no other.
    TitleCase,
}

/// Serves a router on a listener until `stop`; requests under way are finished first.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    slots: Arc<ConnectionSlots>,
    names: HeaderNames,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .title_case_headers(names == HeaderNames::TitleCase)
        // hyper has one limit for every head; the shorter one of the first request is kept below.
        .header_read_timeout(slots.limits.idle)
        .max_buf_size(HEAD);
    let first = slots.limits.first_request;
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => match slots.enter(from.ip()) {
                Some(slot) => {
                    let io = HeldStream { stream, stalled: None, _slot: slot };
                    let server =
                        ConnectionServer { http: http.clone(), router: router.clone(), first };
                    tasks.spawn(server.run(io, from, stop.clone()));
                }
                None => refuse(&stream),
            },
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept an HTTP connection");
                // Without a pause the loop would spin until another connection closes and frees a descriptor.
                sleep(PAUSE).await;
            }
        }
    }
    // Closed before the open connections end, so that a load balancer sends new ones elsewhere.
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn refuse(stream: &TcpStream) {
    metrics::counter!("acuvim_http_refused_connections_total").increment(1);
    // Without waiting: the kernel takes so few bytes at once or not at all.
    let _ = stream.try_write(FULL);
}

/// Whether the client went away before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// Serves one connection.
struct ConnectionServer {
    http: http1::Builder,
    router: Router,
    first: Duration,
}

impl ConnectionServer {
    async fn run(self, io: HeldStream, from: SocketAddr, stop: CancellationToken) {
        let Self { http, router, first } = self;
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            has_asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(from));
            router.clone().oneshot(request)
        });
        let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
        let (mut connection, mut first) = (pin!(connection), pin!(sleep(first)));
        let (mut waits, mut stopping) = (true, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%from, %error, "an HTTP connection ended");
                    }
                    return;
                }
                () = first.as_mut(), if waits => {
                    waits = false;
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// A stream that holds its connection's slot, also after an upgrade, and fails if its client reads nothing.
struct HeldStream {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: ConnectionSlot,
}

impl HeldStream {
    /// The result of a write. One that has waited too long for the client fails.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let due = Instant::now() + STALLED;
        // A timer is made only while a write waits: most of thousands of connections never need one.
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl AsyncRead for HeldStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HeldStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

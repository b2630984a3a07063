//! Accepts connections and runs each one in the broker crate's connection handler.
//!
//! The accept loops are ours, and not those of the crate: a port in use is then our error to explain, and a
//! slow websocket handshake delays nobody else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use mqtt5::broker::{
    BrokerConfig, ResourceMonitor, client_handler::ClientHandler, router::MessageRouter,
    sys_topics::BrokerStats, transport::BrokerTransport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    auth::{Authenticator, ConnectionAuth},
    counted::Counted,
    packets::Packets,
    pending_logins::{PendingLogin, PendingLogins},
    unfinished::{PATIENCE, Unfinished},
    websocket,
};

/// How long a websocket handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after a failed accept. The usual cause is too many open files, so some have to be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What all connections share.
pub(super) struct Server {
    pub config: Arc<BrokerConfig>,
    pub router: Arc<MessageRouter>,
    pub authenticator: Arc<Authenticator>,
    pub pending_logins: Arc<PendingLogins>,
    pub unfinished_budget: Arc<Semaphore>,
    pub origins: Vec<String>,
    pub stats: Arc<BrokerStats>,
    pub resources: Arc<ResourceMonitor>,
    pub connections: Arc<Semaphore>,
    pub disconnect: broadcast::Sender<()>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    WebSocket,
}

/// The slots that a connection takes.
struct Slots {
    _connection: OwnedSemaphorePermit,
    pending_login: PendingLogin,
}

/// A connection as it was accepted.
struct Accepted {
    stream: TcpStream,
    from: SocketAddr,
    transport: Transport,
}

impl Server {
    /// Accepts connections until the broker stops.
    pub async fn listen(self: Arc<Self>, listener: TcpListener, transport: Transport) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => self.admit(Accepted { stream, from, transport }),
                Err(error) => {
                    tracing::warn!(%error, "can't accept an MQTT connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, accepted: Accepted) {
        let from = accepted.from;
        let Some(slots) = self.slots(from) else {
            metrics::counter!("acuvim_mqtt_refused_connections_total").increment(1);
            return;
        };
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = server.serve(accepted, slots).await {
                tracing::debug!(%from, %error, "MQTT connection ended");
            }
        });
    }

    fn slots(&self, from: SocketAddr) -> Option<Slots> {
        // Never waits: a connection without a slot is closed at once, and the device tries again later.
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let pending_login = self.pending_logins.enter(from.ip())?;
        Some(Slots { _connection: connection, pending_login })
    }

    async fn serve(&self, accepted: Accepted, slots: Slots) -> Result<(), io::Error> {
        let Accepted { stream, from, transport } = accepted;
        // A PUBACK is four bytes that the device waits for.
        stream.set_nodelay(true)?;
        // Before the handshake, so that a stop in the middle of it is not missed.
        let disconnect = self.disconnect.subscribe();
        let unfinished = Unfinished::new(Arc::clone(&self.unfinished_budget), PATIENCE);
        let stream = Counted::new(stream, Arc::clone(&unfinished));
        let (transport, from_a_page) = match transport {
            Transport::Tcp => (packets(stream, &unfinished), false),
            Transport::WebSocket => {
                let handshake = websocket::accept(stream, from, &self.origins);
                let upgraded = tokio::time::timeout(HANDSHAKE, handshake)
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                (packets(upgraded.stream, &unfinished), upgraded.from_a_page)
            }
        };
        let Slots { _connection, pending_login } = slots;
        let auth =
            ConnectionAuth::new(&self.authenticator, from_a_page, &unfinished, pending_login);
        metrics::gauge!("acuvim_mqtt_connections").increment(1.0);
        let handler = ClientHandler::new(
            transport,
            from,
            Arc::clone(&self.config),
            Arc::clone(&self.router),
            Arc::new(auth),
            None,
            Arc::clone(&self.stats),
            Arc::clone(&self.resources),
            disconnect,
        );
        let ended = handler.run().await;
        metrics::gauge!("acuvim_mqtt_connections").decrement(1.0);
        ended.map_err(io::Error::other)
    }
}

/// Wraps a stream as the crate's websocket transport, which is its only one that accepts any stream.
fn packets<S>(stream: S, unfinished: &Arc<Unfinished>) -> BrokerTransport
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    BrokerTransport::WebSocket(Box::new(Packets::new(stream, Arc::clone(unfinished))))
}

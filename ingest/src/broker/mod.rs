//! The built-in broker: devices connect here directly, and a PUBACK means "durable in our log".
//!
//! It is mqtt5's connection handling behind accept loops of our own, so that a port that is taken
//! is our error to explain, and a slow websocket handshake holds up nobody else. Nothing outside
//! this folder knows the crate.

mod auth;
mod connections;
mod hook;
mod outbound;
mod room;
mod share;
mod websocket;

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc, time::Duration};

use mqtt5::broker::{
    BrokerConfig, ResourceLimits, ResourceMonitor, client_handler::ClientHandler,
    config::StorageConfig, router::MessageRouter, sys_topics::BrokerStats,
    transport::BrokerTransport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Credentials, CredentialsWatch, Downlink, Intake, pulse};
use auth::{Door, Judge};
use hook::Hook;
use outbound::Outbound;
use room::{Counted, Packets, Progress, Silent, SilentPlace};
use share::Shares;

/// The largest MQTT packet read at all: well above the payload limit, so that a payload over it is
/// answered and not a disconnect that is repeated for ever.
const MAX_PACKET: usize = 4 << 20;

/// How long a client may take to get through a websocket handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often what is left of gone clients is swept up.
const SWEEP: Duration = Duration::from_secs(300);

/// How the built-in broker is set up.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Connections at a time; more are closed at once.
    pub max_connections: usize,
    /// Those of them that have not logged in yet; half of them of one address.
    pub max_silent: usize,
    /// Bytes of packets that are not whole yet, of all connections together.
    pub unfinished_bytes: usize,
    /// Web pages of these origins may connect over websockets.
    pub origins: Vec<String>,
    /// Messages a second that one client may send, and as many more at once; 0: any number.
    pub messages_per_second: u32,
    /// How often it says that it hears devices: silence is known no sooner.
    pub pulse: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            max_connections: 12_000,
            max_silent: 2000,
            unfinished_bytes: 256 << 20,
            origins: Vec::new(),
            messages_per_second: 1000,
            pulse: pulse::LONGEST,
        }
    }
}

/// The running broker.
pub struct Broker {
    tasks: TaskTracker,
    stop: CancellationToken,
    disconnect: broadcast::Sender<()>,
    outbound: Arc<Outbound>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("connections", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// What every connection is made with.
struct Shared {
    config: Arc<BrokerConfig>,
    router: Arc<MessageRouter>,
    judge: Arc<Judge>,
    silent: Arc<Silent>,
    unfinished: Arc<Semaphore>,
    origins: Vec<String>,
    stats: Arc<BrokerStats>,
    resources: Arc<ResourceMonitor>,
    connections: Arc<Semaphore>,
    disconnect: broadcast::Sender<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    WebSocket,
}

impl Broker {
    /// Starts to serve MQTT on a TCP listener and, if given, MQTT over websockets on another.
    #[must_use]
    pub fn start(
        options: &BrokerOptions,
        tcp: TcpListener,
        websocket: Option<TcpListener>,
        intake: Arc<Intake>,
        credentials: CredentialsWatch,
        downlink: &Downlink,
    ) -> Self {
        let prefix = intake.limits().topic_prefix.clone();
        let stop = CancellationToken::new();
        let outbound = Arc::new(Outbound::new(downlink.clone()));
        let judge = Judge::new(credentials.clone(), prefix);
        let shares = Shares::new(options.messages_per_second);
        let values = credentials.values.clone();
        let hook = Arc::new(Hook::new(intake, values, Arc::clone(&outbound), shares));
        let mut config = BrokerConfig::default()
            .with_max_packet_size(MAX_PACKET)
            .with_max_clients(options.max_connections)
            .with_storage(StorageConfig::default().with_persistence(false))
            .with_sys_topics_enabled(false)
            .with_client_channel_capacity(64)
            .with_server_receive_maximum(128)
            .with_event_handler(Arc::clone(&hook) as _);
        config.topic_alias_maximum = 16;
        let router = Arc::new(MessageRouter::new().with_event_handler(Arc::clone(&hook) as _));
        hook.attach(&router);
        let limits = ResourceLimits {
            max_connections: options.max_connections,
            max_connections_per_ip: options.max_connections,
            // None: over them the crate acknowledges what nobody has taken.
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            max_connection_rate: u32::MAX,
            ..ResourceLimits::default()
        };
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            router,
            judge,
            silent: Silent::new(options.max_silent),
            unfinished: Arc::new(Semaphore::new(options.unfinished_bytes)),
            origins: options.origins.clone(),
            stats: Arc::new(BrokerStats::new()),
            resources: Arc::new(ResourceMonitor::new(limits)),
            connections: Arc::new(Semaphore::new(options.max_connections)),
            disconnect: broadcast::Sender::new(1),
            stop,
            tasks: TaskTracker::new(),
        });
        let (tasks, stop) = (shared.tasks.clone(), shared.stop.clone());
        tasks.spawn(sweep(Arc::clone(&shared.router), Arc::clone(&outbound), stop.clone()));
        tasks.spawn(turn_out(hook, credentials.values, stop.clone()));
        let pulse = pulse::run(Arc::clone(&downlink.log), options.pulse, || true);
        tasks.spawn(stop.clone().run_until_cancelled_owned(pulse));
        tasks.spawn(Arc::clone(&outbound).run(downlink.start(&stop), stop.clone()));
        let disconnect = shared.disconnect.clone();
        let listeners = [(Some(tcp), Transport::Tcp), (websocket, Transport::WebSocket)];
        for (listener, transport) in listeners {
            if let Some(listener) = listener {
                tasks.spawn(listen(Arc::clone(&shared), listener, transport));
            }
        }
        Self { tasks, stop, disconnect, outbound }
    }

    /// Stops taking connections and messages; answers when what was taken has its fate, or when
    /// the time is over.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        self.tasks.close();
        // Fails only if nobody is connected.
        let _ = self.disconnect.send(());
        let ended = async {
            self.tasks.wait().await;
            self.outbound.flush().await;
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("connections were still busy when the broker stopped");
        }
    }
}

/// Lets go of what the crate keeps of clients that are gone; its own server would do it.
async fn sweep(router: Arc<MessageRouter>, outbound: Arc<Outbound>, stop: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(SWEEP).await;
            router.sweep_sessions().await;
            outbound.sweep().await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Ends the connections of devices whose secret is another now, or none, or their first.
async fn turn_out(
    hook: Arc<Hook>,
    mut credentials: watch::Receiver<Credentials>,
    stop: CancellationToken,
) {
    let work = async {
        let mut before = credentials.borrow_and_update().secrets.clone();
        while credentials.changed().await.is_ok() {
            let now = credentials.borrow_and_update().secrets.clone();
            let known: HashSet<&String> = before.keys().chain(now.keys()).collect();
            for device in known.into_iter().filter(|d| before.get(*d) != now.get(*d)) {
                hook.turn_out(device).await;
            }
            before = now;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, transport: Transport) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, from)) => admit(&shared, stream, from, transport),
            Err(error) => {
                // Too many open files, as a rule: a pause lets some of them close.
                tracing::warn!(%error, "can't accept an MQTT connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr, transport: Transport) {
    let permit = Arc::clone(&shared.connections).try_acquire_owned().ok();
    let Some(places) = permit.zip(shared.silent.enter(from.ip())) else {
        metrics::counter!("acuvim_mqtt_refused_connections_total").increment(1);
        return;
    };
    let shared_here = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let connection = serve(&shared_here, stream, from, transport, places);
        if let Err(error) = connection.await {
            tracing::debug!(%from, %error, "MQTT connection ended");
        }
    });
}

async fn serve(
    shared: &Shared,
    stream: TcpStream,
    from: SocketAddr,
    transport: Transport,
    (_permit, place): (OwnedSemaphorePermit, SilentPlace),
) -> Result<(), io::Error> {
    stream.set_nodelay(true)?;
    let disconnect = shared.disconnect.subscribe();
    let progress = Progress::new(Arc::clone(&shared.unfinished), room::PATIENCE);
    let stream = Counted::new(stream, Arc::clone(&progress));
    let (transport, from_a_page) = match transport {
        Transport::Tcp => (packets(stream, &progress), false),
        Transport::WebSocket => {
            let handshake = websocket::accept(stream, from, &shared.origins);
            let upgraded = tokio::time::timeout(HANDSHAKE, handshake)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            (packets(upgraded.stream, &progress), upgraded.from_a_page)
        }
    };
    let door = Door::new(&shared.judge, from_a_page, &progress, place);
    metrics::gauge!("acuvim_mqtt_connections").increment(1.0);
    let handler = ClientHandler::new(
        transport,
        from,
        Arc::clone(&shared.config),
        Arc::clone(&shared.router),
        Arc::new(door),
        None,
        Arc::clone(&shared.stats),
        Arc::clone(&shared.resources),
        disconnect,
    );
    let ended = handler.run().await;
    metrics::gauge!("acuvim_mqtt_connections").decrement(1.0);
    ended.map_err(io::Error::other)
}

/// A stream as the crate takes it: of its transports the one for websockets is open to any.
fn packets<S>(stream: S, progress: &Arc<Progress>) -> BrokerTransport
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    BrokerTransport::WebSocket(Box::new(Packets::new(stream, Arc::clone(progress))))
}

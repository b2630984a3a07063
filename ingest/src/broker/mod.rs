//! The built-in broker: devices connect here directly, and a PUBACK means "durable in our log".
//!
//! It is the connection handling of the crate mqtt5 with hooks of ours. Nothing outside this folder knows the
//! crate.

mod auth;
mod client_limits;
mod connections;
mod counted;
mod hook;
mod login;
mod options;
mod outbound;
mod packets;
mod pending_logins;
mod queues;
mod server;
mod sessions;
mod unfinished;
mod websocket;

use std::{collections::HashSet, sync::Arc, time::Duration};

use mqtt5::broker::{
    BrokerConfig, ResourceLimits, ResourceMonitor, config::StorageConfig, router::MessageRouter,
    sys_topics::BrokerStats,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use options::BrokerOptions;

use crate::{
    credentials::{Credentials, CredentialsWatch},
    downlink::Downlink,
    intake::Intake,
    pulse,
};
use auth::Authenticator;
use client_limits::ClientLimits;
use hook::Hook;
use outbound::Outbound;
use pending_logins::PendingLogins;
use server::{Server, Transport};
use unfinished::MAX_PACKET;

/// How often the remains of expired sessions are removed.
const SWEEP: Duration = Duration::from_secs(300);

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
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // One value is enough: it is only ever sent once, when the broker stops.
        let disconnect = broadcast::Sender::new(1);
        let outbound = Arc::new(Outbound::new(downlink.clone()));
        let prefix = intake.limits().topic_prefix.clone();
        let hook = Arc::new(Hook::new(
            intake,
            credentials.values.clone(),
            Arc::clone(&outbound),
            ClientLimits::new(options.messages_per_second),
        ));
        let router = Arc::new(MessageRouter::new().with_event_handler(Arc::clone(&hook) as _));
        hook.attach(&router);
        tasks.spawn(sweep(Arc::clone(&router), Arc::clone(&outbound), stop.clone()));
        tasks.spawn(revoke_outdated(Arc::clone(&hook), credentials.values.clone(), stop.clone()));
        let pulse = pulse::run(Arc::clone(&downlink.log), options.pulse, || true);
        tasks.spawn(stop.clone().run_until_cancelled_owned(pulse));
        tasks.spawn(Arc::clone(&outbound).run(downlink.start(&stop), stop.clone()));
        let server = Arc::new(Server {
            config: Arc::new(config(options, hook)),
            router,
            authenticator: Authenticator::new(credentials, prefix),
            pending_logins: PendingLogins::new(options.max_silent),
            unfinished_budget: Arc::new(Semaphore::new(options.unfinished_bytes)),
            origins: options.origins.clone(),
            stats: Arc::new(BrokerStats::new()),
            resources: Arc::new(ResourceMonitor::new(resource_limits(options))),
            connections: Arc::new(Semaphore::new(options.max_connections)),
            disconnect: disconnect.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        let listeners = [(Some(tcp), Transport::Tcp), (websocket, Transport::WebSocket)];
        for (listener, transport) in listeners {
            if let Some(listener) = listener {
                tasks.spawn(Arc::clone(&server).listen(listener, transport));
            }
        }
        Self { tasks, stop, disconnect, outbound }
    }

    /// Stops accepting connections and messages. Returns once the fate of every received message is
    /// certain, or the time is over.
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

fn config(options: &BrokerOptions, hook: Arc<Hook>) -> BrokerConfig {
    let mut config = BrokerConfig::default()
        .with_max_packet_size(MAX_PACKET)
        .with_max_clients(options.max_connections)
        // The log is the storage: what the crate would persist is of no use.
        .with_storage(StorageConfig::default().with_persistence(false))
        .with_sys_topics_enabled(false)
        // Commands are the only messages to clients, and one at a time is in flight.
        .with_client_channel_capacity(64)
        // Bounds what one MQTT 5 device may have unacknowledged while the log is slow.
        .with_server_receive_maximum(128)
        .with_event_handler(hook as _);
    // A device has six topics; aliases spare it their names in every packet.
    config.topic_alias_maximum = 16;
    config
}

fn resource_limits(options: &BrokerOptions) -> ResourceLimits {
    ResourceLimits {
        max_connections: options.max_connections,
        // A whole site, or a proxy in front of us, has one address.
        max_connections_per_ip: options.max_connections,
        // No rate limits here: the crate acknowledges messages over them and drops them. `ClientLimits` slows
        // clients down instead.
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        ..ResourceLimits::default()
    }
}

/// Removes the remains of expired sessions, which the crate's own server would do.
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

/// Ends the connections of devices whose credentials have changed.
async fn revoke_outdated(
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
                hook.revoke(device).await;
            }
            // Compared with the last state that was handled, not with every one: changes in between are merged.
            before = now;
        }
    };
    stop.run_until_cancelled(work).await;
}

//! An MQTT connection of a device that tracks which messages were acknowledged.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnectReturnCode, Event, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, QoS,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

/// The settings of a connection.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// The MQTT client id.
    pub client_id: String,
    /// User name and password, if the broker needs them.
    pub login: Option<(String, String)>,
    /// Topic and payload of the last will.
    pub will: Option<(String, String)>,
    /// A topic to subscribe to.
    pub subscribe: Option<String>,
}

/// Why a connection could not be made, or has ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The broker refused the login.
    #[error("the broker refused the login: {0:?}")]
    Refused(ConnectReturnCode),
    /// The connection broke: messages without acknowledgement have to be sent again.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// An open connection (MQTT 3.1.1). It does not reconnect: after an error, open another one.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    /// Held while a message is queued, so that `queue` has the order of publishing.
    publishing: Arc<AsyncMutex<()>>,
    /// The callers whose message has no packet id yet.
    queue: Queue,
    /// Messages on the subscribed topic.
    pub messages: mpsc::Receiver<(String, Vec<u8>)>,
    driver: tokio::task::JoinHandle<()>,
}

type Queue = Arc<Mutex<VecDeque<oneshot::Sender<()>>>>;

impl Connection {
    /// Connects and waits for the CONNACK.
    ///
    /// # Errors
    /// When the broker refuses the login or can't be reached.
    pub async fn open(options: &ConnectOptions) -> Result<Self, Error> {
        let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
        mqtt.set_keep_alive(Duration::from_secs(60))
            .set_max_packet_size(8 << 20, 8 << 20)
            // A device sends few at a time; benchmarks send as many as the broker takes.
            .set_inflight(200)
            // A simulated device answers a command once; one from an earlier run must not come back.
            .set_clean_session(true);
        if let Some((user, password)) = &options.login {
            mqtt.set_credentials(user, password);
        }
        if let Some((topic, payload)) = &options.will {
            mqtt.set_last_will(LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true));
        }
        let (client, mut events) = AsyncClient::new(mqtt, 256);
        // Without this, a message right after an acknowledgement waits for the TCP ACK of that: 40 ms
        // on Linux.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        connect(&mut events).await?;
        if let Some(topic) = &options.subscribe {
            client.subscribe(topic, QoS::AtLeastOnce).await.map_err(broken)?;
        }
        let queue = Queue::default();
        let (sender, messages) = mpsc::channel(256);
        let driver = tokio::spawn(drive(events, Arc::clone(&queue), sender));
        Ok(Self { client, publishing: Arc::default(), queue, messages, driver })
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection ended before it came.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
        retain: bool,
    ) -> Result<(), Error> {
        self.send(topic, payload, retain).await?.await.map_err(|_| Self::lost())
    }

    /// Publishes with QoS 1; the acknowledgement comes through the returned receiver.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection has ended.
    pub async fn send(
        &self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
        retain: bool,
    ) -> Result<oneshot::Receiver<()>, Error> {
        if self.driver.is_finished() {
            return Err(Self::lost());
        }
        let (sender, acknowledged) = oneshot::channel();
        // Packet ids are told to callers in the order of this queue, so both orders have to be the same.
        let _turn = self.publishing.lock().await;
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(sender);
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.map_err(broken)?;
        Ok(acknowledged)
    }

    /// Publishes with QoS 0, without acknowledgement.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection has ended.
    pub async fn forget(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.client.publish(topic, QoS::AtMostOnce, false, payload).await.map_err(broken)
    }

    /// Disconnects properly, so that the last will is not published.
    pub async fn close(mut self) {
        let _ = self.client.disconnect().await;
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.driver).await;
    }

    pub(crate) fn lost() -> Error {
        Error::Broken("before the acknowledgement".to_owned())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn connect(events: &mut EventLoop) -> Result<(), Error> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(rumqttc::ConnectionError::ConnectionRefused(code)) => {
                return Err(Error::Refused(code));
            }
            Err(error) => return Err(Error::Broken(error.to_string())),
        }
    }
}

/// Runs the connection until it breaks. Callers that wait then notice that their sender is dropped.
async fn drive(mut events: EventLoop, queue: Queue, messages: mpsc::Sender<(String, Vec<u8>)>) {
    dispatch(&mut events, &queue, &messages).await;
    // First the connection and then the queue: a message that is handed over in between is refused, while one
    // that came behind an emptied queue would be waited for without end.
    drop(events);
    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

async fn dispatch(
    events: &mut EventLoop,
    queue: &Queue,
    messages: &mpsc::Sender<(String, Vec<u8>)>,
) {
    let mut in_flight: HashMap<u16, oneshot::Sender<()>> = HashMap::new();
    loop {
        match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(id) | Outgoing::AwaitAck(id))) if id != 0 => {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(waiting) = next {
                    in_flight.insert(id, waiting);
                }
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                if let Some(waiting) = in_flight.remove(&ack.pkid) {
                    let _ = waiting.send(());
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                // Dropped if nobody reads: waiting would keep acknowledgements from coming in.
                let _ = messages.try_send((message.topic, message.payload.to_vec()));
            }
            // Also after a DISCONNECT: the broker closes the connection once it has read it. Until then a
            // new connection of this client would take this one over, and leave its will.
            Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: rumqttc::ClientError) -> Error {
    Error::Broken(error.to_string())
}

#[cfg(test)]
mod tests;

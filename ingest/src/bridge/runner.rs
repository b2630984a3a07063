//! The life of the bridge: one connection after the other, until it is stopped.

use std::sync::Arc;

use acuvim_wire::{DeviceKind, topic};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    batches::{self, BATCH},
    options::{BridgeOptions, MqttVersion},
    outbound::Outbound,
    state::{BridgeState, StateReport},
    wire::{self, Client, ConnectionLost, Event, Wire},
};
use crate::intake::Intake;

/// Why a connection ended.
enum Ended {
    /// The bridge was stopped.
    Stopped,
    /// It broke, or could not be made.
    Lost(ConnectionLost),
}

pub(super) struct Runner {
    options: BridgeOptions,
    intake: Arc<Intake>,
    outbound: Outbound,
    state: StateReport,
    stop: CancellationToken,
    /// Whether the session at the broker has our subscriptions. Unknown at the start: an earlier process may
    /// have ended before its subscriptions were confirmed, or have had other settings.
    subscribed: bool,
    backoff: Backoff,
}

/// One connection: the receiving side, the task that takes its messages, and the rest.
struct Connection {
    wire: Wire,
    taker: JoinHandle<()>,
    /// Whether the taker has acknowledged everything.
    taken: bool,
    link: Link,
}

/// What events are handled with.
struct Link {
    client: Client,
    /// None once the bridge is stopped: no more messages are taken.
    messages: Option<batches::Sender>,
    /// Whether our DISCONNECT is on its way.
    disconnecting: bool,
}

impl Runner {
    pub fn new(
        options: BridgeOptions,
        intake: Arc<Intake>,
        outbound: Outbound,
        state: StateReport,
        stop: CancellationToken,
    ) -> Self {
        let (subscribed, backoff) = (false, Backoff::new());
        Self { options, intake, outbound, state, stop, subscribed, backoff }
    }

    pub async fn run(mut self) {
        let mut v311 = self.options.version == MqttVersion::V311;
        loop {
            let mut connection = self.open(v311);
            let ended = self.serve(&mut connection).await;
            self.outbound.close();
            // Messages that were taken and not acknowledged come again, and are deduplicated.
            connection.taker.abort();
            // Closes the socket now and not after the pause: the broker would go on sending to it.
            drop(connection);
            let Ended::Lost(lost) = ended else { return self.outbound.flush().await };
            if lost.wrong_version && self.options.version == MqttVersion::Auto {
                // Back and forth, because a broker that is restarting also closes connections without a word.
                v311 = !v311;
            }
            self.state.set(BridgeState::Away(lost.reason));
            let pause = tokio::time::sleep(self.backoff.next());
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return self.outbound.flush().await;
            }
        }
    }

    fn open(&self, v311: bool) -> Connection {
        let (client, wire) = wire::open(&self.options, v311);
        // The broker may send ahead as much as it was granted, and a batch is with the intake meanwhile.
        let ahead = usize::from(self.options.receive_maximum) + BATCH;
        let (messages, queue) = batches::queue(ahead);
        let taker = tokio::spawn(batches::take(queue, client.clone(), Arc::clone(&self.intake)));
        let link = Link { client, messages: Some(messages), disconnecting: false };
        Connection { wire, taker, taken: false, link }
    }

    /// Serves a connection until it ends.
    async fn serve(&mut self, connection: &mut Connection) -> Ended {
        let Connection { wire, taker, taken, link } = connection;
        loop {
            let all_sent = link.client.flush_acknowledgements();
            if *taken && all_sent && !link.disconnecting {
                link.disconnecting = link.client.disconnect();
            }
            let event = tokio::select! {
                event = wire.poll() => event,
                () = self.stop.cancelled(), if link.messages.is_some() => {
                    link.messages = None;
                    continue;
                }
                _ = &mut *taker, if !*taken => {
                    if link.messages.is_some() {
                        let reason = "the task that takes messages has ended".to_owned();
                        return Ended::Lost(ConnectionLost::new(reason));
                    }
                    *taken = true;
                    continue;
                }
            };
            let ended = match event {
                Ok(event) => self.handle(link, event).await,
                Err(_) if self.stop.is_cancelled() => Some(Ended::Stopped),
                Err(lost) => Some(Ended::Lost(lost)),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Handles an event; returns why the connection ends, if it does.
    async fn handle(&mut self, link: &Link, event: Event) -> Option<Ended> {
        match event {
            Event::Connected { session_present } if session_present && self.subscribed => {
                self.connected(&link.client);
            }
            Event::Connected { .. } => {
                // The broker has no session of ours, or one with the filters of other settings.
                self.subscribed = false;
                link.client.subscribe(&self.filters());
            }
            Event::Subscribed(Ok(())) => {
                self.subscribed = true;
                self.connected(&link.client);
            }
            Event::Subscribed(Err(reason)) => {
                return Some(Ended::Lost(ConnectionLost::new(reason)));
            }
            Event::Published(id) => self.outbound.published(id),
            Event::Acknowledged { id, taken } => self.outbound.acknowledged(id, taken),
            Event::Message(message) => {
                // Once stopped, messages stay with the broker.
                if let Some(messages) = &link.messages {
                    messages.send(message).await;
                }
            }
            Event::Disconnected if link.disconnecting => return Some(Ended::Stopped),
            Event::Disconnected | Event::Other => {}
        }
        None
    }

    fn connected(&mut self, client: &Client) {
        self.outbound.open(client);
        self.backoff.reset();
        self.state.set(BridgeState::Connected);
    }

    fn filters(&self) -> Vec<String> {
        filters(&self.intake.limits().topic_prefix, self.options.share_group.as_deref())
    }
}

/// The topics to subscribe to. Only telemetry is shared with the other members of the group.
fn filters(prefix: &str, share_group: Option<&str>) -> Vec<String> {
    let filter = |kind: DeviceKind| {
        let filter = topic::uplink(prefix, "+", kind.into());
        match share_group {
            Some(group) if kind == DeviceKind::Telemetry => format!("$share/{group}/{filter}"),
            _ => filter,
        }
    };
    DeviceKind::WITH_TOPIC.into_iter().map(filter).chain([topic::REGISTER.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        bridge::wire::Message,
        memory_log::MemoryLog,
        testing::{bridge_options, downlink, intake},
    };

    /// A runner, and a connection that is not made.
    struct Test {
        runner: Runner,
        link: Link,
        state: watch::Receiver<BridgeState>,
        _wire: Wire,
    }

    impl Test {
        fn new() -> Self {
            let (log, stop) = (MemoryLog::new(), CancellationToken::new());
            let outbound = Outbound::start(&downlink(&log), &stop);
            let (report, state) = StateReport::new("broker".into());
            let runner = Runner::new(bridge_options(), intake(&log), outbound, report, stop);
            let (client, wire) = wire::open(&bridge_options(), false);
            let link = Link { client, messages: None, disconnecting: false };
            Self { runner, link, state, _wire: wire }
        }

        async fn handle(&mut self, event: Event) -> Option<Ended> {
            self.runner.handle(&self.link, event).await
        }

        fn is_connected(&self) -> bool {
            *self.state.borrow() == BridgeState::Connected
        }
    }

    /// An earlier process may have ended before its subscriptions were confirmed, or had other ones.
    #[tokio::test]
    async fn a_session_is_trusted_only_once_this_process_has_subscribed_in_it() {
        let mut test = Test::new();
        for (event, connected) in [
            (Event::Connected { session_present: true }, false),
            (Event::Subscribed(Ok(())), true),
            (Event::Connected { session_present: true }, true),
        ] {
            assert!(test.handle(event).await.is_none());
            assert_eq!(test.is_connected(), connected);
        }
        // The broker has lost the session: without new subscriptions no message would come.
        test.runner.state.set(BridgeState::Away("it broke".into()));
        assert!(test.handle(Event::Connected { session_present: false }).await.is_none());
        assert!(!test.is_connected() && !test.runner.subscribed);
        assert!(test.handle(Event::Subscribed(Ok(()))).await.is_none());
        assert!(test.is_connected());
    }

    #[tokio::test]
    async fn subscriptions_that_are_not_granted_end_the_connection_with_the_reason() {
        let mut test = Test::new();
        let refused = test.handle(Event::Subscribed(Err("not authorized".into()))).await;
        let Some(Ended::Lost(lost)) = refused else { panic!("it goes on") };
        assert_eq!((lost.reason.as_str(), lost.wrong_version), ("not authorized", false));
        assert!(!test.is_connected());
    }

    fn message(id: u16) -> Event {
        let payload = Bytes::from_static(b"{}");
        Event::Message(Message { topic: "acuvim/d1/status".into(), payload, retained: false, id })
    }

    /// The broker keeps what is not acknowledged, and sends it to the next process.
    #[tokio::test]
    async fn once_it_is_stopped_messages_stay_with_the_broker() {
        let mut test = Test::new();
        let (sender, mut queue) = batches::queue(8);
        test.link.messages = Some(sender);
        assert!(test.handle(message(1)).await.is_none());
        assert_eq!(queue.try_recv().map(|(message, _)| message.id), Ok(1));
        test.link.messages = None;
        assert!(test.handle(message(2)).await.is_none());
        assert!(queue.try_recv().is_err());
    }

    #[tokio::test]
    async fn only_our_own_disconnect_is_an_end_in_order() {
        let mut test = Test::new();
        assert!(test.handle(Event::Disconnected).await.is_none());
        assert!(test.handle(Event::Other).await.is_none());
        test.link.disconnecting = true;
        assert!(matches!(test.handle(Event::Disconnected).await, Some(Ended::Stopped)));
    }

    #[test]
    fn all_uplink_topics_are_subscribed_to_and_only_telemetry_is_shared() {
        assert_eq!(
            filters("acuvim", Some("g")),
            [
                "$share/g/acuvim/+/telemetry",
                "acuvim/+/heartbeat",
                "acuvim/+/resp",
                "acuvim/+/status",
                "acuvim/+/alerts",
                "devices/register",
            ]
        );
        assert_eq!(filters("site/a", None)[0], "site/a/+/telemetry");
    }
}

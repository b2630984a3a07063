//! The bridge: readings from any MQTT broker into the log, acknowledged to that broker only once
//! the log has them, in the order of their receipt.
//!
//! The session at the broker outlives us: what comes while we are away waits there. A connection
//! is made anew with everything it holds, so that an acknowledgement can never reach a connection
//! on which its packet id stands for another message.

mod backoff;
mod outbound;
mod wire;

use std::{sync::Arc, time::Duration};

use acuvim_schemas::{DeviceKind, topic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{Downlink, Incoming, Intake, intake::now, pulse};
use backoff::Backoff;
use outbound::Outbound;
use wire::{Client, Event, Message};

/// Messages and bytes that go into one append at most.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// KiB of payloads that wait to be taken at most: then nothing more is read from the broker.
const QUEUE_KIB: u32 = 64 << 10;

/// A message with its part of the room in the queue.
type Queued = (Message, OwnedSemaphorePermit);

/// Which protocol the broker is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 5, and 3.1.1 if the broker does not know it.
    Auto,
    /// 5 alone.
    V5,
    /// 3.1.1 alone.
    V311,
}

/// How the bridge reaches a broker.
#[derive(Debug, Clone)]
pub struct BridgeOptions {
    /// The broker's host name or address.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Set: TLS, with these roots of trust.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// The client id: with it goes the session, and so every message that waits for us.
    pub client_id: String,
    /// Telemetry is shared with all others of this group; none: all of it comes here.
    pub share_group: Option<String>,
    /// Messages that the broker may send ahead of our acknowledgements.
    pub receive_maximum: u16,
    /// How long the broker keeps our session while we are away.
    pub session_expiry: Duration,
    /// Which protocol is spoken.
    pub version: MqttVersion,
    /// How often it says that it hears devices: silence is known no sooner.
    pub pulse: Duration,
}

/// Whether the broker is reached, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeState {
    /// It is, and what it has comes in.
    Connected,
    /// It is not, for this reason.
    Away(String),
}

/// The running bridge.
#[derive(Debug)]
pub struct Bridge {
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    state: watch::Receiver<BridgeState>,
}

impl Bridge {
    /// Starts to bring messages in; a broker that is away is tried again until it is there.
    #[must_use]
    pub fn start(options: BridgeOptions, intake: Arc<Intake>, downlink: &Downlink) -> Self {
        let (stop, away) =
            (CancellationToken::new(), BridgeState::Away("not connected yet".into()));
        let (state, watch) = watch::channel(away);
        let outbound = Outbound::start(downlink, &stop);
        let hears = watch.clone();
        let pulse = pulse::run(Arc::clone(&downlink.log), options.pulse, move || {
            *hears.borrow() == BridgeState::Connected
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(pulse));
        let (stopping, subscribed) = (stop.clone(), false);
        let runner = Runner { options, intake, outbound, state, stop: stopping, subscribed };
        Self { task: tokio::spawn(runner.run()), stop, state: watch }
    }

    /// Whether the broker is reached.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BridgeState> {
        self.state.clone()
    }

    /// Whether it has ended by itself, which it never should.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops taking messages; answers when what was taken is acknowledged, or when the time is
    /// over: the broker sends again what is not.
    pub async fn stop(mut self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the bridge was still busy when it was stopped");
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why a connection ended.
enum Ended {
    /// We were told to.
    Stopped,
    /// It broke, or was never made.
    Lost(wire::Lost),
}

struct Runner {
    options: BridgeOptions,
    intake: Arc<Intake>,
    outbound: Outbound,
    state: watch::Sender<BridgeState>,
    stop: CancellationToken,
    /// Whether the session is known to have our subscriptions. Not at the start: an earlier
    /// process may have ended before its were confirmed, or have had other settings.
    subscribed: bool,
}

impl Runner {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut old = self.options.version == MqttVersion::V311;
        loop {
            let ended = self.connection(old, &mut backoff).await;
            let Ended::Lost(lost) = ended else { return self.outbound.flush().await };
            if lost.wrong_version && self.options.version == MqttVersion::Auto {
                old = !old;
            }
            self.say(BridgeState::Away(lost.reason));
            let pause = tokio::time::sleep(backoff.next());
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return self.outbound.flush().await;
            }
        }
    }

    /// One connection's life.
    async fn connection(&mut self, old: bool, backoff: &mut Backoff) -> Ended {
        let (client, mut wire) = wire::open(&self.options, old);
        let ahead = usize::from(self.options.receive_maximum) + BATCH;
        let (messages, queue) = mpsc::channel(ahead);
        let (mut messages, room) = (Some(messages), Arc::new(Semaphore::new(QUEUE_KIB as usize)));
        let mut taker = tokio::spawn(take(queue, client.clone(), Arc::clone(&self.intake)));
        let (mut taken, mut goodbye) = (false, false);
        let ended = loop {
            let paid = client.pay();
            if taken && paid && !goodbye {
                // Behind the last acknowledgement.
                goodbye = client.disconnect();
            }
            let event = tokio::select! {
                event = wire.poll() => event,
                () = self.stop.cancelled(), if messages.is_some() => {
                    messages = None;
                    continue;
                }
                _ = &mut taker, if !taken => {
                    if messages.is_some() {
                        break Ended::Lost(wire::Lost::new("the taker ended".to_owned()));
                    }
                    taken = true;
                    continue;
                }
            };
            match event {
                Ok(Event::Connected { session_present }) => {
                    if !(session_present && self.subscribed) {
                        self.subscribed = false;
                        client.subscribe(&self.filters());
                    } else {
                        self.outbound.open(&client);
                        self.connected(backoff);
                    }
                }
                Ok(Event::Subscribed(Ok(()))) => {
                    self.subscribed = true;
                    self.outbound.open(&client);
                    self.connected(backoff);
                }
                Ok(Event::Published(id)) => self.outbound.published(id),
                Ok(Event::Acknowledged { id, taken }) => self.outbound.acknowledged(id, taken),
                Ok(Event::Subscribed(Err(reason))) => break Ended::Lost(wire::Lost::new(reason)),
                Ok(Event::Message(message)) => {
                    // Behind the end it stays with the broker; a taker that ended is seen above.
                    let kib = u32::try_from(message.payload.len() >> 10).unwrap_or(QUEUE_KIB);
                    let part = kib.saturating_add(1).min(QUEUE_KIB);
                    if let Some(messages) = &messages
                        && let Ok(permit) = Arc::clone(&room).acquire_many_owned(part).await
                    {
                        let _ = messages.send((message, permit)).await;
                    }
                }
                Ok(Event::Disconnected) if goodbye => break Ended::Stopped,
                Ok(Event::Disconnected | Event::Other) => {}
                Err(_) if self.stop.is_cancelled() => break Ended::Stopped,
                Err(lost) => break Ended::Lost(lost),
            }
        };
        self.outbound.close();
        // What it took and did not acknowledge comes again; dedup knows it.
        taker.abort();
        ended
    }

    fn connected(&self, backoff: &mut Backoff) {
        backoff.reset();
        self.say(BridgeState::Connected);
    }

    fn filters(&self) -> Vec<String> {
        let prefix = &self.intake.limits().topic_prefix;
        let filter = |kind: DeviceKind| {
            let filter = topic::uplink(prefix, "+", kind.into());
            match &self.options.share_group {
                Some(group) if kind == DeviceKind::Telemetry => format!("$share/{group}/{filter}"),
                _ => filter,
            }
        };
        DeviceKind::WITH_TOPIC.into_iter().map(filter).chain([topic::REGISTER.to_owned()]).collect()
    }

    /// Says each change once.
    fn say(&self, now: BridgeState) {
        self.state.send_if_modified(|state| {
            let changed = std::mem::discriminant(state) != std::mem::discriminant(&now);
            match &now {
                BridgeState::Connected if changed => {
                    tracing::info!(broker = %self.options.host, "the bridge is connected");
                }
                BridgeState::Away(reason) if changed => {
                    tracing::warn!(broker = %self.options.host, %reason, "the broker is away");
                }
                _ => {}
            }
            metrics::gauge!("acuvim_bridge_connected").set(if now == BridgeState::Connected {
                1.0
            } else {
                0.0
            });
            let different = *state != now;
            *state = now;
            different
        });
    }
}

/// Appends messages in the order of their receipt and acknowledges each once the log has it,
/// however long that takes: what is not acknowledged bounds what the broker sends.
async fn take(mut queue: mpsc::Receiver<Queued>, client: Client, intake: Arc<Intake>) {
    let mut batch: Vec<Queued> = Vec::new();
    while let Some(first) = queue.recv().await {
        let mut bytes = first.0.payload.len();
        batch.push(first);
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.0.payload.len();
            batch.push(next);
        }
        let received_at = now();
        let incoming: Vec<Incoming<'_>> = batch
            .iter()
            .map(|(message, _)| Incoming {
                topic: &message.topic,
                payload: message.payload.clone(),
                retained: message.retained,
                received_at,
                sender: None,
            })
            .collect();
        intake.take_all(&incoming).await;
        drop(incoming);
        for (message, _) in batch.drain(..) {
            client.acknowledge(message.id);
        }
    }
}

//! Commands to devices that are connected here now: one at a time for each, and `sent` only with
//! the device's own PUBACK.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use acuvim_schemas::{
    command::{Command, Outcome},
    topic,
};
use mqtt5::{
    QoS,
    broker::{SubAckReasonCode, router::MessageRouter},
    packet::publish::PublishPacket,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    downlink::{Reports, seconds_left},
    intake::now,
};

/// Commands that wait for the one before them, for each device.
const QUEUE: usize = 64;

/// How often devices are looked at whose PUBACK does not come.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Outbound {
    prefix: String,
    reports: Reports,
    alone: bool,
    router: OnceLock<Weak<MessageRouter>>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    devices: HashMap<String, Line>,
    /// The devices whose command is with a client now, in the order of publishing: as a rule one,
    /// and of the client's own name.
    with: HashMap<Arc<str>, VecDeque<String>>,
}

impl Lines {
    /// The command that is with a device is no more.
    fn release(&mut self, device: &str) -> Option<(Command, Option<Command>)> {
        let line = self.devices.get_mut(device)?;
        let (client, command) = line.in_flight.take()?;
        let next = line.waiting.pop_front();
        if let Some(devices) = self.with.get_mut(&client) {
            devices.retain(|d| d != device);
            if devices.is_empty() {
                self.with.remove(&client);
            }
        }
        Some((command, next))
    }
}

/// What is known of one device.
#[derive(Default)]
struct Line {
    /// The clients that listen for its commands.
    listeners: BTreeSet<Arc<str>>,
    /// The one that is with it now, and with which client.
    in_flight: Option<(Arc<str>, Command)>,
    waiting: VecDeque<Command>,
}

impl Outbound {
    pub fn new(prefix: String, reports: Reports, alone: bool) -> Self {
        Self { prefix, reports, alone, router: OnceLock::new(), lines: Mutex::default() }
    }

    pub fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device whose commands a topic carries.
    fn device_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?;
        rest.strip_suffix("/cmd").filter(|device| acuvim_schemas::device::is_device_id(device))
    }

    pub fn subscribed(&self, client: &Arc<str>, filter: &str, result: SubAckReasonCode) {
        let granted =
            matches!(result, SubAckReasonCode::GrantedQoS1 | SubAckReasonCode::GrantedQoS2);
        if let Some(device) = self.device_of(filter).filter(|_| granted) {
            let mut lines = self.lines();
            let line = lines.devices.entry(device.to_owned()).or_default();
            line.listeners.insert(Arc::clone(client));
        }
    }

    pub fn unsubscribed(&self, client: &str, filter: &str) {
        if let Some(device) = self.device_of(filter)
            && let Some(line) = self.lines().devices.get_mut(device)
        {
            line.listeners.remove(client);
        }
    }

    /// Gives commands out until there are no more.
    pub async fn run(
        self: Arc<Self>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                command = commands.recv() => match command {
                    Some(command) => self.give(command).await,
                    None => return,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// Gives a command to its device, or lines it up behind the one that is with it.
    async fn give(&self, command: Command) {
        let refused = {
            let mut lines = self.lines();
            match lines.devices.get_mut(&command.device_id) {
                Some(line) if line.in_flight.is_some() && line.waiting.len() < QUEUE => {
                    line.waiting.push_back(command);
                    return;
                }
                Some(line) => line.in_flight.is_some(),
                None => true,
            }
        };
        match refused {
            true => self.to_nobody(&command),
            false => self.publish(command).await,
        }
    }

    fn to_nobody(&self, command: &Command) {
        metrics::counter!("acuvim_commands_without_listener_total").increment(1);
        if self.alone {
            self.reports.say(&command.device_id, command.request_id, Outcome::NoSubscriber);
        }
    }

    async fn publish(&self, command: Command) {
        let Some(seconds) = seconds_left(&command, now()) else { return };
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return };
        let topic = topic::command(&self.prefix, &command.device_id);
        let Some(client) = self.listener(&router, &command.device_id, &topic).await else {
            return self.to_nobody(&command);
        };
        let packet = PublishPacket::new(&topic, command.payload.clone(), QoS::AtLeastOnce)
            .with_message_expiry_interval(seconds);
        self.note_in_flight(client, command);
        router.route_message_local_only(&packet, None).await;
    }

    fn note_in_flight(&self, client: Arc<str>, command: Command) {
        let mut lines = self.lines();
        lines.with.entry(Arc::clone(&client)).or_default().push_back(command.device_id.clone());
        if let Some(line) = lines.devices.get_mut(&command.device_id) {
            line.in_flight = Some((client, command));
        }
    }

    /// A client that is connected now and listens for a device: the device itself, if it is.
    async fn listener(
        &self,
        router: &MessageRouter,
        device: &str,
        topic: &str,
    ) -> Option<Arc<str>> {
        let mut known: Vec<Arc<str>> =
            self.lines().devices.get(device)?.listeners.iter().cloned().collect();
        known.sort_by_key(|client| client.as_ref() != device);
        for client in known {
            if router.is_connected(&client).await && router.has_subscription(&client, topic).await {
                return Some(client);
            }
        }
        None
    }

    /// A client has acknowledged a packet. Nothing but commands is published here.
    pub async fn acknowledged(&self, client: &str) {
        let released = {
            let mut lines = self.lines();
            let device = lines.with.get(client).and_then(|devices| devices.front().cloned());
            device.and_then(|device| lines.release(&device))
        };
        let Some((command, next)) = released else { return };
        self.reports.say(&command.device_id, command.request_id, Outcome::Sent);
        if let Some(next) = next {
            self.publish(next).await;
        }
    }

    /// A client is gone: what waited behind the command that is with it was given to nobody. The one
    /// that is with it may have arrived.
    pub fn gone(&self, client: &str) {
        let mut behind = Vec::new();
        {
            let mut lines = self.lines();
            for device in lines.with.get(client).cloned().unwrap_or_default() {
                let released = lines.release(&device);
                behind.extend(released.and_then(|(_, next)| next));
                let line = lines.devices.get_mut(&device);
                behind.extend(line.into_iter().flat_map(|line| line.waiting.drain(..)));
            }
        }
        behind.iter().for_each(|command| self.to_nobody(command));
    }

    /// Goes on where a PUBACK has not come in time.
    async fn look(&self) {
        let now = now();
        let next: Vec<Command> = {
            let mut lines = self.lines();
            let is_late =
                |line: &Line| line.in_flight.as_ref().is_some_and(|(_, c)| c.expires_at <= now);
            let late: Vec<String> = lines
                .with
                .values()
                .flatten()
                .filter(|device| lines.devices.get(*device).is_some_and(is_late))
                .cloned()
                .collect();
            late.iter().filter_map(|device| lines.release(device)?.1).collect()
        };
        for command in next {
            self.publish(command).await;
        }
    }

    /// Forgets listeners whose sessions are over.
    pub async fn sweep(&self) {
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return };
        let known: Vec<(String, Arc<str>)> = self
            .lines()
            .devices
            .iter()
            .flat_map(|(device, line)| line.listeners.iter().map(|c| (device.clone(), c.clone())))
            .collect();
        for (device, client) in known {
            let topic = topic::command(&self.prefix, &device);
            if !router.has_subscription(&client, &topic).await {
                self.unsubscribed(&client, &topic);
            }
        }
        self.lines().devices.retain(|_, line| {
            !line.listeners.is_empty() || line.in_flight.is_some() || !line.waiting.is_empty()
        });
    }
}

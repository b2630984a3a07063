//! Commands to devices that are connected here now: one at a time for each, and `sent` only with
//! the device's own PUBACK.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use acuvim_schemas::{
    Micros,
    command::{Command, Outcome},
    time, topic,
};
use mqtt5::{
    QoS,
    broker::{SubAckReasonCode, router::MessageRouter},
    packet::publish::PublishPacket,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Downlink,
    downlink::{Reports, Told, seconds_left},
    intake::now,
};

/// Commands that wait for the one before them, for each device.
const QUEUE: usize = 64;

/// How often devices are looked at whose PUBACK does not come, and how long one is waited for before
/// the next command goes out.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: Micros = 30 * time::SECOND;

/// See the module.
pub(super) struct Outbound {
    downlink: Downlink,
    reports: Reports,
    router: OnceLock<Weak<MessageRouter>>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    devices: HashMap<String, Line>,
    clients: HashMap<Arc<str>, Client>,
}

/// What is with one client: as a rule one command, of the device of its own name.
#[derive(Default)]
struct Client {
    /// The devices whose command is with it, in the order of publishing.
    with: VecDeque<String>,
    /// PUBACKs that are still to come for commands that nobody waits for any more.
    owed: usize,
}

/// What is known of one device.
#[derive(Default)]
struct Line {
    /// The clients that listen for its commands.
    listeners: BTreeSet<Arc<str>>,
    /// Whether a command is with it, or on its way there: the next one waits.
    busy: bool,
    /// The one that is with it now.
    in_flight: Option<InFlight>,
    waiting: VecDeque<Command>,
}

struct InFlight {
    client: Arc<str>,
    command: Told,
    since: Micros,
}

impl Lines {
    /// The command that is with a device is no more; answers with the next, for which the line stays
    /// busy.
    fn release(&mut self, device: &str) -> Option<(InFlight, Option<Command>)> {
        let line = self.devices.get_mut(device)?;
        let in_flight = line.in_flight.take()?;
        if let Some(client) = self.clients.get_mut(&in_flight.client) {
            client.with.retain(|d| d != device);
        }
        Some((in_flight, self.next(device)))
    }

    /// The next command for a device, for which the line stays busy.
    fn next(&mut self, device: &str) -> Option<Command> {
        let line = self.devices.get_mut(device)?;
        let next = line.waiting.pop_front();
        line.busy = next.is_some();
        next
    }
}

impl Outbound {
    pub fn new(downlink: Downlink) -> Self {
        let reports = downlink.reports();
        Self { downlink, reports, router: OnceLock::new(), lines: Mutex::default() }
    }

    pub fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device whose commands a topic carries.
    fn device_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix(self.downlink.topic_prefix.as_str())?.strip_prefix('/')?;
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

    /// The clients that listen for a device's commands, or did when they were last here.
    pub fn listeners(&self, device: &str) -> Vec<Arc<str>> {
        let lines = self.lines();
        let line = lines.devices.get(device);
        line.map(|line| line.listeners.iter().cloned().collect()).unwrap_or_default()
    }

    /// Gives commands out until there are no more. What is left when told to stop was given to
    /// nobody.
    pub async fn run(
        self: Arc<Self>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.give(command).await,
                    None => break,
                },
                _ = looks.tick() => self.look().await,
            }
        }
        commands.close();
        while let Some(command) = commands.recv().await {
            self.to_nobody(&command);
        }
        let waiting: Vec<Command> =
            self.lines().devices.values_mut().flat_map(|line| line.waiting.drain(..)).collect();
        waiting.iter().for_each(|command| self.to_nobody(command));
    }

    /// Waits until what became of commands is in the log.
    pub async fn flush(&self) {
        self.reports.flush().await;
    }

    /// Gives a command to its device, or lines it up behind the one that is with it.
    async fn give(&self, command: Command) {
        let free = {
            let mut lines = self.lines();
            match lines.devices.get_mut(&command.device_id) {
                Some(line) if line.busy && line.waiting.len() < QUEUE => {
                    line.waiting.push_back(command);
                    return;
                }
                Some(line) => !std::mem::replace(&mut line.busy, true),
                None => false,
            }
        };
        match free {
            true => self.publish(command).await,
            false => self.to_nobody(&command),
        }
    }

    fn to_nobody(&self, command: &Command) {
        metrics::counter!("acuvim_commands_without_listener_total").increment(1);
        if self.downlink.alone {
            self.reports.say(&command.into(), Outcome::NoSubscriber);
        }
    }

    /// Publishes a command for which its line is busy; if that can't be, the next.
    async fn publish(&self, command: Command) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            let device = command.device_id.clone();
            if !self.is_published(command).await {
                next = self.lines().next(&device);
            }
        }
    }

    async fn is_published(&self, command: Command) -> bool {
        let Some(seconds) = seconds_left(&command, now()) else { return false };
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return false };
        let topic = topic::command(&self.downlink.topic_prefix, &command.device_id);
        let Some(client) = self.listener(&router, &command.device_id, &topic).await else {
            self.to_nobody(&command);
            return false;
        };
        let packet = PublishPacket::new(&topic, command.payload.clone(), QoS::AtLeastOnce)
            .with_message_expiry_interval(seconds);
        self.note_in_flight(client, Told::from(&command));
        router.route_message_local_only(&packet, None).await;
        true
    }

    fn note_in_flight(&self, client: Arc<str>, command: Told) {
        let mut lines = self.lines();
        let with = &mut lines.clients.entry(Arc::clone(&client)).or_default().with;
        with.push_back(command.device_id.clone());
        if let Some(line) = lines.devices.get_mut(&command.device_id) {
            line.in_flight = Some(InFlight { client, command, since: now() });
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
            let Some(known) = lines.clients.get_mut(client) else { return };
            if known.owed > 0 {
                known.owed -= 1;
                return;
            }
            let device = known.with.front().cloned();
            device.and_then(|device| lines.release(&device))
        };
        let Some((in_flight, next)) = released else { return };
        self.reports.say(&in_flight.command, Outcome::Sent);
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
            for device in lines.clients.remove(client).unwrap_or_default().with {
                let released = lines.release(&device);
                behind.extend(released.and_then(|(_, next)| next));
                if let Some(line) = lines.devices.get_mut(&device) {
                    line.busy = false;
                    behind.extend(line.waiting.drain(..));
                }
            }
        }
        behind.iter().for_each(|command| self.to_nobody(command));
    }

    /// Goes on where a PUBACK has not come in time.
    async fn look(&self) {
        let late_since = now() - PATIENCE;
        let next: Vec<Command> = {
            let mut lines = self.lines();
            let is_late =
                |line: &Line| line.in_flight.as_ref().is_some_and(|f| f.since < late_since);
            let late: Vec<String> = lines
                .clients
                .values()
                .flat_map(|client| &client.with)
                .filter(|device| lines.devices.get(*device).is_some_and(is_late))
                .cloned()
                .collect();
            late.iter()
                .filter_map(|device| {
                    let (in_flight, next) = lines.release(device)?;
                    if let Some(client) = lines.clients.get_mut(&in_flight.client) {
                        client.owed += 1;
                    }
                    next
                })
                .collect()
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
            let topic = topic::command(&self.downlink.topic_prefix, &device);
            if !router.has_subscription(&client, &topic).await {
                self.unsubscribed(&client, &topic);
            }
        }
        let mut lines = self.lines();
        lines.devices.retain(|_, line| line.busy || !line.listeners.is_empty());
        lines.clients.retain(|_, client| client.owed > 0 || !client.with.is_empty());
    }
}

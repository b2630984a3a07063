//! Commands through the broker: reported as `sent` once the broker has taken one for a subscriber.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use acuvim_wire::{
    command::{Command, Outcome},
    topic,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::wire::Client;
use crate::{
    clock::now,
    downlink::{CommandRef, Downlink, Reports, seconds_left},
};

/// The most commands without acknowledgement: rumqttc allows 100 packet ids in use at once.
const IN_FLIGHT: usize = 50;

pub(super) struct Outbound {
    shared: Arc<Shared>,
    /// The open connection and its number.
    client: watch::Sender<Option<(u64, Client)>>,
}

struct Shared {
    reports: Reports,
    downlink: Downlink,
    packets: Mutex<Packets>,
    room: Notify,
}

#[derive(Default)]
struct Packets {
    /// The number of the connection: a command for one connection must not be sent on the next.
    connection: u64,
    /// Handed to rumqttc and not sent yet, so without a packet id.
    queued: VecDeque<CommandRef>,
    /// Sent and not acknowledged, by packet id.
    in_flight: HashMap<u16, CommandRef>,
}

impl Outbound {
    pub fn start(downlink: &Downlink, stop: &CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            reports: downlink.reports(),
            downlink: downlink.clone(),
            packets: Mutex::default(),
            room: Notify::new(),
        });
        let (client, clients) = watch::channel(None);
        let commands = downlink.start(stop);
        tokio::spawn(run(Arc::clone(&shared), commands, clients, stop.clone()));
        Self { shared, client }
    }

    /// A connection is open: commands are sent on it from now on.
    pub fn open(&self, client: &Client) {
        let connection = self.shared.packets().connection;
        self.client.send_replace(Some((connection, client.clone())));
    }

    /// The connection has ended: what became of the commands in flight is not known.
    pub fn close(&self) {
        self.client.send_replace(None);
        let connection = self.shared.packets().connection + 1;
        *self.shared.packets() = Packets { connection, ..Packets::default() };
        self.shared.room.notify_one();
    }

    /// The next packet was sent, with this id.
    pub fn published(&self, id: u16) {
        let mut packets = self.shared.packets();
        if let Some(command) = packets.queued.pop_front() {
            packets.in_flight.insert(id, command);
        }
    }

    /// The broker has acknowledged a packet.
    pub fn acknowledged(&self, id: u16, taken: bool) {
        let done = self.shared.packets().in_flight.remove(&id);
        // Also for an id that is not known: whoever waits only looks again.
        self.shared.room.notify_one();
        let Some(command) = done else { return };
        let outcome = if taken { Outcome::Sent } else { Outcome::NoSubscriber };
        self.shared.reports.report(&command, outcome);
    }

    /// Waits until all reports are in the log.
    pub async fn flush(&self) {
        self.shared.reports.flush().await;
    }
}

impl Shared {
    fn packets(&self) -> MutexGuard<'_, Packets> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for_room(&self) {
        loop {
            let used = {
                let packets = self.packets();
                packets.queued.len() + packets.in_flight.len()
            };
            if used < IN_FLIGHT {
                return;
            }
            self.room.notified().await;
        }
    }

    /// Publishes a command on a connection, if that is still open and the command has not expired.
    fn publish(&self, connection: u64, client: &Client, command: &Command) {
        let Some(seconds) = seconds_left(command, now()) else { return };
        let topic = topic::command(&self.downlink.topic_prefix, &command.device_id);
        let sent = CommandRef::from(command);
        // The lock is held throughout: `published` may be called before `client.publish` returns.
        let mut packets = self.packets();
        if packets.connection == connection
            && self.downlink.is_held()
            && client.publish(&topic, command.payload.clone(), seconds)
        {
            packets.queued.push_back(sent);
        } else {
            self.reports.report(&sent, Outcome::NoSubscriber);
        }
    }
}

/// Takes commands only while there is a connection. Those left at the end have reached nobody.
async fn run(
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    clients: watch::Receiver<Option<(u64, Client)>>,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(give(&shared, &mut commands, clients)).await;
    commands.close();
    while let Some(command) = commands.recv().await {
        shared.reports.report(&CommandRef::from(&command), Outcome::NoSubscriber);
    }
}

async fn give(
    shared: &Shared,
    commands: &mut mpsc::Receiver<Command>,
    mut clients: watch::Receiver<Option<(u64, Client)>>,
) {
    loop {
        // Before a command is taken: one in our hands is lost if the process ends.
        shared.wait_for_room().await;
        if clients.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let Some(command) = commands.recv().await else { return };
        let client = clients.borrow().clone();
        match client {
            Some((connection, client)) => shared.publish(connection, &client, &command),
            // The connection has ended in the meantime.
            None => shared.reports.report(&CommandRef::from(&command), Outcome::NoSubscriber),
        }
    }
}

#[cfg(test)]
mod tests;

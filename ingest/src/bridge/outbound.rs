//! Commands through a broker: `sent` once that broker took one for a subscriber.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use acuvim_schemas::{
    command::{Command, Outcome},
    topic,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::wire::Client;
use crate::{
    Downlink,
    downlink::{Reports, Told, seconds_left},
    intake::now,
};

/// Commands that the broker has not acknowledged, at most: fewer than packet ids in use at once.
const IN_FLIGHT: usize = 50;

/// See the module.
pub(super) struct Outbound {
    shared: Arc<Shared>,
    /// The open connection, and which one it is.
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
    /// Counts the connections: what is meant for one must not be taken for the next.
    connection: u64,
    /// Handed over, and not on the wire yet.
    handed: VecDeque<Told>,
    /// By packet id.
    in_flight: HashMap<u16, Told>,
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

    /// A connection is open: commands go out on it.
    pub fn open(&self, client: &Client) {
        let connection = self.shared.packets().connection;
        self.client.send_replace(Some((connection, client.clone())));
    }

    /// It is no more: what became of commands on it is not known.
    pub fn close(&self) {
        self.client.send_replace(None);
        let connection = self.shared.packets().connection + 1;
        *self.shared.packets() = Packets { connection, ..Packets::default() };
        self.shared.room.notify_one();
    }

    /// A packet has gone out.
    pub fn published(&self, id: u16) {
        let mut packets = self.shared.packets();
        if let Some(command) = packets.handed.pop_front() {
            packets.in_flight.insert(id, command);
        }
    }

    /// The broker has acknowledged it.
    pub fn acknowledged(&self, id: u16, taken: bool) {
        let done = self.shared.packets().in_flight.remove(&id);
        self.shared.room.notify_one();
        let Some(told) = done else { return };
        self.shared.reports.say(&told, if taken { Outcome::Sent } else { Outcome::NoSubscriber });
    }

    /// Waits until what became of commands is in the log.
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
                packets.handed.len() + packets.in_flight.len()
            };
            if used < IN_FLIGHT {
                return;
            }
            self.room.notified().await;
        }
    }

    /// Hands a command to a connection, if that is still the one, and unless its time is over.
    fn publish(&self, connection: u64, client: &Client, command: &Command) {
        let Some(seconds) = seconds_left(command, now()) else { return };
        let topic = topic::command(&self.downlink.topic_prefix, &command.device_id);
        let told = Told::from(command);
        // All of it under the lock: the packet may be on its way before this returns.
        let mut packets = self.packets();
        if packets.connection == connection
            && self.downlink.is_held()
            && client.publish(&topic, command.payload.clone(), seconds)
        {
            packets.handed.push_back(told);
        } else {
            self.reports.say(&told, Outcome::NoSubscriber);
        }
    }
}

/// Takes commands only while there is a connection for them. What is left when told to stop was given
/// to nobody.
async fn run(
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    clients: watch::Receiver<Option<(u64, Client)>>,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(give(&shared, &mut commands, clients)).await;
    commands.close();
    while let Some(command) = commands.recv().await {
        shared.reports.say(&Told::from(&command), Outcome::NoSubscriber);
    }
}

async fn give(
    shared: &Shared,
    commands: &mut mpsc::Receiver<Command>,
    mut clients: watch::Receiver<Option<(u64, Client)>>,
) {
    loop {
        shared.wait_for_room().await;
        if clients.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let Some(command) = commands.recv().await else { return };
        let client = clients.borrow().clone();
        match client {
            Some((connection, client)) => shared.publish(connection, &client, &command),
            // The connection has ended meanwhile.
            None => shared.reports.say(&Told::from(&command), Outcome::NoSubscriber),
        }
    }
}

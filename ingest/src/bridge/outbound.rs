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
use uuid::Uuid;

use super::wire::Client;
use crate::{
    Downlink,
    downlink::{Reports, seconds_left},
    intake::now,
};

/// Commands that the broker has not acknowledged, at most: fewer than packet ids in use at once.
const IN_FLIGHT: usize = 50;

/// See the module.
pub(super) struct Outbound {
    shared: Arc<Shared>,
    /// The open connection.
    client: watch::Sender<Option<Client>>,
}

struct Shared {
    reports: Reports,
    prefix: String,
    packets: Mutex<Packets>,
    room: Notify,
}

#[derive(Default)]
struct Packets {
    /// Handed over, and not on the wire yet.
    handed: VecDeque<(String, Uuid)>,
    /// By packet id.
    in_flight: HashMap<u16, (String, Uuid)>,
}

impl Outbound {
    pub fn start(downlink: &Downlink, stop: &CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            reports: downlink.reports(stop),
            prefix: downlink.topic_prefix.clone(),
            packets: Mutex::default(),
            room: Notify::new(),
        });
        let (client, clients) = watch::channel(None);
        let commands = downlink.start(stop);
        let run = run(Arc::clone(&shared), commands, clients);
        tokio::spawn(stop.clone().run_until_cancelled_owned(run));
        Self { shared, client }
    }

    /// A connection is open: commands go out on it.
    pub fn open(&self, client: &Client) {
        self.client.send_replace(Some(client.clone()));
    }

    /// It is no more: what became of commands on it is not known.
    pub fn close(&self) {
        self.client.send_replace(None);
        *self.shared.packets() = Packets::default();
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
        let Some((device_id, request_id)) = done else { return };
        let outcome = if taken { Outcome::Sent } else { Outcome::NoSubscriber };
        self.shared.reports.say(&device_id, request_id, outcome);
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

    /// Hands a command to the connection, unless its time is over.
    fn publish(&self, client: &Client, command: Command) {
        let Some(seconds) = seconds_left(&command, now()) else { return };
        let topic = topic::command(&self.prefix, &command.device_id);
        let named = (command.device_id, command.request_id);
        // Before the packet can be on its way.
        self.packets().handed.push_back(named.clone());
        if !client.publish(&topic, command.payload, seconds) {
            self.packets().handed.pop_back();
            self.reports.say(&named.0, named.1, Outcome::NoSubscriber);
        }
    }
}

/// Takes commands only while there is a connection for them.
async fn run(
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    mut clients: watch::Receiver<Option<Client>>,
) {
    loop {
        shared.wait_for_room().await;
        if clients.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let Some(command) = commands.recv().await else { return };
        // The connection may have ended meanwhile; its successor will do, within the time.
        let client = match clients.wait_for(Option::is_some).await {
            Ok(client) => client.clone(),
            Err(_) => return,
        };
        if let Some(client) = client {
            shared.publish(&client, command);
        }
    }
}

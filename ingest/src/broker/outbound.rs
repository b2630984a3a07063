//! Commands to the devices that are connected to the built-in broker: one at a time for each, reported as
//! `sent` only with the device's own PUBACK.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use acuvim_wire::{
    Micros,
    command::{Command, Outcome},
    device::is_device_id,
    time::SECOND,
    topic,
};
use mqtt5::{
    QoS,
    broker::{SubAckReasonCode, router::MessageRouter},
    packet::publish::PublishPacket,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::queues::{Next, Queues};
use crate::{
    clock::now,
    downlink::{CommandRef, Downlink, Reports, seconds_left},
};

/// How often late PUBACKs are looked for, and how late one has to be before the next command goes out.
const LATE_CHECK: Duration = Duration::from_secs(1);
const PATIENCE: Micros = 30 * SECOND;

pub(super) struct Outbound {
    downlink: Downlink,
    reports: Reports,
    /// Weak, because the router holds the hook, and the hook holds this.
    router: OnceLock<Weak<MessageRouter>>,
    queues: Mutex<Queues>,
}

impl Outbound {
    pub fn new(downlink: Downlink) -> Self {
        let reports = downlink.reports();
        Self { downlink, reports, router: OnceLock::new(), queues: Mutex::default() }
    }

    pub fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router(&self) -> Option<Arc<MessageRouter>> {
        self.router.get().and_then(Weak::upgrade)
    }

    /// The device whose commands a topic carries.
    fn device_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix(self.downlink.topic_prefix.as_str())?.strip_prefix('/')?;
        rest.strip_suffix("/cmd").filter(|device| is_device_id(device))
    }

    pub fn subscribed(&self, client: &Arc<str>, filter: &str, result: SubAckReasonCode) {
        // QoS 0 is not enough: `sent` needs a PUBACK.
        let granted =
            matches!(result, SubAckReasonCode::GrantedQoS1 | SubAckReasonCode::GrantedQoS2);
        if let Some(device) = self.device_of(filter).filter(|_| granted) {
            self.queues().subscribed(client, device);
        }
    }

    pub fn unsubscribed(&self, client: &str, filter: &str) {
        if let Some(device) = self.device_of(filter) {
            self.queues().unsubscribed(client, device);
        }
    }

    /// The clients that subscribe to a device's commands, connected or not.
    pub fn subscribers(&self, device: &str) -> Vec<Arc<str>> {
        self.queues().subscribers(device)
    }

    /// Publishes commands until there are no more. Those that are left at the end reach nobody.
    pub async fn run(
        self: Arc<Self>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(LATE_CHECK);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.push(command).await,
                    None => break,
                },
                _ = ticks.tick() => self.give_up_late().await,
            }
        }
        // First closed and then emptied, so that none comes in behind the last look.
        commands.close();
        while let Some(command) = commands.recv().await {
            self.report_undelivered(&command);
        }
        let waiting = self.queues().drain();
        waiting.iter().for_each(|command| self.report_undelivered(command));
    }

    /// Waits until all reports are in the log.
    pub async fn flush(&self) {
        self.reports.flush().await;
    }

    async fn push(&self, command: Command) {
        let next = self.queues().push(command);
        match next {
            Next::Publish(command) => self.publish(command).await,
            Next::Queued => {}
            Next::NoSubscriber(command) => self.report_undelivered(&command),
        }
    }

    fn report_undelivered(&self, command: &Command) {
        metrics::counter!("acuvim_commands_without_listener_total").increment(1);
        // The device may be connected to another ingest, unless this is the only one.
        if self.downlink.alone {
            self.reports.report(&command.into(), Outcome::NoSubscriber);
        }
    }

    /// Publishes a command for which the queue is busy; if that is not possible, the next one.
    async fn publish(&self, command: Command) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            let device = command.device_id.clone();
            if !self.try_publish(command).await {
                next = self.queues().next(&device);
            }
        }
    }

    async fn try_publish(&self, command: Command) -> bool {
        let Some(seconds) = seconds_left(&command, now()) else { return false };
        let Some(router) = self.router() else { return false };
        let topic = topic::command(&self.downlink.topic_prefix, &command.device_id);
        let Some(client) = self.subscriber(&router, &command.device_id, &topic).await else {
            self.report_undelivered(&command);
            return false;
        };
        let packet = PublishPacket::new(&topic, command.payload.clone(), QoS::AtLeastOnce)
            .with_message_expiry_interval(seconds);
        // Noted first: the PUBACK may arrive before `route_message_local_only` returns.
        self.queues().published(&client, CommandRef::from(&command), now());
        router.route_message_local_only(&packet, None).await;
        true
    }

    /// A connected client that subscribes to the device's commands; the device itself, if it is one of them.
    async fn subscriber(
        &self,
        router: &MessageRouter,
        device: &str,
        topic: &str,
    ) -> Option<Arc<str>> {
        let mut known = self.subscribers(device);
        // A tool that also subscribes must not take the command away from its device.
        known.sort_by_key(|client| client.as_ref() != device);
        for client in known {
            if router.is_connected(&client).await && router.has_subscription(&client, topic).await {
                return Some(client);
            }
        }
        None
    }

    /// A client has acknowledged a packet. The broker publishes nothing but commands.
    pub async fn acknowledged(&self, client: &str) {
        let acknowledged = self.queues().acknowledged(client);
        let Some((command, next)) = acknowledged else { return };
        self.reports.report(&command, Outcome::Sent);
        if let Some(next) = next {
            self.publish(next).await;
        }
    }

    pub fn disconnected(&self, client: &str) {
        let waiting = self.queues().disconnected(client);
        waiting.iter().for_each(|command| self.report_undelivered(command));
    }

    /// Goes on with the next command where a PUBACK is late.
    async fn give_up_late(&self) {
        let next = self.queues().give_up(now() - PATIENCE);
        for command in next {
            self.publish(command).await;
        }
    }

    /// Forgets subscribers whose sessions have expired.
    pub async fn sweep(&self) {
        let Some(router) = self.router() else { return };
        let subscriptions = self.queues().subscriptions();
        for (device, client) in subscriptions {
            let topic = topic::command(&self.downlink.topic_prefix, &device);
            if !router.has_subscription(&client, &topic).await {
                self.unsubscribed(&client, &topic);
            }
        }
        self.queues().sweep();
    }
}

#[cfg(test)]
mod tests;

//! The commands of connected devices: who subscribes for which device, what is in flight, and what waits. One
//! command at a time is with a device, so that its PUBACK can be told from that of another command. Pure.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use acuvim_wire::{Micros, command::Command};

use crate::downlink::CommandRef;

/// Commands that may wait for the one in flight, for each device.
const MAX_WAITING: usize = 64;

/// The queues of all devices.
#[derive(Default)]
pub(super) struct Queues {
    devices: HashMap<String, Queue>,
    clients: HashMap<Arc<str>, Client>,
}

#[derive(Default)]
struct Client {
    /// The devices whose command is in flight to it, in the order of publishing. Usually only the device of
    /// the client's own name.
    in_flight: VecDeque<String>,
    /// PUBACKs still to come for commands that are not waited for any more.
    late_pubacks: usize,
}

#[derive(Default)]
struct Queue {
    /// The clients that subscribe to the device's commands.
    subscribers: BTreeSet<Arc<str>>,
    /// Whether a command is in flight, or about to be published: the next one has to wait.
    busy: bool,
    in_flight: Option<InFlight>,
    waiting: VecDeque<Command>,
}

struct InFlight {
    client: Arc<str>,
    command: CommandRef,
    since: Micros,
}

/// What to do with a new command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Publish it; the queue is busy from now on.
    Publish(Command),
    /// It waits for the one in flight.
    Queued,
    /// The device has no subscriber here, or too many commands wait already.
    NoSubscriber(Command),
}

impl Queues {
    pub fn subscribed(&mut self, client: &Arc<str>, device: &str) {
        self.devices.entry(device.to_owned()).or_default().subscribers.insert(Arc::clone(client));
    }

    pub fn unsubscribed(&mut self, client: &str, device: &str) {
        if let Some(queue) = self.devices.get_mut(device) {
            queue.subscribers.remove(client);
        }
    }

    /// The subscribers of a device. Some may be offline: subscriptions outlive connections.
    pub fn subscribers(&self, device: &str) -> Vec<Arc<str>> {
        let queue = self.devices.get(device);
        queue.map(|queue| queue.subscribers.iter().cloned().collect()).unwrap_or_default()
    }

    /// Every subscription, as device and client.
    pub fn subscriptions(&self) -> Vec<(String, Arc<str>)> {
        let of = |(device, queue): (&String, &Queue)| {
            let clients = queue.subscribers.iter().cloned();
            clients.map(|client| (device.clone(), client)).collect::<Vec<_>>()
        };
        self.devices.iter().flat_map(of).collect()
    }

    pub fn push(&mut self, command: Command) -> Next {
        match self.devices.get_mut(&command.device_id) {
            Some(queue) if queue.busy && queue.waiting.len() < MAX_WAITING => {
                queue.waiting.push_back(command);
                Next::Queued
            }
            Some(queue) if !queue.busy => {
                queue.busy = true;
                Next::Publish(command)
            }
            _ => Next::NoSubscriber(command),
        }
    }

    /// A command is on its way to a client.
    pub fn published(&mut self, client: &Arc<str>, command: CommandRef, now: Micros) {
        let known = self.clients.entry(Arc::clone(client)).or_default();
        known.in_flight.push_back(command.device_id.clone());
        if let Some(queue) = self.devices.get_mut(&command.device_id) {
            let client = Arc::clone(client);
            queue.in_flight = Some(InFlight { client, command, since: now });
        }
    }

    /// The command that was to be published could not be. Returns the next one to publish.
    pub fn next(&mut self, device: &str) -> Option<Command> {
        let queue = self.devices.get_mut(device)?;
        let next = queue.waiting.pop_front();
        // Stays busy without a moment in between, in which another command could overtake.
        queue.busy = next.is_some();
        next
    }

    /// A client has sent a PUBACK. Returns the command that it is for, and the next one to publish. A device
    /// acknowledges in order, so the first PUBACKs are those of commands that were given up.
    pub fn acknowledged(&mut self, client: &str) -> Option<(CommandRef, Option<Command>)> {
        let known = self.clients.get_mut(client)?;
        // They are of older packets, and come before that of the packet in flight.
        if known.late_pubacks > 0 {
            known.late_pubacks -= 1;
            return None;
        }
        let device = known.in_flight.front().cloned()?;
        let (in_flight, next) = self.release(&device)?;
        Some((in_flight.command, next))
    }

    /// A client has disconnected. Returns the commands that waited behind its commands in flight; those in
    /// flight may have arrived.
    pub fn disconnected(&mut self, client: &str) -> Vec<Command> {
        let mut waiting = Vec::new();
        for device in self.clients.remove(client).unwrap_or_default().in_flight {
            let released = self.release(&device);
            waiting.extend(released.and_then(|(_, next)| next));
            if let Some(queue) = self.devices.get_mut(&device) {
                queue.busy = false;
                waiting.extend(queue.waiting.drain(..));
            }
        }
        waiting
    }

    /// Stops waiting for PUBACKs of commands published before `since`. Returns the commands to publish next.
    pub fn give_up(&mut self, since: Micros) -> Vec<Command> {
        let is_late = |queue: &Queue| queue.in_flight.as_ref().is_some_and(|f| f.since < since);
        let late: Vec<String> = self
            .clients
            .values()
            .flat_map(|client| &client.in_flight)
            .filter(|device| self.devices.get(*device).is_some_and(is_late))
            .cloned()
            .collect();
        late.iter()
            .filter_map(|device| {
                let (in_flight, next) = self.release(device)?;
                if let Some(client) = self.clients.get_mut(&in_flight.client) {
                    client.late_pubacks += 1;
                }
                next
            })
            .collect()
    }

    /// Takes out all commands that wait.
    pub fn drain(&mut self) -> Vec<Command> {
        self.devices.values_mut().flat_map(|queue| queue.waiting.drain(..)).collect()
    }

    /// Frees the memory of devices and clients without subscriptions and commands.
    pub fn sweep(&mut self) {
        self.devices.retain(|_, queue| queue.busy || !queue.subscribers.is_empty());
        self.clients.retain(|_, client| client.late_pubacks > 0 || !client.in_flight.is_empty());
    }

    /// Ends the wait for the command in flight. Returns it with the next one, for which the queue stays busy.
    fn release(&mut self, device: &str) -> Option<(InFlight, Option<Command>)> {
        let queue = self.devices.get_mut(device)?;
        let in_flight = queue.in_flight.take()?;
        if let Some(client) = self.clients.get_mut(&in_flight.client) {
            client.in_flight.retain(|d| d != device);
        }
        Some((in_flight, self.next(device)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use bytes::Bytes;
    use uuid::Uuid;

    fn command(device: &str, seq: i64) -> Command {
        Command {
            request_id: Uuid::from_u128(u128::try_from(seq).expect("positive")),
            device_id: device.to_owned(),
            payload: Bytes::new(),
            expires_at: 0,
            attempt: 1,
            outbox_seq: seq,
        }
    }

    /// Publishes a command to the client of the device's own name.
    fn publish(queues: &mut Queues, device: &str, seq: i64, at: Micros) {
        let command = command(device, seq);
        assert_eq!(queues.push(command.clone()), Next::Publish(command.clone()));
        queues.published(&device.into(), CommandRef::from(&command), at);
    }

    fn seqs(commands: &[Command]) -> Vec<i64> {
        commands.iter().map(|command| command.outbox_seq).collect()
    }

    #[test]
    fn without_a_subscriber_a_command_reaches_nobody() {
        let mut queues = Queues::default();
        let one = command("d1", 1);
        assert_eq!(queues.push(one.clone()), Next::NoSubscriber(one.clone()));
        queues.subscribed(&"d1".into(), "d1");
        assert_eq!(queues.push(one.clone()), Next::Publish(one));
    }

    #[test]
    fn one_command_is_in_flight_and_the_next_goes_out_with_its_puback() {
        let mut queues = Queues::default();
        queues.subscribed(&"d1".into(), "d1");
        publish(&mut queues, "d1", 1, 0);
        assert_eq!(queues.push(command("d1", 2)), Next::Queued);
        let (done, next) = queues.acknowledged("d1").expect("a command");
        assert_eq!((done, next), (CommandRef::from(&command("d1", 1)), Some(command("d1", 2))));
        queues.published(&"d1".into(), CommandRef::from(&command("d1", 2)), 0);
        let (done, next) = queues.acknowledged("d1").expect("a command");
        assert_eq!((done.request_id, next), (command("d1", 2).request_id, None));
        assert!(queues.acknowledged("d1").is_none(), "a PUBACK of nothing");
        publish(&mut queues, "d1", 3, 0);
    }

    #[test]
    fn a_device_that_never_acknowledges_takes_a_bounded_queue() {
        let mut queues = Queues::default();
        queues.subscribed(&"d1".into(), "d1");
        publish(&mut queues, "d1", 1, 0);
        for seq in 0..64 {
            assert_eq!(queues.push(command("d1", 2 + seq)), Next::Queued);
        }
        assert!(matches!(queues.push(command("d1", 99)), Next::NoSubscriber(_)));
    }

    /// The late PUBACK of a command that was given up must not count for the one after it.
    #[test]
    fn a_late_puback_is_not_taken_for_that_of_the_next_command() {
        let mut queues = Queues::default();
        queues.subscribed(&"d1".into(), "d1");
        publish(&mut queues, "d1", 1, 100);
        assert_eq!(queues.push(command("d1", 2)), Next::Queued);
        assert!(queues.give_up(100).is_empty(), "not late yet");
        let next = queues.give_up(101);
        assert_eq!(seqs(&next), [2]);
        queues.published(&"d1".into(), CommandRef::from(&next[0]), 200);
        assert!(queues.acknowledged("d1").is_none(), "the late one");
        let (done, _) = queues.acknowledged("d1").expect("the second command");
        assert_eq!(done.request_id, command("d1", 2).request_id);
    }

    #[test]
    fn commands_behind_a_disconnected_client_come_back_and_the_queue_is_free() {
        let mut queues = Queues::default();
        queues.subscribed(&"d1".into(), "d1");
        publish(&mut queues, "d1", 1, 0);
        for seq in [2, 3] {
            assert_eq!(queues.push(command("d1", seq)), Next::Queued);
        }
        assert_eq!(seqs(&queues.disconnected("d1")), [2, 3]);
        assert!(queues.disconnected("d1").is_empty());
        publish(&mut queues, "d1", 4, 0);
    }

    #[test]
    fn one_client_may_subscribe_for_several_devices() {
        let mut queues = Queues::default();
        let gateway: Arc<str> = "gateway".into();
        for device in ["d1", "d2"] {
            queues.subscribed(&gateway, device);
            let command = command(device, 1);
            assert!(matches!(queues.push(command.clone()), Next::Publish(_)));
            queues.published(&gateway, CommandRef::from(&command), 0);
        }
        let order: Vec<String> = (0..2)
            .filter_map(|_| queues.acknowledged("gateway"))
            .map(|(command, _)| command.device_id)
            .collect();
        assert_eq!(order, ["d1", "d2"], "PUBACKs come in the order of publishing");
    }

    /// What can happen to the queues, in any order.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Subscribe(usize),
        Unsubscribe(usize),
        Push(usize),
        Puback(usize),
        Disconnect(usize),
        GiveUp,
        Sweep,
    }

    fn step() -> impl Strategy<Value = Step> {
        let device = || 0_usize..3;
        prop_oneof![
            2 => device().prop_map(Step::Subscribe),
            1 => device().prop_map(Step::Unsubscribe),
            6 => device().prop_map(Step::Push),
            4 => device().prop_map(Step::Puback),
            1 => device().prop_map(Step::Disconnect),
            1 => Just(Step::GiveUp),
            1 => Just(Step::Sweep),
        ]
    }

    /// The broker around the queues: publishes at once what it is given, and notes the order.
    #[derive(Default)]
    struct Played {
        queues: Queues,
        pushed: i64,
        published: HashMap<String, Vec<i64>>,
        returned: Vec<i64>,
    }

    impl Played {
        fn publish(&mut self, command: &Command) {
            let client: Arc<str> = command.device_id.as_str().into();
            let at = self.pushed;
            self.queues.published(&client, CommandRef::from(command), at);
            self.published.entry(command.device_id.clone()).or_default().push(command.outbox_seq);
        }

        fn play(&mut self, step: Step) {
            let name = |n: usize| format!("d{n}");
            match step {
                Step::Subscribe(n) => self.queues.subscribed(&name(n).as_str().into(), &name(n)),
                Step::Unsubscribe(n) => self.queues.unsubscribed(&name(n), &name(n)),
                Step::Push(n) => {
                    self.pushed += 1;
                    match self.queues.push(command(&name(n), self.pushed)) {
                        Next::Publish(command) => self.publish(&command),
                        Next::Queued => {}
                        Next::NoSubscriber(command) => self.returned.push(command.outbox_seq),
                    }
                }
                Step::Puback(n) => {
                    if let Some((_, Some(next))) = self.queues.acknowledged(&name(n)) {
                        self.publish(&next);
                    }
                }
                Step::Disconnect(n) => {
                    self.returned.extend(seqs(&self.queues.disconnected(&name(n))));
                }
                Step::GiveUp => {
                    for next in self.queues.give_up(i64::MAX) {
                        self.publish(&next);
                    }
                }
                Step::Sweep => self.queues.sweep(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever happens: a command is published, returned or still waiting, once; a device gets its
        /// commands in order; and no more than one is in flight to it.
        #[test]
        fn no_command_is_lost_repeated_or_overtaken(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut played = Played::default();
            for step in steps {
                played.play(step);
                for client in played.queues.clients.values() {
                    let devices: BTreeSet<&String> = client.in_flight.iter().collect();
                    prop_assert_eq!(devices.len(), client.in_flight.len(), "one for each device");
                }
                let in_flight = |queue: &Queue| queue.in_flight.is_none() || queue.busy;
                prop_assert!(played.queues.devices.values().all(in_flight));
            }
            for published in played.published.values() {
                prop_assert!(published.is_sorted(), "{published:?}");
            }
            let mut all = seqs(&played.queues.drain());
            all.extend(played.returned.iter().chain(played.published.values().flatten()));
            all.sort_unstable();
            prop_assert_eq!(all, (1..=played.pushed).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sweep_keeps_what_is_in_use() {
        let mut queues = Queues::default();
        queues.subscribed(&"d1".into(), "d1");
        queues.subscribed(&"d2".into(), "d2");
        publish(&mut queues, "d1", 1, 0);
        for device in ["d1", "d2"] {
            queues.unsubscribed(device, device);
        }
        queues.sweep();
        assert_eq!((queues.devices.len(), queues.clients.len()), (1, 1));
        assert!(queues.acknowledged("d1").is_some());
        queues.sweep();
        assert_eq!((queues.devices.len(), queues.clients.len()), (0, 0));
    }

    #[test]
    fn what_waits_is_drained_at_the_end() {
        let mut queues = Queues::default();
        for device in ["d1", "d2"] {
            queues.subscribed(&device.into(), device);
            publish(&mut queues, device, 1, 0);
            assert_eq!(queues.push(command(device, 2)), Next::Queued);
        }
        assert_eq!(seqs(&queues.drain()), [2, 2]);
        assert!(queues.drain().is_empty());
        assert_eq!(queues.subscriptions().len(), 2);
    }
}

//! The queue of one client, which is bounded whatever the client does. Pure.
//!
//! Events of the log wait in order, and a client with too many of them is closed: it can read them from the
//! log when it comes again. Of readings only the newest of each device waits, and beyond a number of
//! devices they are dropped and counted.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::event::{EventKind, LiveEvent, Missed, Reading};

/// A set of devices; none: all.
pub(crate) type Visible = Option<Arc<HashSet<Arc<str>>>>;

/// The events and readings that a subscription selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    pub devices: HashSet<Arc<str>>,
    /// The devices of these groups.
    pub groups: HashSet<Uuid>,
    /// Everything that the caller may see, also events that are about no device.
    pub whole: bool,
    /// Only these kinds of events.
    pub kinds: Option<HashSet<EventKind>>,
    /// Only these members of a reading's `data`.
    pub fields: Option<Arc<[&'static str]>>,
    /// The least time between two readings of a device.
    pub interval: Duration,
}

/// A subscription, with the readings that wait until its interval has passed.
#[derive(Debug)]
struct Subscription {
    number: u64,
    filter: EventFilter,
    /// The devices that it covers; none: all.
    covers: Visible,
    waiting: Waiting,
    /// Readings whose time has come and that the client has not taken yet.
    ready: Waiting,
    /// When readings last became ready.
    taken: Option<Instant>,
}

/// The newest reading of each device and kind.
type Waiting = HashMap<(Arc<str>, EventKind), Arc<Reading>>;

impl Subscription {
    fn wants(&self, kind: EventKind, device: Option<&str>, sees_all: bool) -> bool {
        if self.filter.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
            return false;
        }
        match (device, &self.covers) {
            (None, _) => self.filter.whole && sees_all,
            (Some(_), None) => true,
            (Some(device), Some(covered)) => covered.contains(device),
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        let since = self.taken.map_or(now, |taken| taken + self.filter.interval);
        (!self.waiting.is_empty()).then_some(since)
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }
}

/// One thing to write to a client.
#[derive(Debug)]
pub(crate) enum Out {
    /// An event of the log.
    Event(Arc<LiveEvent>),
    /// A reading or a heartbeat; of a reading only these members.
    Reading(Arc<Reading>, Option<Arc<[&'static str]>>),
    /// A notice that something is missing.
    Missed(Missed),
}

/// How much waits at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Events of the log.
    pub events: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// Readings and heartbeats, one of each device.
    pub readings: usize,
    /// Subscriptions of the client.
    pub subscriptions: usize,
    /// Devices and groups in them.
    pub devices: usize,
}

/// The client is too slow even for the events of the log, none of which may be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// The queue of one client.
#[derive(Debug)]
pub(crate) struct Outbound {
    limits: QueueLimits,
    events: VecDeque<Arc<LiveEvent>>,
    /// Bytes of the events.
    bytes: usize,
    /// Why events are missing, until the client is told.
    gap: Option<String>,
    subscriptions: Vec<Subscription>,
    /// Whether the only subscription is that of a client that never subscribed.
    is_default: bool,
    numbered: u64,
    sees_all: bool,
    dropped: u64,
    merged: u64,
}

impl Outbound {
    /// A queue with one subscription, which holds until the client makes its first one.
    pub fn new(limits: QueueLimits, visible: Visible, default: EventFilter) -> Self {
        let mut outbound = Self {
            limits,
            events: VecDeque::new(),
            bytes: 0,
            gap: None,
            subscriptions: Vec::new(),
            is_default: true,
            numbered: 0,
            sees_all: visible.is_none(),
            dropped: 0,
            merged: 0,
        };
        outbound.add(default, visible);
        outbound
    }

    /// Whether the client has not subscribed to anything yet.
    pub const fn is_default(&self) -> bool {
        self.is_default
    }

    /// The filter of every subscription by its number. What they cover has to be looked up again when
    /// groups and scopes change.
    pub fn filters(&self) -> impl Iterator<Item = (u64, &EventFilter)> {
        self.subscriptions.iter().map(|s| (s.number, &s.filter))
    }

    /// Checks whether there is room for a subscription; an error says why there is none.
    pub fn check_room(&self, filter: &EventFilter) -> Result<(), String> {
        // The first subscription takes the place of the default.
        let held = if self.is_default { &[][..] } else { self.subscriptions.as_slice() };
        if held.len() >= self.limits.subscriptions {
            let most = self.limits.subscriptions;
            return Err(format!("a connection has up to {most} subscriptions: end some first"));
        }
        let size = |filter: &EventFilter| filter.devices.len() + filter.groups.len();
        let all: usize = held.iter().map(|s| size(&s.filter)).sum();
        if all + size(filter) > self.limits.devices {
            let most = self.limits.devices;
            let text = "devices and groups: subscribe to groups, or to everything";
            return Err(format!("a connection subscribes to up to {most} {text}"));
        }
        Ok(())
    }

    /// Adds a subscription and answers with its number, or with why it can't be added. The first one
    /// replaces the default, also for what waits already.
    pub fn subscribe(&mut self, filter: EventFilter, covers: Visible) -> Result<u64, String> {
        // Before anything changes: a client whose first subscription is refused keeps the default, and can
        // still make its first one.
        self.check_room(&filter)?;
        if std::mem::take(&mut self.is_default) {
            self.subscriptions.clear();
        }
        let number = self.add(filter, covers);
        self.sift();
        Ok(number)
    }

    fn add(&mut self, filter: EventFilter, covers: Visible) -> u64 {
        let (waiting, ready) = (HashMap::new(), HashMap::new());
        // The default has the number 0.
        let number = self.numbered;
        self.numbered += 1;
        self.subscriptions.push(Subscription {
            number,
            filter,
            covers,
            waiting,
            ready,
            taken: None,
        });
        number
    }

    /// Ends all subscriptions, or removes devices and groups from them. Answers with how many
    /// subscriptions are left.
    pub fn unsubscribe(&mut self, devices: &[String], groups: &[Uuid], all: bool) -> usize {
        // Devices and groups can't be removed from the default, which names none: it holds on until the
        // client subscribes or ends everything.
        self.is_default &= !all;
        for subscription in &mut self.subscriptions {
            devices.iter().for_each(|id| {
                subscription.filter.devices.remove(id.as_str());
            });
            groups.iter().for_each(|id| {
                subscription.filter.groups.remove(id);
            });
        }
        self.subscriptions.retain(|s| {
            !all && (s.filter.whole || !s.filter.devices.is_empty() || !s.filter.groups.is_empty())
        });
        self.subscriptions.len()
    }

    /// Sets which devices each subscription covers now, and whether the caller sees everything. What
    /// waits and is no longer covered is dropped.
    pub fn cover(&mut self, covers: &HashMap<u64, Visible>, sees_all: bool) {
        self.sees_all = sees_all;
        for subscription in &mut self.subscriptions {
            if let Some(covers) = covers.get(&subscription.number) {
                subscription.covers.clone_from(covers);
            }
        }
        self.sift();
    }

    /// Drops everything: the client gets nothing any more.
    pub fn clear(&mut self) {
        self.unsubscribe(&[], &[], true);
        self.keep_events(|_| false);
        self.events.shrink_to_fit();
        self.gap = None;
    }

    /// Whether events of the log wait.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Drops all waiting events but these.
    pub fn keep_events(&mut self, which: impl Fn(&LiveEvent) -> bool) {
        self.events.retain(|event| which(event));
        self.bytes = self.events.iter().map(|event| event.size()).sum();
    }

    /// Tells the client that events are missing, and why.
    pub fn missed(&mut self, reason: &str) {
        self.gap = Some(reason.to_owned());
    }

    /// Drops what waits and is not covered any more.
    fn sift(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.retain(|event| self.wants(event.kind, event.device.as_deref()));
        self.events = events;
        self.keep_events(|_| true);
        let sees_all = self.sees_all;
        for subscription in &mut self.subscriptions {
            let mut waiting = std::mem::take(&mut subscription.waiting);
            let mut ready = std::mem::take(&mut subscription.ready);
            waiting.retain(|(device, kind), _| subscription.wants(*kind, Some(device), sees_all));
            ready.retain(|(device, kind), _| subscription.wants(*kind, Some(device), sees_all));
            (subscription.waiting, subscription.ready) = (waiting, ready);
        }
    }

    /// Whether any subscription covers it.
    pub fn wants(&self, kind: EventKind, device: Option<&str>) -> bool {
        self.subscriptions.iter().any(|s| s.wants(kind, device, self.sees_all))
    }

    /// Takes an event of the log; true if it waits now.
    pub fn offer(&mut self, event: &Arc<LiveEvent>) -> Result<bool, TooSlow> {
        if !self.wants(event.kind, event.device.as_deref()) {
            return Ok(false);
        }
        let bytes = self.bytes + event.size();
        // The event is not lost: it is in the log, from which the client's next connection goes on.
        if self.events.len() >= self.limits.events || bytes > self.limits.bytes {
            return Err(TooSlow);
        }
        self.bytes = bytes;
        self.events.push_back(Arc::clone(event));
        Ok(true)
    }

    /// Takes the newest reading of a device; true if it waits now. Of several subscriptions that cover the
    /// device, the latest one decides its members and interval.
    pub fn offer_reading(&mut self, reading: &Arc<Reading>, now: Instant) -> bool {
        let sees_all = self.sees_all;
        let all: usize = self.subscriptions.iter().map(Subscription::len).sum();
        let wants =
            |s: &&mut Subscription| s.wants(reading.kind, Some(reading.device.as_ref()), sees_all);
        let Some(subscription) = self.subscriptions.iter_mut().rev().find(wants) else {
            return false;
        };
        // A client that asked for fewer readings loses none by getting the newest of an interval.
        let overdue = subscription.taken.is_none_or(|t| now >= t + subscription.filter.interval);
        let key = (Arc::clone(&reading.device), reading.kind);
        if let Some(ready) = subscription.ready.get_mut(&key) {
            *ready = Arc::clone(reading);
            self.merged += 1;
            return true;
        }
        if let Some(waiting) = subscription.waiting.get_mut(&key) {
            *waiting = Arc::clone(reading);
            self.merged += u64::from(overdue);
            return true;
        }
        if all >= self.limits.readings {
            self.dropped += 1;
            return false;
        }
        subscription.waiting.insert(key, Arc::clone(reading));
        true
    }

    /// When the next reading is due; the events of the log are due at once.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.events.is_empty() || self.gap.is_some() {
            return Some(now);
        }
        self.subscriptions.iter().filter_map(|s| s.due(now)).min()
    }

    /// The next things to write, a few at a time: what is on its way to a slow client can't be replaced
    /// by newer readings any more.
    pub fn take(&mut self, now: Instant, most: usize) -> Vec<Out> {
        let count = self.events.len().min(most);
        let mut out: Vec<Out> = self.events.drain(..count).map(Out::Event).collect();
        for event in &out {
            if let Out::Event(event) = event {
                self.bytes = self.bytes.saturating_sub(event.size());
            }
        }
        // Merged readings alone are no loss: of each device the client gets the newest.
        if self.dropped > 0 || self.gap.is_some() {
            let (dropped, merged) =
                (std::mem::take(&mut self.dropped), std::mem::take(&mut self.merged));
            out.push(Out::Missed(Missed { dropped, merged, gap: self.gap.take() }));
        }
        for subscription in &mut self.subscriptions {
            if subscription.ready.is_empty() && subscription.due(now).is_some_and(|due| due <= now)
            {
                subscription.ready = std::mem::take(&mut subscription.waiting);
                subscription.taken = Some(now);
            }
            let room = most.saturating_sub(out.len());
            let some: Vec<_> = subscription.ready.keys().take(room).cloned().collect();
            let some = some.iter().filter_map(|key| subscription.ready.remove(key));
            let fields = &subscription.filter.fields;
            out.extend(some.map(|reading| Out::Reading(reading, fields.clone())));
            if subscription.ready.is_empty() {
                // A burst of ten thousand devices must not hold its memory for as long as the client stays.
                subscription.ready.shrink_to(64);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;

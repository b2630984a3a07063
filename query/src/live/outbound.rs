//! What one client has yet to get, and what of it: bounded, whatever the client does. Pure.
//!
//! Events of the log wait in order; a client that leaves too many of them waiting is closed. Of
//! readings only the newest of each device waits, and beyond a number of devices they are dropped and
//! counted.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::event::{EventKind, LiveEvent, Missed, Reading};

/// The devices that somebody may see; none: all.
pub(crate) type Visible = Option<Arc<HashSet<Arc<str>>>>;

/// What one subscription asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// These devices.
    pub devices: HashSet<Arc<str>>,
    /// The devices of these groups.
    pub groups: HashSet<Uuid>,
    /// Everything that the caller may see, also what is of no device.
    pub whole: bool,
    /// These events alone.
    pub kinds: Option<HashSet<EventKind>>,
    /// These readings alone.
    pub fields: Option<Arc<[&'static str]>>,
    /// The least time between two readings of a device.
    pub interval: Duration,
}

/// A subscription, with the readings that wait for their time.
#[derive(Debug)]
struct Subscription {
    number: u64,
    asked: Asked,
    /// The devices that it covers; none: all.
    covers: Visible,
    waiting: Waiting,
    /// Those whose time has come, as far as they are not taken yet.
    ready: Waiting,
    /// When that last was.
    taken: Option<Instant>,
}

/// The newest of each device.
type Waiting = HashMap<(Arc<str>, EventKind), Arc<Reading>>;

impl Subscription {
    fn wants(&self, kind: EventKind, device: Option<&str>, sees_all: bool) -> bool {
        if self.asked.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
            return false;
        }
        match (device, &self.covers) {
            (None, _) => self.asked.whole && sees_all,
            (Some(_), None) => true,
            (Some(device), Some(covered)) => covered.contains(device),
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        let since = self.taken.map_or(now, |taken| taken + self.asked.interval);
        (!self.waiting.is_empty()).then_some(since)
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }
}

/// What a client gets next.
#[derive(Debug)]
pub(crate) enum Out {
    /// An event of the log.
    Event(Arc<LiveEvent>),
    /// A reading or a heartbeat, with these readings in it.
    Reading(Arc<Reading>, Option<Arc<[&'static str]>>),
    /// What it did not get.
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
    /// Subscriptions.
    pub subscriptions: usize,
    /// Devices and groups in them.
    pub devices: usize,
}

/// A client that can't take even what nobody may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbound {
    limits: QueueLimits,
    events: VecDeque<Arc<LiveEvent>>,
    /// Bytes of the events.
    bytes: usize,
    /// Why events can't be told, until the client is told so.
    gap: Option<String>,
    subscriptions: Vec<Subscription>,
    /// Whether it is still what a client gets that never subscribed.
    is_default: bool,
    numbered: u64,
    sees_all: bool,
    dropped: u64,
    merged: u64,
}

impl Outbound {
    /// Everything that the caller may see, until it subscribes to something.
    pub fn new(limits: QueueLimits, visible: Visible, asked: Asked) -> Self {
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
        outbound.add(asked, visible);
        outbound
    }

    /// Whether it has yet to subscribe to anything.
    pub const fn is_default(&self) -> bool {
        self.is_default
    }

    /// What it asks for, by the subscription's number: groups and scopes change under it.
    pub fn asked(&self) -> impl Iterator<Item = (u64, &Asked)> {
        self.subscriptions.iter().map(|s| (s.number, &s.asked))
    }

    /// Adds a subscription, or says why not; answers with its number. The first takes the place of
    /// the default, also for what waits already.
    pub fn subscribe(&mut self, asked: Asked, covers: Visible) -> Result<u64, String> {
        if std::mem::take(&mut self.is_default) {
            self.subscriptions.clear();
        }
        if self.subscriptions.len() >= self.limits.subscriptions {
            let most = self.limits.subscriptions;
            return Err(format!("a connection has up to {most} subscriptions: end some first"));
        }
        let size = |asked: &Asked| asked.devices.len() + asked.groups.len();
        let all: usize = self.subscriptions.iter().map(|s| size(&s.asked)).sum();
        if all + size(&asked) > self.limits.devices {
            let most = self.limits.devices;
            let text = "devices and groups: subscribe to groups, or to everything";
            return Err(format!("a connection subscribes to up to {most} {text}"));
        }
        let number = self.add(asked, covers);
        self.sift();
        Ok(number)
    }

    fn add(&mut self, asked: Asked, covers: Visible) -> u64 {
        let (waiting, ready) = (HashMap::new(), HashMap::new());
        // The default has the number 0.
        let number = self.numbered;
        self.numbered += 1;
        self.subscriptions.push(Subscription {
            number,
            asked,
            covers,
            waiting,
            ready,
            taken: None,
        });
        number
    }

    /// Ends all subscriptions, or takes devices and groups out of them; answers with how many are
    /// left.
    pub fn unsubscribe(&mut self, devices: &[String], groups: &[Uuid], all: bool) -> usize {
        self.is_default = false;
        for subscription in &mut self.subscriptions {
            devices.iter().for_each(|id| {
                subscription.asked.devices.remove(id.as_str());
            });
            groups.iter().for_each(|id| {
                subscription.asked.groups.remove(id);
            });
        }
        self.subscriptions.retain(|s| {
            !all && (s.asked.whole || !s.asked.devices.is_empty() || !s.asked.groups.is_empty())
        });
        self.subscriptions.len()
    }

    /// Says anew what a subscription covers, and whether the caller sees everything; what it does not
    /// see any more does not reach it.
    pub fn cover(&mut self, covers: &HashMap<u64, Visible>, sees_all: bool) {
        self.sees_all = sees_all;
        for subscription in &mut self.subscriptions {
            if let Some(covers) = covers.get(&subscription.number) {
                subscription.covers.clone_from(covers);
            }
        }
        self.sift();
    }

    /// Lets go of everything: the client is not told anything any more.
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

    /// Lets go of the events that wait but for these.
    pub fn keep_events(&mut self, which: impl Fn(&LiveEvent) -> bool) {
        self.events.retain(|event| which(event));
        self.bytes = self.events.iter().map(|event| event.size()).sum();
    }

    /// Events can't be told, for a reason that the client is told.
    pub fn missed(&mut self, reason: &str) {
        self.gap = Some(reason.to_owned());
    }

    /// Lets go of what waits and is not wanted any more.
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
        if self.events.len() >= self.limits.events || bytes > self.limits.bytes {
            return Err(TooSlow);
        }
        self.bytes = bytes;
        self.events.push_back(Arc::clone(event));
        Ok(true)
    }

    /// Takes the newest of a device; true if it waits now. The subscription that was made last says
    /// how it is told.
    pub fn offer_reading(&mut self, reading: &Arc<Reading>, now: Instant) -> bool {
        let sees_all = self.sees_all;
        let all: usize = self.subscriptions.iter().map(Subscription::len).sum();
        let wants =
            |s: &&mut Subscription| s.wants(reading.kind, Some(reading.device.as_ref()), sees_all);
        let Some(subscription) = self.subscriptions.iter_mut().rev().find(wants) else {
            return false;
        };
        let overdue = subscription.taken.is_none_or(|t| now >= t + subscription.asked.interval);
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

    /// What the client gets next: a few at a time, so that little is on its way to one that is slow.
    pub fn take(&mut self, now: Instant, most: usize) -> Vec<Out> {
        let count = self.events.len().min(most);
        let mut out: Vec<Out> = self.events.drain(..count).map(Out::Event).collect();
        for event in &out {
            if let Out::Event(event) = event {
                self.bytes = self.bytes.saturating_sub(event.size());
            }
        }
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
            let fields = &subscription.asked.fields;
            out.extend(some.map(|reading| Out::Reading(reading, fields.clone())));
            if subscription.ready.is_empty() {
                subscription.ready.shrink_to(64);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;

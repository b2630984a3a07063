//! The state of the stream: for `/readyz`, for queries that need the tail, and for the composition
//! root, which ends the process when the stream can't go on.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use crate::fatal::Fatal;

/// The state of the stream. Each `..._trouble` is the reason why a component can't be used at
/// present.
#[derive(Debug, Clone, Default)]
pub struct ProcessorState {
    /// Partitions that have not yet reached the log's end as it was when they started.
    pub catching_up: BTreeSet<u32>,
    /// Whether reading from the log waits for room in the tail.
    pub tail_full: bool,
    /// Why flushes fail.
    pub lake_trouble: Option<String>,
    /// Why no share of the partitions can be claimed.
    pub claim_trouble: Option<String>,
    /// Why the commits of other processes can't be read.
    pub follow_trouble: Option<String>,
    /// Why stored times can't be read. A partition waits for them, because without them it can't
    /// tell late readings from duplicates.
    pub dedup_trouble: Option<String>,
    /// Why control can't be written.
    pub control_trouble: Option<String>,
    /// Why commands and events can't be delivered to the log.
    pub outbox_trouble: Option<String>,
    /// Partitions whose rows another process has committed, until they are started again.
    pub overtaken: BTreeSet<u32>,
    /// Why the log can't be read.
    pub log_trouble: Option<String>,
    /// Why the stream has stopped for good.
    pub fatal: Option<Arc<Fatal>>,
}

impl ProcessorState {
    /// Why a query that includes the tail can't be answered now; `None` if it can.
    #[must_use]
    pub fn not_hot(&self) -> Option<String> {
        if let Some(fatal) = &self.fatal {
            Some(format!("the stream has stopped: {fatal}"))
        } else if !self.catching_up.is_empty() {
            Some(format!("the tail is catching up on {} partitions", self.catching_up.len()))
        } else if let Some(reason) = &self.dedup_trouble {
            Some(format!("late readings wait for the lake: {reason}"))
        } else if self.tail_full {
            Some("the tail is full and waits for the lake".to_owned())
        } else {
            None
        }
    }
}

/// A view of the state that can be waited on.
pub type StateWatch = watch::Receiver<ProcessorState>;

/// Changes the state, and wakes the watchers only if it really changed.
#[derive(Debug, Clone)]
pub(crate) struct StateSender(watch::Sender<ProcessorState>);

impl StateSender {
    pub(crate) fn new(partitions: impl IntoIterator<Item = u32>) -> Self {
        let catching_up = partitions.into_iter().collect();
        Self(watch::Sender::new(ProcessorState { catching_up, ..ProcessorState::default() }))
    }

    pub(crate) fn watch(&self) -> StateWatch {
        self.0.subscribe()
    }

    pub(crate) fn catching_up(&self, partition: u32) {
        self.0.send_if_modified(|s| s.catching_up.insert(partition));
    }

    pub(crate) fn caught_up(&self, partition: u32) {
        self.0.send_if_modified(|s| s.catching_up.remove(&partition));
    }

    /// The components that can't be used at present, each with the reason.
    pub(crate) fn troubles(&self) -> Vec<(&'static str, String)> {
        let state = self.0.borrow();
        let all = [
            // Control is left out: an alert about it could not be stored.
            ("lake", &state.lake_trouble),
            ("log", &state.log_trouble),
            ("outbox", &state.outbox_trouble),
            ("stored times", &state.dedup_trouble),
        ];
        all.into_iter().filter_map(|(name, reason)| Some((name, reason.clone()?))).collect()
    }

    /// Clears what a partition task may have reported last before it ended.
    pub(crate) fn clear_partition_troubles(&self) {
        self.tail_full(false);
        self.log(None);
        self.control(None);
        self.dedup(None);
    }

    /// Whether the stream has stopped for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.borrow().fatal.is_some()
    }

    /// Another process has committed rows of a partition: its task has to start again. False if
    /// that ends the stream.
    pub(crate) fn begin_anew(&self, partition: u32, shared: bool) -> bool {
        if shared {
            self.0.send_modify(|s| {
                s.overtaken.insert(partition);
            });
        }
        self.overtaken(partition, shared)
    }

    /// Takes the partitions that have to start again.
    pub(crate) fn take_overtaken(&self) -> BTreeSet<u32> {
        let mut taken = BTreeSet::new();
        self.0.send_if_modified(|s| {
            taken = std::mem::take(&mut s.overtaken);
            !taken.is_empty()
        });
        taken
    }

    /// Another process has moved a partition on in control or lake. False if that ends the stream.
    pub(crate) fn overtaken(&self, partition: u32, shared: bool) -> bool {
        if shared {
            metrics::counter!("acuvim_overtaken_total").increment(1);
            tracing::info!(
                partition,
                "overtaken by another process; the partition starts again behind it"
            );
        } else {
            self.fatal(Fatal::Overtaken(partition));
        }
        shared
    }

    pub(crate) fn tail_full(&self, full: bool) {
        self.0.send_if_modified(|s| std::mem::replace(&mut s.tail_full, full) != full);
    }

    pub(crate) fn fatal(&self, fatal: Fatal) {
        tracing::error!(%fatal, "the stream stops");
        // The first reason is the cause; those after it mostly follow from it.
        self.0.send_modify(|s| s.fatal = s.fatal.take().or(Some(Arc::new(fatal))));
    }

    pub(crate) fn lake(&self, trouble: Option<String>) {
        self.change("lake", trouble, |s| &mut s.lake_trouble);
    }

    pub(crate) fn claim(&self, trouble: Option<String>) {
        self.change("log (its group)", trouble, |s| &mut s.claim_trouble);
    }

    pub(crate) fn follow(&self, trouble: Option<String>) {
        self.change("lake (other processes' commits)", trouble, |s| &mut s.follow_trouble);
    }

    pub(crate) fn dedup(&self, trouble: Option<String>) {
        self.change("lake (stored times)", trouble, |s| &mut s.dedup_trouble);
    }

    pub(crate) fn control(&self, trouble: Option<String>) {
        self.change("control", trouble, |s| &mut s.control_trouble);
    }

    pub(crate) fn outbox(&self, trouble: Option<String>) {
        self.change("outbox", trouble, |s| &mut s.outbox_trouble);
    }

    pub(crate) fn log(&self, trouble: Option<String>) {
        self.change("log", trouble, |s| &mut s.log_trouble);
    }

    /// Sets or clears a component's trouble; logs only the changes between the two.
    fn change(
        &self,
        component: &'static str,
        trouble: Option<String>,
        field: impl Fn(&mut ProcessorState) -> &mut Option<String>,
    ) {
        self.0.send_if_modified(|state| {
            let held = field(state);
            match (&held, &trouble) {
                (None, Some(reason)) => tracing::warn!(component, %reason, "away; trying again"),
                (Some(_), None) => tracing::info!(component, "back"),
                _ => {}
            }
            let changed = held.is_some() != trouble.is_some();
            // A new reason for the same outage wakes nobody, but whoever asks gets it.
            *held = trouble;
            changed
        });
    }
}

#[cfg(test)]
mod tests;

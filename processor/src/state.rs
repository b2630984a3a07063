//! How the stream is doing, for `/readyz`, for hot queries, and for whoever must stop with it.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use crate::Fatal;

/// How the stream is doing.
#[derive(Debug, Clone, Default)]
pub struct ProcessorState {
    /// Partitions that have not yet reached the log's end as it was at their start.
    pub catching_up: BTreeSet<u32>,
    /// Whether reading waits for room in the tail.
    pub tail_full: bool,
    /// Why flushes fail at present.
    pub lake_trouble: Option<String>,
    /// Why no share of the partitions can be had at present.
    pub claim_trouble: Option<String>,
    /// Why other processes' commits can't be seen at present.
    pub follow_trouble: Option<String>,
    /// Why late readings can't be told from duplicates at present: a partition waits for it.
    pub dedup_trouble: Option<String>,
    /// Why control can't be written at present.
    pub control_trouble: Option<String>,
    /// Why commands can't be delivered to the log at present.
    pub outbox_trouble: Option<String>,
    /// Partitions that another process has moved on in the lake, until they are begun anew.
    pub overtaken: BTreeSet<u32>,
    /// Why the log can't be read at present.
    pub log_trouble: Option<String>,
    /// Why it has stopped for good.
    pub fatal: Option<Arc<Fatal>>,
}

impl ProcessorState {
    /// Why a hot query can't be answered now; none if it can.
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

/// Watches the state.
pub type StateWatch = watch::Receiver<ProcessorState>;

/// Changes the state; wakes watchers only when it really changed.
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

    /// What is away at present, and why.
    pub(crate) fn troubles(&self) -> Vec<(&'static str, String)> {
        let state = self.0.borrow();
        let all = [
            ("lake", &state.lake_trouble),
            ("log", &state.log_trouble),
            ("outbox", &state.outbox_trouble),
            ("stored times", &state.dedup_trouble),
        ];
        all.into_iter().filter_map(|(name, reason)| Some((name, reason.clone()?))).collect()
    }

    /// Lets go of what a worker that ended may have said last.
    pub(crate) fn forget_troubles(&self) {
        self.tail_full(false);
        self.log(None);
        self.control(None);
        self.dedup(None);
    }

    /// Whether the stream has stopped for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.borrow().fatal.is_some()
    }

    /// Another process has moved a partition on in the lake: its worker is to begin anew; false if
    /// that ends the stream.
    pub(crate) fn begin_anew(&self, partition: u32, shared: bool) -> bool {
        if shared {
            self.0.send_modify(|s| {
                s.overtaken.insert(partition);
            });
        }
        self.overtaken(partition, shared)
    }

    /// The partitions that are to begin anew, each once.
    pub(crate) fn take_overtaken(&self) -> BTreeSet<u32> {
        let mut taken = BTreeSet::new();
        self.0.send_if_modified(|s| {
            taken = std::mem::take(&mut s.overtaken);
            !taken.is_empty()
        });
        taken
    }

    /// Another process has moved a partition on; false if that ends the stream.
    pub(crate) fn overtaken(&self, partition: u32, shared: bool) -> bool {
        if shared {
            metrics::counter!("acuvim_overtaken_total").increment(1);
            tracing::info!(partition, "overtaken by another process; goes on behind it");
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

    /// Notes a component's trouble or its end, and says each once.
    fn change(
        &self,
        component: &'static str,
        trouble: Option<String>,
        place: impl Fn(&mut ProcessorState) -> &mut Option<String>,
    ) {
        self.0.send_if_modified(|state| {
            let held = place(state);
            match (&held, &trouble) {
                (None, Some(reason)) => tracing::warn!(component, %reason, "away; trying again"),
                (Some(_), None) => tracing::info!(component, "back"),
                _ => {}
            }
            let changed = held.is_some() != trouble.is_some();
            if changed {
                *held = trouble;
            }
            changed
        });
    }
}

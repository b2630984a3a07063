//! A claim: the partitions that a process works on, where several processes share them.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// This process's share of the partitions. It changes as other processes join and leave, and is given up when
/// dropped.
pub struct Claim {
    owned: watch::Receiver<BTreeSet<u32>>,
    trouble: watch::Receiver<Option<String>>,
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("owned", &*self.owned.borrow()).finish_non_exhaustive()
    }
}

impl Claim {
    pub(crate) fn new(
        owned: watch::Receiver<BTreeSet<u32>>,
        trouble: watch::Receiver<Option<String>>,
        leave: Box<dyn FnOnce() + Send + Sync>,
    ) -> Self {
        Self { owned, trouble, leave: Some(leave) }
    }

    /// A fixed claim, for a log that no other process uses.
    #[must_use]
    pub fn of(partitions: impl IntoIterator<Item = u32>) -> Self {
        let (sender, owned) = watch::channel(partitions.into_iter().collect());
        let (no_trouble, trouble) = watch::channel(None);
        Self::new(owned, trouble, Box::new(move || drop((sender, no_trouble))))
    }

    /// Why no partitions could be claimed for a while, if so.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// The partitions that belong to this process now, and their changes.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<BTreeSet<u32>> {
        self.owned.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

#[cfg(test)]
mod tests;

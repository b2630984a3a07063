//! Which partitions a process works on, where several share them.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// A share of the partitions, which changes as others come and go; given up when dropped.
pub struct Claim {
    owned: watch::Receiver<BTreeSet<u32>>,
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
        leave: Box<dyn FnOnce() + Send + Sync>,
    ) -> Self {
        Self { owned, leave: Some(leave) }
    }

    /// A claim that nobody else shares.
    #[must_use]
    pub fn of(partitions: impl IntoIterator<Item = u32>) -> Self {
        let (sender, owned) = watch::channel(partitions.into_iter().collect());
        Self::new(owned, Box::new(move || drop(sender)))
    }

    /// The partitions that are this process's now; changes are seen as they come.
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

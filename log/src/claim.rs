//! Which partitions a process works on, where several share them.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// A share of the partitions, which changes as others come and go; given up when dropped.
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

    /// A claim that nobody else shares.
    #[must_use]
    pub fn of(partitions: impl IntoIterator<Item = u32>) -> Self {
        let (sender, owned) = watch::channel(partitions.into_iter().collect());
        let (calm, trouble) = watch::channel(None);
        Self::new(owned, trouble, Box::new(move || drop((sender, calm))))
    }

    /// Why no share can be had at present, and for a while already.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
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
